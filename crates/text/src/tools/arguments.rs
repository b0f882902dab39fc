//! Arguments that a model does not write as a JSON object: read character by character, and given
//! as the text of one.

use super::Tool;
use crate::constraint::is_annotation;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::str::Chars;
use std::sync::Arc;

/// How the arguments of a call are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object.
    Json,
    /// Each argument between texts of its own: `before_key`, its name, `after_key`, its value,
    /// `after_value`. A value that is text stands there as it is, another as JSON.
    Tagged { before_key: &'static str, after_key: &'static str, after_value: &'static str },
    /// As the arguments of a call in Python: `name=value`, with `, ` between two.
    Python,
}

/// How one value is written and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// One of these texts.
    Choice(Vec<String>),
    /// JSON of its schema.
    Json,
}

/// How the values of this schema are written in calls of `tool`.
pub(super) fn kind_in(tool: &Tool, schema: &Value) -> Kind {
    // A text that is held to a grammar must end where its string does.
    if tool.texts.is_some() { Kind::Json } else { kind_of(schema) }
}

/// What a schema says of how its values are written.
fn kind_of(schema: &Value) -> Kind {
    let Some(map) = schema.as_object() else { return Kind::Json };
    let choices = match (map.get("const"), map.get("enum")) {
        (Some(value), None) => Some(std::slice::from_ref(value)),
        (None, Some(Value::Array(values))) => Some(values.as_slice()),
        _ => None,
    };
    let is_other = |key: &String| !matches!(&**key, "type" | "const" | "enum" | "title");
    let is_text = map.get("type").is_some_and(|kind| kind == "string");
    let says_more = map.keys().any(|key| is_other(key) && !is_annotation(key));
    match choices {
        _ if says_more => Kind::Json,
        None if is_text && !map.contains_key("enum") => Kind::Text,
        Some(values) if (is_text || !map.contains_key("type")) && !values.is_empty() => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            let texts: Option<Vec<String>> = texts.collect();
            // What begins or ends with white space is not told from the space around it.
            let is_plain = |text: &String| !text.is_empty() && text.trim() == text;
            let texts = texts.filter(|texts| texts.iter().all(is_plain));
            texts.map_or(Kind::Json, Kind::Choice)
        }
        _ => Kind::Json,
    }
}

/// Whether arguments that the schema of a tool does not name are JSON of a schema, or else text.
pub(super) fn others_are_json(schema: &Value) -> bool {
    let others = schema.get("additionalProperties").and_then(Value::as_object);
    others.is_some_and(|others| !others.is_empty())
}

/// Which arguments of which tools are text, and which JSON.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Texts(Arc<[ToolTexts]>);

#[derive(Debug, PartialEq)]
struct ToolTexts {
    tool: String,
    /// By name, whether it is text.
    named: Vec<(String, bool)>,
    /// Whether arguments of other names are JSON.
    others_are_json: bool,
}

impl Texts {
    pub(super) fn of(tools: &[Tool]) -> Self {
        let of_tool = |tool: &Tool| {
            let get = |keyword| tool.parameters.as_ref().and_then(|schema| schema.get(keyword));
            let properties = get("properties").and_then(Value::as_object).into_iter().flatten();
            let is_text = |schema| kind_in(tool, schema) != Kind::Json;
            ToolTexts {
                tool: tool.name.clone(),
                named: properties.map(|(key, schema)| (key.clone(), is_text(schema))).collect(),
                others_are_json: tool.parameters.as_ref().is_some_and(others_are_json),
            }
        };
        Self(tools.iter().map(of_tool).collect())
    }

    /// Whether the argument is text, or else JSON; `None` where no schema says.
    fn is_text(&self, tool: &str, key: &str) -> Option<bool> {
        let of_tool = self.0.iter().find(|texts| texts.tool == tool)?;
        let named = of_tool.named.iter().find(|(name, _)| name == key);
        named.map(|(_, is_text)| *is_text).or(of_tool.others_are_json.then_some(false))
    }
}

/// Reads the arguments of one call.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    form: Form,
    texts: Texts,
    tool: String,
    state: State,
    n_arguments: usize,
    key: String,
    /// What was read since the last thing that is complete.
    raw: String,
    /// Where a value in Python, or one in JSON, stands.
    nesting: Nesting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeKey,
    Key,
    /// So many bytes of the text behind a key are read.
    AfterKey(usize),
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Nesting {
    depth: u32,
    quote: Option<char>,
    is_escaped: bool,
}

