//! The key that a request came with.

use crate::condition::patterns::Patterns;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `key = "name"`, `"beginning*"` or a list of them.
pub(super) const KEY: Kind =
    Kind { name: "key", read: |value| Ok(Box::new(Key(Patterns::read(value)?))) };

#[derive(Debug)]
struct Key(Patterns);

impl Condition for Key {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.key.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_key_is_held_against_names() {
        check("key = \"team-*\"", "key=team-a", None);
        check("key = [\"a\", \"b\"]", "key=b", None);
        check("key = \"a\"", "key=ab", Some("\"ab\", expected \"a\""));
        check("key = \"*\"", "key=", None);
        check("key = \"a\"", "key=", Some("\"\", expected \"a\""));
        check("key = \"a\"", "", Some("?"));
        check_refused(
            "key = \"a*b\"",
            "t.toml:3:7: rule \"r\": key: \"a*b\", expected a name, or its",
        );
        check_refused("key = []", "key: empty, expected at least one");
        check_refused("key = 5", "key: 5, expected a text");
        check_refused("key = \"\"", "key: \"\", expected a name");
    }
}
