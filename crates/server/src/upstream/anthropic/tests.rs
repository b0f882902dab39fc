//! Golden requests and answers of messages.

use crate::dialects::Dialect;
use crate::dialects::anthropic::Messages;
use crate::dialects::openai::chat::Chat;
use crate::limits::Limits;
use crate::upstream::Asked;
use crate::upstream::Framing::{self, Events, Whole};
use crate::upstream::testing::{asked, chat, events, heard};
use broker::UpstreamKind::Anthropic;
use serde_json::{Value, json};

fn tool() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!({"name": "weather", "description": "d", "input_schema": parameters})
}

#[track_caller]
fn check(more: Value, expected: Value) {
    let text = json!([{"type": "text", "text": "Hi"}]);
    let mut request = json!({
        "model": "a", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}],
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut body = json!({
        "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}],
    });
    body.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
    assert_eq!(asked::<Messages>(Anthropic, &request), body, "{request}");
}

#[test]
fn what_was_asked_is_asked() {
    check(json!({}), json!({}));
    check(
        json!({
            "system": "s", "temperature": 0.7, "top_p": 0.5, "top_k": 5, "stop_sequences": ["E"],
            "stream": true,
        }),
        json!({
            "system": "s", "temperature": 0.7, "top_p": 0.5, "top_k": 5, "stop_sequences": ["E"],
            "stream": true,
        }),
    );
    for same in [
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
        json!({"thinking": {"type": "disabled"}}),
        json!({"tools": [tool()], "tool_choice": {"type": "any"}}),
        json!({"tools": [tool()], "tool_choice": {"type": "none"}}),
        json!({
            "tools": [tool()],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        }),
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
    ] {
        check(same.clone(), same);
    }
}

#[test]
fn a_conversation_keeps_its_calls_and_results() {
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": [
            {"type": "text", "text": "Well."},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bonn"}},
            {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "t2", "content": "sun"},
            {"type": "text", "text": "And?"},
        ]},
    ]);
    let request = json!({"model": "a", "max_tokens": 9, "messages": messages});
    assert_eq!(asked::<Messages>(Anthropic, &request)["messages"], messages);
    // Asked in OpenAI's way.
    let call = |id: &str, arguments: &str| {
        let function = json!({"name": "weather", "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    };
    let found = chat(
        Anthropic,
        &json!({"max_tokens": 9, "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Well.",
             "tool_calls": [call("t1", "{\"city\":\"Bonn\"}"), call("t2", "{}")]},
            {"role": "tool", "tool_call_id": "t1", "content": "rain"},
            {"role": "tool", "tool_call_id": "t2", "content": "sun"},
            {"role": "user", "content": "And?"},
        ]}),
    );
    assert_eq!((&found["system"], &found["messages"]), (&json!("s"), &messages));
    // A last message of the assistant's is continued there too.
    let prefill = json!({"model": "a", "max_tokens": 9, "messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "He"},
    ]});
    let found = asked::<Messages>(Anthropic, &prefill);
    assert_eq!(found["messages"][1]["content"][0]["text"], "He");
    let broken = json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call("t1", "no JSON")]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
    ]});
    assert_eq!(chat(Anthropic, &broken)[0], "messages[1].tool_calls");
}

#[test]
fn a_tool_that_takes_a_text_is_one_of_an_argument() {
    let input = json!({"type": "object", "properties": {"input": {"type": "string"}},
        "required": ["input"]});
    let free = json!({"type": "custom", "custom": {"name": "note"}});
    let call = json!({"id": "c", "type": "custom", "custom": {"name": "note", "input": "a"}});
    let more = json!({"tools": [free], "tool_choice": free, "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "noted"},
    ]});
    let found = chat(Anthropic, &more);
    assert_eq!(found["tools"], json!([{"name": "note", "input_schema": input}]));
    let choice = json!({"type": "any", "disable_parallel_tool_use": true});
    assert_eq!(found["tool_choice"], choice);
    let made = json!({"type": "tool_use", "id": "c", "name": "note", "input": {"input": "a"}});
    assert_eq!(found["messages"][1]["content"], json!([made]));
    let request = Chat::parse(
        json!({"messages": [{"role": "user", "content": "Hi"}], "tools": [free]})
            .to_string()
            .as_bytes(),
        &Limits::default(),
    );
    let asked = Asked::new(Chat::call(&request.unwrap()), Anthropic, "m").unwrap();
    assert_eq!(asked.adapted, ["max-tokens", "custom-tools"]);
    let grammar = json!({"syntax": "regex", "definition": "a+"});
    let format = json!({"type": "grammar", "grammar": grammar});
    let held = json!({"type": "custom", "custom": {"name": "note", "format": format}});
    let found = chat(Anthropic, &json!({"tools": [held]}));
    assert_eq!(found[0], "tools[0].custom.format.grammar.definition");
    assert!(found[1].as_str().unwrap().contains("an upstream of kind \"anthropic\""), "{found}");
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    for (param, more) in [
        ("n", json!({"n": 2})),
        ("logprobs", json!({"logprobs": true})),
        ("seed", json!({"seed": 1})),
        ("logit_bias", json!({"logit_bias": {"1": 1}})),
        ("presence_penalty", json!({"presence_penalty": 1})),
        ("frequency_penalty", json!({"frequency_penalty": 1})),
        ("temperature", json!({"temperature": 1.5})),
        ("response_format.type", json!({"response_format": {"type": "json_object"}})),
        ("min_p", json!({"min_p": 0.5})),
    ] {
        let found = chat(Anthropic, &more);
        assert_eq!(found[0], param, "{found}");
        assert!(found[1].as_str().unwrap().contains("of kind \"anthropic\""), "{found}");
    }
    let found = chat(Anthropic, &json!({"presence_penalty": 0}));
    assert_eq!(found["max_tokens"], 8192, "there it must say something");
}

