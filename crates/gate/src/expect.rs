//! What an answer must be like. One kind of expectation is one constant in a file below and its
//! line in [`KINDS`].

mod call;
mod cost;
mod json;
mod length;
mod number;
mod pattern;
mod refusal;
mod similar;
mod text;

use std::fmt;

use serde_json::{Map, Value};

use crate::answer::Answer;
use crate::error::{GateError, Place, shown};
use crate::fields::Fields;
use crate::pairwise;

/// All kinds.
const KINDS: &[&Kind] = &[
    &text::EXACT,
    &text::CONTAINS,
    &text::CONTAINS_ANY,
    &text::NOT_CONTAINS,
    &pattern::REGEX,
    &pattern::NOT_REGEX,
    &json::SCHEMA,
    &json::EQUALS,
    &number::NUMBER,
    &call::CALL,
    &call::NO_CALL,
    &refusal::REFUSAL,
    &length::LENGTH,
    &similar::SIMILAR,
    &pairwise::JUDGE,
    &cost::LATENCY,
    &cost::COST,
];

/// A kind of expectation.
pub(crate) struct Kind {
    /// The field that says that a table is of this kind.
    pub(crate) name: &'static str,
    /// Reads that field and those beside it.
    pub(crate) read: fn(&mut Fields) -> Result<Box<dyn Check>, GateError>,
}

/// One expectation.
pub(crate) trait Check: fmt::Debug + Send + Sync {
    /// Why `seen` does not meet it, where it does not.
    fn check(&self, seen: &Seen<'_>) -> Result<(), String>;

    /// What must be measured of the answer before.
    fn need(&self) -> Option<Need<'_>> {
        None
    }
}

/// An answer, and what was measured of it for this expectation.
pub(crate) struct Seen<'a> {
    pub(crate) answer: &'a Answer,
    pub(crate) measure: Option<Measure>,
}

/// What an expectation needs that takes a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Need<'a> {
    /// The cosine between the vectors of the answer and of this text.
    Similarity(&'a str),
    /// Which of two answers another model prefers by this criterion, in both orders.
    Preference {
        /// What makes an answer the better one.
        criterion: &'a str,
        /// What it is held against; `None`: the answer of the other candidate.
        reference: Option<&'a str>,
    },
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// A cosine.
    Similarity(f32),
    /// Whether the answer was preferred.
    Preference(pairwise::Preference),
}

/// An expectation of a case's.
#[derive(Debug)]
pub struct Expectation {
    /// Where it stands.
    pub place: Place,
    /// What it expects, in few words.
    pub label: String,
    check: Box<dyn Check>,
}

impl Expectation {
    /// Reads one from its table.
    pub(crate) fn read(place: Place, map: Map<String, Value>) -> Result<Self, GateError> {
        let kinds: Vec<&&Kind> = KINDS.iter().filter(|kind| map.contains_key(kind.name)).collect();
        let [kind] = kinds[..] else {
            let found: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            let found = if found.is_empty() { "nothing".to_owned() } else { found.join(" and ") };
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            let problem = format!("expect: {found}, expected one of {}", names.join(", "));
            return Err(place.wrong(problem));
        };
        let label = format!("{} {}", kind.name, shown(&map[kind.name]));
        let mut fields = Fields::new(place.clone(), "expect: ", map);
        let check = (kind.read)(&mut fields)?;
        fields.finish()?;
        Ok(Self { place, label, check })
    }

    /// What must be measured of an answer before it can be judged.
    pub fn need(&self) -> Option<Need<'_>> {
        self.check.need()
    }

    /// Why `answer` does not meet it, where it does not.
    pub(crate) fn check(&self, answer: &Answer, measure: Option<Measure>) -> Result<(), String> {
        self.check.check(&Seen { answer, measure })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of the kinds have in common.

    use super::*;

    fn read(expectation: &Value) -> Result<Expectation, GateError> {
        let place = Place { file: "t".into(), line: 1 };
        Expectation::read(place, expectation.as_object().unwrap().clone())
    }

    /// Holds `expectation` against `answer`; the problem is none, or has these words.
    #[track_caller]
    pub(crate) fn check_answer(expectation: Value, answer: &Answer, problem: Option<&str>) {
        let found = read(&expectation).unwrap().check(answer, None);
        match (&found, problem) {
            (Ok(()), None) => {}
            (Err(found), Some(words)) if found.contains(words) => {}
            _ => panic!("{expectation}: {found:?}, expected {problem:?}"),
        }
    }

    /// As [`check_answer`], of an answer of this text.
    #[track_caller]
    pub(crate) fn check(expectation: Value, text: &str, problem: Option<&str>) {
        let answer = Answer { text: text.to_owned(), ..Answer::default() };
        check_answer(expectation, &answer, problem);
    }

    /// That `expectation` cannot be read, in these words.
    #[track_caller]
    pub(crate) fn check_refused(expectation: Value, words: &str) {
        let error = read(&expectation).unwrap_err().to_string();
        assert!(error.contains(words), "{expectation}: {error}, expected {words}");
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use serde_json::json;

    #[test]
    fn an_expectation_is_of_one_kind() {
        check_refused(json!({}), "t:1: expect: nothing, expected one of exact, contains,");
        check_refused(json!({"contains": "a", "regex": "b"}), "contains and regex, expected one");
        check_refused(
            json!({"contains": "a", "tolerance": 1}),
            "expect: unknown field \"tolerance\", expected one of contains, ignore_case",
        );
    }
}
