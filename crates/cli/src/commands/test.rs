//! `freehold test`: the behaviour gate. The owner's prompts are answered by a candidate, and by
//! what it is to replace; what the answers are worth and whether the candidate passes is decided
//! in the `gate` crate.

mod files;
mod measure;
mod progress;
mod runner;

use std::path::{Path, PathBuf};

use engine::EngineOptions;
use gate::{Candidate, CaseSet, Comparison, Measures, Report, Results, Rule, Side};
use kernels::KvFormat;

use crate::commands::Subcommand;
use crate::commands::run::warn_of_threads;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, Second};
use crate::kv_format;
use crate::locate::{self, Missing};
use crate::terminal;
use runner::Runner;

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
    /// Write a report as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a report as JSON, with all answers
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Answers that changed to show side by side
    #[arg(long, value_name = "N", default_value_t = 5)]
    diffs: usize,
    #[command(flatten)]
    rule: RuleArgs,
    /// Model that makes vectors, for `similar` (default: that of [gate], else minilm-l6-v2)
    #[arg(long, value_name = "NAME|FILE")]
    embedder: Option<String>,
    /// Model that judges, for `judge` (default: that of [gate])
    #[arg(long, value_name = "NAME|FILE")]
    judge: Option<String>,
    /// Prompts that are answered together
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_SEQUENCES as i64))]
    batch: u16,
    /// Positions of the context (default: the model's own, at most 8192)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, short, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    /// Keys and values of past positions: f16, or q8 for half the memory and a little less exact
    #[arg(long, value_name = "FORMAT", default_value = KvFormat::F16.name(),
          value_parser = kv_format::parser())]
    kv: KvFormat,
}

/// The bounds of the decision; what is not given here is as `[gate]` says.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Decision")]
struct RuleArgs {
    /// Least part of the cases that must pass (default: 1 alone, no bound beside another)
    #[arg(long, value_name = "PART", value_parser = part)]
    min_pass_rate: Option<f64>,
    /// Most that the pass rate may be below the other's (default: 0.02)
    #[arg(long, value_name = "PART", value_parser = part)]
    max_drop: Option<f64>,
    /// Probability from which on losses count as no chance (default: 0.05)
    #[arg(long, value_name = "P", value_parser = part)]
    evidence: Option<f64>,
    /// Most part of the answers that may change (default: no bound)
    #[arg(long, value_name = "PART", value_parser = part)]
    max_changed: Option<f64>,
}

impl From<RuleArgs> for Rule {
    fn from(args: RuleArgs) -> Self {
        let RuleArgs { min_pass_rate, max_drop, evidence, max_changed } = args;
        Self { min_pass_rate, max_drop, evidence, max_changed }
    }
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

impl Subcommand for Test {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let set = files::read_cases(&self.cases)?;
        let outputs = [&self.record, &self.junit, &self.json, &self.html];
        outputs.into_iter().flatten().try_for_each(|path| files::check_output(path))?;
        let baseline = self.baseline.as_deref().map(|path| files::read_record(path, &set));
        let baseline = baseline.transpose()?;
        self.check_needs(&set)?;
        warn_of_threads(context, self.threads);
        let runner = Runner {
            context,
            interrupt: Interrupt::install(Second::Ends)?,
            options: EngineOptions {
                n_threads: self.threads.map(usize::from),
                n_ctx: self.ctx,
                max_sequences: usize::from(self.batch),
                kv_format: self.kv,
                // What is asked at once is bounded by the runner.
                max_waiting_tokens: Some(usize::MAX),
                ..EngineOptions::default()
            },
        };
        let name = self.model.as_deref().unwrap_or_else(|| locate::default_model());
        // One after the other: each has the whole machine, and the memory of one is enough.
        let old = match (&self.against, baseline) {
            (Some(name), _) => Some(self.candidate(&runner, name, &set)?),
            (None, baseline) => baseline,
        };
        let new = self.candidate(&runner, name, &set)?;
        if let Some(path) = &self.record {
            files::write(path, &gate::write(&set, &new))?;
        }
        let measures = self.measure(&runner, &set, old.as_ref(), &new)?;
        self.report(&set, old.as_ref(), &new, &measures)
    }
}

impl Test {
    /// What is expected can be found out in this run.
    fn check_needs(&self, set: &CaseSet) -> anyhow::Result<()> {
        let has_old = self.against.is_some() || self.baseline.is_some();
        let has_judge = self.judge.is_some() || set.judge.is_some();
        for expectation in set.cases.iter().flat_map(|case| &case.expect) {
            let Some(gate::Need::Preference { reference, .. }) = expectation.need() else {
                continue;
            };
            let place = &expectation.place;
            let problem = match (has_judge, has_old || reference.is_some()) {
                (true, true) => continue,
                (false, _) => "expected a model that judges: --judge, or judge in [gate]",
                (_, false) => "expected a reference, or another candidate to be judged beside",
            };
            return Err(Failure::new(Exit::Usage, format!("{place}: judge: {problem}")).into());
        }
        Ok(())
    }

    fn candidate(
        &self,
        runner: &Runner<'_>,
        name: &str,
        set: &CaseSet,
    ) -> anyhow::Result<Candidate> {
        let chosen = locate::find(runner.context, name, Missing::Fetch)?;
        runner.candidate(chosen, set)
    }

    /// What takes further models to find out, of the old candidate and the new one.
    fn measure(
        &self,
        runner: &Runner<'_>,
        set: &CaseSet,
        old: Option<&Candidate>,
        new: &Candidate,
    ) -> anyhow::Result<[Measures; 2]> {
        let embedder = self.embedder.as_deref().or(set.embedder.as_deref());
        let judge = self.judge.as_deref().or(set.judge.as_deref());
        let mut measures = [Measures::new(), Measures::new()];
        measure::similarities(runner, embedder, set, [old, Some(new)], &mut measures)?;
        if let Some(judge) = judge {
            measure::preferences(runner, judge, set, [old, Some(new)], &mut measures)?;
        }
        Ok(measures)
    }

    fn report(
        &self,
        set: &CaseSet,
        old: Option<&Candidate>,
        new: &Candidate,
        [old_measures, new_measures]: &[Measures; 2],
    ) -> anyhow::Result<()> {
        let new_results = gate::judge(set, new, new_measures);
        let old_results: Option<Results> = old.map(|old| gate::judge(set, old, old_measures));
        let new = Side { candidate: new, results: &new_results };
        let old = old.zip(old_results.as_ref());
        let old = old.map(|(candidate, results)| Side { candidate, results });
        let comparison = old.map(|old| Comparison::new(set, old, new));
        let rule = Rule::from(self.rule).or(set.rule);
        let decision = gate::decide(&rule, set, &new_results, comparison.as_ref());
        let old = old.zip(comparison.as_ref());
        let report = Report { set, new, old, decision: &decision };
        let write = |path: &Option<PathBuf>, render: fn(&Report<'_>) -> String| {
            path.as_deref().map_or(Ok(()), |path: &Path| files::write(path, &render(&report)))
        };
        write(&self.junit, gate::junit)?;
        write(&self.json, |report| format!("{:#}\n", gate::json(report)))?;
        write(&self.html, gate::html)?;
        terminal::print_answer(&gate::text(&report, self.diffs))?;
        if decision.is_passed() {
            return Ok(());
        }
        Err(Failure::silent(Exit::Refused).into())
    }
}
