//! `freehold project create`: a new group of keys.

use ledger::Act;

use super::KeysArgs;
use crate::commands::Subcommand;
use crate::context::Context;

/// Make a project, to which keys may belong
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold project create shop
  freehold key create till --project shop")]
pub(crate) struct Create {
    /// Its name: letters, digits and . _ - @ +
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    keys: KeysArgs,
}

impl Subcommand for Create {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        self.keys.act(context, Act::CreateProject(self.name.clone()))?;
        context.note(&format!("project {} is there", self.name));
        Ok(())
    }
}
