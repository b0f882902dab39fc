//! Golden transcripts of chat and generate, and the tables of their fields.

use super::chat::{self, Chat};
use super::generate::{self, Generate};
use super::settings::OPTIONS;
use super::{GenerationRequest, changes, embed, error_body};
use crate::dialects::declared::{Field, Treatment};
use crate::dialects::golden::{Step, replay, text, token};
use crate::dialects::{Delivery, Dialect, Overlong, PlainPrompt, Prompts, Thinking};
use crate::errors::{BadRequest, ServerError};
use crate::limits::Limits;
use engine::FinishReason::{Length, Stop, StopString};
use engine::{ChatEnd, Part};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The end of a golden answer: 40 ns in all, of which 10 to open the model; none for one token.
const END: &str = concat!(
    r#""total_duration":40,"load_duration":10,"prompt_eval_count":3,"prompt_eval_cached_count":2,"#,
    r#""prompt_eval_duration":20,"eval_count":5,"eval_duration":1}"#,
    "\n"
);
const HEAD: &str = r#"{"model":"m","created_at":"1970-01-01T00:00:07.000000008Z""#;

/// A chat with `field` beside what it must have.
fn with(field: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{field}}}"#)
}

fn plain() -> String {
    with(r#""stream":false"#)
}

fn prompt(field: &str) -> String {
    format!(r#"{{"model":"m","prompt":"hi",{field}}}"#)
}

fn steps(parts: Vec<Part>, reason: engine::FinishReason) -> Vec<Step> {
    let part = |part| Step::Part(0, part, Vec::new());
    parts.into_iter().map(part).chain([Step::Done(0, reason)]).collect()
}

#[test]
fn whole_answers() {
    let said = || vec![text(0, "Hel"), text(0, "lo\n\"you\""), Step::Done(0, Stop)];
    assert_eq!(
        replay::<Chat>(&plain(), said()),
        format!(
            r#"{HEAD},"message":{{"role":"assistant","content":"Hello\n\"you\""}},"done":true,"done_reason":"stop",{END}"#
        )
    );
    assert_eq!(
        replay::<Generate>(&prompt(r#""stream":false"#), said()),
        format!(
            r#"{HEAD},"response":"Hello\n\"you\"","done":true,"done_reason":"stop",{}"#,
            with_context()
        )
    );
}

#[test]
fn streams_are_what_comes_unasked() {
    let said = || vec![text(0, "Hé"), text(0, ""), text(0, "\n"), Step::Done(0, Length)];
    assert_eq!(
        replay::<Chat>(&with(r#""x":1"#), said()),
        [
            format!(r#"{HEAD},"message":{{"role":"assistant","content":"Hé"}},"done":false}}"#),
            format!(r#"{HEAD},"message":{{"role":"assistant","content":"\n"}},"done":false}}"#),
            format!(
                r#"{HEAD},"message":{{"role":"assistant","content":""}},"done":true,"done_reason":"length",{END}"#
            ),
        ]
        .join("\n")
    );
    assert_eq!(
        replay::<Generate>(&prompt(r#""stream":true"#), said()),
        [
            format!(r#"{HEAD},"response":"Hé","done":false}}"#),
            format!(r#"{HEAD},"response":"\n","done":false}}"#),
            format!(
                r#"{HEAD},"response":"","done":true,"done_reason":"length",{}"#,
                with_context()
            ),
        ]
        .join("\n")
    );
    // The ids of the answer come behind those of the prompt, also of what has no text.
    let tokens = || {
        vec![
            Step::Text(0, "a", vec![token(7, -1.0, &[])]),
            Step::Text(0, "", vec![token(8, -1.0, &[]), token(9, -1.0, &[])]),
            Step::Done(0, Stop),
        ]
    };
    for stream in [true, false] {
        let body = prompt(&format!(r#""stream":{stream}"#));
        let answer = replay::<Generate>(&body, tokens());
        assert!(answer.ends_with("\"context\":[97,98,257,7,8,9]}\n"), "{answer}");
    }
}

/// The same of what is generated for one turn, the prompt's ids at the end.
fn with_context() -> String {
    END.replace("}\n", ",\"context\":[97,98,257]}\n")
}

#[test]
fn without_a_prompt_a_model_is_opened_or_closed() {
    let check = |body: &str, reason: &str, delivery: Delivery| {
        let chat = format!(r#"{{"model":"m","messages":[]{body}}}"#);
        let generate = format!(r#"{{"model":"m","prompt":""{body}}}"#);
        let end = format!(
            r#""done":true,"done_reason":"{reason}","total_duration":40,"load_duration":10}}"#
        );
        let message = r#""message":{"role":"assistant","content":""}"#;
        assert_eq!(replay::<Chat>(&chat, Vec::new()), format!("{HEAD},{message},{end}\n"));
        assert_eq!(
            replay::<Generate>(&generate, Vec::new()),
            format!(r#"{HEAD},"response":"",{end}"#) + "\n"
        );
        let parsed = generate::parse(generate.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(parsed.call.delivery, delivery);
    };
    check("", "load", Delivery::Load);
    check(r#","keep_alive":"5m","stream":false,"format":"json""#, "load", Delivery::Load);
    check(r#","keep_alive":0"#, "unload", Delivery::Unload);
    check(r#","keep_alive":"0s""#, "unload", Delivery::Unload);
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

#[test]
fn calls_come_whole_and_their_arguments_are_objects() {
    let message = r#""message":{"role":"assistant","content":"#;
    let calls = [
        r#"{"id":"call_1_0","function":{"index":0,"name":"f","arguments":{"x":1}}}"#,
        r#"{"id":"call_1_1","function":{"index":1,"name":"g","arguments":{}}}"#,
    ];
    assert_eq!(
        replay::<Chat>(&plain(), steps(calling(), Stop)),
        format!(
            r#"{HEAD},{message}"So:","thinking":"Hm.","tool_calls":[{}]}},"done":true,"done_reason":"stop",{END}"#,
            calls.join(",")
        )
    );
    let stream = replay::<Chat>(&with(r#""stream":true"#), steps(calling(), Stop));
    let lines: Vec<&str> = stream.lines().collect();
    let expected = [
        format!(r#"{HEAD},{message}"","thinking":"Hm"}},"done":false}}"#),
        format!(r#"{HEAD},{message}"","thinking":"."}},"done":false}}"#),
        format!(r#"{HEAD},{message}"So:"}},"done":false}}"#),
        format!(r#"{HEAD},{message}"","tool_calls":[{}]}},"done":false}}"#, calls[0]),
        format!(r#"{HEAD},{message}"","tool_calls":[{}]}},"done":false}}"#, calls[1]),
    ];
    assert_eq!(lines[..5], expected);
}

#[test]
fn a_call_that_was_cut_off_is_no_call() {
    for (n_parts, n_calls) in [(5, 0), (8, 1)] {
        let parts: Vec<Part> = calling().into_iter().take(n_parts).collect();
        for request in [plain(), with(r#""stream":true"#)] {
            let body = replay::<Chat>(&request, steps(parts.clone(), Stop));
            assert_eq!(body.matches(r#""name":"#).count(), n_calls, "{body}");
            assert!(body.contains(r#""done_reason":"length""#), "{body}");
        }
    }
}

#[test]
fn arguments_come_as_the_model_wrote_them() {
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for value in ["1e999", "123456789012345678901234567890", "1.0", &deep] {
        let arguments = format!(r#"{{"x": {value}}}"#);
        let call =
            [Part::CallBegin("f".to_owned()), Part::Arguments(arguments.clone()), Part::CallEnd];
        let body = replay::<Chat>(&plain(), steps(call.to_vec(), Stop));
        assert!(body.contains(&format!(r#""name":"f","arguments":{arguments}}}}}"#)), "{body}");
    }
}

#[test]
fn a_stream_that_breaks_off_says_so_and_ends() {
    let failed = || Step::Fail(ServerError::Failed("it broke".to_owned()));
    let body = replay::<Chat>(&with(r#""x":1"#), vec![text(0, "a"), failed()]);
    assert!(body.ends_with("\n{\"error\":\"it broke\"}\n"), "{body}");
    assert!(!body.contains(r#""done":true"#), "{body}");
}

#[test]
fn logprobs_stand_beside_the_text_of_their_tokens() {
    let field = r#""logprobs":true,"top_logprobs":1"#;
    let told = |id: u32| vec![token(id, -0.5, &[(id, -0.5)])];
    let steps = || {
        vec![
            Step::Text(0, "a", told(97)),
            Step::Part(0, Part::CallBegin("f".to_owned()), told(98)),
            Step::Part(0, Part::Arguments("{}".to_owned()), told(99)),
            Step::Part(0, Part::CallEnd, told(100)),
            Step::Text(0, "", told(101)),
            Step::Done(0, Stop),
        ]
    };
    let entry = r#"{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]}]}"#;
    let stream = replay::<Chat>(&with(field), steps());
    let counts: Vec<usize> =
        stream.lines().map(|line| line.matches(r#""top_logprobs""#).count()).collect();
    assert_eq!(counts, [1, 3, 1]);
    assert!(stream.contains(&format!(r#","logprobs":[{entry}],"done":false"#)), "{stream}");
    let whole = replay::<Chat>(&with(&format!(r#"{field},"stream":false"#)), steps());
    assert_eq!(whole.matches(r#""top_logprobs""#).count(), 5);
}

#[test]
fn errors_have_the_shape_clients_read() {
    let check = |error: ServerError, expected: &str| {
        assert_eq!(error_body(&error), format!("{{\"error\":{expected}}}\n"));
    };
    check(
        BadRequest::field("prompt", "7: expected a string").into(),
        r#""prompt: 7: expected a string""#,
    );
    check(
        ServerError::ModelNotFound { asked: "x".to_owned(), served: vec!["a".to_owned()] },
        r#""model 'x' not found, try pulling it first; served here: a""#,
    );
    let refused = replay::<Chat>(r#"{"model":"m","messages":[{"role":"user"}]}"#, Vec::new());
    assert_eq!(refused, "{\"error\":\"messages[0].content: absent: expected a string\"}\n");
}

/// What a client's own accumulation makes of a stream.
fn accumulated(stream: &str) -> Value {
    let mut whole = Value::Null;
    let mut thinking = String::new();
    let mut content = String::new();
    let mut calls: Vec<Value> = Vec::new();
    for line in stream.split_inclusive('\n') {
        assert!(line.ends_with('\n'), "{line}");
        assert_ne!(whole["done"], true, "a line behind the last");
        whole = serde_json::from_str(line).unwrap();
        let message = &whole["message"];
        content.push_str(message["content"].as_str().unwrap());
        thinking.push_str(message["thinking"].as_str().unwrap_or_default());
        calls.extend(message["tool_calls"].as_array().into_iter().flatten().cloned());
    }
    let message = whole["message"].as_object_mut().unwrap();
    message.insert("content".to_owned(), content.into());
    if !thinking.is_empty() {
        message.insert("thinking".to_owned(), thinking.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    whole
}

/// The parts with their texts cut where `cuts` says.
fn cut(parts: Vec<Part>, cuts: &[bool]) -> Vec<Part> {
    let mut cuts = cuts.iter().cycle();
    let mut pieces = Vec::new();
    for part in parts {
        let (make, whole): (fn(String) -> Part, String) = match part {
            Part::Text(whole) => (Part::Text, whole),
            Part::Reasoning(whole) => (Part::Reasoning, whole),
            Part::Arguments(whole) => (Part::Arguments, whole),
            other => {
                pieces.push(other);
                continue;
            }
        };
        let mut piece = String::new();
        for c in whole.chars() {
            piece.push(c);
            if *cuts.next().unwrap() {
                pieces.push(make(std::mem::take(&mut piece)));
            }
        }
        pieces.push(make(piece));
    }
    pieces
}

proptest! {
    #[test]
    fn a_stream_says_what_a_whole_answer_says(
        thinking in "\\PC{0,12}",
        said in "\\PC{0,12}",
        values in prop::collection::vec("\\PC{0,8}", 0..3),
        cuts in prop::collection::vec(any::<bool>(), 1..40),
        n_parts in 0..12_usize,
        how in 0..3_usize,
    ) {
        let mut parts = vec![Part::Reasoning(thinking), Part::Text(said)];
        for value in values {
            parts.push(Part::CallBegin("f".to_owned()));
            parts.push(Part::Arguments(json!({"x": [value, 1.5, null]}).to_string()));
            parts.push(Part::CallEnd);
        }
        // Also cut off anywhere.
        parts.truncate(n_parts);
        let reason = [Stop, Length, StopString("x".to_owned())][how].clone();
        let whole = replay::<Chat>(&plain(), steps(parts.clone(), reason.clone()));
        let whole: Value = serde_json::from_str(&whole).unwrap();
        let stream = with(r#""stream":true"#);
        let stream = replay::<Chat>(&stream, steps(cut(parts, &cuts), reason));
        prop_assert_eq!(accumulated(&stream), whole);
    }

    #[test]
    fn no_body_makes_a_reader_panic(body in r#"\PC{0,40}|[\[\]{}:,"a-z0-9 ]{0,60}"#) {
        for body in [body.clone(), with(&body), prompt(&body)] {
            let _ = chat::parse(body.as_bytes(), &Limits::default());
            let _ = generate::parse(body.as_bytes(), &Limits::default());
            let _ = embed::parse_embed(body.as_bytes(), &Limits::default());
            let _ = super::check_model_requests(body.as_bytes());
        }
    }
}

/// Values of a field that are taken, as JSON.
fn taken(name: &str) -> &'static [&'static str] {
    match name {
        "model" | "name" => &[r#""a/b:latest""#],
        "messages" => &[r#"[{"role":"user","content":"a"}]"#, "null"],
        "prompt" | "system" => &[r#""s""#, r#""""#, "null"],
        "tools" => &[r#"[{"type":"function","function":{"name":"f"}}]"#, "[]"],
        "stream" | "raw" | "logprobs" => &["true", "false"],
        "truncate" | "shift" => &["false"],
        "format" => &[r#""""#, r#""json""#, r#"{"type":"object"}"#],
        "think" => &["true", "false", r#""low""#, r#""medium""#, r#""high""#],
        "keep_alive" => &["0", "-1", "1800", r#""5m""#],
        "options" => &["{}", r#"{"temperature":0,"stop":["x"],"num_predict":-1}"#],
        "top_logprobs" => &["0"],
        "suffix" => &[r#""end""#, r#""""#, "null"],
        "context" => &["[]", "[1,2.0]", "null"],
        _ => &[r#""""#, "[]"],
    }
}

/// Values of an honoured field that are refused, and the field that is named.
fn refused(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "model" => &[("7", "model"), ("null", "model"), (r#""""#, "model")],
        "name" => &[("7", "name")],
        "messages" => &[("7", "messages"), ("[{}]", "messages[0].role")],
        "prompt" => &[("7", "prompt"), (r#"["a"]"#, "prompt")],
        "system" => &[("7", "system")],
        "suffix" => &[("7", "suffix"), ("[]", "suffix")],
        "context" => &[("7", "context"), (r#""""#, "context"), ("[-1]", "context[0]")],
        "tools" => &[("7", "tools"), ("[{}]", "tools[0].function")],
        "stream" => &[(r#""yes""#, "stream")],
        "raw" => &[(r#""yes""#, "raw")],
        "truncate" => &[(r#""yes""#, "truncate")],
        "shift" => &[("1", "shift")],
        "logprobs" => &[("5", "logprobs")],
        "format" => &[(r#""xml""#, "format"), ("7", "format")],
        "think" => &[(r#""huge""#, "think"), ("7", "think")],
        "keep_alive" => &[(r#""soon""#, "keep_alive"), ("[]", "keep_alive")],
        "options" => &[
            ("7", "options"),
            (r#"{"temperature":"hot"}"#, "options.temperature"),
            (r#"{"num_ctx":0}"#, "options.num_ctx"),
            (r#"{"num_predict":-3}"#, "options.num_predict"),
            (r#"{"top_p":2}"#, "options.top_p"),
            (r#"{"mirostat":1}"#, "options.mirostat"),
            (r#"{"stop":[""]}"#, "options.stop[0]"),
            (r#"{"seed":1.5}"#, "options.seed"),
        ],
        "top_logprobs" => &[("21", "top_logprobs"), ("5", "top_logprobs")],
        other => panic!("{other}: no value that is refused"),
    }
}

type Parse = fn(&[u8], &Limits) -> Result<GenerationRequest, BadRequest>;

fn check_table(fields: &[Field], body: &str, parse: Parse) {
    let request = |name: &str, value: &str| {
        let mut request: Value = serde_json::from_str(body).unwrap();
        request[name] = serde_json::from_str(value).unwrap();
        request.to_string()
    };
    for Field { name, treatment, .. } in fields {
        for value in taken(name) {
            let parsed = parse(request(name, value).as_bytes(), &Limits::default());
            let mut parsed = parsed.unwrap_or_else(|bad| panic!("{name}: {value}: {bad}"));
            let ignored = Chat::take_ignored(&mut parsed);
            assert_eq!(ignored.n_all(), 0, "{name}: {value}: {ignored:?}");
        }
        let refused = match treatment {
            Treatment::Honoured | Treatment::Adapted => refused(name),
            Treatment::Refused(_) => &[(r#"["x"]"#, *name), (r#""x""#, *name), ("7", *name)],
            Treatment::Tolerated | Treatment::Ignored => panic!("{name}: there are none"),
        };
        for (value, param) in refused {
            let bad = parse(request(name, value).as_bytes(), &Limits::default()).expect_err(value);
            assert_eq!(bad.param.as_deref(), Some(*param), "{name}: {value}: {bad}");
            assert!(bad.message.starts_with(param), "{bad}");
        }
    }
}

#[test]
fn every_known_field_is_treated_as_the_tables_say() {
    check_table(chat::FIELDS, &plain(), chat::parse);
    check_table(generate::FIELDS, &prompt(r#""stream":false"#), generate::parse);
}

#[test]
fn every_option_is_honoured_or_told_of() {
    for Field { name, treatment, .. } in OPTIONS {
        let value = match *name {
            "stop" => json!(["x"]),
            "repeat_last_n" => json!(-1),
            "mirostat" => json!(2),
            _ => json!(1),
        };
        let body = with(&format!(r#""options":{{"{name}":{value}}}"#));
        let mut parsed = chat::parse(body.as_bytes(), &Limits::default()).unwrap();
        let told = Chat::take_ignored(&mut parsed).kept().join(",");
        let expected = match treatment {
            Treatment::Ignored => format!("options.{name}"),
            _ => String::new(),
        };
        assert_eq!(told, expected, "{name}");
    }
    let told = |field: &str| {
        let mut parsed = chat::parse(with(field).as_bytes(), &Limits::default()).unwrap();
        Chat::take_ignored(&mut parsed).kept().to_vec()
    };
    assert_eq!(told(r#""options":{"x":1,"y":null},"z":1"#), ["options.x", "z"]);
    assert_eq!(
        told(r#""options":{"repeat_last_n":64},"shift":true"#),
        ["shift", "options.repeat_last_n"]
    );
    assert!(told(r#""options":{"repeat_last_n":0},"truncate":true"#).is_empty());
}

#[test]
fn the_tables_name_each_field_once() {
    let tables = [
        chat::FIELDS,
        generate::FIELDS,
        OPTIONS,
        embed::FIELDS,
        embed::OLD_FIELDS,
        changes::PULL_FIELDS,
        changes::CREATE_FIELDS,
        changes::COPY_FIELDS,
        changes::DELETE_FIELDS,
        changes::SHOW_FIELDS,
    ];
    for table in tables {
        let mut names: Vec<&str> = table.iter().map(|field| field.name).collect();
        names.sort_unstable();
        let n_names = names.len();
        names.dedup();
        assert_eq!(names.len(), n_names);
    }
}

#[test]
fn settings_reach_the_call() {
    let body = with(
        r#""options":{"num_ctx":256,"num_predict":7,"stop":"x","temperature":0,"top_k":4,
           "seed":-2,"repeat_penalty":1.5},"keep_alive":"1m","truncate":true,"think":"high",
           "logprobs":true,"format":"json""#,
    );
    let request = chat::parse(body.as_bytes(), &Limits::default()).unwrap();
    let call = request.call;
    assert_eq!((call.model.as_deref(), call.max_tokens), (Some("m"), Some(7)));
    assert_eq!((call.stop, call.delivery), (vec!["x".to_owned()], Delivery::Stream));
    assert_eq!((call.logprobs, call.constraint.is_some()), (Some(0), true));
    let sampling = call.sampling.over(&crate::default_sampling());
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.0, 4, 0.95));
    assert_eq!((sampling.seed, sampling.repetition_penalty), (Some(u64::MAX - 1), 1.5));
    assert_eq!(call.wishes.thinking.map(|wish| wish.what), Some(Thinking::On));
    assert_eq!(call.wishes.effort.map(|wish| wish.what), Some("high"));
    assert_eq!(call.wishes.params().collect::<Vec<_>>(), ["think"]);
    assert_eq!(request.terms.n_ctx.map(|wish| wish.what), Some(256));
    assert_eq!(request.terms.keep.map(|wish| wish.what.as_secs()), Some(60));
    assert_eq!(request.terms.overlong, Overlong::Truncate);
}

#[test]
fn a_prompt_is_one_turn_or_stands_as_it_is() {
    let prompts = |field: &str| {
        let parsed = generate::parse(prompt(field).as_bytes(), &Limits::default());
        parsed.map(|request| request.call.prompts).map_err(|bad| bad.param.unwrap())
    };
    let turn = |system: Option<&str>| {
        let system = system.map(str::to_owned);
        Ok(Prompts::Turn { system, text: "hi".to_owned(), context: Vec::new() })
    };
    assert_eq!(prompts(r#""system":"""#), turn(None));
    assert_eq!(prompts(r#""system":"s","raw":false"#), turn(Some("s")));
    let raw = Prompts::Plain(vec![PlainPrompt::Text("hi".to_owned())]);
    assert_eq!(prompts(r#""raw":true"#), Ok(raw));
    assert_eq!(prompts(r#""raw":true,"system":"s""#), Err("system".to_owned()));
    assert_eq!(prompts(r#""raw":true,"context":[1]"#), Err("context".to_owned()));
    let middle = PlainPrompt::Middle { before: "hi".to_owned(), behind: "end".to_owned() };
    assert_eq!(prompts(r#""suffix":"end""#), Ok(Prompts::Plain(vec![middle])));
    for beside in [r#""raw":true"#, r#""system":"s""#, r#""context":[1]"#] {
        assert_eq!(prompts(&format!(r#""suffix":"end",{beside}"#)), Err("suffix".to_owned()));
    }
    let body = prompt(r#""raw":true,"think":"low","truncate":true"#);
    let mut parsed = generate::parse(body.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(Generate::take_ignored(&mut parsed).kept(), ["truncate", "think"]);
}

#[test]
fn a_last_message_of_the_assistants_is_continued() {
    let parse = |more: &str| {
        let messages = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"So"}]"#;
        let body = format!(r#"{{"model":"m","messages":{messages}{more}}}"#);
        chat::parse(body.as_bytes(), &Limits::default())
    };
    let Prompts::Chat { end, .. } = parse("").unwrap().call.prompts else { panic!("it is a chat") };
    assert_eq!(end, ChatEnd::Continue);
    for (more, param) in [(r#","format":"json""#, "format"), (r#","think":true"#, "think")] {
        assert_eq!(parse(more).unwrap_err().param.as_deref(), Some(param));
    }
    let place = |field| Chat::place(&parse("").unwrap(), 1, field);
    assert_eq!(place("reasoning_content"), "messages[1].thinking");
    assert_eq!(place("name"), "messages[1].tool_name");
}
