//! A conversation as one model's template takes it.
//!
//! Templates differ in what they know. Where one shows a model no tools, the tools are described in
//! a message; where it loses calls that were made, they are written as the model writes them. What
//! was changed is told in the response.

use super::channels;
use super::prepare::known_kwargs;
use crate::errors::ServerError;
use axum::http::HeaderValue;
use engine::{Chat, ChatEnd, DateTime, Engine, EngineError, ToolFormat};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;

/// Length of the ids of calls that Mistral's templates ask for.
const SHORT_ID_CHARS: usize = 9;

/// What was brought into another form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Adapted(Vec<Cow<'static, str>>);

impl Adapted {
    /// A prompt, and what else was changed for it.
    fn and(mut self, (prompt, changed): (Vec<u32>, &[&'static str])) -> (Vec<u32>, Self) {
        changed.iter().for_each(|&what| self.push(what));
        (prompt, self)
    }

    /// Notes one more thing, in visible ASCII.
    pub(super) fn push(&mut self, what: impl Into<Cow<'static, str>>) {
        self.0.push(what.into());
    }

    /// The words for it.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|what| &**what)
    }

    /// The header that tells; `None` where there is nothing to tell.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let list = self.0.join(", ");
        let header = || HeaderValue::from_str(&list).expect("the words are visible ASCII");
        (!list.is_empty()).then(header)
    }
}

/// How a model calls tools: as its template says, else in the generic format.
pub(super) fn format_of(engine: &Engine) -> Option<&'static ToolFormat> {
    engine.template().and_then(ToolFormat::of)
}

/// For whom conversations are rendered: what stays the same over several renderings of one.
#[derive(Clone, Copy)]
pub(super) struct Stage<'a> {
    pub(super) engine: &'a Engine,
    /// Further variables of the template.
    pub(super) kwargs: &'a Map<String, Value>,
    pub(super) end: ChatEnd,
    /// The time that the template shows.
    pub(super) now: DateTime,
}

impl Stage<'_> {
    fn render(&self, messages: &Value, tools: Option<&Value>) -> Result<Vec<u32>, EngineError> {
        let (kwargs, end) = (self.kwargs, self.end);
        self.engine.render_chat_at(&Chat { messages, tools, kwargs, end }, self.now)
    }
}

/// Renders a conversation, with `tools` (an array in OpenAI's form) where there are some.
pub(super) fn chat_prompt(
    stage: Stage<'_>,
    messages: &Value,
    tools: Option<&Value>,
) -> Result<(Vec<u32>, Adapted), ServerError> {
    let Stage { engine, kwargs, .. } = stage;
    let kwargs = &match engine.template() {
        Some(template) => known_kwargs(template, kwargs)?,
        None => Map::new(),
    };
    let mut adapted = Adapted::default();
    let stage = Stage { kwargs, ..stage };
    let render = |messages: &Value, tools| render(stage, messages, tools);
    if let Some(format) = format_of(engine) {
        let told = format.has_channels().then(|| for_channels(messages, &mut adapted));
        let messages = told.as_ref().unwrap_or(messages);
        let prompt = render(messages, tools);
        let without = without_calls(messages).map(|messages| render(&messages, tools));
        return match (prompt, without) {
            (Ok((prompt, _)), Some(Ok((without, _)))) if prompt == without => {
                adapted.push("tool-calls");
                let written = calls_as_text(messages, format, Results::Kept);
                Ok(adapted.and(render(&written, tools)?))
            }
            (prompt, _) => Ok(adapted.and(prompt?)),
        };
    }
    let written = calls_as_text(messages, ToolFormat::generic(), Results::Told);
    if written != *messages {
        adapted.push("tool-messages");
    }
    let Some(tools) = tools else { return Ok(adapted.and(render(&written, None)?)) };
    adapted.push("tools-prompt");
    let prompt = ToolFormat::prompt(tools);
    let first = render(&with_prompt(&written, "system", &prompt), None);
    match first {
        // Some templates know no system messages.
        Err(EngineError::Template(_)) => {
            Ok(adapted.and(render(&with_prompt(&written, "user", &prompt), None).or(first)?))
        }
        rendered => Ok(adapted.and(rendered?)),
    }
}

/// The messages for a template of channels, which passes over what it does not expect.
fn for_channels(messages: &Value, adapted: &mut Adapted) -> Value {
    let joined = with_one_system_message(messages);
    joined.iter().for_each(|_| adapted.push("system-messages"));
    let messages = joined.as_ref().unwrap_or(messages);
    let single = channels::with_single_calls(messages);
    single.iter().for_each(|_| adapted.push("single-calls"));
    channels::with_thinking(single.as_ref().unwrap_or(messages))
}

