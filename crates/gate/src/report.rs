//! Reports of a run: for a terminal, for programs, for continuous integration, for a browser.
//!
//! A report of the same answers is the same, but for times.

mod html;
mod json;
mod junit;
mod kept;
mod svg;
mod text;

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use kept::kept;
pub use text::text;

use std::collections::BTreeMap;

use crate::answer::{Candidate, Outcome};
use crate::case::CaseSet;
use crate::compare::{Comparison, Side};
use crate::decision::{Decision, percent};
use crate::stats::{Interval, wilson};

/// What a report is about.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The cases.
    pub set: &'a CaseSet,
    /// The candidate on which was decided.
    pub new: Side<'a>,
    /// The one beside it, and what became of the comparison.
    pub old: Option<(Side<'a>, &'a Comparison)>,
    /// The decision.
    pub decision: &'a Decision,
}

impl<'a> Report<'a> {
    /// The old one first.
    fn sides(&self) -> impl Iterator<Item = Side<'a>> {
        self.old.map(|(old, _)| old).into_iter().chain([self.new])
    }

    /// The decision in one line.
    fn verdict(&self) -> String {
        let name = &self.new.candidate.name;
        match self.decision.is_passed() {
            true => format!("PASSED: {name}"),
            false => format!("REFUSED: {name}"),
        }
    }

    /// What became of a case, in a word: `pass`, `fail`, or beside another `won` or `lost`.
    fn fate(&self, case_idx: usize) -> &'static str {
        let comparison = self.old.map(|(_, comparison)| comparison);
        let has = |list: fn(&Comparison) -> &Vec<usize>| {
            comparison.is_some_and(|comparison| list(comparison).contains(&case_idx))
        };
        match self.new.results[case_idx].is_passed {
            _ if has(|comparison| &comparison.lost) => "lost",
            _ if has(|comparison| &comparison.won) => "won",
            true => "pass",
            false => "fail",
        }
    }
}

/// The cases whose answers changed: what matters most comes first.
fn changed_cases(comparison: &Comparison) -> Vec<usize> {
    let mut changed = comparison.changed.clone();
    changed.sort_by_key(|case_idx| {
        (!comparison.lost.contains(case_idx), !comparison.won.contains(case_idx))
    });
    changed
}

/// How many cases a side passed.
struct Rate {
    n_passed: usize,
    n: usize,
    interval: Interval,
}

impl Rate {
    /// Of the cases that it answered.
    fn of(side: &Side<'_>) -> Self {
        let answered = side.results.iter().filter(|result| !result.samples.is_empty());
        let n = answered.clone().count();
        let n_passed = answered.filter(|result| result.is_passed).count();
        Self { n_passed, n, interval: wilson(n_passed, n) }
    }

    fn part(&self) -> f64 {
        self.n_passed as f64 / self.n.max(1) as f64
    }

    /// `41 of 46 cases passed: 89.1 % (95 % interval 77.0 % to 95.3 %)`.
    fn words(&self) -> String {
        let Interval { low, high } = self.interval;
        format!(
            "{} of {} cases passed: {} (95 % interval {} to {})",
            self.n_passed,
            self.n,
            percent(self.part()),
            percent(low),
            percent(high)
        )
    }
}

/// Tokens of all answers of a candidate, and how fast they came.
struct Speed {
    n_answers: usize,
    n_prompt: u64,
    n_generated: u64,
    wall_s: f64,
}

impl Speed {
    fn of(candidate: &Candidate) -> Self {
        let answers = || {
            candidate.outcomes.iter().flatten().filter_map(|outcome| match outcome {
                Outcome::Answered(answer) => Some(answer),
                Outcome::Failed(_) => None,
            })
        };
        Self {
            n_answers: answers().count(),
            n_prompt: answers().map(|answer| answer.n_prompt).sum(),
            n_generated: answers().map(|answer| answer.n_generated).sum(),
            wall_s: candidate.facts.wall_s,
        }
    }

    /// Tokens generated in a second.
    fn rate(&self) -> f64 {
        if self.wall_s > 0.0 { self.n_generated as f64 / self.wall_s } else { 0.0 }
    }
}

