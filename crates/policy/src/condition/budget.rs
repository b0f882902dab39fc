//! What is left of the budget.

use crate::condition::range::Range;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `budget = { min = a, max = b }`, both inclusive: in the owner's currency.
pub(super) const BUDGET: Kind = Kind {
    name: "budget",
    read: |value| {
        Ok(Box::new(Budget(Range::read(value, |bound| bound.number([f64::MIN, f64::MAX]))?)))
    },
};

#[derive(Debug)]
struct Budget(Range<f64>);

impl Condition for Budget {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.budget)
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_budget_is_held_against_bounds() {
        check("budget = { min = 0.01 }", "budget=0.01", None);
        check("budget = { min = 1 }", "budget=-0.5", Some("-0.5, expected at least 1"));
        check("budget = { min = 1 }", "", Some("?"));
        check_refused("budget = { min = nan }", "budget.min: nan, expected a number");
        check_refused("budget = { min = inf }", "budget.min: inf, expected a number");
    }
}
