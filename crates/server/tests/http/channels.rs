//! Answers in channels over real connections: the default model with gpt-oss's marks and the form
//! of its template, since no small model has them.

use super::client::{Response, post};
use super::reasoning::marked_engine;
use super::{Running, start_with};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::OnceLock;

const TEMPLATE: &str = concat!(
    "{% if tools %}<|start|>developer<|message|>functions: {{ tools | tojson }}<|end|>{% endif %}",
    "{% for message in messages %}{% if message.role == 'assistant' and message.tool_calls %}",
    "{% if message.thinking %}<|start|>assistant<|channel|>analysis<|message|>",
    "{{ message.thinking }}<|end|>{% endif %}<|start|>assistant to=functions.",
    "{{ message.tool_calls[0].function.name }}<|channel|>commentary json<|message|>",
    "{{ message.tool_calls[0].function.arguments | tojson }}<|call|>",
    "{% else %}<|start|>{{ message.role }}{% if message.role == 'assistant' %}",
    "<|channel|>final{% endif %}<|message|>{{ message.content }}<|end|>{% endif %}{% endfor %}",
    "{% if add_generation_prompt %}<|start|>assistant{% if begun is defined %}",
    "<|channel|>analysis<|message|>{% endif %}{% endif %}",
);
const MARKS: [(&str, &str); 7] = [
    ("<gh_stars>", "<|start|>"),
    ("<issue_start>", "<|channel|>"),
    ("<issue_comment>", "<|message|>"),
    ("<issue_closed>", "<|end|>"),
    ("<jupyter_start>", "<|constrain|>"),
    ("<jupyter_text>", "<|call|>"),
    ("<jupyter_code>", "<|return|>"),
];

fn ask(more: Value) -> Response {
    static SERVER: OnceLock<Running> = OnceLock::new();
    let address: SocketAddr =
        SERVER.get_or_init(|| start_with(marked_engine(TEMPLATE, &MARKS))).address;
    let mut body = json!({
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 90,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(address, "/v1/chat/completions", &body)
}

fn message(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["choices"][0]["message"].clone()
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}},
        "required": ["city"], "additionalProperties": false})
}

fn tools() -> Value {
    let function = json!({"name": "look_up", "parameters": schema()});
    json!([{"type": "function", "function": function}])
}

/// Nothing of a frame.
fn assert_plain(text: &str) {
    for word in ["<|", "analysis", "commentary", "final", "functions"] {
        assert!(!text.contains(word), "{text:?}");
    }
}

#[test]
fn reasoning_ends_at_its_budget_and_the_answer_keeps_to_its_form() {
    let format = json!({"type": "json_schema", "json_schema": {"schema": schema()}});
    let begun = json!({"begun": true});
    let answer = ask(json!({
        "response_format": format, "thinking_token_budget": 5, "chat_template_kwargs": begun,
    }));
    let said = message(&answer);
    let reasoning = said["reasoning_content"].as_str().unwrap();
    assert!(!reasoning.is_empty(), "{said}");
    assert_plain(reasoning);
    let value: Value = serde_json::from_str(said["content"].as_str().unwrap()).unwrap();
    assert!(value["city"].is_string(), "{said}");
    // Five, the end of the message and what begins the next one; the role is two tokens.
    let usage = &answer.json()["usage"]["completion_tokens_details"];
    assert_eq!(usage["reasoning_tokens"], 5 + 4, "{usage}");
    // Without any the frame is forced.
    let said = message(&ask(json!({"response_format": format, "thinking_token_budget": 0})));
    let value: Value = serde_json::from_str(said["content"].as_str().unwrap()).unwrap();
    assert!(value["city"].is_string(), "{said}");
}

#[test]
fn reasoning_keeps_to_its_budget_where_the_answer_has_no_form() {
    // The mark of channels, which the model then wants to write all the time.
    let bias = json!({"8": 100});
    let answer = ask(json!({
        "thinking_token_budget": 5, "chat_template_kwargs": {"begun": true}, "logit_bias": bias,
    }));
    let said = message(&answer);
    let content = said["content"].as_str().unwrap();
    assert!(!content.is_empty(), "{said}");
    assert_plain(content);
    let usage = &answer.json()["usage"]["completion_tokens_details"];
    assert_eq!(usage["reasoning_tokens"], 5 + 4, "{usage}");
}

#[test]
fn calls_are_messages_that_keep_to_their_schema() {
    for stream in [false, true] {
        let response = ask(json!({
            "tools": tools(), "tool_choice": "required", "stream": stream,
            "thinking_token_budget": 5, "chat_template_kwargs": {"begun": true},
        }));
        assert!(!response.headers.contains_key("x-freehold-adapted"));
        if stream {
            let ends = response.body.contains("\"finish_reason\":\"tool_calls\"");
            assert!(ends, "{}", response.body);
            continue;
        }
        let answer = message(&response);
        assert!(answer["reasoning_content"].is_string() && answer["content"].is_null(), "{answer}");
        assert_eq!(answer["tool_calls"].as_array().unwrap().len(), 1);
        let call = &answer["tool_calls"][0]["function"];
        assert_eq!(call["name"], "look_up");
        let value: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(value["city"].is_string(), "{answer}");
    }
    for choice in ["none", "auto"] {
        let answer = message(&ask(json!({"tools": tools(), "tool_choice": choice})));
        if choice == "none" {
            assert!(answer["tool_calls"].is_null(), "{answer}");
        }
        assert_plain(answer["content"].as_str().unwrap_or_default());
    }
}

#[test]
fn earlier_calls_and_reasoning_are_brought_as_the_template_reads_them() {
    let call = |id: &str| {
        let function = json!({"name": "look_up", "arguments": "{\"city\":\"Nice\"}"});
        json!({"id": id, "type": "function", "function": function})
    };
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "sunny"});
    let messages = |calls: Vec<Value>, results: Vec<Value>| {
        let mut messages = vec![
            json!({"role": "user", "content": "How is it?"}),
            json!({"role": "assistant", "content": "So.", "reasoning_content": "Hm.",
                "tool_calls": calls}),
        ];
        messages.extend(results);
        json!({"messages": messages, "tools": tools(), "tool_choice": "none", "max_tokens": 1})
    };
    let one = ask(messages(vec![call("a")], vec![result("a")]));
    assert_eq!(one.status, 200, "{}", one.body);
    assert!(!one.headers.contains_key("x-freehold-adapted"));
    assert!(!one.headers.contains_key("x-freehold-unused"));
    let two = ask(messages(vec![call("a"), call("b")], vec![result("b"), result("a")]));
    assert_eq!(two.headers["x-freehold-adapted"], "single-calls");
}
