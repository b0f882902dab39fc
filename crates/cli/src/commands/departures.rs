//! `freehold departures`: what left for other servers, and what became of it.

use clap::builder::RangedU64ValueParser;
use ledger::{Kind, Reader};
use serde_json::Value;
use server::departures::{self, LIST_MAX};

use super::Subcommand;
use crate::context::Context;
use crate::ledger::{needed_place, wait};
use crate::terminal;

/// List what left for other servers, the newest first
///
/// Names, numbers and the hash of what left, never contents. Each is written before it leaves.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold departures
  freehold departures --last 1000 --json > departures.json")]
pub(crate) struct List {
    /// The ledger: a SQLite file, or postgres://USER@HOST/NAME with the password in PGPASSWORD
    /// (default: ledger.sqlite in the data directory)
    #[arg(long, value_name = "PATH|URL")]
    ledger: Option<String>,
    /// Most departures that are listed
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    last: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for List {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = needed_place(context, self.ledger.as_deref())?;
        let listed = wait(async { Ok(list(&Reader::open(&place).await?, self.last).await?) })?;
        if self.json {
            return terminal::print_json(&Value::from(listed));
        }
        if listed.is_empty() {
            context.note("nothing left");
        }
        terminal::print_answer(&listed.iter().map(line).collect::<String>())
    }
}

async fn list(reader: &Reader, n: usize) -> Result<Vec<Value>, ledger::LedgerError> {
    let (mut all, mut before) = (Vec::new(), None::<String>);
    let n_rows = 2 * LIST_MAX;
    loop {
        let entries = reader.before(Kind::Departure, before.as_deref(), n_rows).await?;
        let is_all = entries.len() < n_rows;
        let (listed, next) = departures::list(entries, is_all);
        all.extend(listed);
        before = next;
        if before.is_none() || all.len() >= n {
            all.truncate(n);
            return Ok(all);
        }
    }
}

/// One departure in a line.
fn line(left: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let end = &left["end"];
    let outcome = end["outcome"].as_str().unwrap_or("no end is recorded");
    let redacted: Vec<String> = left["redacted"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(class, n)| format!("{class} {n}"))
        .collect();
    let redacted = match &redacted[..] {
        [] => String::new(),
        some => format!(", redacted {}", some.join(", ")),
    };
    let cost = match (end["cost"]["micro"].as_i64(), end["cost"]["currency"].as_str()) {
        (Some(micro), Some(currency)) => format!(", {} {currency}", meter::amount(micro)),
        _ => String::new(),
    };
    format!(
        "{} {}/{} {} by {:?} for {}: {}, {} bytes, {} + {} tokens{cost}{redacted}\n",
        text(&left["id"]),
        text(&left["upstream"]),
        text(&left["model"]),
        text(&left["label"]),
        text(&left["rule"]),
        text(&left["key"]),
        outcome,
        left["n_bytes"],
        end["n_prompt"].as_u64().unwrap_or(0),
        end["n_answer"].as_u64().unwrap_or(0),
    )
}
