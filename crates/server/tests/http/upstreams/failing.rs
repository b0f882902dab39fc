//! Upstreams that fail as vendors do: what the client is told, and who answers instead.

use super::scripted::{Piece, Scripted, chunk, head};
use super::{House, rule, text};
use crate::client::Response;
use broker::UpstreamKind::{Anthropic, OpenAi};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const STREAMED: &str = "Content-Type: text/event-stream\r\n";
const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";

/// Asks whole and streamed, of a house whose rule has this outcome.
fn both(vendor: &Scripted, outcome: &str) -> [Response; 2] {
    let house = House::open(OpenAi, &vendor.url(), &rule(outcome, ""));
    [false, true].map(|is_streamed| house.chat(json!({"stream": is_streamed})))
}

/// What fails before the first byte is told by the status, and mended where a rule says by whom.
#[track_caller]
fn check(vendor: &Scripted, status: u16, code: &str, word: &str) {
    for response in both(vendor, "there") {
        assert_eq!(response.status, status, "{}", response.body);
        assert_eq!(response.json()["error"]["code"], code, "{}", response.body);
        assert_eq!(response.headers.get("x-freehold-route"), None);
    }
    for response in both(vendor, "there-then-here") {
        assert_eq!(response.status, status, "no model here has this name: {}", response.body);
    }
    let house = House::open(OpenAi, &vendor.url(), &rule("there-then-here", ""));
    for is_streamed in [false, true] {
        let response = house.chat(json!({"model": crate::MODEL, "stream": is_streamed}));
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(text(&response).contains("Paris"), "{}", response.body);
        assert_eq!(response.headers["x-freehold-route"], "here");
        assert_eq!(response.headers["x-freehold-fallback"], word);
    }
    let end = &house.departures()[0]["end"];
    assert_ne!(end["outcome"], "done", "{end}");
}

#[test]
fn statuses_of_vendors_are_told() {
    let said = |status, headers: &str, message: &str| {
        let body = json!({"error": {"message": message, "type": "x"}}).to_string();
        let headers = format!("Content-Type: application/json\r\n{headers}");
        Scripted::saying(status, &headers, &body)
    };
    let busy = said(429, "Retry-After: 7\r\n", "slow down");
    check(&busy, 429, "rate_limit_exceeded", "upstream_busy");
    assert_eq!(both(&busy, "there")[0].headers["retry-after"], "7");
    check(&said(503, "", "overloaded"), 502, "upstream_failed", "upstream_failed");
    check(&said(500, "", "sk-secret"), 502, "upstream_failed", "upstream_failed");
    check(&said(401, "", "bad key sk-secret"), 502, "upstream_failed", "upstream_failed");
    let refused = said(400, "", "max_completion_tokens: too many");
    check(&refused, 400, "upstream_refused", "upstream_refused");
    let told = both(&refused, "there")[0].json()["error"]["message"].to_string();
    assert!(told.contains("max_completion_tokens: too many"), "{told}");
    let told = both(&said(401, "", "bad key sk-secret"), "there")[0].body.clone();
    assert!(!told.contains("sk-secret"), "{told}");
}

#[test]
fn what_is_no_answer_is_told() {
    let json = "Content-Type: application/json\r\n";
    check(&Scripted::saying(200, json, "<html>"), 502, "upstream_failed", "upstream_failed");
    check(&Scripted::saying(200, json, "{}"), 502, "upstream_failed", "upstream_failed");
    check(
        &Scripted::saying(200, STREAMED, "data: {oops\n\n"),
        502,
        "upstream_failed",
        "upstream_failed",
    );
    check(&Scripted::streaming(&[]), 502, "upstream_failed", "upstream_failed");
    // Cut in the middle of the head, or of the first event.
    let cut = Scripted::start(vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\nConte".to_vec())]);
    check(&cut, 502, "upstream_failed", "upstream_failed");
    let cut = Scripted::start(vec![head(200, STREAMED, None), chunk("data: {\"cho")]);
    check(&cut, 502, "upstream_failed", "upstream_failed");
}

#[test]
fn nobody_listens() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let house = House::open(OpenAi, &format!("http://{address}"), &rule("there", ""));
    let response = house.chat(json!({}));
    assert_eq!(response.status, 502, "{}", response.body);
    assert!(!response.body.contains(&address.port().to_string()), "{}", response.body);
}

