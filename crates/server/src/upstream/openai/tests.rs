//! Golden requests and answers of chat completions.

use crate::dialects::ollama;
use crate::dialects::openai::responses::Responses;
use crate::upstream::Framing::{self, Events, Whole};
use crate::upstream::read_answer;
use crate::upstream::testing::{asked, chat, events, heard};
use broker::UpstreamKind::OpenAi;
use engine::FinishReason;
use serde_json::{Value, json};

fn tool() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let function = json!({"name": "weather", "description": "d", "parameters": parameters});
    json!({"type": "function", "function": function})
}

#[track_caller]
fn check(more: Value, expected: Value) {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
    assert_eq!(chat(OpenAi, &more), body, "{more}");
}

#[test]
fn what_was_asked_is_asked() {
    check(json!({}), json!({}));
    check(
        json!({
            "temperature": 0.7, "top_p": 0.95, "presence_penalty": 0.5, "frequency_penalty": -1,
            "seed": 7, "stop": "END", "n": 2, "max_tokens": 9, "logit_bias": {"17": -100},
            "logprobs": true, "top_logprobs": 3, "reasoning_effort": "low",
        }),
        json!({
            "temperature": 0.7, "top_p": 0.95, "presence_penalty": 0.5, "frequency_penalty": -1.0,
            "seed": 7, "stop": ["END"], "n": 2, "max_completion_tokens": 9,
            "logit_bias": {"17": -100.0}, "logprobs": true, "top_logprobs": 3,
            "reasoning_effort": "low",
        }),
    );
    check(
        json!({"stream": true}),
        json!({"stream": true, "stream_options": {"include_usage": true}}),
    );
    let schema = json!({"type": "object"});
    let named = json!({"name": "mine", "schema": schema});
    let format = json!({"name": "answer", "schema": schema, "strict": true});
    check(
        json!({"response_format": {"type": "json_schema", "json_schema": named}}),
        json!({"response_format": {"type": "json_schema", "json_schema": format}}),
    );
    let object = json!({"response_format": {"type": "json_object"}});
    check(object.clone(), object);
    // What asks for nothing may stand.
    check(json!({"repetition_penalty": 1, "min_p": 0, "top_k": 0}), json!({}));
}

#[test]
fn tools_are_offered_as_they_were() {
    let both = json!([tool(), {"type": "function", "function": {"name": "now"}}]);
    let told = json!([
        tool(),
        {"type": "function", "function": {
            "name": "now", "description": "",
            "parameters": {"type": "object", "properties": {}},
        }},
    ]);
    let named = json!({"type": "function", "function": {"name": "now"}});
    for (choice, expected) in [
        (json!("auto"), json!("auto")),
        (json!("required"), json!("required")),
        (json!("none"), json!("none")),
    ] {
        let asked = json!({"tools": both, "tool_choice": choice});
        check(asked, json!({"tools": told, "tool_choice": expected}));
    }
    check(
        json!({"tools": both, "tool_choice": named}),
        json!({"tools": told, "tool_choice": named, "parallel_tool_calls": false}),
    );
    let allowed = json!({"mode": "auto", "tools": [named]});
    let allowed = json!({"type": "allowed_tools", "allowed_tools": allowed});
    check(
        json!({"tools": both, "tool_choice": allowed}),
        json!({"tools": told, "tool_choice": allowed}),
    );
}

/// A tool that takes a text.
fn note(format: Value) -> Value {
    json!({"type": "custom", "custom": {"name": "note", "description": "d", "format": format}})
}

