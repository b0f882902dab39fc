//! `freehold debug`: the interface of conformance tests. Kept stable: scripts depend on it.

pub(crate) mod logits;
mod perplexity;
mod template;
mod tokenize;

use crate::commands::Entry;

/// What the group is, for the help.
pub(crate) const ABOUT: &str = "Inspect what a model computes (stable, for conformance tests)";

/// The subcommands of the group.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<logits::Logits>("logits"),
    Entry::of::<tokenize::Tokenize>("tokenize"),
    Entry::of::<template::Template>("template"),
    Entry::of::<perplexity::Perplexity>("perplexity"),
];
