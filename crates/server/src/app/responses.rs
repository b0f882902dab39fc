//! Responses that are kept for their clients.

use super::{App, Arrival, refuse};
use crate::dialects::fields;
use crate::dialects::openai::responses;
use crate::errors::{BadRequest, ServerError};
use crate::kept::Gone;
use crate::serve::{in_turn, json_response, resume};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use std::sync::Arc;
use std::time::Instant;

/// A response that is kept for the client.
pub(crate) async fn kept(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default();
    let answered = resume::asks_for_stream(query).map_err(ServerError::from);
    let answered = answered.and_then(|is_stream| {
        // First those at work: what ends meanwhile is found among those that are kept.
        let at_work = app.background.body(arrival.principal, &id, arrival.started);
        let kept = app.kept.of(arrival.principal, arrival.started).get(&id);
        let told = kept.map(|kept| kept.body.clone()).or(at_work);
        if is_stream {
            let place = resume::of_address(&id, query, &headers)?;
            let resumed = match method {
                Method::HEAD => resume::looked(&app, &arrival, &place),
                _ => resume::resumed(&app, &arrival, &place, None),
            };
            return resumed.map_err(|error| no_stream(error, told.is_some()));
        }
        if headers.contains_key(resume::LAST_EVENT_ID) {
            let why = "expected \"stream=true\" in the query beside it";
            return Err(BadRequest::field(resume::LAST_EVENT_ID, why).into());
        }
        let told = told.ok_or_else(|| no_such_response(&app, &id))?;
        Ok(json_response(StatusCode::OK, told))
    });
    answered.unwrap_or_else(|error| refuse(&error, &arrival))
}

/// Of a response that is there the stream may not be.
fn no_stream(error: ServerError, is_kept: bool) -> ServerError {
    match error {
        ServerError::NoSuchStream { why, .. } if is_kept => {
            let why = format!("true: the events of this response are not there: {why}");
            BadRequest::unsupported("stream", &why).into()
        }
        other => other,
    }
}

/// Has a response that is made in the background go no further. Of one that has ended, however it
/// did, it says that.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    app.background.cancel(arrival.principal, &id).await;
    let Some(kept) = app.kept.of(arrival.principal, Instant::now()).get(&id) else {
        return refuse(&no_such_response(&app, &id), &arrival);
    };
    if !responses::is_background(&kept) {
        let problem =
            format!("{:?}: expected a response made with \"background\"", fields::short(&id));
        return refuse(&BadRequest::field("id", &problem).into(), &arrival);
    }
    json_response(StatusCode::OK, kept.body.clone())
}

pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    app.background.cancel(arrival.principal, &id).await;
    if !app.kept.of(arrival.principal, Instant::now()).remove(&id) {
        return refuse(&no_such_response(&app, &id), &arrival);
    }
    app.streams.forget(arrival.principal, &id);
    json_response(StatusCode::OK, responses::deleted_body(&id))
}

/// What a response was made from: as much work as reading a request.
pub(crate) async fn kept_items(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let (reading, client, now) = (app.clone(), arrival.principal, arrival.started);
    let work = move || {
        let own = reading.kept.of(client, now);
        let turns = own.history(&id).map_err(|Gone(gone)| match gone == id {
            true => no_such_response(&reading, &id),
            false => {
                let why = "the response asked for continues it, and it is kept no longer";
                ServerError::NoSuchResponse { id: fields::short(&gone), why }
            }
        })?;
        Ok(responses::items_body(&turns, uri.query().unwrap_or_default(), &reading.limits.get())?)
    };
    match in_turn(&app, usize::MAX, work).await {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error, &arrival),
    }
}

fn no_such_response(app: &App, id: &str) -> ServerError {
    let why = match app.kept.keeps() {
        true => "deleted, not asked for in time, given up for want of room, or another client's",
        false => "none are kept, start the server with --keep-responses",
    };
    ServerError::NoSuchResponse { id: fields::short(id), why }
}
