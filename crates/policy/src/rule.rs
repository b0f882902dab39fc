//! The rules of an owner, read from TOML: `upstreams`, `[detect]` and `[[rule]]` tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::condition::{self, Condition, KINDS, Seen, Verdict};
use crate::detect::{self, Class, Settings};
use crate::error::{Place, PolicyError, Problem, quoted};
use crate::label::Label;
use crate::outcome::Outcome;
use crate::source::{Source, Table, Value};

/// The tables of a file that are the policy's alone, whatever else the file says.
pub const SECTIONS: [&str; 2] = ["detect", "rule"];
/// Most rules of a policy: more than anybody can follow.
const RULES_MAX: usize = 1000;
/// Most upstreams.
const UPSTREAMS_MAX: usize = 100;
/// Longest name of a rule or an upstream in characters.
const NAME_CHARS_MAX: usize = 120;

/// An owner's policy.
#[derive(Debug, Default)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    /// The labels that classes raise a request to.
    raises: BTreeMap<Class, Label>,
    settings: Settings,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// The names of the fields, and what they say.
    conditions: Vec<(&'static str, Box<dyn Condition>)>,
    /// The same for people, in the same order.
    told: Vec<String>,
    pub(crate) outcome: Outcome,
}

/// What becomes of fields of a file that are no policy's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Refused,
    /// Another reader has them.
    Passed,
}

/// What came of asking a rule.
pub(crate) struct Asked {
    /// The conditions that do not hold; empty: the rule decides.
    pub(crate) why_not: Vec<String>,
    /// Conditions over facts that are not known, which count as holding.
    pub(crate) assumed: Vec<String>,
}

impl Rules {
    /// Reads the policy `text`, which the owner calls `file`.
    ///
    /// # Errors
    /// All mistakes, of each rule the first, with lines and columns.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        Self::read(file, text, Others::Refused)
    }

    /// As [`Rules::parse`], of a file that says other things too, which are not looked at.
    ///
    /// # Errors
    /// As there.
    pub fn parse_among(file: &str, text: &str) -> Result<Self, PolicyError> {
        Self::read(file, text, Others::Passed)
    }

    fn read(file: &str, text: &str, others: Others) -> Result<Self, PolicyError> {
        let source = Source::new(file, text);
        let document = source.parse()?;
        let mut table = Table::new(&source, "", 0, document.get_ref());
        let mut problems = Vec::new();
        let mut or_problem = |problem| problems.push(problem);
        let mut rules = Self::default();
        let listed = table.take("upstreams").map_or(Ok(Vec::new()), |value| upstreams(&value));
        let mut upstreams = listed.map_err(&mut or_problem).unwrap_or_default();
        // Whoever reaches them reads what they are; here their names count.
        if let Some(tables) = table.take("upstream") {
            let tables = tables.table().map_err(&mut or_problem);
            let names = tables.iter().flat_map(Table::all).map(|(name, _)| Arc::from(name));
            upstreams.extend(names);
        }
        if let Some(detect) = table.take("detect") {
            let read = detect.table().and_then(|mut table| rules.read_detect(&mut table));
            read.unwrap_or_else(&mut or_problem);
        }
        let tables = table.take("rule").map_or(Ok(Vec::new()), |value| value.tables());
        for rule in tables.map_err(&mut or_problem).unwrap_or_default() {
            if rules.rules.len() == RULES_MAX {
                or_problem(rule.wrong(format!("expected at most {RULES_MAX} rules")));
                break;
            }
            match Rule::read(rule, &upstreams) {
                Ok(rule) => rules.rules.push(rule),
                Err(problem) => or_problem(problem),
            }
        }
        if others == Others::Refused {
            table.finish().unwrap_or_else(&mut or_problem);
        }
        rules.check_together().unwrap_or_else(&mut or_problem);
        problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
        if problems.is_empty() { Ok(rules) } else { Err(PolicyError::Wrong(problems)) }
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule: then everything is answered here, or refused.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All rules, in the order in which they are asked.
    pub fn all(&self) -> std::slice::Iter<'_, Rule> {
        self.rules.iter()
    }

    /// The names of the classes that raise a request, each with that of the label.
    pub fn raises(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.raises.iter().map(|(class, label)| (class.name(), label.name()))
    }

    /// How contents are looked through.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether what is decided depends on what is detected.
    pub fn ask_for_detection(&self) -> bool {
        !self.raises.is_empty() || self.ask_for("detected")
    }

    /// Whether any rule has the condition of this name.
    pub fn ask_for(&self, condition: &str) -> bool {
        let asks = |rule: &Rule| rule.conditions.iter().any(|(name, _)| *name == condition);
        self.rules.iter().any(asks)
    }

    /// The upstreams to which rules may send.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.outcome.upstream())
    }

    /// The label that contents of this class raise a request to.
    pub(crate) fn raised_by(&self, class: Class) -> Option<Label> {
        self.raises.get(&class).copied()
    }

    /// The label that contents of any class may raise a request to.
    pub(crate) fn highest_raise(&self) -> Option<Label> {
        self.raises.values().max().copied()
    }

    fn read_detect(&mut self, table: &mut Table<'_>) -> Result<(), Problem> {
        if let Some(raise) = table.take("raise") {
            for (name, value) in raise.table()?.all() {
                let label = value.word(RAISED)?;
                for class in detect::classes_named(&value, name, &[])? {
                    let raised = self.raises.entry(class).or_insert(label);
                    *raised = label.max(*raised);
                }
            }
        }
        self.settings = Settings::read(table)?;
        table.finish()
    }

    /// What is wrong of rules that are right each.
    fn check_together(&self) -> Result<(), Problem> {
        let mut names = BTreeSet::new();
        let mut all: Option<&Rule> = None;
        for rule in &self.rules {
            let wrong = |problem: String| {
                Err(Problem { place: rule.place.clone(), problem: format!("rule {problem}") })
            };
            let name = quoted(&rule.name);
            if !names.insert(&rule.name) {
                return wrong(format!("{name}: there is another one of this name"));
            }
            if let Some(before) = all {
                let before = quoted(&before.name);
                return wrong(format!("{name} is never asked: {before} has no conditions"));
            }
            if rule.conditions.is_empty() {
                all = Some(rule);
            }
        }
        Ok(())
    }

    /// The one condition of the one rule.
    #[cfg(test)]
    pub(crate) fn only_condition(&self) -> &dyn Condition {
        &*self.rules[0].conditions[0].1
    }
}

