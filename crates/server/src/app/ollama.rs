//! What answers Ollama's routes about the models themselves.

use super::{App, Arrival, Peer, refuse, unix_time};
use crate::VERSION;
use crate::dialects::ollama;
use crate::errors::ServerError;
use crate::serve::{ReadChange, blocking, change, json_response, show};
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use std::sync::Arc;

pub(crate) async fn api_version() -> Response<Body> {
    let version = ollama::API_VERSION;
    let body = serde_json::json!({"version": version, "freehold": VERSION});
    json_response(StatusCode::OK, body.to_string())
}

pub(crate) async fn tags(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let who = Arc::clone(&arrival.who);
    let body = move || Ok(ollama::tags_body(&app.models.descriptions(&who)));
    let body = blocking(body).await;
    told(body, &arrival)
}

pub(crate) async fn ps(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let who = Arc::clone(&arrival.who);
    let body = move || Ok(ollama::ps_body(&app.models.descriptions(&who), unix_time()));
    told(blocking(body).await, &arrival)
}

fn told(body: Result<String, ServerError>, arrival: &Arrival) -> Response<Body> {
    match body {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error, arrival),
    }
}

pub(crate) async fn show_model(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    show(app, arrival, headers, body).await
}

pub(crate) async fn no_registry(Extension(arrival): Extension<Arrival>) -> Response<Body> {
    let why = "models are not sent anywhere: this server has no registry";
    refuse(&ServerError::NotImplemented(why.to_owned()), &arrival)
}

/// Answers what changes the models that there are.
pub(crate) fn changes(method: MethodFilter, read: ReadChange) -> MethodRouter<Arc<App>> {
    let handler = move |State(app): State<Arc<App>>,
                        Extension(arrival): Extension<Arrival>,
                        peer: Option<Extension<Peer>>,
                        headers: HeaderMap,
                        body: Body| {
        change(app, arrival, peer.map(|Extension(peer)| peer), headers, body, read)
    };
    on(method, handler)
}

/// Whether a file of this hash was sent: none ever was.
pub(crate) async fn no_blob(Extension(arrival): Extension<Arrival>) -> Response<Body> {
    refuse(&ServerError::NotFound("no file was ever sent".to_owned()), &arrival)
}

pub(crate) async fn no_blobs(Extension(arrival): Extension<Arrival>) -> Response<Body> {
    let why = "files are not taken over HTTP: `freehold add FILE` on the server's machine";
    refuse(&ServerError::Forbidden(why.to_owned()), &arrival)
}