/// What a side takes and how fast it was, as lines.
fn facts(candidate: &Candidate) -> Vec<String> {
    let facts = &candidate.facts;
    let speed = Speed::of(candidate);
    let mut lines = vec![format!(
        "{} answers, {} tokens generated, {} of prompts, in {:.1} s: {:.0} tokens/s, {:.1} \
         sequences together, busy {:.0} % of the time",
        speed.n_answers,
        speed.n_generated,
        speed.n_prompt,
        speed.wall_s,
        speed.rate(),
        facts.mean_batch,
        100.0 * facts.busy,
    )];
    lines.push(format!(
        "{}file {}, weights {}, cache {}",
        facts.quantization.as_ref().map_or(String::new(), |name| format!("{name}, ")),
        mebibytes(facts.file_bytes),
        mebibytes(facts.weight_bytes),
        mebibytes(facts.kv_bytes),
    ));
    let answers = candidate.outcomes.iter().flatten();
    let mut notes: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in answers {
        if let Outcome::Answered(answer) = outcome {
            answer.notes.iter().for_each(|note| *notes.entry(note).or_default() += 1);
        }
    }
    // An application's requests would be treated so too.
    lines.extend(notes.into_iter().map(|(note, n)| format!("{n} requests {note}")));
    if let Some(record) = &facts.record {
        lines.push(format!("from the record {record}; times are those of then"));
    }
    lines
}

fn mebibytes(n_bytes: u64) -> String {
    format!("{:.1} MiB", n_bytes as f64 / f64::from(1 << 20))
}

/// The answers of one case and sample, for people.
fn transcript(candidate: &Candidate, case_idx: usize, sample_idx: usize) -> String {
    match candidate.outcomes[case_idx].get(sample_idx) {
        Some(Outcome::Answered(answer)) => answer.transcript(),
        Some(Outcome::Failed(why)) => format!("(failed) {why}"),
        None => String::new(),
    }
}

/// The answers of a changed case that differ: sample, old and new.
fn changed_samples(old: &Candidate, new: &Candidate, case_idx: usize) -> Vec<(usize, [String; 2])> {
    let n = old.outcomes[case_idx].len().min(new.outcomes[case_idx].len());
    let both = |sample_idx| [old, new].map(|side| transcript(side, case_idx, sample_idx));
    let samples = (0..n).map(|sample_idx| (sample_idx, both(sample_idx)));
    samples.filter(|(_, [old, new])| old != new).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! A run for the tests of the reports, with answers that try to get out of them.

    use super::*;
    use crate::decision::{Rule, decide};
    use crate::verdict::testing::{candidate, set};
    use crate::verdict::{Measures, judge};

    /// Ends of what any of the reports could hold it in, and controls.
    pub(crate) const HOSTILE: &str =
        "no </script><script>alert(1)</script> ]]> \" ' & \u{1b}[2J\u{0} {{x}} --> <img src=x>";

    /// Hands a report of two candidates to `then`.
    pub(crate) fn with_report<T>(then: impl FnOnce(&Report<'_>) -> T) -> T {
        let set = set(3);
        let mut old = candidate("old \"<&", &["yes", "yes", "no"]);
        old.facts.record = Some("old.jsonl".to_owned());
        if let Outcome::Answered(answer) = &mut old.outcomes[0][0] {
            answer.notes = vec!["adapted: tools".to_owned()];
        }
        let new = candidate("new", &["yes", HOSTILE, "yes"]);
        let [old_results, new_results] =
            [&old, &new].map(|candidate| judge(&set, candidate, &Measures::default()));
        let old = Side { candidate: &old, results: &old_results };
        let new = Side { candidate: &new, results: &new_results };
        let comparison = Comparison::new(&set, old, new);
        let rule = Rule { min_pass_rate: Some(0.9), ..Rule::default() };
        let decision = decide(&rule, &set, &new_results, Some(&comparison));
        then(&Report { set: &set, new, old: Some((old, &comparison)), decision: &decision })
    }
}
