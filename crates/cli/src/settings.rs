//! Settings: what a subcommand is told by flags, by the environment, by a file and by its defaults,
//! in this order.
//!
//! A setting is declared once, as an argument of clap's: its flag without the dashes is its key in
//! the file, and in capitals behind `FREEHOLD_` its environment variable; its parser reads all
//! three. So a new flag is a new setting, and there is no second list. What a value looks like in
//! the file follows from the argument too: a switch is a boolean, one that may be repeated a list,
//! and one of `NAME=VALUE` a table.

mod example;
mod file;
pub(crate) mod upstreams;
mod variables;

use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::ValueRange;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

pub(crate) use example::example;
use upstreams::Told;
pub(crate) use variables::unknown_variables;

/// The file, where no other is named.
pub(crate) const FILE: &str = "freehold.toml";
/// The flag that names the file; it cannot stand in it.
const CONFIG: &str = "config";
/// What lists of models are called, and the flag that is another way to name one.
const MODELS: &str = "models";
const MODEL: &str = "model";
/// What names of environment variables begin with.
const PREFIX: &str = "FREEHOLD_";
/// Ends of the names of settings whose values are told to nobody.
const SECRETS: [&str; 3] = ["token", "secret", "password"];
/// What is told instead.
const SET: &str = "(set)";

/// The settings of a subcommand.
pub(crate) struct Settings {
    command: Command,
}

/// What a value is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Switch,
    One,
    List,
    Table,
}

/// Where something stands in a file; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(Place),
    Variable(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => place.fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A setting with its value, as its flag would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    name: String,
    shape: Shape,
    texts: Vec<OsString>,
    default: Vec<OsString>,
    origin: Origin,
}

/// What was said on the command line. It stays in force when the file is read anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    texts: Vec<(String, Vec<OsString>)>,
    config: Option<PathBuf>,
}

/// The value of every setting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    values: Vec<Value>,
    /// What the file alone can say.
    upstreams: Vec<Told>,
    file: Option<PathBuf>,
}

/// Lets switches be switched off too: the file may have switched them on.
pub(crate) fn overridable(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(ValueRange::from(0..=1))
            .require_equals(true)
            .value_name("true|false")
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true),
        _ => arg,
    })
}

impl Settings {
    /// Those that the arguments `A` declare.
    pub(crate) fn of<A: clap::Args>() -> Self {
        let mut command = A::augment_args(Command::new("settings").disable_help_flag(true));
        command.build();
        Self { command }
    }

    fn args(&self) -> impl Iterator<Item = &Arg> {
        let is_setting = |arg: &&Arg| ![CONFIG, MODEL].contains(&arg.get_id().as_str());
        self.command.get_arguments().filter(is_setting)
    }

    /// The names of all.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.args().map(name_of)
    }

    fn find(&self, name: &str) -> Option<&Arg> {
        self.args().find(|arg| name_of(arg) == name)
    }

    /// What was said of them on the command line that `matches` is of.
    pub(crate) fn flags(&self, matches: &ArgMatches) -> Flags {
        let said = |id: &str| {
            let is_said = matches.value_source(id) == Some(ValueSource::CommandLine);
            let texts = matches.get_raw(id).into_iter().flatten().map(OsStr::to_owned);
            if is_said { texts.collect() } else { Vec::new() }
        };
        let texts = self.args().map(|arg| {
            let mut texts = said(arg.get_id().as_str());
            if arg.get_id() == MODELS {
                texts.extend(said(MODEL));
            }
            (name_of(arg), texts)
        });
        let texts = texts.filter(|(_, texts)| !texts.is_empty()).collect();
        Flags { texts, config: said(CONFIG).pop().map(PathBuf::from) }
    }

    /// The value of each setting, with what is in the environment and in the file now. Where no
    /// file is named, one in the current folder is taken, else one in `home`, else none.
    ///
    /// # Errors
    /// All that is wrong, each with its place, value and expectation.
    pub(crate) fn resolve(&self, flags: &Flags, home: &Path) -> Result<Resolved, Vec<String>> {
        let file = flags.file(home);
        let found = file.as_ref().map(|path| file::read(self, path)).unwrap_or_default();
        let file::Found { entries, upstreams, mut problems } = found;
        let mut values = Vec::new();
        for arg in self.args() {
            let name = name_of(arg);
            let default: Vec<OsString> =
                arg.get_default_values().iter().map(|text| (**text).to_owned()).collect();
            let flag = flags.texts.iter().find(|(of, _)| *of == name);
            let variable = variable_of(&name);
            let entry = entries.iter().find(|entry| entry.name == name);
            // Also of what is outranked: the file is to be right, whoever reads it.
            problems.extend(
                entry
                    .into_iter()
                    .flat_map(|entry| &entry.items)
                    .filter_map(|item| check(arg, &format!("{}: {name}", item.place), &item.text)),
            );
            let (texts, origin) = if let Some((_, texts)) = flag {
                (texts.clone(), Origin::Flag)
            } else if let Some(text) = environment(&variable) {
                let texts = split(shape(arg), text);
                problems.extend(texts.iter().filter_map(|text| check(arg, &variable, text)));
                (texts, Origin::Variable(variable))
            } else if let Some(entry) = entry {
                let texts = entry.items.iter().map(|item| item.text.clone()).collect();
                (texts, Origin::File(entry.place.clone()))
            } else {
                (default.clone(), Origin::Default)
            };
            values.push(Value { name, shape: shape(arg), texts, default, origin });
        }
        if problems.is_empty() { Ok(Resolved { values, upstreams, file }) } else { Err(problems) }
    }
}

