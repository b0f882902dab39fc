//! Tools over real connections: what the default model, which knows none, is made to call.

use super::client::Response;
use super::{chat, check_error};
use serde_json::{Value, json};

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "unit": {"enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city", "unit"],
    })
}

fn tool(name: &str, parameters: Option<Value>) -> Value {
    let mut function = json!({"name": name, "description": format!("The {name} of a place.")});
    if let Some(parameters) = parameters {
        function["parameters"] = parameters;
    }
    json!({"type": "function", "function": function})
}

/// A question with two tools.
fn ask(more: Value) -> Response {
    let mut body = json!({
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [tool("weather", Some(weather())), tool("time", None)],
        "max_tokens": 120,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    chat(body)
}

fn message(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["choices"][0]["message"].clone()
}

/// Names and arguments; these are valid.
fn calls(message: &Value) -> Vec<(String, Value)> {
    let call = |call: &Value| {
        assert_eq!(call["type"], "function");
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        let name = call["function"]["name"].as_str().unwrap().to_owned();
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        match &*name {
            "weather" => {
                assert_eq!(arguments.as_object().unwrap().len(), 2, "{arguments}");
                assert!(arguments["city"].is_string(), "{arguments}");
                let unit = arguments["unit"].as_str().unwrap();
                assert!(["celsius", "fahrenheit"].contains(&unit), "{arguments}");
            }
            "time" => assert_eq!(arguments, json!({})),
            other => panic!("{other}"),
        }
        (name, arguments)
    };
    message["tool_calls"].as_array().into_iter().flatten().map(call).collect()
}

#[test]
fn a_call_that_is_required_comes_and_is_valid() {
    let single = json!({"tool_choice": "required", "parallel_tool_calls": false});
    let response = ask(single);
    assert_eq!(response.headers["x-freehold-adapted"], "tools-prompt");
    let answer = message(&response);
    assert_eq!(calls(&answer).len(), 1, "{answer}");
    assert_eq!(answer["content"], Value::Null);
    assert_eq!(response.json()["choices"][0]["finish_reason"], "tool_calls");
    for name in ["weather", "time"] {
        let function = json!({"type": "function", "function": {"name": name}});
        let named = json!({"tool_choice": function, "parallel_tool_calls": false});
        assert_eq!(calls(&message(&ask(named)))[0].0, name);
    }
    // Of a model that guesses wildly too.
    for seed in 0..4 {
        let wild = json!({
            "tool_choice": "required", "parallel_tool_calls": false,
            "temperature": 2, "top_p": 1, "seed": seed, "max_tokens": 300,
        });
        assert_eq!(calls(&message(&ask(wild))).len(), 1);
    }
}

#[test]
fn a_call_of_functions_comes_in_their_older_form() {
    let function = tool("weather", Some(weather()))["function"].clone();
    let mut body = json!({
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "functions": [function], "function_call": {"name": "weather"}, "max_tokens": 120,
    });
    let response = chat(body.clone());
    assert_eq!(response.headers["x-freehold-adapted"], "tools-prompt");
    let answer = message(&response);
    assert!(answer["tool_calls"].is_null(), "{answer}");
    let call = answer["function_call"].clone();
    assert_eq!(call["name"], "weather");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["city"].is_string() && arguments["unit"].is_string(), "{arguments}");
    assert_eq!(response.json()["choices"][0]["finish_reason"], "function_call");
    // It comes back with its result as clients of that form keep it.
    let result = json!({"role": "function", "name": "weather", "content": "21 degrees"});
    let messages = body["messages"].as_array_mut().unwrap();
    messages.extend([answer, result]);
    body["function_call"] = json!("none");
    let answer = message(&chat(body));
    assert!(answer["function_call"].is_null() && answer["content"].is_string(), "{answer}");
}

#[test]
fn no_call_comes_where_none_is_wanted() {
    let answer = message(&ask(json!({"tool_choice": "none", "max_tokens": 24})));
    assert!(answer["tool_calls"].is_null() && answer["content"].is_string(), "{answer}");
    // Left to itself it may do either; what it calls is valid.
    let answer = message(&ask(json!({"max_tokens": 60})));
    assert!(!calls(&answer).is_empty() || answer["content"].is_string(), "{answer}");
}

#[test]
fn a_stream_of_calls_says_what_the_whole_answer_says() {
    // A stop string ends text, not what is needed for a call.
    let settings = json!({
        "tool_choice": "required", "parallel_tool_calls": false, "stop": ["\n", "\""],
        "logprobs": true,
    });
    let whole = ask(settings.clone());
    let mut settings = settings;
    settings["stream"] = json!(true);
    let stream = ask(settings);
    assert_eq!(stream.headers["x-freehold-adapted"], "tools-prompt");
    let (mut name, mut arguments, mut reasons) = (String::new(), String::new(), Vec::new());
    let mut logprobs = Vec::new();
    let events = stream.events();
    for event in &events[..events.len() - 1] {
        let event: Value = serde_json::from_str(event).unwrap();
        let choice = &event["choices"][0];
        assert!(choice["delta"]["content"].is_null(), "{event}");
        if let Some(call) = choice["delta"]["tool_calls"].get(0) {
            assert_eq!(call["index"], 0);
            assert_eq!(call["id"].is_string(), name.is_empty(), "{event}");
            name.push_str(call["function"]["name"].as_str().unwrap_or_default());
            arguments.push_str(call["function"]["arguments"].as_str().unwrap());
        }
        logprobs.extend(choice["logprobs"]["content"].as_array().into_iter().flatten().cloned());
        reasons.extend(choice["finish_reason"].as_str().map(str::to_owned));
    }
    let answer = message(&whole);
    assert_eq!(calls(&answer).len(), 1);
    assert_eq!(answer["tool_calls"][0]["function"], json!({"name": name, "arguments": arguments}));
    assert_eq!(reasons, ["tool_calls"]);
    assert_eq!(whole.json()["choices"][0]["logprobs"]["content"], Value::from(logprobs));
}

/// A tool that takes a text of this grammar.
fn note(syntax: &str, definition: &str) -> Value {
    let grammar = json!({"syntax": syntax, "definition": definition});
    let format = json!({"type": "grammar", "grammar": grammar});
    json!({"type": "custom", "custom": {"name": "note", "description": "Takes a note.",
        "format": format}})
}

/// Settings with which such a tool is called once.
fn noting(note: &Value) -> Value {
    let choice = json!({"type": "custom", "custom": {"name": "note"}});
    json!({"tools": [tool("time", None), note], "tool_choice": choice})
}

/// The text of the one call.
fn noted(answer: &Value) -> String {
    let [call] = &answer["tool_calls"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert!(call["id"].as_str().unwrap().starts_with("call_"), "{call}");
    assert_eq!((&call["type"], &call["custom"]["name"]), (&json!("custom"), &json!("note")));
    assert!(call["function"].is_null(), "{call}");
    call["custom"]["input"].as_str().unwrap().to_owned()
}

#[test]
fn a_tool_gets_the_text_that_its_format_allows() {
    let settings = noting(&note("regex", "[a-z]{2,4}\\n[0-9]{1,3}!"));
    let whole = ask(settings.clone());
    assert_eq!(whole.headers["x-freehold-adapted"], "tools-prompt");
    let answer = message(&whole);
    let text = noted(&answer);
    let (word, number) = text.split_once('\n').unwrap();
    assert!((2..=4).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    let digits = number.strip_suffix('!').unwrap();
    assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    assert_eq!(whole.json()["choices"][0]["finish_reason"], "tool_calls");

    let mut streamed = settings.clone();
    streamed["stream"] = json!(true);
    let stream = ask(streamed);
    let events = stream.events();
    let (mut name, mut input) = (String::new(), String::new());
    for event in &events[..events.len() - 1] {
        let event: Value = serde_json::from_str(event).unwrap();
        if let Some(call) = event["choices"][0]["delta"]["tool_calls"].get(0) {
            assert_eq!((call["index"].as_u64(), &call["function"]), (Some(0), &Value::Null));
            assert_eq!(call["type"] == "custom", name.is_empty(), "{event}");
            name.push_str(call["custom"]["name"].as_str().unwrap_or_default());
            input.push_str(call["custom"]["input"].as_str().unwrap());
        }
    }
    assert_eq!((&*name, input), ("note", text));

    let messages = json!([
        {"role": "user", "content": "Note it."}, answer,
        {"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"], "content": "noted"},
    ]);
    let mut again = settings;
    again["messages"] = messages;
    again["tool_choice"] = json!("none");
    assert!(message(&ask(again))["content"].is_string());
}

#[test]
fn a_tool_gets_a_text_of_its_grammar() {
    let grammar = r#"start: "note(" NAME ("," NAME)~1..2 ")\n"
        NAME: "\"" /[a-z]{1,8}/ "\""
        "#;
    let text = noted(&message(&ask(noting(&note("lark", grammar)))));
    let names = text.strip_prefix("note(").and_then(|rest| rest.strip_suffix(")\n")).unwrap();
    assert!((2..=3).contains(&names.split(',').count()), "{text}");
    for (syntax, definition, why) in [
        ("lark", "start: missing", "missing"),
        ("lark", "start: <[1]>", "line 1: a token"),
        ("regex", "[a", ""),
    ] {
        let refused = ask(noting(&note(syntax, definition)));
        let param = "tools[1].custom.format.grammar.definition";
        check_error(&refused, 400, Some(param), Some("invalid_value"));
        assert!(refused.body.contains(why), "{}", refused.body);
    }
    let refused = ask(noting(&note("gbnf", "root ::= [a-z]")));
    let param = "tools[1].custom.format.grammar.syntax";
    check_error(&refused, 400, Some(param), Some("invalid_value"));
}

#[test]
fn results_come_back_to_the_model() {
    let call = json!({
        "id": "toolu_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\": \"Paris\", \"unit\": \"celsius\"}"},
    });
    let messages = json!([
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "{\"degrees\": 21}"},
    ]);
    let response = ask(json!({"messages": messages, "tool_choice": "none", "max_tokens": 24}));
    assert_eq!(response.headers["x-freehold-adapted"], "tool-messages, tools-prompt");
    assert!(message(&response)["content"].is_string(), "{}", response.body);
    let shorter = json!({"messages": messages, "max_tokens": 1, "tools": []});
    assert_eq!(ask(shorter).headers["x-freehold-adapted"], "tool-messages");
}

