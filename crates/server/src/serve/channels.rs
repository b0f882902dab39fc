//! A conversation as a template of messages in channels takes it: with one call a message, its
//! result behind it, reasoning under the name that the template reads, and never beside what else
//! was said with a call, since there is one message for both.

use serde_json::{Map, Value, json};

/// The name under which such templates read reasoning.
const THINKING: &str = "thinking";

/// The messages with one call each, where some have several; `None` where none has.
pub(super) fn with_single_calls(messages: &Value) -> Option<Value> {
    let messages = messages.as_array()?;
    let n_calls = |message: &Value| message["tool_calls"].as_array().map_or(0, Vec::len);
    if messages.iter().all(|message| n_calls(message) < 2) {
        return None;
    }
    let mut single = Vec::new();
    let mut rest = messages.as_slice();
    while let Some((message, behind)) = rest.split_first() {
        rest = behind;
        if n_calls(message) < 2 {
            single.push(message.clone());
            continue;
        }
        let n_results = rest.iter().take_while(|message| message["role"] == "tool").count();
        let (results, behind) = rest.split_at(n_results);
        rest = behind;
        let mut results: Vec<&Value> = results.iter().collect();
        let mut message = message.clone();
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        for call in calls {
            let id = call["id"].clone();
            message["tool_calls"] = json!([call]);
            single.push(message);
            // What else was said comes before the first.
            message = json!({"role": "assistant", "content": ""});
            let is_own = |result: &&Value| result["tool_call_id"] == id;
            let (own, others): (Vec<&Value>, Vec<&Value>) = results.into_iter().partition(is_own);
            results = others;
            single.extend(own.into_iter().cloned());
        }
        single.extend(results.into_iter().cloned());
    }
    Some(single.into())
}

/// The messages with their reasoning as the template reads it.
pub(super) fn with_thinking(messages: &Value) -> Value {
    let mut messages = messages.clone();
    let maps = messages.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
    maps.for_each(rename_reasoning);
    messages
}

fn rename_reasoning(message: &mut Map<String, Value>) {
    let Some(thought) = message.remove("reasoning_content") else { return };
    let said = message.get("content").and_then(Value::as_str).unwrap_or_default();
    let thought = match thought.as_str() {
        Some(thought) if message.contains_key("tool_calls") && !said.is_empty() => {
            let both = format!("{thought}\n\n{said}");
            message.insert("content".to_owned(), "".into());
            both.into()
        }
        _ => thought,
    };
    message.insert(THINKING.to_owned(), thought);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": id, "arguments": {"x": 1}}})
    }

    fn conversation() -> Value {
        json!([
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "So.", "reasoning_content": "Hm.",
             "tool_calls": [call("a"), call("b")]},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
        ])
    }

    #[test]
    fn each_call_is_a_message_with_its_result_behind_it() {
        let messages = conversation();
        let single = with_single_calls(&messages).unwrap();
        let expected = json!([
            messages[0],
            {"role": "assistant", "content": "So.", "reasoning_content": "Hm.",
             "tool_calls": [call("a")]},
            messages[3],
            {"role": "assistant", "content": "", "tool_calls": [call("b")]},
            messages[2],
        ]);
        assert_eq!(single, expected);
        assert_eq!(with_single_calls(&single), None);
        // A result of no call is not lost.
        let mut astray = messages;
        astray[2]["tool_call_id"] = json!("c");
        let single = with_single_calls(&astray).unwrap();
        assert_eq!(single.as_array().unwrap().last(), astray.as_array().unwrap().get(2));
    }

    #[test]
    fn reasoning_and_what_is_said_with_a_call_are_one() {
        let thinking = with_thinking(&conversation());
        assert_eq!(thinking[1]["thinking"], "Hm.\n\nSo.");
        assert_eq!((&thinking[1]["content"], &thinking[0]), (&json!(""), &conversation()[0]));
        let answer = json!([{"role": "assistant", "content": "4", "reasoning_content": "Hm."}]);
        let expected = json!([{"role": "assistant", "content": "4", "thinking": "Hm."}]);
        assert_eq!(with_thinking(&answer), expected);
    }
}
