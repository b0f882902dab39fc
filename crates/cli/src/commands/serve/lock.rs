//! How it stands with the lock of a server, as its owner is told over HTTP: in the words of
//! `freehold rollback --list` and `freehold diff`.

use std::path::PathBuf;
use std::sync::Arc;

use server::{LibraryError, LockStanding, LockVersion, LockedModel};
use store::{History, LockFile, Store, Version};

use crate::commands::diff;
use crate::exit::{Exit, code_of};
use crate::locked::{self, Lock};

/// What the lock in its file says now and said before, and what is installed otherwise.
///
/// # Errors
/// It, its history or an installed model cannot be read.
pub(super) fn standing(held: &Lock, store: &Store) -> anyhow::Result<LockStanding> {
    let (path, file) = locked::read_some(Some(held.path()))?;
    let history = History::read(&path)?;
    Ok(LockStanding {
        file: Some(path.display().to_string()),
        has_changed: held.has_changed(),
        models: file.models.keys().map(|name| model(name, &file, &history)).collect(),
        changes: diff::of_installed(store, &file)?,
    })
}

/// What stood for `name`, which the lock has.
fn model(name: &str, file: &LockFile, history: &History) -> LockedModel {
    let entry = &file.models[name];
    let timeline = history.timeline(name, entry);
    let moves = history.of(name, entry.digest());
    let version = |of: &Version| {
        let came = moves.iter().rfind(|came| came.to == of.digest);
        let gate = came.and_then(|came| serde_json::to_value(came.gate.as_ref()?).ok());
        LockVersion {
            digest: of.digest.to_string(),
            installed: of.entry.as_ref().map(|entry| entry.full_name(name)),
            since: of.since.clone(),
            why: came.map(|came| came.why.clone()),
            gate,
        }
    };
    LockedModel {
        name: name.to_owned(),
        versions: timeline.versions.iter().map(version).collect(),
        now: timeline.now + 1,
        back: timeline.back.map(|back| back + 1),
    }
}

/// Where the lock is that models are held to.
///
/// # Errors
/// There is none.
pub(super) fn path(held: Option<Arc<Lock>>) -> Result<PathBuf, LibraryError> {
    held.map(|held| held.path().to_owned()).ok_or_else(|| {
        let why = "this server is held to no freehold.lock; `freehold lock` writes one";
        LibraryError::NotFound(why.to_owned())
    })
}

/// An error of a command, for whoever asked over HTTP.
pub(super) fn told(error: &anyhow::Error) -> LibraryError {
    let message = format!("{error:#}");
    match code_of(error) {
        Exit::NotFound => LibraryError::NotFound(message),
        Exit::Usage | Exit::Verification => LibraryError::Refused(message),
        _ => LibraryError::Failed(message),
    }
}
