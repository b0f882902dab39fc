//! OpenAI's responses over real connections with the real default model.

use super::client::{Connection, Response, post, request};
use super::{
    MODEL, Running, address, chat, check_error, content, engine, only_model, reasoning, run, start,
};
use freehold_server::{Config, Limits};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const PATH: &str = "/v1/responses";

fn question(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "max_output_tokens": 12,
        "input": "What is the capital of France?",
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

/// What SDKs make of a response and call its text.
fn text_of(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    let parts = items.filter_map(|item| item["content"].as_array()).flatten();
    let texts = parts.filter(|part| part["type"] == "output_text");
    texts.map(|part| part["text"].as_str().unwrap()).collect()
}

/// Names and data of the events, numbered from 0.
fn events(response: &Response) -> Vec<(String, Value)> {
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.headers["content-type"], "text/event-stream");
    let blocks = response.body.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
    let event = |(n, block): (usize, &str)| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!((name, n), (data["type"].as_str().unwrap(), n));
        assert_eq!(data["sequence_number"], n);
        (name.to_owned(), data)
    };
    blocks.enumerate().map(event).collect()
}

/// What a whole answer and the end of a stream say alike, but for names.
fn said(response: &Value) -> Value {
    let mut said = response.clone();
    for item in said["output"].as_array_mut().unwrap() {
        for name in ["id", "call_id"] {
            item.as_object_mut().unwrap().remove(name);
        }
    }
    said["usage"]["input_tokens_details"] = Value::Null;
    for name in ["id", "created_at"] {
        said.as_object_mut().unwrap().remove(name);
    }
    said
}

#[test]
fn a_response_is_what_the_chat_answers() {
    let answer = body(&ask(json!({})));
    assert_eq!(text_of(&answer), content(&chat(json!({})), 0));
    assert!(answer["id"].as_str().unwrap().starts_with("resp_"), "{answer}");
    assert_eq!((&answer["model"], &answer["store"]), (&json!(MODEL), &json!(false)));
    assert_eq!(answer["status"], "completed");
    let usage = &chat(json!({})).json()["usage"];
    assert_eq!(answer["usage"]["input_tokens"], usage["prompt_tokens"]);
    assert_eq!(answer["usage"]["output_tokens"], usage["completion_tokens"]);
    let instructed = body(&ask(json!({"instructions": "Answer in French."})));
    let system = json!({"role": "system", "content": "Answer in French."});
    let user = json!({"role": "user", "content": "What is the capital of France?"});
    let system = chat(json!({"messages": [system, user]}));
    assert_eq!(text_of(&instructed), content(&system, 0));
    assert_eq!(instructed["usage"]["input_tokens"], system.json()["usage"]["prompt_tokens"]);
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let whole = body(&ask(json!({})));
    let stream = ask(json!({"stream": true}));
    assert!(!stream.body.contains("[DONE]"), "{}", stream.body);
    let events = events(&stream);
    let names: Vec<&str> = events.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names[..2], ["response.created", "response.in_progress"]);
    let (name, last) = events.last().unwrap();
    assert_eq!((&**name, said(&last["response"])), ("response.completed", said(&whole)));
    let text: String = events
        .iter()
        .filter(|(name, _)| name == "response.output_text.delta")
        .map(|(_, data)| data["delta"].as_str().unwrap())
        .collect();
    assert_eq!(text, text_of(&whole));
    let ids = events.iter().filter_map(|(_, data)| data["item_id"].as_str());
    let id = &last["response"]["output"][0]["id"];
    assert!(ids.map(Value::from).all(|other| other == *id), "{}", stream.body);
}

