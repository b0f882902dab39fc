//! `freehold verify`: hash every byte again, and hold it against the lock.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use store::{Difference, FileState, Installed, LockFile, Store, StoreError, VerifyReport};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked;
use crate::progress::Shown;
use crate::terminal::{self, Colour, paint};

/// Check that installed models are unchanged, byte for byte
///
/// With a lock, all that it says of them is checked too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold verify                every installed model
  freehold verify smollm2-135m --json
  freehold verify --lock app/freehold.lock

Exit code 4 means that a file differs from its pin, or a model from the lock.")]
pub(crate) struct Verify {
    /// Installed names (default: all, and those of the lock)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The lock (default: ./freehold.lock, where there is one)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Verify {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        let lock = locked::read(self.lock.as_deref())?;
        let models: Vec<Installed> = store.list()?.into_iter().flatten().collect();
        let (names, absent) = match self.names.is_empty() {
            true => all_names(&store, lock.as_ref().map(|(_, file)| file))?,
            false => (self.names, Vec::new()),
        };
        if names.is_empty() && absent.is_empty() {
            context.note("no models here yet: nothing to verify");
        }
        let progress = Shown::new(context);
        let mut verified = Vec::new();
        for name in &names {
            let report = store.verify(name, &progress)?;
            let installed = store.resolve(name)?;
            let file = lock.as_ref().map(|(_, file)| file);
            let entry =
                file.and_then(|file| file.models.get(file.name_among(&installed, &models)?));
            let differences =
                entry.map(|entry| locked::differences(entry, &installed, &report)).transpose()?;
            let model = Verified { report, differences };
            if !self.json {
                model.print(lock.as_ref().map(|(path, _)| path.as_path()))?;
            }
            verified.push(model);
        }
        if self.json {
            let reports: Vec<Value> = verified.iter().map(Verified::to_json).collect();
            terminal::print_json(&Value::from(reports))?;
        }
        if let Some((path, _)) = &lock {
            for name in &absent {
                context.note(&format!("{name}: in {}, and not installed", path.display()));
            }
        }
        outcome(&verified, absent.len())
    }
}

/// What was found of one model.
struct Verified {
    report: VerifyReport,
    /// From the lock; `None` where it does not list the model.
    differences: Option<Vec<Difference>>,
}

/// The full names of all installed models, and the names of those that only `lock` has.
fn all_names(store: &Store, lock: Option<&LockFile>) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let models: Result<Vec<Installed>, StoreError> = store.list()?.into_iter().collect();
    let models = models?;
    let absent = lock.iter().flat_map(|lock| {
        let is_absent =
            |name: &&String| models.iter().all(|model| lock.name_of(model) != Some(name.as_str()));
        lock.models.keys().filter(is_absent).cloned().collect::<Vec<String>>()
    });
    let absent = absent.collect();
    Ok((models.iter().map(Installed::full_name).collect(), absent))
}

/// The exit code: a difference weighs more than what is missing.
fn outcome(verified: &[Verified], n_absent: usize) -> anyhow::Result<()> {
    let has = |wanted: fn(&FileState) -> bool| {
        let files = verified.iter().flat_map(|model| &model.report.files);
        files.map(|file| &file.state).any(wanted)
    };
    let differs = |model: &&Verified| model.differences.as_ref().is_some_and(|of| !of.is_empty());
    let n_different = verified.iter().filter(differs).count();
    let exit = if has(|state| matches!(state, FileState::Different(_))) || n_different > 0 {
        Exit::Verification
    } else if has(|state| matches!(state, FileState::Missing)) || n_absent > 0 {
        Exit::NotFound
    } else {
        return Ok(());
    };
    let (n_bad, n) =
        (verified.iter().filter(|model| !model.report.is_intact()).count(), verified.len());
    let mut said = Vec::new();
    if n_bad > 0 {
        said.push(format!("{n_bad} of {n} models are not as pinned"));
    }
    if n_different > 0 {
        said.push(format!("{n_different} of {n} models are not as locked"));
    }
    if n_absent > 0 {
        said.push(format!("{n_absent} locked models are not installed"));
    }
    Err(Failure::new(exit, said.join(", ")).into())
}

impl Verified {
    fn print(&self, lock: Option<&Path>) -> anyhow::Result<()> {
        print(&self.report)?;
        let Some(lock) = lock.map(Path::display) else { return Ok(()) };
        let (name, stdout) = (&self.report.name, std::io::stdout());
        match &self.differences {
            None => terminal::print_line(&format!("{name}: not in {lock}")),
            Some(none) if none.is_empty() => {
                let locked = paint("as locked", Colour::Green, &stdout);
                terminal::print_line(&format!("{name}: {locked} in {lock}"))
            }
            Some(differences) => differences.iter().try_for_each(|difference| {
                let label = paint("not as locked", Colour::Red, &stdout);
                terminal::print_line(&format!("{name}: {label} in {lock}: {difference}"))
            }),
        }
    }

    fn to_json(&self) -> Value {
        let mut report = to_json(&self.report);
        let differences = self.differences.as_ref().map(|differences| {
            let one = |of: &Difference| {
                json!({ "item": of.item, "expected": of.expected, "found": of.found })
            };
            differences.iter().map(one).collect::<Vec<Value>>()
        });
        report["lock_differences"] = json!(differences);
        report
    }
}

fn print(report: &VerifyReport) -> anyhow::Result<()> {
    let whose = report.origin.as_ref().map(|of| {
        let path = of.path.display();
        format!("; it is {}'s {path}, changed or removed since it was adopted", of.owner)
    });
    let whose = whose.unwrap_or_default();
    for file in &report.files {
        let path = file.path.display();
        let stdout = std::io::stdout();
        let line = match &file.state {
            FileState::Intact => format!("{} {path}", paint("intact", Colour::Green, &stdout)),
            FileState::Different(found) => format!(
                "{} {path}: sha256 is {found}, expected {}{whose}",
                paint("different", Colour::Red, &stdout),
                file.expected
            ),
            FileState::Missing => {
                format!("{} {path}{whose}", paint("missing", Colour::Red, &stdout))
            }
        };
        terminal::print_line(&format!("{}: {line}", report.name))?;
    }
    Ok(())
}

fn to_json(report: &VerifyReport) -> Value {
    let files: Vec<Value> = report
        .files
        .iter()
        .map(|file| {
            let (state, found) = match &file.state {
                FileState::Intact => ("intact", Some(file.expected.to_string())),
                FileState::Different(found) => ("different", Some(found.to_string())),
                FileState::Missing => ("missing", None),
            };
            json!({
                "path": file.path.display().to_string(),
                "state": state,
                "expected_sha256": file.expected.to_string(),
                "found_sha256": found,
            })
        })
        .collect();
    json!({ "name": report.name, "intact": report.is_intact(), "files": files })
}