#[test]
fn a_schema_holds_beside_tools() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"schema": schema}});
    let answer = message(&ask(json!({"response_format": format, "parallel_tool_calls": false})));
    if calls(&answer).is_empty() {
        let content = answer["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(content).unwrap();
        assert!(value["n"].is_i64() || value["n"].is_f64(), "{content}");
    }
    let none = json!({"response_format": format, "tool_choice": "none"});
    let content = message(&ask(none))["content"].as_str().unwrap().to_owned();
    assert!(serde_json::from_str::<Value>(&content).unwrap().is_object(), "{content}");
}

#[test]
fn tools_that_cannot_be_held_to_are_refused_by_path() {
    let bad = json!({"type": "object", "properties": {"x": {"not": {}}}});
    let mut strict = tool("weather", Some(bad));
    strict["function"]["strict"] = json!(true);
    let response = ask(json!({"tools": [tool("time", None), strict.clone()]}));
    let param = "tools[1].function.parameters";
    check_error(&response, 400, Some(param), Some("invalid_value"));
    let error = response.json()["error"]["message"].to_string();
    assert!(error.contains("#/properties/x") && error.contains("not"), "{error}");
    // Where nobody insists, the rest is held to, and what is not is told.
    strict["function"]["strict"] = json!(false);
    let relaxed = ask(json!({"tools": [tool("time", None), strict], "max_tokens": 1}));
    assert_eq!(relaxed.status, 200, "{}", relaxed.body);
    let told = "tools-prompt, unenforced tools[1].function.parameters#/properties/x/not";
    assert_eq!(relaxed.headers["x-freehold-adapted"], told);
    let list = json!({"tools": [tool("weather", Some(json!({"type": "array"})))]});
    let response = ask(list);
    check_error(&response, 400, Some("tools[0].function.parameters"), Some("invalid_value"));
    let unknown = json!({"type": "function", "function": {"name": "news"}});
    let response = ask(json!({"tool_choice": unknown}));
    check_error(&response, 400, Some("tool_choice.function.name"), Some("invalid_value"));
}
