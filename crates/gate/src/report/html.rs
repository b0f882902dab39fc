//! The report for browsers: one file that loads nothing, runs nothing, and is readable in light and
//! dark. What models have said stands in it as text; the policy in its head forbids scripts, should
//! any of it ever become more than that.

use super::{
    Rate, Report, Speed, changed_cases, changed_samples, facts, mebibytes, svg, transcript,
};
use crate::case::Prompt;
use crate::compare::Comparison;
use crate::decision::{percent, probability};
use crate::diff::{Run, diff};
use crate::verdict::CaseResult;

/// Changed answers that are shown side by side: more nobody reads, and the file stays small.
const N_DIFFS: usize = 1000;

/// Longest beginning of a failure that stands beside a case's name, in characters.
const N_WHY_CHARS: usize = 240;

/// Cases that are shown of those that fail, and of those that pass.
const N_CASES: usize = 1000;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#59636e;--line:#d1d9e0;--a:#8c959f;
--b:#0969da;--good:#1a7f37;--bad:#cf222e;--goodbg:#dafbe1;--badbg:#ffebe9}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#9198a1;--line:#3d444d;
--a:#848d97;--b:#4493f8;--good:#3fb950;--bad:#f85149;--goodbg:#12361e;--badbg:#4a1a1d}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:72rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
.passed{color:var(--good)}.refused{color:var(--bad)}.dim{color:var(--dim)}
table{border-collapse:collapse;width:100%;table-layout:fixed}
td,th{border:1px solid var(--line);padding:.4rem .6rem;text-align:left;vertical-align:top;
overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font:13px/1.45 ui-monospace,monospace}
del{background:var(--badbg);text-decoration:underline dotted}
ins{background:var(--goodbg);text-decoration:underline}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:.4rem .7rem}
summary{cursor:pointer;overflow-wrap:anywhere}.asked{white-space:pre-wrap}
details pre{margin:.6rem 0;padding:.6rem;border-left:3px solid var(--line)}
td pre{border:0;padding:0}
div:target{outline:2px solid var(--b);outline-offset:.3rem}
figure{margin:1rem 0;max-width:44rem}figcaption{color:var(--dim)}
svg{width:100%;height:auto}text{fill:var(--fg);font:12px system-ui,sans-serif}
.tick{text-anchor:middle;fill:var(--dim)}.name{text-anchor:end}.grid{stroke:var(--line)}
.bar{fill:var(--b)}.two .b0{fill:var(--a)}.error,.mark{stroke:var(--fg);stroke-width:1.5;fill:none}
.cell{stroke:var(--line)}.pass{fill:var(--good)}.won{fill:var(--b)}.fail{fill:var(--a)}
.lost{fill:var(--bad)}.none{fill:none}
@media(max-width:40rem){text{font-size:20px}.name{font-size:17px}svg{overflow:visible}
details th{display:none}details td{display:block}
details td::before{content:attr(data-of);font-weight:bold;color:var(--dim)}}";

/// The whole page.
pub fn html(report: &Report<'_>) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">",
    );
    let sides = if report.old.is_some() { "two" } else { "one" };
    let verdict = escaped(&report.verdict());
    out.push_str(&format!(
        "<title>{verdict}</title><style>{STYLE}</style></head><body class=\"{sides}\">\n"
    ));
    let class = if report.decision.is_passed() { "passed" } else { "refused" };
    out.push_str(&format!("<h1 class=\"{class}\">{verdict}</h1>\n"));
    if !report.decision.reasons.is_empty() {
        let reasons = report.decision.reasons.iter();
        let reasons: String = reasons.map(|why| format!("<li>{}</li>", escaped(why))).collect();
        out.push_str(&format!("<ul>{reasons}</ul>\n"));
    }
    push_sides(report, &mut out);
    push_cells(report, &mut out);
    if let Some((_, comparison)) = report.old {
        push_comparison(comparison, &mut out);
        push_diffs(report, comparison, &mut out);
    }
    push_cases(report, &mut out);
    out.push_str("</body></html>\n");
    out
}

fn push_sides(report: &Report<'_>, out: &mut String) {
    for side in report.sides() {
        let rate = Rate::of(&side).words();
        let facts: Vec<String> = facts(side.candidate).iter().map(|line| escaped(line)).collect();
        out.push_str(&format!(
            "<p><b>{}</b>: {}<br><span class=\"dim\">{}</span></p>\n",
            escaped(&side.candidate.name),
            escaped(&rate),
            facts.join("<br>")
        ));
    }
    let name = |side: &crate::Side<'_>| side.candidate.name.clone();
    let names: Vec<String> = report.sides().map(|side| name(&side)).collect();
    let rates: Vec<(&str, Rate)> =
        names.iter().map(String::as_str).zip(report.sides().map(|side| Rate::of(&side))).collect();
    out.push_str(&svg::rates(&rates));
    // One bar alone says nothing.
    if report.old.is_none() {
        return;
    }
    let speeds = report.sides().map(|side| Speed::of(side.candidate).rate());
    let speeds: Vec<(&str, f64, String)> = names
        .iter()
        .zip(speeds)
        .map(|(name, speed)| (name.as_str(), speed, format!("{speed:.0} tokens/s")))
        .collect();
    out.push_str(&svg::bars("Tokens generated in a second, all sequences together", &speeds));
    let memory = report.sides().map(|side| side.candidate.facts.weight_bytes);
    let memory: Vec<(&str, f64, String)> = names
        .iter()
        .zip(memory)
        .map(|(name, n_bytes)| (name.as_str(), n_bytes as f64, mebibytes(n_bytes)))
        .collect();
    out.push_str(&svg::bars("Memory of the weights", &memory));
}

