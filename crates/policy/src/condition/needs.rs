//! What a request needs of a model.

use std::collections::BTreeSet;

use crate::condition::{Condition, Kind, Seen, Verdict, words};
use crate::error::listed;
use crate::facts::Capability;

/// `needs = "tools"`, or a list of which it needs at least one.
pub(super) const NEEDS: Kind = Kind {
    name: "needs",
    read: |value| {
        let words = words(value)?;
        let needs =
            words.iter().map(|one| one.word(Capability::NAMES)).collect::<Result<_, _>>()?;
        Ok(Box::new(Needs(needs)))
    },
};

#[derive(Debug)]
struct Needs(BTreeSet<Capability>);

impl Condition for Needs {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        let Some(needs) = &seen.facts.needs else { return Verdict::Unknown };
        Verdict::of(!self.0.is_disjoint(needs), || {
            let expected = listed(self.0.iter().map(|need| need.name()));
            let found = listed(needs.iter().map(|need| need.name()));
            let found = if found.is_empty() { "nothing".to_owned() } else { found };
            format!("{found}, expected {expected}")
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn one_of_the_needs_is_enough() {
        check("needs = \"images\"", "needs=images,tools", None);
        check("needs = [\"images\", \"tools\"]", "needs=tools", None);
        check("needs = \"images\"", "needs=tools", Some("\"tools\", expected \"images\""));
        check("needs = \"images\"", "needs=none", Some("nothing, expected \"images\""));
        check("needs = \"images\"", "", Some("?"));
        check_refused(
            "needs = \"vision\"",
            "expected one of \"tools\", \"images\", \"json_schema\"",
        );
    }
}
