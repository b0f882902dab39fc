//! What is known of a request and of this machine when the rules are asked.
//!
//! What is not known is `None`, and is taken for the worse: see [`decide`](crate::decide()).

use std::collections::BTreeSet;

use crate::condition::time;
use crate::detect::Class;
use crate::error::{Place, PolicyError, Problem, listed, quoted};
use crate::label::Label;
use crate::source::{Source, Table, Value};

/// Most that is counted: tokens, requests.
pub(crate) const COUNT_MAX: u64 = 1 << 40;
/// Largest budget in the owner's currency.
const BUDGET_MAX: f64 = 1e15;
/// Longest text of a fact in bytes.
const TEXT_BYTES_MAX: usize = 1000;

/// Facts whose values are numbers.
const NUMBERS: &[&str] = &["tokens", "context", "budget", "queue"];

/// What a request needs of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Calls of tools.
    Tools,
    /// Images in the prompt.
    Images,
    /// An answer that keeps to a JSON schema.
    JsonSchema,
}

impl Capability {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] =
        &[("tools", Self::Tools), ("images", Self::Images), ("json_schema", Self::JsonSchema)];

    /// As rules name it.
    pub fn name(self) -> &'static str {
        named(Self::NAMES, self)
    }
}

/// How the engine here is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Ok,
    /// It answers, slower than it should.
    Slow,
    /// It answers nothing.
    Down,
}

impl Health {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] =
        &[("ok", Self::Ok), ("slow", Self::Slow), ("down", Self::Down)];

    /// As rules name it.
    pub fn name(self) -> &'static str {
        named(Self::NAMES, self)
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the days are what they are called")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] = &[
        ("mon", Self::Monday),
        ("tue", Self::Tuesday),
        ("wed", Self::Wednesday),
        ("thu", Self::Thursday),
        ("fri", Self::Friday),
        ("sat", Self::Saturday),
        ("sun", Self::Sunday),
    ];

    /// As rules name it.
    pub fn name(self) -> &'static str {
        named(Self::NAMES, self)
    }
}

fn named<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, one)| *one == value).map_or("", |(name, _)| name)
}

/// What rules are asked about. `None`: not known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// The label of the key; without one a request is private.
    pub key_label: Option<Label>,
    /// The label that the request asks for; counts where it raises.
    pub header_label: Option<Label>,
    /// Name of the key; empty: there is none.
    pub key: Option<String>,
    /// Name of the project; empty: there is none.
    pub project: Option<String>,
    /// The model as the application names it.
    pub alias: Option<String>,
    /// Path of the route, such as `/v1/chat/completions`.
    pub route: Option<String>,
    /// Tokens of the prompt.
    pub n_tokens: Option<u64>,
    /// Positions that the request needs: the prompt and the longest answer it asks for.
    pub n_ctx: Option<u64>,
    /// What it needs of a model.
    pub needs: Option<BTreeSet<Capability>>,
    /// Local time of day in minutes since midnight, below 1440.
    pub minute: Option<u16>,
    /// Local day of the week.
    pub weekday: Option<Weekday>,
    /// What is left of the budget, in the owner's currency.
    pub budget: Option<f64>,
    /// Requests that wait here.
    pub n_waiting: Option<u64>,
    /// How the engine here is.
    pub health: Option<Health>,
    /// The classes that were detected in the prompt.
    pub detected: Option<BTreeSet<Class>>,
    /// Why it cannot be answered here; `None`: it can.
    pub here_problem: Option<String>,
    /// Upstreams that cannot be asked now.
    pub down: BTreeSet<String>,
}

impl Facts {
    /// Reads facts as the command line has them: a name and a value each, lists with commas. The
    /// names are those of a case's `request`.
    ///
    /// # Errors
    /// The first that is not one.
    pub fn from_pairs(pairs: &[(String, String)]) -> Result<Self, PolicyError> {
        let mut text = String::new();
        for (name, value) in pairs {
            let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || !name.chars().all(is_bare) {
                let problem = format!("{}: expected NAME=VALUE", quoted(name));
                return Err(Problem { place: no_file(), problem }.into());
            }
            let value = match value {
                number if NUMBERS.contains(&&name[..]) && is_number(number) => number.clone(),
                list if list.contains(',') => {
                    let list = list.split(',').map(|one| toml::Value::from(one.trim()));
                    toml::Value::Array(list.collect()).to_string()
                }
                word => toml::Value::from(word.as_str()).to_string(),
            };
            text.push_str(&format!("{name} = {value}\n"));
        }
        let source = Source::without_lines("--request", &text);
        let table = source.parse()?;
        Ok(Self::read(&mut Table::new(&source, "", 0, table.get_ref()))?)
    }

