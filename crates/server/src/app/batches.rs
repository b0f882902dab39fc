//! What answers the routes of files and batches.

use super::{App, Arrival, refuse};
use crate::batches::Batches;
use crate::dialects::openai::{batches as batch, files};
use crate::errors::ServerError;
use crate::serve::{blocking, create_batch, json_response, send_content, upload};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use std::sync::Arc;

pub(crate) async fn send(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    upload(app, arrival, headers, body).await
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default().to_owned();
    told(&app, &arrival, move |batches, client| {
        Ok(files::list_body(batches.files(client), &query)?)
    })
    .await
}

pub(crate) async fn file(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    told(&app, &arrival, move |batches, client| Ok(files::body(&batches.file(client, &id)?))).await
}

pub(crate) async fn content(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    send_content(app, arrival, id).await
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    told(&app, &arrival, move |batches, client| {
        batches.remove_file(client, &id)?;
        Ok(files::deleted_body(&id))
    })
    .await
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    create_batch(app, arrival, headers, body).await
}

pub(crate) async fn list_batches(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default().to_owned();
    told(&app, &arrival, move |batches, client| {
        Ok(batch::list_body(&batches.batches(client), &query)?)
    })
    .await
}

pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    told(&app, &arrival, move |batches, client| Ok(batch::body(&batches.batch(client, &id)?))).await
}

pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    told(&app, &arrival, move |batches, client| Ok(batch::body(&batches.cancel(client, &id)?)))
        .await
}

/// What `work` says of the client's files and batches; it may wait for the disk.
async fn told(
    app: &App,
    arrival: &Arrival,
    work: impl FnOnce(Batches, u64) -> Result<String, ServerError> + Send + 'static,
) -> Response<Body> {
    let client = arrival.principal;
    let told = match app.batches() {
        Ok(batches) => blocking(move || work(batches, client)).await,
        Err(error) => Err(error),
    };
    match told {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error, arrival),
    }
}
