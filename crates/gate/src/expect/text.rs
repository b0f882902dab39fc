//! Texts that an answer is, contains or does not contain.
//!
//! White space around an answer does not count. `ignore_case` compares lower-case letters.

use crate::error::{GateError, quoted};
use crate::expect::{Check, Kind, Seen};
use crate::fields::Fields;

/// `exact = "text"`: the whole answer.
pub(super) const EXACT: Kind = Kind {
    name: "exact",
    read: |fields| {
        let text = fields.must_text("exact")?;
        Ok(Box::new(Texts::new(How::Is, vec![text.trim().to_owned()], fields)?))
    },
};

/// `contains = "text"` or a list: all of them.
pub(super) const CONTAINS: Kind =
    Kind { name: "contains", read: |fields| several(How::All, "contains", fields) };

/// `contains_any = ["text", …]`: at least one of them.
pub(super) const CONTAINS_ANY: Kind =
    Kind { name: "contains_any", read: |fields| several(How::Any, "contains_any", fields) };

/// `not_contains = "text"` or a list: none of them.
pub(super) const NOT_CONTAINS: Kind =
    Kind { name: "not_contains", read: |fields| several(How::None, "not_contains", fields) };

#[derive(Debug, Clone, Copy)]
enum How {
    Is,
    All,
    Any,
    None,
}

#[derive(Debug)]
struct Texts {
    how: How,
    texts: Vec<String>,
    ignores_case: bool,
}

fn several(how: How, name: &'static str, fields: &mut Fields) -> Result<Box<dyn Check>, GateError> {
    let texts = fields.texts(name)?;
    Ok(Box::new(Texts::new(how, texts, fields)?))
}

impl Texts {
    fn new(how: How, texts: Vec<String>, fields: &mut Fields) -> Result<Self, GateError> {
        let ignores_case = fields.flag("ignore_case")?.unwrap_or(false);
        let lowered = |text: String| if ignores_case { text.to_lowercase() } else { text };
        Ok(Self { how, texts: texts.into_iter().map(lowered).collect(), ignores_case })
    }
}

impl Check for Texts {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let found = seen.answer.text.trim();
        let lowered = self.ignores_case.then(|| found.to_lowercase());
        let text = lowered.as_deref().unwrap_or(found);
        let contains = |part: &&String| text.contains(part.as_str());
        let list = || {
            let parts: Vec<String> = self.texts.iter().map(|part| quoted(part)).collect();
            parts.join(", ")
        };
        match self.how {
            How::Is if self.texts[0].trim() == text => Ok(()),
            How::Is => Err(format!("is {}, expected {}", quoted(found), list())),
            How::All => match self.texts.iter().find(|part| !contains(part)) {
                None => Ok(()),
                Some(part) => Err(format!("does not contain {}", quoted(part))),
            },
            How::Any if self.texts.iter().any(|part| contains(&part)) => Ok(()),
            How::Any => Err(format!("contains none of {}", list())),
            How::None => match self.texts.iter().find(contains) {
                None => Ok(()),
                Some(part) => Err(format!("contains {}", quoted(part))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::expect::testing::*;
    use serde_json::json;

    #[test]
    fn texts_are_compared() {
        check(json!({"exact": "Paris"}), " Paris\n", None);
        check(json!({"exact": "Paris"}), "paris", Some("is \"paris\", expected \"Paris\""));
        check(json!({"exact": "Paris", "ignore_case": true}), "PARIS", None);
        check(json!({"contains": ["a", "b"]}), "b a", None);
        check(json!({"contains": ["a", "b"]}), "a", Some("does not contain \"b\""));
        check(json!({"contains_any": ["a", "b"]}), "xb", None);
        check(json!({"contains_any": ["a", "b"]}), "c", Some("contains none of \"a\", \"b\""));
        check(json!({"not_contains": "ÄH", "ignore_case": true}), "täh", Some("contains \"äh\""));
        check(json!({"not_contains": ["x", "y"]}), "z", None);
    }

    #[test]
    fn texts_that_say_nothing_are_refused() {
        check_refused(json!({"contains": ""}), "contains: \"\", expected a text, or a list");
        check_refused(json!({"contains": []}), "contains: empty, expected a text");
        check_refused(json!({"contains": [1]}), "contains: 1, expected a text");
        check_refused(json!({"exact": 4}), "exact: 4, expected a text");
        check_refused(json!({"exact": "a", "ignore_case": 1}), "ignore_case: 1, expected true");
    }
}
