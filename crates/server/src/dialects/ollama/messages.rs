//! `messages` of a chat request, brought into the form that chat templates expect.

use crate::dialects::Paths;
use crate::dialects::fields::{Fields, missing, wrong};
use crate::errors::BadRequest;
use engine::ChatEnd;
use serde_json::{Map, Value, json};

/// Takes `messages` as a JSON array of objects, and whether the last is continued; `None` where
/// there are none. The paths of what has no effect go to `ignored`.
pub(super) fn take(
    fields: &mut Fields,
    ignored: &mut Paths,
) -> Result<Option<(Value, ChatEnd)>, BadRequest> {
    let list = fields.list("messages")?.unwrap_or_default();
    let mut messages = Vec::with_capacity(list.len());
    for (message_idx, message) in list.into_iter().enumerate() {
        messages.push(read(&format!("messages[{message_idx}]"), message, ignored)?);
    }
    let Some(last) = messages.last() else { return Ok(None) };
    let end = match last["role"] == "assistant" {
        true => {
            check_prefill(last, messages.len() - 1)?;
            ChatEnd::Continue
        }
        false => ChatEnd::Answer,
    };
    Ok(Some((messages.into_iter().map(Value::Object).collect(), end)))
}

/// Refuses what cannot be continued.
fn check_prefill(last: &Map<String, Value>, message_idx: usize) -> Result<(), BadRequest> {
    let content = last["content"].as_str().unwrap_or_default();
    let problem = if last.contains_key("tool_calls") {
        "a last message of the assistant's with tool_calls cannot be continued: expected its \
         result behind it"
    } else if content.trim_end().is_empty() {
        "a last message of the assistant's is continued: expected text"
    } else if content.trim_end() != content {
        "a last message of the assistant's is continued: expected no white space at its end, which \
         no token could go on from"
    } else {
        return Ok(());
    };
    Err(BadRequest::field(&format!("messages[{message_idx}].content"), problem))
}

fn read(path: &str, message: Value, ignored: &mut Paths) -> Result<Map<String, Value>, BadRequest> {
    let mut fields = Fields::of(path, message)?;
    let role_path = fields.path("role");
    let role = fields.take("role").unwrap_or(Value::Null);
    let known = ["system", "user", "assistant", "tool"];
    if !known.iter().any(|known| role == *known) {
        let expected = "one of \"system\", \"user\", \"assistant\", \"tool\"";
        return Err(wrong(&role_path, &role, expected));
    }
    let is_assistant = role == "assistant";
    let mut message = Map::from_iter([("role".to_owned(), role)]);
    let content = fields.text("content")?;
    let images_path = fields.path("images");
    if !fields.list("images")?.unwrap_or_default().is_empty() {
        return Err(BadRequest::unsupported(&images_path, "the models here read text only"));
    }
    if is_assistant {
        if let Some(text) = fields.text("thinking")?.filter(|text| !text.is_empty()) {
            message.insert("reasoning_content".to_owned(), text.into());
        }
        let calls_path = fields.path("tool_calls");
        let mut calls = Vec::new();
        for (call_idx, call) in
            fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate()
        {
            calls.push(read_call(&format!("{calls_path}[{call_idx}]"), call, ignored)?);
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), calls.into());
        }
    }
    // Who only thought or called a tool says nothing; templates want a string all the same.
    let may_be_silent = is_assistant && message.len() > 1;
    match content {
        Some(content) => message.insert("content".to_owned(), content.into()),
        None if may_be_silent => message.insert("content".to_owned(), "".into()),
        None => return Err(missing(&fields.path("content"), "a string")),
    };
    for (name, of_templates) in [("tool_name", "name"), ("tool_call_id", "tool_call_id")] {
        if let Some(text) = fields.text(name)?.filter(|text| !text.is_empty()) {
            message.insert(of_templates.to_owned(), text.into());
        }
    }
    ignored.extend(fields.rest());
    Ok(message)
}

fn read_call(path: &str, call: Value, ignored: &mut Paths) -> Result<Value, BadRequest> {
    let mut fields = Fields::of(path, call)?;
    let id = fields.text("id")?;
    fields.accept(&["type", "index"]);
    let function_path = fields.path("function");
    let function = fields.object("function")?;
    let mut function = function.ok_or_else(|| missing(&function_path, "an object"))?;
    let name_path = function.path("name");
    let name = function.text("name")?.ok_or_else(|| missing(&name_path, "a string"))?;
    let arguments_path = function.path("arguments");
    let arguments = match function.take("arguments") {
        None => json!({}),
        Some(object @ Value::Object(_)) => object,
        // As OpenAI's clients write them.
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(object @ Value::Object(_)) => object,
            _ => Value::String(text),
        },
        Some(other) => return Err(wrong(&arguments_path, &other, "an object")),
    };
    function.accept(&["index"]);
    ignored.extend(function.rest());
    ignored.extend(fields.rest());
    let mut call = json!({
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    });
    if let Some(id) = id {
        call["id"] = id.into();
    }
    Ok(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: Value, expected: Result<(Value, &[&str]), &str>) {
        let body = json!({"messages": messages}).to_string();
        let mut ignored = Paths::default();
        let found = take(&mut Fields::parse(body.as_bytes()).unwrap(), &mut ignored);
        let found = found.map(|found| (found.unwrap().0, ignored.kept().to_vec()));
        let found = found.map_err(|bad| bad.param.unwrap());
        let owned = |told: &[&str]| told.iter().map(|path| (*path).to_owned()).collect();
        let expected = expected.map(|(messages, told)| (messages, owned(told)));
        assert_eq!(found, expected.map_err(str::to_owned), "{messages}");
    }

    #[test]
    fn messages_take_the_form_of_templates() {
        let call =
            json!({"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}});
        check(
            json!([
                {"role": "system", "content": "s", "images": []},
                {"role": "user", "content": "u", "mood": "good"},
                {"role": "assistant", "thinking": "hm", "tool_calls": [call]},
                {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "c1"},
            ]),
            Ok((
                json!([
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "u"},
                    {"role": "assistant", "reasoning_content": "hm", "tool_calls": [{
                        "type": "function", "id": "c1",
                        "function": {"name": "f", "arguments": {"x": 1}},
                    }], "content": ""},
                    {"role": "tool", "content": "r", "name": "f", "tool_call_id": "c1"},
                ]),
                &["messages[1].mood"],
            )),
        );
    }

    #[test]
    fn wrong_messages_are_refused_by_path() {
        let user = json!({"role": "user", "content": "u"});
        check(json!([user, {"role": "boss", "content": "x"}]), Err("messages[1].role"));
        check(json!([{"role": "user"}]), Err("messages[0].content"));
        check(json!([{"role": "assistant"}]), Err("messages[0].content"));
        check(
            json!([{"role": "user", "content": "", "images": ["AAAA"]}]),
            Err("messages[0].images"),
        );
        for content in ["", " ", "x "] {
            check(
                json!([user, {"role": "assistant", "content": content}]),
                Err("messages[1].content"),
            );
        }
        let call = json!({"function": {"arguments": {}}});
        check(
            json!([{"role": "assistant", "tool_calls": [call]}]),
            Err("messages[0].tool_calls[0].function.name"),
        );
        let call = json!({"function": {"name": "f", "arguments": [1]}});
        check(
            json!([{"role": "assistant", "tool_calls": [call]}]),
            Err("messages[0].tool_calls[0].function.arguments"),
        );
    }
}
