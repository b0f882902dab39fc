//! Golden transcripts of chat completions, and the table of their parameters.

use super::*;
use crate::dialects::golden::{Step, cut, replay, text, token};
use crate::dialects::openai::parse_chat as parse;
use crate::dialects::{ReasoningFields, Thinking, Wish};
use crate::errors::ServerError;
use engine::FinishReason::{Length, Stop, StopString};
use engine::Part;

fn check(request: &str, steps: Vec<Step>, expected: &str) {
    assert_eq!(replay::<Chat>(request, steps), expected, "{request}");
}

/// A request with `field` beside the messages.
fn with(field: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{field}}}"#)
}

#[test]
fn a_whole_answer() {
    check(
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        vec![text(0, "Hel"), text(0, "lo\n\"you\""), Step::Done(0, Stop)],
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant","content":"Hello\n\"you\"","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"matched_tokens":3}}}"#,
    );
}

#[test]
fn a_stream() {
    check(
        &with(r#""stream":true"#),
        vec![text(0, "Hé"), text(0, ""), text(0, "\n"), Step::Done(0, Length)],
        concat!(
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"Hé"},"logprobs":null,"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"\n"},"logprobs":null,"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}"#,
            "\n\ndata: [DONE]\n\n",
        ),
    );
}

#[test]
fn usage_comes_last_with_no_choice_and_is_null_before() {
    let request = with(r#""stream":true,"stream_options":{"include_usage":true}"#);
    let body = replay::<Chat>(&request, vec![text(0, "a"), Step::Done(0, Stop)]);
    let events: Vec<&str> = body.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 5);
    for event in &events[..3] {
        assert!(event.ends_with(r#""usage":null}"#), "{event}");
    }
    assert!(
        events[3].ends_with(
            r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"matched_tokens":3}}}"#
        ),
        "{}",
        events[3]
    );
    assert_eq!(events[4], "data: [DONE]");
    let plain = replay::<Chat>(&with(r#""stream":true"#), vec![Step::Done(0, Stop)]);
    assert!(!plain.contains("usage") && !plain.contains(r#""choices":[]"#), "{plain}");
}

#[test]
fn alternatives_interleave_and_each_ends_once() {
    let request = with(r#""stream":true,"n":2"#);
    let steps = vec![
        text(1, "b"),
        text(0, "a"),
        Step::Done(1, StopString("x".to_owned())),
        text(0, "c"),
        Step::Done(0, Length),
    ];
    let body = replay::<Chat>(&request, steps);
    let events: Vec<Value> = body
        .split_terminator("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).ok())
        .collect();
    let indices: Vec<u64> =
        events.iter().map(|event| event["choices"][0]["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 1, 0, 1, 0, 0]);
    assert!(events.iter().all(|event| event["choices"].as_array().unwrap().len() == 1));
    let reasons: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["finish_reason"])
        .filter(|reason| !reason.is_null())
        .collect();
    assert_eq!(reasons, ["stop", "length"]);
}

#[test]
fn a_stream_that_breaks_off_says_so_and_ends() {
    check(
        &with(r#""stream":true"#),
        vec![Step::Fail(ServerError::Failed("it broke".to_owned()))],
        concat!(
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"error":{"message":"it broke","type":"server_error","param":null,"code":null}}"#,
            "\n\ndata: [DONE]\n\n",
        ),
    );
}

#[test]
fn log_probabilities_are_finite_and_bytes_exact() {
    let request = with(r#""logprobs":true,"top_logprobs":2"#);
    let tokens = vec![
        token(256, -0.5, &[(256, -0.5), (257, f32::NEG_INFINITY)]),
        token(u32::from(b'!'), f32::NEG_INFINITY, &[]),
    ];
    let body = replay::<Chat>(&request, vec![Step::Text(0, "hello!", tokens), Step::Done(0, Stop)]);
    let body: Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({"refusal": null, "content": [
        {"token": "hello", "logprob": -0.5, "bytes": b"hello", "top_logprobs": [
            {"token": "hello", "logprob": -0.5, "bytes": b"hello"},
            {"token": "\u{fffd}", "logprob": -9999.0, "bytes": [0xe2, 0x82]},
        ]},
        {"token": "!", "logprob": -9999.0, "bytes": [33], "top_logprobs": []},
    ]});
    assert_eq!(body["choices"][0]["logprobs"], expected);
}

#[test]
fn a_stream_holds_the_same_tokens_as_a_whole_answer() {
    let steps = || {
        vec![
            Step::Text(0, "hello", vec![token(256, -0.5, &[])]),
            Step::Text(0, "", vec![token(u32::from(b' '), -1.0, &[])]),
            Step::Text(0, " hello", vec![token(256, -0.25, &[])]),
            Step::Done(0, Stop),
        ]
    };
    let whole = replay::<Chat>(&with(r#""logprobs":true"#), steps());
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let stream = replay::<Chat>(&with(r#""logprobs":true,"stream":true"#), steps());
    let (mut text, mut tokens) = (String::new(), Vec::new());
    for event in stream.split_terminator("\n\n").filter(|event| !event.ends_with("[DONE]")) {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        let choice = &event["choices"][0];
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        tokens.extend(choice["logprobs"]["content"].as_array().into_iter().flatten().cloned());
    }
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(whole["choices"][0]["logprobs"]["content"], Value::from(tokens));
}

/// Text, reasoning and two calls, with a token for each part.
fn calling(reason: engine::FinishReason, n_parts: usize) -> Vec<Step> {
    let parts = [
        Part::Reasoning("Hm".to_owned()),
        Part::Reasoning(".".to_owned()),
        Part::Text("So:".to_owned()),
        Part::CallBegin("f".to_owned()),
        Part::Arguments("{\"x\":".to_owned()),
        Part::Arguments("1}".to_owned()),
        Part::CallEnd,
        Part::CallBegin("g".to_owned()),
        Part::Arguments("{}".to_owned()),
        Part::CallEnd,
    ];
    let step = |(id, part): (u32, Part)| Step::Part(0, part, vec![token(id, -0.5, &[])]);
    let steps = (97..).zip(parts).take(n_parts).map(step);
    steps.chain([Step::Done(0, reason)]).collect()
}

/// The deltas of a stream, as they are written.
fn deltas(stream: &str) -> Vec<&str> {
    let events = stream.split_terminator("\n\n");
    let deltas = events.filter_map(|event| event.split_once(r#""delta":"#));
    deltas
        .filter_map(|(_, rest)| rest.split_once(r#","logprobs""#))
        .map(|(delta, _)| delta)
        .collect()
}

/// A request whose answer may be calls.
fn with_tools(field: &str) -> String {
    let tool = |name: &str| format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
    with(&format!(r#""tools":[{},{}],{field}"#, tool("f"), tool("g")))
}

#[test]
fn reasoning_stands_in_the_fields_that_the_owner_says() {
    let told = ReasoningFields::NAMES.map(|name| {
        let fields = ReasoningFields::from_name(name).unwrap();
        fields.of("Hm.").map(|text| text.is_some())
    });
    assert_eq!(told, [[true, true], [true, false], [false, true]]);
    assert_eq!(ReasoningFields::from_name("all"), None);
}

#[test]
fn calls_and_reasoning_stand_beside_the_text() {
    check(
        &with_tools(r#""n":1"#),
        calling(Stop, 10),
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant","content":"So:","reasoning_content":"Hm.","reasoning":"Hm.","refusal":null,"tool_calls":[{"id":"call_1_0_0","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"call_1_0_1","type":"function","function":{"name":"g","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"matched_tokens":3}}}"#,
    );
    let stream = replay::<Chat>(&with_tools(r#""stream":true"#), calling(Stop, 10));
    let expected = [
        r#"{"role":"assistant","content":null}"#,
        r#"{"reasoning_content":"Hm","reasoning":"Hm"}"#,
        r#"{"reasoning_content":".","reasoning":"."}"#,
        r#"{"content":"So:"}"#,
        r#"{"tool_calls":[{"index":0,"id":"call_1_0_0","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"call_1_0_1","type":"function","function":{"name":"g","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}"#,
        "{}",
    ];
    assert_eq!(deltas(&stream), expected);
    assert!(stream.contains(r#""finish_reason":"tool_calls""#), "{stream}");
}

#[test]
fn a_call_of_functions_has_their_older_form() {
    let older = |field: &str| with(&format!(r#""functions":[{{"name":"f"}}],{field}"#));
    check(
        &older(r#""n":1"#),
        calling(Stop, 7),
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant","content":"So:","reasoning_content":"Hm.","reasoning":"Hm.","refusal":null,"function_call":{"name":"f","arguments":"{\"x\":1}"}},"logprobs":null,"finish_reason":"function_call"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"matched_tokens":3}}}"#,
    );
    let expected = [
        r#"{"role":"assistant","content":null}"#,
        r#"{"reasoning_content":"Hm","reasoning":"Hm"}"#,
        r#"{"reasoning_content":".","reasoning":"."}"#,
        r#"{"content":"So:"}"#,
        r#"{"function_call":{"name":"f","arguments":""}}"#,
        r#"{"function_call":{"arguments":"{\"x\":"}}"#,
        r#"{"function_call":{"arguments":"1}"}}"#,
        "{}",
    ];
    // Of several, which another server may send all the same, there is room for one.
    for n_parts in [7, 10] {
        let stream = replay::<Chat>(&older(r#""stream":true"#), calling(Stop, n_parts));
        assert_eq!(deltas(&stream), expected);
        assert!(stream.contains(r#""finish_reason":"function_call""#), "{stream}");
    }
    let cut = replay::<Chat>(&older(r#""n":1"#), calling(Length, 5));
    assert!(cut.contains(r#""finish_reason":"length""#), "{cut}");
    // It is one call, of the function that is named.
    let named = older(r#""function_call":{"name":"f"}"#);
    let tools = parse(named.as_bytes(), &Limits::default()).unwrap().call.tools.unwrap();
    assert_eq!((tools.choice, tools.is_parallel), (ToolChoice::Required, false));
}

/// A request whose answer may be calls of `f`, and of `t`, which takes a text.
fn with_texts(field: &str) -> String {
    let tools =
        r#"{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"t"}}"#;
    with(&format!(r#""tools":[{tools}],{field}"#))
}

#[test]
fn calls_with_texts_have_a_form_of_their_own() {
    let parts = || {
        let arguments = ["{\"in", "put\": \"a\\", "n\\u00", "e9\\\"b", "\"}"];
        let arguments = arguments.map(|piece| Part::Arguments(piece.to_owned()));
        let begin = |name: &str| Part::CallBegin(name.to_owned());
        let function = [begin("f"), Part::Arguments("{}".to_owned()), Part::CallEnd];
        [vec![begin("t")], arguments.to_vec(), vec![Part::CallEnd], function.to_vec()].concat()
    };
    let steps = |n_parts: usize, reason| {
        let step = |part| Step::Part(0, part, Vec::new());
        let steps = parts().into_iter().take(n_parts).map(step);
        steps.chain([Step::Done(0, reason)]).collect()
    };
    check(
        &with_texts(r#""n":1"#),
        steps(10, Stop),
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_1_0_0","type":"custom","custom":{"name":"t","input":"a\né\"b"}},{"id":"call_1_0_1","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"matched_tokens":3}}}"#,
    );
    let stream = replay::<Chat>(&with_texts(r#""stream":true"#), steps(10, Stop));
    let expected = [
        r#"{"role":"assistant","content":null}"#,
        r#"{"tool_calls":[{"index":0,"id":"call_1_0_0","type":"custom","custom":{"name":"t","input":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"custom":{"input":"a"}}]}"#,
        r#"{"tool_calls":[{"index":0,"custom":{"input":"\n"}}]}"#,
        r#"{"tool_calls":[{"index":0,"custom":{"input":"é\"b"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"call_1_0_1","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}"#,
        "{}",
    ];
    assert_eq!(deltas(&stream), expected);
    assert!(stream.contains(r#""finish_reason":"tool_calls""#), "{stream}");
    // One that was cut off has what came of it, and is never complete.
    for field in [r#""n":1"#, r#""stream":true"#] {
        let cut = replay::<Chat>(&with_texts(field), steps(3, Length));
        assert!(cut.contains(r#""input":"a"}"#), "{cut}");
        assert!(cut.contains(r#""finish_reason":"length""#), "{cut}");
    }
}

/// What a client's own accumulation makes of a stream: texts are joined, all else is set.
fn accumulated(stream: &str) -> (Value, Vec<Value>, Value) {
    fn add(all: &mut Value, more: &Value, name: &str) {
        match (all, more) {
            (Value::Object(all), Value::Object(more)) => {
                for (name, more) in more.iter().filter(|(name, _)| *name != "index") {
                    add(all.entry(name.clone()).or_insert(Value::Null), more, name);
                }
            }
            (all @ (Value::Null | Value::Array(_)), Value::Array(more)) => {
                for one in more {
                    let index = one["index"].as_u64().unwrap() as usize;
                    if all.as_array().map_or(0, Vec::len) == index {
                        let mut list = all.as_array().cloned().unwrap_or_default();
                        list.push(Value::Object(Map::new()));
                        *all = list.into();
                    }
                    add(&mut all[index], one, name);
                }
            }
            (Value::String(all), Value::String(more)) if name != "type" => all.push_str(more),
            (all, more) => *all = more.clone(),
        }
    }
    let (mut message, mut tokens, mut reason) = (Value::Null, Vec::new(), Value::Null);
    for event in stream.split_terminator("\n\n").filter(|event| !event.ends_with("[DONE]")) {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        let choice = &event["choices"][0];
        if message.is_null() {
            message = choice["delta"].clone();
        } else {
            add(&mut message, &choice["delta"], "");
        }
        tokens.extend(choice["logprobs"]["content"].as_array().into_iter().flatten().cloned());
        assert!(reason.is_null(), "it goes on behind its end: {stream}");
        reason = choice["finish_reason"].clone();
    }
    (message, tokens, reason)
}

proptest::proptest! {
    /// Text, a train of thought and calls of both kinds, wherever they are cut, and whether the
    /// last call has come to its end or not.
    #[test]
    fn a_stream_says_what_a_whole_answer_says(
        thinking in "\\PC{0,12}",
        said in "\\PC{0,12}",
        values in proptest::collection::vec("\\PC{0,8}|[\"\\\\\n]{0,4}", 0..4),
        cuts in proptest::collection::vec(proptest::bool::ANY, 1..40),
        n_left_out in 0..4_usize,
        is_length in proptest::bool::ANY,
    ) {
        let mut parts = vec![Part::Reasoning(thinking), Part::Text(said)];
        for (n, value) in values.into_iter().enumerate() {
            let (name, arguments) = match n % 2 {
                0 => ("t", serde_json::json!({"input": value})),
                _ => ("f", serde_json::json!({"x": [value, 1.5, null]})),
            };
            parts.push(Part::CallBegin(name.to_owned()));
            parts.push(Part::Arguments(arguments.to_string()));
            parts.push(Part::CallEnd);
        }
        parts.truncate(parts.len() - n_left_out.min(parts.len()));
        let pieces = cut(parts, &cuts);
        let answer = |stream: bool| {
            let step = |part| Step::Part(0, part, vec![token(97, -0.5, &[])]);
            let reason = if is_length { Length } else { Stop };
            let steps = pieces.iter().cloned().map(step).chain([Step::Done(0, reason)]).collect();
            let more = format!(r#""logprobs":true,"stream":{stream}"#);
            replay::<Chat>(&with_texts(&more), steps)
        };
        let whole: Value = serde_json::from_str(&answer(false)).unwrap();
        let whole = &whole["choices"][0];
        let (mut message, tokens, reason) = accumulated(&answer(true));
        // A stream has no refusal, and begins without knowing whether there is a text.
        message["refusal"] = Value::Null;
        if message["content"].is_null() && message["tool_calls"].is_null() {
            message["content"] = "".into();
        }
        for name in ["reasoning_content", "reasoning"] {
            if message[name] == "" {
                message.as_object_mut().unwrap().remove(name);
            }
        }
        proptest::prop_assert_eq!(&message, &whole["message"]);
        proptest::prop_assert_eq!(&Value::from(tokens), &whole["logprobs"]["content"]);
        proptest::prop_assert_eq!(&reason, &whole["finish_reason"]);
    }
}

#[test]
fn a_call_that_was_cut_off_is_never_told_as_complete() {
    for (n_parts, reason, expected) in [
        (10, Stop, "tool_calls"),
        (10, Length, "length"),
        (5, Stop, "length"),
        (5, Length, "length"),
        (3, Stop, "stop"),
    ] {
        for field in [r#""n":1"#, r#""stream":true"#] {
            let body = replay::<Chat>(&with_tools(field), calling(reason.clone(), n_parts));
            assert!(body.contains(&format!(r#""finish_reason":"{expected}""#)), "{body}");
        }
    }
}

#[test]
fn content_is_null_only_beside_calls() {
    let content = |steps| {
        let body: Value =
            serde_json::from_str(&replay::<Chat>(&with_tools(r#""n":1"#), steps)).unwrap();
        body["choices"][0]["message"]["content"].clone()
    };
    let call = || Step::Part(0, Part::CallBegin("f".to_owned()), Vec::new());
    assert_eq!(content(vec![call(), Step::Done(0, Stop)]), Value::Null);
    assert_eq!(content(vec![text(0, "a"), call(), Step::Done(0, Stop)]), "a");
    assert_eq!(content(vec![Step::Done(0, Stop)]), "");
}

/// Tokens of marks and of reasoning are there too, once each.
#[test]
fn log_probabilities_beside_calls_are_those_of_all_tokens() {
    let fields = [r#""logprobs":true"#, r#""logprobs":true,"stream":true"#];
    let [whole, stream] =
        fields.map(|field| replay::<Chat>(&with_tools(field), calling(Length, 10)));
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let mut tokens = Vec::new();
    for event in stream.split_terminator("\n\n").filter(|event| !event.ends_with("[DONE]")) {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        let content = event["choices"][0]["logprobs"]["content"].as_array().cloned();
        tokens.extend(content.unwrap_or_default());
    }
    assert_eq!(tokens.len(), 10);
    assert_eq!(whole["choices"][0]["logprobs"]["content"], Value::from(tokens));
}

/// What becomes of each parameter: also the table to publish.
#[test]
fn every_parameter_is_honoured_or_refused_by_name() {
    let taken = [
        r#""user":"me""#,
        r#""metadata":{"a":"b"}"#,
        r#""store":false"#,
        r#""service_tier":"auto""#,
        r#""service_tier":"fast""#,
        r#""service_tier":"flex""#,
        r#""cache_prompt":false"#,
        r#""safety_identifier":"x""#,
        r#""prompt_cache_key":"x""#,
        r#""prompt_cache_options":{"mode":"explicit","ttl":"30m"}"#,
        r#""prompt_cache_retention":"24h""#,
        r#""verbosity":"low""#,
        r#""temperature":0"#,
        r#""temperature":1.0"#,
        r#""top_p":0"#,
        r#""top_k":-1"#,
        r#""min_p":0.1"#,
        r#""presence_penalty":-2"#,
        r#""frequency_penalty":2"#,
        r#""repeat_penalty":1.1"#,
        r#""seed":-1"#,
        r#""seed":18446744073709551615"#,
        r#""stop":null"#,
        r#""stop":["a","b"]"#,
        r#""n":16"#,
        r#""max_tokens":5,"max_completion_tokens":6"#,
        r#""logit_bias":{"50256":-100}"#,
        r#""logprobs":true,"top_logprobs":20"#,
        r#""logprobs":false,"top_logprobs":null"#,
        r#""tools":[],"tool_choice":"auto""#,
        r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none""#,
        r#""tool_choice":"none""#,
        r#""functions":[{"name":"f","description":"d","parameters":{"type":"object"}}]"#,
        r#""functions":[{"name":"f"}],"function_call":"none","tool_choice":"auto""#,
        r#""functions":[{"name":"f"}],"function_call":{"name":"f"},"parallel_tool_calls":false"#,
        r#""functions":[],"function_call":"auto""#,
        r#""parallel_tool_calls":false"#,
        r#""tools":[{"type":"function","function":{"name":"f","strict":true}}]"#,
        r#""tools":[{"type":"custom","custom":{"name":"t","format":{"type":"text"}}}]"#,
        r#""thinking_token_budget":100,"thinking_budget_tokens":100"#,
        r#""thinking_budget_tokens":-1"#,
        r#""typical_p":0.9,"xtc_probability":0.5,"xtc_threshold":0.2"#,
        r#""mirostat":2,"mirostat_tau":4,"mirostat_eta":0.2"#,
        r#""mirostat":0"#,
        r#""dry_multiplier":0.8,"dry_base":2,"dry_allowed_length":3,"dry_penalty_last_n":-1"#,
        r#""dry_multiplier":0.8,"dry_sequence_breakers":["\n","-"]"#,
        r#""min_tokens":5,"stop_token_ids":[7,8]"#,
        r#""bad_words":["a b"],"banned_strings":["c"]"#,
        r#""response_format":{"type":"text"}"#,
        r#""response_format":{"type":"json_object"}"#,
        r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}}"#,
        r#""response_format":{"type":"json_schema","json_schema":{"strict":true,"schema":{}}}"#,
        r#""guided_json":{"type":"object"}"#,
        r#""guided_json":"{\"type\":\"object\"}""#,
        r#""guided_regex":"a+""#,
        r#""guided_choice":["a","b"]"#,
        r#""guided_grammar":"start: \"a\"""#,
        r#""guided_grammar":"root ::= \"a\"""#,
        r#""grammar":"root ::= \"a\"""#,
        r#""grammar":"""#,
        r#""structured_outputs":{"json":{}}"#,
        r#""structured_outputs":{"json_object":true}"#,
        r#""modalities":["text"]"#,
        r#""reasoning_effort":"low""#,
        r#""chat_template_kwargs":{"enable_thinking":false}"#,
        r#""stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}"#,
        r#""never_heard_of":null"#,
    ];
    for field in taken {
        let parsed = parse(with(field).as_bytes(), &Limits::default());
        assert!(parsed.is_ok(), "{field}: {parsed:?}");
    }
    let refused = [
        (r#""never_heard_of":1"#, "never_heard_of"),
        (r#""store":true"#, "store"),
        (r#""service_tier":"scale""#, "service_tier"),
        (r#""temperature":"hot""#, "temperature"),
        (r#""temperature":2.1"#, "temperature"),
        (r#""top_p":1.5"#, "top_p"),
        (r#""presence_penalty":3"#, "presence_penalty"),
        (r#""n":0"#, "n"),
        (r#""n":17"#, "n"),
        (r#""max_tokens":0"#, "max_tokens"),
        (r#""max_completion_tokens":-1"#, "max_completion_tokens"),
        (r#""seed":1.5"#, "seed"),
        (r#""stop":[""]"#, "stop[0]"),
        (r#""stop":{}"#, "stop"),
        (r#""logit_bias":{"x":1}"#, "logit_bias"),
        (r#""logit_bias":{"7":"x"}"#, "logit_bias.7"),
        (r#""top_logprobs":2"#, "top_logprobs"),
        (r#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
        (r#""logprobs":3"#, "logprobs"),
        (r#""tools":[{"type":"function","function":{"name":"f g"}}]"#, "tools[0].function.name"),
        (r#""thinking_token_budget":-2"#, "thinking_token_budget"),
        (r#""thinking_token_budget":1,"thinking_budget_tokens":2"#, "thinking_budget_tokens"),
        (r#""tool_choice":"required""#, "tool_choice"),
        (r#""functions":[{"name":"f g"}]"#, "functions[0].name"),
        (r#""functions":[{"name":"f"},{"name":"f"}]"#, "functions[1].name"),
        (r#""functions":[{"name":"f","parameters":7}]"#, "functions[0].parameters"),
        (r#""functions":[{"name":"f","x":7}]"#, "functions[0].x"),
        (r#""functions":[{"name":"f"}],"function_call":{"name":"g"}"#, "function_call.name"),
        (r#""functions":[{"name":"f"}],"function_call":{}"#, "function_call.name"),
        (r#""functions":[{"name":"f"}],"function_call":"required""#, "function_call"),
        (r#""functions":[{"name":"f"}],"tool_choice":"required""#, "tool_choice"),
        (r#""functions":[{"name":"f"}],"parallel_tool_calls":true"#, "parallel_tool_calls"),
        (
            r#""functions":[{"name":"f"}],"tools":[{"type":"function","function":{"name":"f"}}]"#,
            "tools",
        ),
        (r#""function_call":{"name":"f"}"#, "function_call"),
        (r#""typical_p":0"#, "typical_p"),
        (r#""xtc_probability":1.5"#, "xtc_probability"),
        (r#""xtc_threshold":0"#, "xtc_threshold"),
        (r#""mirostat":1"#, "mirostat"),
        (r#""mirostat":2,"mirostat_eta":2"#, "mirostat_eta"),
        (r#""dry_multiplier":-1"#, "dry_multiplier"),
        (r#""dry_allowed_length":0"#, "dry_allowed_length"),
        (r#""dry_sequence_breakers":["a",""]"#, "dry_sequence_breakers[1]"),
        (r#""bad_words":["a",""]"#, "bad_words[1]"),
        (r#""banned_strings":[1]"#, "banned_strings[0]"),
        (r#""min_tokens":-1"#, "min_tokens"),
        (r#""stop_token_ids":[-1]"#, "stop_token_ids[0]"),
        (r#""response_format":{"type":"xml"}"#, "response_format.type"),
        (r#""response_format":{}"#, "response_format.type"),
        (r#""response_format":{"type":"json_schema"}"#, "response_format.json_schema"),
        (
            r#""response_format":{"type":"json_schema","json_schema":{}}"#,
            "response_format.json_schema.schema",
        ),
        (r#""response_format":{"type":"json_object","x":1}"#, "response_format.x"),
        (r#""guided_json":"{""#, "guided_json"),
        (r#""guided_choice":["a",1]"#, "guided_choice[1]"),
        (r#""guided_regex":"a","guided_json":{}"#, "guided_regex"),
        (r#""grammar":["root ::= \"a\""]"#, "grammar"),
        (r#""grammar":"root ::= \"a\"","guided_regex":"a""#, "grammar"),
        (r#""structured_outputs":{"regex":"a","choice":["a"]}"#, "structured_outputs.choice"),
        (r#""structured_outputs":{"whitespace":"a"}"#, "structured_outputs.whitespace"),
        (r#""modalities":["text","audio"]"#, "modalities"),
        (r#""audio":{"voice":"x"}"#, "audio"),
        (r#""web_search_options":{}"#, "web_search_options"),
        (r#""reasoning_effort":"huge""#, "reasoning_effort"),
        (
            r#""reasoning_effort":"low","chat_template_kwargs":{"reasoning_effort":"high"}"#,
            "reasoning_effort",
        ),
        (r#""chat_template_kwargs":{"messages":[]}"#, "chat_template_kwargs.messages"),
        (r#""stream_options":{"include_usage":true}"#, "stream_options"),
        (r#""stream":true,"stream_options":{"x":1}"#, "stream_options.x"),
        (r#""stream":"yes""#, "stream"),
        (r#""model":7"#, "model"),
        (r#""repeat_penalty":1.1,"repetition_penalty":1.2"#, "repeat_penalty"),
    ];
    for (field, param) in refused {
        let error = parse(with(field).as_bytes(), &Limits::default()).expect_err(field);
        assert_eq!(error.param.as_deref(), Some(param), "{field}: {error}");
        assert!(error.message.starts_with(param), "{field}: {error}");
    }
}

#[test]
fn settings_reach_the_call() {
    let body = with(
        r#""model":"a/b","n":2,"max_tokens":5,"max_completion_tokens":6,"temperature":0,"seed":3,
           "stop":"x","logprobs":true,"stream":true,"logit_bias":{"9":1}"#,
    );
    let call = parse(body.as_bytes(), &Limits::default()).unwrap().call;
    assert_eq!(call.model.as_deref(), Some("a/b"));
    assert_eq!((call.n_per_prompt, call.max_tokens, call.logprobs), (2, Some(6), Some(0)));
    assert_eq!(call.stop, ["x"]);
    assert_eq!(call.delivery, Delivery::Stream);
    let sampling = call.sampling.over(&crate::default_sampling());
    assert_eq!((sampling.temperature, sampling.top_p, sampling.seed), (0.0, 0.95, Some(3)));
    assert_eq!(sampling.logit_bias, [(9, 1.0)]);
}

#[test]
fn how_hard_to_think_is_a_wish() {
    let check = |field: &str, thinking, effort: Option<&'static str>| {
        let call = parse(with(field).as_bytes(), &Limits::default()).unwrap().call;
        let wish = |word| Wish { what: word, param: Some("reasoning_effort") };
        let wishes = Wishes { thinking, budget: None, effort: effort.map(wish) };
        assert_eq!(call.wishes, wishes, "{field}");
    };
    let off = Wish { what: Thinking::Off, param: Some("reasoning_effort") };
    let on = Wish { what: Thinking::On, param: None };
    check(r#""n":1"#, None, None);
    check(r#""reasoning_effort":"none""#, Some(off), None);
    check(r#""reasoning_effort":"xhigh""#, Some(on), Some("xhigh"));
    // Said to the template itself it is no wish.
    let said = r#""chat_template_kwargs":{"reasoning_effort":"low"}"#;
    check(said, None, None);
    check(&format!(r#"{said},"reasoning_effort":"low""#), None, None);
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(body in r#"\PC{0,40}|[\[\]{}:,"a-z0-9 ]{0,60}"#) {
        let _ = parse(body.as_bytes(), &Limits::default());
        let _ = parse(with(&body).as_bytes(), &Limits::default());
        let _ = parse(format!(r#"{{"messages":{body}}}"#).as_bytes(), &Limits::default());
    }
}
