//! Case files as they are written: TOML and JSON Lines, with the line of everything that can be
//! wrong later. What the fields mean is not known here.

use std::sync::Arc;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{GateError, Place, quoted};

/// Largest case file in bytes: ten thousand cases of more than a page.
const FILE_BYTES_MAX: usize = 64 << 20;

/// A table, where it stands, and where each of its expectations does.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) map: Map<String, Value>,
    /// Lines of the elements of the field `expect`.
    pub(crate) expect_lines: Vec<usize>,
}

/// What a case file holds.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) gate: Option<Entry>,
    pub(crate) defaults: Option<Entry>,
    pub(crate) cases: Vec<Entry>,
}

/// Reads the file `name`, whose ending says what it is.
pub(crate) fn parse(name: &str, text: &str) -> Result<Source, GateError> {
    let file: Arc<str> = name.into();
    let whole = Place { file: file.clone(), line: 1 };
    if text.len() > FILE_BYTES_MAX {
        let n = text.len();
        return Err(whole.wrong(format!("{n} bytes, expected at most {FILE_BYTES_MAX}")));
    }
    match name.rsplit_once('.') {
        Some((_, "toml")) => {
            let ends = text.match_indices('\n').map(|(at, _)| at).collect();
            Toml { file, text, ends }.parse()
        }
        Some((_, "jsonl")) => json_lines(&file, text),
        _ => Err(whole.wrong("a file of cases ends with .toml or .jsonl")),
    }
}

/// One case a line; empty lines are passed over.
fn json_lines(file: &Arc<str>, text: &str) -> Result<Source, GateError> {
    let mut source = Source::default();
    for (line_idx, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place { file: file.clone(), line: line_idx + 1 };
        let value: Value = serde_json::from_str(line)
            .map_err(|error| place.wrong(format!("expected a case as a JSON object: {error}")))?;
        let Value::Object(map) = value else {
            return Err(place.wrong("expected a case as a JSON object"));
        };
        let n_expect = map.get("expect").and_then(Value::as_array).map_or(0, Vec::len);
        let expect_lines = vec![place.line; n_expect];
        source.cases.push(Entry { place, map, expect_lines });
    }
    Ok(source)
}

struct Toml<'a> {
    file: Arc<str>,
    text: &'a str,
    /// Where its lines end.
    ends: Vec<usize>,
}

impl Toml<'_> {
    fn parse(&self) -> Result<Source, GateError> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.place(at).wrong(error.message())
        })?;
        let mut source = Source::default();
        for (key, value) in table.get_ref() {
            let place = self.place(key.span().start);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("gate", DeValue::Table(table)) => source.gate = Some(self.entry(place, table)?),
                ("defaults", DeValue::Table(table)) => {
                    source.defaults = Some(self.entry(place, table)?);
                }
                ("case", DeValue::Array(cases)) => {
                    for case in cases {
                        let place = self.place(case.span().start);
                        let DeValue::Table(table) = case.get_ref() else {
                            return Err(place.wrong("expected [[case]] tables"));
                        };
                        source.cases.push(self.entry(place, table)?);
                    }
                }
                (name, _) => {
                    let expected = "expected [gate], [defaults] and [[case]] tables";
                    return Err(place.wrong(format!("{}: {expected}", quoted(name))));
                }
            }
        }
        Ok(source)
    }

    fn entry(&self, place: Place, table: &DeTable<'_>) -> Result<Entry, GateError> {
        let expect = table.get("expect").and_then(|value| value.get_ref().as_array());
        let lines = expect.into_iter().flatten().map(|item| self.place(item.span().start).line);
        Ok(Entry { expect_lines: lines.collect(), map: self.map(table)?, place })
    }

    fn map(&self, table: &DeTable<'_>) -> Result<Map<String, Value>, GateError> {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            Ok((key.clone().into_owned(), self.value(value)?))
        };
        table.iter().map(entry).collect()
    }

    /// Depth is bounded by the parser.
    fn value(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, GateError> {
        let wrong = |problem: &str| Err(self.place(value.span().start).wrong(problem));
        Ok(match value.get_ref() {
            DeValue::String(text) => Value::String(text.clone().into_owned()),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => number.into(),
                    Err(_) => return wrong("a whole number beyond 64 bits"),
                }
            }
            DeValue::Float(number) => {
                let number = number.as_str().parse().ok().and_then(serde_json::Number::from_f64);
                match number {
                    Some(number) => Value::Number(number),
                    None => return wrong("expected a finite number"),
                }
            }
            DeValue::Datetime(_) => return wrong("a date, expected it as a text in quotes"),
            DeValue::Array(list) => {
                Value::Array(list.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Object(self.map(table)?),
        })
    }

    fn place(&self, at: usize) -> Place {
        Place { file: self.file.clone(), line: self.ends.partition_point(|&end| end < at) + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(name: &str, text: &str, expected: &str) {
        let found = parse(name, text).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{found}\n  expected {expected}");
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let text = "[defaults]\nsamples = 2\n\n[[case]]\nid = \"a\"\nexpect = [\n  {a = 1},\n  {b = 2.5},\n]\n";
        let source = parse("t.toml", text).unwrap();
        assert_eq!(source.defaults.unwrap().place.line, 1);
        assert_eq!(source.cases[0].place.line, 4);
        assert_eq!(source.cases[0].expect_lines, [7, 8]);
        let source = parse("t.jsonl", "\n{\"expect\": [{}, {}]}\n").unwrap();
        assert_eq!(
            (source.cases[0].place.line, &source.cases[0].expect_lines[..]),
            (2, &[2, 2][..])
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        check_error("t.toml", "a = 1\n", "t.toml:1: \"a\": expected [gate], [defaults]");
        check_error("t.toml", "[[case]]\n\nid = = 1\n", "t.toml:3: ");
        check_error("t.toml", "[gate]\n\nx = 2026-01-01\n", "t.toml:3: a date");
        check_error("t.toml", "[gate]\nx = nan\n", "t.toml:2: expected a finite number");
        check_error("t.toml", "case = [1]\n", "t.toml:1: expected [[case]] tables");
        check_error("t.jsonl", "{}\n[1]\n", "t.jsonl:2: expected a case as a JSON object");
        check_error("t.jsonl", "{}\n{\n", "t.jsonl:2: expected a case as a JSON object: EOF");
        check_error("t.yaml", "", "t.yaml:1: a file of cases ends with");
    }
}
