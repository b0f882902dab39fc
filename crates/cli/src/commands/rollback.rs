//! `freehold rollback`: the lock says again what it said before. Nothing is fetched or tested.

use std::path::{Path, PathBuf};

use gguf::Gguf;
use store::{History, LockedModel, Planned, Progress, Step, Store, StoreError, Timeline};

use crate::commands::Subcommand;
use crate::commands::list::table;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked;
use crate::progress::Shown;
use crate::terminal;

/// Go back to what the lock said before the last upgrade
///
/// At once: the files of the former version are still here, and are checked before anything moves.
/// Once more goes further back; --to goes to any version, forward too. Each is one more move in
/// freehold.lock.history.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold rollback smollm2-135m
  freehold rollback smollm2-135m --list      the versions that there were
  freehold rollback smollm2-135m --to 3      to that one")]
pub(crate) struct Rollback {
    /// A model or an alias of the lock
    #[arg(value_name = "NAME|ALIAS")]
    name: String,
    /// The number of a version, as --list shows it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    /// Show the versions and move nothing
    #[arg(long, conflicts_with_all = ["to", "why"])]
    list: bool,
    /// Why, in a line, for the history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// The lock (default: ./freehold.lock)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

impl Subcommand for Rollback {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let (path, lock) = locked::read_some(self.lock.as_deref())?;
        if self.list {
            let (name, from) = locked::entry_of(&path, &lock, &self.name)?;
            let timeline = History::read(&path)?.timeline(name, from);
            return terminal::print(&table(&rows(name, &timeline)));
        }
        let wanted = Wanted { name: &self.name, to: self.to, why: self.why };
        let told = roll_back(&context.store()?, &path, wanted, &Shown::if_slow(context))?;
        context.note(&told);
        context.note(locked::TAKEN_UP);
        Ok(())
    }
}

/// What is to be gone back to.
pub(in crate::commands) struct Wanted<'a> {
    /// A model or an alias of the lock.
    pub(in crate::commands) name: &'a str,
    /// The number of the version; `None`: what the lock said before the last move.
    pub(in crate::commands) to: Option<u32>,
    /// A line for the history.
    pub(in crate::commands) why: Option<String>,
}

/// Has the lock at `path` say again what it said. Returns what came of it.
///
/// # Errors
/// No such version; one that is not here as the lock said it; a lock that does not allow it.
pub(in crate::commands) fn roll_back(
    store: &Store,
    path: &Path,
    Wanted { name, to, why }: Wanted<'_>,
    progress: &dyn Progress,
) -> anyhow::Result<String> {
    let (path, lock) = locked::read_some(Some(path))?;
    let (name, from) = locked::entry_of(&path, &lock, name)?;
    let timeline = History::read(&path)?.timeline(name, from);
    let not_found = |message: String| Failure::new(Exit::NotFound, message);
    let n_versions = timeline.versions.len();
    let wanted = match to {
        Some(number) => (number as usize).saturating_sub(1),
        None => timeline.back.ok_or_else(|| {
            let history = History::path_of(&path);
            not_found(format!("{name}: nothing is behind it in {}", history.display()))
        })?,
    };
    if wanted == timeline.now {
        return Ok(format!("{name} is at version {} already", wanted + 1));
    }
    let version = timeline.versions.get(wanted).ok_or_else(|| {
        not_found(format!("{name}: version {}, expected 1 to {n_versions}", wanted + 1))
    })?;
    let to = version.entry.as_ref().ok_or_else(|| {
        let digest = version.digest;
        not_found(format!("{name}: the lock left {digest} without a move: nobody has it"))
    })?;
    lock.check_licence(name, &to.licence, &path)?;
    check(store, &path, (name, to), progress)?;
    let why = why.unwrap_or_else(|| format!("rollback to version {}", wanted + 1));
    let step = Step::Rollback;
    let planned = Planned { name, step, from, to, gate: None, forced: false, why };
    History::make(&path, planned)?;
    Ok(format!(
        "{name} is {} again (version {} of {n_versions}); `freehold rollback {name} --to {}` \
         undoes this",
        to.full_name(name),
        wanted + 1,
        timeline.now + 1
    ))
}

/// That the version `to` is here as the lock said it, and would be answered with.
fn check(
    store: &Store,
    lock: &Path,
    (name, to): (&str, &LockedModel),
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    let full_name = to.full_name(name);
    let installed = store.resolve(&full_name).map_err(|error| match error {
        StoreError::UnknownName { .. } => {
            let remedy = locked::remedy(&to.source, &full_name);
            let message = format!("{full_name} is not here any more, nothing was moved: {remedy}");
            Failure::new(Exit::NotFound, message).into()
        }
        error => anyhow::Error::from(error),
    })?;
    store.ensure_intact(&installed, progress)?;
    let found = locked::observed_as(to, &installed, &Gguf::open(installed.path())?)?;
    let differences = to.differences(&found);
    if differences.is_empty() {
        return Ok(());
    }
    let lock = History::path_of(lock);
    Err(StoreError::NotAsLocked { name: full_name, lock, differences }.into())
}

/// The versions, and where the lock stands.
fn rows(name: &str, timeline: &Timeline) -> Vec<[String; 5]> {
    let header = ["", "VERSION", "ENTRY", "SINCE", "INSTALLED AS"].map(str::to_owned);
    let versions = timeline.versions.iter().enumerate().map(|(idx, version)| {
        let digest = version.digest.to_string();
        let mark = if idx == timeline.now {
            "now"
        } else if Some(idx) == timeline.back {
            "back"
        } else {
            ""
        };
        [
            mark.to_owned(),
            (idx + 1).to_string(),
            digest.get(..12).unwrap_or(&digest).to_owned(),
            version.since.clone().unwrap_or_else(|| "before all moves".to_owned()),
            version.entry.as_ref().map_or_else(|| "unknown".to_owned(), |of| of.full_name(name)),
        ]
    });
    std::iter::once(header).chain(versions).collect()
}
