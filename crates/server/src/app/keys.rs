//! What answers the owner who administers keys and projects.

use super::{App, Arrival};
use crate::access::wire;
use crate::dialects::Paths;
use crate::errors::{BadRequest, ServerError};
use crate::serve::admin::{Taken, noted, take};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Response, Uri};
use ledger::{Act, Key, Ledger, LedgerError, Roster, Secret, Which};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    let listed = async {
        let which = wire::read_list(uri.query().unwrap_or_default())?;
        let keys: Vec<Value> =
            roster(&app, which).await?.keys.iter().map(wire::key_to_json).collect();
        Ok((json!({"keys": keys}).to_string(), Paths::default()))
    };
    noted(listed.await, &arrival)
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let created = async {
        let ledger = ledger_of(&app)?;
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let (plan, ignored) = wire::read_key(body, *unknown, arrival.at_us)?;
        let (key, secret) = plan.draw(arrival.at_us).map_err(|error| refusal(&error))?;
        let told = told(&key, &secret);
        act(&app, &arrival, ledger, Act::CreateKey(Box::new(key))).await?;
        Ok((told, ignored))
    };
    noted(created.await, &arrival)
}

pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let rotated = async {
        let ledger = ledger_of(&app)?;
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let (until, ignored) = wire::read_rotation(body, *unknown, arrival.at_us)?;
        let key = find(&app, &key).await?;
        let secret = Secret::draw(&key.id).map_err(|error| refusal(&error))?;
        let order = Act::RotateKey { key: key.id.clone(), hash: secret.hash(), until };
        act(&app, &arrival, ledger, order).await?;
        Ok((told(&key, &secret), ignored))
    };
    noted(rotated.await, &arrival)
}

pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(key): Path<String>,
) -> Response<Body> {
    let revoked = async {
        let ledger = ledger_of(&app)?;
        let key = find(&app, &key).await?;
        act(&app, &arrival, ledger, Act::RevokeKey(key.id.clone())).await?;
        let told = json!({"id": key.id, "name": key.name, "revoked": true});
        Ok((told.to_string(), Paths::default()))
    };
    noted(revoked.await, &arrival)
}

pub(crate) async fn list_projects(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let listed = async {
        let roster = roster(&app, Which::Live).await?;
        let projects: Vec<Value> = roster.projects.iter().map(wire::project_to_json).collect();
        Ok((json!({"projects": projects}).to_string(), Paths::default()))
    };
    noted(listed.await, &arrival)
}

pub(crate) async fn create_project(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let created = async {
        let ledger = ledger_of(&app)?;
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let ((name, keep), ignored) = wire::read_project(body, *unknown)?;
        let told = json!({"name": name, "keep": keep}).to_string();
        act(&app, &arrival, ledger, Act::CreateProject { name, keep }).await?;
        Ok((told, ignored))
    };
    noted(created.await, &arrival)
}

pub(crate) async fn remove_project(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(project): Path<String>,
) -> Response<Body> {
    let removed = async {
        let ledger = ledger_of(&app)?;
        let told = json!({"name": project, "removed": true}).to_string();
        act(&app, &arrival, ledger, Act::RemoveProject(project)).await?;
        Ok((told, Paths::default()))
    };
    noted(removed.await, &arrival)
}

/// A key with its secret, this once.
fn told(key: &Key, secret: &Secret) -> String {
    let mut told = wire::key_to_json(key);
    told["secret"] = secret.shown().into();
    told.to_string()
}

fn ledger_of(app: &App) -> Result<&Ledger, ServerError> {
    app.access.ledger().ok_or_else(|| {
        let why = "this server has no ledger to keep keys in (it was started with --ledger none)";
        ServerError::NotImplemented(why.to_owned())
    })
}

/// Who may ask; nobody by a key where there is no ledger.
async fn roster(app: &App, which: Which) -> Result<Roster, ServerError> {
    match app.access.ledger() {
        None => Ok(Roster::default()),
        Some(ledger) => ledger.reader().roster(which).await.map_err(|error| refusal(&error)),
    }
}

/// The key of this id or name. An id goes first.
async fn find(app: &App, key: &str) -> Result<Key, ServerError> {
    let keys = roster(app, Which::Live).await?.keys;
    let by = |is_it: fn(&Key, &str) -> bool| keys.iter().find(|of| is_it(of, key)).cloned();
    let found = by(|of, key| of.id == key).or_else(|| by(|of, key| of.name == key));
    let none = || LedgerError::NotFound { kind: "key", id: crate::dialects::fields::short(key) };
    found.ok_or_else(|| refusal(&none()))
}

/// Has a change made, and takes it up at once.
async fn act(app: &App, arrival: &Arrival, ledger: &Ledger, order: Act) -> Result<(), ServerError> {
    let done = ledger.act(order, &arrival.who.principal()).await;
    done.map_err(|error| refusal(&error))?;
    if let Err(error) = app.access.refresh().await {
        tracing::warn!(%error, "a change of keys is taken up when the ledger can be read again");
    }
    Ok(())
}

fn refusal(error: &LedgerError) -> ServerError {
    match error {
        LedgerError::NotFound { .. } => ServerError::NotFound(error.to_string()),
        LedgerError::Refused { .. } => ServerError::Conflict(error.to_string()),
        LedgerError::InvalidEntry { value, expected, .. } => {
            BadRequest::field("name", &format!("{value:?}: expected {expected}")).into()
        }
        // Paths and hosts of the owner's stand in the log only.
        other => {
            tracing::error!(error = %other, "keys cannot be read or changed");
            let why = "the ledger of this server cannot be used";
            ServerError::LedgerUnavailable(why.to_owned())
        }
    }
}
