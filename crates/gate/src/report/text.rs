//! The report for a terminal: plain lines of at most 100 columns.

use super::{Rate, Report, changed_samples, facts};
use crate::compare::{Comparison, Side};
use crate::decision::{percent, probability};
use crate::diff::{Run, diff};
use crate::verdict::SampleResult;

/// Failures that are listed; the other reports have all.
const N_FAILURES: usize = 30;
/// Columns of each of two texts side by side, which with what stands between are 100.
const N_COLUMNS: usize = 47;
/// Lines of an answer that are shown.
const N_LINES: usize = 16;

/// The report, with the first `n_diffs` answers that changed side by side. It holds what models
/// have said, and so may hold control characters.
pub fn text(report: &Report<'_>, n_diffs: usize) -> String {
    let mut out = String::new();
    for side in report.sides() {
        out.push_str(&format!("{}\n  {}\n", side.candidate.name, Rate::of(&side).words()));
        for line in facts(side.candidate) {
            out.push_str(&format!("  {line}\n"));
        }
    }
    push_failures(report, &mut out);
    if let Some((old, comparison)) = &report.old {
        push_comparison(report, comparison, &mut out);
        push_diffs(report, old, comparison, n_diffs, &mut out);
    }
    out.push_str(&format!("\n{}\n", report.verdict()));
    for reason in &report.decision.reasons {
        out.push_str(&format!("  {reason}\n"));
    }
    out
}

fn push_failures(report: &Report<'_>, out: &mut String) {
    let results = report.set.cases.iter().zip(report.new.results);
    let failed: Vec<_> = results.filter(|(_, result)| !result.is_passed).collect();
    if failed.is_empty() {
        return;
    }
    out.push_str(&format!("\nFailed of {}:\n", report.new.candidate.name));
    for (case, result) in failed.iter().take(N_FAILURES) {
        let n = result.samples.len();
        let of = if n == 1 { String::new() } else { format!(" ({} of {n} pass)", result.n_passed) };
        let required = if case.is_required { ", required" } else { "" };
        out.push_str(&format!("  {}{of}{required}\n", case.id));
        let is_failed = |sample: &&SampleResult| !sample.failures.is_empty();
        // Of several answers the first that fails stands for all.
        for failure in result.samples.iter().find(is_failed).iter().flat_map(|s| &s.failures) {
            let (place, label, problem) = (&failure.place, &failure.label, &failure.problem);
            out.push_str(&format!("    {place}: {label}: {problem}\n"));
        }
    }
    if failed.len() > N_FAILURES {
        let n = failed.len() - N_FAILURES;
        out.push_str(&format!("  and {n} more, which --json, --junit and --html list\n"));
    }
}

fn push_comparison(report: &Report<'_>, comparison: &Comparison, out: &mut String) {
    let Comparison { compared, n_left_out, lost, won, .. } = comparison;
    let [n_old, n_new] = comparison.n_passed;
    out.push_str(&format!(
        "\nCompared on {} cases: {n_old} passed before, {n_new} now; {} lost, {} won, p = {} \
         (McNemar, exact, one-sided)\n",
        compared.len(),
        lost.len(),
        won.len(),
        probability(comparison.p_worse)
    ));
    if let Some((gain, interval)) = comparison.gain {
        let points = |part: f64| format!("{:+.1}", 100.0 * part);
        out.push_str(&format!(
            "  mean pass rate {} points (95 % interval {} to {}, bootstrap)\n",
            points(gain),
            points(interval.low),
            points(interval.high)
        ));
    }
    let n = comparison.n_answers;
    let part = comparison.n_answers_changed as f64 / n.max(1) as f64;
    out.push_str(&format!(
        "  {} of {n} answers changed ({})\n",
        comparison.n_answers_changed,
        percent(part)
    ));
    if *n_left_out > 0 {
        out.push_str(&format!(
            "  {n_left_out} cases are not compared: one side has not answered them, or was asked \
             otherwise\n"
        ));
    }
    for (what, cases) in [("lost", lost), ("won", won)] {
        let ids: Vec<&str> =
            cases.iter().take(N_FAILURES).map(|&idx| report.set.cases[idx].id.as_str()).collect();
        if !ids.is_empty() {
            let more = if cases.len() > ids.len() { ", …" } else { "" };
            out.push_str(&format!("  {what}: {}{more}\n", ids.join(", ")));
        }
    }
}