    /// Reads the facts of a table, and refuses what else is there.
    pub(crate) fn read(table: &mut Table<'_>) -> Result<Self, Problem> {
        fn of<'a, T>(
            value: Option<Value<'a>>,
            read: impl FnOnce(&Value<'a>) -> Result<T, Problem>,
        ) -> Result<Option<T>, Problem> {
            value.as_ref().map(read).transpose()
        }
        let facts = Self {
            key_label: of(table.take("key_label"), |v| v.word(Label::NAMES))?,
            header_label: of(table.take("header_label"), |v| v.word(Label::NAMES))?,
            key: of(table.take("key"), text)?,
            project: of(table.take("project"), text)?,
            alias: of(table.take("alias"), text)?,
            route: of(table.take("route"), text)?,
            n_tokens: of(table.take("tokens"), |v| v.count([0, COUNT_MAX]))?,
            n_ctx: of(table.take("context"), |v| v.count([0, COUNT_MAX]))?,
            needs: of(table.take("needs"), needs)?,
            minute: of(table.take("time"), time::minute)?,
            weekday: of(table.take("weekday"), |v| v.word(Weekday::NAMES))?,
            budget: of(table.take("budget"), |v| v.number([-BUDGET_MAX, BUDGET_MAX]))?,
            n_waiting: of(table.take("queue"), |v| v.count([0, COUNT_MAX]))?,
            health: of(table.take("health"), |v| v.word(Health::NAMES))?,
            detected: of(table.take("detected"), detected)?,
            here_problem: of(table.take("here_problem"), text)?.filter(|text| !text.is_empty()),
            down: of(table.take("down"), texts)?.unwrap_or_default(),
        };
        table.finish()?;
        Ok(facts)
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn no_file() -> Place {
    Place { file: "--request".into(), line: 0, column: 0 }
}

fn text(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        let expected = format!("expected at most {TEXT_BYTES_MAX} bytes and no controls");
        return Err(value.wrong(format!("{}, {expected}", quoted(text))));
    }
    Ok(text.to_owned())
}

fn texts(value: &Value<'_>) -> Result<BTreeSet<String>, Problem> {
    value.elements()?.iter().map(text).collect()
}

/// A list, or `"none"`.
fn is_none(value: &Value<'_>) -> bool {
    value.text().is_ok_and(|text| text == "none")
}

fn needs(value: &Value<'_>) -> Result<BTreeSet<Capability>, Problem> {
    if is_none(value) {
        return Ok(BTreeSet::new());
    }
    value.elements()?.iter().map(|one| one.word(Capability::NAMES)).collect()
}

fn detected(value: &Value<'_>) -> Result<BTreeSet<Class>, Problem> {
    if is_none(value) {
        return Ok(BTreeSet::new());
    }
    let class = |one: &Value<'_>| {
        let name = one.text()?;
        Class::named(name).ok_or_else(|| {
            let names = Class::all().map(Class::name);
            let hint = crate::error::suggestion(name, names);
            let names = listed(Class::all().map(Class::name));
            one.wrong(format!("{}{hint}: expected \"none\" or some of {names}", quoted(name)))
        })
    };
    value.elements()?.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[&str]) -> Result<Facts, PolicyError> {
        let pair = |pair: &&str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Facts::from_pairs(&pairs.iter().map(pair).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check_error(pair: &str, expected: &str) {
        let found = parse(&[pair]).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}\n  expected {expected}");
    }

    #[test]
    fn facts_come_from_a_command_line() {
        let facts = parse(&[
            "key_label=public",
            "alias=gpt-4o",
            "tokens=1200",
            "needs=tools, images",
            "time=23:10",
            "weekday=sat",
            "budget=-0.5",
            "detected=none",
            "down=openai",
        ]);
        let facts = facts.unwrap();
        assert_eq!(facts.key_label, Some(Label::Public));
        assert_eq!(facts.alias.as_deref(), Some("gpt-4o"));
        assert_eq!((facts.n_tokens, facts.minute), (Some(1200), Some(23 * 60 + 10)));
        assert_eq!(facts.needs, Some([Capability::Tools, Capability::Images].into()));
        assert_eq!((facts.budget, facts.weekday), (Some(-0.5), Some(Weekday::Saturday)));
        assert_eq!(facts.detected, Some(BTreeSet::new()));
        assert!(facts.down.contains("openai") && facts.n_ctx.is_none());
    }

    #[test]
    fn what_is_no_fact_is_told() {
        check_error("tokns=1", "--request: unknown field \"tokns\", did you mean \"tokens\"?");
        check_error("tokens=many", "tokens: \"many\", expected a whole number from 0 to ");
        check_error("key_label=secret", "key_label: \"secret\": expected one of \"public\",");
        check_error("needs=tool", "needs: \"tool\", did you mean \"tools\"?");
        check_error("detected=emial", "detected: \"emial\", did you mean \"email\"?");
        check_error("time=25:00", "time: \"25:00\"");
        check_error("a b=1", "\"a b\": expected NAME=VALUE");
        check_error("tokens=0x10", "tokens: ");
    }
}
