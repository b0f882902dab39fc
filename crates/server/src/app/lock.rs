//! What answers the owner about the lock: what it says of the models and said before, in what they
//! differ from it, and the way back.

use super::{App, Arrival};
use crate::dialects::Paths;
use crate::dialects::declared::Field;
use crate::dialects::fields::Fields;
use crate::errors::ServerError;
use crate::library::{Existing, LibraryError};
use crate::reload::Report;
use crate::serve::admin::{Taken, noted, take};
use crate::serve::blocking;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Response};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Most versions that a model has in a lock's history.
const N_VERSIONS_MAX: i64 = 20_000;

/// Which way a model goes.
pub(crate) const ROLLBACK_FIELDS: &[Field] = &[
    Field::honoured("to")
        .integer(1, N_VERSIONS_MAX)
        .note("the number of a version; absent: what the lock said before"),
    Field::honoured("why").text().note("a line for the history"),
];

/// What an installed model is written down as.
pub(crate) const PIN_FIELDS: &[Field] =
    &[Field::honoured("update").flag().note("let an entry change that is there already")];

/// What the lock says, said, and what is otherwise.
pub(crate) async fn lock(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let told = blocking(move || {
        let told = app.library.as_ref().map(|library| library.lock()).transpose()?;
        Ok(serde_json::to_string(&told.unwrap_or_default()).expect("texts and numbers are JSON"))
    });
    noted(told.await.map(|body| (body, Paths::default())), &arrival)
}

/// Has the lock say what it said before.
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let done = async {
        let library = app.library_for_lock(&arrival.who)?;
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let mut fields = Fields::parse(body)?;
        fields.treat(ROLLBACK_FIELDS)?;
        let to = fields.integer("to", 1..=N_VERSIONS_MAX)?;
        let to = to.and_then(|to| u32::try_from(to).ok());
        let why = fields.text("why")?;
        let ignored = fields.finish(*unknown)?;
        let name = model.clone();
        let told = moved(&app, move || library.roll_back(&name, to, why)).await?;
        Ok((json!({"name": model, "told": told}).to_string(), ignored))
    };
    noted(done.await, &arrival)
}

/// Writes down what an installed model is.
pub(crate) async fn pin(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let done = async {
        let library = app.library_for_lock(&arrival.who)?;
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let mut fields = Fields::parse(body)?;
        fields.treat(PIN_FIELDS)?;
        let entry = match fields.flag("update")? {
            Some(true) => Existing::Changes,
            _ => Existing::Stays,
        };
        let ignored = fields.finish(*unknown)?;
        let name = model.clone();
        let told = moved(&app, move || library.pin(&name, entry)).await?;
        Ok((json!({"name": model, "told": told}).to_string(), ignored))
    };
    noted(done.await, &arrival)
}

/// What a change of the lock comes to, and whether this server goes by it now. A client that goes
/// away keeps neither from its end.
async fn moved(
    app: &Arc<App>,
    work: impl FnOnce() -> Result<String, LibraryError> + Send + 'static,
) -> Result<String, ServerError> {
    let app = Arc::clone(app);
    let moved = tokio::spawn(async move {
        let told = changed(&app, work).await?;
        if app.reload.is_none() {
            return Ok(told);
        }
        Ok(match app.reload().await {
            Ok(report) => format!(
                "{told}; this server goes by the lock as it is now{}",
                with_it(&report).unwrap_or_default()
            ),
            Err(error) => format!("{told}; but this server goes on as before: {error}"),
        })
    });
    moved.await.map_err(|_| ServerError::Failed("changing the lock panicked".to_owned()))?
}

/// What else a reload took over, or could not, of settings that were changed meanwhile.
fn with_it(report: &Report) -> Option<String> {
    let list = |names: &[String], what: &str| {
        let names: Vec<&str> =
            names.iter().map(String::as_str).filter(|of| *of != "lock").collect();
        (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
    };
    let all: Vec<String> = [
        list(&report.changed, "other settings that were changed, too"),
        list(&report.models_added, "models added"),
        list(&report.models_removed, "models removed"),
        list(&report.needs_restart, "what waits for a restart"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!all.is_empty()).then(|| format!(" ({})", all.join("; ")))
}

/// What a change of models comes to, one of few at a time: each may hash a model.
pub(super) async fn changed(
    app: &App,
    work: impl FnOnce() -> Result<String, LibraryError> + Send + 'static,
) -> Result<String, ServerError> {
    let turn = turn(app)?;
    blocking(move || {
        let _turn = turn;
        Ok(work()?)
    })
    .await
}

/// The right to be one of the few changes at a time.
pub(super) fn turn(app: &App) -> Result<OwnedSemaphorePermit, LibraryError> {
    let turn = Arc::clone(&app.changes).try_acquire_owned();
    turn.map_err(|_| LibraryError::Busy("other changes of models are at work".into()))
}
