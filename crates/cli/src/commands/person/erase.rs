//! `freehold person erase`: a person's contents go, with the keys that could read any copy of them.

use ledger::{ContentKeys, Ledger, LedgerError};
use serde_json::json;

use crate::commands::Subcommand;
use crate::commands::ledger::LedgerArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::{content_keys, is_path, key, wait};
use crate::terminal;

/// Who erases, as the ledger records it: whoever can run this here.
const OWNER: &str = "owner";

/// Erase what is kept of a person, for good
///
/// The keys of the person's contents are destroyed, so that copies of the ledger are dark too,
/// contents and what receipts say are deleted, and the ledger has a record of it and stays valid.
/// docs/privacy.md says what this does not reach. A server may run meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold person erase zoe
  freehold person erase zoe --json")]
pub(crate) struct Erase {
    /// The name, as `freehold person list` has it
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Erase {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = self.ledger.place(context)?;
        let not_found = |why: &str| {
            let message = format!("person {:?}: {why}", self.name);
            anyhow::Error::from(Failure::new(Exit::NotFound, message))
        };
        // Opening one for writing would make it.
        if is_path(&place) && !std::path::Path::new(&place).is_file() {
            return Err(not_found(&format!("{place}: there is no ledger here")));
        }
        let keys = ContentKeys::open(&content_keys(context))?;
        let key = key(context)?;
        let erased = wait(async {
            let ledger = Ledger::open_keeping(&place, key, keys).await?;
            let erased = ledger.erase_person(&self.name, OWNER).await;
            ledger.close().await?;
            match erased {
                Err(LedgerError::NotFound { .. }) => {
                    Err(not_found("nothing is kept of anybody of this name"))
                }
                erased => Ok(erased?),
            }
        })?;
        if self.json {
            return terminal::print_json(&json!({
                "record": erased.record,
                "forgotten": erased.n_forgotten,
                "keys_elsewhere": erased.n_keys_elsewhere,
            }));
        }
        let (n, row) = (erased.n_forgotten, erased.record);
        terminal::print_line(&format!("{}: erased, {n} rows; row {row} says so", self.name))?;
        if erased.n_keys_elsewhere > 0 {
            let n = erased.n_keys_elsewhere;
            context.note(&format!("{n} keys are other nodes' to destroy, when they run next"));
        }
        Ok(())
    }
}