/// What a character led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More of the object, maybe nothing.
    More(String),
    /// The end of the object, and what was read of that which follows it.
    End(String, String),
}

impl Reader {
    pub(super) fn new(form: Form, texts: &Texts, tool: &str) -> Self {
        Self {
            form,
            texts: texts.clone(),
            tool: tool.to_owned(),
            state: State::BeforeKey,
            n_arguments: 0,
            key: String::new(),
            raw: String::new(),
            nesting: Nesting::default(),
        }
    }

    pub(super) fn push(&mut self, c: char) -> Step {
        match self.form {
            Form::Json => Step::End(String::new(), c.to_string()),
            Form::Tagged { before_key, after_key, after_value } => {
                self.push_tagged(c, [before_key, after_key, after_value])
            }
            Form::Python => self.push_python(c),
        }
    }

    fn push_tagged(&mut self, c: char, [before_key, after_key, after_value]: [&str; 3]) -> Step {
        match self.state {
            State::BeforeKey if self.raw.is_empty() && c.is_ascii_whitespace() => {}
            State::BeforeKey => {
                self.raw.push(c);
                if !before_key.starts_with(&self.raw) {
                    return self.end();
                }
                if self.raw == before_key {
                    self.raw.clear();
                    self.state = State::Key;
                }
            }
            State::Key if !after_key.starts_with(c) => self.key.push(c),
            State::Key => {
                self.state = State::AfterKey(0);
                return self.push_tagged(c, [before_key, after_key, after_value]);
            }
            State::AfterKey(n_read) => {
                let wanted = &after_key[n_read..];
                let n_space = wanted.len() - wanted.trim_ascii_start().len();
                if wanted.starts_with(c) {
                    self.state = State::AfterKey(n_read + c.len_utf8());
                } else if wanted[n_space..].starts_with(c) && n_space < wanted.len() {
                    self.state = State::AfterKey(n_read + n_space + c.len_utf8());
                } else if wanted.trim_ascii().is_empty() {
                    // The line's end is missing; the value begins.
                    self.state = State::Value;
                    return self.push_tagged(c, [before_key, after_key, after_value]);
                } else if !c.is_ascii_whitespace() {
                    return self.broken(c);
                }
                if self.state == State::AfterKey(after_key.len()) {
                    self.state = State::Value;
                }
            }
            State::Value => {
                if self.raw.is_empty() {
                    self.nesting = Nesting::default();
                }
                self.raw.push(c);
                if c != '\'' {
                    self.nesting.push(c);
                }
                // In a string of JSON the mark is text.
                let is_within = || {
                    let is_json = self.texts.is_text(&self.tool, &self.key) == Some(false);
                    let begins_json = self.raw.trim_ascii_start().starts_with(['"', '[', '{']);
                    is_json && begins_json && self.nesting.quote.is_some()
                };
                let value = self.raw.strip_suffix(after_value.trim_ascii());
                if let Some(value) = value.filter(|_| !is_within()) {
                    // The line's end in front of the mark is the mark's.
                    let own = match after_value.starts_with('\n') {
                        true => value.strip_suffix('\n').unwrap_or(value),
                        false => value,
                    };
                    let own = own.to_owned();
                    return Step::More(self.argument(&own));
                }
            }
        }
        Step::More(String::new())
    }

    fn push_python(&mut self, c: char) -> Step {
        match self.state {
            State::BeforeKey | State::AfterKey(_) if c.is_ascii_whitespace() => {}
            State::BeforeKey if c.is_ascii_alphabetic() || c == '_' => {
                self.key.push(c);
                self.state = State::Key;
            }
            State::BeforeKey | State::AfterKey(_) => {
                self.raw.push(c);
                return self.end();
            }
            State::Key if c == '=' => {
                (self.state, self.nesting) = (State::Value, Nesting::default())
            }
            State::Key if c.is_ascii_alphanumeric() || c == '_' => self.key.push(c),
            State::Key if c == ' ' => {}
            State::Key => return self.broken(c),
            State::Value if self.nesting.is_end(c) => {
                let value = std::mem::take(&mut self.raw);
                let mut text = self.argument(&value);
                if c == ',' {
                    return Step::More(text);
                }
                self.raw.push(c);
                if let Step::End(end, rest) = self.end() {
                    text.push_str(&end);
                    return Step::End(text, rest);
                }
            }
            State::Value => {
                self.nesting.push(c);
                self.raw.push(c);
            }
        }
        Step::More(String::new())
    }

