//! Answers in a file, so that a later candidate can be held against a model that is gone.
//!
//! JSON Lines: what is known of the model first, then one line an answer, with the fingerprint of
//! its request. A case that was asked otherwise then is not compared.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Candidate, Facts, Outcome};
use crate::case::CaseSet;
use crate::error::{GateError, Place};

/// Version of the form.
const VERSION: u32 = 1;
/// Largest record in bytes: the most answers that a set may have, with a page each.
const BYTES_MAX: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// [`VERSION`].
    freehold_answers: u32,
    name: String,
    facts: Facts,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    case: String,
    sample: usize,
    request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// The record of a candidate's answers.
///
/// # Panics
/// If the candidate's answers are not those to the cases of `set`.
pub fn write(set: &CaseSet, candidate: &Candidate) -> String {
    let (name, facts) = (candidate.name.clone(), candidate.facts.clone());
    let mut out = to_json(&Head { freehold_answers: VERSION, name, facts });
    for (case, outcomes) in set.cases.iter().zip(&candidate.outcomes) {
        for (sample, outcome) in outcomes.iter().enumerate() {
            let (answer, failed) = match outcome {
                Outcome::Answered(answer) => (Some(answer.clone()), None),
                Outcome::Failed(why) => (None, Some(why.clone())),
            };
            let request = case.ask.fingerprint(case.seed + sample as u64);
            let case = case.id.clone();
            out.push('\n');
            out.push_str(&to_json(&Line { case, sample, request, answer, failed }));
        }
    }
    out.push('\n');
    out
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers can be written")
}

/// Reads the record `name`, as far as it has the cases of `set` as they are now.
///
/// # Errors
/// A line that is none of a record.
pub fn read(name: &str, text: &str, set: &CaseSet) -> Result<Candidate, GateError> {
    let file: Arc<str> = name.into();
    let place = |line_idx: usize| Place { file: file.clone(), line: line_idx + 1 };
    if text.len() > BYTES_MAX {
        let n = text.len();
        return Err(place(0).wrong(format!("{n} bytes, expected at most {BYTES_MAX}")));
    }
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let head: Head = match lines.next() {
        None => return Err(place(0).wrong("empty, expected a record of answers")),
        Some((line_idx, line)) => parse(line, &place(line_idx))?,
    };
    if head.freehold_answers != VERSION {
        let problem = format!("version {}, expected {VERSION}", head.freehold_answers);
        return Err(place(0).wrong(problem));
    }
    let mut found: HashMap<(String, usize), (String, Outcome)> = HashMap::new();
    for (line_idx, text) in lines {
        let line: Line = parse(text, &place(line_idx))?;
        let outcome = match (line.answer, line.failed) {
            (Some(answer), None) => Outcome::Answered(answer),
            (None, Some(why)) => Outcome::Failed(why),
            _ => return Err(place(line_idx).wrong("expected one of answer and failed")),
        };
        let key = (line.case, line.sample);
        if found.contains_key(&key) {
            let problem = format!("sample {} of case {}: given twice", key.1, key.0);
            return Err(place(line_idx).wrong(problem));
        }
        found.insert(key, (line.request, outcome));
    }
    let mut outcomes = Vec::with_capacity(set.cases.len());
    for case in &set.cases {
        let sample = |sample: usize| {
            let (request, outcome) = found.remove(&(case.id.clone(), sample))?;
            (request == case.ask.fingerprint(case.seed + sample as u64)).then_some(outcome)
        };
        let all: Option<Vec<Outcome>> = (0..case.n_samples as usize).map(sample).collect();
        outcomes.push(all.unwrap_or_default());
    }
    let facts = Facts { record: Some(name.to_owned()), ..head.facts };
    Ok(Candidate { name: head.name, facts, outcomes })
}

fn parse<T: serde::de::DeserializeOwned>(line: &str, place: &Place) -> Result<T, GateError> {
    serde_json::from_str(line)
        .map_err(|error| place.wrong(format!("no line of a record of answers: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::testing::{candidate, set};

    #[test]
    fn a_record_comes_back_as_it_was() {
        let set = set(2);
        let mut old = candidate("old", &["yes \u{7}\n", ""]);
        old.outcomes[1] = vec![Outcome::Failed("no room".to_owned())];
        old.facts = Facts { digest: Some("ab".to_owned()), wall_s: 0.1, ..Facts::default() };
        let text = write(&set, &old);
        assert_eq!(text.lines().count(), 3);
        let back = read("r.jsonl", &text, &set).unwrap();
        assert_eq!((&back.name, &back.outcomes), (&old.name, &old.outcomes));
        let record = Some("r.jsonl".to_owned());
        assert_eq!(back.facts, Facts { record, ..old.facts });
    }

    #[test]
    fn cases_that_are_asked_otherwise_are_left_out() {
        let text = write(&set(2), &candidate("old", &["yes", "no"]));
        let mut changed = set(3);
        changed.cases[0].seed = 9;
        let back = read("r.jsonl", &text, &changed).unwrap();
        let n: Vec<usize> = back.outcomes.iter().map(Vec::len).collect();
        assert_eq!(n, [0, 1, 0]);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let set = set(1);
        let good = write(&set, &candidate("old", &["yes"]));
        let check = |text: &str, expected: &str| {
            let error = read("r.jsonl", text, &set).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", "r.jsonl:1: empty");
        check("{}", "r.jsonl:1: no line of a record");
        check(&good.replacen(":1", ":2", 1), "version 2, expected 1");
        let line = good.lines().nth(1).unwrap();
        check(&format!("{good}{line}\n"), "r.jsonl:3: sample 0 of case c0: given twice");
        check(&good.replace("\"sample\"", "\"smple\""), "r.jsonl:2: no line of a record");
        check(&good.replace("\"answer\":{", "\"failed\":\"x\",\"answer\":{"), "expected one of");
        for at in good.char_indices().map(|(at, _)| at) {
            let _ = read("r.jsonl", &good[..at], &set);
        }
    }
}
