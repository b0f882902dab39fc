//! Golden transcripts of messages, and the table of their parameters.

use super::messages::{CountTokens, FIELDS, Messages, parse, parse_count};
use crate::dialects::fields::{Field, Treatment};
use crate::dialects::golden::{Step, replay, text};
use crate::dialects::{Delivery, Dialect, Prompts, Thinking};
use crate::errors::ServerError;
use crate::limits::Limits;
use engine::FinishReason::{Length, Stop, StopString};
use engine::{ChatEnd, Part};
use proptest::prelude::*;
use serde_json::{Value, json};

fn check(request: &str, steps: Vec<Step>, expected: &str) {
    assert_eq!(replay::<Messages>(request, steps), expected, "{request}");
}

/// A request with `field` beside what it must have.
fn with(field: &str) -> String {
    let messages = r#"[{"role":"user","content":"hi"}]"#;
    format!(r#"{{"model":"m","max_tokens":5,"messages":{messages},{field}}}"#)
}

fn plain() -> String {
    with(r#""stream":false"#)
}

fn streamed() -> String {
    with(r#""stream":true"#)
}

fn part(part: Part) -> Step {
    Step::Part(0, part, Vec::new())
}

#[test]
fn a_whole_answer() {
    check(
        &plain(),
        vec![text(0, "Hel"), text(0, "lo\n\"you\""), Step::Done(0, Stop)],
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hello\n\"you\""}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":5}}"#,
    );
}

#[test]
fn a_stream() {
    check(
        &streamed(),
        vec![text(0, "Hé"), text(0, ""), text(0, "\n"), Step::Done(0, StopString("x".to_owned()))],
        concat!(
            "event: message_start\n",
            r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}"#,
            "\n\nevent: content_block_start\n",
            r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            "\n\nevent: content_block_delta\n",
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hé"}}"#,
            "\n\nevent: content_block_delta\n",
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\n"}}"#,
            "\n\nevent: content_block_stop\n",
            r#"data: {"type":"content_block_stop","index":0}"#,
            "\n\nevent: message_delta\n",
            r#"data: {"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"x"},"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":5}}"#,
            "\n\nevent: message_stop\n",
            r#"data: {"type":"message_stop"}"#,
            "\n\n",
        ),
    );
}

/// Thinking, text and two calls.
fn calling() -> Vec<Part> {
    vec![
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
    ]
}

fn steps(parts: Vec<Part>, reason: engine::FinishReason) -> Vec<Step> {
    parts.into_iter().map(part).chain([Step::Done(0, reason)]).collect()
}

#[test]
fn thinking_and_calls_are_blocks_of_their_own() {
    check(
        &plain(),
        steps(calling(), Stop),
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"Hm.","signature":""},{"type":"text","text":"So:"},{"type":"tool_use","id":"toolu_1_0","name":"f","input":{"x":1}},{"type":"tool_use","id":"toolu_1_1","name":"g","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":5}}"#,
    );
    let body = replay::<Messages>(&streamed(), steps(calling(), Stop));
    let data: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let expected = [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"."}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":""}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"So:"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1_0","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1_1","name":"g","input":{}}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        r#"{"type":"content_block_stop","index":3}"#,
    ];
    assert_eq!(data[1..data.len() - 2], expected);
    assert!(body.contains(r#""stop_reason":"tool_use","stop_sequence":null"#), "{body}");
}

#[test]
fn thinking_that_is_not_to_be_shown_leaves_its_block() {
    let field = r#""thinking":{"type":"enabled","budget_tokens":9,"display":"omitted"}"#;
    let body = replay::<Messages>(&with(field), steps(calling(), Stop));
    let body: Value = serde_json::from_str(&body).unwrap();
    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
    assert_eq!(body["content"][0], block);
    let field = format!(r#"{field},"stream":true"#);
    let body = replay::<Messages>(&with(&field), steps(calling(), Stop));
    assert!(body.contains("signature_delta") && !body.contains("thinking_delta"), "{body}");
}

#[test]
fn the_stop_reason_says_how_the_answer_ended() {
    let reason = |n_parts: usize, reason: engine::FinishReason, max_tokens: u32| {
        let parts: Vec<Part> = calling().into_iter().take(n_parts).collect();
        let request = |stream: bool| {
            let mut request: Value = serde_json::from_str(&plain()).unwrap();
            request["stream"] = stream.into();
            request["max_tokens"] = max_tokens.into();
            request.to_string()
        };
        let whole = replay::<Messages>(&request(false), steps(parts.clone(), reason.clone()));
        let whole: Value = serde_json::from_str(&whole).unwrap();
        let stream = replay::<Messages>(&request(true), steps(parts, reason));
        let told = |field: &str| format!(r#""{field}":{}"#, whole[field]);
        assert!(stream.contains(&told("stop_reason")), "{stream}");
        assert!(stream.contains(&told("stop_sequence")), "{stream}");
        let sequence = whole["stop_sequence"].as_str().map(str::to_owned);
        (whole["stop_reason"].as_str().unwrap().to_owned(), sequence)
    };
    let none = |word: &str| (word.to_owned(), None);
    let stopped = || StopString("x".to_owned());
    assert_eq!(reason(10, Stop, 5), none("tool_use"));
    assert_eq!(reason(3, Stop, 5), none("end_turn"));
    assert_eq!(reason(3, stopped(), 5), ("stop_sequence".to_owned(), Some("x".to_owned())));
    assert_eq!(reason(3, Length, 5), none("max_tokens"));
    // The golden answers are of five tokens.
    assert_eq!(reason(3, Length, 6), none("model_context_window_exceeded"));
    // A call that was cut off is never told as complete.
    assert_eq!(reason(5, Stop, 5), none("max_tokens"));
    assert_eq!(reason(5, stopped(), 5), none("max_tokens"));
    assert_eq!(reason(8, Length, 5), none("max_tokens"));
}

#[test]
fn a_call_that_was_cut_off_is_not_in_a_whole_answer() {
    let content = |n_parts: usize| {
        let parts = calling().into_iter().take(n_parts).collect();
        let body = replay::<Messages>(&plain(), steps(parts, Length));
        let body: Value = serde_json::from_str(&body).unwrap();
        let kind = |block: &Value| block["type"].as_str().unwrap().to_owned();
        body["content"].as_array().unwrap().iter().map(kind).collect::<Vec<String>>()
    };
    assert_eq!(content(5), ["thinking", "text"]);
    assert_eq!(content(9), ["thinking", "text", "tool_use"]);
}

#[test]
fn arguments_come_as_the_model_wrote_them() {
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for value in ["1e999", "123456789012345678901234567890", "1.0", &deep] {
        let arguments = format!(r#"{{"x": {value}}}"#);
        let call =
            [Part::CallBegin("f".to_owned()), Part::Arguments(arguments.clone()), Part::CallEnd];
        let body = replay::<Messages>(&plain(), steps(call.to_vec(), Stop));
        assert!(body.contains(&format!(r#""name":"f","input":{arguments}}}]"#)), "{body}");
        assert!(body.contains(r#""stop_reason":"tool_use""#), "{body}");
    }
}

#[test]
fn no_text_is_no_block() {
    let body = replay::<Messages>(&plain(), vec![text(0, ""), Step::Done(0, Stop)]);
    assert!(body.contains(r#""content":[]"#), "{body}");
    let calls = calling().split_off(3);
    let stream = replay::<Messages>(&streamed(), steps(calls, Stop));
    assert!(!stream.contains(r#""type":"text""#), "{stream}");
}

#[test]
fn a_stream_that_breaks_off_says_so_and_ends() {
    let failed = ServerError::Failed("it broke".to_owned());
    let body = replay::<Messages>(&streamed(), vec![text(0, "a"), Step::Fail(failed)]);
    let end = concat!(
        "event: error\n",
        r#"data: {"type":"error","error":{"type":"api_error","message":"it broke"}}"#,
        "\n\n",
    );
    assert!(body.ends_with(end), "{body}");
    assert!(!body.contains("message_stop"), "{body}");
}

#[test]
fn tokens_are_counted_without_an_answer() {
    let request = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(replay::<CountTokens>(request, Vec::new()), r#"{"input_tokens":3}"#);
    let parsed = parse_count(streamed().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(parsed.call.delivery, Delivery::Count);
    check(
        request,
        Vec::new(),
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: absent: expected an integer of at least 1"},"request_id":"req_1"}"#,
    );
}

/// What a client's own accumulation makes of a stream; the order of events is checked.
fn accumulated(stream: &str) -> Value {
    let mut message = Value::Null;
    let mut json = String::new();
    let mut is_open = false;
    for event in stream.split_terminator("\n\n") {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
        assert_ne!(message["stop"], true, "an event behind the last");
        match data["type"].as_str().unwrap() {
            "message_start" => message = data["message"].clone(),
            "content_block_start" => {
                assert!(!is_open, "blocks interleave: {stream}");
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(data["index"], content.len());
                content.push(data["content_block"].clone());
                (is_open, json) = (true, String::new());
            }
            "content_block_delta" => {
                assert!(is_open);
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(data["index"], content.len() - 1);
                let block = content.last_mut().unwrap();
                let delta = &data["delta"];
                let kind = delta["type"].as_str().unwrap();
                match kind {
                    "input_json_delta" => json.push_str(delta["partial_json"].as_str().unwrap()),
                    "signature_delta" => block["signature"] = delta["signature"].clone(),
                    _ => {
                        let field = kind.strip_suffix("_delta").unwrap();
                        let text = block[field].as_str().unwrap().to_owned();
                        block[field] = format!("{text}{}", delta[field].as_str().unwrap()).into();
                    }
                }
            }
            "content_block_stop" => {
                assert!(std::mem::take(&mut is_open));
                let content = message["content"].as_array_mut().unwrap();
                if content.last().unwrap()["type"] == "tool_use" {
                    content.last_mut().unwrap()["input"] = serde_json::from_str(&json).unwrap();
                }
            }
            "message_delta" => {
                for field in ["stop_reason", "stop_sequence"] {
                    message[field] = data["delta"][field].clone();
                }
                message["usage"] = data["usage"].clone();
            }
            "message_stop" => message["stop"] = true.into(),
            other => panic!("{other}"),
        }
    }
    assert_eq!(message.as_object_mut().unwrap().remove("stop"), Some(true.into()), "{stream}");
    message
}

/// Parts with their texts cut at the borders that `cuts` says.
fn cut(parts: Vec<Part>, cuts: &[bool]) -> Vec<Part> {
    let mut cuts = cuts.iter().cycle();
    let mut pieces = Vec::new();
    for part in parts {
        let (make, text): (fn(String) -> Part, String) = match part {
            Part::Text(text) => (Part::Text, text),
            Part::Reasoning(text) => (Part::Reasoning, text),
            Part::Arguments(text) => (Part::Arguments, text),
            whole => {
                pieces.push(whole);
                continue;
            }
        };
        let mut piece = String::new();
        for c in text.chars() {
            piece.push(c);
            if *cuts.next().unwrap() {
                pieces.push(make(std::mem::take(&mut piece)));
            }
        }
        pieces.push(make(piece));
    }
    pieces.retain(|part| !matches!(part, Part::Reasoning(text) if text.is_empty()));
    pieces
}

proptest! {
    #[test]
    fn a_stream_says_what_a_whole_answer_says(
        thinking in "\\PC{0,12}",
        said in "\\PC{0,12}",
        values in prop::collection::vec("\\PC{0,8}", 0..3),
        cuts in prop::collection::vec(any::<bool>(), 1..40),
        how in 0..3_usize,
    ) {
        let mut parts = vec![Part::Reasoning(thinking), Part::Text(said)];
        for value in values {
            parts.push(Part::CallBegin("f".to_owned()));
            parts.push(Part::Arguments(json!({"x": [value, 1.5, null]}).to_string()));
            parts.push(Part::CallEnd);
        }
        let reason = [Stop, Length, StopString("x".to_owned())][how].clone();
        let whole = replay::<Messages>(&plain(), steps(parts.clone(), reason.clone()));
        let whole: Value = serde_json::from_str(&whole).unwrap();
        let stream = replay::<Messages>(&streamed(), steps(cut(parts, &cuts), reason));
        prop_assert_eq!(accumulated(&stream), whole);
    }

    #[test]
    fn no_body_makes_the_reader_panic(body in r#"\PC{0,40}|[\[\]{}:,"a-z0-9 ]{0,60}"#) {
        let _ = parse(body.as_bytes(), &Limits::default());
        let _ = parse(with(&body).as_bytes(), &Limits::default());
        let messages = format!(r#"{{"model":"m","messages":{body}}}"#);
        let _ = parse_count(messages.as_bytes(), &Limits::default());
    }
}

/// Every border of an answer is cut, and every pair of borders.
#[test]
fn a_stream_says_what_a_whole_answer_says_however_it_is_cut() {
    let parts = || cut(calling(), &[false]);
    let whole = replay::<Messages>(&plain(), steps(parts(), Stop));
    let whole: Value = serde_json::from_str(&whole).unwrap();
    for n in 0..(1_u32 << 10) {
        let cuts: Vec<bool> = (0..10).map(|bit| n & (1 << bit) != 0).collect();
        let stream = replay::<Messages>(&streamed(), steps(cut(parts(), &cuts), Stop));
        assert_eq!(accumulated(&stream), whole, "{cuts:?}");
    }
}

/// A value of each known field that is taken, as JSON.
fn taken(name: &str) -> &'static [&'static str] {
    match name {
        "model" => &[r#""a/b""#],
        "messages" => &[r#"[{"role":"user","content":"a"}]"#],
        "system" => &[r#""s""#, r#"[{"type":"text","text":"s"}]"#],
        "max_tokens" => &["1", "100000000000"],
        "stream" => &["true"],
        "stop_sequences" => &["[]", r#"["a","b"]"#],
        "temperature" => &["0", "1.0", "2"],
        "top_k" => &["0", "40"],
        "top_p" => &["0", "0.5"],
        "thinking" => &[
            r#"{"type":"enabled","budget_tokens":1024}"#,
            r#"{"type":"adaptive","display":"omitted"}"#,
            r#"{"type":"disabled"}"#,
        ],
        "output_config" => &[
            r#"{"effort":"max"}"#,
            r#"{"format":{"type":"json_schema","schema":{"type":"object"}}}"#,
        ],
        "output_format" => &[r#"{"type":"json_schema","schema":{}}"#],
        "tools" => &[r#"[{"name":"f","input_schema":{}}]"#, "[]"],
        "tool_choice" => &[r#"{"type":"auto"}"#, r#"{"type":"none"}"#],
        "service_tier" => &[r#""auto""#, r#""standard_only""#],
        "speed" => &[r#""standard""#],
        "metadata" => &[r#"{"user_id":"x"}"#],
        "cache_control" => &[r#"{"type":"ephemeral"}"#],
        "context_management" => &[r#"{"edits":[]}"#],
        "diagnostics" => &["{}"],
        _ => &["[]"],
    }
}

/// Values of each honoured field that are refused, and the field that is named.
fn refused(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "model" => &[("7", "model"), ("null", "model")],
        "messages" => &[("[]", "messages"), ("[{}]", "messages[0].content")],
        "system" => &[("7", "system"), (r#"[{"type":"image"}]"#, "system[0].type")],
        "max_tokens" => &[("0", "max_tokens"), ("1.5", "max_tokens"), ("null", "max_tokens")],
        "stream" => &[(r#""yes""#, "stream")],
        "stop_sequences" => &[(r#""a""#, "stop_sequences"), (r#"["a",""]"#, "stop_sequences[1]")],
        "temperature" => &[("2.1", "temperature"), (r#""hot""#, "temperature")],
        "top_k" => &[("-1", "top_k")],
        "top_p" => &[("1.5", "top_p")],
        "thinking" => &[
            ("{}", "thinking.type"),
            (r#"{"type":"enabled"}"#, "thinking.budget_tokens"),
            (r#"{"type":"enabled","budget_tokens":0}"#, "thinking.budget_tokens"),
            (r#"{"type":"between_tools"}"#, "thinking.type"),
            (r#"{"type":"adaptive","display":"x"}"#, "thinking.display"),
        ],
        "output_config" => &[
            (r#"{"effort":"huge"}"#, "output_config.effort"),
            (r#"{"format":{"type":"text"}}"#, "output_config.format.type"),
            (r#"{"format":{"type":"json_schema"}}"#, "output_config.format.schema"),
        ],
        "output_format" => &[("7", "output_format")],
        "tools" => &[(r#"[{"name":"f"}]"#, "tools[0].input_schema")],
        "tool_choice" => &[(r#"{"type":"any"}"#, "tool_choice"), (r#""any""#, "tool_choice")],
        "service_tier" => &[(r#""priority""#, "service_tier")],
        "speed" => &[(r#""fast""#, "speed")],
        other => panic!("{other}: no value that is refused"),
    }
}

fn request(name: &str, value: &str) -> String {
    let mut request: Value = serde_json::from_str(&plain()).unwrap();
    request[name] = serde_json::from_str(value).unwrap();
    request.to_string()
}

#[test]
fn every_known_field_is_treated_as_the_table_says() {
    for Field { name, treatment, .. } in FIELDS {
        let ignored: &[&str] = if *treatment == Treatment::Ignored { &[name] } else { &[] };
        for value in taken(name) {
            let parsed = parse(request(name, value).as_bytes(), &Limits::default());
            let mut parsed = parsed.unwrap_or_else(|bad| panic!("{name}: {value}: {bad}"));
            assert_eq!(Messages::take_ignored(&mut parsed).kept(), ignored, "{name}: {value}");
        }
        let refused = match treatment {
            Treatment::Honoured | Treatment::Adapted => refused(name),
            Treatment::Refused(_) => &[(r#"["x"]"#, *name), (r#""x""#, *name)],
            Treatment::Tolerated | Treatment::Ignored => &[],
        };
        for (value, param) in refused {
            let bad = parse(request(name, value).as_bytes(), &Limits::default()).expect_err(value);
            assert_eq!(bad.param.as_deref(), Some(*param), "{name}: {value}: {bad}");
            assert!(bad.message.starts_with(param), "{bad}");
        }
    }
}

#[test]
fn unknown_fields_are_told() {
    let parsed = parse(with(r#""x":1,"y":null,"fallbacks":[]"#).as_bytes(), &Limits::default());
    let mut ignored = Messages::take_ignored(&mut parsed.unwrap()).kept().to_vec();
    ignored.sort_unstable();
    assert_eq!(ignored, ["fallbacks", "x"]);
}

#[test]
fn unknown_fields_take_no_memory_beyond_their_bound() {
    let blocks = vec![r#"{"type":"text","text":"a","x":1}"#; 10_000].join(",");
    let messages = format!(r#"[{{"role":"user","content":[{blocks}]}}]"#);
    let mut parsed = parse(request("messages", &messages).as_bytes(), &Limits::default()).unwrap();
    let ignored = Messages::take_ignored(&mut parsed);
    assert_eq!(ignored.n_all(), 10_000);
    assert!(ignored.kept().iter().map(String::len).sum::<usize>() < 4096);
}

#[test]
fn what_is_lost_is_told_by_the_clients_own_paths() {
    let messages = r#"[{"role":"user","content":"a"},{"role":"user","content":[
        {"type":"tool_result","tool_use_id":"t","content":"r"},{"type":"text","text":"b"}]}]"#;
    let parsed = parse(request("messages", messages).as_bytes(), &Limits::default()).unwrap();
    let place = |message_idx, field| Messages::place(&parsed, message_idx, field);
    assert_eq!(place(0, "name"), "messages[0].name");
    assert_eq!(place(1, "content"), "messages[1].content[tool_result]");
    assert_eq!(place(2, "reasoning_content"), "messages[1].content[thinking]");
}

#[test]
fn settings_reach_the_call() {
    let body = with(
        r#""system":"s","stop_sequences":["x"],"temperature":0,"top_k":4,"top_p":0.5,"stream":true,
           "thinking":{"type":"enabled","budget_tokens":7},"output_config":{"effort":"low"}"#,
    );
    let call = parse(body.as_bytes(), &Limits::default()).unwrap().call;
    assert_eq!((call.model.as_deref(), call.max_tokens), (Some("m"), Some(5)));
    assert_eq!((call.stop, call.delivery), (vec!["x".to_owned()], Delivery::Stream));
    let sampling = call.sampling.over(&crate::default_sampling());
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.0, 4, 0.5));
    assert_eq!(call.wishes.budget.map(|wish| wish.what), Some(7));
    assert_eq!(call.wishes.thinking.map(|wish| wish.what), Some(Thinking::On));
    assert_eq!(call.wishes.effort.map(|wish| wish.what), Some("low"));
    let Prompts::Chat { messages, end, .. } = call.prompts else { panic!("it is a chat") };
    let user = json!({"role": "user", "content": "hi"});
    assert_eq!(messages, json!([{"role": "system", "content": "s"}, user]));
    assert_eq!(end, ChatEnd::Answer);
}

#[test]
fn whoever_does_not_mention_thinking_wants_none() {
    for parse in [parse, parse_count] {
        let call = parse(plain().as_bytes(), &Limits::default()).unwrap().call;
        let thinking = call.wishes.thinking.unwrap();
        assert_eq!((thinking.what, thinking.param), (Thinking::Off, None));
    }
}

#[test]
fn thinking_that_is_all_shown_is_told_to_be_no_summary() {
    let ignored = |display: &str| {
        let thinking = format!(r#"{{"type":"adaptive","display":{display}}}"#);
        let body = request("thinking", &thinking);
        let mut parsed = parse(body.as_bytes(), &Limits::default()).unwrap();
        Messages::take_ignored(&mut parsed).kept().to_vec()
    };
    assert_eq!(ignored(r#""summarized""#), ["thinking.display"]);
    assert!(ignored(r#""omitted""#).is_empty() && ignored("null").is_empty());
}

#[test]
fn an_answer_that_has_begun_is_not_thought_about() {
    let mut body: Value = serde_json::from_str(&plain()).unwrap();
    body["messages"] = json!([{"role": "assistant", "content": "So"}]);
    for (thinking, is_taken) in [
        (json!(null), true),
        (json!({"type": "disabled"}), true),
        (json!({"type": "adaptive"}), true),
        (json!({"type": "enabled", "budget_tokens": 5}), false),
    ] {
        body["thinking"] = thinking;
        let found = parse(body.to_string().as_bytes(), &Limits::default());
        let param = found.as_ref().err().and_then(|bad| bad.param.as_deref());
        assert_eq!(param, (!is_taken).then_some("thinking"), "{body}");
    }
}

#[test]
fn an_answer_in_a_format_is_not_continued() {
    let mut body: Value = serde_json::from_str(&plain()).unwrap();
    body["messages"] = json!([{"role": "assistant", "content": "{"}]);
    assert!(parse(body.to_string().as_bytes(), &Limits::default()).is_ok());
    body["output_config"] = json!({"format": {"type": "json_schema", "schema": {}}});
    let bad = parse(body.to_string().as_bytes(), &Limits::default()).unwrap_err();
    assert_eq!(bad.param.as_deref(), Some("output_config.format.schema"));
}
