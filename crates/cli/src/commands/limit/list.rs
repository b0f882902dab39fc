//! `freehold limit list`: the limits, and how much of each is left.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ledger::{Reader, Standing};
use serde_json::{Value, json};

use super::KeysArgs;
use crate::commands::Subcommand;
use crate::commands::list::table;
use crate::context::Context;
use crate::ledger::{is_path, wait};
use crate::terminal;

/// List the limits and what is left of them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold limit list
  freehold limit list --json")]
pub(crate) struct List {
    #[command(flatten)]
    ledger: KeysArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for List {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = self.ledger.place(context)?;
        let standings = match is_path(&place) && !Path::new(&place).is_file() {
            true => Vec::new(),
            false => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
                wait(async { Ok(Reader::open(&place).await?.standings(now_us).await?) })?
            }
        };
        if self.json {
            let limits: Vec<Value> = standings.iter().map(Standing::to_json).collect();
            return terminal::print_json(&json!({ "limits": limits }));
        }
        if standings.is_empty() {
            context.note("no limits: freehold limit set makes one");
            return Ok(());
        }
        let head = ["LIMIT", "AMOUNT", "USED", "AT WORK", "LEFT", "THEN"];
        let mut rows = vec![head.map(str::to_owned)];
        for standing in &standings {
            let limit = &standing.limit;
            let numbers = [limit.amount, standing.used, standing.reserved, standing.left()];
            let [amount, used, reserved, left] = numbers.map(|n| limit.what.told(n));
            rows.push([limit.id(), amount, used, reserved, left, limit.then.text()]);
        }
        terminal::print(&table(&rows))
    }
}
