//! The model that a request asks for, by the name that the application uses.

use crate::condition::patterns::Patterns;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `alias = "name"`, `"beginning*"` or a list of them.
pub(super) const ALIAS: Kind =
    Kind { name: "alias", read: |value| Ok(Box::new(Alias(Patterns::read(value)?))) };

#[derive(Debug)]
struct Alias(Patterns);

impl Condition for Alias {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.alias.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn an_alias_is_held_against_names() {
        check("alias = \"gpt-*\"", "alias=gpt-4o", None);
        check("alias = \"gpt-*\"", "alias=GPT-4o", Some("\"GPT-4o\", expected \"gpt-*\""));
        check("alias = \"gpt-*\"", "", Some("?"));
    }
}
