//! A number within a tolerance: in the text, or at a path of an answer that is JSON.

use std::sync::LazyLock;

use regex::Regex;

use crate::expect::{Check, Kind, Seen, json};
use crate::json_path::JsonPath;

/// Digits with or without groups of three, a fraction, an exponent.
static DIGITS: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?";
    Regex::new(pattern).expect("the pattern is ours")
});

/// `number = x, tolerance = t` (absolute) or `relative = r` (a part of `x`); `json = "$.path"`
/// says where, `which` else: the `last` number in the text (the default), the `first` or `any`.
pub(super) const NUMBER: Kind = Kind {
    name: "number",
    read: |fields| {
        const ALL: [f64; 2] = [f64::MIN, f64::MAX];
        let expected = fields.number("number", ALL)?.unwrap_or_default();
        let absolute = fields.number("tolerance", [0.0, f64::MAX])?;
        let relative = fields.number("relative", [0.0, 1.0])?;
        let path = json::path(fields)?;
        let which = fields.word("which", &["last", "first", "any"])?;
        let tolerance = match (absolute, relative) {
            (Some(_), Some(_)) => {
                return Err(fields.wrong("relative", "expected it or tolerance, not both"));
            }
            (Some(tolerance), None) => tolerance,
            (None, Some(part)) => part * expected.abs(),
            (None, None) => 0.0,
        };
        if path.is_some() && which.is_some() {
            return Err(fields.wrong("which", "expected it or json, not both"));
        }
        let place = match (path, which) {
            (Some(path), _) => Where::At(path),
            (None, Some("first")) => Where::First,
            (None, Some("any")) => Where::Any,
            _ => Where::Last,
        };
        Ok(Box::new(Number { expected, tolerance, place }))
    },
};

#[derive(Debug)]
struct Number {
    expected: f64,
    tolerance: f64,
    place: Where,
}

#[derive(Debug)]
enum Where {
    At(JsonPath),
    First,
    Last,
    Any,
}

impl Number {
    fn fits(&self, found: f64) -> bool {
        (found - self.expected).abs() <= self.tolerance
    }
}

impl Check for Number {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let text = &seen.answer.text;
        let found = match &self.place {
            Where::At(path) => {
                let value = json::at(path, text)?;
                let number = value.as_f64();
                Some(number.ok_or_else(|| format!("has {value} at {}, no number", path.as_str()))?)
            }
            Where::First => numbers(text).next(),
            Where::Last => numbers(text).last(),
            Where::Any => numbers(text).find(|&found| self.fits(found)).or(numbers(text).last()),
        };
        let Number { expected, tolerance, .. } = self;
        match found {
            Some(found) if self.fits(found) => Ok(()),
            Some(found) => Err(format!("has {found}, expected {expected} ± {tolerance}")),
            None => Err(format!("has no number, expected {expected} ± {tolerance}")),
        }
    }
}

/// The numbers in a text. A sign counts where it follows neither digit nor letter: `5-3` is 5, 3.
fn numbers(text: &str) -> impl Iterator<Item = f64> {
    DIGITS.find_iter(text).filter_map(|found| {
        let number: f64 = found.as_str().replace(',', "").parse().ok()?;
        let mut before = text[..found.start()].chars().rev();
        let is_minus = matches!(before.next(), Some('-' | '−'));
        let is_sign = is_minus && !before.next().is_some_and(char::is_alphanumeric);
        Some(if is_sign { -number } else { number })
    })
}

#[cfg(test)]
mod tests {
    use super::numbers;
    use crate::expect::testing::*;
    use serde_json::json;

    #[test]
    fn numbers_are_found_in_texts() {
        let found: Vec<f64> = numbers("1,234.5 and -7 (5-3), 2e3, −4; v1 1,23").collect();
        assert_eq!(found, [1234.5, -7.0, 5.0, 3.0, 2000.0, -4.0, 1.0, 1.0, 23.0]);
    }

    #[test]
    fn numbers_are_held_against_a_tolerance() {
        check(json!({"number": 42}), "6 times 7 is 42.", None);
        check(json!({"number": 42}), "42 is 6 times 7", Some("has 7, expected 42 ± 0"));
        check(json!({"number": 42, "which": "first"}), "42 is 6 times 7", None);
        check(json!({"number": 42, "which": "any"}), "1, 42, 7", None);
        check(json!({"number": 42, "which": "any"}), "1, 2", Some("has 2"));
        check(json!({"number": 2.5, "tolerance": 0.01}), "2.5083", None);
        check(json!({"number": -100, "relative": 0.1}), "-91", None);
        check(json!({"number": 100, "relative": 0.1}), "89", Some("has 89, expected 100 ± 10"));
        check(json!({"number": 1}), "one", Some("has no number"));
        check(json!({"number": 5, "json": "$.n"}), "{\"n\": 5}", None);
        check(json!({"number": 5, "json": "$.n"}), "{\"n\": \"5\"}", Some("no number"));
        check_refused(json!({"number": 1, "tolerance": -1}), "tolerance: -1, expected a number");
        check_refused(json!({"number": 1, "tolerance": 1, "relative": 0.1}), "not both");
        check_refused(json!({"number": 1, "json": "$", "which": "any"}), "not both");
        check_refused(json!({"number": 1, "which": "all"}), "which: \"all\", expected \"last\"");
    }
}
