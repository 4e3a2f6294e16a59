//! Routes: what each path answers.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json as object};
use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};

use crate::asked::{Request, place_of};
use crate::engine::{Job, Queue, Refused};
use crate::error::ApiError;
use crate::json::json;
use crate::metrics::{Labels, Metrics};
use crate::models::Model;
use crate::request::{
    EditRequest, InterpolateRequest, InvertRequest, Limits, SamplesRequest, parse,
};
use crate::{openapi, page};

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    /// The models.
    pub models: Arc<Vec<Model>>,
    /// The engine's queue.
    pub queue: Queue,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What one request may ask for.
    pub limits: Limits,
    /// Bytes of a request's body at most.
    pub most_bytes: usize,
    /// The longest that a request is worked on.
    pub timeout: Duration,
    /// The token that requests must bear, hashed; none for an open server.
    pub token: Option<[u8; 32]>,
    /// Whether the server is stopping.
    pub stopping: watch::Receiver<bool>,
    /// Whether each request is logged.
    pub log: bool,
}

type Answer = Result<Response, ApiError>;
type Here = State<Arc<Shared>>;

/// All routes.
pub fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/samples", post(compute::<SamplesRequest>))
        .route("/v1/interpolate", post(compute::<InterpolateRequest>))
        .route("/v1/edit", post(compute::<EditRequest>))
        .route("/v1/invert", post(compute::<InvertRequest>))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(shared.clone(), authorize));
    let open = Router::new()
        .route("/healthz", get(health))
        .route("/openapi.json", get(async || json(StatusCode::OK, &openapi::document())))
        .merge(page::routes());
    guarded
        .merge(open)
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "see /openapi.json for the paths"))
        .method_not_allowed_fallback(async || {
            let problem = "another method; see /openapi.json";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, problem)
        })
        .layer(middleware::from_fn_with_state(shared.clone(), watched))
        .with_state(shared)
}

/// A token as it is kept and compared: hashes tell nothing by how long a comparison takes.
pub fn hashed(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim().as_bytes()).into()
}

/// Lets requests pass that bear the token.
async fn authorize(State(shared): Here, request: HttpRequest, next: Next) -> Answer {
    let bears = |headers: &HeaderMap| {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = given.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| hashed(token))
    };
    if shared.token.is_none() || bears(request.headers()) == shared.token {
        return Ok(next.run(request).await);
    }
    let problem = "this server wants its token: send `Authorization: Bearer TOKEN`";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, problem))
}

/// Counts and logs a request, and adds what browsers should know.
async fn watched(State(shared): Here, request: HttpRequest, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let (status, seconds) = (response.status().as_u16(), began.elapsed().as_secs_f64());
    shared.metrics.requests.get_or_create(&Labels { route: known(route.as_deref()), status }).inc();
    shared.metrics.seconds.observe(seconds);
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if shared.log {
        crate::log(&object!({
            "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            "method": method.as_str(),
            "path": path,
            "status": status,
            "ms": (seconds * 1e4).round() / 10.0,
        }));
    }
    response
}

/// Routes by which requests are counted: paths that somebody made up are one.
fn known(route: Option<&str>) -> &'static str {
    const ROUTES: [&str; 9] = [
        "/",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/v1/models",
        "/v1/samples",
        "/v1/interpolate",
        "/v1/edit",
        "/v1/invert",
    ];
    let of = |route: &str| ROUTES.into_iter().find(|known| *known == route);
    route.and_then(of).unwrap_or("other")
}

/// Whether the server takes requests.
async fn health(State(shared): Here) -> Response {
    if *shared.stopping.borrow() {
        return json(StatusCode::SERVICE_UNAVAILABLE, &object!({ "status": "stopping" }));
    }
    json(StatusCode::OK, &object!({ "status": "ok" }))
}

async fn metrics(State(shared): Here) -> Response {
    shared.metrics.waiting.set(shared.queue.waiting() as i64);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

async fn models(State(shared): Here) -> Response {
    let names: Vec<Value> = shared
        .models
        .iter()
        .map(|Model { about, .. }| {
            object!({ "name": about.name, "shape": about.shape, "classes": about.classes })
        })
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    json(StatusCode::OK, &object!({ "version": version, "models": names }))
}

async fn model(State(shared): Here, Path(name): Path<String>) -> Answer {
    let place = place_of(&shared.models, &name)?;
    Ok(json(StatusCode::OK, &shared.models[place].about))
}

/// Computes what a request asks for.
async fn compute<R: Request>(State(shared): Here, request: HttpRequest) -> Answer {
    let seconds = shared.timeout.as_secs();
    let deadline = Instant::now() + shared.timeout;
    let answer = answer::<R>(&shared, request, deadline);
    match tokio::time::timeout(shared.timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::timed_out(seconds)),
    }
}

async fn answer<R: Request>(shared: &Shared, request: HttpRequest, deadline: Instant) -> Answer {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    // A page of another origin can't send this without asking first, and is then told no.
    if !kind.eq_ignore_ascii_case("application/json") {
        let problem = "send JSON, with the header `Content-Type: application/json`";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
    }
    let body = read(request.into_body(), shared.most_bytes).await?;
    let asked = parse::<R>(&body)?.asked(&shared.models, &shared.limits)?;
    let (reply, done) = oneshot::channel();
    let job = Job { model: asked.model, work: asked.work, deadline, reply };
    shared.queue.push(job).map_err(|refused| match refused {
        Refused::Busy(wait) => {
            let problem =
                "the queue is full: samples that others asked for come first; try again later";
            let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, problem);
            error.retry_after = Some((wait.as_secs_f64().ceil() as u64).max(1));
            error
        }
        Refused::Stopping => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
        }
    })?;
    // Without an answer the work was given up, because its time was over.
    let Ok(done) = done.await else { return Err(ApiError::timed_out(shared.timeout.as_secs())) };
    let (done, format, arrangement) = (done?, asked.format, asked.arrangement);
    let encoded = tokio::task::spawn_blocking(move || format.response(done, arrangement)).await;
    encoded.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "an answer broke off"))
}

/// A request's body.
async fn read(body: Body, most: usize) -> Result<axum::body::Bytes, ApiError> {
    to_bytes(body, most).await.map_err(|_| {
        ApiError::too_large("body", format!("send {most} bytes at most, all that were announced"))
    })
}
