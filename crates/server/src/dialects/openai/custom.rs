//! Custom tools, which take a text instead of arguments, of chats and of responses. Models know
//! functions only: each is told of as a function with one argument, which is the text, and calls
//! are turned back as they come.
//!
//! A regular expression is enforced as the pattern of that argument, a grammar in Lark's notation
//! as that of its text. The model is shown either.

use crate::dialects::fields::{Fields, missing, wrong};
use crate::dialects::tools::{Read, definition};
use crate::dialects::{ConstraintAsk, CustomAsk, ToolAsk};
use crate::errors::BadRequest;
use engine::{Grammar, Tool};
use serde_json::{Value, json};

/// The name of the argument.
const INPUT: &str = "input";

/// What stands around the text in the arguments of a call, where it comes in pieces.
pub(crate) const AROUND: [&str; 2] = [r#"{"input":""#, r#""}"#];

/// Most bytes of a regular expression or a grammar, which is part of the prompt too.
const N_DEFINITION_BYTES: usize = 64 << 10;

/// The arguments of a call with this text, as templates read them.
pub(crate) fn arguments(text: &str) -> Value {
    json!({INPUT: text})
}

/// The text of a call with these arguments; `None` where they are no such call's.
pub(crate) fn text_of(arguments: &Value) -> Option<&str> {
    let fields = arguments.as_object().filter(|fields| fields.len() == 1)?;
    fields.get(INPUT)?.as_str()
}

/// How a text stands between what is [`AROUND`] it.
pub(crate) fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The notation and the grammar that the text of a tool is held to; `None`: any text will do.
pub(crate) fn grammar(custom: &CustomAsk) -> Option<(&'static str, &str)> {
    match &custom.text.as_ref()?.grammar {
        Grammar::Regex(definition) => Some((REGEX, definition)),
        Grammar::Lark(definition) => Some((LARK, definition)),
        _ => None,
    }
}

/// Names of notations.
const REGEX: &str = "regex";
const LARK: &str = "lark";

/// Where a format has its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In its own fields, as in responses.
    Own,
    /// In its field `grammar`, as in chats.
    Grammar,
}

/// The tool of this name as a function, of which the fields tell the rest; `end` is given the
/// objects of its format when all that is known of them was taken.
pub(super) fn read(
    tool: &mut Fields,
    name: String,
    place: Place,
    end: &mut dyn FnMut(Fields) -> Result<(), BadRequest>,
) -> Result<Read, BadRequest> {
    let description = tool.text("description")?.unwrap_or_default();
    let (name_path, format_path) = (tool.path("name"), tool.path("format"));
    let text = match tool.object("format")? {
        Some(format) => read_format(format, place, end)?,
        None => None,
    };
    let schema = schema(text.as_ref().map(|ask| &ask.grammar));
    let parameters = json!({"type": "object", "properties": {INPUT: schema}, "required": [INPUT]});
    let definition = definition(&name, &description, &parameters);
    let texts = text.as_ref().and_then(|ask| match &ask.grammar {
        Grammar::Lark(definition) => Some(definition.clone()),
        _ => None,
    });
    let param = text.as_ref().map_or(format_path, |ask| ask.param.clone());
    let custom = Some(CustomAsk { name: name.clone(), text });
    let tool = Tool { name, parameters: Some(parameters), texts };
    let ask = ToolAsk { tool, param, is_strict: false };
    Ok(Read { ask, definition, name_path, custom })
}

/// The schema of a text, which says in words what it must look like.
fn schema(grammar: Option<&Grammar>) -> Value {
    match grammar {
        Some(Grammar::Regex(definition)) => {
            let says = format!("Text that matches this regular expression: {definition}");
            let pattern = format!("^(?:{definition})$");
            json!({"type": "string", "description": says, "pattern": pattern})
        }
        Some(Grammar::Lark(definition)) => {
            let says = format!("Text that follows this grammar, in Lark's notation:\n{definition}");
            json!({"type": "string", "description": says})
        }
        _ => json!({"type": "string"}),
    }
}

fn read_format(
    mut format: Fields,
    place: Place,
    end: &mut dyn FnMut(Fields) -> Result<(), BadRequest>,
) -> Result<Option<ConstraintAsk>, BadRequest> {
    let kind_path = format.path("type");
    let kind = format.take("type").unwrap_or(Value::Null);
    let text = match (kind.as_str(), place) {
        (Some("text"), _) => None,
        (Some("grammar"), Place::Own) => Some(read_grammar(&mut format)?),
        (Some("grammar"), Place::Grammar) => {
            let path = format.path("grammar");
            let grammar = format.object("grammar")?;
            let mut grammar = grammar.ok_or_else(|| missing(&path, "an object"))?;
            let read = read_grammar(&mut grammar)?;
            end(grammar)?;
            Some(read)
        }
        _ => return Err(wrong(&kind_path, &kind, "\"text\" or \"grammar\"")),
    };
    end(format)?;
    Ok(text)
}

fn read_grammar(fields: &mut Fields) -> Result<ConstraintAsk, BadRequest> {
    let (syntax_path, param) = (fields.path("syntax"), fields.path("definition"));
    let syntax = fields.take("syntax").unwrap_or(Value::Null);
    let definition = fields.text("definition")?.ok_or_else(|| missing(&param, "a string"))?;
    if definition.len() > N_DEFINITION_BYTES {
        let problem = format!("{} bytes: expected at most {N_DEFINITION_BYTES}", definition.len());
        return Err(BadRequest::field(&param, &problem));
    }
    let grammar = match syntax.as_str() {
        Some(REGEX) => Grammar::Regex(definition),
        Some(LARK) => Grammar::Lark(definition),
        _ => return Err(wrong(&syntax_path, &syntax, "\"lark\" or \"regex\"")),
    };
    Ok(ConstraintAsk { grammar, param })
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

    #[test]
    fn a_text_is_that_of_its_arguments_alone() {
        let check = |arguments: Value, expected: Option<&str>| {
            assert_eq!(text_of(&arguments), expected, "{arguments}");
        };
        check(arguments("a\n"), Some("a\n"));
        check(json!({"input": ""}), Some(""));
        for other in [
            json!({}),
            json!({"text": "a"}),
            json!({"input": 7}),
            json!({"input": "a", "more": "b"}),
            json!("{\"input\":\"a\"}"),
        ] {
            check(other, None);
        }
    }

    proptest! {
        #[test]
        fn arguments_are_made_of_pieces(
            pieces in prop::collection::vec("\\PC{0,6}|[\"\\\\\n]", 0..5),
        ) {
            let escaped: String = pieces.iter().map(|piece| escaped(piece)).collect();
            let made = [AROUND[0], &escaped, AROUND[1]].concat();
            let text = pieces.concat();
            prop_assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), arguments(&text));
            prop_assert_eq!(Reader::default().read(&made), text);
        }

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
