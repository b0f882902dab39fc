//! Names, and beginnings of names that end with `*`.

use crate::condition::{Verdict, words};
use crate::error::{Problem, listed, quoted};
use crate::source::Value;

/// Names of which one must be that of a fact.
#[derive(Debug)]
pub(super) struct Patterns(Vec<String>);

impl Patterns {
    /// A text or a list of them, each with at most one `*`, at its end.
    pub(super) fn read(value: &Value<'_>) -> Result<Self, Problem> {
        let pattern = |one: &Value<'_>| {
            let text = one.text()?;
            let name = text.strip_suffix('*').unwrap_or(text);
            if text.is_empty() || name.contains('*') {
                let expected = "expected a name, or its beginning and \"*\"";
                return Err(one.wrong(format!("{}, {expected}", quoted(text))));
            }
            Ok(text.to_owned())
        };
        Ok(Self(words(value)?.iter().map(pattern).collect::<Result<_, _>>()?))
    }

    /// Whether one fits the fact.
    pub(super) fn verdict(&self, fact: Option<&String>) -> Verdict {
        let Some(fact) = fact else { return Verdict::Unknown };
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => fact.starts_with(beginning),
            None => fact == pattern,
        };
        let expected = || listed(self.0.iter().map(String::as_str).take(5));
        Verdict::of(self.0.iter().any(fits), || {
            format!("{}, expected {}", quoted(fact), expected())
        })
    }
}
