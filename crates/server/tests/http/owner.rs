//! What the server's owner asks it and tells it to do, and the page that does.

use super::client::{Connection, post, post_head, request};
use super::{MODEL, address, receipts};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

fn get(address: SocketAddr, path: &str) -> Value {
    let response = request(address, &format!("GET {path}"), b"");
    assert_eq!(response.status, 200, "{path}: {}", response.body);
    response.json()
}

#[test]
fn browsers_get_the_page_and_programs_get_words() {
    let plain = request(address(), "GET /", b"");
    assert_eq!(plain.body, "Ollama is running");
    let page = request(address(), "GET /\nAccept: text/html,*/*;q=0.8", b"");
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    assert!(page.headers["content-security-policy"].contains("frame-ancestors 'none'"));
    for (response, kind) in [(&plain, "text/plain"), (&page, "text/html")] {
        assert!(response.headers["content-type"].starts_with(kind));
        assert!(response.headers["vary"].contains("accept"));
    }
    for path in ["/web/", "/web/none.js", "/web/../Cargo.toml", "/web/%2e%2e/Cargo.toml"] {
        assert_eq!(request(address(), &format!("GET {path}"), b"").status, 404, "{path}");
    }
}

#[test]
fn only_programs_here_and_the_own_page_are_told_of_the_server() {
    let paths = ["/admin/status", "/admin/models", "/admin/config", "/admin/running"];
    for path in paths {
        let with = |header: &str, status: u16| {
            let response = request(address(), &format!("GET {path}{header}"), b"");
            assert_eq!(response.status, status, "{path}{header}: {}", response.body);
        };
        with("", 200);
        with("\nX-Forwarded-For: 10.0.0.1", 403);
        with("\nOrigin: https://chat.example", 403);
        with("\nOrigin: http://localhost:7\nHost: localhost:7", 200);
        with("\nOrigin: http://localhost:7\nHost: localhost:8", 403);
    }
    let status = get(address(), "/admin/status");
    assert_eq!((&status["egress"]["mode"], &status["ledger"]), (&json!("open"), &json!("none")));
    let evidence = status["egress"]["evidence"][0].as_str().unwrap();
    assert!(evidence.ends_with("the kernel gave one"), "{evidence}");
    let models = get(address(), "/admin/models");
    assert_eq!(models["models"][0]["name"], MODEL);
    assert!(models["models"][0]["open"]["planned_bytes"].as_u64().unwrap() > 0);
    let verify = request(address(), "POST /admin/ledger/verify", b"");
    assert_eq!(verify.status, 501, "{}", verify.body);
}

/// The request of this id, while it is at work.
fn at_work(address: SocketAddr, id: &str) -> Option<Value> {
    let running = get(address, "/admin/running");
    running["running"].as_array().unwrap().iter().find(|one| one["id"] == id).cloned()
}

/// Begins a long answer, and waits until there is something of it.
fn begin(id: &str, more: &str) -> Connection {
    let body = json!({"prompt": "Once", "max_tokens": 500, "ignore_eos": true, "stream": true});
    let head = format!("{}\nX-Request-Id: {id}{more}", post_head("/v1/completions"));
    let mut connection = Connection::send(address(), &head, body.to_string().as_bytes());
    while !connection.line().starts_with("data: ") {}
    connection
}

#[test]
fn an_answer_is_cancelled_by_the_owner_alone() {
    let delete = |id: &str, more: &str| {
        request(address(), &format!("DELETE /admin/running/{id}{more}"), b"").status
    };
    let elsewhere = "\nX-Forwarded-For: 10.0.0.1";
    for (id, more) in [("mine-1", ""), ("mine-2", elsewhere)] {
        let mut connection = begin(id, more);
        let shown = at_work(address(), id).unwrap();
        assert_eq!((&shown["route"], &shown["model"]), (&json!("/v1/completions"), &json!(MODEL)));
        assert_eq!(delete(id, &format!("\nAuthorization: Bearer other{elsewhere}")), 403);
        assert_eq!(delete(id, ""), 200, "{id}");
        let lines = std::iter::from_fn(|| Some(connection.line()).filter(|line| !line.is_empty()));
        let rest: String = lines.collect();
        assert!(rest.contains("cancelled"), "{rest}");
        let is_over = || at_work(address(), id).is_none();
        assert!((0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            is_over()
        }));
        let ended = get(address(), "/admin/running");
        let ended = ended["ended"].as_array().unwrap().iter().find(|one| one["id"] == id).cloned();
        assert_eq!(ended.unwrap()["outcome"], "cancelled");
    }
    assert_eq!(delete("mine-1", ""), 404);
}

#[test]
fn a_receipt_is_verified_where_it_was_made() {
    let (address, _) = receipts::one_kept();
    let body = json!({"prompt": "One, two,", "max_tokens": 6}).to_string();
    let head = post_head("/v1/completions");
    let asked = request(address, &head, body.as_bytes());
    let id = &asked.headers["x-freehold-receipt"];
    let verify = |request: &str| {
        post(address, &format!("/v1/receipts/{id}/verify"), &json!({"request": request}))
    };
    let found = verify(&body);
    assert_eq!(found.status, 200, "{}", found.body);
    let found = found.json();
    assert_eq!((&found["equal"], &found["n_tokens"]), (&json!(true), &json!(6)));
    let other = verify(&body.replace("two", "too"));
    assert_eq!(other.status, 400, "{}", other.body);
    assert_eq!(other.json()["error"]["param"], "request");
    let none = post(address, "/v1/receipts/none/verify", &json!({"request": "{}"}));
    assert_eq!(none.status, 404, "{}", none.body);
    let path = format!("/v1/receipts/{id}/verify");
    for body in [json!({}), json!({"request": 1}), json!({"request": "{}", "more": 1})] {
        assert_eq!(post(address, &path, &body).status, 400, "{body}");
    }
    let ledger = request(address, "POST /admin/ledger/verify", b"").json();
    assert_eq!((&ledger["intact"], &ledger["counters"]), (&json!(true), &json!(null)));
    assert!(ledger["rows"].as_i64().unwrap() >= 2, "{ledger}");
}

#[test]
fn a_request_that_is_made_up_is_told_which_rule_decides() {
    let rules = get(address(), "/admin/policy");
    assert_eq!(rules, json!({"rules": [], "raises": [], "upstreams": []}));
    let explain = |body: &Value| post(address(), "/admin/policy/explain", body);
    let body = json!({"request": {"key_label": "public", "tokens": 12}, "text": "a fox"});
    let found = explain(&body);
    assert_eq!(found.status, 200, "{}", found.body);
    let found = found.json();
    assert_eq!((&found["outcome"], &found["label"]), (&json!("here"), &json!("public")));
    assert_eq!((&found["rule"], &found["considered"]), (&Value::Null, &json!([])));
    for (body, param) in [
        (json!({"request": {"tokns": 1}}), "request"),
        (json!({"request": {"tokens": {}}}), "request"),
        (json!({"text": 7}), "text"),
        (json!({"alias": "m"}), "alias"),
    ] {
        let found = explain(&body);
        assert_eq!((found.status, &found.json()["error"]["param"]), (400, &json!(param)), "{body}");
    }
}
