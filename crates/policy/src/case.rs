//! The owner's own cases: what a request is, and what the rules must make of it.

use crate::decide::{Decision, decide};
use crate::detect::Detector;
use crate::error::{Place, PolicyError, Problem, quoted};
use crate::facts::Facts;
use crate::label::Label;
use crate::rule::{self, Rules};
use crate::source::{Source, Table};

/// Most cases of a file.
const CASES_MAX: usize = 20_000;
/// Routes by name.
const ROUTES: &[(&str, &str)] = &[
    ("here", "here"),
    ("there", "there"),
    ("here-then-there", "here-then-there"),
    ("there-then-here", "there-then-here"),
    ("refuse", "refuse"),
];

/// A case.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    facts: Facts,
    /// Contents in which something may be detected.
    text: Option<String>,
    expect: &'static str,
    upstream: Option<String>,
    is_redacted: Option<bool>,
    label: Option<Label>,
    rule: Option<String>,
}

/// What came of a case.
#[derive(Debug)]
pub struct CaseResult {
    /// What the rules say.
    pub decision: Decision,
    /// What is not as the case says; empty: it passed.
    pub failures: Vec<String>,
}

/// Reads the cases of a file: `[[case]]` tables, at least one.
///
/// # Errors
/// All mistakes, of each case the first, with lines and columns.
pub fn parse_cases(file: &str, text: &str) -> Result<Vec<Case>, PolicyError> {
    let source = Source::new(file, text);
    let document = source.parse()?;
    let mut table = Table::new(&source, "", 0, document.get_ref());
    let tables = table.take("case").map_or(Ok(Vec::new()), |value| value.tables())?;
    table.finish()?;
    let n = tables.len();
    if !(1..=CASES_MAX).contains(&n) {
        let expected = format!("expected 1 to {CASES_MAX} [[case]] tables");
        return Err(table.wrong(format!("{n} cases, {expected}")).into());
    }
    let mut problems = Vec::new();
    let read = |table| Case::read(table).map_err(|problem| problems.push(problem)).ok();
    let cases: Vec<Case> = tables.into_iter().filter_map(read).collect();
    if problems.is_empty() { Ok(cases) } else { Err(PolicyError::Wrong(problems)) }
}

