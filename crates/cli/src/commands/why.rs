//! `freehold why`: what an application gets that asks for a name, and where each part comes from.

use std::path::PathBuf;

use gguf::Gguf;
use serde_json::{Value, json};
use server::Alias;
use store::{Difference, History, Installed, LockFile, LockedModel, Move, StoreError};

use crate::aliases::AliasArgs;
use crate::commands::Subcommand;
use crate::context::Context;
use crate::locked;
use crate::numbers;
use crate::terminal;

/// Tell what an application gets that asks for a name
///
/// Aliases are those of the flags, and behind them those of the lock. What is installed goes by the
/// hashes of its manifest; `freehold verify` hashes every byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold why smollm2-135m
  freehold why claude-sonnet --alias 'claude-*=smollm2-135m'")]
pub(crate) struct Why {
    /// What the application asks for
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    aliases: AliasArgs,
    /// The lock (default: ./freehold.lock, where there is one)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All that there is to tell.
struct Answer {
    /// The alias that fits and where it comes from.
    alias: Option<(Alias, String)>,
    installed: Installed,
    found: LockedModel,
    lock: Standing,
}

/// How the model stands to the lock.
enum Standing {
    NoLock,
    NotListed(PathBuf),
    Listed {
        path: PathBuf,
        digest: String,
        differences: Vec<Difference>,
        last_move: Option<Box<Move>>,
    },
}

impl Subcommand for Why {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let lock = locked::read(self.lock.as_deref())?;
        let store = context.store()?;
        // As on the server: a model's own name goes before an alias.
        let version = |name: &str| match &lock {
            Some((_, file)) => file.resolve(&store, name),
            None => store.resolve(name),
        };
        let (alias, installed) = match version(&self.name) {
            Ok(installed) => (None, installed),
            Err(unknown @ (StoreError::UnknownName { .. } | StoreError::InvalidName { .. })) => {
                let alias = self.alias(lock.as_ref().map(|(_, file)| file)).ok_or(unknown)?;
                let installed = version(&alias.0.model)?;
                (Some(alias), installed)
            }
            Err(error) => return Err(error.into()),
        };
        let mut found = locked::observed(&installed, &Gguf::open(installed.path())?)?;
        let lock = match lock {
            None => Standing::NoLock,
            Some((path, file)) => {
                let name = file.name_of(&installed);
                match name.and_then(|name| Some((name, file.models.get(name)?))) {
                    None => Standing::NotListed(path),
                    Some((name, entry)) => {
                        found.installed = entry.installed.as_ref().map(|_| installed.full_name());
                        let digest = entry.digest();
                        let history = History::read(&path)?;
                        let last = history.of(name, digest).last().map(|of| (**of).clone());
                        Standing::Listed {
                            path,
                            digest: digest.to_string(),
                            differences: entry.differences(&found),
                            last_move: last.map(Box::new),
                        }
                    }
                }
            }
        };
        let answer = Answer { alias, installed, found, lock };
        if self.json {
            return terminal::print_json(&answer.to_json());
        }
        terminal::print(&answer.to_text())
    }
}

impl Why {
    /// The first alias that fits, and where it comes from.
    fn alias(&self, lock: Option<&LockFile>) -> Option<(Alias, String)> {
        let flags = self.aliases.all().iter().cloned();
        let flags = flags.map(|alias| (alias, "the command line".to_owned()));
        // The narrowest first: a server takes them in no other order.
        let mut locked: Vec<_> = lock.into_iter().flat_map(|lock| &lock.aliases).collect();
        locked.sort_by_key(|(name, _)| (name.ends_with('*'), std::cmp::Reverse(name.len())));
        let locked = locked.into_iter().map(|(name, model)| {
            let alias = Alias { name: name.clone(), model: model.clone() };
            (alias, "the lock".to_owned())
        });
        let mut all = flags.chain(locked);
        let (alias, from) = all.find(|(alias, _)| alias.fits(&self.name))?;
        let says = lock.and_then(|lock| lock.aliases.get(&alias.name));
        let standing = match says {
            _ if lock.is_none() => String::new(),
            Some(model) if *model == alias.model => ", as locked".to_owned(),
            Some(model) => format!(", and the lock says {model}"),
            None => ", and not locked".to_owned(),
        };
        Some((alias, format!("{from}{standing}")))
    }
}

