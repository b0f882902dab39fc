//! `freehold policy detect`: what is detected in a text, and the text without it.

use std::path::PathBuf;

use policy::{Detection, Detector, Pseudonyms, Settings};
use serde_json::{Value, json};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::stdin;
use crate::terminal;

/// Find personal data and secrets in the text on stdin, and print it with pseudonyms instead
///
/// The values themselves are told nowhere. What is found goes to stderr, the text to stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold policy detect < letter.txt
  freehold policy detect --policy policy.toml --json < letter.txt")]
pub(crate) struct Detect {
    /// Rules, of which [detect] counts: names, and the least confidence
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print JSON, with the places in bytes
    #[arg(long)]
    json: bool,
}

impl Subcommand for Detect {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let settings = match &self.policy {
            Some(path) => super::read_rules(path)?.settings().clone(),
            None => Settings::default(),
        };
        let text = stdin::read_all()?;
        let mut pseudonyms = Pseudonyms::new();
        let detector = Detector::new(&settings);
        let redacted = pseudonyms.redact(&detector, &text).map_err(super::usage)?;
        if self.json {
            let detection = |one: &Detection| {
                json!({
                    "class": one.class.name(),
                    "start": one.range.start,
                    "end": one.range.end,
                    // As it is written, not as a double of it.
                    "confidence": (f64::from(one.confidence) * 100.0).round() / 100.0,
                })
            };
            let detections: Vec<Value> = redacted.detections.iter().map(detection).collect();
            return terminal::print_json(&json!({
                "detections": detections,
                "counts": redacted.counts,
                "redacted": redacted.text,
            }));
        }
        for (class, n) in &redacted.counts {
            context.note(&format!("{class}: {n}"));
        }
        terminal::print_answer(&redacted.text)
    }
}
