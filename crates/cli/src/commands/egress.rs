//! `freehold egress`: whether anything can leave.

mod broker;
mod prove;

use super::Entry;

/// What the group is for.
pub(crate) const ABOUT: &str = "Prove that nothing leaves this machine";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[Entry::of::<prove::Prove>("prove")];