impl Answer {
    fn to_text(&self) -> String {
        let Self { installed, found, .. } = self;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<11} {value}\n"));
        if let Some((alias, from)) = &self.alias {
            line("alias", &format!("{} -> {} (by {from})", alias.name, alias.model));
        }
        line("model", &format!("{} (installed {})", installed.full_name(), installed.date));
        let revision = found.revision.as_ref().map(|of| format!(", revision {of}"));
        let revision = revision.unwrap_or_default();
        line("source", &format!("{}{revision} (by its manifest)", found.source));
        line("licence", &format!("{} (by its manifest)", found.licence));
        for (file, pinned) in installed.files.iter().zip(&found.files) {
            line("file", &file.path.display().to_string());
            let n_bytes = numbers::grouped(pinned.n_bytes);
            line("", &format!("{n_bytes} bytes, sha256 {} (by its manifest)", pinned.sha256));
        }
        line("runs as", &format!("{} (by its file)", found.architecture));
        let sha256 =
            found.template.as_ref().map(|of| format!("sha256 {} (of its file)", of.sha256));
        line("template", &sha256.unwrap_or_else(|| "none".to_owned()));
        let sha256 = found.tokenizer.map(|sha256| format!("sha256 {sha256} (of its file)"));
        line("tokenizer", &sha256.unwrap_or_else(|| "none".to_owned()));
        let defaults = found.defaults.iter().map(|(name, value)| format!("{name} {value}"));
        let defaults = defaults.collect::<Vec<String>>().join(", ");
        if !defaults.is_empty() {
            line("defaults", &format!("{defaults} (this program's; a request may say others)"));
        }
        line("numerics", &format!("{} (this program's)", found.numerics));
        match &self.lock {
            Standing::NoLock => line("lock", "none is here: `freehold lock` writes one"),
            Standing::NotListed(path) => {
                line("lock", &format!("not in {}: `freehold lock` adds it", path.display()));
            }
            Standing::Listed { path, digest, differences, last_move } => {
                let short = digest.get(..12).unwrap_or(digest);
                let is_as_locked = if differences.is_empty() { "as" } else { "not as" };
                let path = path.display();
                line("lock", &format!("{is_as_locked} {path} says (its entry is {short})"));
                differences.iter().for_each(|difference| line("", &difference.to_string()));
                if let Some(last) = last_move {
                    line("last move", &moved(last));
                }
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let Self { installed, found, .. } = self;
        let files: Vec<Value> = installed
            .files
            .iter()
            .zip(&found.files)
            .map(|(file, pinned)| {
                let path = file.path.display().to_string();
                let sha256 = pinned.sha256.to_string();
                json!({ "path": path, "bytes": pinned.n_bytes, "sha256": sha256 })
            })
            .collect();
        let alias = self
            .alias
            .as_ref()
            .map(|(alias, from)| json!({ "name": alias.name, "model": alias.model, "from": from }));
        let lock = match &self.lock {
            Standing::NoLock => Value::Null,
            Standing::NotListed(path) => {
                json!({ "path": path.display().to_string(), "state": "not locked" })
            }
            Standing::Listed { path, digest, differences, last_move } => {
                let one = |of: &Difference| {
                    let Difference { item, expected, found } = of;
                    json!({ "item": item, "expected": expected, "found": found })
                };
                let state = if differences.is_empty() { "as locked" } else { "not as locked" };
                json!({
                    "path": path.display().to_string(),
                    "state": state,
                    "entry": digest,
                    "differences": differences.iter().map(one).collect::<Vec<Value>>(),
                    "last_move": last_move,
                })
            }
        };
        json!({
            "alias": alias,
            "model": installed.full_name(),
            "source": found.source,
            "revision": found.revision,
            "licence": found.licence,
            "files": files,
            "architecture": found.architecture,
            "template_sha256": found.template.as_ref().map(|of| of.sha256.to_string()),
            "tokenizer_sha256": found.tokenizer.map(|sha256| sha256.to_string()),
            "defaults": found.defaults,
            "numerics": found.numerics,
            "lock": lock,
        })
    }
}

/// A move in one line.
fn moved(of: &Move) -> String {
    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
    let (from, to) = (short(&of.from.digest.to_string()), short(&of.to.to_string()));
    format!("{}, from entry {from} to {to}: {}", of.time, of.why)
}
