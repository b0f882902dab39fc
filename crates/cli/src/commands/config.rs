//! `freehold config`: the settings of the server, where they come from, and whether they are right.

mod check;
mod example;
mod show;

use super::Entry;

/// What the group is for.
pub(crate) const ABOUT: &str = "Show and check the settings of the server";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<show::Show>("show"),
    Entry::of::<check::Check>("check"),
    Entry::of::<example::Example>("example"),
];
