//! `freehold bundle`: models and all that belongs to them in one file, for a machine without a
//! network.

mod config;
mod export;
mod import;
mod verify;

use crate::commands::Entry;

/// What the group is for.
pub(crate) const ABOUT: &str =
    "Carry models, lock, settings and cases to another machine in a file";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<export::Export>("export"),
    Entry::of::<import::Import>("import"),
    Entry::of::<verify::Verify>("verify"),
];