#[test]
fn tools_that_take_a_text_are_offered_as_such() {
    let grammar = json!({"syntax": "lark", "definition": "start: \"a\""});
    let grammar = json!({"type": "grammar", "grammar": grammar});
    let regex = json!({"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}});
    for format in [json!({"type": "text"}), grammar, regex] {
        let same = json!({"tools": [tool(), note(format)], "tool_choice": "auto"});
        check(same.clone(), same);
    }
    let short = json!({"type": "custom", "custom": {"name": "note"}});
    let free = json!({"type": "custom", "custom": {"name": "note", "format": {"type": "text"}}});
    check(json!({"tools": [short]}), json!({"tools": [free], "tool_choice": "auto"}));
    let free = note(json!({"type": "text"}));
    check(
        json!({"tools": [tool(), free], "tool_choice": short}),
        json!({"tools": [tool(), free], "tool_choice": short, "parallel_tool_calls": false}),
    );
    let both = json!([tool(), free, {"type": "function", "function": {
        "name": "now", "description": "", "parameters": {"type": "object", "properties": {}},
    }}]);
    let named = json!({"type": "function", "function": {"name": "weather"}});
    let allowed = json!({"mode": "required", "tools": [named, short]});
    let allowed = json!({"type": "allowed_tools", "allowed_tools": allowed});
    let same = json!({"tools": both, "tool_choice": allowed});
    check(same.clone(), same);
}

#[test]
fn calls_with_a_text_stay_such() {
    let free = note(json!({"type": "text"}));
    let call = json!({"id": "c", "type": "custom", "custom": {"name": "note", "input": "a\n"}});
    let messages = |call: &Value| {
        json!([
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "noted", "tool_call_id": "c"},
        ])
    };
    let found = chat(OpenAi, &json!({"messages": messages(&call), "tools": [free]}));
    assert_eq!(found["messages"], messages(&call));
    // Where it is not offered any more it is one of a function.
    let function = json!({"name": "note", "arguments": "{\"input\":\"a\\n\"}"});
    let made = json!({"id": "c", "type": "function", "function": function});
    let found = chat(OpenAi, &json!({"messages": messages(&call)}));
    assert_eq!(found["messages"], messages(&made));
    // Responses have the same tools in other words.
    let items = json!([
        {"role": "user", "content": "Hi"},
        {"type": "custom_tool_call", "call_id": "c", "name": "note", "input": "a\n"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "noted"},
    ]);
    let flat = json!({"type": "custom", "name": "note", "description": "d"});
    let found = asked::<Responses>(OpenAi, &json!({"input": items, "tools": [flat]}));
    assert_eq!((&found["messages"], &found["tools"]), (&messages(&call), &json!([free])));
}

#[test]
fn a_conversation_keeps_its_calls_and_results() {
    let call = json!({"id": "call_x", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\":\"Bonn\"}"}});
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "ada"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "call_x"},
    ]);
    let found = chat(OpenAi, &json!({"messages": messages}));
    assert_eq!(found["messages"], messages);
    // Ollama's have no ids.
    let call = json!({"function": {"name": "weather", "arguments": {"city": "Bonn"}}});
    let found = asked::<ollama::Chat>(
        OpenAi,
        &json!({"model": "o", "stream": false, "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [call, call]},
            {"role": "tool", "content": "rain", "tool_name": "weather"},
            {"role": "tool", "content": "sun", "tool_name": "weather"},
        ]}),
    );
    let ids: Vec<&Value> =
        (0..2).map(|idx| &found["messages"][1]["tool_calls"][idx]["id"]).collect();
    assert_eq!(ids, [&json!("call_0"), &json!("call_1")]);
    let results = (2..4).map(|idx| &found["messages"][idx]["tool_call_id"]);
    assert!(results.eq(ids), "{found}");
    let turn = json!({"model": "o", "prompt": "Hi", "system": "s", "stream": false});
    let found = asked::<ollama::Generate>(OpenAi, &turn);
    let expected = json!([
        {"role": "system", "content": "s"}, {"role": "user", "content": "Hi"},
    ]);
    assert_eq!(found["messages"], expected);
    let found = asked::<Responses>(OpenAi, &json!({"input": "Hi", "instructions": "s"}));
    assert_eq!(found["messages"], expected);
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    for (param, more) in [
        ("top_k", json!({"top_k": 5})),
        ("min_p", json!({"min_p": 0.1})),
        ("repetition_penalty", json!({"repetition_penalty": 1.1})),
        ("bad_words", json!({"bad_words": ["x"]})),
        ("stop_token_ids", json!({"stop_token_ids": [1]})),
        ("ignore_eos", json!({"ignore_eos": true})),
        ("min_tokens", json!({"min_tokens": 1})),
        ("mirostat", json!({"mirostat": 2})),
        ("dry_multiplier", json!({"dry_multiplier": 0.8})),
        ("guided_regex", json!({"guided_regex": "[a-z]+"})),
        ("thinking_token_budget", json!({"thinking_token_budget": 8})),
        ("chat_template_kwargs.x", json!({"chat_template_kwargs": {"x": 1}})),
    ] {
        let found = chat(OpenAi, &more);
        assert_eq!(found[0], param, "{found}");
        assert!(found[1].as_str().unwrap().contains("an upstream of kind \"openai\""), "{found}");
    }
    let raw = json!({"model": "o", "prompt": "Hi", "raw": true});
    assert_eq!(asked::<ollama::Generate>(OpenAi, &raw)[0], "prompt");
    let filled = json!({"model": "o", "prompt": "Hi", "suffix": "end"});
    assert_eq!(asked::<ollama::Generate>(OpenAi, &filled)[0], "prompt");
    let going_on = json!({"model": "o", "prompt": "Hi", "context": [1, 2]});
    assert_eq!(asked::<ollama::Generate>(OpenAi, &going_on)[0], "context");
}

