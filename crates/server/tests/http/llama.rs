//! llama-server's routes around tokens and templates, over real connections.

use super::client::{Response, post, request};
use super::{MODEL, address, chat, check_error, engine};
use serde_json::{Value, json};

fn tokenize(body: Value) -> Value {
    let response = post(address(), "/tokenize", &body);
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["tokens"].clone()
}

fn detokenize(tokens: &Value) -> Response {
    post(address(), "/detokenize", &json!({"tokens": tokens}))
}

#[test]
fn texts_become_tokens_and_texts_again() {
    for text in ["Own your tools.", "<|im_start|>user\n", "naïve 日本 🦀", ""] {
        let ids = tokenize(json!({"model": MODEL, "content": text}));
        assert_eq!(ids, json!(engine().tokenizer().encode(text, text::Special::Parse)), "{text}");
        assert_eq!(detokenize(&ids).json(), json!({"content": text}));
        // The tokenizer of this model puts nothing around a text.
        assert_eq!(tokenize(json!({"content": text, "add_special": true})), ids, "{text}");
    }
}

#[test]
fn control_tokens_are_text_where_that_is_wanted() {
    let mark = "<|im_start|>";
    assert_eq!(tokenize(json!({"content": mark})).as_array().unwrap().len(), 1);
    let plain = tokenize(json!({"content": mark, "parse_special": false}));
    assert!(plain.as_array().unwrap().len() > 1, "{plain}");
    assert_eq!(detokenize(&plain).json()["content"], mark);
}

#[test]
fn pieces_are_texts_or_bytes_and_make_up_the_text() {
    let text = "a 🦀";
    let pieces = tokenize(json!({"content": text, "with_pieces": true}));
    let ids: Vec<Value> =
        pieces.as_array().unwrap().iter().map(|piece| piece["id"].clone()).collect();
    assert_eq!(json!(ids), tokenize(json!({"content": text})));
    let bytes = pieces.as_array().unwrap().iter().flat_map(|piece| match &piece["piece"] {
        Value::String(text) => text.as_bytes().to_vec(),
        bytes => serde_json::from_value(bytes.clone()).unwrap(),
    });
    assert_eq!(String::from_utf8(bytes.collect()).unwrap(), text);
}

#[test]
fn what_the_model_does_not_have_is_refused() {
    let unknown = detokenize(&json!([1, 4_000_000]));
    check_error(&unknown, 400, Some("tokens[1]"), Some("invalid_value"));
    let model = post(address(), "/tokenize", &json!({"content": "a", "model": "gpt-9"}));
    check_error(&model, 404, Some("model"), Some("model_not_found"));
    let get = request(address(), "GET /tokenize", b"");
    check_error(&get, 405, None, Some("method_not_allowed"));
}

#[test]
fn a_template_is_applied_as_chat_completions_do() {
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let body = json!({"model": MODEL, "messages": messages});
    let response = post(address(), "/apply-template", &body);
    assert_eq!(response.status, 200, "{}", response.body);
    let prompt = response.json()["prompt"].as_str().unwrap().to_owned();
    let end = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    assert!(prompt.ends_with(end), "{prompt}");
    let n_tokens = tokenize(json!({"content": prompt})).as_array().unwrap().len();
    assert_eq!(chat(json!({"max_tokens": 1})).json()["usage"]["prompt_tokens"], n_tokens);
    // What is adapted for the model is, and is told.
    let tool = json!({"type": "function", "function": {"name": "now"}});
    let body = json!({"messages": messages, "tools": [tool]});
    let response = post(address(), "/apply-template", &body);
    assert_eq!(response.headers["x-freehold-adapted"], "tools-prompt");
    assert!(response.json()["prompt"].as_str().unwrap().contains("now"), "{}", response.body);
}

#[test]
fn who_can_answer_is_ready() {
    assert_eq!(request(address(), "GET /ready", b"").json(), json!({"status": "ready"}));
}
