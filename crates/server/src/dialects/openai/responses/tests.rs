//! Golden transcripts of responses, and the table of their parameters.

use super::*;
use crate::dialects::Thinking;
use crate::dialects::declared::Treatment;
use crate::dialects::golden::{Step, cut, replay, text, token};
use crate::errors::ServerError;
use engine::FinishReason::{Length, Stop, StopString};
use engine::{FinishReason, Part};
use proptest::prelude::*;
use std::time::Duration;

fn check(request: &str, steps: Vec<Step>, expected: &str) {
    assert_eq!(replay::<Responses>(request, steps), expected, "{request}");
}

/// A request with `field` beside what it must have.
pub(super) fn with(field: &str) -> String {
    format!(r#"{{"model":"m","input":"hi",{field}}}"#)
}

fn part(part: Part) -> Step {
    Step::Part(0, part, Vec::new())
}

pub(super) fn steps(parts: Vec<Part>, reason: FinishReason) -> Vec<Step> {
    parts.into_iter().map(part).chain([Step::Done(0, reason)]).collect()
}

/// A train of thought, text and two calls.
pub(super) fn calling() -> Vec<Part> {
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

/// What every response of these tests tells of its request.
const TOLD: &str = r#""instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"service_tier":"default","store":false,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"truncation":"disabled""#;
const USAGE: &str = r#"{"input_tokens":3,"input_tokens_details":{"cached_tokens":2,"cache_write_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":8}"#;

fn response(status: &str, details: &str, output: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"resp_1","object":"response","created_at":7,"status":"{status}","background":false,"error":null,"incomplete_details":{details},"model":"m","output":[{output}],"temperature":0.8,"top_p":0.95,{TOLD},"usage":{usage}}}"#
    )
}

fn message(status: &str, text: &str) -> String {
    format!(
        r#"{{"type":"message","id":"msg_1_0","status":"{status}","role":"assistant","content":[{{"type":"output_text","text":"{text}","annotations":[],"logprobs":[]}}]}}"#
    )
}