#[track_caller]
fn check_answer(framing: Framing, text: &str, expected: Result<Value, &str>) {
    let request = json!({
        "messages": [{"role": "user", "content": "Hi"}], "n": 2,
        "tools": [tool(), note(json!({"type": "text"}))],
        "logprobs": true,
    });
    let found = heard(OpenAi, framing, &request, text).map(|(choices, counts)| {
        let choice = |choice: &crate::dialects::Choice| {
            let calls = choice.calls.iter();
            let calls: Vec<Value> =
                calls.map(|call| json!([call.name, call.arguments, call.is_complete])).collect();
            let logprobs: Vec<Option<f32>> = choice.tokens.iter().map(|of| of.logprob).collect();
            let is_length = choice.reason == FinishReason::Length;
            json!([choice.text, choice.reasoning, calls, logprobs, is_length])
        };
        let choices: Vec<Value> = choices.iter().map(choice).collect();
        let counts = [counts.n_prompt, counts.n_cached, counts.n_generated, counts.n_reasoning];
        json!([choices, counts])
    });
    assert_eq!(found, expected.map_err(str::to_owned), "{text}");
}

fn chunk(index: usize, delta: Value) -> Value {
    json!({"choices": [{"index": index, "delta": delta, "finish_reason": null}]})
}

