//! `freehold record`: looks through the cases that a server has made of real requests, where their
//! senders consented. What is accepted, `freehold test` asks from then on.

mod accept;
mod discard;
mod list;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use server::PENDING_CASES;

use crate::commands::Entry;
use crate::exit::{Exit, Failure};

/// What the group is, for the help.
pub(crate) const ABOUT: &str = "Look through cases that were made of real requests";

/// The subcommands of the group.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<list::List>("list"),
    Entry::of::<show::Show>("show"),
    Entry::of::<accept::Accept>("accept"),
    Entry::of::<discard::Discard>("drop"),
];

/// How the files of cases end.
const ENDING: &str = ".jsonl";
/// Largest one that is read; a server writes them smaller.
const CASE_BYTES_MAX: u64 = 1 << 20;

/// A case that nobody has decided on.
struct Pending {
    /// Its file's name without the ending.
    name: String,
    path: PathBuf,
}

impl Pending {
    /// All in `folder`, by their time.
    fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let pending = folder.join(PENDING_CASES);
        let entries = fs::read_dir(&pending).map_err(|error| {
            let message = format!("{}: {error}, expected a folder of cases", pending.display());
            Failure::new(Exit::NotFound, message)
        })?;
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| pending.display().to_string())?.path();
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(ENDING));
            if let Some(name) = name {
                all.push(Self { name: name.to_owned(), path: path.clone() });
            }
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Those of these names.
    fn named(folder: &Path, names: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut all = Self::all(folder)?;
        for name in names {
            if !all.iter().any(|one| one.name == *name) {
                let message = format!("{name}: no such case in {}", folder.display());
                return Err(Failure::new(Exit::NotFound, message).into());
            }
        }
        all.retain(|one| names.contains(&one.name));
        Ok(all)
    }

    /// What it holds.
    fn read(&self) -> anyhow::Result<Value> {
        let place = || self.path.display().to_string();
        let n_bytes = fs::metadata(&self.path).with_context(place)?.len();
        if n_bytes > CASE_BYTES_MAX {
            let problem = format!("{n_bytes} bytes, expected at most {CASE_BYTES_MAX}");
            return Err(Failure::new(Exit::Usage, format!("{}: {problem}", place())).into());
        }
        let text = fs::read_to_string(&self.path).with_context(place)?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::new(Exit::Usage, format!("{}: {error}, expected a case", place())).into()
        })
    }
}
