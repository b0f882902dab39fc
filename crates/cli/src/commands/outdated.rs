//! `freehold outdated`: whether the sources of locked models have something newer.

use std::path::PathBuf;

use serde_json::{Value, json};
use store::{Installed, InstalledFile, Latest, Licence, LockFile, LockedModel, Store, StoreError};

use crate::commands::Subcommand;
use crate::commands::list::table;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked::{self, OF_FILE};
use crate::progress::Shown;
use crate::terminal;

/// Ask the sources of locked models whether they have something newer
///
/// Nothing is fetched and nothing changes. The Hugging Face Hub is asked for the hashes on the
/// branch, pip for the versions, an address for its hash or length, an OCI registry for the digests
/// that the tag names; a file is hashed where it lies.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold outdated
  freehold outdated smollm2-135m --json

Exit code 4 means that something is newer; 7 that nothing is known to be, and some source could not
be asked.")]
pub(crate) struct Outdated {
    /// Models or aliases of the lock (default: all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The lock (default: ./freehold.lock)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is known of a model.
pub(in crate::commands) struct Standing<'a> {
    name: &'a str,
    entry: &'a LockedModel,
    latest: Result<Latest, StoreError>,
}

impl Subcommand for Outdated {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let (path, lock) = locked::read_some(self.lock.as_deref())?;
        let mut names: Vec<&str> = lock.models.keys().map(String::as_str).collect();
        if !self.names.is_empty() {
            let model = self.names.iter().map(|name| Ok(locked::entry_of(&path, &lock, name)?.0));
            names = model.collect::<anyhow::Result<_>>()?;
        }
        let store = context.store()?;
        let all: Vec<Standing<'_>> =
            names.into_iter().map(|name| ask(context, &store, &lock, name)).collect();
        if self.json {
            terminal::print_json(&all.iter().map(Standing::to_json).collect())?;
        } else if all.is_empty() {
            context.note(&format!("{}: no models are in it", path.display()));
        } else {
            let header = ["NAME", "STATE", "LOCKED", "NOW"].map(str::to_owned);
            let rows = std::iter::once(header).chain(all.iter().map(Standing::to_row));
            terminal::print(&table(&rows.collect::<Vec<_>>()))?;
        }
        if all.iter().any(|of| matches!(of.latest, Ok(Latest::Newer { .. }))) {
            return Err(Failure::silent(Exit::Verification).into());
        }
        if all.iter().any(|of| of.latest.is_err()) {
            return Err(Failure::silent(Exit::Network).into());
        }
        Ok(())
    }
}

/// Asks the source of one model; of an installed one that of its manifest, which knows paths.
pub(in crate::commands) fn ask<'a>(
    context: &Context,
    store: &Store,
    lock: &'a LockFile,
    name: &'a str,
) -> Standing<'a> {
    let entry = &lock.models[name];
    let installed = match store.resolve(&entry.full_name(name)) {
        Err(StoreError::UnknownName { .. }) if !entry.source.starts_with(OF_FILE) => {
            Ok(as_locked(entry))
        }
        Ok(installed) => {
            // What the lock says counts, whatever lies there by now.
            let files = as_locked(entry).files;
            Ok(Installed { files, ..installed })
        }
        Err(error) => Err(error),
    };
    let progress = Shown::if_slow(context);
    let latest = installed.and_then(|installed| store.latest(&installed, &progress));
    Standing { name, entry, latest }
}

/// A locked model as if it were installed.
fn as_locked(entry: &LockedModel) -> Installed {
    let file = |file: &store::LockedFile| {
        let path = PathBuf::from(&file.name);
        InstalledFile { path, n_bytes: file.n_bytes, sha256: file.sha256 }
    };
    Installed {
        name: String::new(),
        publisher: entry.publisher.clone(),
        files: entry.files.iter().map(file).collect(),
        source: entry.source.clone(),
        revision: entry.revision.clone(),
        licence: Licence::unknown(),
        adopted: false,
        signed_by: None,
        origin: None,
        date: String::new(),
    }
}

impl Standing<'_> {
    /// Its state in a word, and what there is to say of it.
    fn words(&self) -> (&'static str, String) {
        match &self.latest {
            Ok(Latest::Same) => ("current", "the same".to_owned()),
            Ok(Latest::Fixed) => ("fixed", "a commit, which stays".to_owned()),
            Ok(Latest::Newer { what, .. }) => ("newer", what.clone()),
            Ok(Latest::Unclear { why }) => ("unclear", why.clone()),
            Err(error) => ("not asked", error.to_string()),
        }
    }

    fn to_row(&self) -> [String; 4] {
        let (state, words) = self.words();
        let locked = self.entry.revision.clone().unwrap_or_else(|| {
            let sha256 = self.entry.files.first().map(|file| file.sha256.to_string());
            let sha256 = sha256.unwrap_or_default();
            format!("sha256 {}", sha256.get(..12).unwrap_or(&sha256))
        });
        // Somebody else's words go to a terminal here.
        let words = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        [self.name.to_owned(), state.to_owned(), locked, words]
    }

    /// As `--json` has it.
    pub(in crate::commands) fn to_json(&self) -> Value {
        let (state, words) = self.words();
        let upgrade_to = match &self.latest {
            Ok(Latest::Newer { source, .. }) => source.as_ref().map(ToString::to_string),
            _ => None,
        };
        json!({
            "name": self.name,
            "state": state,
            "source": self.entry.source,
            "revision": self.entry.revision,
            "now": words,
            "upgrade_to": upgrade_to,
        })
    }
}