/// Renders messages. Where a template refuses them, they are tried once more with what templates
/// mostly mind: system messages that are several or not in front (joined there), and ids of calls
/// that are not of a certain length. Which of it was changed comes with the prompt.
fn render(
    stage: Stage<'_>,
    messages: &Value,
    tools: Option<&Value>,
) -> Result<(Vec<u32>, &'static [&'static str]), EngineError> {
    let refusal = match stage.render(messages, tools) {
        Err(EngineError::Template(refusal)) => refusal,
        rendered => return Ok((rendered?, &[])),
    };
    let joined = with_one_system_message(messages);
    let short = with_short_ids(joined.as_ref().unwrap_or(messages));
    let (system, ids): (&[&str], &[&str]) = match joined {
        Some(_) => (&["system-messages"], &["system-messages", "call-ids"]),
        None => (&[], &["call-ids"]),
    };
    for (other, changed) in [(joined, system), (short, ids)] {
        let Some(other) = other else { continue };
        match stage.render(&other, tools) {
            Err(EngineError::Template(_)) => {}
            rendered => return Ok((rendered?, changed)),
        }
    }
    Err(EngineError::Template(refusal))
}

/// The messages with their system messages joined into one at the front; `None` where they stand
/// like that already.
fn with_one_system_message(messages: &Value) -> Option<Value> {
    let messages = messages.as_array()?;
    let is_system = |message: &&Value| message["role"] == "system";
    let in_place = messages.iter().skip(1).all(|message| !is_system(&message));
    if in_place {
        return None;
    }
    let contents: Vec<&str> = messages
        .iter()
        .filter(is_system)
        .filter_map(|message| message["content"].as_str())
        .collect();
    let mut joined = vec![json!({"role": "system", "content": contents.join("\n\n")})];
    joined.extend(messages.iter().filter(|message| !is_system(message)).cloned());
    Some(joined.into())
}

/// The messages with an id of nine letters and digits for each call, the same for the same; `None`
/// where there are no other ids.
fn with_short_ids(messages: &Value) -> Option<Value> {
    let mut short = messages.clone();
    let mut ids = HashMap::new();
    let mut shorten = |id: &mut Value| {
        let Some(text) = id.as_str() else { return };
        let is_short =
            text.len() == SHORT_ID_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_short {
            let n_ids = ids.len();
            let idx = *ids.entry(text.to_owned()).or_insert(n_ids);
            *id = format!("call{idx:05}").into();
        }
    };
    for message in short.as_array_mut()? {
        for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
            shorten(&mut call["id"]);
        }
        if let Some(id) = message.get_mut("tool_call_id") {
            shorten(id);
        }
        // Looking put it there.
        if message["tool_calls"].is_null()
            && let Some(message) = message.as_object_mut()
        {
            message.remove("tool_calls");
        }
    }
    (!ids.is_empty()).then_some(short)
}

/// The messages without their calls; `None` where there are none.
fn without_calls(messages: &Value) -> Option<Value> {
    let mut without = messages.clone();
    let mut n_removed = 0;
    for message in without.as_array_mut()?.iter_mut().filter_map(Value::as_object_mut) {
        n_removed += usize::from(message.remove("tool_calls").is_some());
    }
    (n_removed > 0).then_some(without)
}

/// What becomes of the results of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Results {
    /// They stay.
    Kept,
    /// The user tells them.
    Told,
}

/// The messages with their calls as text.
fn calls_as_text(messages: &Value, format: &ToolFormat, results: Results) -> Value {
    let mut written: Vec<Value> = Vec::new();
    let mut was_result = false;
    for message in messages.as_array().into_iter().flatten() {
        let content = message["content"].as_str().unwrap_or_default();
        let is_result = results == Results::Told && message["role"] == "tool";
        if is_result {
            let told = ToolFormat::response(content);
            match written.last_mut().filter(|_| was_result) {
                // Results of one turn are one message.
                Some(last) => {
                    let before = last["content"].as_str().unwrap_or_default();
                    last["content"] = format!("{before}\n{told}").into();
                }
                None => written.push(json!({"role": "user", "content": told})),
            }
        } else {
            let mut message = message.clone();
            if let Some(calls) = message.as_object_mut().and_then(|map| map.remove("tool_calls")) {
                let calls = calls.as_array().map_or(&[][..], Vec::as_slice).iter();
                let call = |call: &'_ Value| -> (String, Value) {
                    let function = &call["function"];
                    let name = function["name"].as_str().unwrap_or_default().to_owned();
                    (name, function["arguments"].clone())
                };
                let calls: Vec<(String, Value)> = calls.map(call).collect();
                let text = format.write(calls.iter().map(|(name, value)| (&**name, value)));
                let gap = if content.is_empty() { "" } else { "\n" };
                message["content"] = format!("{content}{gap}{text}").into();
            }
            written.push(message);
        }
        was_result = is_result;
    }
    written.into()
}

