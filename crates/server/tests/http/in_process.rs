//! Requests of the process itself: the same answers and refusals as over HTTP.

use crate::{MODEL, engine, only_model, post, start};
use freehold_server::{Config, InProcess, Limits, ServerError, Told};
use serde_json::{Value, json};

async fn ask(body: Value, path: &str) -> Result<Told, ServerError> {
    let (fleet, model) = only_model(engine(), "00");
    let server = InProcess::new(Config::new(fleet, vec![model])).unwrap();
    match path {
        "chat/completions" => server.chat(body.to_string()).await,
        _ => server.complete(body.to_string()).await,
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

#[test]
fn answers_are_those_over_http() {
    let body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0.7,
        "seed": 3,
        "max_tokens": 16,
    });
    let told = block_on(ask(body.clone(), "chat/completions")).unwrap();
    let running = start(Limits::default());
    let sent = post(running.address, "/v1/chat/completions", &body).json();
    assert_eq!(sent["choices"][0]["message"]["content"], told.text.as_str());
    assert_eq!(sent["usage"]["prompt_tokens"], told.n_prompt);
    assert_eq!(sent["usage"]["completion_tokens"], told.n_generated);
    assert!(told.notes.is_empty() && told.calls.is_empty(), "{told:?}");
    let body = json!({"prompt": "One, two,", "temperature": 0, "max_tokens": 4});
    let told = block_on(ask(body.clone(), "completions")).unwrap();
    let sent = post(running.address, "/v1/completions", &body).json();
    assert_eq!(sent["choices"][0]["text"], told.text.as_str());
}

#[test]
fn calls_and_what_was_adapted_are_told() {
    let tool = json!({"type": "function", "function": {"name": "now", "parameters":
        {"type": "object", "properties": {}}}});
    let body = json!({
        "messages": [{"role": "user", "content": "What time is it?"}],
        "tools": [tool],
        "tool_choice": "required",
        "temperature": 0,
        "max_tokens": 64,
    });
    let told = block_on(ask(body, "chat/completions")).unwrap();
    assert_eq!((told.calls[0].name.as_str(), told.calls[0].is_complete), ("now", true));
    assert!(told.notes.iter().any(|note| note.starts_with("adapted: ")), "{told:?}");
}

#[test]
fn refusals_are_those_over_http() {
    let check = |more: Value, expected: &str| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = block_on(ask(body, "chat/completions")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(json!({"temprature": 1}), "temprature");
    check(json!({"temperature": 9}), "temperature");
    check(json!({"model": "other"}), "other");
    check(json!({"n": 2}), "one answer is read");
    check(json!({"stream": true}), "read as a whole");
}
