//! Two candidates on the same cases: what the second lost and won, and how sure that is.

use crate::answer::{Candidate, Outcome};
use crate::case::CaseSet;
use crate::stats::{self, Interval};
use crate::verdict::{CaseResult, Results};

/// A candidate, or a record of one, with the verdicts on it.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Whose answers they are.
    pub candidate: &'a Candidate,
    /// The verdicts on it.
    pub results: &'a Results,
}

/// A candidate beside the one that it is to replace.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Cases that both answered, with the same requests; the numbers below are of those.
    pub compared: Vec<usize>,
    /// Cases that only one of them answered, or that were asked otherwise when it was recorded.
    pub n_left_out: usize,
    /// Cases that the old one passed and the new one fails.
    pub lost: Vec<usize>,
    /// Cases that the old one failed and the new one passes.
    pub won: Vec<usize>,
    /// Cases of which an answer says something else.
    pub changed: Vec<usize>,
    /// Answers that say something else, and all that were compared.
    pub n_answers_changed: usize,
    /// See `n_answers_changed`.
    pub n_answers: usize,
    /// Cases that each of them passed, the old one first.
    pub n_passed: [usize; 2],
    /// The mean over cases of what the new one's pass rate is above the old one's, and its 95 %
    /// interval; `None` without cases.
    pub gain: Option<(f64, Interval)>,
    /// How likely so many losses are if losing and winning are as likely
    /// ([`mcnemar_worse`](crate::mcnemar_worse)).
    pub p_worse: f64,
}

impl Comparison {
    /// Holds the new candidate against the old one.
    pub fn new(set: &CaseSet, old: Side<'_>, new: Side<'_>) -> Self {
        let mut found = Self {
            compared: Vec::new(),
            n_left_out: 0,
            lost: Vec::new(),
            won: Vec::new(),
            changed: Vec::new(),
            n_answers_changed: 0,
            n_answers: 0,
            n_passed: [0, 0],
            gain: None,
            p_worse: 1.0,
        };
        let mut gains = Vec::new();
        for case_idx in 0..set.cases.len() {
            let results = [old, new].map(|side| &side.results[case_idx]);
            let [Some(old_rate), Some(new_rate)] = results.map(CaseResult::rate) else {
                found.n_left_out += 1;
                continue;
            };
            found.compared.push(case_idx);
            gains.push(new_rate - old_rate);
            let passed = results.map(|result| result.is_passed);
            for (n_passed, is_passed) in found.n_passed.iter_mut().zip(passed) {
                *n_passed += usize::from(is_passed);
            }
            match passed {
                [true, false] => found.lost.push(case_idx),
                [false, true] => found.won.push(case_idx),
                _ => {}
            }
            let [old, new] = [old, new].map(|side| &side.candidate.outcomes[case_idx]);
            let n_changed = old.iter().zip(new).filter(|(old, new)| !is_same(old, new)).count();
            found.n_answers += old.len().min(new.len());
            found.n_answers_changed += n_changed;
            if n_changed > 0 {
                found.changed.push(case_idx);
            }
        }
        if !gains.is_empty() {
            let mean = gains.iter().sum::<f64>() / gains.len() as f64;
            found.gain = Some((mean, stats::bootstrap_mean(&gains)));
        }
        found.p_worse = stats::mcnemar_worse(found.lost.len(), found.won.len());
        found
    }

    /// What part of the compared cases the new candidate passes less than the old one; below 0
    /// where it passes more.
    pub fn drop(&self) -> f64 {
        let [old, new] = self.n_passed.map(|n| n as f64);
        (old - new) / (self.compared.len().max(1) as f64)
    }
}

fn is_same(old: &Outcome, new: &Outcome) -> bool {
    match (old, new) {
        (Outcome::Answered(old), Outcome::Answered(new)) => old.says_the_same(new),
        _ => old == new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::testing::{candidate, set};
    use crate::verdict::{Measures, judge};

    fn compare(old: &Candidate, new: &Candidate) -> Comparison {
        let set = set(old.outcomes.len());
        let [old_results, new_results] =
            [old, new].map(|candidate| judge(&set, candidate, &Measures::default()));
        let old = Side { candidate: old, results: &old_results };
        let new = Side { candidate: new, results: &new_results };
        Comparison::new(&set, old, new)
    }

    #[test]
    fn what_changed_is_counted() {
        let old = candidate("old", &["yes", "yes", "no", "no", "yes!"]);
        let new = candidate("new", &["yes", "no", "yes", "NO", "yes?"]);
        let found = compare(&old, &new);
        assert_eq!((&found.lost[..], &found.won[..]), (&[1][..], &[2][..]));
        assert_eq!(found.changed, [1, 2, 3, 4]);
        assert_eq!((found.n_answers_changed, found.n_answers), (4, 5));
        assert_eq!((found.n_passed, found.drop()), ([3, 3], 0.0));
        assert_eq!((found.gain.unwrap().0, found.p_worse), (0.0, 0.75));
    }

    #[test]
    fn the_same_answers_are_no_change() {
        let old = candidate("old", &["yes", "no"]);
        let found = compare(&old, &old);
        assert_eq!((found.n_answers_changed, found.p_worse, found.drop()), (0, 1.0, 0.0));
        assert_eq!(found.gain, Some((0.0, Interval { low: 0.0, high: 0.0 })));
    }

    #[test]
    fn what_one_has_not_answered_is_left_out() {
        let mut old = candidate("old", &["yes", "yes"]);
        old.outcomes[0].clear();
        let found = compare(&old, &candidate("new", &["no", "no"]));
        assert_eq!((&found.compared[..], found.n_left_out), (&[1][..], 1));
        assert_eq!(found.drop(), 1.0);
    }
}
