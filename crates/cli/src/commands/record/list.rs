//! `freehold record list`: the cases that nobody has decided on.

use std::path::PathBuf;

use serde_json::Value;

use super::Pending;
use crate::commands::Subcommand;
use crate::commands::list::table;
use crate::context::Context;
use crate::terminal;

/// Characters of a text that a line shows.
const N_SHOWN: usize = 60;

/// List recorded cases that nobody has decided on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold record list ~/cases")]
pub(crate) struct List {
    /// The folder of `freehold serve --record-cases`
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl Subcommand for List {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut rows = vec![["NAME", "ASKED", "EXPECTED"].map(str::to_owned)];
        for case in Pending::all(&self.folder)? {
            let found = case.read()?;
            let asked = found["text"].as_str().map_or_else(|| last_of(&found["messages"]), shown);
            rows.push([case.name, asked, shown(&found["expect"].to_string())]);
        }
        if rows.len() == 1 {
            context.note("no cases wait here");
            return Ok(());
        }
        terminal::print(&table(&rows))
    }
}

/// What the last message says.
fn last_of(messages: &Value) -> String {
    let last = messages.as_array().and_then(|messages| messages.last());
    match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => shown(text),
        Some(other) => shown(&other.to_string()),
        None => String::new(),
    }
}

/// The beginning of somebody else's text, in one plain line.
fn shown(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(N_SHOWN).collect();
    if line.len() < text.len() { format!("{line}…") } else { line }
}
