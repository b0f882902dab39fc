//! Custom tools, which take a text instead of arguments. Models know functions only: each is told
//! of as a function with one argument, which is the text, and calls are turned back as they come.
//!
//! A regular expression is enforced as the pattern of that argument, a grammar in Lark's notation
//! as that of its text. The model is shown either.

use crate::dialects::declared::Field;
use crate::dialects::fields::{Fields, missing, wrong};
use crate::dialects::tools::{Read, definition};
use crate::dialects::{Paths, ToolAsk};
use crate::errors::BadRequest;
use engine::Tool;
use serde_json::{Value, json};

/// What becomes of the fields of a custom tool.
pub(super) const FIELDS: &[Field] = &[
    Field::honoured("type"),
    Field::honoured("name"),
    Field::honoured("description"),
    Field::honoured("format"),
    Field::honoured("defer_loading"),
    // The model itself is one of them.
    Field::honoured("allowed_callers"),
    Field::ignored("async"),
];

/// The name of the argument.
const INPUT: &str = "input";

/// Most bytes of a regular expression or a grammar, which is part of the prompt too.
const N_DEFINITION_BYTES: usize = 64 << 10;

/// The arguments of a call with this text, as templates read them.
pub(super) fn arguments(text: &str) -> Value {
    json!({INPUT: text})
}

/// The tool of this name as a function, and what is told of its format.
pub(super) fn read(
    tool: &mut Fields,
    name: String,
    ignored: &mut Paths,
) -> Result<(Read, Value), BadRequest> {
    let description = tool.text("description")?.unwrap_or_default();
    let name_path = tool.path("name");
    let Format { told, param, schema, texts } = read_format(tool, ignored)?;
    let parameters = json!({"type": "object", "properties": {INPUT: schema}, "required": [INPUT]});
    let definition = definition(&name, &description, &parameters);
    let tool = Tool { name, parameters: Some(parameters), texts };
    let ask = ToolAsk { tool, param, is_strict: false };
    Ok((Read { ask, definition, name_path }, told))
}

/// What a text must look like.
struct Format {
    /// As far as it is held to.
    told: Value,
    /// Path of the field that says it.
    param: String,
    /// Of the text.
    schema: Value,
    /// Grammar of the text.
    texts: Option<String>,
}

fn read_format(tool: &mut Fields, ignored: &mut Paths) -> Result<Format, BadRequest> {
    let told = json!({"type": "text"});
    let (param, schema) = (tool.path("format"), json!({"type": "string"}));
    let free = Format { told, param, schema, texts: None };
    let Some(mut format) = tool.object("format")? else { return Ok(free) };
    let kind_path = format.path("type");
    let kind = format.take("type").unwrap_or(Value::Null);
    let read = match kind.as_str() {
        Some("text") => free,
        Some("grammar") => read_grammar(&mut format)?,
        _ => return Err(wrong(&kind_path, &kind, "\"text\" or \"grammar\"")),
    };
    ignored.extend(format.rest());
    Ok(read)
}

fn read_grammar(format: &mut Fields) -> Result<Format, BadRequest> {
    let (syntax_path, param) = (format.path("syntax"), format.path("definition"));
    let syntax = format.take("syntax").unwrap_or(Value::Null);
    let definition = format.text("definition")?.ok_or_else(|| missing(&param, "a string"))?;
    if definition.len() > N_DEFINITION_BYTES {
        let problem = format!("{} bytes: expected at most {N_DEFINITION_BYTES}", definition.len());
        return Err(BadRequest::field(&param, &problem));
    }
    let told = json!({"type": "grammar", "syntax": syntax, "definition": definition});
    match syntax.as_str() {
        Some("regex") => {
            let says = format!("Text that matches this regular expression: {definition}");
            let pattern = format!("^(?:{definition})$");
            let schema = json!({"type": "string", "description": says, "pattern": pattern});
            Ok(Format { told, param, schema, texts: None })
        }
        Some("lark") => {
            let says = format!("Text that follows this grammar, in Lark's notation:\n{definition}");
            let schema = json!({"type": "string", "description": says});
            Ok(Format { told, param, schema, texts: Some(definition) })
        }
        _ => Err(wrong(&syntax_path, &syntax, "\"lark\" or \"regex\"")),
    }
}

