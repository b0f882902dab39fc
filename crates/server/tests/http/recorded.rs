//! Requests that become cases for the gate: of clients who consented, and of nobody else.

use super::client::Connection;
use super::{MODEL, Running, engine, only_model, run};
use freehold_server::{Cases, Config, Consent, PENDING_CASES};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

fn start(folder: &Path, consent: Consent) -> Running {
    let (fleet, model) = only_model(engine(), "00");
    let mut config = Config::new(fleet, vec![model]);
    config.cases = Some(Cases::open(folder, consent).unwrap());
    config.allow_anyone = true;
    run(config)
}

/// Asks with this key, or none, and further headers.
fn ask(server: &Running, path: &str, key: Option<&str>, more: &str, body: &Value) {
    let key = key.map(|key| format!("\nAuthorization: Bearer {key}")).unwrap_or_default();
    let head = format!("POST {path}\nContent-Type: application/json{key}{more}");
    let body = body.to_string();
    let response = Connection::send(server.address, &head, body.as_bytes()).finish();
    assert_eq!(response.status, 200, "{}", response.body);
}

/// Waits for so many cases.
fn cases(folder: &Path, n: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let entries = std::fs::read_dir(folder.join(PENDING_CASES)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|of| of == "jsonl")).collect();
        assert!(paths.len() <= n && Instant::now() < deadline, "{paths:?}");
        if paths.len() == n {
            let read = |path| serde_json::from_str(&std::fs::read_to_string(path).unwrap());
            return paths.iter().map(|path| read(path).unwrap()).collect();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_consenting_client_asks_becomes_a_case_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let consent = Consent { keys: vec![b"yes-key".to_vec()], loopback: false };
    let server = start(folder.path(), consent);
    let body = json!({
        "model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0, "max_tokens": 12, "user": "somebody",
    });
    let path = "/v1/chat/completions";
    ask(&server, path, Some("another-key"), "", &body);
    ask(&server, path, None, "", &body);
    ask(&server, path, Some("yes-key"), "\nx-freehold-lenient: true", &body);
    ask(&server, path, Some("yes-key"), "", &body);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    ask(&server, path, Some("yes-key"), "", &streamed);
    let text = json!({"prompt": "One, two,", "max_tokens": 4, "temperature": 0});
    ask(&server, "/v1/completions", Some("yes-key"), "", &text);
    let cases = cases(folder.path(), 3);
    let is_of_chat = |case: &&Value| case["messages"] == body["messages"];
    let of_chat: Vec<&Value> = cases.iter().filter(is_of_chat).collect();
    assert_eq!(of_chat.len(), 2, "{cases:?}");
    // Whole and streamed are the same case.
    assert_eq!(of_chat[0]["expect"], of_chat[1]["expect"]);
    let expected = of_chat[0]["expect"][0]["exact"].as_str().unwrap();
    assert!(expected.contains("Paris"), "{expected}");
    assert_eq!(of_chat[0]["parameters"], json!({"temperature": 0, "max_tokens": 12}));
    assert!(cases.iter().any(|case| case["text"] == "One, two,"), "{cases:?}");
    let told = format!("{cases:?}");
    assert!(!told.contains("yes-key") && !told.contains("somebody"), "{told}");
}

#[test]
fn without_a_key_only_programs_of_this_machine_may_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), Consent { keys: Vec::new(), loopback: true });
    let body = json!({"prompt": "One, two,", "max_tokens": 4, "seed": 5});
    ask(&server, "/v1/completions", Some("any"), "", &body);
    ask(&server, "/v1/completions", None, "\nX-Forwarded-For: 10.0.0.1", &body);
    ask(&server, "/v1/completions", None, "", &body);
    let case = cases(folder.path(), 1).remove(0);
    // What the request did not say is as it was, and a sampled answer need only be like it.
    assert_eq!(case["parameters"], json!({"max_tokens": 4, "temperature": 0.8}));
    assert_eq!(case["seed"], 5);
    assert!(case["expect"][0]["similar"].is_string(), "{case}");
}
