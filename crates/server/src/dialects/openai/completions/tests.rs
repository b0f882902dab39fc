//! Golden transcripts of completions, and the table of their parameters.

use super::*;
use crate::dialects::golden::{Step, replay, text, token};
use crate::dialects::openai::parse_completion as parse;
use engine::FinishReason::{Length, Stop};
use serde_json::Value;

fn check(request: &str, steps: Vec<Step>, expected: &str) {
    assert_eq!(replay::<Completions>(request, steps), expected, "{request}");
}

fn parsed(body: &str) -> Result<CompletionRequest, BadRequest> {
    parse(body.as_bytes(), &Limits::default())
}

#[test]
fn a_whole_answer() {
    check(
        r#"{"model":"m","prompt":"once"}"#,
        vec![text(0, " upon"), Step::Done(0, Length)],
        r#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"text":" upon","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"matched_tokens":3}}}"#,
    );
}

#[test]
fn a_stream_with_echo_and_usage() {
    check(
        r#"{"prompt":"once","echo":true,"stream":true,"stream_options":{"include_usage":true}}"#,
        vec![text(0, " upon"), Step::Done(0, Stop)],
        concat!(
            r#"data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"text":"once","index":0,"logprobs":null,"finish_reason":null}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"text":" upon","index":0,"logprobs":null,"finish_reason":null}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":"fp","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m","system_fingerprint":"fp","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2,"matched_tokens":3}}}"#,
            "\n\ndata: [DONE]\n\n",
        ),
    );
}

#[test]
fn prompts_and_alternatives_are_indexed_in_order() {
    let request = r#"{"prompt":["a",[97,98,257]],"n":2,"echo":true}"#;
    let steps = (0..4).map(|choice_idx| text(choice_idx, ["1", "2", "3", "4"][choice_idx]));
    let body = replay::<Completions>(request, steps.collect());
    let body: Value = serde_json::from_str(&body).unwrap();
    let texts: Vec<&str> =
        (0..4).map(|index| body["choices"][index]["text"].as_str().unwrap()).collect();
    // The second prompt is told by its tokens, of which the last is half a character.
    assert_eq!(texts, ["a1", "a2", "ab\u{fffd}3", "ab\u{fffd}4"]);
    assert_eq!(body["usage"]["prompt_tokens"], 6);
}

