//! `freehold limit set`: a limit, from now on.

use ledger::{Limit, Then};

use super::{OWNER, Which, change};
use crate::commands::Subcommand;
use crate::context::Context;

/// Set a limit, in the place of the one that is there
///
/// What was used before in its time counts. Servers of the ledger hold requests to it within about
/// a second.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
docs/limits.md says what counts and when.

Examples:
  freehold limit set key:anna tokens 200000 --per day
  freehold limit set project:shop,model:qwen3-8b requests 1000 --per hour --then alias:small
  freehold limit set all concurrent 8 --then queue")]
pub(crate) struct Set {
    #[command(flatten)]
    which: Which,
    /// How much there may be
    #[arg(value_name = "AMOUNT")]
    amount: String,
    /// What becomes of a request that does not fit: refuse, queue, or alias:NAME
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    then: String,
}

impl Subcommand for Set {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let amount = self.which.what.read_amount(&self.amount)?;
        let limit = Limit { then: Then::read(&self.then)?, ..self.which.limit(amount)? };
        let (id, told) = (limit.id(), limit.what.told(amount));
        let set = async |ledger: &ledger::Ledger| ledger.set_limit(limit, OWNER).await;
        let was_there = change(context, &self.which.ledger, set)?;
        let done = if was_there { "changed" } else { "set" };
        context.note(&format!("limit {id:?} is {done}: {told}, then {}", self.then));
        Ok(())
    }
}
