//! The OpenAPI document.

use utoipa::OpenApi;

use crate::error::ErrorBody;
use crate::models::About;
use crate::request::{EditRequest, InterpolateRequest, InvertRequest, SamplesRequest};

/// The document of all paths.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "kdm",
        description = "Students of diffusion models over HTTP: one-step samples by seed and class, \
                       interpolations, edits, inversions."
    ),
    paths(samples, interpolate, edit, invert, models, model, healthz, metrics),
    components(schemas(ErrorBody))
)]
struct Document;

/// Draw samples: by seeds, by count or from noise; in a class, in a mix of classes, on the way to
/// another sample, or moved along directions of the latent space.
#[utoipa::path(post, path = "/v1/samples", request_body = SamplesRequest, responses(
    (status = 200, description = "The samples, in the form that was asked for"),
    (status = 400, description = "A field can't be used", body = ErrorBody),
    (status = 401, description = "The token is missing", body = ErrorBody),
    (status = 404, description = "The model isn't served", body = ErrorBody),
    (status = 413, description = "More than one request may ask for", body = ErrorBody),
    (status = 429, description = "The queue is full: see Retry-After", body = ErrorBody),
    (status = 504, description = "Not done in time", body = ErrorBody),
))]
#[expect(dead_code, reason = "the document's text")]
fn samples() {}

/// Draw rows of samples from each seed to the next.
#[utoipa::path(post, path = "/v1/interpolate", request_body = InterpolateRequest, responses(
    (status = 200, description = "The samples, row by row"),
    (status = "4XX", description = "As for /v1/samples", body = ErrorBody),
))]
#[expect(dead_code, reason = "the document's text")]
fn interpolate() {}

/// Move samples along a mode, a principal direction, or from class to class: a row a seed.
#[utoipa::path(post, path = "/v1/edit", request_body = EditRequest, responses(
    (status = 200, description = "The samples, row by row"),
    (status = "4XX", description = "As for /v1/samples", body = ErrorBody),
))]
#[expect(dead_code, reason = "the document's text")]
fn edit() {}

/// Bring images back to noise, and tell how well they come back.
#[utoipa::path(post, path = "/v1/invert", request_body = InvertRequest, responses(
    (status = 200, description = "The noise and the errors, or the images as they come back"),
    (status = "4XX", description = "As for /v1/samples", body = ErrorBody),
))]
#[expect(dead_code, reason = "the document's text")]
fn invert() {}

/// The models that are served.
#[utoipa::path(get, path = "/v1/models", responses(
    (status = 200, description = "Name, shape and classes of each"),
))]
#[expect(dead_code, reason = "the document's text")]
fn models() {}

/// All about a model, the modes of its operator and its principal directions among it.
#[utoipa::path(get, path = "/v1/models/{name}",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "What it is", body = About),
        (status = 404, description = "It isn't served", body = ErrorBody),
    ))]
#[expect(dead_code, reason = "the document's text")]
fn model() {}

/// Whether the server takes requests.
#[utoipa::path(get, path = "/healthz", responses(
    (status = 200, description = "It does"),
    (status = 503, description = "It is stopping"),
))]
#[expect(dead_code, reason = "the document's text")]
fn healthz() {}

/// Counters for Prometheus.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "OpenMetrics' text format"),
))]
#[expect(dead_code, reason = "the document's text")]
fn metrics() {}
