//! The Anthropic family over real connections with the real default model.

use super::client::{Connection, Response, post, request};
use super::{MODEL, address, chat, content, engine, only_model, reasoning, run, start, start_with};
use freehold_server::{Alias, Config, Limits};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const PATH: &str = "/v1/messages";

fn question(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "max_tokens": 12,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ask(more: Value) -> Response {
    post(address(), PATH, &question(more))
}

fn body(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

fn text(response: &Response) -> String {
    let body = body(response);
    let blocks = body["content"].as_array().unwrap();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect()
}

/// The number of tokens of the prompt, however much of it was in the cache.
fn n_input(usage: &Value) -> u64 {
    let names = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    names.iter().map(|name| usage[name].as_u64().unwrap()).sum()
}

/// Names and data of the events.
fn events(response: &Response) -> Vec<(String, Value)> {
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.headers["content-type"], "text/event-stream");
    let event = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!(name, data["type"]);
        (name.to_owned(), data)
    };
    response.body.split_terminator("\n\n").map(event).collect()
}

fn check_error(response: &Response, status: u16, kind: &str, message: &str) {
    assert_eq!(response.status, status, "{}", response.body);
    assert_eq!(response.headers["content-type"], "application/json");
    let body = response.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{body}");
    assert_eq!(body["request_id"], response.headers["request-id"]);
    assert!(body["error"]["message"].as_str().unwrap().starts_with(message), "{body}");
}

#[test]
fn a_message_is_what_the_chat_answers() {
    let answer = ask(json!({}));
    let message = body(&answer);
    assert_eq!(text(&answer), content(&chat(json!({})), 0));
    assert!(message["id"].as_str().unwrap().starts_with("msg_"), "{message}");
    assert_eq!((&message["model"], &message["role"]), (&json!(MODEL), &json!("assistant")));
    assert_eq!(answer.headers["request-id"], answer.headers["x-request-id"]);
    let usage = &chat(json!({})).json()["usage"];
    assert_eq!(n_input(&message["usage"]), usage["prompt_tokens"]);
    assert_eq!(message["usage"]["output_tokens"], usage["completion_tokens"]);
    let system = ask(json!({"system": "Answer in French."}));
    // The template has a system message of its own where none is given.
    assert_ne!(n_input(&body(&system)["usage"]), n_input(&message["usage"]), "{}", system.body);
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let whole = ask(json!({}));
    let stream = ask(json!({"stream": true}));
    let events = events(&stream);
    let names: Vec<&str> = events.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names[..2], ["message_start", "content_block_start"]);
    let n = names.len();
    assert_eq!(names[n - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let said: String =
        events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str()).collect();
    assert_eq!(said, text(&whole));
    let delta = &events[n - 2].1;
    assert_eq!(delta["delta"]["stop_reason"], body(&whole)["stop_reason"]);
    assert_eq!(n_input(&delta["usage"]), n_input(&body(&whole)["usage"]));
    assert_eq!(n_input(&events[0].1["message"]["usage"]), n_input(&delta["usage"]));
    assert_eq!(delta["usage"]["output_tokens"], body(&whole)["usage"]["output_tokens"]);
}

#[test]
fn the_reason_of_the_end_is_told() {
    let end = |more: Value| {
        let message = body(&ask(more));
        (message["stop_reason"].clone(), message["stop_sequence"].clone())
    };
    assert_eq!(end(json!({"max_tokens": 2})), (json!("max_tokens"), Value::Null));
    assert_eq!(end(json!({"max_tokens": 60})), (json!("end_turn"), Value::Null));
    let stopped = end(json!({"stop_sequences": ["nowhere", "France"]}));
    assert_eq!(stopped, (json!("stop_sequence"), json!("France")));
}

#[test]
fn what_is_left_out_of_the_cache_is_counted_apart() {
    let words: Vec<String> = (0..150).map(|i| format!("word{i}")).collect();
    let ask_as = |header: &str, words: &[String]| {
        let messages = json!([{"role": "user", "content": words.join(" ")}]);
        let body = question(json!({"messages": messages, "max_tokens": 1})).to_string();
        let head = format!("POST {PATH}\nContent-Type: application/json\n{header}");
        let usage = request(address(), &head, body.as_bytes()).json()["usage"].clone();
        (n_input(&usage), usage["cache_read_input_tokens"].as_u64().unwrap())
    };
    let words = &words[..50];
    let (n_all, n_cached) = ask_as("x-api-key: first", words);
    assert_eq!(n_cached, 0);
    let (n_again, n_cached) = ask_as("x-api-key: first", words);
    assert_eq!((n_again, n_cached > 60), (n_all, true), "{n_cached}");
    // The same key, as others send it.
    assert_eq!(ask_as("Authorization: Bearer first", words), (n_all, n_cached));
    assert_eq!(ask_as("x-api-key: second", words), (n_all, 0));
}