fn end(index: usize, reason: &str) -> Value {
    json!({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
}

fn call(index: usize, name: Option<&str>, arguments: &str) -> Value {
    let mut function = json!({"arguments": arguments});
    if let Some(name) = name {
        function["name"] = name.into();
    }
    json!({"tool_calls": [{"index": index, "function": function}]})
}

const USAGE: &str = r#"{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}"#;

fn usage() -> Value {
    serde_json::from_str(USAGE).unwrap()
}

#[test]
fn streams_are_read() {
    let token = json!({"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169],
        "top_logprobs": [{"token": "x", "logprob": -1.5, "bytes": null}]});
    let with_logprobs = json!({"choices": [{
        "index": 0, "delta": {"content": "Hé"}, "logprobs": {"content": [token]},
    }]});
    let mut stream = events(&[
        chunk(0, json!({"role": "assistant", "content": ""})),
        chunk(0, json!({"reasoning_content": "Hm."})),
        with_logprobs,
        chunk(1, json!({"reasoning": "So."})),
        chunk(1, call(0, Some("weather"), "")),
        chunk(1, call(0, None, "{\"city\":")),
        chunk(0, json!({"content": "llo €"})),
        chunk(1, call(0, None, "\"Bonn\"}")),
        chunk(1, call(1, Some("weather"), "{}")),
        end(0, "length"),
        end(1, "tool_calls"),
        json!({"choices": [], "usage": usage()}),
    ]);
    stream.insert_str(0, ": hello\n\n");
    let first = json!(["Héllo €", "Hm.", [], [-0.5], true]);
    let calls = json!([["weather", "{\"city\":\"Bonn\"}", true], ["weather", "{}", true]]);
    let expected = json!([[first, ["", "So.", calls, [], false]], [5, 3, 7, 2]]);
    check_answer(Events, &format!("{stream}data: [DONE]\n\n"), Ok(expected.clone()));
    // Some end without saying so, and what comes behind the end is not read.
    check_answer(Events, &stream, Ok(expected.clone()));
    check_answer(Events, &format!("{stream}data: [DONE]\n\ndata: no\n\n"), Ok(expected));
}

#[test]
fn whole_answers_are_read() {
    let calls = json!([
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "weather", "arguments": ""}},
    ]);
    let body = json!({
        "id": "x", "object": "chat.completion", "usage": usage(),
        "choices": [
            {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": calls},
             "finish_reason": "tool_calls"},
            {"index": 0, "message": {"role": "assistant", "content": "Hé", "refusal": "No"},
             "finish_reason": "stop"},
        ],
    });
    let calls = json!([["weather", "{}", true], ["weather", "{}", true]]);
    let expected = json!([[["HéNo", "", [], [], false], ["", "", calls, [], false]], [5, 3, 7, 2]]);
    check_answer(Whole, &body.to_string(), Ok(expected));
}

/// More of a call with a text.
fn text(index: usize, name: Option<&str>, input: &str) -> Value {
    let mut custom = json!({"input": input});
    if let Some(name) = name {
        custom["name"] = name.into();
    }
    json!({"tool_calls": [{"index": index, "custom": custom}]})
}

#[test]
fn calls_with_a_text_are_read() {
    let input = r#"{"input":"a\n\"é"}"#;
    let calls = json!([["note", input, true], ["weather", "{}", true], ["note", input, true]]);
    let expected = json!([[["", "", calls, [], false], ["Hi", "", [], [], false]], [5, 3, 7, 2],]);
    let stream = events(&[
        chunk(0, text(0, Some("note"), "")),
        chunk(0, text(0, None, "a\n")),
        chunk(0, text(0, None, "\"é")),
        chunk(0, call(1, Some("weather"), "{}")),
        chunk(0, text(2, Some("note"), "a\n\"é")),
        end(0, "tool_calls"),
        chunk(1, json!({"content": "Hi"})),
        end(1, "stop"),
        json!({"choices": [], "usage": usage()}),
    ]);
    check_answer(Events, &stream, Ok(expected.clone()));
    let made = json!({"id": "a", "type": "custom",
        "custom": {"name": "note", "input": "a\n\"é"}});
    let function = json!({"id": "b", "type": "function",
        "function": {"name": "weather", "arguments": "{}"}});
    let body = json!({"usage": usage(), "choices": [
        {"index": 0, "message": {"content": null, "tool_calls": [made, function, made]},
         "finish_reason": "tool_calls"},
        {"index": 1, "message": {"content": "Hi"}, "finish_reason": "stop"},
    ]});
    check_answer(Whole, &body.to_string(), Ok(expected));
    // Cut off by its length it has no end.
    let cut = [chunk(0, text(0, Some("note"), "a")), end(0, "length"), end(1, "stop")];
    let calls = json!([["note", "{\"input\":\"a", false]]);
    let expected = json!([[["", "", calls, [], true], ["", "", [], [], false]], [0, 0, 0, 0]]);
    check_answer(Events, &events(&cut), Ok(expected));
    let wrong = events(&[chunk(0, text(0, Some("weather"), "a")), end(0, "tool_calls")]);
    check_answer(Events, &wrong, Err("it calls a tool with what is no object, \"weather\""));
}

