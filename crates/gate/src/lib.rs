//! The behaviour gate: an owner's prompts with expectations, which a model change must pass.
//!
//! Pure: the texts of case files and answers come in, verdicts, statistics and reports go out. What
//! answers, and over what, it does not know: whoever runs it asks a model for each [`Ask`] of a
//! [`CaseSet`] and hands a [`Candidate`] back.
//!
//! ```
//! use freehold_gate::{Answer, CaseSet, Candidate, Facts, Measures, Outcome, decide, judge};
//!
//! let file = r#"
//! [[case]]
//! id = "capital"
//! prompt = "What is the capital of France?"
//! expect = [{ contains = "Paris" }]
//! "#;
//! let set = CaseSet::parse(&[("tests/facts.toml".to_owned(), file.to_owned())])?;
//! let answer = Answer { text: "It is Paris.".to_owned(), ..Answer::default() };
//! let outcomes = vec![vec![Outcome::Answered(answer)]];
//! let candidate = Candidate { name: "model".to_owned(), facts: Facts::default(), outcomes };
//! let results = judge(&set, &candidate, &Measures::default());
//! assert!(decide(&set.rule, &set, &results, None).is_passed());
//! # Ok::<(), freehold_gate::GateError>(())
//! ```
#![forbid(unsafe_code)]

mod answer;
mod case;
mod compare;
mod decision;
mod diff;
mod error;
mod expect;
mod fields;
mod json_path;
mod pairwise;
mod record;
mod report;
mod source;
mod stats;
mod verdict;

pub use answer::{Answer, Call, Candidate, Facts, Outcome};
pub use case::{Ask, Case, CaseSet, Prompt};
pub use compare::{Comparison, Side};
pub use decision::{Decision, Rule, decide};
pub use error::{GateError, Place};
pub use expect::{Expectation, Measure, Need};
pub use pairwise::{Preference, preference, question};
pub use record::{read, write};
pub use report::{Report, html, json, junit, kept, text};
pub use stats::{Interval, mcnemar_worse, wilson};
pub use verdict::{CaseResult, Failure, Measures, Results, SampleResult, judge};
