//! The models' upkeep as the server's owner asks for it over HTTP: what the gate found, what other
//! programs have, and what sources have now. In the words of `freehold adopt` and `outdated`.

use std::path::Path;

use serde_json::Value;
use server::{Adoptable, AdoptableModel, GateReports, LibraryError, LockedSource};
use store::{Found, Installed, LockFile, Program, Store};

use super::lock;
use crate::commands::outdated;
use crate::context::Context;
use crate::gate_reports;
use crate::locked::{self, OF_FILE};

/// What is kept in the data directory.
///
/// # Errors
/// It cannot be read.
pub(super) fn gate_reports(home: &Path) -> Result<GateReports, LibraryError> {
    let listed = gate_reports::GateReports::of(home).list();
    let listed = listed.map_err(|error| LibraryError::Failed(format!("gate reports: {error}")))?;
    Ok(GateReports { reports: listed.summaries, damaged: listed.damaged })
}

/// The report of this id.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn gate_report(home: &Path, id: &str) -> Result<Value, LibraryError> {
    match gate_reports::GateReports::of(home).read(id) {
        Ok(Some(report)) => Ok(report),
        Ok(None) => {
            let why = format!("gate report {:.40}: no such report is kept", format!("{id:?}"));
            Err(LibraryError::NotFound(why))
        }
        Err(error) => Err(LibraryError::Failed(error.to_string())),
    }
}

/// What the other programs have.
///
/// # Errors
/// What is installed cannot be read.
pub(super) fn adoptable(store: &Store) -> Result<Adoptable, LibraryError> {
    let installed = store.list().map_err(super::library::refusal)?;
    let installed: Vec<Installed> = installed.into_iter().flatten().collect();
    let mut adoptable = Adoptable::default();
    for program in Program::ALL {
        match program.find() {
            Ok(found) => adoptable.models.extend(found.into_iter().map(|found| {
                let is_it = |one: &Installed| one.full_name().eq_ignore_ascii_case(&found.name);
                let is_here = installed.iter().any(is_it);
                model(program, found, is_here)
            })),
            // What cannot be read of one does not keep the others from being found.
            Err(error) => adoptable.problems.push(format!("{}: {error}", program.title)),
        }
    }
    Ok(adoptable)
}

fn model(program: &Program, found: Found, is_here: bool) -> AdoptableModel {
    let path = found.files.first().map(|file| file.path.display().to_string());
    AdoptableModel {
        n_bytes: found.n_bytes(),
        name: found.name,
        owner: found.owner,
        word: program.word.to_owned(),
        path: path.unwrap_or_default(),
        notes: found.notes,
        refused: found.refused,
        is_here,
    }
}

/// The model `name` that the program called `owner` has. Looked for anew: no path of a client's is
/// ever opened.
///
/// # Errors
/// There is none, or the program's folder cannot be read.
pub(super) fn found(owner: &str, name: &str) -> Result<Found, LibraryError> {
    let program = Program::ALL.iter().find(|program| program.title == owner);
    let found = program.map(Program::find).transpose().map_err(super::library::refusal)?;
    let found = found.unwrap_or_default().into_iter().find(|found| found.name == name);
    found.ok_or_else(|| {
        let titles: Vec<&str> = Program::ALL.iter().map(|program| program.title).collect();
        let why =
            format!("{name}: {owner} has no such model, expected one of {}", titles.join(", "));
        LibraryError::NotFound(why)
    })
}

/// The models of a lock, with where they came from.
///
/// # Errors
/// It cannot be read.
pub(super) fn locked_sources(path: &Path) -> Result<Vec<LockedSource>, LibraryError> {
    let (_, lock) = read(path)?;
    let source = |(name, entry): (&String, &store::LockedModel)| LockedSource {
        name: name.clone(),
        source: entry.source.clone(),
        is_elsewhere: !entry.source.starts_with(OF_FILE),
    };
    Ok(lock.models.iter().map(source).collect())
}

/// What the source of a locked model has now.
///
/// # Errors
/// It is not in the lock.
pub(super) fn latest(
    context: &Context,
    store: &Store,
    path: &Path,
    name: &str,
) -> Result<Value, LibraryError> {
    let (path, lock) = read(path)?;
    let entry = locked::entry_of(&path, &lock, name).map_err(|error| lock::told(&error))?;
    Ok(outdated::ask(context, store, &lock, entry.0).to_json())
}

fn read(path: &Path) -> Result<(std::path::PathBuf, LockFile), LibraryError> {
    locked::read_some(Some(path)).map_err(|error| lock::told(&error))
}