/// The messages with `prompt` in the system message, or in the first one of the user.
fn with_prompt(messages: &Value, role: &str, prompt: &str) -> Value {
    let mut with = messages.as_array().cloned().unwrap_or_default();
    let first = match role {
        "system" => with.first_mut().filter(|message| message["role"] == role),
        _ => with.iter_mut().find(|message| message["role"] == role),
    };
    match first {
        Some(message) => {
            let content = message["content"].as_str().unwrap_or_default();
            message["content"] = match role {
                "system" => format!("{content}\n\n{prompt}"),
                _ => format!("{prompt}\n\n{content}"),
            }
            .into();
        }
        None => with.insert(0, json!({"role": role, "content": prompt})),
    }
    with.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_messages_are_joined_at_the_front_only_where_they_are_elsewhere() {
        let check = |messages: Value, expected: Option<Value>| {
            assert_eq!(with_one_system_message(&messages), expected);
        };
        let user = json!({"role": "user", "content": "hi"});
        let system = |text: &str| json!({"role": "system", "content": text});
        check(json!([system("a"), user]), None);
        check(json!([user]), None);
        check(json!([user, system("a")]), Some(json!([system("a"), user])));
        check(json!([system("a"), system("b"), user]), Some(json!([system("a\n\nb"), user])));
    }

    fn conversation() -> Value {
        let call = |id: &str, x: u32| {
            let function = json!({"name": "f", "arguments": {"x": x}});
            json!({"id": id, "type": "function", "function": function})
        };
        json!([
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "So.", "tool_calls": [call("a", 1), call("b", 2)]},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "assistant", "content": "", "tool_calls": [call("abcdefgh9", 3)]},
        ])
    }

    #[test]
    fn calls_and_results_become_text() {
        let first = "So.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n</tool_call>\n\
                     <tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":2}}\n</tool_call>";
        let last = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":3}}\n</tool_call>";
        let told = "<tool_response>\n2\n</tool_response>\n<tool_response>\n1\n</tool_response>";
        assert_eq!(
            calls_as_text(&conversation(), ToolFormat::generic(), Results::Told),
            json!([
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": first},
                {"role": "user", "content": told},
                {"role": "assistant", "content": last},
            ])
        );
        let kept = calls_as_text(&conversation(), ToolFormat::generic(), Results::Kept);
        assert_eq!(kept[3], conversation()[3]);
        let plain = json!([{"role": "user", "content": "go"}]);
        assert_eq!(calls_as_text(&plain, ToolFormat::generic(), Results::Told), plain);
    }

    #[test]
    fn ids_are_shortened_alike_wherever_they_stand() {
        let short = with_short_ids(&conversation()).unwrap();
        assert_eq!(short[1]["tool_calls"][0]["id"], "call00000");
        assert_eq!(short[1]["tool_calls"][1]["id"], "call00001");
        assert_eq!(short[2]["tool_call_id"], "call00001");
        assert_eq!(short[3]["tool_call_id"], "call00000");
        assert_eq!(short[4]["tool_calls"][0]["id"], "abcdefgh9");
        assert_eq!(short[0], conversation()[0]);
        assert_eq!(with_short_ids(&short), None);
    }

    #[test]
    fn the_prompt_stands_in_the_system_message_or_the_first_of_the_user() {
        let check = |messages: Value, role: &str, expected: Value| {
            assert_eq!(with_prompt(&messages, role, "P"), expected, "{messages}");
        };
        let user = json!({"role": "user", "content": "u"});
        let system = |text: &str| json!({"role": "system", "content": text});
        check(json!([user]), "system", json!([system("P"), user]));
        check(json!([system("s"), user]), "system", json!([system("s\n\nP"), user]));
        check(json!([user]), "user", json!([{"role": "user", "content": "P\n\nu"}]));
    }
}