fn weather() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "unit": {"enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city", "unit"],
    });
    json!({"name": "weather", "description": "The weather of a place.", "input_schema": schema})
}

#[test]
fn a_tool_is_used_and_its_result_comes_back() {
    let time = json!({"name": "time", "input_schema": {"type": "object", "properties": {}}});
    let with = |more: Value| {
        let mut body = json!({"tools": [weather(), time], "max_tokens": 120});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let named = json!({"type": "tool", "name": "weather", "disable_parallel_tool_use": true});
    let answer = ask(with(json!({"tool_choice": named})));
    assert_eq!(answer.headers["x-freehold-adapted"], "tools-prompt");
    let message = body(&answer);
    assert_eq!(
        (&message["stop_reason"], &message["stop_sequence"]),
        (&json!("tool_use"), &Value::Null)
    );
    let [call] = &message["content"].as_array().unwrap()[..] else { panic!("{message}") };
    assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("weather")));
    assert!(call["id"].as_str().unwrap().starts_with("toolu_"), "{call}");
    assert!(call["input"]["city"].is_string(), "{call}");

    let stream = ask(with(json!({"tool_choice": named, "stream": true})));
    let events = events(&stream);
    assert_eq!(events[1].1["content_block"]["type"], "tool_use", "{}", stream.body);
    let partial =
        |(_, data): &(String, Value)| data["delta"]["partial_json"].as_str().map(str::to_owned);
    let json: String = events.iter().filter_map(partial).collect();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), call["input"]);

    let any = json!({"type": "any", "disable_parallel_tool_use": true});
    let message = body(&ask(with(json!({"tool_choice": any}))));
    assert_eq!(message["content"].as_array().unwrap().len(), 1, "{message}");
    let none = body(&ask(with(json!({"tool_choice": {"type": "none"}, "max_tokens": 12}))));
    assert_eq!(none["content"][0]["type"], "text", "{none}");

    let result = json!({"type": "tool_result", "tool_use_id": call["id"], "content": "21 degrees"});
    let messages = json!([
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]);
    let told = ask(with(json!({"messages": messages, "tool_choice": {"type": "none"}})));
    assert_eq!(told.headers["x-freehold-adapted"], "tool-messages, tools-prompt");
    assert!(!text(&told).is_empty(), "{}", told.body);
}

