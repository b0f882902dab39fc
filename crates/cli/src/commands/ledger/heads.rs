//! `freehold ledger heads`: what this node has signed, to be kept elsewhere.

use ledger::Reader;

use super::{LedgerArgs, wait};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::terminal;

/// Print the signed heads, one JSON object a line
///
/// Kept where who can change the ledger cannot change them, they find a ledger that was replaced as
/// a whole, or set back: `freehold ledger verify --heads FILE`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold ledger heads > /media/usb/heads.jsonl
  freehold ledger heads | tail -n 1")]
pub(crate) struct Heads {
    #[command(flatten)]
    ledger: LedgerArgs,
}

impl Subcommand for Heads {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = self.ledger.place(context)?;
        wait(async {
            let reader = Reader::open(&place).await?;
            reader.heads(terminal::print_line).await
        })
    }
}