fn push_cells(report: &Report<'_>, out: &mut String) {
    let cell = |(case_idx, case): (usize, &crate::Case)| {
        let class = report.fate(case_idx);
        svg::Cell { class, words: format!("{}: {class}", case.id), target: id_of(case_idx) }
    };
    let cells: Vec<svg::Cell> = report.set.cases.iter().enumerate().map(cell).collect();
    let title = match report.old {
        Some(_) => {
            "Cases: green both pass, blue with + won, red with × lost, grey with × both fail"
        }
        None => "Cases: green passes, grey with × fails",
    };
    out.push_str(&svg::cells(title, &cells));
}

fn push_comparison(comparison: &Comparison, out: &mut String) {
    let [n_old, n_new] = comparison.n_passed;
    let points = |part: f64| format!("{:+.1}", 100.0 * part);
    let gain = comparison.gain.map_or(String::new(), |(gain, interval)| {
        let (low, high) = (points(interval.low), points(interval.high));
        format!("{} points (95 % interval {low} to {high}, percentile bootstrap)", points(gain))
    });
    let changed = comparison.n_answers_changed as f64 / comparison.n_answers.max(1) as f64;
    let rows = [
        ("Cases compared", comparison.compared.len().to_string()),
        ("Not compared", comparison.n_left_out.to_string()),
        ("Passed before, now", format!("{n_old}, {n_new}")),
        ("Lost, won", format!("{}, {}", comparison.lost.len(), comparison.won.len())),
        (
            "Chance of so many losses",
            format!("p = {} (McNemar, exact, one-sided)", probability(comparison.p_worse)),
        ),
        ("Mean pass rate", gain),
        (
            "Answers changed",
            format!(
                "{} of {} ({})",
                comparison.n_answers_changed,
                comparison.n_answers,
                percent(changed)
            ),
        ),
    ];
    let rows: String = rows
        .iter()
        .map(|(what, words)| format!("<tr><th>{what}</th><td>{}</td></tr>", escaped(words)))
        .collect();
    out.push_str(&format!("<h2>Comparison</h2><table>{rows}</table>\n"));
    if let Some((gain, interval)) = comparison.gain {
        out.push_str(&svg::gain(gain, interval));
    }
}

fn push_diffs(report: &Report<'_>, comparison: &Comparison, out: &mut String) {
    let Some((old, _)) = report.old else { return };
    let [old_name, new_name] =
        [old.candidate, report.new.candidate].map(|side| escaped(&side.name));
    let mut n_shown = 0;
    out.push_str(&format!("<h2>Answers that changed ({})</h2>\n", comparison.n_answers_changed));
    for case_idx in changed_cases(comparison) {
        let case = &report.set.cases[case_idx];
        for (sample_idx, [old_text, new_text]) in
            changed_samples(old.candidate, report.new.candidate, case_idx)
        {
            if n_shown == N_DIFFS {
                let n = comparison.n_answers_changed - n_shown;
                out.push_str(&format!("<p>{n} more, which <code>--json</code> lists</p>\n"));
                return;
            }
            n_shown += 1;
            let [old_runs, new_runs] = diff(&old_text, &new_text);
            let (open, fate) = if comparison.lost.contains(&case_idx) {
                (" open", ", <b class=\"refused\">lost</b>")
            } else if comparison.won.contains(&case_idx) {
                ("", ", <b>won</b>")
            } else {
                ("", "")
            };
            out.push_str(&format!(
                "<details{open}><summary>{} (seed {}){fate}</summary><p class=\"dim asked\">{}\
                 </p><table><tr><th>{old_name}</th><th>{new_name}</th></tr><tr>\
                 <td data-of=\"{old_name}\"><pre>{}</pre></td>\
                 <td data-of=\"{new_name}\"><pre>{}</pre></td></tr></table></details>\n",
                escaped(&case.id),
                case.seed + sample_idx as u64,
                escaped(&asked(&case.ask.prompt)),
                marked(&old_runs, "del"),
                marked(&new_runs, "ins"),
            ));
        }
    }
}

