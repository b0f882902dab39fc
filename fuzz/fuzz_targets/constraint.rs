//! Any JSON as a schema, any text as a regular expression or a grammar: compiled, or refused with
//! an error. What was compiled is followed for some tokens, and never leads to a panic.

#![no_main]

use freehold_fuzz::follow;
use libfuzzer_sys::fuzz_target;
use text::Grammar;

fuzz_target!(|source: &str| {
    let grammars = [
        serde_json::from_str(source).ok().map(Grammar::JsonSchema),
        Some(Grammar::Regex(source.to_owned())),
        Some(Grammar::Lark(source.to_owned())),
        Some(Grammar::Choice(source.split('\n').map(str::to_owned).collect())),
    ];
    for grammar in grammars.into_iter().flatten() {
        follow(&grammar, source.as_bytes());
    }
});