#[test]
fn an_answer_that_is_cut_off_is_incomplete() {
    let answer = body(&ask(json!({"max_output_tokens": 2})));
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(answer["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(answer["usage"]["output_tokens"], 2);
    let stream = ask(json!({"max_output_tokens": 2, "stream": true}));
    let events = events(&stream);
    let (name, last) = events.last().unwrap();
    assert_eq!((&**name, said(&last["response"])), ("response.incomplete", said(&answer)));
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
    json!({"type": "function", "name": "weather", "description": "The weather of a place.",
        "parameters": schema, "strict": true})
}

#[test]
fn a_tool_is_used_and_its_result_comes_back() {
    let with = |more: Value| {
        let tools = json!([{"type": "web_search"}, weather()]);
        let mut body = json!({"tools": tools, "max_output_tokens": 120});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let choice = json!({"type": "function", "name": "weather"});
    let one = json!({"tool_choice": choice, "parallel_tool_calls": false});
    let answer = ask(with(one.clone()));
    assert_eq!(answer.headers["x-freehold-adapted"], "tools-prompt");
    assert_eq!(answer.headers["x-freehold-ignored"], "tools[0]");
    let answer = body(&answer);
    let [call] = &answer["output"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("weather")));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["city"].is_string(), "{call}");

    let mut streamed = one;
    streamed["stream"] = json!(true);
    let stream = ask(with(streamed));
    let events = events(&stream);
    let (_, last) = events.last().unwrap();
    assert_eq!(said(&last["response"]), said(&answer));
    let is_done = |(name, _): &&(String, Value)| name == "response.output_item.done";
    let (_, done) = events.iter().find(is_done).unwrap();
    assert_eq!(done["item"], last["response"]["output"][0]);

    let user = json!({"role": "user", "content": "What is the weather in Paris?"});
    let result = json!({"type": "function_call_output", "call_id": call["call_id"],
        "output": "21 degrees"});
    let told = ask(with(json!({"input": [user, call, result], "tool_choice": "none"})));
    assert_eq!(told.headers["x-freehold-adapted"], "tool-messages, tools-prompt");
    assert!(!text_of(&body(&told)).is_empty(), "{}", told.body);
}

#[test]
fn a_custom_tool_gets_the_text_that_its_format_allows() {
    let format =
        json!({"type": "grammar", "syntax": "regex", "definition": "[a-z]{2,4}\\n[0-9]{1,3}!"});
    let tool = json!({"type": "custom", "name": "note", "description": "Takes a note.",
        "format": format});
    let with = |more: Value| {
        let mut body = json!({"tools": [tool], "max_output_tokens": 60,
            "tool_choice": {"type": "custom", "name": "note"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let asked = ask(with(json!({})));
    assert!(!asked.headers.contains_key("x-freehold-ignored"), "{:?}", asked.headers);
    let answer = body(&asked);
    let [call] = &answer["output"].as_array().unwrap()[..] else { panic!("{answer}") };
    let told = (&call["type"], &call["name"], &call["status"]);
    assert_eq!(told, (&json!("custom_tool_call"), &json!("note"), &json!("completed")));
    let (word, number) = call["input"].as_str().unwrap().split_once('\n').unwrap();
    assert!((2..=4).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    let digits = number.strip_suffix('!').unwrap();
    assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()), "{call}");

    let stream = ask(with(json!({"stream": true})));
    let events = events(&stream);
    assert_eq!(said(&events.last().unwrap().1["response"]), said(&answer));
    let of = |kind: &str| {
        let kind = format!("response.custom_tool_call_input.{kind}");
        events.iter().filter(move |(name, _)| *name == kind).map(|(_, data)| data)
    };
    let deltas: String = of("delta").map(|data| data["delta"].as_str().unwrap()).collect();
    assert_eq!(deltas, call["input"].as_str().unwrap());
    assert_eq!(of("done").map(|data| &data["input"]).collect::<Vec<_>>(), [&call["input"]]);

    let user = json!({"role": "user", "content": "Note it."});
    let result = json!({"type": "custom_tool_call_output", "call_id": call["call_id"],
        "output": "noted"});
    let told = ask(with(json!({"input": [user, call, result], "tool_choice": "none"})));
    assert!(!text_of(&body(&told)).is_empty(), "{}", told.body);
    let mut bad = tool.clone();
    bad["format"]["definition"] = json!("[a");
    let bad = ask(with(json!({"tools": [bad]})));
    check_error(&bad, 400, Some("tools[0].format.definition"), Some("invalid_value"));
}

#[test]
fn a_custom_tool_gets_a_text_of_its_grammar() {
    let ask_with = |definition: &str| {
        let format = json!({"type": "grammar", "syntax": "lark", "definition": definition});
        ask(json!({"max_output_tokens": 120, "tool_choice": {"type": "custom", "name": "note"},
            "tools": [{"type": "custom", "name": "note", "format": format}]}))
    };
    let asked = ask_with(
        r#"start: "note(" NAME ("," NAME)~1..2 ")\n"
        NAME: "\"" /[a-z]{1,8}/ "\""
        "#,
    );
    assert!(!asked.headers.contains_key("x-freehold-ignored"), "{:?}", asked.headers);
    let answer = body(&asked);
    let input = answer["output"][0]["input"].as_str().unwrap();
    let names = input.strip_prefix("note(").and_then(|rest| rest.strip_suffix(")\n")).unwrap();
    let is_name = |name: &str| {
        let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
        (1..=8).contains(&inner.len()) && inner.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    let n_names = names.split(',').count();
    assert!((2..=3).contains(&n_names) && names.split(',').all(is_name), "{input}");
    for (definition, why) in [("start: missing", "missing"), ("start: <[1]>", "line 1: a token")] {
        let refused = ask_with(definition);
        check_error(&refused, 400, Some("tools[0].format.definition"), Some("invalid_value"));
        assert!(refused.body.contains(why), "{}", refused.body);
    }
}

#[test]
fn a_format_is_kept_to() {
    let city = json!({"type": "string", "maxLength": 9});
    let schema = json!({"type": "object", "properties": {"city": city}, "required": ["city"],
        "additionalProperties": false});
    let format = |schema: &Value| {
        let format = json!({"type": "json_schema", "name": "city", "schema": schema});
        json!({"text": {"format": format}, "max_output_tokens": 60})
    };
    let answer = body(&ask(format(&schema)));
    let value: Value = serde_json::from_str(&text_of(&answer)).unwrap();
    assert!(value["city"].is_string(), "{value}");
    let refused = ask(format(&json!({"properties": {"a": {"not": {}}}})));
    check_error(&refused, 400, Some("text.format.schema"), Some("invalid_value"));
}

#[test]
fn log_probabilities_are_told_where_they_are_asked_for() {
    let more = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2});
    let answer = body(&ask(more.clone()));
    let tokens = answer["output"][0]["content"][0]["logprobs"].as_array().unwrap();
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text, text_of(&answer));
    assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    let mut streamed = more;
    streamed["stream"] = json!(true);
    let stream = ask(streamed);
    let events = events(&stream);
    let deltas = events.iter().filter(|(name, _)| name == "response.output_text.delta");
    let told: Vec<Value> =
        deltas.flat_map(|(_, data)| data["logprobs"].as_array().unwrap().clone()).collect();
    assert_eq!(told, *tokens);
}

#[test]
fn tokens_are_counted_as_a_response_counts_them() {
    let user = json!({"role": "user", "content": "What is the weather in Paris?"});
    let call = json!({"type": "function_call", "call_id": "1", "name": "weather",
        "arguments": "{\"city\":\"Paris\"}"});
    let result = json!({"type": "function_call_output", "call_id": "1", "output": "21"});
    for more in [
        json!({}),
        json!({"instructions": "Be brief."}),
        json!({"tools": [weather()], "tool_choice": "none"}),
        json!({"tools": [weather()], "input": [user, call, result], "tool_choice": "none"}),
    ] {
        let answered = body(&ask(more.clone()));
        let count = post(address(), "/v1/responses/input_tokens", &question(more));
        let n = &answered["usage"]["input_tokens"];
        assert_eq!(body(&count), json!({"object": "response.input_tokens", "input_tokens": n}));
    }
}

#[test]
fn a_train_of_thought_is_an_item_and_comes_back() {
    let ask = |more: Value| {
        let answer = post(reasoning::address(), PATH, &question(more));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    };
    let more = json!({"reasoning": {"effort": "high"}, "max_output_tokens": 60,
        "include": ["reasoning.encrypted_content"]});
    let answer = body(&ask(more.clone()));
    let thought = &answer["output"][0];
    assert_eq!(thought["type"], "reasoning", "{answer}");
    let text = thought["content"][0]["text"].as_str().unwrap();
    assert_eq!(thought["encrypted_content"], format!("freehold-reasoning:{text}"));
    let n = answer["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
    assert!(!text.is_empty() && n > 0, "{answer}");
    let mut streamed = more;
    streamed["stream"] = json!(true);
    let stream = ask(streamed);
    let events = events(&stream);
    assert_eq!(said(&events.last().unwrap().1["response"]), said(&answer));
    let none = body(&ask(json!({"reasoning": {"effort": "none"}})));
    assert_eq!(none["usage"]["output_tokens_details"]["reasoning_tokens"], 0, "{none}");
}

#[test]
fn a_conversation_that_is_too_long_is_cut_where_that_is_asked_for() {
    let turn = |i: usize| {
        let content = format!("Remember the number {i}, the words apple, pear and plum.");
        let role = if i.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": content})
    };
    let input: Vec<Value> = (0..41).map(turn).collect();
    let asked = |truncation: &str| {
        ask(json!({"input": input, "truncation": truncation, "max_output_tokens": 4}))
    };
    check_error(&asked("disabled"), 400, None, Some("context_length_exceeded"));
    let cut = asked("auto");
    let answer = body(&cut);
    assert_eq!(cut.headers["x-freehold-adapted"], "truncated-messages");
    assert_eq!(answer["truncation"], "auto");
    let n_cut = answer["truncated_messages"].as_u64().unwrap();
    assert!(n_cut > 2 && n_cut < 41, "{answer}");
    let short = ask(json!({"truncation": "auto", "max_output_tokens": 4}));
    assert!(!short.headers.contains_key("x-freehold-adapted"), "{:?}", short.headers);
    assert!(body(&short)["truncated_messages"].is_null());
}

#[test]
fn errors_name_what_is_wrong() {
    let unknown = post(address(), PATH, &question(json!({"model": "gpt"})));
    check_error(&unknown, 404, Some("model"), Some("model_not_found"));
    for (field, value) in [
        ("background", json!(true)),
        ("store", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("prompt", json!({"id": "pmpt_1"})),
    ] {
        let refused = ask(json!({field: value, "stream": true}));
        check_error(&refused, 400, Some(field), Some("unsupported_parameter"));
    }
    let search = json!({"type": "web_search_call", "id": "x"});
    let message = json!({"role": "user", "content": "Hi."});
    let told = ask(json!({"input": [search, message], "max_output_tokens": 1}));
    assert_eq!(told.headers["x-freehold-ignored"], "input[0]", "{}", told.body);
    let item = ask(json!({"input": [{"type": "mcp_call", "id": "x"}]}));
    check_error(&item, 400, Some("input[0].type"), Some("unsupported_parameter"));
    let overlong = ask(json!({"input": "word ".repeat(600), "stream": true}));
    check_error(&overlong, 400, None, Some("context_length_exceeded"));
    for (head, code) in [
        ("GET /v1/responses/resp_1", "response_not_found"),
        ("DELETE /v1/responses/resp_1", "response_not_found"),
        ("GET /v1/responses/resp_1/input_items", "response_not_found"),
        ("POST /v1/responses/resp_1/cancel", "response_not_found"),
    ] {
        let none = request(address(), head, b"");
        check_error(&none, 404, Some("id"), Some(code));
        assert!(none.body.contains("--keep-responses"), "{}", none.body);
    }
    let method = request(address(), "GET /v1/responses", b"");
    check_error(&method, 405, None, Some("method_not_allowed"));
}

#[test]
fn what_has_no_effect_is_told() {
    let told = ask(json!({
        "client_metadata": {"x": "y"}, "prompt_cache_key": "k", "some_field": 1,
        "reasoning": {"effort": "low", "summary": "auto"}, "include": ["x"],
    }));
    assert_eq!(told.status, 200, "{}", told.body);
    // This model does not reason.
    let expected = "include[0], reasoning.summary, some_field, reasoning.effort";
    assert_eq!(told.headers["x-freehold-ignored"], expected);
    let thought = json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA",
        "content": [{"type": "reasoning_text", "text": "Greet."}]});
    let said = json!({"role": "assistant", "content": "Hello."});
    let input = json!([{"role": "user", "content": "Hi."}, thought, said,
        {"role": "user", "content": "Go on."}]);
    let told = ask(json!({"input": input, "stream": true}));
    assert_eq!(told.headers["x-freehold-ignored"], "input[1].encrypted_content");
    assert_eq!(told.headers["x-freehold-unused"], "input[1]");
    assert!(!ask(json!({})).headers.contains_key("x-freehold-ignored"));
}

/// A server that keeps responses, for clients that say who they are.
pub(super) struct Keeping(Running);

/// Such a server, and the id of a response that it keeps for clients that do not.
pub(super) fn one_kept() -> (Keeping, String) {
    let server = Keeping::start();
    let head = format!("POST {PATH}\nContent-Type: application/json");
    let first = question(json!({})).to_string();
    let first = body(&request(server.0.address, &head, first.as_bytes()));
    (server, first["id"].as_str().unwrap().to_owned())
}

impl Keeping {
    fn start() -> Self {
        let (fleet, model) = only_model(engine(), "00");
        let mut config = Config::new(fleet, vec![model]);
        config.limits.keep_responses = Some(Duration::from_secs(600));
        Self(run(config))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn ask(&self, key: &str, more: Value) -> Response {
        let head = format!("POST {PATH}\nContent-Type: application/json\nx-api-key: {key}");
        request(self.0.address, &head, question(more).to_string().as_bytes())
    }

    fn send(&self, key: &str, head: &str) -> Response {
        request(self.0.address, &format!("{head}\nx-api-key: {key}"), b"")
    }
}

#[test]
fn a_conversation_that_is_kept_is_gone_on_with() {
    let server = Keeping::start();
    let first = body(&server.ask("a", json!({"instructions": "Be brief."})));
    assert_eq!(first["store"], true);
    let id = first["id"].as_str().unwrap();
    let next = json!({"previous_response_id": id, "input": "And of Italy?", "stream": true});
    let stream = server.ask("a", next.clone());
    let events = events(&stream);
    let second = &events.last().unwrap().1["response"];
    assert_eq!(second["previous_response_id"], id);
    // The same as with all of it, and without the instructions, which are not carried over.
    let user = |text: &str| json!({"role": "user", "content": text});
    let input =
        json!([user("What is the capital of France?"), first["output"][0], user("And of Italy?")]);
    let whole = body(&ask(json!({"input": input})));
    assert_eq!(text_of(second), text_of(&whole));
    assert_eq!(second["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    // By reference too.
    let items = server.send("a", &format!("GET {PATH}/{id}/input_items"));
    let question = body(&items)["data"][0]["id"].clone();
    let references = json!([{"type": "item_reference", "id": question},
        {"id": first["output"][0]["id"]}, user("And of Italy?")]);
    let referred = body(&server.ask("a", json!({"input": references, "store": false})));
    assert_eq!(text_of(&referred), text_of(&whole));

    let id_2 = second["id"].as_str().unwrap();
    let got = server.send("a", &format!("GET {PATH}/{id_2}"));
    assert_eq!(body(&got), *second);
    let items = server.send("a", &format!("GET {PATH}/{id_2}/input_items?order=asc"));
    let texts: Vec<Value> = body(&items)["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["content"][0]["text"].clone())
        .collect();
    let answer = text_of(&first);
    assert_eq!(texts, ["What is the capital of France?", &*answer, "And of Italy?"]);
    // To another client it is as if it had never been.
    let no_response = |response: Response| {
        check_error(&response, 404, Some("id"), Some("response_not_found"));
    };
    let no_previous = |response: Response| {
        let code = Some("previous_response_not_found");
        check_error(&response, 400, Some("previous_response_id"), code);
    };
    no_previous(server.ask("b", next));
    no_response(server.send("b", &format!("GET {PATH}/{id}")));
    no_response(server.send("b", &format!("DELETE {PATH}/{id}")));
    no_response(server.send("b", &format!("GET {PATH}/{id}/input_items")));
    // Nor is there what was not to be kept.
    no_response(server.send("a", &format!("GET {PATH}/{}", referred["id"].as_str().unwrap())));
    let stream = server.send("a", &format!("GET {PATH}/{id}?stream=true"));
    check_error(&stream, 400, Some("stream"), Some("unsupported_parameter"));
    // What was deleted is in no conversation any more.
    let deleted = body(&server.send("a", &format!("DELETE {PATH}/{id}")));
    assert_eq!(deleted, json!({"id": id, "object": "response", "deleted": true}));
    no_response(server.send("a", &format!("GET {PATH}/{id}")));
    no_previous(server.ask("a", json!({"previous_response_id": id_2, "input": "So?"})));
    let torn = server.send("a", &format!("GET {PATH}/{id_2}/input_items"));
    check_error(&torn, 404, Some("id"), Some("response_not_found"));
    assert!(torn.body.contains(id), "{}", torn.body);
}

#[test]
fn a_conversation_larger_than_a_body_is_listed_page_by_page() {
    let (fleet, model) = only_model(engine(), "00");
    let mut config = Config::new(fleet, vec![model]);
    config.limits.keep_responses = Some(Duration::from_secs(600));
    config.limits.n_body_bytes = 400;
    let server = Keeping(run(config));
    let user = json!([{"role": "user", "content": "word ".repeat(20)}]);
    let more = |previous: Value| json!({"input": user, "previous_response_id": previous});
    let first = body(&server.ask("a", more(Value::Null)));
    let second = body(&server.ask("a", more(first["id"].clone())));
    let refused = server.ask("a", more(second["id"].clone()));
    check_error(&refused, 400, Some("previous_response_id"), Some("invalid_value"));
    let path = format!("GET {PATH}/{}/input_items?order=asc", second["id"].as_str().unwrap());
    let (mut ids, mut after) = (Vec::new(), String::new());
    loop {
        let page = body(&server.send("a", &format!("{path}{after}")));
        let items = page["data"].as_array().unwrap();
        ids.extend(items.iter().map(|item| item["id"].clone()));
        if page["has_more"] == false {
            break;
        }
        after = format!("&after={}", page["last_id"].as_str().unwrap());
    }
    assert_eq!((ids.len(), &ids[1]), (3, &first["output"][0]["id"]));
}

#[test]
fn a_silent_stream_is_kept_open_by_comments() {
    let limits = Limits { keep_alive: Duration::from_millis(1), ..Limits::default() };
    let running = start(limits);
    let body = question(json!({"input": "word ".repeat(300), "stream": true}));
    let stream = post(running.address, PATH, &body);
    assert!(stream.body.contains(": keep-alive\n\n"), "{}", stream.body);
    assert!(events(&stream).iter().all(|(name, _)| name.starts_with("response.")));
}

#[test]
fn a_stream_that_breaks_off_ends_with_its_failure() {
    let grace = Duration::from_millis(1);
    let mut running = start(Limits { shutdown_grace: grace, ..Limits::default() });
    let body = question(json!({
        "input": "Tell me a long story.", "stream": true, "max_output_tokens": 100_000,
        "temperature": 1,
    }));
    let head = super::post_head(PATH);
    let mut connection = Connection::send(running.address, &head, body.to_string().as_bytes());
    while !connection.line().contains("output_text.delta") {}
    running.shutdown.take().unwrap().send(()).unwrap();
    let mut last = String::new();
    while !last.starts_with("data: {\"type\":\"response.failed\"") {
        last = connection.line();
        assert!(!last.is_empty(), "no end");
    }
    let data: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["response"]["status"], "failed");
    assert_eq!(data["response"]["error"]["message"], "the server is shutting down");
    running.thread.join().unwrap();
}
