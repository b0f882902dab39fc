//! Regular expressions (the `regex` crate's syntax): found somewhere in the answer, in time linear
//! in its length.

use regex::{Regex, RegexBuilder};

use crate::error::{GateError, quoted};
use crate::expect::{Check, Kind, Seen};
use crate::fields::Fields;

/// Bytes that a compiled pattern may take: what the crate itself has as its default for one.
const COMPILED_BYTES_MAX: usize = 10 << 20;

/// `regex = "pattern"`.
pub(super) const REGEX: Kind =
    Kind { name: "regex", read: |fields| pattern("regex", true, fields) };

/// `not_regex = "pattern"`.
pub(super) const NOT_REGEX: Kind =
    Kind { name: "not_regex", read: |fields| pattern("not_regex", false, fields) };

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Whether it is to be found.
    is_wanted: bool,
}

fn pattern(
    name: &'static str,
    is_wanted: bool,
    fields: &mut Fields,
) -> Result<Box<dyn Check>, GateError> {
    let text = fields.must_text(name)?;
    let regex = RegexBuilder::new(&text).size_limit(COMPILED_BYTES_MAX).build();
    let regex = regex.map_err(|error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim().to_owned();
        fields.wrong(name, format!("{}: {last}", quoted(&text)))
    })?;
    Ok(Box::new(Pattern { regex, is_wanted }))
}

impl Check for Pattern {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let found = self.regex.find(&seen.answer.text);
        match (found, self.is_wanted) {
            (Some(_), true) | (None, false) => Ok(()),
            (None, true) => Err(format!("nothing matches {}", quoted(self.regex.as_str()))),
            (Some(found), false) => {
                let pattern = quoted(self.regex.as_str());
                Err(format!("{} matches {pattern}", quoted(found.as_str())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::expect::testing::*;
    use serde_json::json;

    #[test]
    fn patterns_are_found() {
        check(json!({"regex": r"(?i)\bparis\b"}), "It is PARIS.", None);
        check(json!({"regex": r"^\d+$"}), "a1", Some("nothing matches"));
        check(json!({"not_regex": r"\d"}), "a1", Some("\"1\" matches"));
        check(json!({"not_regex": r"\d"}), "a", None);
    }

    #[test]
    fn patterns_that_cannot_be_used_are_refused() {
        check_refused(json!({"regex": "("}), "regex: \"(\": error: unclosed group");
        check_refused(json!({"regex": r"\w{1000}{1000}"}), "exceeds size limit");
    }
}
