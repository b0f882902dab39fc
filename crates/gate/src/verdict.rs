//! Holds answers against expectations.

use std::collections::HashMap;

use crate::answer::{Candidate, Outcome};
use crate::case::{Case, CaseSet};
use crate::error::Place;
use crate::expect::Measure;

/// What was measured, by case, sample and expectation.
pub type Measures = HashMap<(usize, usize, usize), Measure>;

/// The verdicts on all cases, in their order.
pub type Results = Vec<CaseResult>;

/// The verdict on a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// Of each answer; none of a record that does not have the case as it is now.
    pub samples: Vec<SampleResult>,
    /// Answers that meet all expectations.
    pub n_passed: usize,
    /// Whether those are as many as the case wants.
    pub is_passed: bool,
}

/// The verdict on one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleResult {
    /// What it does not meet; none where it passes.
    pub failures: Vec<Failure>,
}

/// An expectation that is not met.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Where it stands.
    pub place: Place,
    /// What was expected.
    pub label: String,
    /// What is wrong.
    pub problem: String,
}

impl CaseResult {
    /// The part of the answers that pass; `None` where there are none.
    pub fn rate(&self) -> Option<f64> {
        let n = self.samples.len();
        (n > 0).then(|| self.n_passed as f64 / n as f64)
    }
}

/// Holds all answers of `candidate` against the expectations of `set`. What could not be measured
/// and a request that was refused are failures.
pub fn judge(set: &CaseSet, candidate: &Candidate, measures: &Measures) -> Results {
    let judge_case = |(case_idx, case): (usize, &Case)| {
        let outcomes = candidate.outcomes.get(case_idx).map_or(&[][..], Vec::as_slice);
        let sample = |(sample_idx, outcome): (usize, &Outcome)| {
            let measure = |expect_idx| measures.get(&(case_idx, sample_idx, expect_idx)).copied();
            judge_sample(case, outcome, measure)
        };
        let samples: Vec<SampleResult> = outcomes.iter().enumerate().map(sample).collect();
        let n_passed = samples.iter().filter(|sample| sample.failures.is_empty()).count();
        let n = samples.len();
        // A quotient is rounded as the bound was when it was read; a product may end above it.
        let is_passed = n > 0 && n_passed as f64 / n as f64 >= case.min_pass_rate;
        CaseResult { samples, n_passed, is_passed }
    };
    set.cases.iter().enumerate().map(judge_case).collect()
}

fn judge_sample(
    case: &Case,
    outcome: &Outcome,
    measure: impl Fn(usize) -> Option<Measure>,
) -> SampleResult {
    let answer = match outcome {
        Outcome::Answered(answer) => answer,
        Outcome::Failed(problem) => {
            let label = "an answer".to_owned();
            let failure = Failure { place: case.place.clone(), label, problem: problem.clone() };
            return SampleResult { failures: vec![failure] };
        }
    };
    let failure = |(expect_idx, expectation): (usize, &crate::Expectation)| {
        let problem = expectation.check(answer, measure(expect_idx)).err()?;
        let (place, label) = (expectation.place.clone(), expectation.label.clone());
        Some(Failure { place, label, problem })
    };
    SampleResult { failures: case.expect.iter().enumerate().filter_map(failure).collect() }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Sets and candidates for tests.

    use super::*;
    use crate::answer::{Answer, Facts};

    /// Cases `c0`, `c1`, … that expect the text "yes".
    pub(crate) fn set(n_cases: usize) -> CaseSet {
        let case = |idx: usize| {
            let expect = "[{ contains = \"yes\" }]";
            format!("[[case]]\nid = \"c{idx}\"\nprompt = \"p{idx}\"\nexpect = {expect}\n")
        };
        let text: String = (0..n_cases).map(case).collect();
        CaseSet::parse(&[("t.toml".to_owned(), text)]).unwrap()
    }

    /// A candidate with one answer to each case.
    pub(crate) fn candidate(name: &str, texts: &[&str]) -> Candidate {
        let answer = |text: &&str| {
            let (text, finish) = ((*text).to_owned(), "stop".to_owned());
            vec![Outcome::Answered(Answer { text, finish, ..Answer::default() })]
        };
        let outcomes = texts.iter().map(answer).collect();
        Candidate { name: name.to_owned(), facts: Facts::default(), outcomes }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::answer::Answer;
    use crate::pairwise::Preference;

    #[test]
    fn a_case_passes_by_its_rate() {
        let check_of = |n: usize, rate: f64, n_yes: usize, expected: bool| {
            let mut set = set(1);
            set.cases[0].min_pass_rate = rate;
            let answer = |idx: usize| {
                let text = if idx < n_yes { "yes" } else { "no" }.to_owned();
                Outcome::Answered(Answer { text, ..Answer::default() })
            };
            let outcomes = vec![(0..n).map(answer).collect()];
            let candidate = Candidate { outcomes, ..candidate("a", &[]) };
            let results = judge(&set, &candidate, &Measures::default());
            assert_eq!(results[0].is_passed, expected, "{n_yes} of {n}, at least {rate}");
            assert_eq!(results[0].rate(), Some(n_yes as f64 / n as f64));
        };
        // 0.28 times 25 is above 7 in floating point.
        check_of(25, 0.28, 7, true);
        check_of(25, 0.28, 6, false);
        let check = |rate, n_yes, expected| check_of(10, rate, n_yes, expected);
        check(1.0, 10, true);
        check(1.0, 9, false);
        check(0.7, 7, true);
        check(0.7, 6, false);
        check(0.0, 0, true);
    }

    #[test]
    fn what_was_not_answered_has_failed() {
        let set = set(2);
        let failed = vec![Outcome::Failed("refused".to_owned())];
        let candidate = Candidate { outcomes: vec![failed, vec![]], ..candidate("a", &[]) };
        let results = judge(&set, &candidate, &Measures::default());
        assert_eq!(results[0].samples[0].failures[0].problem, "refused");
        assert!(!results[0].is_passed && !results[1].is_passed);
        assert_eq!(results[1].rate(), None);
    }

    #[test]
    fn measures_belong_to_their_expectation() {
        let text = "[[case]]\nid = \"a\"\nprompt = \"p\"\nexpect = [{ similar = \"x\", min = 0.5 }, \
                    { judge = \"tone\", reference = \"r\", at_least = \"win\" }]";
        let set = CaseSet::parse(&[("t.toml".to_owned(), text.to_owned())]).unwrap();
        let candidate = candidate("a", &["anything"]);
        let check = |measures: &[((usize, usize, usize), Measure)], expected: &[&str]| {
            let results = judge(&set, &candidate, &measures.iter().copied().collect());
            let failures = results[0].samples[0].failures.iter();
            let found: Vec<&str> = failures.map(|failure| failure.problem.as_str()).collect();
            assert_eq!(found, expected);
        };
        check(&[], &["its similarity was not measured", "it was not judged"]);
        let near = ((0, 0, 0), Measure::Similarity(0.5));
        let won = ((0, 0, 1), Measure::Preference(Preference::Answer));
        check(&[near, won], &[]);
        let far = ((0, 0, 0), Measure::Similarity(0.25));
        let tied = ((0, 0, 1), Measure::Preference(Preference::Neither));
        check(
            &[far, tied],
            &[
                "similarity 0.250, expected at least 0.5",
                "the judge prefers neither, expected a win in both orders",
            ],
        );
    }
}
