//! `freehold limit remove`: there is no such limit any more.

use super::{OWNER, Which, change};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Remove a limit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold limit remove key:anna tokens --per day
  freehold limit remove all concurrent")]
pub(crate) struct Remove {
    #[command(flatten)]
    which: Which,
}

impl Subcommand for Remove {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let id = self.which.limit(0)?.id();
        let remove = async |ledger: &ledger::Ledger| ledger.remove_limit(&id, OWNER).await;
        if !change(context, &self.which.ledger, remove)? {
            let message = format!("limit {id:?}: there is none; freehold limit list has all");
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        context.note(&format!("limit {id:?} is removed"));
        Ok(())
    }
}
