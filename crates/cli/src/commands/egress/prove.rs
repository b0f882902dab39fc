//! `freehold egress prove`: tries to get out of a locked process, in every way that is known.

use std::process::Command;

use anyhow::Context as _;
use egress::{Attempt, Outcome};
use serde_json::json;

use super::broker;
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Try to get out of a locked process, in every way that is known, and print what happened
///
/// Each way is tried twice, by a process of its own and to a target on this machine: without the
/// lock, which shows that it works here at all, and locked as `freehold serve` is. Ends with 1 if
/// anything got out, or if this system cannot lock. docs/egress.md says what it means.
///
/// With --broker the process is locked as the broker is, which reaches upstreams: one address is
/// listed. Then a broker of its own is asked for what it is not to send.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold egress prove
  freehold egress prove --broker
  freehold egress prove --json")]
pub(crate) struct Prove {
    /// Try it from a process that may reach one address, and what a broker can be talked into
    #[arg(long)]
    broker: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Subcommand for Prove {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        // A process that makes one attempt is this command once more.
        if let Some(line) = egress::attempt() {
            return terminal::print_line(&line);
        }
        let program = std::env::current_exe().context("find this program")?;
        let child = || {
            let mut command = Command::new(&program);
            command.args(["egress", "prove"]);
            command
        };
        let attempts = if self.broker {
            let locked = egress::prove_gate(&child)?;
            [locked, broker::attempts()?].concat()
        } else {
            egress::prove(&child)?
        };
        if self.json {
            terminal::print_json(&to_json(&attempts))?;
        } else {
            terminal::print(&to_text(&attempts))?;
        }
        let n_of = |outcome| attempts.iter().filter(|attempt| attempt.outcome == outcome).count();
        let n_out = n_of(Outcome::GotOut);
        let n_allowed = n_of(Outcome::Allowed);
        let allowed = if self.broker { format!(", {n_allowed} allowed") } else { String::new() };
        context.note(&format!(
            "{} refused, {n_out} got out, {} not testable here{allowed}",
            n_of(Outcome::Refused),
            n_of(Outcome::NotTestable)
        ));
        if n_out > 0 { Err(Failure::silent(Exit::Failed).into()) } else { Ok(()) }
    }
}

fn to_json(attempts: &[Attempt]) -> serde_json::Value {
    let attempts: Vec<serde_json::Value> = attempts
        .iter()
        .map(|attempt| {
            let result = attempt.outcome.name();
            json!({"way": attempt.way, "result": result, "evidence": attempt.evidence})
        })
        .collect();
    json!({ "attempts": attempts })
}

/// One line for each, what got out first.
fn to_text(attempts: &[Attempt]) -> String {
    let width = attempts.iter().map(|attempt| attempt.way.len()).max().unwrap_or_default();
    let order = [Outcome::GotOut, Outcome::Allowed, Outcome::Refused, Outcome::NotTestable];
    let sorted = order
        .iter()
        .flat_map(|outcome| attempts.iter().filter(move |attempt| attempt.outcome == *outcome));
    let line = |attempt: &Attempt| {
        let Attempt { way, evidence, .. } = attempt;
        format!("{:12}  {way:width$}  {evidence}\n", attempt.outcome.name())
    };
    sorted.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_got_out_comes_first() {
        let of = |way, outcome| Attempt { way, outcome, evidence: "why".to_owned() };
        let attempts = [of("one", Outcome::Refused), of("other", Outcome::GotOut)];
        let expected = "got out       other  why\nrefused       one    why\n";
        assert_eq!(to_text(&attempts), expected);
        let first = &to_json(&attempts)["attempts"][0];
        assert_eq!(*first, json!({"way": "one", "result": "refused", "evidence": "why"}));
    }
}
