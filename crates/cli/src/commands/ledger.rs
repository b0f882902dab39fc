//! `freehold ledger`: what was recorded, checked and taken elsewhere.

mod export;
mod heads;
mod verify;

use std::future::Future;

use anyhow::Context as _;

use super::Entry;
use crate::context::Context;

/// What the group is for.
pub(crate) const ABOUT: &str = "Check and export what was recorded";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<verify::Verify>("verify"),
    Entry::of::<export::Export>("export"),
    Entry::of::<heads::Heads>("heads"),
];

/// Which ledger.
#[derive(Debug, clap::Args)]
struct LedgerArgs {
    /// The ledger: a SQLite file, or postgres://USER@HOST/NAME with the password in PGPASSWORD
    /// (default: ledger.sqlite in the data directory)
    #[arg(long, value_name = "PATH|URL")]
    ledger: Option<String>,
}

impl LedgerArgs {
    fn place(&self, context: &Context) -> anyhow::Result<String> {
        if let Some(place) = &self.ledger {
            return Ok(place.clone());
        }
        let path = context.home().join("ledger.sqlite");
        let text = path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))?;
        Ok(text.to_owned())
    }
}

/// Waits for what speaks to a database.
fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("wait for the database")?.block_on(work)
}
