//! `freehold policy explain`: which rule decides, and why those before it did not.

use std::path::PathBuf;

use policy::{Decision, Detector, Facts, Route, decide};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::terminal;

/// Tell which rule decides about a request, and why those before it did not
///
/// What is not said of the request is not known: that holds in rules that keep or refuse, and does
/// not in rules that may send.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Facts: key_label, header_label (public, internal, private), key, project, alias, route, tokens,
context, needs (tools, images, json_schema, none), time (HH:MM), weekday (mon to sun), budget,
queue, health (ok, slow, down), detected (classes, none), here_problem, down (upstreams).

Examples:
  freehold policy explain policy.toml --request key_label=public alias=gpt-4o tokens=1200
  freehold policy explain policy.toml --request needs=images,tools detected=none --json
  freehold policy explain policy.toml --text 'my IBAN is DE89 3704 0044 0532 0130 00'")]
pub(crate) struct Explain {
    /// The rules
    file: PathBuf,
    /// What is known of the request
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., value_parser = pair)]
    request: Vec<(String, String)>,
    /// Contents of the request, in which something may be detected
    #[arg(long)]
    text: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Subcommand for Explain {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        let rules = super::read_rules(&self.file)?;
        let mut facts = Facts::from_pairs(&self.request).map_err(super::usage)?;
        if let Some(text) = &self.text {
            let found = Detector::new(rules.settings()).find(text).map_err(super::usage)?;
            let classes = found.into_iter().map(|one| one.class);
            facts.detected.get_or_insert_default().extend(classes);
        }
        let decision = decide(&rules, &facts);
        if self.json {
            return terminal::print_json(&server::explained(&decision));
        }
        terminal::print_answer(&to_text(&decision))
    }
}

/// The decision first, then how it came about.
fn to_text(decision: &Decision) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<9} {value}\n"));
    let route = &decision.route;
    let word = route.name();
    match (route.departure(), route) {
        (Some(departure), _) => {
            let redacted = if departure.is_redacted() { ", redacted" } else { "" };
            line("outcome", &format!("{word}: {}{redacted}", departure.upstream()));
        }
        (None, Route::Refuse { reason }) => line("outcome", &format!("{word}: {reason}")),
        (None, _) => line("outcome", word),
    }
    decision.notes.iter().for_each(|note| line("", note));
    match decision.rule() {
        Some(rule) => {
            line("rule", &format!("{:?} (line {})", rule.rule, rule.line));
            rule.assumed.iter().for_each(|assumed| {
                line("", &format!("{assumed}, which holds in a rule that sends nothing"));
            });
        }
        None => line("rule", "none fits: here, where it can be answered here"),
    }
    line("label", decision.label.name());
    decision.label_because.iter().for_each(|because| line("", because));
    for passed in decision.considered.iter().filter(|rule| !rule.why_not.is_empty()) {
        line("not", &format!("{:?} (line {})", passed.rule, passed.line));
        passed.why_not.iter().for_each(|why_not| line("", why_not));
    }
    text
}