impl Flags {
    /// The file that is to be read.
    fn file(&self, home: &Path) -> Option<PathBuf> {
        let named = self.config.clone();
        let named = named.or_else(|| environment(&variable_of(CONFIG)).map(PathBuf::from));
        let is_there = |path: &PathBuf| path.exists();
        named
            .or_else(|| Some(PathBuf::from(FILE)).filter(is_there))
            .or_else(|| Some(home.join(FILE)).filter(is_there))
    }

    /// The same, but of another file.
    pub(crate) fn with_file(self, file: Option<PathBuf>) -> Self {
        Self { config: file.or(self.config), ..self }
    }
}

impl Resolved {
    /// All of them, in the order of their declaration.
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// The upstreams, in the order of the file.
    pub(crate) fn upstreams(&self) -> &[Told] {
        &self.upstreams
    }

    /// The file that was read, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The value of a setting that has one; `None` where it is not said, or is no text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let value = self.values.iter().find(|value| value.name == name)?;
        value.texts.first()?.to_str().map(str::to_owned)
    }

    /// Where the value of a setting was said, for messages about it.
    pub(crate) fn place(&self, name: &str) -> String {
        match self.values.iter().find(|value| value.name == name).map(|value| &value.origin) {
            Some(Origin::File(place)) => format!("{place}: {name}"),
            Some(Origin::Variable(variable)) => variable.clone(),
            Some(Origin::Flag | Origin::Default) | None => format!("--{name}"),
        }
    }

    /// The arguments that these values are.
    ///
    /// # Errors
    /// What clap says of them together.
    pub(crate) fn read<A: clap::Args>(&self) -> Result<A, String> {
        let (mut flags, mut named) = (Vec::new(), vec![OsString::from("--")]);
        // What is as it is anyway is as good as not said.
        for value in self.values.iter().filter(|value| !value.is_default()) {
            for text in &value.texts {
                if value.name == MODELS {
                    named.push(text.clone());
                    continue;
                }
                let mut flag = OsString::from(format!("--{}=", value.name));
                flag.push(text);
                flags.push(flag);
            }
        }
        let command = Command::new("settings").no_binary_name(true);
        let matches = overridable(A::augment_args(command))
            .try_get_matches_from(flags.into_iter().chain(named));
        matches.and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| reason(&error))
    }

    /// The names of settings that have other values in `other`.
    pub(crate) fn differing(&self, other: &Self) -> Vec<String> {
        let pairs = self.values.iter().zip(&other.values);
        let differing = pairs.filter(|(one, other)| one.texts != other.texts);
        let names = differing.map(|(one, _)| one.name.clone());
        let all =
            |of: &Self| of.upstreams.iter().map(|told| told.upstream.clone()).collect::<Vec<_>>();
        let is_other = all(self) != all(other);
        names.chain(is_other.then(|| upstreams::SECTION.to_owned())).collect()
    }

    /// These values, but for those that `other` is asked for.
    pub(crate) fn with(&self, other: &Self, is_asked: impl Fn(&str) -> bool) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        let values = pairs.map(|(one, other)| if is_asked(&one.name) { other } else { one });
        let upstreams = if is_asked(upstreams::SECTION) { other } else { self }.upstreams.clone();
        Self { values: values.cloned().collect(), upstreams, file: other.file.clone() }
    }
}