#[test]
fn counts_that_cannot_be_are_not_believed() {
    let request = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9});
    let usage = json!({
        "prompt_tokens": u64::MAX, "prompt_tokens_details": {"cached_tokens": u64::MAX},
        "completion_tokens": u64::MAX,
    });
    let choice = json!({"index": 0, "message": {"content": "Ho"}, "finish_reason": "stop"});
    let body = json!({"choices": [choice], "usage": usage}).to_string();
    let (_, counts) = heard(OpenAi, Whole, &request, &body).unwrap();
    assert_eq!((counts.n_generated, counts.n_reasoning), (9, 0));
    assert!((16_384..17_000).contains(&counts.n_prompt), "{counts:?}");
    assert_eq!(counts.n_cached, counts.n_prompt);
}

#[test]
fn what_comes_behind_the_end_is_not_read() {
    let request = json!({"messages": [{"role": "user", "content": "Hi"}]}).to_string();
    let told = events(&[chunk(0, json!({"content": "Ho"})), end(0, "stop")]);
    let bytes = [told.as_bytes(), b"data: [DONE]\n\n\xff\n"].concat();
    let read = |pieces: &[&[u8]]| read_answer(request.as_bytes(), OpenAi, true, pieces);
    let expected = read(&[told.as_bytes()]);
    assert!(expected.is_ok(), "{expected:?}");
    for cut in 0..=bytes.len() {
        let (begin, rest) = bytes.split_at(cut);
        assert_eq!(read(&[begin, rest]), expected, "cut at {cut}");
    }
}

#[test]
fn what_is_no_answer_is_told() {
    let ends = events(&[end(0, "stop"), end(1, "stop")]);
    let cut = "it ended in the middle of the answer";
    check_answer(Events, &events(&[end(0, "stop")]), Err(cut));
    check_answer(Events, "", Err(cut));
    check_answer(Events, &format!("data: [DONE]\n\n{ends}"), Err(cut));
    check_answer(Whole, r#"{"choices":[]}"#, Err(cut));
    let error = "data: {\"error\":{\"message\":\"out of luck\"}}\n\n";
    check_answer(Events, error, Err("it broke off with an error"));
    check_answer(Whole, r#"{"error":"no"}"#, Err("it broke off with an error"));
    let third = events(&[chunk(2, json!({"content": "x"}))]);
    check_answer(Events, &third, Err("it has alternative 2 of 2"));
    let unknown = events(&[chunk(0, call(0, Some("rm"), "{}"))]);
    check_answer(Events, &unknown, Err("it calls a tool that it was not offered, \"rm\""));
    let filtered = events(&[end(0, "content_filter")]);
    check_answer(Events, &filtered, Err("its filter of contents ended the answer"));
    let strange = events(&[end(0, "moon")]);
    let reason = "its answer ended for a reason that is not known, \"moon\"";
    check_answer(Events, &strange, Err(reason));
    let behind = events(&[end(0, "stop"), chunk(0, json!({"content": "x"}))]);
    check_answer(Events, &behind, Err("it goes on behind its end"));
    for (framing, text) in [
        (Events, "data: {\n\n"),
        (Events, "data: 7\n\n"),
        (Events, "data: {\"choices\":[{\"index\":-1}]}\n\n"),
        (Whole, "<html>"),
        (Whole, ""),
    ] {
        let request = json!({"messages": [{"role": "user", "content": "Hi"}]});
        let told = heard(OpenAi, framing, &request, text).unwrap_err();
        assert!(told.starts_with("what it says is no chat completion, at line "), "{told}");
    }
}
