//! The report for programs: one JSON object with everything that is known.

use serde_json::{Value, json as value};

use super::{Rate, Report, Speed};
use crate::answer::Outcome;
use crate::compare::{Comparison, Side};
use crate::verdict::{Failure, SampleResult};

/// The whole run.
pub fn json(report: &Report<'_>) -> Value {
    let cases = report.set.cases.iter().enumerate().map(|(case_idx, case)| {
        let of = |side: Side<'_>| case_of(&side, case_idx);
        value!({
            "id": case.id,
            "place": case.place.to_string(),
            "required": case.is_required,
            "min_pass_rate": case.min_pass_rate,
            "new": of(report.new),
            "old": report.old.map(|(old, _)| of(old)),
        })
    });
    value!({
        "passed": report.decision.is_passed(),
        "reasons": report.decision.reasons,
        "new": side_of(&report.new),
        "old": report.old.map(|(old, _)| side_of(&old)),
        "comparison": report.old.map(|(_, comparison)| comparison_of(report, comparison)),
        "cases": cases.collect::<Vec<Value>>(),
    })
}

pub(super) fn side_of(side: &Side<'_>) -> Value {
    let (rate, speed) = (Rate::of(side), Speed::of(side.candidate));
    value!({
        "name": side.candidate.name,
        "facts": side.candidate.facts,
        "n_cases": rate.n,
        "n_passed": rate.n_passed,
        "pass_rate": rate.part(),
        "pass_rate_interval": [rate.interval.low, rate.interval.high],
        "n_prompt": speed.n_prompt,
        "n_generated": speed.n_generated,
        "tokens_per_s": speed.rate(),
    })
}

fn comparison_of(report: &Report<'_>, comparison: &Comparison) -> Value {
    let ids = |cases: &[usize]| -> Vec<&str> {
        cases.iter().map(|&case_idx| report.set.cases[case_idx].id.as_str()).collect()
    };
    value!({
        "n_compared": comparison.compared.len(),
        "n_left_out": comparison.n_left_out,
        "n_passed_old": comparison.n_passed[0],
        "n_passed_new": comparison.n_passed[1],
        "lost": ids(&comparison.lost),
        "won": ids(&comparison.won),
        "p_worse": comparison.p_worse,
        "gain": comparison.gain.map(|(gain, _)| gain),
        "gain_interval": comparison.gain.map(|(_, interval)| [interval.low, interval.high]),
        "n_answers": comparison.n_answers,
        "n_answers_changed": comparison.n_answers_changed,
        "changed": ids(&comparison.changed),
    })
}

fn case_of(side: &Side<'_>, case_idx: usize) -> Value {
    let result = &side.results[case_idx];
    let samples = side.candidate.outcomes[case_idx].iter().zip(&result.samples);
    let samples = samples.map(|(outcome, result)| sample_of(outcome, result));
    value!({
        "passed": result.is_passed,
        "pass_rate": result.rate(),
        "samples": samples.collect::<Vec<Value>>(),
    })
}

fn sample_of(outcome: &Outcome, result: &SampleResult) -> Value {
    let failure = |failure: &Failure| {
        let Failure { place, label, problem } = failure;
        value!({"place": place.to_string(), "expected": label, "problem": problem})
    };
    let failures: Vec<Value> = result.failures.iter().map(failure).collect();
    match outcome {
        Outcome::Answered(answer) => value!({"answer": answer, "failures": failures}),
        Outcome::Failed(why) => value!({"failed": why, "failures": failures}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HOSTILE, with_report};
    use super::*;

    #[test]
    fn the_report_has_everything() {
        let found = with_report(json);
        assert_eq!(found["passed"], false);
        assert_eq!(found["new"]["n_passed"], 2);
        assert_eq!(found["old"]["facts"]["record"], "old.jsonl");
        assert_eq!(found["comparison"]["lost"], value!(["c1"]));
        assert_eq!(found["comparison"]["n_answers_changed"], 2);
        let sample = &found["cases"][1]["new"]["samples"][0];
        assert_eq!(sample["answer"]["text"], HOSTILE);
        assert_eq!(sample["failures"][0]["place"], "t.toml:8");
    }
}
