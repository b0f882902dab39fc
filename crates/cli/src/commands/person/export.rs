//! `freehold person export`: everything that is kept of a person.

use ledger::{ContentKeys, Reader};

use crate::commands::Subcommand;
use crate::commands::ledger::LedgerArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::{content_keys, wait};
use crate::terminal;

/// Print everything that is kept of a person, one JSON object a line
///
/// Keys that name the person, what was asked and answered, and the receipts of that.
/// docs/privacy.md says what else there may be, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold person export zoe > zoe.jsonl")]
pub(crate) struct Export {
    /// The name, as `freehold person list` has it
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    ledger: LedgerArgs,
}

impl Subcommand for Export {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = self.ledger.place(context)?;
        let keys = ContentKeys::open(&content_keys(context))?;
        let found = wait(async {
            let reader = Reader::open(&place).await?;
            reader.export_person(&self.name, &keys, terminal::print_line).await
        })?;
        if found.is_nothing() {
            let message =
                format!("person {:?}: nothing is kept of anybody of this name", self.name);
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        if found.n_dark > 0 {
            let n = found.n_dark;
            context.note(&format!("{n} contents cannot be read here: their keys are elsewhere"));
        }
        Ok(())
    }
}
