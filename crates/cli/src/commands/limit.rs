//! `freehold limit`: what the owner lets requests take.

mod list;
mod remove;
mod set;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use ledger::{Ledger, Limit, Per, What};

use super::Entry;
use super::key::KeysArgs;
use crate::context::Context;
use crate::ledger::{key as node_key, wait};

/// What the group is for.
pub(crate) const ABOUT: &str = "Set, list and remove limits on what requests may take";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<set::Set>("set"),
    Entry::of::<list::List>("list"),
    Entry::of::<remove::Remove>("remove"),
];

/// As whom the ledger has what is done on the command line.
const OWNER: &str = "owner";

/// Which limit. There is one of each.
#[derive(Debug, clap::Args)]
struct Which {
    /// Whose: all, or of key:NAME, project:NAME and model:NAME some, with commas between them
    #[arg(value_name = "SUBJECT")]
    subject: String,
    /// Of what: requests, tokens (in or out alone), requests at work at once, money in units of
    /// your currency, energy in watt-hours
    #[arg(value_name = "WHAT", value_parser = whats())]
    what: What,
    /// In which time of the calendar, in UTC; all but concurrent have one
    #[arg(long, value_name = "TIME", value_parser = pers())]
    per: Option<Per>,
    #[command(flatten)]
    ledger: KeysArgs,
}

impl Which {
    /// The limit of this amount, which refuses.
    fn limit(&self, amount: u64) -> anyhow::Result<Limit> {
        Ok(Limit::new(&self.subject, self.what, amount, self.per)?)
    }
}

fn whats() -> impl clap::builder::TypedValueParser<Value = What> {
    PossibleValuesParser::new(What::ALL.iter().map(|what| what.name()))
        .map(|name| What::of_name(&name).expect("only these names are taken"))
}

fn pers() -> impl clap::builder::TypedValueParser<Value = Per> {
    PossibleValuesParser::new(Per::ALL.iter().map(|per| per.name()))
        .map(|name| Per::of_name(&name).expect("only these names are taken"))
}

/// Has something done by who writes the ledger, which is made where there is none.
///
/// # Errors
/// What cannot be done, or a ledger that cannot be used.
fn change<T>(
    context: &Context,
    args: &KeysArgs,
    work: impl AsyncFnOnce(&Ledger) -> Result<T, ledger::LedgerError>,
) -> anyhow::Result<T> {
    let (place, key) = (args.place(context)?, node_key(context)?);
    wait(async {
        let ledger = Ledger::open(&place, key).await?;
        let done = work(&ledger).await;
        ledger.close().await?;
        Ok(done?)
    })
}
