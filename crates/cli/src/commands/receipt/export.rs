//! `freehold receipt export`: the receipt of an answer as a file for somebody else.

use crate::commands::Subcommand;
use crate::context::Context;
use crate::ledger::LedgerArgs;
use crate::terminal;

/// Print the receipt of an answer as JSON, signed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold receipt export chatcmpl-0123456789abcdef > receipt.json")]
pub(crate) struct Export {
    /// The id of the answer
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    ledger: LedgerArgs,
}

impl Subcommand for Export {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        terminal::print_line(&self.ledger.receipt(context, &self.id)?)
    }
}
