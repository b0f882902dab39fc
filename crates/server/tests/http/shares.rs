//! Parts of an alias's requests: canaries, which answer, and shadows, which nobody sees.

use super::client::{post, request};
use super::operate::Log;
use super::{MODEL, Running, engine, only_model, run};
use engine::{Engine, EngineOptions, Fleet, FleetModel, Keep, Task};
use freehold_server::{Alias, Config, Model, Share, Shares};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A second name, for the same weights or another context.
pub(super) const NEW: &str = "new";
const ALIAS: &str = "support-*";

pub(super) fn add(fleet: &Fleet, name: &str, engine: Engine) -> Model {
    let open = Arc::new(move |_: &EngineOptions| Ok(engine.clone().into()));
    let options = EngineOptions::default();
    fleet.set(name, FleetModel { open, options, keep: Keep::Pinned });
    Model { name: name.to_owned(), task: Task::Generate, digest: None, lock: None }
}

/// An engine of this test's own: a copy is dropped where others wait for one.
pub(super) fn own_engine(n_ctx: u32) -> Engine {
    let options = EngineOptions { n_ctx: Some(n_ctx), ..EngineOptions::default() };
    Engine::open(&testkit::smollm2(), &options).unwrap()
}

/// A server of [`MODEL`], which is `old`, and [`NEW`], which is `new`; only the first is open.
fn start(old: Engine, new: Engine, canaries: &[&str], shadows: &[&str]) -> (Running, Fleet) {
    let (fleet, model) = only_model(old, "00");
    let second = add(&fleet, NEW, new);
    let mut config = Config::new(fleet.clone(), vec![model, second]);
    config.aliases = vec![Alias { name: ALIAS.to_owned(), model: MODEL.to_owned() }];
    let shares = |texts: &[&str]| texts.iter().map(|text| Share::parse(text).unwrap()).collect();
    config.shares = Shares { canaries: shares(canaries), shadows: shares(shadows) };
    (run(config), fleet)
}

