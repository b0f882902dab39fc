//! `freehold test`: the behaviour gate. The owner's prompts are answered by a candidate, and by
//! what it is to replace; what the answers are worth and whether the candidate passes is decided
//! in the `gate` crate.

mod files;
mod measure;
mod progress;
mod runner;
mod trial;

use std::path::PathBuf;

use gate::Candidate;

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::gate_reports::Occasion;
use crate::locate::{self, Missing};
use crate::network::give_up_network;
pub(in crate::commands) use trial::{Trial, TrialArgs, Verdict};

/// Hold a model against your own prompts and what you expect of the answers
///
/// Reads cases from the files *.toml and *.jsonl of a folder, asks the model all of them, and ends
/// with 0 only if it passes. With --against or --baseline it must also not be worse than what it is
/// to replace. docs/gate.md has the form of cases and the rule of the decision.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold test                                    the default model, cases in ./tests
  freehold test ./new.gguf --against smollm2-135m  is the new one as good as the old one?
  freehold test --record answers.jsonl             keep the answers, then later:
  freehold test ./new.gguf --baseline answers.jsonl --max-changed 0.1 --html report.html")]
pub(crate) struct Test {
    /// The candidate: installed or catalogue name, or a GGUF file (default: the catalogue's default
    /// model)
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// What it is to replace, which answers the same prompts
    #[arg(long, value_name = "MODEL", conflicts_with = "baseline")]
    against: Option<String>,
    /// The recorded answers of what it is to replace, from --record
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Folder with files of cases (*.toml, *.jsonl), or one such file
    #[arg(long, value_name = "FOLDER|FILE", default_value = "tests")]
    cases: PathBuf,
    /// Write the candidate's answers, for a later --baseline
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    trial: TrialArgs,
}

impl Subcommand for Test {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let inherited = egress::open_sockets();
        let trial = self.trial.prepare(context, &self.cases)?;
        self.record.iter().try_for_each(|path| files::check_output(path))?;
        let baseline = self.baseline.as_deref().map(|path| files::read_record(path, &trial.set));
        let baseline = baseline.transpose()?;
        trial.check_needs(self.against.is_some() || baseline.is_some())?;
        let name = self.model.as_deref().unwrap_or_else(|| locate::default_model());
        for model in [self.against.as_deref(), Some(name)].into_iter().flatten() {
            locate::find(context, model, Missing::Fetch)?;
        }
        trial.fetch_helpers(context)?;
        give_up_network(context, &inherited);
        // One after the other: each has the whole machine, and the memory of one is enough.
        let old = match (&self.against, baseline) {
            (Some(name), _) => Some(candidate(context, &trial, name)?),
            (None, baseline) => baseline,
        };
        let new = candidate(context, &trial, name)?;
        if let Some(path) = &self.record {
            files::write(path, &gate::write(&trial.set, &new))?;
        }
        let occasion = Occasion { step: "test", subject: name };
        if trial.decide(old.as_ref(), &new, occasion)?.decision.is_passed() {
            return Ok(());
        }
        Err(Failure::silent(Exit::Refused).into())
    }
}

fn candidate(context: &Context, trial: &Trial<'_>, name: &str) -> anyhow::Result<Candidate> {
    trial.candidate(locate::find(context, name, Missing::Fetch)?)
}
