//! What answers the owner about persons: of whom contents are kept, all of them, and their end.

use super::{App, Arrival, refuse};
use crate::access;
use crate::errors::ServerError;
use crate::receipts::Receipts;
use crate::serve::{blocking, json_response};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use ledger::{ContentKeys, Ledger, LedgerError, Person, Which};
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest export that is made here: it is whole before it is sent, so that nothing of it is only a
/// part.
const EXPORT_BYTES_MAX: usize = 64 << 20;
/// The media type of an export.
pub(crate) const LINES: &str = "application/jsonl";

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let listed = async {
        let (ledger, _) = kept_in(&app)?;
        let persons = ledger.reader().persons().await.map_err(|error| refusal(&error))?;
        Ok(json!({"persons": persons.iter().map(told).collect::<Vec<_>>()}).to_string())
    };
    match listed.await {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error, &arrival),
    }
}

pub(crate) async fn export(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(person): Path<String>,
) -> Response<Body> {
    match lines(&app, &person).await {
        Ok(text) => {
            let mut response = json_response(StatusCode::OK, text);
            let media_type = HeaderValue::from_static(LINES);
            response.headers_mut().insert(header::CONTENT_TYPE, media_type);
            response
        }
        Err(error) => refuse(&error, &arrival),
    }
}

pub(crate) async fn erase(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(person): Path<String>,
) -> Response<Body> {
    match erased(&app, &arrival, &person).await {
        Ok(body) => json_response(StatusCode::OK, body.to_string()),
        Err(error) => refuse(&error, &arrival),
    }
}

/// Erases what the ledger has of a person, and what this server keeps of the clients whose keys
/// name it, or did before they were revoked.
async fn erased(app: &Arc<App>, arrival: &Arrival, person: &str) -> Result<Value, ServerError> {
    let (ledger, _) = kept_in(app)?;
    let roster = ledger.reader().roster(Which::All).await.map_err(|error| refusal(&error))?;
    let clients = access::numbers_of(&roster, person);
    let n_answers: usize = clients.iter().map(|client| app.kept.forget(*client)).sum();
    let n_files = remove_files(app, clients).await?;
    let erased = match ledger.erase_person(person, &arrival.who.principal()).await {
        Ok(erased) => Some(erased),
        Err(LedgerError::NotFound { .. }) if n_answers + n_files > 0 => None,
        Err(error) => return Err(refusal(&error)),
    };
    Ok(json!({
        "name": person,
        "erased": true,
        "record": erased.map(|erased| erased.record),
        "forgotten": erased.map_or(0, |erased| erased.n_forgotten),
        "keys_elsewhere": erased.map_or(0, |erased| erased.n_keys_elsewhere),
        "responses": n_answers,
        "files": n_files,
    }))
}

/// Removes the files of these clients, and returns how many. One that a batch still reads stays
/// until its client or the owner removes it.
async fn remove_files(app: &App, clients: Vec<u64>) -> Result<usize, ServerError> {
    let Ok(batches) = app.batches() else { return Ok(0) };
    let removing = move || {
        let files = clients.iter().flat_map(|client| {
            let own = batches.files(*client).into_iter();
            own.map(|file| (*client, file.id)).collect::<Vec<_>>()
        });
        let removed = files.filter(|(client, id)| batches.remove_file(*client, id).is_ok());
        Ok(removed.count())
    };
    blocking(removing).await
}

/// Why an export ends.
enum Ended {
    Ledger(LedgerError),
    TooLong,
}

impl From<LedgerError> for Ended {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

/// All that is kept of a person, a line each.
async fn lines(app: &App, person: &str) -> Result<String, ServerError> {
    let (ledger, keys) = kept_in(app)?;
    let mut text = String::new();
    let write = |line: &str| {
        text.push_str(line);
        text.push('\n');
        if text.len() > EXPORT_BYTES_MAX { Err(Ended::TooLong) } else { Ok(()) }
    };
    match ledger.reader().export_person(person, keys, write).await {
        Ok(found) if found.is_nothing() => Err(not_found(person)),
        Ok(_) => Ok(text),
        Err(Ended::Ledger(error)) => Err(refusal(&error)),
        Err(Ended::TooLong) => Err(ServerError::Conflict(format!(
            "more than 64 MiB are kept of {person:?}: expected `freehold person export`, which \
             writes any number"
        ))),
    }
}

/// The ledger and the keys of contents.
fn kept_in(app: &App) -> Result<(&Ledger, &ContentKeys), ServerError> {
    let ledger = app.receipts.as_ref().map(Receipts::ledger);
    let kept = ledger.and_then(|ledger| Some((ledger, ledger.content_keys()?)));
    kept.ok_or_else(|| {
        ServerError::NotImplemented("nothing is kept of persons: this server has no ledger".into())
    })
}

fn told(person: &Person) -> Value {
    let Person { name, n_contents, n_bytes, first, last, until } = person;
    json!({
        "name": name, "contents": n_contents, "bytes": n_bytes,
        "first": first, "last": last, "until": until,
    })
}

fn not_found(person: &str) -> ServerError {
    let person: String = person.chars().take(64).collect();
    ServerError::NotFound(format!("person {person:?}: nothing is kept of anybody of this name"))
}

/// Paths and hosts of the owner's stay in the log.
fn refusal(error: &LedgerError) -> ServerError {
    match error {
        LedgerError::NotFound { id, .. } => not_found(id),
        LedgerError::InvalidEntry { value, .. } => not_found(value),
        error => {
            tracing::error!(%error, "the ledger cannot be used");
            ServerError::LedgerUnavailable("the ledger of this server cannot be used".to_owned())
        }
    }
}