/// Takes the text out of the arguments of a call, which come in pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Reader {
    state: State,
    /// The first half of a pair of UTF-16.
    high: Option<u16>,
}

/// Where in `{"input": "…"}` it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Name,
    Colon,
    Text,
    Escape,
    Digits {
        value: u16,
        n_digits: u8,
    },
    End,
}

impl Reader {
    /// What of the text comes with these arguments. Halves of characters become U+FFFD.
    pub(super) fn read(&mut self, arguments: &str) -> String {
        let mut text = String::new();
        for c in arguments.chars() {
            self.state = match (self.state, c) {
                (State::Name, ':') => State::Colon,
                (State::Colon, '"') => State::Text,
                (State::Text, '\\') => State::Escape,
                (State::Text, '"') => {
                    self.end_pair(&mut text);
                    State::End
                }
                (State::Text, c) => self.put(c, &mut text),
                (State::Escape, 'u') => State::Digits { value: 0, n_digits: 0 },
                (State::Escape, c) => self.put(unescaped(c), &mut text),
                (State::Digits { value, n_digits }, c) => {
                    let digit = c.to_digit(16).unwrap_or_default() as u16;
                    let (value, n_digits) = ((value << 4) | digit, n_digits + 1);
                    match n_digits {
                        4 => self.put_unit(value, &mut text),
                        _ => State::Digits { value, n_digits },
                    }
                }
                (state, _) => state,
            };
        }
        text
    }

    fn put(&mut self, c: char, text: &mut String) -> State {
        self.end_pair(text);
        text.push(c);
        State::Text
    }

    fn put_unit(&mut self, unit: u16, text: &mut String) -> State {
        if let (Some(high), 0xDC00..=0xDFFF) = (self.high, unit) {
            self.high = None;
            text.extend(char::decode_utf16([high, unit]).flatten());
            return State::Text;
        }
        self.end_pair(text);
        match unit {
            0xD800..=0xDBFF => self.high = Some(unit),
            _ => text.push(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
        State::Text
    }

    /// A half has no other.
    fn end_pair(&mut self, text: &mut String) {
        if self.high.take().is_some() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// What stands for itself behind a backslash does here too.
fn unescaped(c: char) -> char {
    match c {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(arguments: &str, expected: &str) {
        assert_eq!(Reader::default().read(arguments), expected, "{arguments}");
    }

    #[test]
    fn a_text_is_what_its_string_says() {
        check(r#"{"input":"a"}"#, "a");
        check(r#"{ "input" : "say \"hi\"\n\\ \/\t: {}" }"#, "say \"hi\"\n\\ /\t: {}");
        check(r#"{"input":"\u00e9\ud83d\ude00"}"#, "é😀");
        check(r#"{"input":"\ud83dx\ude00\ud83d"}"#, "\u{fffd}x\u{fffd}\u{fffd}");
        check(r#"{"input":"cut \u00"#, "cut ");
        check("", "");
    }

    proptest! {
        #[test]
        fn a_text_comes_however_it_is_cut(
            text in "\\PC{0,12}|[\"\\\\\n\u{1}😀é]{0,8}",
            escapes in any::<bool>(),
            cuts in prop::collection::vec(any::<bool>(), 1..40),
        ) {
            let plain = json!({"input": text}).to_string();
            let escaped = |unit: u16| format!("\\u{unit:04x}");
            let units: String = text.encode_utf16().map(escaped).collect();
            let arguments = if escapes { format!("{{\"input\":\"{units}\"}}") } else { plain };
            let (mut reader, mut found, mut piece) = <(Reader, String, String)>::default();
            for (c, is_cut) in arguments.chars().zip(cuts.iter().cycle()) {
                piece.push(c);
                if *is_cut {
                    found.push_str(&reader.read(&std::mem::take(&mut piece)));
                }
            }
            found.push_str(&reader.read(&piece));
            prop_assert_eq!(found, text);
        }
    }
}
