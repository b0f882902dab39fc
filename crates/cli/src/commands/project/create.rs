//! `freehold project create`: a new group of keys.

use ledger::Act;
use server::access::KEEP_DAYS_MAX;

use super::KeysArgs;
use crate::commands::Subcommand;
use crate::context::Context;

/// Make a project, to which keys may belong
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold project create shop
  freehold project create support --keep 30   contents of its keys' requests, for 30 days
  freehold key create till --project shop")]
pub(crate) struct Create {
    /// Its name: letters, digits and . _ - @ +
    #[arg(value_name = "NAME")]
    name: String,
    /// Days for which contents of requests with its keys are kept, where a key does not say
    /// (default: as `serve --keep-contents` has it)
    #[arg(long, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(1..=KEEP_DAYS_MAX as i64))]
    keep: Option<u32>,
    #[command(flatten)]
    keys: KeysArgs,
}

impl Subcommand for Create {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        self.keys.act(context, Act::CreateProject { name: self.name.clone(), keep: self.keep })?;
        context.note(&format!("project {} is there", self.name));
        Ok(())
    }
}