#[test]
fn a_whole_answer() {
    check(
        r#"{"model":"m","input":"hi"}"#,
        vec![text(0, "Hel"), text(0, "lo\n\"you\""), Step::Done(0, Stop)],
        &response("completed", "null", &message("completed", r#"Hello\n\"you\""#), USAGE),
    );
}

#[test]
fn a_stream() {
    let events = [
        (
            "response.created",
            format!(r#""response":{}"#, response("in_progress", "null", "", "null")),
        ),
        (
            "response.in_progress",
            format!(r#""response":{}"#, response("in_progress", "null", "", "null")),
        ),
        (
            "response.output_item.added",
            r#""output_index":0,"item":{"type":"message","id":"msg_1_0","status":"in_progress","role":"assistant","content":[]}"#.to_owned(),
        ),
        (
            "response.content_part.added",
            r#""output_index":0,"item_id":"msg_1_0","content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}"#.to_owned(),
        ),
        (
            "response.output_text.delta",
            r#""output_index":0,"item_id":"msg_1_0","content_index":0,"delta":"Hé","logprobs":[]"#.to_owned(),
        ),
        (
            "response.output_text.delta",
            r#""output_index":0,"item_id":"msg_1_0","content_index":0,"delta":"\n","logprobs":[]"#.to_owned(),
        ),
        (
            "response.output_text.done",
            r#""output_index":0,"item_id":"msg_1_0","content_index":0,"text":"Hé\n","logprobs":[]"#.to_owned(),
        ),
        (
            "response.content_part.done",
            r#""output_index":0,"item_id":"msg_1_0","content_index":0,"part":{"type":"output_text","text":"Hé\n","annotations":[],"logprobs":[]}"#.to_owned(),
        ),
        (
            "response.output_item.done",
            format!(r#""output_index":0,"item":{}"#, message("incomplete", r"Hé\n")),
        ),
        (
            "response.incomplete",
            format!(
                r#""response":{}"#,
                response(
                    "incomplete",
                    r#"{"reason":"max_output_tokens"}"#,
                    &message("incomplete", r"Hé\n"),
                    USAGE
                )
            ),
        ),
    ];
    let event = |(n, (kind, data)): (usize, &(&str, String))| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{n},{data}}}\n\n")
    };
    check(
        &with(r#""stream":true"#),
        vec![text(0, "Hé"), text(0, ""), text(0, "\n"), Step::Done(0, Length)],
        &events.iter().enumerate().map(event).collect::<String>(),
    );
}

/// Types of the events of a stream, and their data.
fn events(stream: &str) -> Vec<(String, Value)> {
    let event = |(n, block): (usize, &str)| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!((name, n), (data["type"].as_str().unwrap(), n), "{stream}");
        assert_eq!(data["sequence_number"], n, "{stream}");
        (name.to_owned(), data)
    };
    stream.split_terminator("\n\n").enumerate().map(event).collect()
}

#[test]
fn every_part_of_an_answer_is_an_item() {
    let request = with(r#""include":["reasoning.encrypted_content"]"#);
    let whole: Value =
        serde_json::from_str(&replay::<Responses>(&request, steps(calling(), Stop))).unwrap();
    let call = |n: usize, name: &str, arguments: &str| {
        json!({"type": "function_call", "id": format!("fc_1_{}", n + 2), "name": name,
            "call_id": format!("call_1_{n}"), "arguments": arguments, "status": "completed"})
    };
    let text = json!({"type": "output_text", "text": "So:", "annotations": [], "logprobs": []});
    assert_eq!(
        whole["output"],
        json!([
            {"type": "reasoning", "id": "rs_1_0", "summary": [], "status": "completed",
                "content": [{"type": "reasoning_text", "text": "Hm."}],
                "encrypted_content": "freehold-reasoning:Hm."},
            {"type": "message", "id": "msg_1_1", "role": "assistant", "status": "completed",
                "content": [text]},
            call(0, "f", "{\"x\":1}"),
            call(1, "g", "{}"),
        ])
    );
    assert_eq!(whole["status"], "completed");
}

#[test]
fn a_call_has_the_namespace_of_its_function() {
    let space = json!({"type": "namespace", "name": "n", "description": "d",
        "tools": [{"type": "function", "name": "f"}]});
    let request = |stream: bool, input: Value| {
        json!({"input": input, "tools": [space, {"type": "function", "name": "f"}],
            "stream": stream})
        .to_string()
    };
    let call = |name: &str| [Part::CallBegin(name.to_owned()), Part::CallEnd];
    let parts = || steps([call("n__f"), call("f")].concat(), Stop);
    let whole: Value =
        serde_json::from_str(&replay::<Responses>(&request(false, json!("a")), parts())).unwrap();
    let calls = &whole["output"];
    assert_eq!((&calls[0]["name"], &calls[0]["namespace"]), (&json!("f"), &json!("n")));
    assert_eq!((&calls[1]["name"], &calls[1]["namespace"]), (&json!("f"), &Value::Null));
    let stream = replay::<Responses>(&request(true, json!("a")), parts());
    assert_eq!(accumulated(&stream), whole);
    // It comes back under the name that the model knows.
    let back = parse(request(false, calls.clone()).as_bytes(), &Limits::default()).unwrap();
    let Prompts::Chat { messages, .. } = back.call.prompts else { panic!("it is a chat") };
    let name = |n: usize| &messages[0]["tool_calls"][n]["function"]["name"];
    assert_eq!((name(0), name(1)), (&json!("n__f"), &json!("f")));
}

#[test]
fn the_events_of_an_answer_come_in_order() {
    let request = with(r#""stream":true,"reasoning":{"summary":"auto"}"#);
    let stream = replay::<Responses>(&request, steps(calling(), Stop));
    let events = events(&stream);
    let names: Vec<&str> =
        events.iter().map(|(name, _)| name.strip_prefix("response.").unwrap()).collect();
    let thought = [
        "output_item.added",
        "content_part.added",
        "reasoning_summary_part.added",
        "reasoning_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ];
    let said = [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ];
    let delta = "function_call_arguments.delta";
    let ends = ["function_call_arguments.done", "output_item.done"];
    let expected: Vec<&str> = ["created", "in_progress"]
        .into_iter()
        .chain(thought)
        .chain(said)
        .chain(["output_item.added", delta, delta])
        .chain(ends)
        .chain(["output_item.added", delta])
        .chain(ends)
        .chain(["completed"])
        .collect();
    assert_eq!(names, expected);
    let begun = &events[20].1["item"];
    assert_eq!(
        *begun,
        json!({"type": "function_call", "id": "fc_1_2", "call_id": "call_1_0", "name": "f",
            "arguments": "", "status": "in_progress"})
    );
    let summary = &events.last().unwrap().1["response"]["output"][0]["summary"];
    assert_eq!(*summary, json!([{"type": "summary_text", "text": "Hm."}]));
}

#[test]
fn a_call_with_a_text_has_events_of_its_own() {
    let parts = || {
        let begin = Part::CallBegin("n__t".to_owned());
        let arguments = ["{\"in", "put\": \"a\\", "n\\u00", "e9b", "\"}"];
        let arguments = arguments.map(|piece| Part::Arguments(piece.to_owned()));
        steps([vec![begin], arguments.to_vec(), vec![Part::CallEnd]].concat(), Stop)
    };
    let request = |stream: bool| {
        let tool = json!({"type": "custom", "name": "t"});
        let space = json!({"type": "namespace", "name": "n", "tools": [tool]});
        json!({"input": "a", "tools": [space], "stream": stream}).to_string()
    };
    let stream = replay::<Responses>(&request(true), parts());
    let item = json!({"type": "custom_tool_call", "id": "ctc_1_0", "call_id": "call_1_0",
        "name": "t", "namespace": "n", "input": "a\néb", "status": "completed"});
    let told: Vec<(String, Value)> = events(&stream)
        .into_iter()
        .filter(|(name, _)| name.contains("custom_tool_call_input"))
        .map(|(name, mut data)| {
            assert_eq!((&data["item_id"], &data["output_index"]), (&json!("ctc_1_0"), &json!(0)));
            let field = if name.ends_with("delta") { "delta" } else { "input" };
            (name, data[field].take())
        })
        .collect();
    let event =
        |kind: &str, text: &str| (format!("response.custom_tool_call_input.{kind}"), json!(text));
    let deltas = ["a", "\n", "éb"].map(|text| event("delta", text));
    assert_eq!(told, [&deltas[..], &[event("done", "a\néb")]].concat());
    let whole: Value =
        serde_json::from_str(&replay::<Responses>(&request(false), parts())).unwrap();
    assert_eq!((&accumulated(&stream), &whole["output"]), (&whole, &json!([item])));
    // One that was cut off has what came of it, and is never complete.
    let cut: Vec<Step> = parts().into_iter().take(3).chain([Step::Done(0, Length)]).collect();
    let cut = replay::<Responses>(&request(true), cut);
    let response = accumulated(&cut);
    assert!(!cut.contains("custom_tool_call_input.done"));
    let item = &response["output"][0];
    assert_eq!((&item["input"], &item["status"]), (&json!("a"), &json!("incomplete")));
}

/// What a client's own accumulation makes of a stream; the order of events is checked.
fn accumulated(stream: &str) -> Value {
    let mut response = Value::Null;
    let mut is_open = false;
    for (name, data) in events(stream) {
        let last = response["output"].as_array().map_or(0, Vec::len).saturating_sub(1);
        let text = |value: &Value, more: &Value| -> Value {
            format!("{}{}", value.as_str().unwrap(), more.as_str().unwrap()).into()
        };
        match name.strip_prefix("response.").unwrap() {
            "created" => response = data["response"].clone(),
            "in_progress" => assert_eq!(data["response"], response),
            "output_item.added" => {
                assert!(!std::mem::replace(&mut is_open, true), "items interleave: {stream}");
                let output = response["output"].as_array_mut().unwrap();
                assert_eq!(data["output_index"], output.len());
                output.push(data["item"].clone());
            }
            "output_item.done" => {
                assert!(std::mem::take(&mut is_open) && data["output_index"] == last);
                let item = &mut response["output"][last];
                item["status"] = data["item"]["status"].clone();
                if !data["item"]["encrypted_content"].is_null() {
                    item["encrypted_content"] = data["item"]["encrypted_content"].clone();
                }
                assert_eq!(*item, data["item"], "{stream}");
            }
            "completed" | "incomplete" => {
                assert!(!is_open, "{stream}");
                assert_eq!(data["response"]["output"], response["output"], "{stream}");
                return data["response"].clone();
            }
            event => {
                assert!(is_open && data["output_index"] == last, "{stream}");
                let item = &mut response["output"][last];
                assert_eq!(data["item_id"], item["id"]);
                let field = if event.contains("summary") { "summary" } else { "content" };
                let part_idx = data[format!("{field}_index")].as_u64().unwrap_or(0) as usize;
                match event {
                    "content_part.added" | "reasoning_summary_part.added" => {
                        item[field].as_array_mut().unwrap().push(data["part"].clone());
                    }
                    "custom_tool_call_input.delta" => {
                        item["input"] = text(&item["input"], &data["delta"]);
                    }
                    "custom_tool_call_input.done" => {
                        assert_eq!(item["input"], data["input"]);
                    }
                    "function_call_arguments.delta" => {
                        item["arguments"] = text(&item["arguments"], &data["delta"]);
                    }
                    "function_call_arguments.done" => {
                        assert_eq!(item["arguments"], data["arguments"]);
                    }
                    _ if event.ends_with(".delta") => {
                        let part = &mut item[field][part_idx];
                        part["text"] = text(&part["text"], &data["delta"]);
                        let more = data["logprobs"].as_array().cloned().unwrap_or_default();
                        if let Some(Value::Array(logprobs)) = part.get_mut("logprobs") {
                            logprobs.extend(more);
                        }
                    }
                    _ if event.ends_with("part.done") => {
                        assert_eq!(item[field][part_idx], data["part"]);
                    }
                    _ => assert_eq!(item[field][part_idx]["text"], data["text"], "{event}"),
                }
            }
        }
    }
    panic!("no end: {stream}");
}

/// A token for each piece of text, as the engine sends them; the others' tokens are beside.
pub(super) fn with_tokens(parts: Vec<Part>, reason: FinishReason) -> Vec<Step> {
    let step = |part| Step::Part(0, part, vec![token(97, -0.3, &[(98, -0.7)])]);
    parts.into_iter().map(step).chain([Step::Done(0, reason)]).collect()
}

proptest! {
    #[test]
    fn a_stream_says_what_a_whole_answer_says(
        thinking in "\\PC{0,12}",
        said in "\\PC{0,12}",
        values in prop::collection::vec("\\PC{0,8}", 0..4),
        cuts in prop::collection::vec(any::<bool>(), 1..40),
        how in 0..3_usize,
        n_left_out in 0..4_usize,
        more in 0..3_usize,
    ) {
        let mut parts = vec![Part::Reasoning(thinking), Part::Text(said)];
        for (n, value) in values.into_iter().enumerate() {
            let (name, arguments) = match n % 2 {
                0 => ("f", json!({"x": [value, 1.5, null]})),
                _ => ("t", json!({"input": value})),
            };
            parts.push(Part::CallBegin(name.to_owned()));
            parts.push(Part::Arguments(arguments.to_string()));
            parts.push(Part::CallEnd);
        }
        parts.truncate(parts.len() - n_left_out.min(parts.len()));
        let pieces = cut(parts, &cuts);
        let reason = [Stop, Length, StopString("x".to_owned())][how].clone();
        let more = [
            r#""include":["message.output_text.logprobs"],"top_logprobs":1"#,
            r#""include":["reasoning.encrypted_content"],"reasoning":{"summary":"auto"}"#,
            r#""temperature":0.3"#,
        ][more];
        let tools = r#""tools":[{"type":"custom","name":"t"}]"#;
        let request = |stream: bool| with(&format!(r#""stream":{stream},{tools},{more}"#));
        let answer = |stream| {
            let steps = with_tokens(pieces.clone(), reason.clone());
            replay::<Responses>(&request(stream), steps)
        };
        let whole: Value = serde_json::from_str(&answer(false)).unwrap();
        prop_assert_eq!(accumulated(&answer(true)), whole);
    }

    #[test]
    fn no_body_makes_the_reader_panic(body in r#"\PC{0,40}|[\[\]{}:,"a-z0-9 ]{0,60}"#) {
        let keeping = Limits { keep_responses: Some(Duration::MAX), ..Limits::default() };
        for limits in [&Limits::default(), &keeping] {
            let _ = parse(body.as_bytes(), limits);
            let _ = parse(with(&body).as_bytes(), limits);
            let _ = parse_count(format!(r#"{{"input":{body}}}"#).as_bytes(), limits);
        }
    }
}

/// Every border of an answer is cut, and every pair of borders.
#[test]
fn a_stream_says_what_a_whole_answer_says_however_it_is_cut() {
    let whole = replay::<Responses>(&with(r#""stream":false"#), steps(calling(), Stop));
    let whole: Value = serde_json::from_str(&whole).unwrap();
    for n in 0..(1_u32 << 10) {
        let cuts: Vec<bool> = (0..10).map(|bit| n & (1 << bit) != 0).collect();
        let parts = cut(cut(calling(), &[false]), &cuts);
        let stream = replay::<Responses>(&with(r#""stream":true"#), steps(parts, Stop));
        assert_eq!(accumulated(&stream), whole, "{cuts:?}");
    }
}

#[test]
fn a_call_that_was_cut_off_is_never_complete() {
    let stream = |n_parts: usize, reason| {
        let parts = calling().into_iter().take(n_parts).collect();
        let stream = replay::<Responses>(&with(r#""stream":true"#), steps(parts, reason));
        let response = accumulated(&stream);
        let n_done = stream.matches("event: response.function_call_arguments.done").count();
        let status = response["output"].as_array().unwrap().last().unwrap()["status"].clone();
        (n_done, status, response["status"].clone(), response["incomplete_details"].clone())
    };
    let cut = || json!({"reason": "max_output_tokens"});
    let incomplete = || json!("incomplete");
    assert_eq!(stream(5, Length), (0, incomplete(), incomplete(), cut()));
    assert_eq!(stream(8, Stop), (1, incomplete(), incomplete(), cut()));
    assert_eq!(stream(7, Length), (1, json!("completed"), incomplete(), cut()));
    assert_eq!(stream(10, Stop), (2, json!("completed"), json!("completed"), Value::Null));
}

#[test]
fn log_probabilities_are_of_the_text_alone() {
    let steps = || {
        vec![
            Step::Part(0, Part::Reasoning("Hm".to_owned()), vec![token(97, -1.0, &[])]),
            // The mark behind it.
            Step::Text(0, "hello", vec![token(258, -2.0, &[]), token(256, -0.3, &[])]),
            Step::Text(0, "!", vec![token(33, f32::NEG_INFINITY, &[(256, -0.3)])]),
            Step::Text(0, "", vec![token(258, -3.0, &[])]),
            Step::Done(0, Stop),
        ]
    };
    let request = with(r#""include":["message.output_text.logprobs"],"top_logprobs":1"#);
    let whole = replay::<Responses>(&request, steps());
    let tokens = concat!(
        r#"[{"token":"hello","logprob":-0.3,"bytes":[104,101,108,108,111],"top_logprobs":[]},"#,
        r#"{"token":"!","logprob":-9999.0,"bytes":[33],"top_logprobs":[{"token":"hello","logprob":-0.3,"bytes":[104,101,108,108,111]}]}]"#,
    );
    assert!(whole.contains(&format!(r#""logprobs":{tokens}"#)), "{whole}");
    let stream = replay::<Responses>(&request.replace('}', r#","stream":true}"#), steps());
    assert_eq!(accumulated(&stream), serde_json::from_str::<Value>(&whole).unwrap());
}

#[test]
fn a_stream_that_breaks_off_says_so_and_ends() {
    let failed = || ServerError::Failed("it broke".to_owned());
    let stream = with(r#""stream":true"#);
    let body = replay::<Responses>(&stream, vec![text(0, "a"), Step::Fail(failed())]);
    let events = events(&body);
    let (name, data) = events.last().unwrap();
    assert_eq!((&**name, events.len()), ("response.failed", 6));
    let response = &data["response"];
    assert_eq!(response["error"], json!({"code": "server_error", "message": "it broke"}));
    assert_eq!((&response["status"], &response["usage"]), (&json!("failed"), &Value::Null));
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert!(data["error"].is_null(), "clients raise on it: {data}");
}

#[test]
fn tokens_are_counted_without_an_answer() {
    let counted = replay::<CountInput>(&with(r#""stream":true"#), Vec::new());
    assert_eq!(counted, r#"{"object":"response.input_tokens","input_tokens":3}"#);
}

#[test]
fn the_response_tells_how_the_request_was_understood() {
    let request = with(
        r#""instructions":"Be brief.","max_output_tokens":9,"max_tool_calls":2,"metadata":{"a":"b"},
           "parallel_tool_calls":false,"reasoning":{"effort":"low","summary":"concise"},
           "service_tier":"flex","text":{"format":{"type":"json_object"}},"temperature":0.3,
           "top_p":1,"tools":[{"type":"web_search"},{"type":"function","name":"f"}],
           "tool_choice":{"type":"function","name":"f"},"store":false,"top_logprobs":2"#,
    );
    let body = replay::<Responses>(&request, vec![Step::Done(0, Stop)]);
    let told: Value = serde_json::from_str(&body).unwrap();
    let tool = json!({"type": "function", "name": "f", "description": "", "strict": true,
        "parameters": {"type": "object", "properties": {}}});
    for (field, expected) in [
        ("instructions", json!("Be brief.")),
        ("max_output_tokens", json!(9)),
        ("max_tool_calls", json!(2)),
        ("metadata", json!({"a": "b"})),
        ("parallel_tool_calls", json!(false)),
        ("reasoning", json!({"effort": "low", "summary": "concise"})),
        ("service_tier", json!("flex")),
        ("text", json!({"format": {"type": "json_object"}})),
        ("temperature", json!(0.3)),
        ("top_p", json!(1.0)),
        ("tools", json!([tool])),
        ("tool_choice", json!({"type": "function", "name": "f"})),
        ("top_logprobs", json!(2)),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
}

#[test]
fn only_what_is_known_is_told_and_held() {
    let long = "x".repeat(1 << 20);
    let text = |format: Value| json!({"text": {"format": format, "z": long}});
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"},
        "z": long, "output_schema": {"z": long}});
    let tools = |choice: Value| json!({"tools": [tool], "tool_choice": choice});
    let function = json!({"type": "function", "name": "f"});
    let schema = json!({"type": "json_schema", "name": "n", "description": "d", "schema": {},
        "strict": true});
    let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [function]});
    let mut long_allowed = allowed.clone();
    long_allowed["tools"] = json!([{"type": "function", "name": "f", "z": long}, {"type": long}]);
    let (mut long_schema, mut long_function) = (schema.clone(), function.clone());
    for known in [&mut long_schema, &mut long_function, &mut long_allowed] {
        known["z"] = json!({"z": long});
    }
    let plain = json!({"format": {"type": "text"}});
    for (more, field, expected) in [
        (text(json!({"type": "text", "name": long})), "text", plain),
        (text(long_schema), "text", json!({"format": schema})),
        (tools(long_function), "tool_choice", function.clone()),
        (tools(long_allowed), "tool_choice", allowed),
        (tools(json!("required")), "tool_choice", json!("required")),
    ] {
        let mut request = json!({"input": "hi"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = replay::<Responses>(&request.to_string(), vec![Step::Done(0, Stop)]);
        assert!(body.len() < 2000, "{field}: {} bytes", body.len());
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(told[field], expected);
    }
}

/// A value of each known field that is taken, as JSON, and what is told of it.
fn taken(name: &str) -> &'static [&'static str] {
    match name {
        "model" | "instructions" => &[r#""a/b""#],
        "input" => &[r#""a""#, r#"[{"role":"user","content":"a"}]"#],
        "store" | "background" => &["false"],
        "stream" | "parallel_tool_calls" => &["true", "false"],
        "previous_response_id" => &["null"],
        "max_output_tokens" | "max_tool_calls" => &["1", "100000000000"],
        "temperature" => &["0", "1.0", "2"],
        "top_p" | "min_p" => &["0", "0.5"],
        "top_k" => &["0", "40"],
        "seed" => &["-1", "7"],
        "stop" => &[r#""a""#, r#"["a","b"]"#, "[]"],
        "top_logprobs" => &["0", "20"],
        "include" => &["[]", r#"["reasoning.encrypted_content","web_search_call.results"]"#],
        "text" => &[
            r#"{"format":{"type":"text"}}"#,
            r#"{"format":{"type":"json_schema","name":"n","schema":{},"strict":true}}"#,
        ],
        "reasoning" => &["{}", r#"{"effort":"minimal"}"#, r#"{"effort":null,"summary":null}"#],
        "tools" => &[r#"[{"type":"function","name":"f"}]"#, "[]"],
        "tool_choice" => &[r#""auto""#, r#""none""#],
        "truncation" => &[r#""disabled""#, r#""auto""#],
        "service_tier" => &[r#""auto""#, r#""flex""#],
        "metadata" => &["{}", r#"{"a":"b"}"#],
        _ => &[r#""x""#, "{}"],
    }
}

/// Values of each honoured field that are refused, and the field that is named.
fn refused(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "model" => &[("7", "model")],
        "input" => &[
            ("null", "input"),
            ("[]", "input"),
            (r#"[{"role":"system","content":""}]"#, "input"),
            (r#"[{"type":"x"}]"#, "input[0].type"),
        ],
        "instructions" => &[("7", "instructions")],
        "previous_response_id" => &[(r#""resp_1""#, "previous_response_id")],
        "store" => &[("true", "store"), ("1", "store")],
        "stream" => &[(r#""yes""#, "stream")],
        "background" => &[("true", "background")],
        "max_output_tokens" => &[("0", "max_output_tokens"), ("1.5", "max_output_tokens")],
        "max_tool_calls" => &[("0", "max_tool_calls")],
        "temperature" => &[("2.1", "temperature"), (r#""hot""#, "temperature")],
        "top_p" => &[("1.5", "top_p")],
        "min_p" => &[("-1", "min_p")],
        "top_k" => &[("-1", "top_k")],
        "seed" => &[(r#""x""#, "seed")],
        "stop" => &[("7", "stop"), (r#"["a",""]"#, "stop[1]")],
        "top_logprobs" => &[("21", "top_logprobs")],
        "include" => &[(r#""x""#, "include"), ("[7]", "include[0]")],
        "text" => &[
            (r#"{"format":{}}"#, "text.format.type"),
            (r#"{"format":{"type":"json_schema"}}"#, "text.format.schema"),
            (r#"{"verbosity":7}"#, "text.verbosity"),
        ],
        "reasoning" => &[
            (r#"{"effort":"huge"}"#, "reasoning.effort"),
            (r#"{"summary":"x"}"#, "reasoning.summary"),
        ],
        "tools" => &[(r#"[{"type":"function"}]"#, "tools[0].name")],
        "tool_choice" => &[(r#""any""#, "tool_choice"), (r#""required""#, "tool_choice")],
        "parallel_tool_calls" => &[("1", "parallel_tool_calls")],
        "truncation" => &[(r#""x""#, "truncation"), ("true", "truncation")],
        "service_tier" => &[(r#""ultrafast""#, "service_tier")],
        "metadata" => &[("[]", "metadata"), (r#"{"a":1}"#, "metadata.a")],
        other => panic!("{other}: no value that is refused"),
    }
}

fn request(name: &str, value: &str) -> String {
    let mut request = json!({"model": "m", "input": "hi"});
    request[name] = serde_json::from_str(value).unwrap();
    request.to_string()
}

fn ignored(body: &str) -> Vec<String> {
    let parsed = parse(body.as_bytes(), &Limits::default());
    let mut parsed = parsed.unwrap_or_else(|bad| panic!("{body}: {bad}"));
    let mut ignored = Responses::take_ignored(&mut parsed).kept().to_vec();
    ignored.sort_unstable();
    ignored
}

#[test]
fn every_known_field_is_treated_as_the_table_says() {
    for Field { name, treatment, .. } in FIELDS {
        let is_refused = matches!(treatment, Treatment::Refused(_));
        let expected: &[&str] = if *treatment == Treatment::Ignored { &[name] } else { &[] };
        for value in taken(name).iter().filter(|_| !is_refused) {
            assert_eq!(ignored(&request(name, value)), expected, "{name}: {value}");
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
fn what_has_no_effect_is_told() {
    let body = with(
        r#""x":1,"y":null,"text":{"verbosity":"low","z":1},"include":["no.such"],
           "reasoning":{"effort":"low","summary":"auto","mode":"standard"},
           "tools":[{"type":"local_shell"}]"#,
    );
    let expected = [
        "include[0]",
        "reasoning.mode",
        "reasoning.summary",
        "text.verbosity",
        "text.z",
        "tools[0]",
        "x",
    ];
    assert_eq!(ignored(&body), expected);
    let parts = vec![r#"{"type":"input_text","text":"a","x":1}"#; 10_000].join(",");
    let body = request("input", &format!(r#"[{{"role":"user","content":[{parts}]}}]"#));
    let mut parsed = parse(body.as_bytes(), &Limits::default()).unwrap();
    let many = Responses::take_ignored(&mut parsed);
    assert_eq!(many.n_all(), 10_000);
    assert!(many.kept().iter().map(String::len).sum::<usize>() < 4096);
}

#[test]
fn settings_reach_the_call() {
    let body = with(
        r#""instructions":"s","stop":"x","temperature":0,"top_k":4,"top_p":0.5,"min_p":0.1,"seed":3,
           "stream":true,"max_output_tokens":5,"reasoning":{"effort":"low"},"top_logprobs":2,
           "service_tier":"flex""#,
    );
    let call = parse(body.as_bytes(), &Limits::default()).unwrap().call;
    assert_eq!((call.model.as_deref(), call.max_tokens), (Some("m"), Some(5)));
    assert_eq!((call.stop, call.delivery), (vec!["x".to_owned()], Delivery::Stream));
    assert_eq!((call.logprobs, call.priority), (Some(2), Priority::Batch));
    let sampling = call.sampling.over(&crate::default_sampling());
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.0, 4, 0.5));
    assert_eq!((sampling.min_p, sampling.seed), (0.1, Some(3)));
    assert_eq!(call.wishes.thinking.map(|wish| wish.what), Some(Thinking::On));
    assert_eq!(call.wishes.effort.map(|wish| wish.what), Some("low"));
    let Prompts::Chat { messages, end, .. } = call.prompts else { panic!("it is a chat") };
    let user = json!({"role": "user", "content": "hi"});
    assert_eq!(messages, json!([{"role": "system", "content": "s"}, user]));
    assert_eq!(end, ChatEnd::Answer);
    let none = request("reasoning", r#"{"effort":"none"}"#);
    let wishes = parse(none.as_bytes(), &Limits::default()).unwrap().call.wishes;
    assert_eq!(wishes.thinking.map(|wish| wish.what), Some(Thinking::Off));
    assert!(wishes.effort.is_none());
}

#[test]
fn metadata_is_bounded() {
    let check = |metadata: Value, is_taken: bool| {
        let body = request("metadata", &metadata.to_string());
        let found = parse(body.as_bytes(), &Limits::default());
        assert_eq!(found.is_ok(), is_taken, "{metadata}");
    };
    let many = |n: usize| (0..n).map(|i| (i.to_string(), "x".into())).collect::<Map<_, _>>();
    check(many(16).into(), true);
    check(many(17).into(), false);
    check(json!({"é".repeat(64): "é".repeat(512)}), true);
    check(json!({"é".repeat(65): "x"}), false);
    check(json!({"x": "é".repeat(513)}), false);
}
