//! The rule by which a candidate passes, and the decision with its reasons.
//!
//! A candidate is refused if any of this holds, and passes else:
//!
//! 1. a case that is `required` fails;
//! 2. the part of the cases that it passes is below `min_pass_rate`. Where nobody sets it, that is
//!    1 for a candidate alone, and no bound beside another;
//! 3. beside another: the part of the compared cases that it passes is more than `max_drop` below
//!    the other's (0.02 where nobody sets it);
//! 4. beside another: it lost more cases than it won, and that would happen by chance with a
//!    probability of at most `evidence` (0.05 where nobody sets it), by the exact one-sided test of
//!    McNemar;
//! 5. beside another: more than the part `max_changed` of the compared answers changed, where
//!    somebody sets that;
//! 6. beside another: there is no case to compare them on.

use crate::case::CaseSet;
use crate::compare::Comparison;
use crate::error::GateError;
use crate::fields::Fields;
use crate::verdict::Results;

/// The bounds of the rule; `None` is what it has where nobody sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rule {
    /// Least part of the cases that must pass.
    pub min_pass_rate: Option<f64>,
    /// Most that a candidate's pass rate may be below the other's.
    pub max_drop: Option<f64>,
    /// Probability from which on losses count as no chance.
    pub evidence: Option<f64>,
    /// Most part of the answers that may change.
    pub max_changed: Option<f64>,
}

/// Whether a candidate passed, and why not.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Why it is refused; none where it passed.
    pub reasons: Vec<String>,
}

impl Decision {
    /// Whether it passed.
    pub fn is_passed(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Rule {
    const MAX_DROP: f64 = 0.02;
    const EVIDENCE: f64 = 0.05;

    /// The fields of `[gate]` that are its own.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, GateError> {
        const PART: [f64; 2] = [0.0, 1.0];
        Ok(Self {
            min_pass_rate: fields.number("min_pass_rate", PART)?,
            max_drop: fields.number("max_drop", PART)?,
            evidence: fields.number("evidence", PART)?,
            max_changed: fields.number("max_changed", PART)?,
        })
    }

    /// This rule, where `self` sets nothing that of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            min_pass_rate: self.min_pass_rate.or(other.min_pass_rate),
            max_drop: self.max_drop.or(other.max_drop),
            evidence: self.evidence.or(other.evidence),
            max_changed: self.max_changed.or(other.max_changed),
        }
    }
}

/// Decides by `rule` on a candidate with these verdicts, alone or beside another.
pub fn decide(
    rule: &Rule,
    set: &CaseSet,
    results: &Results,
    comparison: Option<&Comparison>,
) -> Decision {
    let mut reasons = Vec::new();
    let failed = set.cases.iter().zip(results).filter(|(_, result)| !result.is_passed);
    for (case, _) in failed.clone().filter(|(case, _)| case.is_required) {
        reasons.push(format!("{} failed, which is required ({})", case.id, case.place));
    }
    let n_passed = results.len() - failed.count();
    let rate = n_passed as f64 / results.len().max(1) as f64;
    let min_rate = match (rule.min_pass_rate, comparison) {
        (Some(min), _) => min,
        (None, None) => 1.0,
        (None, Some(_)) => 0.0,
    };
    if rate < min_rate {
        let n = results.len();
        reasons.push(format!(
            "{n_passed} of {n} cases passed ({}), expected at least {}",
            percent(rate),
            percent(min_rate)
        ));
    }
    if let Some(comparison) = comparison {
        reasons.extend(compared(rule, comparison));
    }
    Decision { reasons }
}

/// What of the rule is about two candidates.
fn compared(rule: &Rule, comparison: &Comparison) -> Vec<String> {
    let mut reasons = Vec::new();
    let n = comparison.compared.len();
    if n == 0 {
        reasons.push("no case to compare the candidates on".to_owned());
        return reasons;
    }
    let max_drop = rule.max_drop.unwrap_or(Rule::MAX_DROP);
    if comparison.drop() > max_drop {
        let [old, new] = comparison.n_passed;
        reasons.push(format!(
            "{new} of {n} cases passed, {old} before: {} of the cases fewer, expected at most {}",
            percent(comparison.drop()),
            percent(max_drop)
        ));
    }
    let (n_lost, n_won) = (comparison.lost.len(), comparison.won.len());
    let evidence = rule.evidence.unwrap_or(Rule::EVIDENCE);
    if n_lost > n_won && comparison.p_worse <= evidence {
        reasons.push(format!(
            "{n_lost} cases lost and {n_won} won: by chance with p = {} (McNemar, exact, \
             one-sided), expected more than {evidence}",
            probability(comparison.p_worse)
        ));
    }
    let changed = comparison.n_answers_changed as f64 / comparison.n_answers.max(1) as f64;
    if let Some(max) = rule.max_changed.filter(|&max| changed > max) {
        reasons.push(format!(
            "{} of {} answers changed ({}), expected at most {}",
            comparison.n_answers_changed,
            comparison.n_answers,
            percent(changed),
            percent(max)
        ));
    }
    reasons
}

