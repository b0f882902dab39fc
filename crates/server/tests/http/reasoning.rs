//! Reasoning and marked tool calls over real connections.
//!
//! No small model at hand reasons, so the default model is given what reasoning models have: four
//! of its unused control tokens become the marks, and its template Qwen's way of using them.

use super::client::{Response, post};
use super::{Running, check_error, start_with};
use engine::{Engine, EngineOptions};
use gguf::write::Writer;
use gguf::{Array, Gguf, Value as Meta};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;

const TEMPLATE: &str = concat!(
    "{% if tools %}<|im_start|>system\nFor each function call, return a json object with function ",
    "name and arguments within <tool_call></tool_call> tags:\n{{ tools | tojson }}<|im_end|>\n",
    "{% endif %}{% for message in messages %}{% if message.role == 'system' and not loop.first %}",
    "{{ raise_exception('a system message comes first') }}{% endif %}",
    "<|im_start|>{{ message.role }}\n{{ message.content }}",
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n{% if enable_thinking is defined and not ",
    "enable_thinking %}<think>\n\n</think>\n\n{% elif begun is defined or enable_thinking is ",
    "defined %}<think>\n{% endif %}",
);
/// One that knows no switch.
pub(crate) const RESTLESS: &str = concat!(
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}",
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n",
);
const MARKS: [(&str, &str); 7] = [
    ("<gh_stars>", "<think>"),
    ("<issue_start>", "</think>"),
    ("<issue_comment>", "<tool_call>"),
    ("<issue_closed>", "</tool_call>"),
    ("<jupyter_start>", "<|fim_prefix|>"),
    ("<jupyter_text>", "<|fim_suffix|>"),
    ("<jupyter_code>", "<|fim_middle|>"),
];

pub(crate) fn reasoning_engine(template: &str) -> Engine {
    marked_engine(template, &MARKS)
}

/// The default model with this template and with tokens of other names.
pub(crate) fn marked_engine(template: &str, marks: &[(&str, &str)]) -> Engine {
    let file = Gguf::open(&testkit::smollm2()).unwrap();
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        let value = match (key, value) {
            ("tokenizer.chat_template", _) => Meta::String(template.to_owned()),
            ("tokenizer.ggml.tokens", Meta::Array(Array::Strings(tokens))) => {
                let renamed = |token: &str| match marks.iter().find(|(old, _)| *old == token) {
                    Some((_, new)) => (*new).to_owned(),
                    None => token.to_owned(),
                };
                Meta::Array(Array::Strings(tokens.iter().map(renamed).collect()))
            }
            (_, value) => value.clone(),
        };
        writer.metadata(key, value);
    }
    for tensor in file.tensors() {
        writer.tensor(&tensor.name, &tensor.shape, tensor.ty, file.data(tensor));
    }
    // Tests may each be a process: one must not write what another has mapped.
    let name = format!("reasoning-{}-{}.gguf", std::process::id(), template.len());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    let options = EngineOptions { n_ctx: Some(512), ..EngineOptions::default() };
    let engine = Engine::open(&path, &options).unwrap();
    std::fs::remove_file(&path).unwrap();
    engine
}

/// A server whose model reasons.
pub(crate) fn address() -> SocketAddr {
    static SERVER: OnceLock<Running> = OnceLock::new();
    SERVER.get_or_init(|| start_with(reasoning_engine(TEMPLATE))).address
}

