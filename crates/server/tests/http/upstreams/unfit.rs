//! Answers of upstreams that are not what their requests ask for: never told as if they were.

use super::scripted::Scripted;
use super::{House, chat_body, rule, text};
use crate::client::Response;
use broker::UpstreamKind::{self, Anthropic, OpenAi};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const JSON: &str = "Content-Type: application/json\r\n";

/// What a vendor says of one answer.
#[derive(Clone, Copy)]
enum Says<'a> {
    Text(&'a str),
    Call(&'a str),
}

/// A vendor of this kind that says it whole, or in pieces of one event each.
fn vendor(kind: UpstreamKind, says: Says<'_>, reason: &str, is_streamed: bool) -> Scripted {
    match (kind, is_streamed) {
        (OpenAi, false) => {
            let message = match says {
                Says::Text(text) => json!({"role": "assistant", "content": text}),
                Says::Call(arguments) => {
                    let function = json!({"name": "f", "arguments": arguments});
                    let call = json!({"id": "c", "type": "function", "function": function});
                    json!({"tool_calls": [call]})
                }
            };
            let choice = json!({"index": 0, "message": message, "finish_reason": reason});
            let usage = json!({"prompt_tokens": 11, "completion_tokens": 7});
            let body = json!({"choices": [choice], "usage": usage}).to_string();
            Scripted::saying(200, JSON, &body)
        }
        (OpenAi, true) => {
            let deltas = match says {
                Says::Text(text) => halves(text).map(|text| json!({"content": text})).to_vec(),
                Says::Call(arguments) => {
                    let call = |function: Value| {
                        let call = json!({"index": 0, "function": function});
                        json!({"tool_calls": [call]})
                    };
                    let [begin, rest] = halves(arguments);
                    let begin = call(json!({"name": "f", "arguments": begin}));
                    vec![begin, call(json!({"arguments": rest}))]
                }
            };
            let choice = |delta: &Value| json!({"index": 0, "delta": delta});
            let end = json!({"index": 0, "delta": {}, "finish_reason": reason});
            let choices = deltas.iter().map(choice).chain([end]);
            let events: Vec<String> = choices
                .map(|choice| format!("data: {}\n\n", json!({"choices": [choice]})))
                .chain(["data: [DONE]\n\n".to_owned()])
                .collect();
            streaming(&events)
        }
        (_, false) => {
            let block = match says {
                Says::Text(text) => json!({"type": "text", "text": text}),
                Says::Call(arguments) => {
                    let input: Value = serde_json::from_str(arguments).unwrap();
                    json!({"type": "tool_use", "id": "c", "name": "f", "input": input})
                }
            };
            let usage = json!({"input_tokens": 11, "output_tokens": 7});
            let body = json!({"content": [block], "stop_reason": reason, "usage": usage});
            Scripted::saying(200, JSON, &body.to_string())
        }
        (_, true) => {
            let (block, deltas) = match says {
                Says::Text(text) => (
                    json!({"type": "text", "text": ""}),
                    halves(text).map(|text| json!({"type": "text_delta", "text": text})),
                ),
                Says::Call(arguments) => (
                    json!({"type": "tool_use", "id": "c", "name": "f", "input": {}}),
                    halves(arguments)
                        .map(|text| json!({"type": "input_json_delta", "partial_json": text})),
                ),
            };
            let mut events = vec![
                json!({"type": "message_start", "message": {"content": []}}),
                json!({"type": "content_block_start", "index": 0, "content_block": block}),
            ];
            let delta = |delta| json!({"type": "content_block_delta", "index": 0, "delta": delta});
            events.extend(deltas.map(delta));
            events.extend([
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": reason}}),
                json!({"type": "message_stop"}),
            ]);
            let named = |event: &Value| {
                format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
            };
            streaming(&events.iter().map(named).collect::<Vec<_>>())
        }
    }
}

fn halves(text: &str) -> [String; 2] {
    let (begin, rest) = text.split_at(text.len() / 2);
    [begin.to_owned(), rest.to_owned()]
}

fn streaming(events: &[String]) -> Scripted {
    Scripted::streaming(&events.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The word by which a kind says that its answer is whole.
fn end(kind: UpstreamKind) -> &'static str {
    if kind == OpenAi { "stop" } else { "end_turn" }
}

/// The word by which it says that its answer is cut.
fn cut(kind: UpstreamKind) -> &'static str {
    if kind == OpenAi { "length" } else { "max_tokens" }
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Bonn"]}},
        "required": ["city"], "additionalProperties": false})
}

fn with_schema() -> Value {
    let named = json!({"name": "n", "schema": schema(), "strict": true});
    json!({"model": crate::MODEL, "max_tokens": 60,
        "response_format": {"type": "json_schema", "json_schema": named}})
}

