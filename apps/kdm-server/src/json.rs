//! Answers of JSON.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer of JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(body).expect("plain data");
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}
