//! `freehold person`: of whom something is kept, all of it, and its end.

mod erase;
mod export;
mod list;

use super::Entry;

/// What the group is for.
pub(crate) const ABOUT: &str = "List, export and erase what is kept of persons";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<list::List>("list"),
    Entry::of::<export::Export>("export"),
    Entry::of::<erase::Erase>("erase"),
];
