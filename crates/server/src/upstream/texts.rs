//! The texts of a call that an upstream would read: what is looked through before it leaves.

use crate::dialects::{Call, PlainPrompt, Prompts};
use engine::Grammar;
use serde_json::Value;
use std::borrow::Cow;

/// All of them, in their order. What stands in a JSON object is there by its leaves, and arguments
/// of calls as a text of JSON too: a name beside a value tells what that is.
pub(crate) fn texts(call: &Call) -> Vec<Cow<'_, str>> {
    let mut texts = Vec::new();
    match &call.prompts {
        Prompts::Chat { messages, .. } => leaves(messages, &mut texts),
        Prompts::Turn { system, text, .. } => {
            texts.extend(system.iter().chain([text]).map(|text| Cow::Borrowed(&**text)));
        }
        Prompts::Plain(prompts) => {
            for prompt in prompts {
                match prompt {
                    PlainPrompt::Text(text) => texts.push(Cow::Borrowed(&**text)),
                    PlainPrompt::Middle { before, behind } => {
                        texts.extend([before, behind].map(|text| Cow::Borrowed(&**text)));
                    }
                    PlainPrompt::Tokens(_) => {}
                }
            }
        }
    }
    if let Some(tools) = &call.tools {
        leaves(&tools.definitions, &mut texts);
    }
    if let Some(ask) = &call.constraint {
        match &ask.grammar {
            Grammar::JsonSchema(schema) => leaves(schema, &mut texts),
            Grammar::Regex(text) | Grammar::Lark(text) | Grammar::Gbnf(text) => {
                texts.push(Cow::Borrowed(text));
            }
            Grammar::Choice(choices) => texts.extend(choices.iter().map(|c| Cow::Borrowed(&**c))),
            Grammar::JsonObject | Grammar::Calls(_) => {}
        }
    }
    texts.extend(call.stop.iter().map(|text| Cow::Borrowed(&**text)));
    texts
}

/// How many bytes they have together.
pub(crate) fn n_bytes(texts: &[Cow<'_, str>]) -> u64 {
    texts.iter().map(|text| text.len() as u64).sum()
}

/// The texts in `value`, names of fields included.
fn leaves<'a>(value: &'a Value, texts: &mut Vec<Cow<'a, str>>) {
    match value {
        Value::String(text) => texts.push(Cow::Borrowed(text)),
        Value::Array(list) => list.iter().for_each(|one| leaves(one, texts)),
        Value::Object(fields) => {
            for (name, value) in fields {
                texts.push(Cow::Borrowed(name));
                if name == "arguments" && value.is_object() {
                    texts.push(Cow::Owned(value.to_string()));
                }
                leaves(value, texts);
            }
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}
