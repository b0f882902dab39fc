//! TOML as the owner wrote it: fields are taken one by one, each mistake has its line and column,
//! and what nobody took is refused by name. What the fields mean is not known here.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Place, Problem, listed, quoted, suggestion};

/// Largest file in bytes: thousands of rules, or ten thousands of names.
const FILE_BYTES_MAX: usize = 4 << 20;

/// A text with its name.
pub(crate) struct Source<'a> {
    file: Arc<str>,
    text: &'a str,
    /// Where its lines end; `None`: it is no file.
    ends: Option<Vec<usize>>,
}

impl<'a> Source<'a> {
    /// The file `name`.
    pub(crate) fn new(name: &str, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { file: name.into(), text, ends: Some(ends) }
    }

    /// A text that is no file: its mistakes are told without lines.
    pub(crate) fn without_lines(name: &str, text: &'a str) -> Self {
        Self { file: name.into(), text, ends: None }
    }

    /// # Errors
    /// A text that is too long, or no TOML.
    pub(crate) fn parse(&self) -> Result<Spanned<DeTable<'a>>, Problem> {
        let n_bytes = self.text.len();
        if n_bytes > FILE_BYTES_MAX {
            let problem = format!("{n_bytes} bytes, expected at most {FILE_BYTES_MAX}");
            return Err(self.wrong(0, problem));
        }
        DeTable::parse(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.wrong(at, error.message())
        })
    }

    fn wrong(&self, at: usize, problem: impl Into<String>) -> Problem {
        Problem { place: self.place(at), problem: problem.into() }
    }

    fn place(&self, at: usize) -> Place {
        let file = self.file.clone();
        let Some(ends) = &self.ends else { return Place { file, line: 0, column: 0 } };
        let at = self.text.floor_char_boundary(at);
        let line_idx = ends.partition_point(|&end| end < at);
        let line_start = if line_idx == 0 { 0 } else { ends[line_idx - 1] + 1 };
        let column = self.text[line_start..at].chars().count() + 1;
        Place { file, line: line_idx + 1, column }
    }
}

/// The fields of one table.
pub(crate) struct Table<'a> {
    source: &'a Source<'a>,
    /// What stands in front of a field's name in messages.
    owner: String,
    start: usize,
    fields: &'a DeTable<'a>,
    /// Names that were asked for.
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(
        source: &'a Source<'a>,
        owner: impl Into<String>,
        start: usize,
        fields: &'a DeTable<'a>,
    ) -> Self {
        Self { source, owner: owner.into(), start, fields, known: Vec::new() }
    }

    /// What stands in front of the names of its fields from here on.
    pub(crate) fn set_owner(&mut self, owner: String) {
        self.owner = owner;
    }

    /// Where it begins.
    pub(crate) fn place(&self) -> Place {
        self.source.place(self.start)
    }

    /// That the table as a whole is wrong.
    pub(crate) fn wrong(&self, problem: impl AsRef<str>) -> Problem {
        self.source.wrong(self.start, format!("{}{}", self.owner, problem.as_ref()))
    }

    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.known.push(name);
        let value = self.fields.get(name)?;
        Some(Value { source: self.source, name: format!("{}{name}", self.owner), value })
    }

    /// # Errors
    /// Where there is no such field.
    pub(crate) fn must(&mut self, name: &'static str) -> Result<Value<'a>, Problem> {
        self.take(name).ok_or_else(|| self.wrong(format!("expected a field {}", quoted(name))))
    }

    /// All fields, under whatever names, in the order of the file.
    pub(crate) fn all(&self) -> Vec<(&'a str, Value<'a>)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by_key(|(key, _)| key.span().start);
        let field = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let key: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let name = format!("{}{key}", self.owner);
            (key.as_ref(), Value { source: self.source, name, value })
        };
        fields.into_iter().map(field).collect()
    }

    /// Refuses what was not asked for: the first in the file.
    pub(crate) fn finish(&self) -> Result<(), Problem> {
        let unknown =
            self.fields.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        let name = key.get_ref();
        let hint = match suggestion(name, self.known.iter().copied()) {
            hint if hint.is_empty() => {
                format!(", expected one of {}", listed(self.known.iter().copied()))
            }
            hint => hint,
        };
        let owner = self.owner.trim_end_matches([' ', '.', ':']);
        let of = if owner.is_empty() { String::new() } else { format!("{owner}: ") };
        let problem = format!("{of}unknown field {}{hint}", quoted(name));
        Err(self.source.wrong(key.span().start, problem))
    }
}