#[test]
fn a_format_is_kept_to() {
    let city = json!({"type": "string", "maxLength": 9});
    let schema = json!({"type": "object", "properties": {"city": city}, "required": ["city"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    let answer = ask(json!({"output_config": {"format": format}, "max_tokens": 60}));
    let value: Value = serde_json::from_str(&text(&answer)).unwrap();
    assert!(value["city"].is_string(), "{value}");
}

#[test]
fn a_last_message_of_the_assistants_is_continued() {
    let whole = text(&ask(json!({})));
    let begin = whole.split_inclusive(' ').take(3).collect::<String>().trim_end().to_owned();
    assert!(whole.len() > begin.len(), "{whole}");
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let user = turn("user", "What is the capital of France?");
    let messages = json!([user, turn("assistant", &begin)]);
    let rest = ask(json!({"messages": messages, "max_tokens": 9}));
    assert_eq!(format!("{begin}{}", text(&rest)), whole);
    let space = json!([user, turn("assistant", "The ")]);
    let error = ask(json!({"messages": space}));
    check_error(&error, 400, "invalid_request_error", "messages[1].content: ");
}

#[test]
fn tokens_are_counted_as_an_answer_counts_them() {
    let tool_use = json!({"type": "tool_use", "id": "toolu_1", "name": "weather",
        "input": {"city": "Paris", "unit": "celsius"}});
    let result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": "21"});
    let user = json!({"role": "user", "content": "What is the weather in Paris?"});
    let called = json!([user, {"role": "assistant", "content": [tool_use]},
        {"role": "user", "content": [result]}]);
    for more in [
        json!({}),
        json!({"system": [{"type": "text", "text": "Be brief."}]}),
        json!({"tools": [weather()], "tool_choice": {"type": "none"}}),
        json!({"tools": [weather()], "messages": called, "tool_choice": {"type": "none"}}),
        json!({"messages": [user, {"role": "assistant", "content": "It is"}]}),
    ] {
        let mut counted = question(more.clone());
        let answered = body(&ask(more));
        for field in ["max_tokens", "temperature"] {
            counted.as_object_mut().unwrap().remove(field);
        }
        let count = post(address(), "/v1/messages/count_tokens", &counted);
        assert_eq!(body(&count), json!({"input_tokens": n_input(&answered["usage"])}), "{counted}");
        // Where it was told, so that both are treated alike.
        assert_eq!(count.headers.contains_key("x-freehold-adapted"), counted["tools"].is_array());
    }
    // Also of what is too long to be answered.
    let long = json!([{"role": "user", "content": "word ".repeat(600)}]);
    let count = json!({"model": MODEL, "messages": long});
    let count = body(&post(address(), "/v1/messages/count_tokens", &count));
    let n = count["input_tokens"].as_u64().unwrap();
    let overlong = ask(json!({"messages": long, "stream": true}));
    let message = format!("prompt is too long: {n} tokens > 511 maximum");
    check_error(&overlong, 400, "invalid_request_error", &message);
    assert_eq!(overlong.headers["x-should-retry"], "false");
}

#[test]
fn as_many_tools_are_taken_as_is_said() {
    let tool = |tool_idx: usize| {
        let mut tool = weather();
        tool["name"] = json!(format!("{tool_idx:0>128}"));
        tool
    };
    let count = |n_tools: usize, more: Value| {
        let tools: Vec<Value> = (0..n_tools).map(tool).collect();
        let mut counted = json!({
            "model": MODEL, "messages": [{"role": "user", "content": "Hi."}],
            "tools": tools, "tool_choice": {"type": "any"},
        });
        counted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(address(), "/v1/messages/count_tokens", &counted)
    };
    assert!(body(&count(256, json!({})))["input_tokens"].as_u64().unwrap() > 256);
    check_error(&count(257, json!({})), 400, "invalid_request_error", "tools: 257 tools");
    // What is too large together is too large for the tools, where the format alone is not.
    let city = json!({"type": "string", "description": "word ".repeat(1 << 18)});
    let schema = json!({"type": "object", "properties": {"city": city}});
    let large = json!([{"name": "f", "input_schema": schema}]);
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    let more = json!({"tools": large, "output_config": {"format": format}});
    check_error(&count(0, more), 400, "invalid_request_error", "tools: ");
}

#[test]
fn errors_have_the_shape_of_the_family() {
    let unknown = post(address(), PATH, &question(json!({"model": "claude"})));
    check_error(&unknown, 404, "not_found_error", "model \"claude\" does not exist here");
    let hot = ask(json!({"temperature": "hot", "stream": true}));
    check_error(&hot, 400, "invalid_request_error", "temperature: \"hot\"");
    let head = format!("POST {PATH}\nrequest-id: mine");
    let broken = request(address(), &head, b"{");
    check_error(&broken, 400, "invalid_request_error", "body: expected JSON");
    assert_eq!(broken.headers["request-id"], "mine");
    let large = request(address(), &head, &vec![b' '; (4 << 20) + 1]);
    check_error(&large, 413, "request_too_large", "body: ");
    let method = request(address(), &format!("GET {PATH}"), b"");
    check_error(&method, 405, "invalid_request_error", "GET /v1/messages");
    assert_eq!(method.headers["allow"], "POST");
    let path = request(address(), "POST /v1/messages/batches", b"{}");
    check_error(&path, 404, "not_found_error", "/v1/messages/batches");
    let telemetry = request(address(), "POST /api/event\nanthropic-version: 2023-06-01", b"{}");
    check_error(&telemetry, 404, "not_found_error", "/api/event");
    let page = request(address(), &format!("{head}\nOrigin: https://evil.example"), b"");
    check_error(&page, 403, "permission_error", "origin: ");
    let schema = json!({"type": "object", "properties": {"x": {"not": {}}}});
    let tool = json!({"name": "f", "input_schema": schema, "strict": true});
    let refused = ask(json!({"tools": [tool]}));
    check_error(&refused, 400, "invalid_request_error", "tools[0].input_schema: ");
}

#[test]
fn what_has_no_effect_is_told() {
    let told = ask(json!({
        "context_management": {"edits": []}, "some_field": 1, "metadata": {"user_id": "x"},
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "low"},
    }));
    // This model does not reason.
    let expected = "context_management, some_field, thinking, output_config.effort";
    assert_eq!(told.headers["x-freehold-ignored"], expected);
    let thinking = json!([
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Greet.", "signature": ""},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "Hello."}]},
        {"role": "user", "content": "Go on."},
    ]);
    let told = ask(json!({"messages": thinking, "stream": true}));
    assert_eq!(told.headers["x-freehold-ignored"], "messages[1].content[1]");
    assert_eq!(told.headers["x-freehold-unused"], "messages[1].content[thinking]");
    assert!(!ask(json!({})).headers.contains_key("x-freehold-ignored"));
}

#[test]
fn a_train_of_thought_is_a_block_of_its_own() {
    let ask = |more: Value| post(reasoning::address(), PATH, &question(more));
    let budget = json!({"type": "enabled", "budget_tokens": 8});
    let more = json!({"thinking": budget, "max_tokens": 60});
    let whole = ask(more.clone());
    assert!(!whole.headers.contains_key("x-freehold-ignored"), "{:?}", whole.headers);
    let message = body(&whole);
    assert!(!whole.body.contains("think>"), "{message}");
    let mut streamed = more;
    streamed["stream"] = json!(true);
    let events = events(&ask(streamed));
    let said = |field: &str| -> String {
        events.iter().filter_map(|(_, data)| data["delta"][field].as_str()).collect()
    };
    let block = |kind: &str, field: &str| {
        let blocks = message["content"].as_array().unwrap();
        let block = blocks.iter().find(|block| block["type"] == kind);
        block.map_or(String::new(), |block| block[field].as_str().unwrap().to_owned())
    };
    assert!(!said("thinking").is_empty() && !said("text").is_empty(), "{message}");
    // Eight, and the mark behind them.
    assert_eq!(message["usage"]["output_tokens_details"]["thinking_tokens"], 9);
    assert_eq!(said("thinking"), block("thinking", "thinking"));
    assert_eq!(said("text"), block("text", "text"));
}

#[test]
fn an_answer_begins_with_thinking_only_where_that_is_asked_for() {
    let enabled = json!({"type": "enabled", "budget_tokens": 8});
    let disabled = json!({"type": "disabled"});
    // A model that can be switched off, and one that begins to think whatever it is told.
    let restless = start_with(reasoning::reasoning_engine(reasoning::RESTLESS));
    for address in [reasoning::address(), restless.address] {
        let answer = |thinking: &Value| {
            let more = json!({"thinking": thinking, "max_tokens": 30});
            let answer = post(address, PATH, &question(more));
            assert!(!answer.headers.contains_key("x-freehold-ignored"), "{:?}", answer.headers);
            body(&answer)["content"][0]["type"].clone()
        };
        assert_eq!(answer(&enabled), "thinking");
        // Such a small model may have nothing to say then.
        assert_ne!(answer(&disabled), "thinking");
        assert_ne!(answer(&Value::Null), "thinking");
    }
    let count = |thinking: &Value| {
        let mut counted = question(json!({"thinking": thinking}));
        counted.as_object_mut().unwrap().remove("max_tokens");
        let path = "/v1/messages/count_tokens";
        body(&post(reasoning::address(), path, &counted))["input_tokens"].clone()
    };
    assert_eq!(count(&Value::Null), count(&disabled));
    assert_ne!(count(&Value::Null), count(&enabled));
}

#[test]
fn models_are_listed_for_whoever_sends_a_version() {
    let head = |path: &str| format!("GET {path}\nanthropic-version: 2023-06-01\nx-api-key: any");
    let list = request(address(), &head("/v1/models?limit=1000"), b"").json();
    assert_eq!((&list["has_more"], &list["first_id"]), (&json!(false), &json!(MODEL)));
    let model = &list["data"][0];
    assert_eq!((&model["type"], &model["id"]), (&json!("model"), &json!(MODEL)));
    assert_eq!(model["max_input_tokens"], 512);
    let one = request(address(), &head("/v1/models/test/smollm2"), b"");
    assert_eq!(one.json(), *model);
    let none = request(address(), &head("/v1/models/other"), b"");
    check_error(&none, 404, "not_found_error", "model \"other\"");
    let page = request(address(), &head("/v1/models?limit=x"), b"");
    check_error(&page, 400, "invalid_request_error", "limit: ");
}

#[test]
fn a_model_answers_under_further_names() {
    let (fleet, model) = only_model(engine(), "00");
    let mut config = Config::new(fleet, vec![model]);
    let alias = |name: &str| Alias { name: name.to_owned(), model: MODEL.to_owned() };
    config.aliases = vec![alias("claude-*"), alias("small")];
    let running = run(config);
    let asked = |name: &str| {
        let more = json!({"model": name, "max_tokens": 1});
        post(running.address, PATH, &question(more))
    };
    for name in [MODEL, "claude-sonnet-5", "claude-", "small"] {
        // Told by the name of what answered.
        assert_eq!(body(&asked(name))["model"], MODEL, "{name}");
    }
    let get = |path: &str| request(running.address, &format!("GET {path}"), b"").json();
    let list = get("/v1/models");
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, [MODEL, "small"]);
    assert_eq!(get("/v1/models/small"), list["data"][1]);
    assert_eq!(get("/v1/models/claude-x"), list["data"][0]);
    check_error(&asked("claude"), 404, "not_found_error", "model \"claude\"");
    check_error(&asked("smaller"), 404, "not_found_error", "model \"smaller\"");
}

#[test]
fn a_silent_stream_is_kept_open_by_pings() {
    let limits = Limits { keep_alive: Duration::from_millis(1), ..Limits::default() };
    let running = start(limits);
    let long = json!([{"role": "user", "content": "word ".repeat(300)}]);
    let body = question(json!({"messages": long, "max_tokens": 2, "stream": true}));
    let stream = post(running.address, PATH, &body);
    // A comment would not be read as an event.
    let names: Vec<String> = events(&stream).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"ping".to_owned()), "{names:?}");
}