/// The labels that a request can be raised to.
const RAISED: &[(&str, Label)] = &[("internal", Label::Internal), ("private", Label::Private)];

/// A name of the owner's: not empty, short, on one line.
pub(crate) fn name<'a>(value: &Value<'a>) -> Result<&'a str, Problem> {
    let text = value.text()?;
    let n_chars = text.chars().count();
    if !(1..=NAME_CHARS_MAX).contains(&n_chars) || text.chars().any(char::is_control) {
        let expected = format!("expected 1 to {NAME_CHARS_MAX} characters, none of them controls");
        return Err(value.wrong(format!("{}, {expected}", quoted(text))));
    }
    Ok(text)
}

fn upstreams(value: &Value<'_>) -> Result<Vec<Arc<str>>, Problem> {
    let list = value.elements()?;
    let n = list.len();
    if n > UPSTREAMS_MAX {
        return Err(value.wrong(format!("{n} elements, expected at most {UPSTREAMS_MAX}")));
    }
    list.iter().map(|one| Ok(Arc::from(name(one)?))).collect()
}

impl Rule {
    fn read(mut table: Table<'_>, upstreams: &[Arc<str>]) -> Result<Self, Problem> {
        table.set_owner("rule: ".to_owned());
        let name = name(&table.must("name")?)?.to_owned();
        table.set_owner(format!("rule {}: ", quoted(&name)));
        let (mut conditions, mut told) = (Vec::new(), Vec::new());
        let mut labels = None;
        for kind in KINDS {
            let Some(value) = table.take(kind.name) else { continue };
            if kind.name == "label" {
                labels = Some(condition::label::read(&value)?);
            }
            conditions.push((kind.name, (kind.read)(&value)?));
            told.push(value.told());
        }
        let outcome = Outcome::read(&mut table, upstreams, labels.as_deref())?;
        table.finish()?;
        Ok(Self { name, place: table.place(), conditions, told, outcome })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it begins in its file; the first line is 1.
    pub fn line(&self) -> usize {
        self.place.line
    }

    /// The names of its conditions, each with what it says on one line.
    pub fn conditions(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.conditions.iter().zip(&self.told).map(|((name, _), told)| (*name, told.as_str()))
    }

    /// What becomes of a request by it, in words.
    pub fn outcome(&self) -> String {
        self.outcome.told()
    }

    /// Asks each condition. What is not known holds where the rule keeps or refuses, and does not
    /// where it may send.
    pub(crate) fn ask(&self, seen: &Seen<'_>) -> Asked {
        let mut asked = Asked { why_not: Vec::new(), assumed: Vec::new() };
        for (name, condition) in &self.conditions {
            match condition.holds(seen) {
                Verdict::Yes => {}
                Verdict::No(why) => asked.why_not.push(format!("{name} is {why}")),
                Verdict::Unknown if self.outcome.sends() => {
                    asked.why_not.push(format!("{name} is not known"));
                }
                Verdict::Unknown => asked.assumed.push(format!("{name} is not known")),
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(text: &str, expected: &[&str]) {
        let PolicyError::Wrong(found) = Rules::parse("t.toml", text).unwrap_err() else {
            panic!("expected mistakes");
        };
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n  expected {expected}");
        }
    }

    #[test]
    fn every_mistake_has_its_place() {
        check_error("[[rule]]\n", &["t.toml:1:1: rule: expected a field \"name\""]);
        check_error("x = = 1\n", &["t.toml:1:"]);
        check_error("rules = 1", &["t.toml:1:1: unknown field \"rules\", did you mean \"rule\"?"]);
        check_error("rule = 1", &["t.toml:1:8: rule: 1, expected [[rule]] tables"]);
        let text = "upstreams = [\"openai\"]\n\
                    [[rule]]\nname = \"a\"\nlable = \"public\"\noutcome = \"here\"\n\
                    [[rule]]\nname = \"b\"\n  outcome = \"hier\"\n\
                    [[rule]]\nname = \"c\"\nlabel = \"public\"\noutcome = \"there\"\nupstream = \"opnai\"\n";
        check_error(
            text,
            &[
                "t.toml:4:1: rule \"a\": unknown field \"lable\", did you mean \"label\"?",
                "t.toml:8:13: rule \"b\": outcome: \"hier\", did you mean \"here\"?",
                "t.toml:13:12: rule \"c\": upstream: \"opnai\", did you mean \"openai\"?",
            ],
        );
    }

    #[test]
    fn an_outcome_says_all_that_belongs_to_it() {
        let rule = |lines: &str| {
            format!("upstreams = [\"u\"]\n[[rule]]\nname = \"a\"\nlabel = \"public\"\n{lines}\n")
        };
        let here = "t.toml:5:1: rule \"a\": ";
        check_error(
            &rule("redacted = true\noutcome = \"here\""),
            &["t.toml:5:12: rule \"a\": redacted: outcome \"here\" sends nothing"],
        );
        check_error(
            &rule("outcome = \"refuse\""),
            &["t.toml:2:1: rule \"a\": outcome \"refuse\": expected a reason"],
        );
        check_error(
            &rule("outcome = \"there\""),
            &["t.toml:5:11: rule \"a\": outcome: \"there\": expected an upstream"],
        );
        check_error(
            &rule("reason = \"\"\noutcome = \"refuse\""),
            &["t.toml:5:10: rule \"a\": reason: \"\", expected 1 to"],
        );
        check_error(
            &rule("reason = \"x\"\noutcome = \"here\""),
            &["t.toml:5:10: rule \"a\": reason: expected it beside outcome"],
        );
        check_error(
            &rule("colour = 1\noutcome = \"here\""),
            &[&format!("{here}unknown field \"colour\", expected one of")],
        );
    }

    #[test]
    fn what_is_private_has_no_rule_that_sends_it() {
        let rule = |label: &str, outcome: &str| {
            format!(
                "upstreams = [\"u\"]\n[[rule]]\nname = \"a\"\n{label}\noutcome = \"{outcome}\"\nupstream = \"u\"\n"
            )
        };
        for outcome in ["there", "here-then-there", "there-then-here"] {
            for label in ["label = \"private\"", "label = [\"public\", \"private\"]"] {
                let expected = format!(
                    "t.toml:5:11: rule \"a\": outcome: \"{outcome}\" may send: what is private never leaves"
                );
                check_error(&rule(label, outcome), &[&expected]);
            }
            let expected = format!(
                "t.toml:5:11: rule \"a\": outcome: \"{outcome}\" may send: expected the labels that it is for"
            );
            check_error(&rule("", outcome), &[&expected]);
            check_error(&rule("alias = \"*\"", outcome), &[&expected]);
            assert!(
                Rules::parse("t", &rule("label = [\"public\", \"internal\"]", outcome)).is_ok()
            );
        }
    }

    #[test]
    fn a_rule_is_told_as_people_read_it() {
        let text = "upstreams = [\"u\"]\n[detect]\nraise = { iban = \"private\" }\n[[rule]]\n\
                    name = \"a\"\nlabel = [\"public\", \"internal\"]\noutcome = \"there\"\n\
                    upstream = \"u\"\nredacted = true\n[rule.tokens]\nmin = 1000\n[[rule]]\n\
                    name = \"b\"\noutcome = \"refuse\"\nreason = \"why\"\n";
        let rules = Rules::parse("t.toml", text).unwrap();
        let found: Vec<String> = rules
            .all()
            .map(|rule| {
                let conditions: Vec<_> = rule.conditions().collect();
                format!("{} {} {conditions:?} {}", rule.name(), rule.line(), rule.outcome())
            })
            .collect();
        let expected = [
            "a 4 [(\"label\", \"public, internal\"), (\"tokens\", \"min 1000\")] there: u, redacted",
            "b 12 [] refuse: why",
        ];
        assert_eq!(found, expected);
        assert!(rules.raises().eq([("iban", "private")]));
    }

    #[test]
    fn rules_that_can_never_decide_are_refused() {
        let rules = |second: &str| {
            format!(
                "[[rule]]\nname = \"a\"\noutcome = \"here\"\n[[rule]]\nname = \"{second}\"\noutcome = \"here\"\n"
            )
        };
        check_error(
            &rules("b"),
            &["t.toml:4:1: rule \"b\" is never asked: \"a\" has no conditions"],
        );
        check_error(&rules("a"), &["t.toml:4:1: rule \"a\": there is another one of this name"]);
        let many = |name: usize| {
            format!("[[rule]]\nname = \"{name}\"\nalias = \"a\"\noutcome = \"here\"\n")
        };
        let many: String = (0..1001).map(many).collect();
        check_error(&many, &["t.toml:4001:1: expected at most 1000 rules"]);
    }

    #[test]
    fn rules_may_stand_among_other_settings() {
        let text = "listen = \"127.0.0.1:1\"\n[upstream.big]\nkind = \"openai\"\n[[rule]]\n\
                    name = \"a\"\nlabel = \"public\"\noutcome = \"there\"\nupstream = \"big\"\n";
        let rules = Rules::parse_among("t.toml", text).unwrap();
        assert!(rules.upstreams().eq(["big"]) && !rules.ask_for_detection());
        check_error(text, &["t.toml:1:1: unknown field \"listen\", expected one of"]);
        let detected = "[[rule]]\nname = \"a\"\ndetected = \"none\"\noutcome = \"here\"\n";
        let rules = Rules::parse("t.toml", detected).unwrap();
        assert!(rules.upstreams().next().is_none() && rules.ask_for_detection());
        let wrong = text.replace("= \"big\"", "= \"bog\"");
        let found = Rules::parse_among("t.toml", &wrong).unwrap_err().to_string();
        assert!(found.contains("t.toml:8:12: rule \"a\": upstream: \"bog\", did you"), "{found}");
    }

    #[test]
    fn what_raises_is_a_class_or_a_group() {
        let raise = |table: &str| format!("[detect]\nraise = {{ {table} }}\n");
        let rules =
            Rules::parse("t", &raise("personal = \"internal\", iban = \"private\"")).unwrap();
        let of = |name: &str| rules.raised_by(Class::named(name).unwrap());
        assert_eq!((of("iban"), of("email")), (Some(Label::Private), Some(Label::Internal)));
        assert_eq!((of("jwt"), rules.highest_raise()), (None, Some(Label::Private)));
        check_error(
            &raise("emial = \"private\""),
            &["t.toml:2:19: detect.raise.emial: \"emial\", did you mean \"email\"?"],
        );
        check_error(
            &raise("email = \"public\""),
            &["t.toml:2:19: detect.raise.email: \"public\": expected one of"],
        );
    }
}