fn with_tool(is_strict: bool) -> Value {
    let function = json!({"name": "f", "parameters": schema(), "strict": is_strict});
    json!({"tools": [{"type": "function", "function": function}]})
}

/// Asks whole and streamed, of a house whose rule has this outcome; each with its house.
fn both(
    kind: UpstreamKind,
    says: Says<'_>,
    reason: &str,
    (outcome, more): (&str, &str),
    body: &Value,
) -> [(House, Response); 2] {
    [false, true].map(|is_streamed| {
        let vendor = vendor(kind, says, reason, is_streamed);
        let house = House::open(kind, &vendor.url(), &rule(outcome, more));
        let mut body = body.clone();
        body["stream"] = is_streamed.into();
        let response = house.chat(body);
        (house, response)
    })
}

/// The end of the newest departure, which is written behind the answer.
fn ended(house: &House) -> Value {
    let begun = Instant::now();
    loop {
        let end = house.departures()[0]["end"].clone();
        if !end.is_null() {
            return end;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it has no end");
    }
}

#[track_caller]
fn check_unfit(kind: UpstreamKind, says: Says<'_>, body: &Value, expected: &str) {
    let [(house, whole), (_, streamed)] = both(kind, says, end(kind), ("there", ""), body);
    assert_eq!(whole.status, 502, "{}", whole.body);
    let error = &whole.json()["error"];
    assert_eq!(error["code"], "upstream_failed", "{error}");
    let message = error["message"].as_str().unwrap();
    let told = format!("upstream \"vendor\": its answer does not keep to {expected}");
    assert!(message.starts_with(&told), "{message}");
    // It is paid for all the same.
    let left = ended(&house);
    assert_eq!((&left["outcome"], &left["n_answer"]), (&json!("unfit"), &json!(7)), "{left}");
    assert_eq!(house.rows(1)[0].n_answer, 7);
    // What was sent stays, and the end is no good one.
    assert_eq!(streamed.status, 200, "{}", streamed.body);
    assert!(text(&streamed).ends_with(&format!("[{message}]")), "{}", streamed.body);
    let is_end = |event: &&str| event.contains("\"finish_reason\":\"");
    assert!(!streamed.events().iter().any(is_end), "{}", streamed.body);
}

#[track_caller]
fn check_fits(kind: UpstreamKind, says: Says<'_>, reason: &str, body: &Value) {
    for (house, response) in both(kind, says, reason, ("there", ""), body) {
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(!response.body.contains("\"error\""), "{}", response.body);
        if let Says::Text(expected) = says {
            assert_eq!(text(&response), expected, "{}", response.body);
        }
        assert_eq!(ended(&house)["outcome"], "done");
    }
}

#[test]
fn texts_are_held_to_their_schema() {
    const PLACE: &str = "response_format.json_schema.schema: ";
    let (asked, object) = (with_schema(), json!({"response_format": {"type": "json_object"}}));
    for kind in [OpenAi, Anthropic] {
        let unfit = |text: &str, expected: &str| {
            check_unfit(kind, Says::Text(text), &asked, &format!("{PLACE}{expected}"));
        };
        unfit("{\"city\": \"Rome\"}", "at \"/city\": value is not one of ");
        unfit("{\"town\": \"Bonn\"}", "at \"\": ");
        unfit("The city is Bonn.", "expected JSON, found none at line 1, column 1");
        let fits = |text: &str, reason, body: &Value| {
            check_fits(kind, Says::Text(text), reason, body);
        };
        fits("{\"city\": \"Bonn\"}", end(kind), &asked);
        // What is cut is nobody's fault, and where nothing was asked there is nothing to hold to.
        fits("{\"city\": \"Ro", cut(kind), &asked);
        fits("The city is Bonn.", end(kind), &json!({}));
    }
    check_unfit(OpenAi, Says::Text("[1]"), &object, "response_format.type: expected a JSON object");
    check_fits(OpenAi, Says::Text("{\"x\": 1}"), "stop", &object);
}

#[test]
fn arguments_are_held_to_strict_schemas() {
    let expected = "tools[0].function.parameters: at \"/city\": value is not one of ";
    for kind in [OpenAi, Anthropic] {
        let end = if kind == OpenAi { "tool_calls" } else { "tool_use" };
        let (good, bad) = ("{\"city\": \"Bonn\"}", "{\"city\": \"Rome\"}");
        let says = Says::Call(bad);
        check_unfit(kind, says, &with_tool(true), expected);
        check_fits(kind, Says::Call(good), end, &with_tool(true));
        check_fits(kind, says, end, &with_tool(false));
        // The upstream is asked to be as strict.
        let vendor = vendor(kind, Says::Call(good), end, false);
        let house = House::open(kind, &vendor.url(), &rule("there", ""));
        house.chat(with_tool(true));
        house.chat(with_tool(false));
        let strict = |body: &String| body.contains("\"strict\":true");
        assert_eq!(vendor.asked().iter().map(strict).collect::<Vec<_>>(), [true, false]);
    }
}

#[test]
fn an_answer_from_here_mends_one_that_does_not_fit() {
    for kind in [OpenAi, Anthropic] {
        let (says, asked) = (Says::Text("{\"city\": \"Rome\"}"), with_schema());
        let rule = ("there-then-here", "");
        let [(house, whole), (_, streamed)] = both(kind, says, end(kind), rule, &asked);
        assert_eq!(whole.status, 200, "{}", whole.body);
        assert_eq!(whole.headers["x-freehold-route"], "here");
        assert_eq!(whole.headers["x-freehold-fallback"], "upstream_failed");
        let answer: Value = serde_json::from_str(&text(&whole)).unwrap();
        assert!(["Paris", "Bonn"].contains(&answer["city"].as_str().unwrap()), "{answer}");
        assert_eq!(ended(&house)["outcome"], "unfit");
        // Behind the first byte nobody else can answer.
        assert_eq!(streamed.headers["x-freehold-route"], "there");
        assert!(text(&streamed).contains("[upstream \"vendor\": its answer"), "{}", streamed.body);
    }
}

#[test]
fn a_stream_that_does_not_fit_ends_as_its_family_has_errors() {
    let vendor = vendor(OpenAi, Says::Text("{\"city\": \"Rome\"}"), "stop", true);
    let house = House::open(OpenAi, &vendor.url(), &rule("there", ""));
    let ask = |path: &str, more: Value| {
        let mut body = json!({
            "model": "any", "stream": true, "messages": [{"role": "user", "content": "Hi"}],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = house.ask(path, "public", "", &body);
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(response.body.contains("its answer does not keep to "), "{}", response.body);
        response
    };
    let format = json!({"type": "json_schema", "schema": schema()});
    let more = json!({"max_tokens": 60, "output_config": {"format": format}});
    let response = ask("/v1/messages", more);
    let last = response.body.lines().rfind(|line| line.starts_with("event: ")).unwrap();
    assert_eq!(last, "event: error", "{}", response.body);
    let response = ask("/api/chat", json!({"format": schema()}));
    let last: Value = serde_json::from_str(response.body.lines().last().unwrap()).unwrap();
    assert!(last["error"].is_string(), "{}", response.body);
    let body = json!({"model": "any", "input": "Hi", "stream": true,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema()}}});
    let response = house.ask("/v1/responses", "public", "", &body);
    assert!(response.body.contains("its answer does not keep to "), "{}", response.body);
    assert!(response.body.contains("response.failed"), "{}", response.body);
    assert!(!response.body.contains("response.completed"), "{}", response.body);
}

/// The client has said a value, so the answer is held to that and not to what stood for it.
#[test]
fn what_was_replaced_is_put_back_before() {
    let schema = json!({"type": "object", "properties": {"to": {"enum": ["ada@example.org"]}}});
    let named = json!({"name": "n", "schema": schema});
    let mut asked = chat_body(json!({
        "response_format": {"type": "json_schema", "json_schema": named},
    }));
    asked["messages"] = json!([{"role": "user", "content": "Mail ada@example.org."}]);
    for kind in [OpenAi, Anthropic] {
        let says = Says::Text("{\"to\": \"⟦EMAIL_1⟧\"}");
        let rule = ("there", "redacted = true");
        for (house, response) in both(kind, says, end(kind), rule, &asked) {
            assert_eq!(text(&response), "{\"to\": \"ada@example.org\"}", "{}", response.body);
            assert_eq!(ended(&house)["outcome"], "done");
        }
    }
}

#[test]
fn nothing_is_sent_for_a_schema_to_which_nothing_can_be_held() {
    let vendor = vendor(OpenAi, Says::Text("1"), "stop", false);
    let house = House::open(OpenAi, &vendor.url(), &rule("there", ""));
    let named = json!({"name": "n", "schema": {"$ref": "https://example.com/x"}});
    let asked = json!({"response_format": {"type": "json_schema", "json_schema": named}});
    let response = house.chat(asked);
    assert_eq!(response.status, 400, "{}", response.body);
    assert_eq!(response.json()["error"]["param"], "response_format.json_schema.schema");
    assert_eq!(vendor.asked().len(), 0);
}
