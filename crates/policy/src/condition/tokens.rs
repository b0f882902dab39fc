//! How long the prompt of a request is.

use crate::condition::range::Range;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `tokens = { min = a, max = b }`, both inclusive: tokens of the prompt.
pub(super) const TOKENS: Kind =
    Kind { name: "tokens", read: |value| Ok(Box::new(Tokens(Range::counts(value)?))) };

#[derive(Debug)]
struct Tokens(Range<u64>);

impl Condition for Tokens {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.n_tokens)
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_prompt_is_held_against_bounds() {
        check("tokens = { min = 5, max = 9 }", "tokens=5", None);
        check("tokens = { max = 9 }", "tokens=10", Some("10, expected at most 9"));
        check("tokens = { min = 5 }", "tokens=4", Some("4, expected at least 5"));
        check("tokens = { min = 5 }", "", Some("?"));
        check_refused(
            "tokens = {}",
            "t.toml:3:10: rule \"r\": tokens: empty, expected min, max or both",
        );
        check_refused("tokens = { min = 2, max = 1 }", "tokens: min 2 is above max 1");
        check_refused("tokens = { mn = 2 }", "tokens: unknown field \"mn\", did you mean \"min\"?");
        check_refused("tokens = { min = -2 }", "tokens.min: -2, expected a whole number from 0");
        check_refused("tokens = 5", "tokens: 5, expected a table");
    }
}
