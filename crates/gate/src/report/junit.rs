//! The report for continuous integration: JUnit's XML (as Apache Ant's `junit` task writes it, and
//! Jenkins and GitLab read it). One suite; a case that fails is a failure, a candidate that is
//! refused is one too.

use super::{Report, transcript};
use crate::answer::Outcome;
use crate::verdict::CaseResult;

/// Characters of an answer in a failure.
const N_CHARS: usize = 4000;

/// The suite of the candidate.
pub fn junit(report: &Report<'_>) -> String {
    let mut cases = String::new();
    let mut n_failures = 0;
    for (case_idx, (case, result)) in report.set.cases.iter().zip(report.new.results).enumerate() {
        let outcomes = &report.new.candidate.outcomes[case_idx];
        let seconds: f64 = outcomes.iter().map(seconds).sum();
        let head = format!(
            "  <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{seconds:.3}\"",
            escaped(&report.new.candidate.name),
            escaped(&case.id),
            escaped(&case.place.file),
            case.place.line,
        );
        if result.is_passed {
            cases.push_str(&format!("{head}/>\n"));
            continue;
        }
        n_failures += 1;
        let (message, body) = failure(report, case_idx, result);
        cases.push_str(&format!(
            "{head}>\n    <failure message=\"{}\">{}</failure>\n  </testcase>\n",
            escaped(&message),
            escaped(&body)
        ));
    }
    // So that a refusal for another reason than a case is seen too.
    let name = "the candidate passes the gate";
    let head = format!("  <testcase classname=\"gate\" name=\"{name}\"");
    if report.decision.is_passed() {
        cases.push_str(&format!("{head}/>\n"));
    } else {
        n_failures += 1;
        let reasons = report.decision.reasons.join("\n");
        let message = escaped(&report.verdict());
        cases.push_str(&format!(
            "{head}>\n    <failure message=\"{message}\">{}</failure>\n  </testcase>\n",
            escaped(&reasons)
        ));
    }
    let n = report.set.cases.len() + 1;
    let counts = format!("tests=\"{n}\" failures=\"{n_failures}\" errors=\"0\"");
    let time = report.new.candidate.facts.wall_s;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"freehold test {}\" {counts} time=\"{time:.3}\">\n{cases}</testsuite>\n",
        escaped(&report.new.candidate.name)
    )
}

fn seconds(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Answered(answer) => (answer.prefill_ms + answer.decode_ms) / 1e3,
        Outcome::Failed(_) => 0.0,
    }
}

/// What is wrong in one line, and all of it with the answer.
fn failure(report: &Report<'_>, case_idx: usize, result: &CaseResult) -> (String, String) {
    let failed = result.samples.iter().enumerate().find(|(_, sample)| !sample.failures.is_empty());
    let Some((sample_idx, sample)) = failed else {
        return ("not answered".to_owned(), String::new());
    };
    let lines = sample.failures.iter().map(|failure| {
        let (place, label, problem) = (&failure.place, &failure.label, &failure.problem);
        format!("{place}: {label}: {problem}")
    });
    let lines: Vec<String> = lines.collect();
    let answer = transcript(report.new.candidate, case_idx, sample_idx);
    let answer: String = answer.chars().take(N_CHARS).collect();
    let n = result.samples.len();
    let body = format!("{}\n{} of {n} answers pass\n\n{answer}", lines.join("\n"), result.n_passed);
    (lines.first().cloned().unwrap_or_default(), body)
}

/// `text` as XML 1.0 may hold it (<https://www.w3.org/TR/xml/#charsets>): what is no character of
/// it is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' | ' '..='\u{7e}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'.. => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::with_report;
    use super::*;

    #[test]
    fn the_suite_counts_what_failed() {
        let found = with_report(junit);
        for part in [
            "tests=\"4\" failures=\"2\" errors=\"0\"",
            "name=\"c0\" file=\"t.toml\" line=\"1\" time=\"0.000\"/>",
            "<failure message=\"t.toml:8: contains &quot;yes&quot;: does not contain",
            "name=\"the candidate passes the gate\">\n    <failure message=\"REFUSED: new\">",
        ] {
            assert!(found.contains(part), "{part:?} is not in\n{found}");
        }
    }

    #[test]
    fn no_answer_gets_out_of_its_element() {
        let found = with_report(junit);
        assert!(!found.contains("<script") && !found.contains("<img"), "{found}");
        assert!(!found.contains(['\u{1b}', '\u{0}']), "{found}");
        assert_eq!(escaped("a\u{7f}\u{85}\r\u{fffe}é𝄞"), "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}é𝄞");
    }
}
