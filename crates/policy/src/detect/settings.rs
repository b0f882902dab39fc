//! What an owner says about detection.

use crate::error::{Problem, quoted};
use crate::source::Table;

/// Most names of an owner's.
const NAMES_MAX: usize = 20_000;
/// Least and most characters of a name: a shorter one is in everything.
const NAME_CHARS: [usize; 2] = [3, 100];
/// From this confidence on something is detected where nobody says otherwise.
const MIN_CONFIDENCE: f32 = 0.5;

/// What is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Names of persons, customers, projects: found where they stand as words, in any case.
    pub names: Vec<String>,
    /// From this confidence on something is detected.
    pub min_confidence: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { names: Vec::new(), min_confidence: MIN_CONFIDENCE }
    }
}

impl Settings {
    /// `names` and `min_confidence` of `[detect]`.
    pub(crate) fn read(table: &mut Table<'_>) -> Result<Self, Problem> {
        let mut settings = Self::default();
        if let Some(names) = table.take("names") {
            let list = names.elements()?;
            let n = list.len();
            if n > NAMES_MAX {
                return Err(names.wrong(format!("{n} names, expected at most {NAMES_MAX}")));
            }
            let [min, max] = NAME_CHARS;
            for one in list {
                let name = one.text()?.trim();
                let n_chars = name.chars().count();
                let has_ends = name.starts_with(char::is_alphanumeric)
                    && name.ends_with(char::is_alphanumeric);
                if !(min..=max).contains(&n_chars) || !has_ends {
                    let expected = format!(
                        "expected {min} to {max} characters that begin and end with a letter or \
                         digit"
                    );
                    return Err(one.wrong(format!("{}, {expected}", quoted(name))));
                }
                settings.names.push(name.to_owned());
            }
        }
        if let Some(bound) = table.take("min_confidence") {
            settings.min_confidence = bound.number([0.0, 1.0])? as f32;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use crate::rule::Rules;

    #[test]
    fn names_and_the_bound_are_read() {
        let read = |lines: &str| {
            let rules = Rules::parse("t", &format!("[detect]\n{lines}\n"));
            rules.map(|rules| rules.settings().clone()).map_err(|error| error.to_string())
        };
        let settings = read("names = [\" Ada \", \"Krake\"]\nmin_confidence = 0.25").unwrap();
        assert_eq!(settings.names, ["Ada", "Krake"]);
        assert!((settings.min_confidence - 0.25).abs() < 1e-6);
        let check = |lines: &str, expected: &str| {
            let found = read(lines).unwrap_err();
            assert!(found.contains(expected), "{found}");
        };
        check("names = [\"Al\"]", "t:2:10: detect.names: \"Al\", expected 3 to 100");
        check("names = [\"Al (\"]", "begin and end");
        check("min_confidence = 2", "detect.min_confidence: 2, expected a number from 0 to 1");
        check("min = 2", "detect: unknown field \"min\"");
    }
}