/// `part` as people read it.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

/// A probability as people read it.
pub(crate) fn probability(p: f64) -> String {
    if p >= 0.001 { format!("{p:.3}") } else { format!("{p:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Side;
    use crate::verdict::testing::{candidate, set};
    use crate::verdict::{Measures, judge};

    /// The reasons against the answers `new`, alone or beside `old`.
    fn reasons(rule: Rule, required: &[usize], new: &[&str], old: Option<&[&str]>) -> Vec<String> {
        let mut set = set(new.len());
        required.iter().for_each(|&idx| set.cases[idx].is_required = true);
        let new = candidate("new", new);
        let results = judge(&set, &new, &Measures::default());
        let comparison = old.map(|old| {
            let old = candidate("old", old);
            let old_results = judge(&set, &old, &Measures::default());
            let old = Side { candidate: &old, results: &old_results };
            Comparison::new(&set, old, Side { candidate: &new, results: &results })
        });
        decide(&rule, &set, &results, comparison.as_ref()).reasons
    }

    #[test]
    fn a_candidate_alone_must_reach_the_rate() {
        let rule = |rate| Rule { min_pass_rate: Some(rate), ..Rule::default() };
        let new = ["yes", "yes", "no", "yes"];
        assert_eq!(
            reasons(Rule::default(), &[], &new, None),
            ["3 of 4 cases passed (75.0 %), expected at least 100.0 %"]
        );
        assert!(reasons(rule(0.75), &[], &new, None).is_empty());
        assert_eq!(reasons(rule(0.76), &[], &new, None).len(), 1);
        let required = reasons(rule(0.0), &[1, 2], &new, None);
        assert_eq!(required, ["c2 failed, which is required (t.toml:9)"]);
    }

    #[test]
    fn a_candidate_must_not_be_worse_than_the_other() {
        let old = ["yes"; 20];
        let mut new = old;
        assert!(reasons(Rule::default(), &[], &new, Some(&old)).is_empty());
        new[0] = "no";
        let found = reasons(Rule::default(), &[], &new, Some(&old));
        assert_eq!(
            found,
            ["19 of 20 cases passed, 20 before: 5.0 % of the cases fewer, expected at most 2.0 %"]
        );
        let lax = Rule { max_drop: Some(1.0), ..Rule::default() };
        assert!(reasons(lax, &[], &new, Some(&old)).is_empty());
        // 5 of 5 by chance: 1 in 32.
        new[..5].fill("no");
        let found = reasons(lax, &[], &new, Some(&old));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("5 cases lost and 0 won: by chance with p = 0.031"));
        let strict = Rule { evidence: Some(0.01), ..lax };
        assert!(reasons(strict, &[], &new, Some(&old)).is_empty());
        // Better is never refused.
        assert!(reasons(Rule::default(), &[], &old, Some(&new)).is_empty());
    }

    #[test]
    fn changes_are_refused_where_that_is_asked() {
        let rule = Rule { max_changed: Some(0.0), ..Rule::default() };
        assert!(reasons(rule, &[], &["yes", "yes"], Some(&["yes", "yes"])).is_empty());
        assert_eq!(
            reasons(rule, &[], &["yes", "yes."], Some(&["yes", "yes"])),
            ["1 of 2 answers changed (50.0 %), expected at most 0.0 %"]
        );
    }

    #[test]
    fn flags_go_before_the_file() {
        let file = Rule { min_pass_rate: Some(0.5), max_drop: Some(0.1), ..Rule::default() };
        let flags = Rule { max_drop: Some(0.2), ..Rule::default() };
        let both = Rule { min_pass_rate: Some(0.5), max_drop: Some(0.2), ..Rule::default() };
        assert_eq!(flags.or(file), both);
    }
}