#[track_caller]
fn check_answer(framing: Framing, text: &str, expected: Result<Value, &str>) {
    let function = json!({"name": "weather"});
    let request = json!({
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": function}],
    });
    let found = heard(Anthropic, framing, &request, text).map(|(choices, counts)| {
        let choice = &choices[0];
        let calls = choice.calls.iter();
        let calls: Vec<Value> =
            calls.map(|call| json!([call.name, call.arguments, call.is_complete])).collect();
        let reason = format!("{:?}", choice.reason);
        let counts = [counts.n_prompt, counts.n_cached, counts.n_generated, counts.n_reasoning];
        json!([choice.text, choice.reasoning, calls, reason, counts])
    });
    assert_eq!(found, expected.map_err(str::to_owned), "{text}");
}

fn start(index: usize, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: usize, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: usize) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn begin() -> Value {
    let usage = json!({
        "input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2,
        "output_tokens": 1,
    });
    let message = json!({"id": "x", "type": "message", "role": "assistant", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage});
    json!({"type": "message_start", "message": message})
}

fn end(reason: &str, sequence: Option<&str>) -> [Value; 2] {
    let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
    let usage = json!({"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}});
    let delta = json!({"type": "message_delta", "delta": delta, "usage": usage});
    [delta, json!({"type": "message_stop"})]
}

#[test]
fn streams_are_read() {
    let blocks = [
        begin(),
        json!({"type": "ping"}),
        json!({"type": "of_later", "x": 1}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "Hm."})),
        delta(0, json!({"type": "signature_delta", "signature": "abc"})),
        stop(0),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "Hé"})),
        delta(1, json!({"type": "text_delta", "text": "llo"})),
        stop(1),
        start(2, json!({"type": "tool_use", "id": "t", "name": "weather", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"city\": \"B"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "onn\"}"})),
        stop(2),
    ];
    let stream = events(&[&blocks[..], &end("tool_use", None)].concat());
    let calls = json!([["weather", "{\"city\": \"Bonn\"}", true]]);
    let expected = json!(["Héllo", "Hm.", calls, "Stop", [10, 3, 7, 2]]);
    check_answer(Events, &stream, Ok(expected));
    let cut = [&[begin()][..], &blocks[11..14], &end("max_tokens", None)].concat();
    let calls = json!([["weather", "{\"city\": \"B", false]]);
    check_answer(Events, &events(&cut), Ok(json!(["", "", calls, "Length", [10, 3, 7, 2]])));
    let stopped = [&[begin()][..], &end("stop_sequence", Some("E"))].concat();
    let expected = json!(["", "", [], "StopString(\"E\")", [10, 3, 7, 2]]);
    check_answer(Events, &events(&stopped), Ok(expected));
}

#[test]
fn whole_answers_are_read() {
    let message = json!({
        "id": "x", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "text", "text": "Hé"},
            {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Bonn"}},
            {"type": "tool_use", "id": "u", "name": "weather", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 5, "output_tokens": 7},
    });
    let calls = json!([["weather", "{\"city\":\"Bonn\"}", true], ["weather", "{}", true]]);
    let expected = json!(["Hé", "Hm.", calls, "Stop", [5, 0, 7, 0]]);
    check_answer(Whole, &message.to_string(), Ok(expected));
}

#[test]
fn what_is_no_answer_is_told() {
    let cut = "it ended in the middle of the answer";
    check_answer(Events, "", Err(cut));
    check_answer(Events, &events(&[begin(), json!({"type": "message_stop"})]), Err(cut));
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}});
    check_answer(Events, &events(&[begin(), error]), Err("it broke off with an error"));
    let refused = [&[begin()][..], &end("refusal", None)].concat();
    check_answer(Events, &events(&refused), Err("its model refused to go on"));
    let strange = [&[begin()][..], &end("moon", None)].concat();
    let reason = "its answer ended for a reason that is not known, \"moon\"";
    check_answer(Events, &events(&strange), Err(reason));
    let search = json!({"type": "server_tool_use", "id": "x", "name": "web", "input": {}});
    let other = "it has a block of a kind that nobody asked for";
    check_answer(Events, &events(&[begin(), start(0, search)]), Err(other));
    let block = json!({"type": "tool_use", "id": "t", "name": "rm", "input": {}});
    let unknown = "it calls a tool that it was not offered, \"rm\"";
    check_answer(Events, &events(&[begin(), start(0, block)]), Err(unknown));
    let astray = delta(0, json!({"type": "input_json_delta", "partial_json": "{}"}));
    let nameless = "a call of a tool begins without a name";
    check_answer(Events, &events(&[begin(), astray]), Err(nameless));
    let request = json!({"messages": [{"role": "user", "content": "Hi"}]});
    for (framing, text) in [(Events, "data: {}\n\n"), (Events, "data: x\n\n"), (Whole, "[]")] {
        let told = heard(Anthropic, framing, &request, text).unwrap_err();
        assert!(told.starts_with("what it says is no "), "{told}");
    }
}