/// The value of a field or an element of its list.
pub(crate) struct Value<'a> {
    source: &'a Source<'a>,
    name: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// That it is wrong.
    pub(crate) fn wrong(&self, problem: impl AsRef<str>) -> Problem {
        let problem = format!("{}: {}", self.name, problem.as_ref());
        self.source.wrong(self.value.span().start, problem)
    }

    fn unfit(&self, expected: &str) -> Problem {
        self.wrong(format!("{}, expected {expected}", shown(self.value.get_ref())))
    }

    /// What it says, on one line, for people.
    pub(crate) fn told(&self) -> String {
        told(self.value.get_ref())
    }

    pub(crate) fn text(&self) -> Result<&'a str, Problem> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => Err(self.unfit("a text")),
        }
    }

    pub(crate) fn flag(&self) -> Result<bool, Problem> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.unfit("true or false")),
        }
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn count(&self, [min, max]: [u64; 2]) -> Result<u64, Problem> {
        let count = match self.value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let count = count.filter(|count| (min..=max).contains(count));
        count.ok_or_else(|| self.unfit(&format!("a whole number from {min} to {max}")))
    }

    /// A finite number from `min` to `max`.
    pub(crate) fn number(&self, [min, max]: [f64; 2]) -> Result<f64, Problem> {
        let number = match self.value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            _ => None,
        };
        let number = number.filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| self.unfit(&format!("a number from {min} to {max}")))
    }

    /// One of `words`, by its name.
    pub(crate) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, Problem> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names = || words.iter().map(|(word, _)| *word);
            let hint = suggestion(text, names());
            let expected = format!(": expected one of {}", listed(names()));
            let hint = if hint.is_empty() { expected } else { hint };
            self.wrong(format!("{}{hint}", quoted(text)))
        })
    }

    /// The elements of a list, or the one value that is none. Not empty.
    pub(crate) fn elements(&self) -> Result<Vec<Self>, Problem> {
        let list = match self.value.get_ref() {
            DeValue::Array(list) => list.iter().collect(),
            _ => vec![self.value],
        };
        if list.is_empty() {
            return Err(self.wrong("empty, expected at least one"));
        }
        let of = |value| Self { source: self.source, name: self.name.clone(), value };
        Ok(list.into_iter().map(of).collect())
    }

    pub(crate) fn table(&self) -> Result<Table<'a>, Problem> {
        match self.value.get_ref() {
            DeValue::Table(fields) => {
                let owner = format!("{}.", self.name);
                Ok(Table::new(self.source, owner, self.value.span().start, fields))
            }
            _ => Err(self.unfit("a table")),
        }
    }

    /// The tables of `[[name]]`, messages about which begin with the names of their fields alone.
    pub(crate) fn tables(&self) -> Result<Vec<Table<'a>>, Problem> {
        let DeValue::Array(list) = self.value.get_ref() else {
            return Err(self.unfit(&format!("[[{}]] tables", self.name)));
        };
        let table = |value: &'a Spanned<DeValue<'a>>| match value.get_ref() {
            DeValue::Table(fields) => Ok(Table::new(self.source, "", value.span().start, fields)),
            _ => Err(self.unfit(&format!("[[{}]] tables", self.name))),
        };
        list.iter().map(table).collect()
    }
}

/// Words as they are, lists with commas, of a table each name before its value.
fn told(value: &DeValue<'_>) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        DeValue::String(text) => text.as_ref().to_owned(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => joined(list.iter().map(|one| told(one.get_ref())).collect()),
        DeValue::Table(fields) => {
            let field = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                format!("{name} {}", told(value.get_ref()))
            };
            joined(fields.iter().map(field).collect())
        }
    }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => quoted(number.as_str()).replace('"', ""),
        DeValue::Float(number) => quoted(number.as_str()).replace('"', ""),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
