//! `freehold diff`: what differs between two locks, or a lock and what is installed, in words.

mod lines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gguf::Gguf;
use serde_json::{Value, json};
use store::{Difference, LOCK_FILE, LockFile, LockedModel, Store, StoreError};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked;
use crate::terminal;

/// Tell in words what differs between two locks, or a lock and what is installed
///
/// What is installed goes by the hashes of its manifest; `freehold verify` hashes every byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold diff                              freehold.lock and what is installed
  freehold diff old.lock new.lock
  git show HEAD~1:freehold.lock > old.lock && freehold diff old.lock freehold.lock

Exit code 4 means that something differs.")]
pub(crate) struct Diff {
    /// The lock to compare
    #[arg(value_name = "OLD", default_value = LOCK_FILE)]
    old: PathBuf,
    /// The lock to compare with (default: what is installed)
    #[arg(value_name = "NEW")]
    new: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of a model, an alias or a line of allowed licences.
enum Change {
    Added(String),
    Removed(String),
    Changed { name: String, differences: Vec<Difference>, template: Option<String> },
}

impl Subcommand for Diff {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let old = read(&self.old)?;
        let new = match &self.new {
            Some(path) => read(path)?,
            None => installed(&context.store()?, &old)?,
        };
        let changes = changes(&old, &new);
        if self.json {
            let changes: Vec<Value> = changes.iter().map(to_json).collect();
            terminal::print_json(&Value::from(changes))?;
        } else {
            terminal::print(&changes.iter().map(to_text).collect::<String>())?;
        }
        if changes.is_empty() {
            context.note("nothing differs");
            return Ok(());
        }
        Err(Failure::silent(Exit::Verification).into())
    }
}

/// In what the models that are installed are otherwise than `lock` says, as `--json` has it.
///
/// # Errors
/// One that cannot be read.
pub(in crate::commands) fn of_installed(
    store: &Store,
    lock: &LockFile,
) -> anyhow::Result<Vec<Value>> {
    let found = installed(store, lock)?;
    Ok(changes(lock, &found).iter().map(to_json).collect())
}

fn read(path: &Path) -> anyhow::Result<LockFile> {
    let found = locked::read(Some(path))?;
    Ok(found.map(|(_, file)| file).unwrap_or_default())
}

/// What `lock` would be if it were written now: its models as they are installed, the rest as it
/// is.
fn installed(store: &Store, lock: &LockFile) -> anyhow::Result<LockFile> {
    let mut found = lock.clone();
    found.models.clear();
    for (name, entry) in &lock.models {
        let model = match store.resolve(&entry.full_name(name)) {
            Err(StoreError::UnknownName { .. }) => store.resolve(name),
            result => result,
        };
        let model = match model {
            Ok(model) => model,
            Err(StoreError::UnknownName { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let file = Gguf::open(model.path())?;
        found.models.insert(name.clone(), locked::observed_as(entry, &model, &file)?);
    }
    Ok(found)
}

fn changes(old: &LockFile, new: &LockFile) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, old) in &old.models {
        match new.models.get(name) {
            None => changes.push(Change::Removed(name.clone())),
            Some(new) => {
                let differences = old.differences(new);
                if !differences.is_empty() {
                    let (name, template) = (name.clone(), template(old, new));
                    changes.push(Change::Changed { name, differences, template });
                }
            }
        }
    }
    let added = new.models.keys().filter(|name| !old.models.contains_key(*name));
    changes.extend(added.cloned().map(Change::Added));
    let item = "the model it stands for";
    named_lines(("alias", item), &old.aliases, &new.aliases, &mut changes);
    let joined = |of: &BTreeMap<String, Vec<String>>| {
        let lines = of.iter().map(|(name, list)| (name.clone(), list.join(", ")));
        lines.collect::<BTreeMap<_, _>>()
    };
    for (title, was, is) in [
        (("licences of", "the licences allowed"), &old.licences, &new.licences),
        (("signers of", "the keys believed"), &old.signers, &new.signers),
    ] {
        named_lines(title, &joined(was), &joined(is), &mut changes);
    }
    changes
}

/// What two tables of one line a name do not have alike: what the names
/// are of, and what the lines say.
fn named_lines(
    (kind, item): (&str, &str),
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    changes: &mut Vec<Change>,
) {
    for (name, before) in old {
        let title = format!("{kind} {name}");
        match new.get(name) {
            None => changes.push(Change::Removed(title)),
            Some(now) if now == before => {}
            Some(now) => {
                let item = item.to_owned();
                let (expected, found) = (before.clone(), now.clone());
                let differences = vec![Difference { item, expected, found }];
                changes.push(Change::Changed { name: title, differences, template: None });
            }
        }
    }
    let added = new.keys().filter(|name| !old.contains_key(*name));
    changes.extend(added.map(|name| Change::Added(format!("{kind} {name}"))));
}

/// The lines in which the chat templates differ, where both texts are known and do.
fn template(old: &LockedModel, new: &LockedModel) -> Option<String> {
    let text = |of: &LockedModel| of.template.as_ref()?.text.clone();
    let (old, new) = (text(old)?, text(new)?);
    if old == new { None } else { lines::diff(&old, &new) }
}

fn to_text(change: &Change) -> String {
    match change {
        Change::Added(name) => format!("{name}: only in the new one\n"),
        Change::Removed(name) => format!("{name}: only in the old one\n"),
        Change::Changed { name, differences, template } => {
            let mut text = format!("{name}\n");
            for Difference { item, expected, found } in differences {
                text.push_str(&format!("  {item}: {expected} -> {found}\n"));
            }
            if differences.iter().all(|of| !of.item.starts_with("tensors "))
                && differences.iter().any(|of| of.item.starts_with("file "))
            {
                text.push_str("  all tensors have the formats they had\n");
            }
            for line in template.iter().flat_map(|template| template.lines()) {
                // A template may hold anything; a terminal gets its plain characters.
                let line: String = line.chars().filter(|c| !c.is_control()).collect();
                text.push_str(&format!("    {line}\n"));
            }
            text
        }
    }
}

fn to_json(change: &Change) -> Value {
    match change {
        Change::Added(name) => json!({ "name": name, "change": "added" }),
        Change::Removed(name) => json!({ "name": name, "change": "removed" }),
        Change::Changed { name, differences, template } => {
            let differences: Vec<Value> = differences
                .iter()
                .map(|of| json!({ "item": of.item, "old": of.expected, "new": of.found }))
                .collect();
            json!({
                "name": name,
                "change": "changed",
                "differences": differences,
                "template": template,
            })
        }
    }
}
