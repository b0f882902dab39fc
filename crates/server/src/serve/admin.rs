//! What requests that administer have in common: a body is read within its bounds, and what had no
//! effect is told.

use super::deadline::{self, within};
use super::prepare::Notes;
use super::{body, error_response, json_response, lenient, with_notes};
use crate::app::{App, Arrival};
use crate::dialects::declared::Unknown;
use crate::dialects::{Family, Paths};
use crate::errors::ServerError;
use crate::seats::Seat;
use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};

/// A body that was read.
pub(crate) struct Taken {
    pub(crate) body: Vec<u8>,
    /// What becomes of fields that nobody knows.
    pub(crate) unknown: Unknown,
    /// Held to the end.
    _seat: Seat,
}

/// Reads a body.
pub(crate) async fn take(
    app: &App,
    arrival: &Arrival,
    headers: &HeaderMap,
    body: Body,
) -> Result<Taken, ServerError> {
    let _seat = app.admit(arrival)?;
    let deadline = deadline::of(headers, arrival.started)?;
    let unknown = lenient::of(headers, &arrival.who)?;
    let body = within(deadline, body::read(app, headers, body)).await?;
    Ok(Taken { body, unknown, _seat })
}

/// The answer, with what had no effect, or the refusal.
pub(crate) fn noted(
    told: Result<(String, Paths), ServerError>,
    arrival: &Arrival,
) -> Response<Body> {
    match told {
        Ok((body, ignored)) => {
            let notes = Notes { ignored, ..Notes::default() };
            with_notes(json_response(StatusCode::OK, body), &notes)
        }
        Err(error) => error_response(&error, Family::OpenAi, &arrival.id),
    }
}
