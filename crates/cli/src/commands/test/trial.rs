//! A trial before the gate: its flags, and the way from answers to a report and a decision. What is
//! held against what is the caller's.

use std::path::{Path, PathBuf};

use engine::EngineOptions;
use gate::{Candidate, CaseSet, Comparison, Decision, Measures, Report, Results, Rule, Side};
use kernels::KvFormat;
use serde_json::Value;
use store::Tested;

use super::runner::Runner;
use super::{files, measure};
use crate::commands::run::warn_of_threads;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::gate_reports::{GateReports, Occasion};
use crate::interrupt::{Interrupt, Second};
use crate::kv_format;
use crate::locate::{self, Chosen, Missing};
use crate::terminal;

/// The flags of a trial.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct TrialArgs {
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

/// How a trial ended.
pub(in crate::commands) struct Verdict {
    /// Whether the new model passed, and why not.
    pub(in crate::commands) decision: Decision,
    /// The numbers beside another; `None` of one that was alone.
    pub(in crate::commands) tested: Option<Tested>,
}

/// A trial whose cases are read and whose outputs can be written.
pub(in crate::commands) struct Trial<'a> {
    args: &'a TrialArgs,
    pub(super) set: CaseSet,
    pub(super) runner: Runner<'a>,
}

impl TrialArgs {
    /// Reads the cases, before a model is opened.
    ///
    /// # Errors
    /// Cases that cannot be read, an output that cannot be written.
    pub(in crate::commands) fn prepare<'a>(
        &'a self,
        context: &'a Context,
        cases: &Path,
    ) -> anyhow::Result<Trial<'a>> {
        let set = files::read_cases(cases)?;
        let outputs = [&self.junit, &self.json, &self.html];
        outputs.into_iter().flatten().try_for_each(|path| files::check_output(path))?;
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
        Ok(Trial { args: self, set, runner })
    }
}

impl Trial<'_> {
    /// What is expected can be found out in this run, beside another candidate or alone.
    pub(in crate::commands) fn check_needs(&self, has_old: bool) -> anyhow::Result<()> {
        let has_judge = self.args.judge.is_some() || self.set.judge.is_some();
        for expectation in self.set.cases.iter().flat_map(|case| &case.expect) {
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

    /// Has the models here that measuring takes, while they can be fetched.
    ///
    /// # Errors
    /// One that cannot be had.
    pub(in crate::commands) fn fetch_helpers(&self, context: &Context) -> anyhow::Result<()> {
        let needs = |is_it: fn(&gate::Need<'_>) -> bool| {
            let expectations = self.set.cases.iter().flat_map(|case| &case.expect);
            expectations.filter_map(gate::Expectation::need).any(|need| is_it(&need))
        };
        let embedder = self.args.embedder.as_deref().or(self.set.embedder.as_deref());
        let judge = self.args.judge.as_deref().or(self.set.judge.as_deref());
        if needs(|need| matches!(need, gate::Need::Similarity(_))) {
            locate::find(context, embedder.unwrap_or(measure::DEFAULT_EMBEDDER), Missing::Fetch)?;
        }
        if let Some(judge) = judge.filter(|_| needs(|n| matches!(n, gate::Need::Preference { .. })))
        {
            locate::find(context, judge, Missing::Fetch)?;
        }
        Ok(())
    }

    /// The answers of a model to all cases.
    pub(in crate::commands) fn candidate(&self, chosen: Chosen) -> anyhow::Result<Candidate> {
        self.runner.candidate(chosen, &self.set)
    }

    /// Decides on the answers, writes the reports that were asked for, keeps one for the page and
    /// prints one.
    pub(in crate::commands) fn decide(
        &self,
        old: Option<&Candidate>,
        new: &Candidate,
        occasion: Occasion<'_>,
    ) -> anyhow::Result<Verdict> {
        let set = &self.set;
        let [old_measures, new_measures] = self.measure(old, new)?;
        let new_results = gate::judge(set, new, &new_measures);
        let old_results: Option<Results> = old.map(|old| gate::judge(set, old, &old_measures));
        let new = Side { candidate: new, results: &new_results };
        let old = old.zip(old_results.as_ref());
        let old = old.map(|(candidate, results)| Side { candidate, results });
        let comparison = old.map(|old| Comparison::new(set, old, new));
        let rule = Rule::from(self.args.rule).or(set.rule);
        let decision = gate::decide(&rule, set, &new_results, comparison.as_ref());
        let old = old.zip(comparison.as_ref());
        let report = Report { set, new, old, decision: &decision };
        let write = |path: &Option<PathBuf>, render: fn(&Report<'_>) -> String| {
            path.as_deref().map_or(Ok(()), |path: &Path| files::write(path, &render(&report)))
        };
        write(&self.args.junit, gate::junit)?;
        write(&self.args.json, |report| format!("{:#}\n", gate::json(report)))?;
        write(&self.args.html, gate::html)?;
        self.keep(occasion, &gate::kept(&report));
        terminal::print_answer(&gate::text(&report, self.args.diffs))?;
        let tested = comparison.map(|comparison| numbers(&comparison, decision.is_passed()));
        Ok(Verdict { decision, tested })
    }

    /// Keeps a report in the data directory. The decision stands without it.
    fn keep(&self, occasion: Occasion<'_>, report: &Value) {
        let context = self.runner.context;
        if let Err(error) = GateReports::of(&context.home()).keep(occasion, report) {
            context.note(&format!("the report is not kept for the page: {error}"));
        }
    }

    /// What takes further models to find out, of the old candidate and the new one.
    fn measure(&self, old: Option<&Candidate>, new: &Candidate) -> anyhow::Result<[Measures; 2]> {
        let (runner, set) = (&self.runner, &self.set);
        let embedder = self.args.embedder.as_deref().or(set.embedder.as_deref());
        let judge = self.args.judge.as_deref().or(set.judge.as_deref());
        let mut measures = [Measures::new(), Measures::new()];
        measure::similarities(runner, embedder, set, [old, Some(new)], &mut measures)?;
        if let Some(judge) = judge {
            measure::preferences(runner, judge, set, [old, Some(new)], &mut measures)?;
        }
        Ok(measures)
    }
}

/// The numbers that a history keeps.
fn numbers(of: &Comparison, passed: bool) -> Tested {
    Tested {
        passed,
        n_cases: of.compared.len() as u64,
        n_passed_old: of.n_passed[0] as u64,
        n_passed_new: of.n_passed[1] as u64,
        n_lost: of.lost.len() as u64,
        n_won: of.won.len() as u64,
        p_worse: of.p_worse,
        n_answers: of.n_answers as u64,
        n_answers_changed: of.n_answers_changed as u64,
    }
}
