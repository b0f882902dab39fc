//! `freehold gc`: gives back the space that nothing needs.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use store::{
    CollectOptions, Collection, Garbage, GarbageKind, History, LOCK_FILE, LockFile, StoreError,
};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked;
use crate::numbers;
use crate::terminal;

/// Remove downloads that were given up, files that no model has, and models over a budget
///
/// Says first what would go and how much that is. Models go only with --budget: those that were
/// used longest ago, and none that a lock names or that `rollback` would go back to. Adopted models
/// and files of other programs never go. A model that is open in a server answers on; it is gone
/// when it is closed there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold gc --dry-run
  freehold gc --yes
  freehold gc --budget 50GiB --lock app/freehold.lock --yes")]
pub(crate) struct Collect {
    /// Also remove models until the rest takes no more than this
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_bytes)]
    budget: Option<u64>,
    /// Take only what was not changed or used for so long: 30m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_time)]
    older_than: Duration,
    /// Keep the models that this lock names (may be repeated; default: ./freehold.lock, if any)
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// Only say what would go
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print what goes as JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Collect {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        let options = CollectOptions {
            min_age: self.older_than,
            budget_bytes: self.budget,
            kept: self.kept(context)?,
        };
        let found = store.garbage(&options)?;
        self.print(context, &found)?;
        if found.garbage.is_empty() || self.dry_run {
            return Ok(());
        }
        if !self.yes && !asks_yes()? {
            return Err(Failure::new(Exit::Usage, "nothing was removed").into());
        }
        let mut n_bytes = 0;
        for garbage in &found.garbage {
            match store.collect(garbage, &options) {
                Ok(freed) => n_bytes += freed,
                Err(error @ StoreError::Busy { .. }) => {
                    context.note(&format!("{error}: left as it is"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        context.note(&format!("{} freed", numbers::bytes(n_bytes)));
        Ok(())
    }
}

impl Collect {
    /// The full names of the models that locks name, and of those that a rollback goes back to.
    fn kept(&self, context: &Context) -> anyhow::Result<BTreeSet<String>> {
        let mut locks: Vec<(PathBuf, LockFile)> = Vec::new();
        for path in &self.lock {
            locks.extend(locked::read(Some(path))?);
        }
        if self.lock.is_empty() {
            locks.extend(locked::read(None)?);
        }
        if self.budget.is_some() && locks.is_empty() {
            context.note(&format!("no {LOCK_FILE} is here: no model is kept for its sake"));
        }
        let mut kept = BTreeSet::new();
        for (path, file) in &locks {
            let history = History::read(path)?;
            for (name, entry) in &file.models {
                kept.insert(entry.full_name(name));
                let line = history.timeline(name, entry);
                let back = line.back.and_then(|back| line.versions[back].entry.as_ref());
                kept.extend(back.map(|back| back.full_name(name)));
            }
        }
        Ok(kept)
    }

    fn print(&self, context: &Context, found: &Collection) -> anyhow::Result<()> {
        if self.json {
            let garbage: Vec<Value> = found.garbage.iter().map(to_json).collect();
            terminal::print_json(&json!({
                "garbage": garbage,
                "bytes": total(found),
                "bytes_over_budget": found.n_bytes_over,
            }))?;
        } else {
            for garbage in &found.garbage {
                let (size, name) = (numbers::bytes(garbage.n_bytes), &garbage.name);
                terminal::print_line(&format!("{size:>10}  {name}: {}", what(garbage)))?;
            }
        }
        if found.garbage.is_empty() {
            context.note("there is nothing to remove");
        } else {
            context.note(&format!("{} in all", numbers::bytes(total(found))));
        }
        if found.n_bytes_over > 0 {
            context.note(&format!(
                "the models that stay are {} over the budget: they are named in a lock, or were \
                 used within --older-than",
                numbers::bytes(found.n_bytes_over)
            ));
        }
        Ok(())
    }
}

fn total(found: &Collection) -> u64 {
    found.garbage.iter().map(|garbage| garbage.n_bytes).sum()
}

/// What it is, in words.
fn what(garbage: &Garbage) -> String {
    let hours = garbage.last_used.elapsed().unwrap_or_default().as_secs() / 3600;
    let (n, unit) = if hours < 48 { (hours, "hours") } else { (hours / 24, "days") };
    match garbage.kind {
        GarbageKind::Download => format!("a download that was given up {n} {unit} ago"),
        GarbageKind::Model => format!("a model that was last used {n} {unit} ago"),
        GarbageKind::Leftover => {
            let paths = garbage.paths.iter().map(|path| path.display().to_string());
            format!("not in its manifest: {}", paths.collect::<Vec<_>>().join(", "))
        }
    }
}

fn to_json(garbage: &Garbage) -> Value {
    let kind = match garbage.kind {
        GarbageKind::Download => "download",
        GarbageKind::Leftover => "leftover",
        GarbageKind::Model => "model",
    };
    let paths: Vec<String> = garbage.paths.iter().map(|path| path.display().to_string()).collect();
    json!({ "kind": kind, "name": garbage.name, "paths": paths, "bytes": garbage.n_bytes })
}

/// Asks on a terminal; elsewhere nobody could answer.
fn asks_yes() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "nothing was removed: no terminal to ask on, expected --yes or --dry-run";
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "Remove all of it? [y/N] ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Reads `30s`, `5m`, `2h`, `7d`, or plain seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let unit = UNITS.iter().find_map(|(unit, n)| Some((text.strip_suffix(unit)?, *n)));
    let (digits, n_seconds) = unit.unwrap_or((text, 1));
    let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(n_seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a time such as 12h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("0", 0), ("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604_800)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "-1d", "1w", "99999999999999999999d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
