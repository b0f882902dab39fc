//! What answers about this server: the page, whether it is well, what it counts, what it publishes;
//! and the rest of its streams.

use super::{App, Arrival, refuse};
use crate::VERSION;
use crate::batches::Batches;
use crate::dialects::fields;
use crate::errors::ServerError;
use crate::metrics::{self, Now};
use crate::page;
use crate::routes::openapi::document;
use crate::serve::{blocking, json_response, resume};
use crate::traces::Traces;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use engine::NUMERICS_VERSION;
use serde_json::json;
use std::sync::{Arc, LazyLock};

/// What clients of Ollama compare with, every byte of it.
const RUNNING: &str = "Ollama is running";

/// The page, to whoever can show one; else what clients of Ollama look for. Which program this
/// really is says `/version`.
pub(crate) async fn root(headers: HeaderMap) -> Response<Body> {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut response = match accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        true => page::response(page::INDEX, &headers).expect("the page has its first file"),
        false => RUNNING.into_response(),
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// A file of the page.
pub(crate) async fn page_file(
    Extension(arrival): Extension<Arrival>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let missing = || ServerError::NoSuchPath { path: format!("/web/{}", fields::short(&name)) };
    page::response(&name, &headers).unwrap_or_else(|| refuse(&missing(), &arrival))
}

/// A model that is not open is well: it opens when it is asked for. What is not well is one whose
/// engine has stopped; the next request to it opens it anew.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    health_response(app.models.stopped().as_deref())
}

fn health_response(stopped: Option<&str>) -> Response<Body> {
    let Some(model) = stopped else {
        return json_response(StatusCode::OK, r#"{"status":"ok"}"#.to_owned());
    };
    let body = serde_json::json!({"status": "stopped", "model": model});
    json_response(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
}

/// Whether requests are answered. A model that is not open is opened for one, and one whose engine
/// has stopped is opened anew: whoever is told to stay away could not have it mended.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    ready_response(!*app.draining.borrow())
}

fn ready_response(is_ready: bool) -> Response<Body> {
    if is_ready {
        return json_response(StatusCode::OK, r#"{"status":"ready"}"#.to_owned());
    }
    let body = r#"{"status":"draining"}"#.to_owned();
    let mut response = json_response(StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

pub(crate) async fn metrics_page(State(app): State<Arc<App>>) -> Response<Body> {
    // Its lock may be held by one that writes.
    let batches = app.batches.clone();
    let gauges = blocking(move || Ok(batches.as_ref().map(Batches::gauges))).await;
    let limits = match &app.accounts {
        Some(accounts) => accounts.gauges().await,
        None => Vec::new(),
    };
    let text = app.metrics.text(&Now {
        version: VERSION,
        numerics: NUMERICS_VERSION,
        started: app.started,
        egress: app.egress,
        has_broker: app.broker.as_ref().map(|broker| broker.away().is_none()),
        n_at_work: app.seats.n_taken(),
        n_stream_bytes: app.streams.n_bytes(),
        rss_bytes: engine::rss_bytes(),
        models: app.models.gauges(),
        batches: gauges.unwrap_or_default(),
        spans: app.traces.as_ref().map(Traces::counts),
        limits,
    });
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

pub(crate) async fn version(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let days = app.contents.as_ref().map(|contents| contents.days(&arrival));
    let told = json!({
        "version": VERSION,
        "egress": app.egress.name(),
        "keep_contents_days": days.filter(|days| *days > 0),
    });
    json_response(StatusCode::OK, told.to_string())
}

/// What is published of the routes.
pub(crate) async fn openapi() -> Response<Body> {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());
    json_response(StatusCode::OK, DOCUMENT.clone())
}

/// The rest of a stream.
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Response<Body> {
    let place = resume::of_address(&id, uri.query().unwrap_or_default(), &headers);
    let resumed = place.map_err(ServerError::from).and_then(|place| match method {
        Method::HEAD => resume::looked(&app, &arrival, &place),
        _ => resume::resumed(&app, &arrival, &place, None),
    });
    resumed.unwrap_or_else(|error| refuse(&error, &arrival))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_names_the_model_whose_engine_has_stopped() {
        assert_eq!(health_response(None).status(), 200);
        assert_eq!(health_response(Some("a/b")).status(), 503);
    }

    #[test]
    fn who_is_not_ready_says_when_to_come_again() {
        let check = |ready: bool, status: u16| {
            let response = ready_response(ready);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        };
        check(true, 200);
        check(false, 503);
    }
}
