//! The report that is kept for a later look, as JSON: the numbers, what became of each case, and
//! the answers that changed, with what differs. All of it is bounded, whatever models have said;
//! `json` has everything.

use serde_json::{Value, json as value};

use super::html::asked;
use super::json::side_of;
use super::{Report, changed_cases, changed_samples};
use crate::compare::Comparison;
use crate::diff::{Run, diff};

/// Cases that are told of: a set with more has its numbers, and those that fail first.
const N_CASES_MAX: usize = 2000;
/// Changed answers with their differences: more nobody reads.
const N_CHANGES_MAX: usize = 200;
/// Most bytes of all their texts together.
const TEXTS_BYTES_MAX: usize = 1 << 20;
/// Longest beginning of one text, in bytes: an answer of some 2000 words.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Longest beginning of why a case fails.
const WHY_BYTES_MAX: usize = 240;
/// Reasons of a decision that are told.
const N_REASONS_MAX: usize = 100;

/// The run, bounded.
pub fn kept(report: &Report<'_>) -> Value {
    let comparison = report.old.map(|(_, comparison)| comparison);
    let mut cases: Vec<usize> = (0..report.set.cases.len()).collect();
    cases.sort_by_key(|&case_idx| report.new.results[case_idx].is_passed);
    let n_cases = cases.len();
    let told = cases.into_iter().take(N_CASES_MAX).map(|case_idx| case_of(report, case_idx));
    let reasons = report.decision.reasons.iter().take(N_REASONS_MAX);
    let reasons = reasons.map(|why| beginning(why, TEXT_BYTES_MAX).0);
    let changes = comparison.map_or_else(Vec::new, |of| changes_of(report, of));
    let n_changes = comparison.map_or(0, |of| of.n_answers_changed);
    value!({
        "passed": report.decision.is_passed(),
        "reasons": reasons.collect::<Vec<_>>(),
        "new": side_of(&report.new),
        "old": report.old.map(|(old, _)| side_of(&old)),
        "comparison": comparison.map(numbers_of),
        "cases": told.collect::<Vec<Value>>(),
        "n_cases_left_out": n_cases.saturating_sub(N_CASES_MAX),
        "n_changes_left_out": n_changes.saturating_sub(changes.len()),
        "changes": changes,
    })
}

fn numbers_of(of: &Comparison) -> Value {
    value!({
        "n_compared": of.compared.len(),
        "n_left_out": of.n_left_out,
        "n_passed_old": of.n_passed[0],
        "n_passed_new": of.n_passed[1],
        "n_lost": of.lost.len(),
        "n_won": of.won.len(),
        "p_worse": of.p_worse,
        "gain": of.gain.map(|(gain, _)| gain),
        "gain_interval": of.gain.map(|(_, interval)| [interval.low, interval.high]),
        "n_answers": of.n_answers,
        "n_answers_changed": of.n_answers_changed,
    })
}

fn case_of(report: &Report<'_>, case_idx: usize) -> Value {
    let result = &report.new.results[case_idx];
    let failures = result.samples.iter().flat_map(|sample| &sample.failures);
    let why = failures.map(|failure| format!("{}: {}", failure.label, failure.problem)).next();
    value!({
        "id": report.set.cases[case_idx].id,
        "fate": report.fate(case_idx),
        "n_passed": result.n_passed,
        "n_answers": result.samples.len(),
        "why": why.map(|why| beginning(&why, WHY_BYTES_MAX).0.to_owned()),
    })
}

/// The answers that changed, as far as there is room for them.
fn changes_of(report: &Report<'_>, comparison: &Comparison) -> Vec<Value> {
    let Some((old, _)) = report.old else { return Vec::new() };
    let (mut changes, mut n_bytes) = (Vec::new(), 0);
    for case_idx in changed_cases(comparison) {
        let case = &report.set.cases[case_idx];
        let prompt = asked(&case.ask.prompt);
        let (prompt, is_prompt_cut) = beginning(&prompt, TEXT_BYTES_MAX);
        for (sample_idx, [old_text, new_text]) in
            changed_samples(old.candidate, report.new.candidate, case_idx)
        {
            let [(old_text, is_old_cut), (new_text, is_new_cut)] =
                [&old_text, &new_text].map(|text| beginning(text, TEXT_BYTES_MAX));
            n_bytes += prompt.len() + old_text.len() + new_text.len();
            if changes.len() == N_CHANGES_MAX || n_bytes > TEXTS_BYTES_MAX {
                return changes;
            }
            let [old_runs, new_runs] = diff(old_text, new_text);
            changes.push(value!({
                "id": case.id,
                "seed": case.seed + sample_idx as u64,
                "fate": report.fate(case_idx),
                "asked": prompt,
                "old": runs_of(&old_runs),
                "new": runs_of(&new_runs),
                "is_cut": is_prompt_cut || is_old_cut || is_new_cut,
            }));
        }
    }
    changes
}

/// Each run as its text and whether the other answer has it too.
fn runs_of(runs: &[Run<'_>]) -> Vec<Value> {
    runs.iter().map(|run| value!([run.text, run.is_common])).collect()
}

/// The beginning of a text, and whether that is not all of it.
fn beginning(text: &str, n_bytes_max: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(n_bytes_max);
    (&text[..end], end < text.len())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, with_report};
    use super::*;

    /// The text of runs.
    fn text(runs: &Value) -> String {
        let runs = runs.as_array().unwrap().iter();
        runs.map(|run| run[0].as_str().unwrap()).collect()
    }

    #[test]
    fn what_is_kept_has_the_numbers_and_the_differences() {
        let found = with_report(kept);
        assert_eq!((&found["passed"], &found["new"]["n_passed"]), (&value!(false), &value!(2)));
        assert_eq!(found["old"]["pass_rate_interval"].as_array().unwrap().len(), 2);
        assert_eq!(found["comparison"]["n_answers_changed"], 2);
        let fates: Vec<&Value> = found["cases"].as_array().unwrap().iter().collect();
        let fates: Vec<_> = fates.iter().map(|case| (&case["id"], &case["fate"])).collect();
        // What fails comes first.
        assert_eq!(fates[0], (&value!("c1"), &value!("lost")));
        let change = &found["changes"][0];
        assert_eq!((&change["id"], &change["fate"]), (&value!("c1"), &value!("lost")));
        assert_eq!((text(&change["old"]), text(&change["new"])), ("yes".into(), HOSTILE.into()));
        assert_eq!(change["old"][0][1], false);
        assert_eq!((&found["n_changes_left_out"], &change["is_cut"]), (&value!(0), &value!(false)));
    }

    #[test]
    fn a_beginning_ends_between_characters() {
        let check = |text: &str, n_bytes: usize, expected: (&str, bool)| {
            assert_eq!(beginning(text, n_bytes), expected, "{text} {n_bytes}");
        };
        check("abc", 3, ("abc", false));
        check("abc", 2, ("ab", true));
        check("aé", 2, ("a", true));
        check("", 0, ("", false));
    }
}