/// Behind the first byte nobody else can answer: the client is told in its family's way.
#[test]
fn a_stream_that_breaks_off_says_so() {
    let endings = [
        // The connection is cut.
        vec![head(200, STREAMED, None), chunk(HELLO)],
        // It is ended too early.
        vec![head(200, STREAMED, None), chunk(HELLO), Piece::Bytes(b"0\r\n\r\n".to_vec())],
        // What comes is malformed, or an error.
        vec![head(200, STREAMED, None), chunk(HELLO), chunk("data: {oops\n\n")],
        vec![
            head(200, STREAMED, None),
            chunk(HELLO),
            chunk("data: {\"error\":{\"message\":\"out of luck\"}}\n\n"),
        ],
    ];
    for pieces in endings {
        let vendor = Scripted::start(pieces);
        let house = House::open(OpenAi, &vendor.url(), &rule("there-then-here", ""));
        let response = house.chat(json!({"model": crate::MODEL, "stream": true}));
        assert_eq!(response.status, 200);
        assert_eq!(response.headers["x-freehold-route"], "there");
        let told = text(&response);
        assert!(told.starts_with("Hello[upstream \"vendor\": "), "{told}");
        assert!(response.body.ends_with("data: [DONE]\n\n"));
        let body = json!({
            "model": crate::MODEL, "max_tokens": 5, "stream": true,
            "messages": [{"role": "user", "content": "Hi"}],
        });
        let response = house.ask("/v1/messages", "public", "", &body);
        let last = response.body.lines().rfind(|line| line.starts_with("event: ")).unwrap();
        assert_eq!(last, "event: error", "{}", response.body);
        let body = json!({
            "model": crate::MODEL, "messages": [{"role": "user", "content": "Hi"}],
        });
        let response = house.ask("/api/chat", "public", "", &body);
        let last: Value = serde_json::from_str(response.body.lines().last().unwrap()).unwrap();
        assert!(last["error"].is_string(), "{}", response.body);
    }
}

#[test]
fn a_slow_upstream_is_left_at_the_deadline() {
    let pause = Piece::Pause(Duration::from_secs(30));
    let silent = Scripted::start(vec![pause.clone()]);
    let begun = Scripted::start(vec![head(200, STREAMED, None), pause]);
    for vendor in [silent, begun] {
        let house = House::open(OpenAi, &vendor.url(), &rule("there", ""));
        let asked = Instant::now();
        let more = "\nX-Freehold-Deadline-Ms: 400";
        let body = super::chat_body(json!({"stream": true}));
        let response = house.ask("/v1/chat/completions", "public", more, &body);
        assert_eq!(response.status, 504, "{}", response.body);
        assert!(asked.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn an_answer_from_there_mends_one_from_here() {
    let vendor = Scripted::streaming(&[
        HELLO,
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    ]);
    let house = House::open(OpenAi, &vendor.url(), &rule("here-then-there", ""));
    // Longer than the context of the model here.
    let long = "word ".repeat(2000);
    let messages = json!([{"role": "user", "content": long}]);
    let response = house.chat(json!({
        "model": crate::MODEL, "stream": true, "messages": messages,
    }));
    assert_eq!((response.status, text(&response)), (200, "Hello".to_owned()), "{}", response.body);
    assert_eq!(response.headers["x-freehold-route"], "there");
    assert_eq!(response.headers["x-freehold-fallback"], "context_length_exceeded");
    // What is wrong with the request is nobody's to mend.
    let refused = house.chat(json!({"model": crate::MODEL, "temprature": 1}));
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(vendor.asked().len(), 1);
    let response = house.chat(json!({"model": crate::MODEL}));
    assert_eq!((response.status, vendor.asked().len()), (200, 1));
    assert_eq!(response.headers["x-freehold-route"], "here");
}

#[test]
fn a_vendor_of_the_other_kind_fails_alike() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\
                 \"message\":\"Overloaded\"}}\n\n";
    let vendor = Scripted::streaming(&[error]);
    let house = House::open(Anthropic, &vendor.url(), &rule("there", ""));
    let response = house.chat(json!({"stream": true}));
    assert_eq!(response.status, 502, "{}", response.body);
    assert!(response.body.contains("it broke off with an error: Overloaded"), "{}", response.body);
}