    /// The object's text for one more argument.
    fn argument(&mut self, value: &str) -> String {
        let is_text = self.texts.is_text(&self.tool, &self.key) == Some(true);
        let key = Value::from(std::mem::take(&mut self.key)).to_string();
        let value = match self.form {
            Form::Python => python_value(value.trim()),
            _ if is_text => None,
            _ => json_value(value.trim()),
        }
        .unwrap_or_else(|| Value::from(value).to_string());
        self.raw.clear();
        self.state = State::BeforeKey;
        self.n_arguments += 1;
        let before = if self.n_arguments == 1 { "{" } else { ", " };
        format!("{before}{key}: {value}")
    }

    /// What is known of an argument that was cut off.
    pub(super) fn cut(&mut self) -> String {
        if self.state != State::Value {
            return String::new();
        }
        let is_text = self.texts.is_text(&self.tool, &self.key) == Some(true);
        let value = match self.form {
            Form::Tagged { after_value, .. } if is_text => {
                // What may be the beginning of the mark is none of the text.
                let raw = self.raw.as_str();
                let mut ends = raw.char_indices().map(|(at, _)| at);
                let end = ends.find(|&at| after_value.starts_with(&raw[at..]));
                let quoted = Value::from(&raw[..end.unwrap_or(raw.len())]).to_string();
                quoted[..quoted.len() - 1].to_owned()
            }
            _ => return String::new(),
        };
        let before = if self.n_arguments == 0 { "{" } else { ", " };
        format!("{before}{}: {value}", Value::from(self.key.as_str()))
    }

    fn end(&mut self) -> Step {
        let end = if self.n_arguments == 0 { "{}" } else { "}" };
        Step::End(end.to_owned(), std::mem::take(&mut self.raw))
    }

    /// The end of what cannot be understood; what of it was no argument is not lost.
    fn broken(&mut self, c: char) -> Step {
        self.raw = std::mem::take(&mut self.key);
        self.raw.push(c);
        self.end()
    }
}

impl Nesting {
    /// Whether `c` ends a value.
    fn is_end(self, c: char) -> bool {
        self.quote.is_none() && self.depth == 0 && matches!(c, ',' | ')')
    }

    fn push(&mut self, c: char) {
        if self.quote.is_some() {
            match c {
                _ if self.is_escaped => self.is_escaped = false,
                '\\' => self.is_escaped = true,
                _ if self.quote == Some(c) => self.quote = None,
                _ => {}
            }
            return;
        }
        match c {
            '"' | '\'' => self.quote = Some(c),
            '(' | '[' | '{' => self.depth += 1,
            ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// A value that is JSON, or Python's word for one that is.
fn json_value(text: &str) -> Option<String> {
    let word = python_word(text);
    let is_json = || serde_json::from_str::<IgnoredAny>(text).is_ok();
    word.map(str::to_owned).or_else(|| is_json().then(|| text.to_owned()))
}

fn python_word(text: &str) -> Option<&'static str> {
    match text {
        "True" => Some("true"),
        "False" => Some("false"),
        "None" => Some("null"),
        _ => None,
    }
}

/// A literal in Python as JSON; `None` where it is none that has a value in JSON.
fn python_value(text: &str) -> Option<String> {
    let mut json = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '"' | '\'' => push_string(rest, &mut json)?,
            _ if c.is_ascii_alphabetic() => {
                let n_bytes = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(n_bytes);
                json.push_str(python_word(word).unwrap_or(word));
                behind
            }
            '+' | '-' | '0'..='9' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
                let n_bytes = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let (number, behind) = rest.split_at(n_bytes);
                json.push_str(number);
                behind
            }
            _ => {
                json.push(match c {
                    '(' => '[',
                    ')' => ']',
                    c => c,
                });
                &rest[c.len_utf8()..]
            }
        };
    }
    serde_json::from_str::<IgnoredAny>(&json).is_ok().then_some(json)
}

