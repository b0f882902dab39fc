//! What was detected in the prompt.

use std::collections::BTreeSet;

use crate::condition::{Condition, Kind, Seen, Verdict, words};
use crate::detect::{self, Class};
use crate::error::listed;

/// `detected = "none"`, or classes and groups of classes of which at least one is there.
pub(super) const DETECTED: Kind = Kind {
    name: "detected",
    read: |value| {
        let words = words(value)?;
        if let [one] = &words[..]
            && one.text()? == "none"
        {
            return Ok(Box::new(Detected(BTreeSet::new())));
        }
        let mut classes = BTreeSet::new();
        for word in &words {
            classes.extend(detect::classes(word, &["none"])?);
        }
        Ok(Box::new(Detected(classes)))
    },
};

/// Empty: nothing may be there.
#[derive(Debug)]
struct Detected(BTreeSet<Class>);

impl Condition for Detected {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        let Some(found) = &seen.facts.detected else { return Verdict::Unknown };
        let names = |classes: &BTreeSet<Class>| match classes.len() {
            0 => "nothing".to_owned(),
            _ => listed(classes.iter().map(|class| class.name())),
        };
        let holds = match self.0.is_empty() {
            true => found.is_empty(),
            false => !self.0.is_disjoint(found),
        };
        Verdict::of(holds, || format!("{}, expected {}", names(found), names(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn one_of_the_classes_is_enough() {
        check("detected = \"email\"", "detected=email,iban", None);
        check("detected = \"personal\"", "detected=iban", None);
        check(
            "detected = \"secret\"",
            "detected=iban",
            Some("\"iban\", expected \"api_key\", \"assigned_secret\", \"jwt\", \"private_key\""),
        );
        check("detected = \"none\"", "detected=none", None);
        check("detected = \"none\"", "detected=iban", Some("\"iban\", expected nothing"));
        check("detected = \"email\"", "detected=none", Some("nothing, expected \"email\""));
        check("detected = \"none\"", "", Some("?"));
        check_refused("detected = \"e-mail\"", "detected: \"e-mail\", did you mean \"email\"?");
        check_refused("detected = [\"none\", \"email\"]", "detected: \"none\": expected it alone");
    }
}
