//! `freehold ledger export`: the ledger as lines that can be checked elsewhere.

use clap::builder::PossibleValuesParser;
use ledger::{Kind, Reader};

use super::{LedgerArgs, wait};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::terminal;

/// Print the ledger, one JSON object a line, with all that is needed to check it
///
/// `freehold ledger verify --export FILE` checks it without the ledger. Of rows of other kinds than
/// the one asked for only hashes are printed: they tell nothing, and the chain can be checked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold ledger export > ledger.jsonl
  freehold ledger export --kind audit | gzip > audit.jsonl.gz
  freehold ledger export --since 1201 >> more.jsonl")]
pub(crate) struct Export {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// The first row
    #[arg(long, value_name = "SEQ", default_value_t = 1,
          value_parser = clap::value_parser!(i64).range(1..))]
    since: i64,
    /// Tell rows of this kind only
    #[arg(long, value_name = "KIND",
          value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.name())))]
    kind: Option<String>,
}

impl Subcommand for Export {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = self.ledger.place(context)?;
        let kind = self.kind.as_deref().and_then(Kind::of_name);
        wait(async {
            let reader = Reader::open(&place).await?;
            reader.export(self.since, kind, terminal::print_line).await
        })
    }
}
