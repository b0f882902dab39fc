//! What left, for the owner.

use super::{App, Arrival, refuse};
use crate::departures;
use crate::dialects::declared::Field;
use crate::errors::{BadRequest, ServerError};
use crate::serve::json_response;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{Response, StatusCode, Uri};
use serde_json::json;
use std::sync::Arc;

const BEFORE: &str = "before";

/// Parameters of the query of the list.
pub(crate) const QUERY: &[Field] =
    &[Field::honoured(BEFORE).text().note("the `next` of the list before; without it: the newest")];

/// The departures, newest first.
pub(crate) async fn departures(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    match list(&app, uri.query().unwrap_or_default()).await {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error, &arrival),
    }
}

async fn list(app: &App, query: &str) -> Result<String, ServerError> {
    let before = before(query)?;
    let Some(receipts) = &app.receipts else {
        let why =
            "nothing leaves and nothing is recorded: the server was started with --ledger none";
        return Err(ServerError::NotFound(why.to_owned()));
    };
    let (list, next) = receipts.departures(before.as_deref()).await?;
    Ok(json!({"departures": list, "next": next}).to_string())
}

/// The id in a query, which is one of ours or of none.
fn before(query: &str) -> Result<Option<String>, BadRequest> {
    let mut before = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != BEFORE {
            let shown = crate::dialects::fields::short(name);
            return Err(BadRequest::field(&shown, "expected only \"before\""));
        }
        let rest = value.strip_prefix("dep_").filter(|_| value.len() <= departures::ID_BYTES_MAX);
        if !rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit())) {
            let problem = format!(
                "{:?}: expected the id of a departure",
                crate::dialects::fields::short(value)
            );
            return Err(BadRequest::field(BEFORE, &problem));
        }
        before = Some(value.to_owned());
    }
    Ok(before)
}
