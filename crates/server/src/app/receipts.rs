//! Receipts for their clients, and whether they hold.

use super::{App, Arrival, refuse};
use crate::errors::ServerError;
use crate::receipts::no_receipt;
use crate::serve::{json_response, verified, verify};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Response, StatusCode};
use std::sync::Arc;

/// The receipt of an answer of the client's.
pub(crate) async fn receipt(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    match find(&app, &arrival, &id).await {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error, &arrival),
    }
}

async fn find(app: &App, arrival: &Arrival, id: &str) -> Result<String, ServerError> {
    match &app.receipts {
        Some(receipts) => receipts.find(arrival.principal, id).await,
        None => Err(no_receipt(id, "none are kept, the server was started with --ledger none")),
    }
}

/// Whether its request, asked once more, is answered with the same bits.
pub(crate) async fn verify_receipt(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    match verify(&app, &arrival, &id, &headers, body).await {
        Ok((body, ignored)) => verified(body, ignored),
        Err(error) => refuse(&error, &arrival),
    }
}