impl Case {
    fn read(mut table: Table<'_>) -> Result<Self, Problem> {
        table.set_owner("case: ".to_owned());
        let name = rule::name(&table.must("name")?)?.to_owned();
        table.set_owner(format!("case {}: ", quoted(&name)));
        let request = table.take("request").map(|value| value.table()).transpose()?;
        let facts = request.map(|mut table| Facts::read(&mut table)).transpose()?;
        let facts = facts.unwrap_or_default();
        let text = table.take("text");
        if let Some(text) = text.as_ref().filter(|_| facts.detected.is_some()) {
            return Err(text.wrong("expected it or detected in request, not both"));
        }
        let text = text.map(|text| text.text().map(str::to_owned)).transpose()?;
        let owned = |value: Option<crate::source::Value<'_>>| {
            value.map(|value| value.text().map(str::to_owned)).transpose()
        };
        let expect = table.must("expect")?.word(ROUTES)?;
        let upstream = owned(table.take("upstream"))?;
        let is_redacted = table.take("redacted").map(|value| value.flag()).transpose()?;
        let label = table.take("label").map(|value| value.word(Label::NAMES)).transpose()?;
        let rule = owned(table.take("rule"))?;
        table.finish()?;
        let place = table.place();
        Ok(Self { name, place, facts, text, expect, upstream, is_redacted, label, rule })
    }

    /// Holds `rules` against it.
    ///
    /// # Errors
    /// A text that is too long.
    pub fn check(&self, rules: &Rules, detector: &Detector) -> Result<CaseResult, PolicyError> {
        let mut facts = self.facts.clone();
        if let Some(text) = &self.text {
            facts.detected = Some(detector.find(text)?.iter().map(|one| one.class).collect());
        }
        let decision = decide(rules, &facts);
        let mut failures = Vec::new();
        let mut expect = |what: &str, found: &str, expected: &str| {
            if found != expected {
                failures.push(format!("{what} {}, expected {}", quoted(found), quoted(expected)));
            }
        };
        expect("goes", decision.route.name(), self.expect);
        let departure = decision.route.departure();
        if let Some(upstream) = &self.upstream {
            expect("upstream", departure.map_or("none", |one| one.upstream()), upstream);
        }
        if let Some(is_redacted) = self.is_redacted {
            let found = departure.is_some_and(|one| one.is_redacted());
            expect("redacted", &found.to_string(), &is_redacted.to_string());
        }
        if let Some(label) = self.label {
            expect("label", decision.label.name(), label.name());
        }
        if let Some(rule) = &self.rule {
            expect("rule", decision.rule().map_or("none", |one| one.rule.as_str()), rule);
        }
        Ok(CaseResult { decision, failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "upstreams = [\"u\"]\n[detect]\nraise = { secret = \"private\" }\n\
        [[rule]]\nname = \"out\"\nlabel = \"public\"\noutcome = \"there\"\nupstream = \"u\"\n";

    fn failures(case: &str) -> Vec<String> {
        let rules = Rules::parse("t.toml", POLICY).unwrap();
        let detector = Detector::new(rules.settings());
        let cases = parse_cases("c.toml", &format!("[[case]]\nname = \"c\"\n{case}\n")).unwrap();
        cases[0].check(&rules, &detector).unwrap().failures
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let found = parse_cases("c.toml", text).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}\n  expected {expected}");
    }

    #[test]
    fn a_case_holds_the_rules_to_what_it_says() {
        let none: [&str; 0] = [];
        let public = "request = { key_label = \"public\", detected = \"none\" }\n";
        let all = "expect = \"there\"\nupstream = \"u\"\nredacted = false\nlabel = \"public\"\nrule = \"out\"";
        assert_eq!(failures(&format!("{public}{all}")), none);
        let wrong = "expect = \"here\"\nupstream = \"v\"\nredacted = true\nlabel = \"private\"\nrule = \"none\"";
        let expected = [
            "goes \"there\", expected \"here\"",
            "upstream \"u\", expected \"v\"",
            "redacted \"false\", expected \"true\"",
            "label \"public\", expected \"private\"",
            "rule \"out\", expected \"none\"",
        ];
        assert_eq!(failures(&format!("{public}{wrong}")), expected);
        assert_eq!(failures("expect = \"here\"\nrule = \"none\""), none);
    }

    #[test]
    fn a_text_is_looked_through() {
        let request = "request = { key_label = \"public\" }\n";
        let none: [&str; 0] = [];
        assert_eq!(failures(&format!("{request}text = \"hello\"\nexpect = \"there\"")), none);
        let secret = "text = \"key AKIAQ3EGRZ7LXPWN5T2B\"\nexpect = \"here\"\nlabel = \"private\"";
        assert_eq!(failures(&format!("{request}{secret}")), none);
    }

    #[test]
    fn what_is_no_case_is_told() {
        check_error("", "c.toml:1:1: 0 cases, expected 1 to");
        check_error(
            "[[case]]\nname = \"a\"\n",
            "c.toml:1:1: case \"a\": expected a field \"expect\"",
        );
        check_error(
            "[[case]]\nname = \"a\"\nexpect = \"their\"\n",
            "c.toml:3:10: case \"a\": expect: \"their\", did you mean \"there\"?",
        );
        check_error(
            "[[case]]\nname = \"a\"\nexpect = \"here\"\nrequest = { tokns = 1 }\n",
            "c.toml:4:13: case \"a\": request: unknown field \"tokns\", did you mean \"tokens\"?",
        );
        check_error(
            "[[case]]\nname = \"a\"\nexpect = \"here\"\ntext = \"\"\nrequest = { detected = \"none\" }\n",
            "c.toml:4:8: case \"a\": text: expected it or detected",
        );
        let two = "[[case]]\nname = \"a\"\n[[case]]\nname = \"b\"\nexpect = 1\n";
        check_error(two, "c.toml:1:1");
        check_error(two, "c.toml:5:10: case \"b\": expect: 1, expected a text");
    }
}
