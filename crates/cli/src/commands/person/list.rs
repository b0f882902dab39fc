//! `freehold person list`: of whom contents are kept.

use ledger::{Person, Reader};
use serde_json::{Value, json};

use crate::commands::Subcommand;
use crate::commands::ledger::LedgerArgs;
use crate::commands::list::table;
use crate::context::Context;
use crate::ledger::{day, wait};
use crate::numbers;
use crate::terminal;

/// List the persons of whom contents are kept
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold person list
  freehold person list --json")]
pub(crate) struct List {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for List {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = self.ledger.place(context)?;
        let persons = wait(async { Ok(Reader::open(&place).await?.persons().await?) })?;
        if self.json {
            let persons: Vec<Value> = persons.iter().map(to_json).collect();
            return terminal::print_json(&json!({ "persons": persons }));
        }
        if persons.is_empty() {
            context.note("no contents are kept of anybody");
            return Ok(());
        }
        let head = ["NAME", "CONTENTS", "SIZE", "FIRST", "LAST", "UNTIL"].map(str::to_owned);
        let row = |person: &Person| {
            let n_bytes = numbers::bytes(u64::try_from(person.n_bytes).unwrap_or(0));
            let days = [person.first, person.last, person.until].map(day);
            let [first, last, until] = days;
            [person.name.clone(), person.n_contents.to_string(), n_bytes, first, last, until]
        };
        let rows: Vec<_> = [head].into_iter().chain(persons.iter().map(row)).collect();
        terminal::print(&table(&rows))
    }
}

fn to_json(person: &Person) -> Value {
    let Person { name, n_contents, n_bytes, first, last, until } = person;
    json!({
        "name": name, "contents": n_contents, "bytes": n_bytes,
        "first": first, "last": last, "until": until,
    })
}