impl Value {
    /// The setting's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is as where nobody says anything.
    pub(crate) fn is_default(&self) -> bool {
        self.texts == self.default
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The value as JSON, which is null where there is none, and says of a secret only that it is,
    /// be it a part of an address.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let text = |text: &OsString| public(&text.to_string_lossy());
        match (self.shape, self.texts.first()) {
            (_, Some(_)) if is_secret(&self.name) => SET.into(),
            (Shape::List, _) => self.texts.iter().map(text).collect(),
            (Shape::Table, _) => {
                let pairs = self.texts.iter().map(text);
                let pairs = pairs.map(|pair| match pair.split_once('=') {
                    Some((key, value)) => (key.to_owned(), value.into()),
                    None => (pair, serde_json::Value::Null),
                });
                serde_json::Value::Object(pairs.collect())
            }
            (_, None) => serde_json::Value::Null,
            (Shape::Switch, Some(one)) => (one == "true").into(),
            (Shape::One, Some(one)) => match text(one).parse::<u64>() {
                Ok(number) => number.into(),
                Err(_) => text(one).into(),
            },
        }
    }

    /// The line of a file that says it; a comment where there is no value.
    pub(crate) fn to_toml(&self) -> String {
        match self.to_json() {
            serde_json::Value::Null => format!("# {}", self.name),
            value => format!("{} = {}", self.name, toml_of(&value)),
        }
    }
}

/// `value` as TOML writes it in one line.
fn toml_of(value: &serde_json::Value) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    match value {
        serde_json::Value::String(text) => quoted(text),
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Object(pairs) if pairs.is_empty() => "{}".to_owned(),
        serde_json::Value::Object(pairs) => {
            let pair = |(key, value): (&String, _)| format!("{} = {}", quoted(key), toml_of(value));
            format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

/// A flag's name is its setting's; what has no flag goes by its own.
fn name_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or(arg.get_id().as_str()).to_owned()
}

fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('-', "_").to_ascii_uppercase())
}

/// A set, non-empty environment variable.
fn environment(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|text| !text.is_empty())
}

fn shape(arg: &Arg) -> Shape {
    let is_pair = || value_name(arg).is_some_and(|name| name.contains('='));
    match arg.get_action() {
        ArgAction::SetTrue => Shape::Switch,
        ArgAction::Append if is_pair() => Shape::Table,
        ArgAction::Append => Shape::List,
        _ => Shape::One,
    }
}

fn value_name(arg: &Arg) -> Option<&str> {
    arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str())
}

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|end| name.ends_with(end))
}

/// `text`, of an address without its password and the values of its query, which may be one. Where
/// it is not clear what belongs to the password, more is left out.
fn public(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => match user.split_once([':', '?', '#']) {
            Some((user, _)) => (format!("{user}:{SET}@"), rest),
            None => (format!("{user}@"), rest),
        },
        None => (String::new(), rest),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => {
            let named = |pair: &str| format!("{}={SET}", pair.split('=').next().unwrap_or(pair));
            let named: Vec<String> = query.split('&').map(named).collect();
            (rest, format!("?{}", named.join("&")))
        }
        None => (rest, String::new()),
    };
    format!("{scheme}://{user}{rest}{query}")
}

/// What a variable says of a list are its parts between commas.
fn split(shape: Shape, text: OsString) -> Vec<OsString> {
    match (shape, text.to_str()) {
        (Shape::List | Shape::Table, Some(text)) => {
            text.split(',').map(|part| part.trim().into()).collect()
        }
        _ => vec![text],
    }
}

/// What is wrong with a value that was said at `place`, if something is.
fn check(arg: &Arg, place: &str, text: &OsStr) -> Option<String> {
    let value = Arg::new("value").long("value").value_parser(arg.get_value_parser().clone());
    let command = Command::new("settings").no_binary_name(true).arg(value);
    let mut flag = OsString::from("--value=");
    flag.push(text);
    let error = command.try_get_matches_from([flag]).err()?;
    if is_secret(&name_of(arg)) {
        return Some(format!("{place}: it is not one that can be taken"));
    }
    Some(format!("{place}: {:?}: {}", public(&text.to_string_lossy()), reason(&error)))
}

/// Why clap refuses a value, without its decoration.
fn reason(error: &clap::Error) -> String {
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(valid))) => {
            format!("expected one of {}", valid.join(", "))
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