/// The events of a stream whose server goes down.
fn last_events(address: SocketAddr, tell: impl FnOnce()) -> String {
    let body = question(json!({
        "messages": [{"role": "user", "content": "Tell me a long story."}],
        "stream": true, "max_tokens": 100_000, "temperature": 1,
    }));
    let head = super::post_head(PATH);
    let mut connection = Connection::send(address, &head, body.to_string().as_bytes());
    while !connection.line().contains("text_delta") {}
    tell();
    let mut rest = String::new();
    loop {
        let line = connection.line();
        let is_last = line.is_empty() || line.starts_with("data: {\"type\":\"error\"");
        rest.push_str(&line);
        if is_last {
            return rest;
        }
    }
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error() {
    let grace = Duration::from_millis(1);
    let mut running = start(Limits { shutdown_grace: grace, ..Limits::default() });
    let shutdown = running.shutdown.take().unwrap();
    let rest = last_events(running.address, move || shutdown.send(()).unwrap());
    let message = r#"{"type":"overloaded_error","message":"the server is shutting down"}"#;
    let error = format!("event: error\ndata: {{\"type\":\"error\",\"error\":{message}}}\n");
    assert!(rest.ends_with(&error), "{rest}");
    running.thread.join().unwrap();
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let long = json!([{"role": "user", "content": "word ".repeat(400)}]);
    // It cannot end earlier.
    let items = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1000});
    let schema = json!({"type": "object", "properties": {"x": items}, "required": ["x"]});
    let format = json!({"type": "json_schema", "schema": schema});
    let answer = ask(json!({"messages": long, "max_tokens": 100_000,
        "output_config": {"format": format}}));
    let message = body(&answer);
    assert_eq!(message["stop_reason"], "model_context_window_exceeded", "{message}");
    let n_all = n_input(&message["usage"]) + message["usage"]["output_tokens"].as_u64().unwrap();
    assert!(n_all >= u64::from(engine().info().n_ctx), "{message}");
}

#[test]
fn pages_may_send_what_the_client_sends() {
    let asked = "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, \
                 anthropic-dangerous-direct-browser-access, x-stainless-lang";
    let head = format!(
        "OPTIONS {PATH}\nOrigin: https://chat.example\nAccess-Control-Request-Method: POST\n\
         Access-Control-Request-Headers: {asked}"
    );
    let preflight = request(address(), &head, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.headers["access-control-allow-headers"], asked);
    let head = "GET /v1/models\nOrigin: https://chat.example\nanthropic-version: 2023-06-01";
    let exposed = request(address(), head, b"").headers["access-control-expose-headers"].clone();
    assert!(exposed.contains("request-id") && exposed.contains("x-freehold-ignored"), "{exposed}");
}

#[test]
fn the_address_itself_answers() {
    for method in ["GET", "HEAD"] {
        assert_eq!(request(address(), &format!("{method} /"), b"").status, 200);
    }
    let beta = format!("{PATH}?beta=true");
    assert_eq!(post(address(), &beta, &question(json!({"max_tokens": 1}))).status, 200);
}
