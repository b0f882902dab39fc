//! `freehold verify`: hash every byte again.

use serde_json::{Value, json};
use store::{FileState, StoreError, VerifyReport};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::progress::Shown;
use crate::terminal::{self, Colour, paint};

/// Check that installed models are unchanged, byte for byte
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold verify                every installed model
  freehold verify smollm2-135m --json

Exit code 4 means that a file differs from its pin.")]
pub(crate) struct Verify {
    /// Installed names (default: all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Verify {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        let names = if self.names.is_empty() {
            let models: Result<Vec<_>, StoreError> = store.list()?.into_iter().collect();
            models?.iter().map(store::Installed::full_name).collect()
        } else {
            self.names
        };
        if names.is_empty() {
            context.note("no models here yet: nothing to verify");
        }
        let progress = Shown::new(context);
        let mut reports = Vec::new();
        for name in &names {
            let report = store.verify(name, &progress)?;
            if !self.json {
                print(&report)?;
            }
            reports.push(report);
        }
        if self.json {
            let reports: Vec<Value> = reports.iter().map(to_json).collect();
            terminal::print_json(&Value::from(reports))?;
        }
        outcome(&reports)
    }
}

/// The exit code: a difference weighs more than a missing file.
fn outcome(reports: &[VerifyReport]) -> anyhow::Result<()> {
    let has = |wanted: fn(&FileState) -> bool| {
        reports.iter().flat_map(|report| &report.files).any(|file| wanted(&file.state))
    };
    let exit = if has(|state| matches!(state, FileState::Different(_))) {
        Exit::Verification
    } else if has(|state| matches!(state, FileState::Missing)) {
        Exit::NotFound
    } else {
        return Ok(());
    };
    let n_bad = reports.iter().filter(|report| !report.is_intact()).count();
    let message = format!("{n_bad} of {} models are not as pinned", reports.len());
    Err(Failure::new(exit, message).into())
}

fn print(report: &VerifyReport) -> anyhow::Result<()> {
    for file in &report.files {
        let path = file.path.display();
        let stdout = std::io::stdout();
        let line = match &file.state {
            FileState::Intact => format!("{} {path}", paint("intact", Colour::Green, &stdout)),
            FileState::Different(found) => format!(
                "{} {path}: sha256 is {found}, expected {}",
                paint("different", Colour::Red, &stdout),
                file.expected
            ),
            FileState::Missing => format!("{} {path}", paint("missing", Colour::Red, &stdout)),
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
