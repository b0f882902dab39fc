//! Responses that are made while nobody waits for them, over real connections with the real default
//! model.

use super::client::{Connection, Response, request};
use super::{MODEL, Running, check_error, start};
use freehold_server::Limits;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/v1/responses";
const LASTS: Duration = Duration::from_secs(600);

fn keeping(limits: Limits) -> Running {
    start(Limits { keep_responses: Some(LASTS), ..limits })
}

fn send(server: &Running, key: &str, head: &str, body: &str) -> Response {
    request(server.address, &format!("{head}\nx-api-key: {key}"), body.as_bytes())
}

fn question(more: Value) -> String {
    let mut body = json!({"model": MODEL, "input": "What is the capital of France?",
        "max_output_tokens": 12, "temperature": 0, "background": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

/// More than there is time for, but for what the context has.
fn story(more: Value) -> String {
    let mut body = json!({"input": "Tell me a long story.", "max_output_tokens": null,
        "temperature": 1, "seed": 5});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    question(body)
}

fn ask(server: &Running, body: &str) -> Response {
    send(server, "a", &format!("POST {PATH}\nContent-Type: application/json"), body)
}

fn body(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

fn id_of(response: &Value) -> String {
    response["id"].as_str().unwrap().to_owned()
}

fn get(server: &Running, key: &str, id: &str) -> Response {
    send(server, key, &format!("GET {PATH}/{id}"), "")
}

fn cancel(server: &Running, key: &str, id: &str) -> Response {
    send(server, key, &format!("POST {PATH}/{id}/cancel"), "")
}

/// Asks until the response has ended.
fn ended(server: &Running, id: &str) -> Value {
    loop {
        let told = body(&get(server, "a", id));
        assert_eq!(told["background"], true, "{told}");
        if told["status"] != "in_progress" {
            return told;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_response_is_made_while_nobody_waits() {
    let server = keeping(Limits::default());
    let begun = body(&ask(&server, &question(json!({}))));
    let told = (&begun["status"], &begun["output"], &begun["background"], &begun["store"]);
    assert_eq!(told, (&json!("in_progress"), &json!([]), &json!(true), &json!(true)));
    let id = id_of(&begun);
    let made = ended(&server, &id);
    let waited = body(&ask(&server, &question(json!({"background": false}))));
    assert_eq!((&made["status"], &made["id"]), (&json!("completed"), &json!(id)));
    let text = |response: &Value| response["output"][0]["content"].clone();
    assert_eq!(text(&made), text(&waited));
    assert_eq!(made["usage"]["output_tokens"], waited["usage"]["output_tokens"]);
    // Others do not see it.
    for other in [get(&server, "b", &id), cancel(&server, "b", &id)] {
        check_error(&other, 404, Some("id"), Some("response_not_found"));
    }
    // What has ended is cancelled no more, and what was waited for never was to be.
    assert_eq!(body(&cancel(&server, "a", &id)), made);
    check_error(&cancel(&server, "a", &id_of(&waited)), 400, Some("id"), Some("invalid_value"));
    let next = question(json!({"previous_response_id": id, "input": "And of Italy?"}));
    let next = ended(&server, &id_of(&body(&ask(&server, &next))));
    assert_eq!(next["previous_response_id"], id);
    assert_eq!(next["status"], "completed", "{next}");
}

#[test]
fn a_response_that_is_cancelled_frees_its_place() {
    let server = keeping(Limits { n_requests: 1, ..Limits::default() });
    let begun = body(&ask(&server, &story(json!({}))));
    let id = id_of(&begun);
    let busy = ask(&server, &question(json!({})));
    assert_eq!(busy.status, 429, "{}", busy.body);
    assert_eq!(body(&get(&server, "a", &id))["status"], "in_progress");
    let cancelled = body(&cancel(&server, "a", &id));
    assert_eq!((&cancelled["status"], &cancelled["id"]), (&json!("cancelled"), &json!(id)));
    assert_eq!(body(&get(&server, "a", &id)), cancelled);
    assert_eq!(body(&cancel(&server, "a", &id)), cancelled);
    let next = ask(&server, &question(json!({"previous_response_id": id})));
    check_error(&next, 400, Some("previous_response_id"), Some("invalid_value"));
    // Whoever forgets one has it end too.
    let id = id_of(&body(&ask(&server, &story(json!({})))));
    let forgotten = send(&server, "a", &format!("DELETE {PATH}/{id}"), "");
    assert_eq!(body(&forgotten)["deleted"], true);
    check_error(&get(&server, "a", &id), 404, Some("id"), Some("response_not_found"));
    assert_eq!(body(&ask(&server, &question(json!({}))))["status"], "in_progress");
}

#[test]
fn a_response_that_nobody_asks_for_is_given_up() {
    let keep_responses = Some(Duration::from_millis(20));
    let server = start(Limits { n_requests: 1, keep_responses, ..Limits::default() });
    body(&ask(&server, &story(json!({}))));
    let freed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        ask(&server, &question(json!({}))).status == 200
    });
    assert!(freed, "the seat is still taken");
}

/// Reads lines until there were so many events; the number of the last.
fn read_events(connection: &mut Connection, n_events: usize) -> (String, usize) {
    let (mut id, mut n) = (String::new(), 0);
    while n < n_events {
        let line = connection.line();
        assert!(!line.is_empty(), "the stream ended after {n} events");
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let data: Value = serde_json::from_str(data).unwrap();
        if n == 0 {
            id = id_of(&data["response"]);
        }
        n += 1;
    }
    (id, n_events - 1)
}

#[test]
fn a_stream_is_picked_up_again() {
    let server = keeping(Limits { resume_streams: Some(LASTS), ..Limits::default() });
    let head = format!("POST {PATH}\nContent-Type: application/json\nx-api-key: a");
    let body_of = question(json!({"stream": true, "max_output_tokens": 40}));
    let mut connection = Connection::send(server.address, &head, body_of.as_bytes());
    let (id, last) = read_events(&mut connection, 6);
    drop(connection);
    let query = format!("GET {PATH}/{id}?stream=true&starting_after={last}");
    let rest = send(&server, "a", &query, "");
    assert_eq!(rest.status, 200, "{}", rest.body);
    assert!(rest.body.starts_with(&format!("id: {id}:{}\n", last + 1)), "{}", rest.body);
    let end = rest.body.trim_end().rsplit_once("data: ").unwrap().1;
    let end: Value = serde_json::from_str(end).unwrap();
    assert_eq!(end["response"], ended(&server, &id));
    check_error(&send(&server, "b", &query, ""), 404, Some("id"), Some("stream_not_found"));
}

#[test]
fn a_stream_without_a_reader_becomes_a_response_all_the_same() {
    let server = keeping(Limits::default());
    let head = format!("POST {PATH}\nContent-Type: application/json\nx-api-key: a");
    let body_of = question(json!({"stream": true, "max_output_tokens": 40}));
    let mut connection = Connection::send(server.address, &head, body_of.as_bytes());
    let (id, _) = read_events(&mut connection, 4);
    drop(connection);
    let made = ended(&server, &id);
    assert!(["completed", "incomplete"].contains(&made["status"].as_str().unwrap()), "{made}");
    let stream = send(&server, "a", &format!("GET {PATH}/{id}?stream=true"), "");
    check_error(&stream, 400, Some("stream"), Some("unsupported_parameter"));
    // One that is read tells of its end.
    let mut connection = Connection::send(server.address, &head, story_streamed().as_bytes());
    let (id, _) = read_events(&mut connection, 6);
    let cancelled = body(&cancel(&server, "a", &id));
    let mut last = String::new();
    while !last.starts_with("data: {\"type\":\"response.incomplete\"") {
        last = connection.line();
        assert!(!last.is_empty(), "no end");
    }
    let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["response"], cancelled);
}

fn story_streamed() -> String {
    story(json!({"stream": true}))
}