fn push_diffs(
    report: &Report<'_>,
    old: &Side<'_>,
    comparison: &Comparison,
    n_diffs: usize,
    out: &mut String,
) {
    let samples = comparison.changed.iter().flat_map(|&case_idx| {
        let samples = changed_samples(old.candidate, report.new.candidate, case_idx);
        samples.into_iter().map(move |(sample_idx, texts)| (case_idx, sample_idx, texts))
    });
    for (case_idx, sample_idx, [old_text, new_text]) in samples.take(n_diffs) {
        let case = &report.set.cases[case_idx];
        let seed = case.seed + sample_idx as u64;
        let changed = if comparison.lost.contains(&case_idx) {
            "lost"
        } else if comparison.won.contains(&case_idx) {
            "won"
        } else {
            "changed"
        };
        out.push_str(&format!("\n{} (seed {seed}), {changed}:\n", case.id));
        let [old_runs, new_runs] = diff(&old_text, &new_text);
        let old_lines = wrapped(&old_runs, ["[-", "-]"]);
        let new_lines = wrapped(&new_runs, ["{+", "+}"]);
        let n_lines = old_lines.len().max(new_lines.len());
        for line_idx in 0..n_lines.min(N_LINES) {
            let line = |lines: &[String]| lines.get(line_idx).cloned().unwrap_or_default();
            let (left, right) = (line(&old_lines), line(&new_lines));
            let padding = " ".repeat(N_COLUMNS.saturating_sub(left.chars().count()));
            out.push_str(format!("  {left}{padding} | {right}").trim_end());
            out.push('\n');
        }
        if n_lines > N_LINES {
            out.push_str(&format!("  … {} more lines\n", n_lines - N_LINES));
        }
    }
    if comparison.n_answers_changed > n_diffs && n_diffs > 0 {
        let n = comparison.n_answers_changed - n_diffs;
        out.push_str(&format!("\n{n} more answers changed (--diffs shows more, --html all)\n"));
    }
}

/// Runs as lines of at most [`N_COLUMNS`] characters, with marks around what is not common, as
/// `git diff --word-diff` has them.
fn wrapped(runs: &[Run<'_>], [open, close]: [&str; 2]) -> Vec<String> {
    let mut text = String::new();
    for run in runs {
        match run.is_common {
            true => text.push_str(run.text),
            // White space that differs is seen by its marks.
            false => text.extend([open, run.text, close]),
        }
    }
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut n_chars = 0;
        for word in paragraph.split(' ') {
            let n_word = word.chars().count();
            if n_chars > 0 && n_chars + 1 + n_word > N_COLUMNS {
                lines.push(std::mem::take(&mut line));
                n_chars = 0;
            } else if n_chars > 0 {
                line.push(' ');
                n_chars += 1;
            }
            for c in word.chars() {
                if n_chars == N_COLUMNS {
                    lines.push(std::mem::take(&mut line));
                    n_chars = 0;
                }
                line.push(if c == '\t' { ' ' } else { c });
                n_chars += 1;
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::testing::with_report;
    use super::*;

    #[test]
    fn the_report_says_what_happened() {
        let text = with_report(|report| text(report, 10));
        for part in [
            "old \"<&\n  2 of 3 cases passed: 66.7 % (95 % interval 20.8 % to 93.9 %)",
            "  1 requests adapted: tools\n  from the record old.jsonl",
            "Failed of new:\n  c1\n    t.toml:8: contains \"yes\": does not contain \"yes\"",
            "Compared on 3 cases: 2 passed before, 2 now; 1 lost, 1 won, p = 0.750",
            "mean pass rate +0.0 points (95 % interval -100.0 to +100.0, bootstrap)",
            "2 of 3 answers changed (66.7 %)",
            "  lost: c1\n  won: c2\n",
            "c1 (seed 0), lost:\n  [-yes-]",
            "c2 (seed 0), won:\n  [-no-]                                          | {+yes+}\n",
            "REFUSED: new\n  2 of 3 cases passed (66.7 %), expected at least 90.0 %\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let is_long = |line: &&str| line.chars().count() > 100;
        let of_diffs = text.lines().filter(|line| line.contains(" | "));
        assert_eq!(of_diffs.clone().find(is_long), None);
        assert!(of_diffs.count() >= 2);
    }

    #[test]
    fn long_words_are_broken() {
        let word = "x".repeat(100);
        let run = Run { text: &word, is_common: true };
        let lines = wrapped(&[run], ["", ""]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [47, 47, 6]);
    }
}