#[test]
fn legacy_log_probabilities_count_characters() {
    let steps = |n_events: usize| {
        let tokens =
            vec![token(257, -1.0, &[(257, -1.0)]), token(0xac, -2.0, &[]), token(256, -0.5, &[])];
        match n_events {
            1 => vec![Step::Text(0, "€hello", tokens), Step::Done(0, Stop)],
            _ => {
                let rest = tokens[2..].to_vec();
                let first = tokens[..2].to_vec();
                vec![Step::Text(0, "€", first), Step::Text(0, "hello", rest), Step::Done(0, Stop)]
            }
        }
    };
    let body = replay::<Completions>(r#"{"prompt":"x","logprobs":1}"#, steps(1));
    let body: Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "tokens": ["\u{fffd}", "\u{fffd}", "hello"],
        "token_logprobs": [-1.0, -2.0, -0.5],
        "top_logprobs": [{"\u{fffd}": -1.0}, {}, {}],
        "text_offset": [0, 1, 1],
    });
    assert_eq!(body["choices"][0]["logprobs"], expected);
    let stream = replay::<Completions>(r#"{"prompt":"x","logprobs":1,"stream":true}"#, steps(2));
    assert!(stream.contains(r#""text_offset":[0,1]"#), "{stream}");
    assert!(stream.contains(r#""text_offset":[1]"#), "{stream}");
}

#[test]
fn control_tokens_take_no_place_in_the_text() {
    let tokens = vec![token(258, -1.0, &[]), token(256, -0.5, &[]), token(258, -2.0, &[])];
    let steps = vec![Step::Text(0, "hello", tokens), Step::Done(0, Stop)];
    let body = replay::<Completions>(r#"{"prompt":"x","logprobs":1}"#, steps);
    let body: Value = serde_json::from_str(&body).unwrap();
    let logprobs = &body["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"][0], "<|end|>");
    assert_eq!(logprobs["text_offset"], serde_json::json!([0, 0, 5]));
}

/// The prompt of a transcript, as scored: "a", "b" and most of a character.
fn scored_prompt() -> Vec<TokenInfo> {
    let first = TokenInfo { id: u32::from(b'a'), logprob: None, top: Vec::new() };
    vec![first, token(98, -3.0, &[(97, -0.5)]), token(257, -4.0, &[(257, -4.0)])]
}

#[test]
fn an_echo_is_told_with_its_log_probabilities() {
    let expected = serde_json::json!({
        "tokens": ["a", "b", "\u{fffd}", "hello"],
        "token_logprobs": [null, -3.0, -4.0, -0.25],
        "top_logprobs": [null, {"a": -0.5}, {"\u{fffd}": -4.0}, {}],
        "text_offset": [0, 1, 2, 3],
    });
    let steps = || {
        let prompt = scored_prompt();
        vec![
            Step::Prompt(0, prompt[..2].to_vec()),
            Step::Prompt(0, prompt[2..].to_vec()),
            Step::Text(0, "hello", vec![token(256, -0.25, &[])]),
            Step::Done(0, Length),
        ]
    };
    let request = r#"{"prompt":[97,98,257],"echo":true,"logprobs":1}"#;
    let body: Value = serde_json::from_str(&replay::<Completions>(request, steps())).unwrap();
    let choice = &body["choices"][0];
    assert_eq!((&choice["text"], &choice["logprobs"]), (&"ab\u{fffd}hello".into(), &expected));

    // In a stream the prompt comes in one piece, and the offsets go on behind it.
    let request = r#"{"prompt":[97,98,257],"echo":true,"logprobs":1,"stream":true}"#;
    let stream = replay::<Completions>(request, steps());
    let chunks: Vec<Value> = stream
        .split_terminator("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
        .collect();
    let choices: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
    let texts: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["ab\u{fffd}", "hello", ""]);
    for (field, all) in expected.as_object().unwrap() {
        let told: Vec<&Value> = choices[..2]
            .iter()
            .flat_map(|choice| choice["logprobs"][field].as_array().unwrap())
            .collect();
        assert_eq!(told, all.as_array().unwrap().iter().collect::<Vec<_>>(), "{field}");
    }
}

/// Offsets count along the text that is echoed, whatever the tokenizer made of it.
#[test]
fn the_offsets_of_an_echo_are_places_in_its_text() {
    let check = |prompt: &str, ids: [u32; 3], expected: [usize; 4]| {
        let first = TokenInfo { id: ids[0], logprob: None, top: Vec::new() };
        let prompt_tokens = vec![first, token(ids[1], -1.0, &[]), token(ids[2], -1.0, &[])];
        let steps = || {
            let answer = vec![token(256, -1.0, &[]), token(258, -1.0, &[])];
            let prompt = Step::Prompt(0, prompt_tokens.clone());
            vec![prompt, Step::Text(0, "hello", answer), Step::Done(0, Stop)]
        };
        let offsets = |choice: &Value| choice["logprobs"]["text_offset"].clone();
        let n_echoed = expected[3];
        let ask = format!(r#"{{"prompt":{prompt},"echo":true,"logprobs":0"#);
        let body = replay::<Completions>(&format!("{ask}}}"), steps());
        let body: Value = serde_json::from_str(&body).unwrap();
        let [first, second, third, _] = expected;
        let all = serde_json::json!([first, second, third, n_echoed, n_echoed + 5]);
        assert_eq!(offsets(&body["choices"][0]), all, "{prompt}");
        let text = body["choices"][0]["text"].as_str().unwrap();
        assert_eq!(text.chars().count(), n_echoed + 5, "{prompt}");
        let stream = replay::<Completions>(&format!(r#"{ask},"stream":true}}"#), steps());
        let answer = format!(r#""text_offset":[{n_echoed},{}]"#, n_echoed + 5);
        assert!(stream.contains(&answer), "{stream}");
    };
    // Control tokens that the caller wrote, as text and as a token, are in the text.
    check(r#""<|end|>ahello""#, [258, 97, 256], [0, 7, 8, 13]);
    check("[258,97,256]", [258, 97, 256], [0, 7, 8, 13]);
    // What the tokenizer put in front or behind is not, nor is the space of SentencePiece.
    check(r#""ahello""#, [258, 97, 256], [0, 0, 1, 6]);
    check(r#""hello""#, [258, 32, 256], [0, 0, 0, 5]);
    check(r#""hello""#, [32, 256, 258], [0, 0, 5, 5]);
    check(r#"">""#, [32, 62, 258], [0, 0, 1, 1]);
    check(r#""<|end|>hello""#, [258, 258, 256], [0, 0, 7, 12]);
    // Half a character, and a character in pieces.
    check("[257,97,257]", [257, 97, 257], [0, 1, 2, 3]);
    check(r#""€a""#, [257, 0xac, 97], [0, 1, 1, 2]);
    // Nowhere behind the end, where the tokenizer wrote the text anew.
    check(r#""é""#, [101, 0xcc, 0x81], [0, 1, 1, 1]);
}

#[test]
fn a_prompt_alone_is_scored() {
    let request = r#"{"prompt":"ab","echo":true,"logprobs":0,"max_tokens":0}"#;
    let steps = vec![Step::Prompt(0, scored_prompt()), Step::Done(0, Length)];
    let body: Value = serde_json::from_str(&replay::<Completions>(request, steps)).unwrap();
    assert_eq!(body["choices"][0]["text"], "ab");
    let logprobs = &body["choices"][0]["logprobs"];
    assert_eq!(logprobs["token_logprobs"], serde_json::json!([null, -3.0, -4.0]));
    assert_eq!(parsed(request).unwrap().call.max_tokens, Some(0));
}

#[test]
fn the_best_are_told_by_log_probability_per_token() {
    let request = r#"{"prompt":["x","y"],"n":2,"best_of":3}"#;
    let text = |choice_idx, text, logprobs: &[f32]| {
        Step::Text(choice_idx, text, logprobs.iter().map(|&l| token(256, l, &[])).collect())
    };
    let steps = vec![
        text(0, "long", &[-1.0, -1.0, -1.0]),
        text(1, "short", &[-1.5]),
        text(2, "best", &[-0.5, -1.0]),
        // Nothing came of the first, and the others are equal.
        text(4, "one", &[-2.0]),
        text(5, "two", &[-2.0, -2.0]),
    ];
    let body: Value = serde_json::from_str(&replay::<Completions>(request, steps)).unwrap();
    let choices = body["choices"].as_array().unwrap();
    let texts: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["best", "long", "one", "two"]);
    let places: Vec<u64> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(places, [0, 1, 2, 3]);
    assert!(choices.iter().all(|choice| choice["logprobs"].is_null()));
}

#[test]
fn prompts_are_read_in_all_forms() {
    let check = |prompt: &str, expected: Result<Vec<PlainPrompt>, &str>| {
        let found = parsed(&format!(r#"{{"prompt":{prompt}}}"#));
        let found = found.map_err(|bad| bad.message).map(|request| request.call.prompts);
        let expected = expected.map(Prompts::Plain).map_err(str::to_owned);
        assert_eq!(found, expected, "{prompt}");
    };
    let text = |text: &str| PlainPrompt::Text(text.to_owned());
    check(r#""a""#, Ok(vec![text("a")]));
    check(r#"["a","b"]"#, Ok(vec![text("a"), text("b")]));
    check("[1,2]", Ok(vec![PlainPrompt::Tokens(vec![1, 2])]));
    check("[[1],[2]]", Ok(vec![PlainPrompt::Tokens(vec![1]), PlainPrompt::Tokens(vec![2])]));
    check("[1,-2]", Err("prompt[1]: -2: expected a token id"));
    check("[[1],[true]]", Err("prompt[1][0]: true: expected a token id"));
    check(r#"["a",{}]"#, Err("prompt[1]: an object: expected a string or an array of token ids"));
    let expected = "a string, an array of strings, or an array of token ids";
    check("[]", Err(&format!("prompt: an array of 0: expected {expected}")));
    check("{}", Err(&format!("prompt: an object: expected {expected}")));
    check("null", Err(&format!("prompt: absent: expected {expected}")));
}

#[test]
fn parameters_are_honoured_or_refused_by_name() {
    let taken = [
        r#""best_of":2,"n":2"#,
        r#""best_of":3,"n":2,"logprobs":0"#,
        r#""best_of":2,"n":2,"stream":true"#,
        r#""echo":true,"logprobs":1,"max_tokens":0"#,
        r#""echo":true,"logprobs":1,"stream":true"#,
        r#""suffix":"","echo":true"#,
        r#""suffix":"end","best_of":2"#,
        r#""echo":false,"logprobs":5"#,
        r#""max_tokens":1"#,
    ];
    for field in taken {
        let parsed = parsed(&format!(r#"{{"prompt":"a",{field}}}"#));
        assert!(parsed.is_ok(), "{field}: {parsed:?}");
    }
    let refused = [
        (r#""best_of":1,"n":2"#, "best_of"),
        (r#""best_of":3,"n":2,"stream":true"#, "best_of"),
        (r#""best_of":129"#, "best_of"),
        (r#""suffix":"end","echo":true"#, "suffix"),
        (r#""suffix":7"#, "suffix"),
        (r#""logprobs":6"#, "logprobs"),
        (r#""max_tokens":-1"#, "max_tokens"),
        (r#""messages":[]"#, "messages"),
        (r#""max_completion_tokens":3"#, "max_completion_tokens"),
    ];
    for (field, param) in refused {
        let error = parsed(&format!(r#"{{"prompt":"a",{field}}}"#)).expect_err(field);
        assert_eq!(error.param.as_deref(), Some(param), "{field}: {error}");
    }
    assert_eq!(parsed(r#"{"prompt":"a"}"#).unwrap().call.max_tokens, Some(16));
    let middle = parsed(r#"{"prompt":["a",""],"suffix":"z"}"#).unwrap().call.prompts;
    let of = |before: &str| PlainPrompt::Middle { before: before.into(), behind: "z".into() };
    assert_eq!(middle, Prompts::Plain(vec![of("a"), of("")]));
    let ids = parsed(r#"{"prompt":[1],"suffix":"z"}"#).unwrap_err();
    assert_eq!(ids.param.as_deref(), Some("suffix"));
    // It stands behind each prompt, and all of that is bounded.
    let behind = |n_bytes: usize| {
        let (prompts, suffix) = (vec!["a"; 128], "z".repeat(n_bytes));
        parsed(&serde_json::json!({"prompt": prompts, "suffix": suffix}).to_string())
    };
    assert!(behind(32 << 10).is_ok());
    assert_eq!(behind((32 << 10) + 1).unwrap_err().param.as_deref(), Some("suffix"));
    let many = format!(r#"{{"prompt":[{}"x"]}}"#, r#""x","#.repeat(128));
    assert!(parsed(&many).unwrap_err().message.starts_with("prompt: 129 prompts"));
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(body in r#"\PC{0,40}|[\[\]{}:,"a-z0-9 ]{0,60}"#) {
        let _ = parsed(&body);
        let _ = parsed(&format!(r#"{{"prompt":{body}}}"#));
        let _ = parsed(&format!(r#"{{"prompt":"a",{body}}}"#));
    }
}
