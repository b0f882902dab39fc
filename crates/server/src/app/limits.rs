//! What answers the owner about limits, and about what requests took.

use super::{App, Arrival};
use crate::accounts::{Accounts, uncounted, wire};
use crate::dialects::Paths;
use crate::errors::{BadRequest, ServerError};
use crate::serve::admin::{Taken, noted, take};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Response, Uri};
use ledger::{LedgerError, Standing};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let listed = async {
        let standings = match &app.accounts {
            Some(accounts) => accounts.ledger().standings().await.map_err(uncounted)?,
            None => Vec::new(),
        };
        let limits: Vec<Value> = standings.iter().map(Standing::to_json).collect();
        Ok((json!({"limits": limits}).to_string(), Paths::default()))
    };
    noted(listed.await, &arrival)
}

pub(crate) async fn set(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let set = async {
        let accounts = accounts_of(&app)?;
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let (limit, ignored) = wire::read(body, *unknown)?;
        let mut told = limit.to_json();
        let set = accounts.ledger().set_limit(limit, &arrival.who.principal()).await;
        told["replaced"] = set.map_err(refusal)?.into();
        Ok((told.to_string(), ignored))
    };
    noted(set.await, &arrival)
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    let removed = async {
        let accounts = accounts_of(&app)?;
        let was_there = accounts.ledger().remove_limit(&id, &arrival.who.principal()).await;
        if !was_there.map_err(refusal)? {
            let id = crate::dialects::fields::short(&id);
            return Err(ServerError::NotFound(format!("limit {id:?} does not exist here")));
        }
        Ok((json!({"id": id, "removed": true}).to_string(), Paths::default()))
    };
    noted(removed.await, &arrival)
}

/// Rows of usage in their order.
pub(crate) async fn usage_rows(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    let listed = async {
        let (after, limit) = wire::read_page(uri.query().unwrap_or_default())?;
        let rows = match &app.accounts {
            Some(accounts) => {
                // What has ended is on its way there.
                accounts.ledger().flush().await.map_err(uncounted)?;
                let rows = accounts.ledger().reader().usage_rows(after, limit).await;
                rows.map_err(uncounted)?
            }
            None => Vec::new(),
        };
        Ok((wire::rows_body(&rows, after), Paths::default()))
    };
    noted(listed.await, &arrival)
}

fn accounts_of(app: &App) -> Result<&Accounts, ServerError> {
    app.accounts.as_ref().ok_or_else(|| {
        let why = "this server has no ledger to count in (it was started with --ledger none)";
        ServerError::NotImplemented(why.to_owned())
    })
}

/// What is wrong with a limit is said at its field.
fn refusal(error: LedgerError) -> ServerError {
    match error {
        LedgerError::InvalidEntry { what, value, expected } => {
            BadRequest::field(what, &format!("{value:?}: expected {expected}")).into()
        }
        other => uncounted(other),
    }
}
