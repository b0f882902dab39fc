//! Conditions of a rule. One more is one file below with its constant, and a line in [`KINDS`].

mod alias;
mod budget;
mod context;
mod detected;
mod health;
mod key;
pub(crate) mod label;
mod needs;
mod patterns;
mod project;
mod queue;
mod range;
mod route;
pub(crate) mod time;
mod tokens;
mod weekday;

use std::fmt;

use crate::error::Problem;
use crate::facts::Facts;
use crate::label::Label;
use crate::source::Value;

/// All kinds.
pub(crate) const KINDS: &[&Kind] = &[
    &label::LABEL,
    &key::KEY,
    &project::PROJECT,
    &alias::ALIAS,
    &route::ROUTE,
    &tokens::TOKENS,
    &context::CONTEXT,
    &needs::NEEDS,
    &time::TIME,
    &weekday::WEEKDAY,
    &budget::BUDGET,
    &queue::QUEUE,
    &health::HEALTH,
    &detected::DETECTED,
];

/// Most words of a condition: a list that is read in a review.
const WORDS_MAX: usize = 1000;

/// A kind of condition.
pub(crate) struct Kind {
    /// The field of a rule that it is.
    pub(crate) name: &'static str,
    /// Reads that field.
    pub(crate) read: fn(&Value<'_>) -> Result<Box<dyn Condition>, Problem>,
}

/// A condition of a rule.
pub(crate) trait Condition: fmt::Debug + Send + Sync {
    /// Whether it holds.
    fn holds(&self, seen: &Seen<'_>) -> Verdict;
}

/// What conditions are asked about.
pub(crate) struct Seen<'a> {
    pub(crate) facts: &'a Facts,
    /// Of the request, after all that raises it.
    pub(crate) label: Label,
}

/// Whether a condition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    /// Why not: what is, and what the rule says.
    No(String),
    /// The fact is not known.
    Unknown,
}

impl Verdict {
    /// That of a known fact, with what to say where it does not hold.
    fn of(holds: bool, why_not: impl FnOnce() -> String) -> Self {
        if holds { Self::Yes } else { Self::No(why_not()) }
    }
}

/// The elements of `value`, of which there are few.
fn words<'a>(value: &Value<'a>) -> Result<Vec<Value<'a>>, Problem> {
    let words = value.elements()?;
    let n = words.len();
    if n > WORDS_MAX {
        return Err(value.wrong(format!("{n} elements, expected at most {WORDS_MAX}")));
    }
    Ok(words)
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of the kinds have in common.

    use super::*;
    use crate::rule::Rules;

    fn rules(condition: &str) -> Result<Rules, String> {
        let text = format!("[[rule]]\nname = \"r\"\n{condition}\noutcome = \"here\"\n");
        Rules::parse("t.toml", &text).map_err(|error| error.to_string())
    }

    /// What `condition` says of the facts (`a=1 b=2`): none where it holds, `"?"` where it does not
    /// know, else why not.
    #[track_caller]
    pub(crate) fn check(condition: &str, facts: &str, expected: Option<&str>) {
        let rules = rules(condition).unwrap();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        let pairs: Vec<_> = facts.split_whitespace().map(pair).collect();
        let facts = Facts::from_pairs(&pairs).unwrap();
        let (label, _) = crate::label::of_request(&rules, &facts);
        let found = rules.only_condition().holds(&Seen { facts: &facts, label });
        let expected = match expected {
            None => Verdict::Yes,
            Some("?") => Verdict::Unknown,
            Some(why) => Verdict::No(why.to_owned()),
        };
        assert_eq!(found, expected, "{condition} of {facts:?}");
    }

    /// That `condition` cannot be read, in these words.
    #[track_caller]
    pub(crate) fn check_refused(condition: &str, words: &str) {
        let error = rules(condition).map(|_| ()).unwrap_err();
        assert!(error.contains(words), "{condition}: {error}\n  expected {words}");
    }
}