fn ask(more: Value) -> Response {
    let mut body = json!({
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 60,
        "chat_template_kwargs": {"begun": true},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(address(), "/v1/chat/completions", &body)
}

fn message(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["choices"][0]["message"].clone()
}

#[test]
fn reasoning_is_split_out_and_ends_at_its_budget() {
    let response = ask(json!({"thinking_token_budget": 8, "logprobs": true}));
    let answer = message(&response);
    let reasoning = answer["reasoning_content"].as_str().unwrap();
    assert_eq!(answer["reasoning"], reasoning);
    let content = answer["content"].as_str().unwrap();
    assert!(!reasoning.is_empty() && !content.is_empty(), "{answer}");
    assert!(!content.contains("think>") && !reasoning.contains("think>"), "{answer}");
    let usage = &response.json()["usage"];
    // Eight, and the mark behind them.
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 9);
    let tokens = response.json()["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(tokens[8]["token"], "</think>");

    let stream = ask(json!({"thinking_budget_tokens": 8, "stream": true}));
    let (mut streamed, mut text) = (String::new(), String::new());
    let events = stream.events();
    for event in &events[..events.len() - 1] {
        let event: Value = serde_json::from_str(event).unwrap();
        let delta = &event["choices"][0]["delta"];
        assert_eq!(delta["reasoning"], delta["reasoning_content"]);
        streamed.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        text.push_str(delta["content"].as_str().unwrap_or_default());
    }
    assert_eq!((streamed.as_str(), text.as_str()), (reasoning, content));

    // A stop string in it stops nothing.
    let stop: String = reasoning.chars().skip(1).take(3).collect();
    let stopped = message(&ask(json!({"thinking_token_budget": 8, "stop": stop})));
    assert_eq!(stopped["reasoning_content"], reasoning);
    // Without a budget it goes on until all is spent.
    let whole = ask(json!({"max_tokens": 20, "min_tokens": 20}));
    let answer = message(&whole);
    let begins = answer["reasoning_content"].as_str().unwrap().starts_with(reasoning);
    assert!(begins && answer["content"] == "", "{answer}");
    let usage = &whole.json()["usage"];
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 20);
}

#[test]
fn reasoning_that_is_off_leaves_the_answer() {
    let off = json!({"chat_template_kwargs": {"enable_thinking": false}});
    let effort = json!({"chat_template_kwargs": {}, "reasoning_effort": "none"});
    for mut setting in [off, effort] {
        setting["min_tokens"] = json!(8);
        let response = ask(setting);
        let answer = message(&response);
        assert!(answer["reasoning_content"].is_null() && answer["content"] != "", "{answer}");
        assert!(response.json()["usage"]["completion_tokens_details"].is_null());
    }
}

#[test]
fn what_is_asked_of_the_answer_holds_behind_the_reasoning() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}},
        "required": ["city"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"schema": schema}});
    let answer = message(&ask(json!({"response_format": format, "thinking_token_budget": 5})));
    assert_ne!(answer["reasoning_content"], "");
    let value: Value = serde_json::from_str(answer["content"].as_str().unwrap()).unwrap();
    assert!(value["city"].is_string(), "{answer}");

    let function = json!({"name": "look_up", "parameters": schema});
    let tools = json!([{"type": "function", "function": function}]);
    for stream in [false, true] {
        let response = ask(json!({
            "tools": tools, "tool_choice": "required", "parallel_tool_calls": false,
            "thinking_token_budget": 5, "stream": stream, "max_tokens": 100,
        }));
        assert!(!response.headers.contains_key("x-freehold-adapted"));
        if stream {
            assert!(
                response.body.contains("\"finish_reason\":\"tool_calls\""),
                "{}",
                response.body
            );
            continue;
        }
        let answer = message(&response);
        assert!(answer["reasoning_content"].is_string() && answer["content"].is_null(), "{answer}");
        let call = &answer["tool_calls"][0]["function"];
        assert_eq!(call["name"], "look_up");
        let value: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(value["city"].is_string(), "{answer}");
    }
}

#[test]
fn a_budget_is_a_number_of_tokens() {
    let response = ask(json!({"thinking_token_budget": "few"}));
    check_error(&response, 400, Some("thinking_token_budget"), Some("invalid_value"));
    let zero = message(&ask(json!({"thinking_token_budget": 0})));
    assert!(zero["reasoning_content"].is_null() && zero["content"] != "", "{zero}");
}

#[test]
fn system_messages_that_were_joined_are_told() {
    let ask_with = |first: &str, second: &str| {
        let message = |role: &str| json!({"role": role, "content": "Be brief."});
        ask(json!({"messages": [message(first), message(second)], "max_tokens": 1}))
    };
    let moved = ask_with("user", "system");
    assert_eq!(moved.status, 200, "{}", moved.body);
    assert_eq!(moved.headers["x-freehold-adapted"], "system-messages");
    assert!(!ask_with("system", "user").headers.contains_key("x-freehold-adapted"));
}

#[test]
fn what_is_missing_in_the_middle_is_filled_in_by_models_that_can() {
    let settings = json!({"temperature": 0, "num_predict": 4});
    let generate = |more: Value| {
        let mut body = json!({"model": super::MODEL, "prompt": "def f(x):\n", "stream": false,
            "options": settings});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(address(), "/api/generate", &body)
    };
    let filled = generate(json!({"suffix": "    return y\n"}));
    assert_eq!(filled.status, 200, "{}", filled.body);
    let filled = filled.json();
    // Three marks, and no template around them; what is filled in is no conversation.
    let count = |text: &str| {
        let body = json!({"content": text});
        post(address(), "/tokenize", &body).json()["tokens"].as_array().unwrap().len() as u64
    };
    let n_prompt = count("def f(x):\n") + count("    return y\n") + 3;
    assert_eq!(filled["prompt_eval_count"], n_prompt, "{filled}");
    assert!(filled["context"].is_null(), "{filled}");
    // The marks cannot be written into it.
    let marked = generate(json!({"suffix": "<|fim_middle|>"})).json();
    assert!(marked["prompt_eval_count"].as_u64().unwrap() > count("def f(x):\n") + 4, "{marked}");
    let body = json!({"prompt": "def f(x):\n", "suffix": "    return y\n", "temperature": 0,
        "max_tokens": 4});
    let completed = post(address(), "/v1/completions", &body);
    assert_eq!(completed.status, 200, "{}", completed.body);
    let completed = completed.json();
    assert_eq!(completed["choices"][0]["text"], filled["response"]);
    assert_eq!(completed["usage"]["prompt_tokens"], n_prompt);
    let shown = post(address(), "/api/show", &json!({"model": super::MODEL})).json();
    let can = shown["capabilities"].as_array().unwrap();
    assert!(can.contains(&json!("insert")), "{shown}");
    for beside in [json!({"system": "s"}), json!({"raw": true}), json!({"context": [1]})] {
        let mut more = beside;
        more["suffix"] = json!("y");
        let refused = generate(more.clone());
        assert_eq!(refused.status, 400, "{more}");
        assert!(!more["raw"].is_null() || refused.body.contains("suffix: "), "{}", refused.body);
    }
}