/// All cases with what was asked and answered: those that fail first.
fn push_cases(report: &Report<'_>, out: &mut String) {
    let cases = || report.set.cases.iter().zip(report.new.results).enumerate();
    let n_passed = cases().filter(|(_, (_, result))| result.is_passed).count();
    let n_failed = report.set.cases.len() - n_passed;
    for (title, n, is_passed) in
        [("Cases that fail", n_failed, false), ("Cases that pass", n_passed, true)]
    {
        if n == 0 {
            continue;
        }
        out.push_str(&format!("<h2>{title} ({n})</h2>\n"));
        let those = cases().filter(|(_, (_, result))| result.is_passed == is_passed);
        for (case_idx, (case, result)) in those.take(N_CASES) {
            push_case(report, case_idx, (case, result), out);
        }
        if n > N_CASES {
            let more = n - N_CASES;
            out.push_str(&format!("<p>{more} more, which <code>--json</code> lists</p>\n"));
        }
    }
}

/// A case with the answers that fail, or, where none does, all of them.
fn push_case(
    report: &Report<'_>,
    case_idx: usize,
    (case, result): (&crate::Case, &CaseResult),
    out: &mut String,
) {
    let failures = result.samples.iter().flat_map(|sample| &sample.failures);
    // The first is told without a click: mostly it is the only one.
    let why = failures.map(|failure| format!(": {}: {}", failure.label, failure.problem)).next();
    let rate = match why {
        Some(why) => {
            let why: String = why.chars().take(N_WHY_CHARS).collect();
            format!("{} of {} answers pass{why}", result.n_passed, result.samples.len())
        }
        None => String::new(),
    };
    // A link to what is in a closed element opens it.
    out.push_str(&format!(
        "<details><summary><b>{}</b> <span class=\"dim\">{}</span></summary><div id=\"{}\">\
         <p class=\"dim asked\">{}\n{}</p>",
        escaped(&case.id),
        escaped(&rate),
        id_of(case_idx),
        escaped(&case.place.to_string()),
        escaped(&asked(&case.ask.prompt)),
    ));
    for (sample_idx, sample) in result.samples.iter().enumerate() {
        if sample.failures.is_empty() && !result.is_passed {
            continue;
        }
        let failures = sample.failures.iter().map(|failure| {
            format!("<li>{}: {}</li>", escaped(&failure.label), escaped(&failure.problem))
        });
        let failures: String = failures.collect();
        if !failures.is_empty() {
            out.push_str(&format!("<ul>{failures}</ul>"));
        }
        let said = transcript(report.new.candidate, case_idx, sample_idx);
        out.push_str(&format!("<pre>{}</pre>", escaped(&said)));
    }
    out.push_str("</div></details>\n");
}

/// What a case is linked to by.
fn id_of(case_idx: usize) -> String {
    format!("case-{}", case_idx + 1)
}

/// The prompt, for people.
pub(super) fn asked(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Messages(messages) => {
            let messages = messages.as_array().map_or(&[][..], Vec::as_slice);
            let lines = messages.iter().map(|message| {
                let role = message["role"].as_str().unwrap_or("?");
                let content = &message["content"];
                let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
                format!("{role}: {text}")
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

fn marked(runs: &[Run<'_>], element: &str) -> String {
    let run = |run: &Run<'_>| match run.is_common {
        true => escaped(run.text),
        false => format!("<{element}>{}</{element}>", escaped(run.text)),
    };
    runs.iter().map(run).collect()
}

/// `text` as HTML may hold it, in elements and in attributes in double quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // Marks that turn the direction of text around would show something else.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::with_report;
    use super::*;

    #[test]
    fn the_page_says_what_happened() {
        let found = with_report(html);
        for part in [
            "<h1 class=\"refused\">REFUSED: new</h1>",
            "<li>2 of 3 cases passed (66.7 %), expected at least 90.0 %</li>",
            "aria-label=\"Pass rates with 95 % intervals (Wilson)\"",
            "aria-label=\"Gained pass rate with its 95 % interval: left of the line is worse\"",
            "<td data-of=\"old &quot;&lt;&amp;\">",
            "<title>c1: lost</title>",
            "<del>yes</del>",
            "prefers-color-scheme:dark",
            "old &quot;&lt;&amp;",
        ] {
            assert!(found.contains(part), "{part:?} is not in\n{found}");
        }
    }

    #[test]
    fn the_page_loads_and_runs_nothing() {
        let found = with_report(html);
        assert!(found.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
        for part in ["<script", "<img", "src=\"", "url(", "\u{1b}", "\u{0}"] {
            assert!(!found.contains(part), "{part:?} is in\n{found}");
        }
        // Links lead to the cases of the page.
        let targets = found.split("href=\"").skip(1);
        let targets: Vec<&str> = targets.filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(targets, ["#case-1", "#case-2", "#case-3"]);
        for target in targets {
            let id = format!("id=\"{}\"", &target[1..]);
            assert_eq!(found.matches(&id).count(), 1, "{target}");
        }
        assert_eq!(escaped("\u{202e}a'b"), "\u{fffd}a&#39;b");
    }

    /// Elements that are opened are closed, in order.
    #[test]
    fn the_page_is_well_formed() {
        let found = with_report(html);
        let mut open: Vec<&str> = Vec::new();
        for tag in found.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap_or_default();
            let is_void = matches!(name, "!doctype" | "meta" | "br") || tag.ends_with('/');
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !is_void {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
