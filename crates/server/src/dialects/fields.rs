//! Reading a JSON object field by field, so that each field is honoured or refused by name.
//!
//! A field that was taken is honoured; what is left over at the end is refused. `null` counts as
//! absent everywhere: clients send it for "not set".

use super::PlainPrompt;
use crate::errors::BadRequest;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Longest value shown in a message, in characters.
const N_SHOWN_CHARS: usize = 40;

/// What becomes of a field that a route knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It has the effect that it asks for, or is refused for its value.
    Honoured,
    /// It asks for nothing that this server could fail to do.
    Tolerated,
    /// It has no effect, and the response says so.
    Ignored,
    /// It is refused for this reason. An empty list asks for nothing.
    Refused(&'static str),
}

/// The fields of one JSON object that nobody has taken yet.
pub(crate) struct Fields {
    /// Where the object stands in the body: empty at the top, else like `messages[0].`.
    prefix: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a body that must be one JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let whole = |message: String, code| BadRequest { param: None, message, code: Some(code) };
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { prefix: String::new(), map }),
            Ok(other) => Err(whole(
                format!("body: {}: expected a JSON object", shown(&other)),
                "invalid_json",
            )),
            // serde_json's message ends in the line and column.
            Err(e) => Err(whole(format!("body: expected JSON: {e}"), "invalid_json")),
        }
    }

    /// The fields of `value`, which stands at `path` and must be an object.
    pub(crate) fn of(path: &str, value: Value) -> Result<Self, BadRequest> {
        match value {
            Value::Object(map) => Ok(Self { prefix: format!("{path}."), map }),
            other => Err(wrong(path, &other, "an object")),
        }
    }

    /// Path of the field `name`, as messages and `param` name it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Takes a field of any type; `None` when absent or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes fields that have no effect here, whatever they hold.
    pub(crate) fn accept(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Takes the fields of `known` that are not honoured. Returns the paths of those that the
    /// response has to tell of.
    pub(crate) fn treat(&mut self, known: &[(&str, Treatment)]) -> Result<Vec<String>, BadRequest> {
        let mut ignored = Vec::new();
        for (name, treatment) in known {
            match treatment {
                Treatment::Honoured => {}
                Treatment::Tolerated => self.accept(&[name]),
                Treatment::Ignored => ignored.extend(self.take(name).map(|_| self.path(name))),
                Treatment::Refused(why) => match self.take(name) {
                    None => {}
                    Some(Value::Array(list)) if list.is_empty() => {}
                    Some(value) => {
                        let why = format!("{}: {why}", shown(&value));
                        return Err(BadRequest::unsupported(&self.path(name), &why));
                    }
                },
            }
        }
        Ok(ignored)
    }

    /// Takes a number within `range`.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f32>, BadRequest> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number as f32)),
            _ => {
                let expected = format!("a number between {} and {}", range.start(), range.end());
                Err(wrong(&self.path(name), &value, &expected))
            }
        }
    }

    /// Takes an integer within `range`; `16.0` counts as one.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, BadRequest> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match as_integer(&value) {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = match *range.end() {
                    i64::MAX => format!("an integer of at least {}", range.start()),
                    end => format!("an integer between {} and {end}", range.start()),
                };
                Err(wrong(&self.path(name), &value, &expected))
            }
        }
    }

    /// Takes a count of at least `min`; one beyond `u32` means the same as the largest.
    pub(crate) fn count(&mut self, name: &str, min: u32) -> Result<Option<u32>, BadRequest> {
        let number = self.integer(name, i64::from(min)..=i64::MAX)?;
        Ok(number.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// Takes a `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, BadRequest> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(&self.path(name), &other, "true or false")),
        }
    }

    /// Takes a string.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, BadRequest> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(&self.path(name), &other, "a string")),
        }
    }

    /// Takes an array.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, BadRequest> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(wrong(&self.path(name), &other, "an array")),
        }
    }

    /// Takes an object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>, BadRequest> {
        let path = self.path(name);
        self.take(name).map(|value| Fields::of(&path, value)).transpose()
    }

    /// The fields themselves, for objects whose names are the client's own.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// Paths of what nobody took, for routes whose clients send fields that no server knows.
    pub(crate) fn rest(self) -> impl Iterator<Item = String> {
        let is_there = |(_, value): &(String, Value)| !value.is_null();
        let prefix = self.prefix;
        self.map
            .into_iter()
            .filter(is_there)
            .map(move |(name, _)| format!("{prefix}{}", short(&name)))
    }

    /// Refuses what nobody took, by name.
    pub(crate) fn refuse_rest(self) -> Result<(), BadRequest> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let name = short(name);
                Err(BadRequest {
                    param: Some(format!("{}{name}", self.prefix)),
                    message: format!(
                        "{}{name}: this server does not know this parameter; leave it out",
                        self.prefix
                    ),
                    code: Some("unknown_parameter"),
                })
            }
        }
    }
}

