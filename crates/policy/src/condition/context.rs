//! How much context a request needs.

use crate::condition::range::Range;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `context = { min = a, max = b }`, both inclusive: tokens of the prompt and of the
/// longest answer it asks for.
pub(super) const CONTEXT: Kind =
    Kind { name: "context", read: |value| Ok(Box::new(Context(Range::counts(value)?))) };

#[derive(Debug)]
struct Context(Range<u64>);

impl Condition for Context {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.n_ctx)
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_context_is_held_against_bounds() {
        check("context = { min = 8193 }", "context=8193", None);
        check("context = { min = 8193 }", "context=8192", Some("8192, expected at least 8193"));
        check("context = { min = 8193 }", "tokens=9000", Some("?"));
    }
}
