//! How many requests wait here.

use crate::condition::range::Range;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `queue = { min = a, max = b }`, both inclusive: requests that wait.
pub(super) const QUEUE: Kind =
    Kind { name: "queue", read: |value| Ok(Box::new(Queue(Range::counts(value)?))) };

#[derive(Debug)]
struct Queue(Range<u64>);

impl Condition for Queue {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.n_waiting)
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_queue_is_held_against_bounds() {
        check("queue = { min = 4 }", "queue=4", None);
        check("queue = { min = 4 }", "queue=3", Some("3, expected at least 4"));
        check("queue = { min = 4 }", "", Some("?"));
    }
}