/// Takes texts that must be there: a string, an array of strings, an array of token ids, or an
/// array of such arrays.
pub(crate) fn take_texts(fields: &mut Fields, name: &str) -> Result<Vec<PlainPrompt>, BadRequest> {
    const EXPECTED: &str = "a string, an array of strings, or an array of token ids";
    let list = match fields.take(name) {
        Some(Value::String(text)) => return Ok(vec![PlainPrompt::Text(text)]),
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(other) => return Err(wrong(name, &other, EXPECTED)),
        None => return Err(missing(name, EXPECTED)),
    };
    if list[0].is_number() {
        return Ok(vec![PlainPrompt::Tokens(read_ids(name, &list)?)]);
    }
    let read = |(text_idx, text)| {
        let path = format!("{name}[{text_idx}]");
        match text {
            Value::String(text) => Ok(PlainPrompt::Text(text)),
            Value::Array(ids) => Ok(PlainPrompt::Tokens(read_ids(&path, &ids)?)),
            other => Err(wrong(&path, &other, "a string or an array of token ids")),
        }
    };
    list.into_iter().enumerate().map(read).collect()
}

/// Token ids; whether the model has them is found out where the model is known.
fn read_ids(path: &str, list: &[Value]) -> Result<Vec<u32>, BadRequest> {
    let read = |(token_idx, value): (usize, &Value)| {
        let id = as_integer(value).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(&format!("{path}[{token_idx}]"), value, "a token id"))
    };
    list.iter().enumerate().map(read).collect()
}

/// The refusal of a request without a field that it must have.
pub(crate) fn missing(path: &str, expected: &str) -> BadRequest {
    let problem = format!("absent: expected {expected}");
    BadRequest { code: Some("missing_required_parameter"), ..BadRequest::field(path, &problem) }
}

/// The integer that `value` is, `16.0` included.
pub(crate) fn as_integer(value: &Value) -> Option<i64> {
    // Every f64 up to 2^53 that is whole is that integer; beyond it, it may stand for several.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|_| !value.is_u64())?;
        (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
    })
}

/// The refusal of a value: place, value, expectation.
pub(crate) fn wrong(path: &str, value: &Value, expected: &str) -> BadRequest {
    BadRequest::field(path, &format!("{}: expected {expected}", shown(value)))
}

/// A value for a message: scalars as JSON, cut; containers by kind only.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("an array of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("{:?}", short(text)),
        scalar => scalar.to_string(),
    }
}

/// A name or text for a message, cut.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(N_SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, read: impl Fn(&mut Fields) -> Result<(), BadRequest>, expected: &str) {
        let mut fields = Fields::parse(body.as_bytes()).unwrap();
        let message = match read(&mut fields).and_then(|()| fields.refuse_rest()) {
            Ok(()) => "ok".to_owned(),
            Err(e) => format!("{}|{}", e.param.unwrap_or_default(), e.message),
        };
        assert_eq!(message, expected, "{body}");
    }

    #[test]
    fn wrong_types_name_place_value_and_expectation() {
        let temperature = |fields: &mut Fields| fields.number("temperature", 0.0..=2.0).map(|_| ());
        check(
            r#"{"temperature":"hot"}"#,
            temperature,
            r#"temperature|temperature: "hot": expected a number between 0 and 2"#,
        );
        check(
            r#"{"temperature":3}"#,
            temperature,
            "temperature|temperature: 3: expected a number between 0 and 2",
        );
        check(r#"{"temperature":1}"#, temperature, "ok");
        check(r#"{"temperature":null}"#, temperature, "ok");
        let count = |fields: &mut Fields| fields.count("n", 1).map(|_| ());
        check(r#"{"n":2.0}"#, count, "ok");
        check(r#"{"n":2.5}"#, count, "n|n: 2.5: expected an integer of at least 1");
        check(r#"{"n":-1}"#, count, "n|n: -1: expected an integer of at least 1");
        check(r#"{"n":[1]}"#, count, "n|n: an array of 1: expected an integer of at least 1");
        check(
            r#"{"n":18446744073709551615}"#,
            count,
            "n|n: 18446744073709551615: expected an integer of at least 1",
        );
    }

    #[test]
    fn leftovers_are_refused_by_name_and_null_is_absent() {
        check(
            r#"{"temprature":1}"#,
            |_| Ok(()),
            "temprature|temprature: this server does not know this parameter; leave it out",
        );
        check(r#"{"temprature":null}"#, |_| Ok(()), "ok");
        check(
            r#"{"a":{"b":1}}"#,
            |fields| fields.object("a")?.expect("it is there").refuse_rest(),
            "a.b|a.b: this server does not know this parameter; leave it out",
        );
    }

    #[test]
    fn invalid_json_says_where() {
        let error = |body: &[u8]| Fields::parse(body).map(|_| ()).unwrap_err().message;
        assert!(error(b"{\"a\":\n 1,}").contains("line 2 column 4"), "{}", error(b"{\"a\":\n 1,}"));
        assert_eq!(error(b"[1]"), "body: an array of 1: expected a JSON object");
        assert!(error(b"").contains("EOF"));
        assert!(error(b"{\"a\":\"\xff\"}").contains("column"));
        assert!(error("[".repeat(100_000).as_bytes()).contains("recursion limit"));
    }
}
