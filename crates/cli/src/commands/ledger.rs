//! `freehold ledger`: what was recorded, checked and taken elsewhere.

mod export;
mod heads;
mod verify;

use super::Entry;
use crate::context::Context;
use crate::ledger::{needed_place, wait};

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
pub(super) struct LedgerArgs {
    /// The ledger: a SQLite file, or postgres://USER@HOST/NAME with the password in PGPASSWORD
    /// (default: as FREEHOLD_LEDGER or freehold.toml says, else that of the data directory)
    #[arg(long, value_name = "PATH|URL")]
    ledger: Option<String>,
}

impl LedgerArgs {
    pub(super) fn place(&self, context: &Context) -> anyhow::Result<String> {
        needed_place(context, self.ledger.as_deref())
    }
}
