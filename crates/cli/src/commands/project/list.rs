//! `freehold project list`: the groups of keys.

use ledger::Which;
use serde_json::{Value, json};
use server::access::project_to_json;

use super::KeysArgs;
use crate::commands::Subcommand;
use crate::commands::list::table;
use crate::context::Context;
use crate::terminal;

/// List the projects and how many keys each has
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold project list
  freehold project list --json")]
pub(crate) struct List {
    #[command(flatten)]
    keys: KeysArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for List {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let roster = self.keys.roster(context, Which::Live)?;
        if self.json {
            let projects: Vec<Value> = roster.projects.iter().map(project_to_json).collect();
            return terminal::print_json(&json!({ "projects": projects }));
        }
        if roster.projects.is_empty() {
            context.note("no projects: freehold project create NAME makes one");
            return Ok(());
        }
        let mut rows = vec![["NAME", "KEYS", "CONTENTS"].map(str::to_owned)];
        for project in &roster.projects {
            let is_of = |key: &&ledger::Key| key.project.as_ref() == Some(&project.name);
            let n_keys = roster.keys.iter().filter(is_of).count();
            let kept = project.keep.map_or_else(|| "-".to_owned(), |days| format!("{days}d"));
            rows.push([project.name.clone(), n_keys.to_string(), kept]);
        }
        terminal::print(&table(&rows))
    }
}
