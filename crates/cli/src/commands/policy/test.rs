//! `freehold policy test`: the owner's own cases against the rules.

use std::path::PathBuf;

use policy::{CaseResult, Detector};
use serde_json::{Value, json};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Hold rules against your own cases: facts, and what is expected of them
///
/// Ends with 9 where a case fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold policy test policy.toml tests/policy.toml")]
pub(crate) struct Test {
    /// The rules
    file: PathBuf,
    /// The cases
    cases: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Test {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        let rules = super::read_rules(&self.file)?;
        let detector = Detector::new(rules.settings());
        let name = self.cases.display().to_string();
        let cases = policy::parse_cases(&name, &super::read(&self.cases)?).map_err(super::usage)?;
        let results: Vec<CaseResult> = cases
            .iter()
            .map(|case| case.check(&rules, &detector))
            .collect::<Result<_, _>>()
            .map_err(super::usage)?;
        let n_failed = results.iter().filter(|result| !result.failures.is_empty()).count();
        let n = cases.len();
        if self.json {
            let case = |(case, result): (&policy::Case, &CaseResult)| {
                json!({
                    "name": case.name,
                    "place": case.place.to_string(),
                    "outcome": result.decision.route.name(),
                    "rule": result.decision.rule().map(|rule| &rule.rule),
                    "failures": result.failures,
                })
            };
            let all: Vec<Value> = cases.iter().zip(&results).map(case).collect();
            terminal::print_json(&json!({ "cases": all, "failed": n_failed }))?;
        } else {
            let mut text = String::new();
            for (case, result) in cases.iter().zip(&results) {
                for failure in &result.failures {
                    text.push_str(&format!("{}: case {:?}: {failure}\n", case.place, case.name));
                }
            }
            text.push_str(&format!("{} of {n} cases passed\n", n - n_failed));
            terminal::print_answer(&text)?;
        }
        if n_failed == 0 { Ok(()) } else { Err(Failure::silent(Exit::Refused).into()) }
    }
}
