//! How a request fails: a status, the field that is at fault, and what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kdm::Failure;
use serde::Serialize;
use utoipa::ToSchema;

/// The body of every answer that is no success.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong, and what to do.
    pub message: String,
    /// The field of the request that is at fault, such as `moves[0].mode`; left out where there is
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is told.
    pub body: ErrorBody,
    /// Seconds after which it may go better.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error without a field.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let body = ErrorBody { message: message.into(), field: None };
        Self { status, body, retry_after: None }
    }

    /// A value that can't be used: 400.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).at(field)
    }

    /// More than one request may ask for: 413.
    pub fn too_large(field: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message).at(field)
    }

    /// Nobody waits any more: 504.
    pub fn timed_out(seconds: u64) -> Self {
        let problem = format!("not done within {seconds} s; ask for less at a time");
        Self::new(StatusCode::GATEWAY_TIMEOUT, problem)
    }

    fn at(mut self, field: &str) -> Self {
        self.body.field = Some(field.to_string());
        self
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let status = match failure.exit_code() {
            2 => StatusCode::BAD_REQUEST,
            130 => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, failure.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.body });
        let mut response = crate::json::json(self.status, &body);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
