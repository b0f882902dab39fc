//! Any text as a grammar in GBNF: compiled, or refused with an error. What was compiled is followed
//! for some tokens, and never leads to a panic.

#![no_main]

use freehold_fuzz::follow;
use libfuzzer_sys::fuzz_target;
use text::Grammar;

fuzz_target!(|source: &str| {
    follow(&Grammar::Gbnf(source.to_owned()), source.as_bytes());
});
