//! `freehold project`: groups of keys.

mod create;
mod list;
mod remove;

use super::Entry;
use super::key::KeysArgs;

/// What the group is for.
pub(crate) const ABOUT: &str = "Make, list and remove projects, which are groups of keys";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<create::Create>("create"),
    Entry::of::<list::List>("list"),
    Entry::of::<remove::Remove>("remove"),
];
