//! `freehold project remove`: a group of keys that has none goes.

use ledger::Act;

use super::KeysArgs;
use crate::commands::Subcommand;
use crate::context::Context;

/// Remove a project that has no keys
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold project remove shop")]
pub(crate) struct Remove {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    keys: KeysArgs,
}

impl Subcommand for Remove {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        self.keys.act(context, Act::RemoveProject(self.name.clone()))?;
        context.note(&format!("project {} is removed", self.name));
        Ok(())
    }
}