fn chat(more: &Value, messages: &Value) -> Value {
    let mut body = json!({"model": "support-1", "messages": messages, "max_tokens": 1});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_canary_answers_its_part_and_keeps_its_conversations() {
    let (server, _) = start(engine(), engine(), &["support-*=new:50"], &[]);
    let ask = |messages: &Value| {
        let response = post(server.address, "/v1/chat/completions", &chat(&json!({}), messages));
        assert_eq!(response.status, 200, "{}", response.body);
        let model = response.json()["model"].as_str().unwrap().to_owned();
        assert_eq!(response.headers["x-freehold-canary"] == "true", model == NEW);
        model
    };
    let user = |text: String| json!({"role": "user", "content": text});
    let mut models = BTreeSet::new();
    for n in 0..24 {
        let begin = user(format!("Question {n}"));
        let model = ask(&json!([begin]));
        // What follows stays there, whatever the system says by then.
        let system = json!({"role": "system", "content": format!("It is {n} o'clock.")});
        let answer = json!({"role": "assistant", "content": "Yes."});
        assert_eq!(ask(&json!([system, begin, answer, user("And?".to_owned())])), model);
        models.insert(model);
    }
    assert_eq!(models.len(), 2, "{models:?}");
    // Streams tell it too; who asks for a model by its own name gets that.
    let messages = json!([user("Question 0".to_owned())]);
    let body = chat(&json!({"stream": true}), &messages);
    let stream = post(server.address, "/v1/chat/completions", &body);
    let event: Value = serde_json::from_str(stream.events()[0]).unwrap();
    assert_eq!(stream.headers["x-freehold-canary"] == "true", event["model"] == NEW);
    for name in [MODEL, NEW] {
        let body = chat(&json!({"model": name}), &messages);
        let response = post(server.address, "/v1/chat/completions", &body);
        assert_eq!(response.json()["model"], name);
        assert!(!response.headers.contains_key("x-freehold-canary"));
    }
}

#[test]
fn a_canary_of_all_or_none_is_just_that() {
    let (server, _) = start(engine(), engine(), &["support-*=new:100"], &[]);
    for n in 0..4 {
        let body = json!({"model": "support-2", "prompt": format!("{n},"), "max_tokens": 1});
        let response = post(server.address, "/v1/completions", &body);
        assert_eq!(response.json()["model"], NEW);
        assert_eq!(response.headers["x-freehold-canary"], "true");
    }
}

/// Waits until copies have come to this, and returns the page.
fn wait_for(address: SocketAddr, outcome: &str, n: u32) -> String {
    let line = format!(
        "freehold_shadow_requests_total{{alias=\"{ALIAS}\",model=\"{NEW}\",outcome=\"{outcome}\"}} \
         {n}\n"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let page = request(address, "GET /metrics", b"").body;
        if page.contains(&line) {
            return page;
        }
        assert!(Instant::now() < deadline, "{line} never came: {page}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_shadow_is_compared_and_seen_by_nobody() {
    let log = Log::start();
    let own = own_engine(512);
    let (server, fleet) = start(own.clone(), own, &[], &["support-*=new:100"]);
    let secret = "Tell me about the Loch-Ness-Monster.";
    let ask = |more: Value| {
        let messages = json!([{"role": "user", "content": secret}]);
        let body = chat(&more, &messages);
        let response = post(server.address, "/v1/chat/completions", &body);
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(!response.body.contains(&format!("\"model\":\"{NEW}\"")), "{}", response.body);
        assert!(!response.headers.contains_key("x-freehold-canary"));
    };
    // It opens no model.
    ask(json!({}));
    wait_for(server.address, "dropped", 1);
    fleet.get(NEW).unwrap();
    // Whole and streamed, with the same random numbers although nobody has asked for any.
    let sampled = json!({"max_tokens": 12, "temperature": 1.5, "ignore_eos": true});
    ask(sampled.clone());
    wait_for(server.address, "equal", 1);
    // None is made where nobody asks by the alias.
    ask(json!({"model": MODEL}));
    let mut streamed = sampled;
    streamed["stream"] = true.into();
    ask(streamed);
    let page = wait_for(server.address, "equal", 2);
    for side in ["usual", "shadow"] {
        let line = format!(
            "freehold_shadow_generated_tokens_total{{alias=\"{ALIAS}\",model=\"{NEW}\",\
             side=\"{side}\"}} 24\n"
        );
        assert!(page.contains(&line), "{line}: {page}");
    }
    assert!(page.contains("outcome=\"dropped\"} 1\n"), "{page}");
    // A copy counts for no request.
    let of_new = format!("freehold_requests_total{{route=\"/v1/chat/completions\",model=\"{NEW}\"");
    assert!(!page.contains(&of_new), "{page}");
    let text = log.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("shadow=new")).collect();
    assert!(lines.iter().any(|line| line.contains("outcome=\"equal\"")), "{text}");
    assert!(lines.iter().all(|line| !line.contains("Loch-Ness")), "{text}");
}

#[test]
fn a_shadow_that_differs_or_fails_is_told() {
    let shadows = ["support-*=new:100"];
    let (server, fleet) = start(own_engine(512), own_engine(64), &[], &shadows);
    fleet.get(NEW).unwrap();
    let ask = |prompt: &str| {
        let body = json!({"model": "support-1", "prompt": prompt, "max_tokens": 90,
                          "temperature": 0, "ignore_eos": true});
        let response = post(server.address, "/v1/completions", &body);
        assert_eq!(response.status, 200, "{}", response.body);
    };
    // Its context ends before the answer does, or does not even hold the prompt.
    ask("One, two,");
    wait_for(server.address, "differs", 1);
    ask(&"one ".repeat(80));
    wait_for(server.address, "failed", 1);
}