/// Appends the string that `text` begins with as JSON, and returns what is behind it.
fn push_string<'t>(text: &'t str, json: &mut String) -> Option<&'t str> {
    let mut chars = text.chars();
    let quote = chars.next()?;
    let mut value = String::new();
    loop {
        match chars.next()? {
            c if c == quote => {
                json.push_str(&Value::from(value).to_string());
                return Some(chars.as_str());
            }
            '\\' => push_escaped(&mut chars, &mut value)?,
            c => value.push(c),
        }
    }
}

/// Appends the character that stands behind a backslash.
fn push_escaped(chars: &mut Chars<'_>, value: &mut String) -> Option<()> {
    let escaped = chars.next()?;
    let c = match escaped {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '0' => '\0',
        '\\' | '"' | '\'' | '/' => escaped,
        'x' => char::from_u32(number(chars, 2)?)?,
        'u' => match number(chars, 4)? {
            // JSON's way of a character beyond 16 bits: two halves.
            high @ 0xD800..0xDC00 => {
                let is_pair = chars.next()? == '\\' && chars.next()? == 'u';
                let low =
                    number(chars, 4).filter(|low| is_pair && (0xDC00..0xE000).contains(low))?;
                char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))?
            }
            code => char::from_u32(code)?,
        },
        'U' => char::from_u32(number(chars, 8)?)?,
        other => {
            // Python keeps the backslash of what it does not know.
            value.push('\\');
            other
        }
    };
    value.push(c);
    Some(())
}

fn number(chars: &mut Chars<'_>, n_digits: usize) -> Option<u32> {
    let digits = chars.as_str().get(..n_digits)?;
    *chars = chars.as_str()[n_digits..].chars();
    u32::from_str_radix(digits, 16).ok()
}

/// The arguments as a model writes them.
pub(super) fn write(form: Form, arguments: &Value) -> String {
    let text = match arguments {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let object: Option<Map<String, Value>> = serde_json::from_str(&text).ok();
    let (form, Some(object)) = (form, object) else { return text };
    match form {
        Form::Json => text,
        Form::Tagged { before_key, after_key, after_value } => {
            let argument = |(key, value): (&String, &Value)| {
                let value = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                [before_key, key, after_key, &value, after_value].concat()
            };
            object.iter().map(argument).collect()
        }
        Form::Python => {
            let argument = |(key, value): (&String, &Value)| format!("{key}={}", python(value));
            object.iter().map(argument).collect::<Vec<_>>().join(", ")
        }
    }
}

/// A value as Python writes it.
fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(all) => {
            format!("[{}]", all.iter().map(python).collect::<Vec<_>>().join(", "))
        }
        Value::Object(all) => {
            let member = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), python(value))
            };
            format!("{{{}}}", all.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_of_python_become_json() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(python_value(text).as_deref(), expected, "{text}");
        };
        check("1", Some("1"));
        check("-2.5e3", Some("-2.5e3"));
        check("True", Some("true"));
        check("None", Some("null"));
        check("'it\\'s \"so\"'", Some(r#""it's \"so\"""#));
        check("\"True\"", Some("\"True\""));
        check("[1, 'a', {'b': False}]", Some(r#"[1, "a", {"b": false}]"#));
        check("('a', 2)", Some(r#"["a", 2]"#));
        check(r#""\x41\u00e9\U0001F600\ud83d\ude00\d""#, Some("\"Aé😀😀\\\\d\""));
        check("name", None);
        check("1 + 1", None);
        check("'open", None);
        check("\"\\ud83d\"", None);
        check("", None);
    }

    #[test]
    fn text_is_what_has_no_other_bounds() {
        let check =
            |schema: Value, expected: Kind| assert_eq!(kind_of(&schema), expected, "{schema}");
        check(json!({"type": "string", "description": "x"}), Kind::Text);
        check(json!({"type": "string", "maxLength": 3}), Kind::Json);
        check(json!({"type": ["string", "null"]}), Kind::Json);
        check(json!({"enum": ["a", "b"]}), Kind::Choice(vec!["a".into(), "b".into()]));
        check(json!({"const": "a", "type": "string"}), Kind::Choice(vec!["a".into()]));
        check(json!({"enum": ["a", 1]}), Kind::Json);
        check(json!({"enum": [" a"]}), Kind::Json);
        check(json!({"type": "integer", "enum": ["a"]}), Kind::Json);
        check(json!({"type": "integer"}), Kind::Json);
        check(json!(true), Kind::Json);
    }
}
