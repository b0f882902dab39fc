//! The project that a request is for.

use crate::condition::patterns::Patterns;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `project = "name"`, `"beginning*"` or a list of them.
pub(super) const PROJECT: Kind =
    Kind { name: "project", read: |value| Ok(Box::new(Project(Patterns::read(value)?))) };

#[derive(Debug)]
struct Project(Patterns);

impl Condition for Project {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.project.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_project_is_held_against_names() {
        check("project = \"web\"", "project=web", None);
        check(
            "project = [\"web\", \"shop-*\"]",
            "project=shop",
            Some("\"shop\", expected \"web\", \"shop-*\""),
        );
        check("project = \"web\"", "", Some("?"));
    }
}
