//! Reading a JSON object field by field, so that each field is honoured or refused by name.
//!
//! A field that was taken is honoured; what is left over at the end is refused or told. `null`
//! counts as absent everywhere: clients send it for "not set". Where an object's fields are
//! declared, a reader that takes another one, or one as something else than is declared, is our
//! bug, and a build with debug assertions stops at it: a declaration nobody can trust is no use.

pub(crate) use super::declared::{Field, Treatment, Unknown};

use super::declared::{Kind, NO_END, asks_for_nothing};
use super::{Paths, PlainPrompt};
use crate::errors::BadRequest;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Longest value shown in a message, in characters.
const N_SHOWN_CHARS: usize = 40;

/// The fields of one JSON object that nobody has taken yet.
pub(crate) struct Fields {
    /// Where the object stands in the body: empty at the top, else like `messages[0].`.
    prefix: String,
    map: Map<String, Value>,
    /// What was declared of them; empty: nothing.
    declared: Vec<&'static [Field]>,
}

impl Fields {
    fn new(prefix: String, map: Map<String, Value>) -> Self {
        Self { prefix, map, declared: Vec::new() }
    }

    /// Reads a body that must be one JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let whole = |message: String, code| BadRequest { param: None, message, code: Some(code) };
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self::new(String::new(), map)),
            Ok(other) => Err(whole(
                format!("body: {}: expected a JSON object", shown(&other)),
                "invalid_json",
            )),
            // serde_json's message ends in the line and column.
            Err(e) => Err(whole(format!("body: expected JSON: {e}"), "invalid_json")),
        }
    }

    /// The parts of a form.
    pub(crate) fn of_form(parts: Map<String, Value>) -> Self {
        Self::new(String::new(), parts)
    }

    /// The fields of `value`, which stands at `path` and must be an object.
    pub(crate) fn of(path: &str, value: Value) -> Result<Self, BadRequest> {
        match value {
            Value::Object(map) => Ok(Self::new(format!("{path}."), map)),
            other => Err(wrong(path, &other, "an object")),
        }
    }

    /// Path of the field `name`, as messages and `param` name it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What is declared of a field.
    fn declaration(&self, name: &str) -> Option<&'static Field> {
        self.declared.iter().find_map(|fields| fields.iter().find(|field| field.name == name))
    }

    /// Whether reading the field as `kind` is what was declared.
    fn is_declared_as(&self, name: &str, kind: Kind) -> bool {
        let is_read_as = |field: &Field| field.is_read_as(kind);
        self.declared.is_empty() || self.declaration(name).is_some_and(is_read_as)
    }

    /// Takes a field of any type; `None` when absent or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.take_as(name, Kind::Any)
    }

    fn take_as(&mut self, name: &str, kind: Kind) -> Option<Value> {
        debug_assert!(self.is_declared_as(name, kind), "{}: read as {kind:?}", self.path(name));
        self.remove(name)
    }

    fn remove(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes fields that have no effect here, whatever they hold.
    pub(crate) fn accept(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Takes the fields of `declared` that the reader does not take itself. Returns the paths of
    /// those that the response has to tell of.
    pub(crate) fn treat(&mut self, declared: &'static [Field]) -> Result<Vec<String>, BadRequest> {
        self.declared.push(declared);
        let mut ignored = Vec::new();
        for field in declared {
            let name = field.name;
            match field.treatment {
                Treatment::Honoured | Treatment::Adapted => {}
                Treatment::Tolerated => self.accept(&[name]),
                Treatment::Ignored => ignored.extend(self.remove(name).map(|_| self.path(name))),
                Treatment::Refused(why) => match self.remove(name) {
                    Some(value) if !asks_for_nothing(&value) => {
                        let why = format!("{}: {why}", shown(&value));
                        return Err(BadRequest::unsupported(&self.path(name), &why));
                    }
                    _ => {}
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
        let kind = Kind::Number(*range.start(), *range.end());
        let Some(value) = self.take_as(name, kind) else { return Ok(None) };
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
        let kind = Kind::Integer(*range.start(), *range.end());
        let Some(value) = self.take_as(name, kind) else { return Ok(None) };
        match as_integer(&value) {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = match *range.end() {
                    NO_END => format!("an integer of at least {}", range.start()),
                    end => format!("an integer between {} and {end}", range.start()),
                };
                Err(wrong(&self.path(name), &value, &expected))
            }
        }
    }

    /// Takes a count of at least `min`; one beyond `u32` means the same as the largest.
    pub(crate) fn count(&mut self, name: &str, min: u32) -> Result<Option<u32>, BadRequest> {
        let number = self.integer(name, i64::from(min)..=NO_END)?;
        Ok(number.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// Takes a `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, BadRequest> {
        match self.take_as(name, Kind::Flag) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(&self.path(name), &other, "true or false")),
        }
    }

    /// Takes a string.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, BadRequest> {
        match self.take_as(name, Kind::Text) {
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
        debug_assert!(self.unread().is_none(), "{:?}: declared and not read", self.unread());
        let is_there = |(_, value): &(String, Value)| !value.is_null();
        let prefix = self.prefix;
        self.map
            .into_iter()
            .filter(is_there)
            .map(move |(name, _)| format!("{prefix}{}", short(&name)))
    }

    /// A declared field that nobody took.
    fn unread(&self) -> Option<&'static str> {
        let known = |(name, _): (&String, _)| self.declaration(name);
        self.map.iter().find_map(known).map(|field| field.name)
    }

    /// What nobody took: refused by name, or its paths for the response to tell.
    pub(crate) fn finish(self, unknown: Unknown) -> Result<Paths, BadRequest> {
        match unknown {
            Unknown::Refused => self.refuse_rest().map(|()| Paths::default()),
            Unknown::Ignored => Ok(self.rest().collect()),
        }
    }

    /// Refuses what nobody took, by name.
    pub(crate) fn refuse_rest(self) -> Result<(), BadRequest> {
        debug_assert!(self.unread().is_none(), "{:?}: declared and not read", self.unread());
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

/// Takes token ids that may be there: an array of them.
pub(crate) fn take_ids(fields: &mut Fields, name: &str) -> Result<Vec<u32>, BadRequest> {
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => read_ids(name, &list),
        Some(other) => Err(wrong(name, &other, "an array of token ids")),
    }
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

    const DECLARED: &[Field] = &[
        Field::honoured("read").flag(),
        Field::tolerated("label"),
        Field::ignored("hint"),
        Field::refused("moon", "there is none"),
    ];

    #[test]
    fn fields_become_what_was_declared() {
        let read = |fields: &mut Fields| {
            let told = fields.treat(DECLARED)?;
            fields.flag("read")?;
            assert!(told.is_empty() || told == ["hint"], "{told:?}");
            Ok(())
        };
        check(r#"{"read":true,"label":{"a":1},"hint":7,"moon":[]}"#, read, "ok");
        check(r#"{"moon":1}"#, read, "moon|moon: 1: there is none");
        let unknown = "sun|sun: this server does not know this parameter; leave it out";
        check(r#"{"sun":1}"#, read, unknown);
        let mut lenient = Fields::parse(br#"{"sun":1,"hint":2}"#).unwrap();
        assert_eq!(lenient.treat(DECLARED).unwrap(), ["hint"]);
        assert_eq!(lenient.finish(Unknown::Ignored).unwrap().kept(), ["sun"]);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "other: read as Flag")]
    fn a_field_that_is_not_declared_is_not_read() {
        let mut fields = Fields::parse(b"{}").unwrap();
        fields.treat(DECLARED).unwrap();
        fields.flag("other").unwrap();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "read: read as Text")]
    fn a_field_is_read_as_what_is_declared() {
        let mut fields = Fields::parse(b"{}").unwrap();
        fields.treat(DECLARED).unwrap();
        fields.text("read").unwrap();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "Some(\"read\"): declared and not read")]
    fn a_field_that_is_declared_is_read() {
        let mut fields = Fields::parse(br#"{"read":true}"#).unwrap();
        fields.treat(DECLARED).unwrap();
        fields.refuse_rest().unwrap();
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
