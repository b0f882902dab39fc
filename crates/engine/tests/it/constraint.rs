//! Constraints on the real default model: what it says is valid, and the same whatever else runs.
#![allow(clippy::unwrap_used)] // What fails here fails the test.

use freehold_engine::{Done, Engine, EngineError, EngineOptions, Event, FinishReason, Grammar};
use freehold_engine::{Request, Sampling, Speculation};
use serde_json::{Map, Value, json};

fn engine(speculation: Speculation) -> Engine {
    let options = EngineOptions {
        n_ctx: Some(1024),
        kv_cache_bytes: Some(256 << 20),
        speculation,
        ..EngineOptions::default()
    };
    Engine::open(&testkit::smollm2(), &options).expect("the default model opens")
}

fn collect(events: impl Iterator<Item = Event>) -> (String, Done) {
    let (mut all_text, mut end) = (String::new(), None);
    for event in events {
        match event {
            Event::Text { text, .. } => all_text.push_str(&text),
            Event::Done(done) => end = Some(done),
            other => panic!("nobody asked for {other:?}"),
        }
    }
    (all_text, end.expect("the events end with `Done`"))
}

fn request(engine: &Engine, grammar: &Grammar, about: &str, seed: u64) -> Request {
    let text = format!("Answer in JSON. Make up a short example of: {about}");
    let messages = json!([{"role": "user", "content": text}]);
    Request {
        prompt: engine.chat_prompt(&messages, None, &Map::new()).unwrap(),
        max_tokens: Some(700),
        sampling: Sampling { temperature: 0.7, seed: Some(seed), ..Sampling::default() },
        constraint: Some(engine.constraint(grammar).unwrap()),
        ..Request::default()
    }
}

fn schemas() -> Vec<(String, Value)> {
    let parse = |(name, text): (String, String)| (name, serde_json::from_str(&text).unwrap());
    testkit::schemas().into_iter().map(parse).collect()
}

#[test]
#[ignore = "takes minutes for its 66 answers: run with --ignored"]
fn slow_every_schema_gets_a_valid_answer() {
    let engine = engine(Speculation::PromptLookup);
    // A few at a time: more would not fit the queue.
    for some in schemas().chunks(8) {
        let begin = |(name, schema): &(String, Value)| {
            let grammar = Grammar::JsonSchema(schema.clone());
            let request = request(&engine, &grammar, &name.replace('_', " "), 1);
            engine.generate(request).unwrap()
        };
        let running: Vec<_> = some.iter().map(begin).collect();
        for ((name, schema), generation) in some.iter().zip(running) {
            check_answer(&engine, name, schema, generation);
        }
    }
}

fn check_answer(engine: &Engine, name: &str, schema: &Value, answer: impl Iterator<Item = Event>) {
    let (mut text, mut done) = collect(answer);
    // So small a model may go round in circles where a schema has no bounds.
    for seed in 2..12 {
        if done.reason == FinishReason::Length {
            let grammar = Grammar::JsonSchema(schema.clone());
            let mut again = request(engine, &grammar, name, seed);
            again.max_tokens = Some(300);
            again.sampling.temperature = 1.0 + 0.1 * seed as f32;
            (text, done) = collect(engine.generate(again).unwrap());
        }
    }
    assert_eq!(done.reason, FinishReason::Stop, "{name}: {text}");
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    let judge = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    if let Err(error) = judge.validate(&value) {
        panic!("{name}: {error}: {text}");
    }
}

#[test]
fn neither_guesses_nor_neighbours_change_an_answer() {
    let engines = [Speculation::Off, Speculation::PromptLookup].map(engine);
    let names = ["person", "shape_union", "matrix", "game_state"];
    let schemas: Vec<_> =
        schemas().into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect();
    let all = |engine: &Engine| -> Vec<Request> {
        let of = |(name, schema): &(String, Value)| {
            request(engine, &Grammar::JsonSchema(schema.clone()), name, 5)
        };
        schemas.iter().map(of).collect()
    };
    let alone: Vec<_> = all(&engines[0])
        .into_iter()
        // With log-probabilities all logits are computed and no token is passed over.
        .flat_map(|request| [Request { logprobs: Some(0), ..request.clone() }, request])
        .map(|request| collect(engines[0].generate(request).unwrap()).0)
        .collect();
    assert!(alone.chunks(2).all(|pair| pair[0] == pair[1]), "{alone:?}");
    let alone: Vec<_> = alone.into_iter().step_by(2).collect();
    for engine in &engines {
        let together: Vec<_> =
            all(engine).into_iter().map(|request| engine.generate(request).unwrap()).collect();
        let together = together.into_iter().map(|generation| collect(generation).0);
        assert_eq!(together.collect::<Vec<_>>(), alone);
    }
}

/// Keys, punctuation and all that has no choice in it comes without a step of its own.
#[test]
fn the_skeleton_of_an_answer_is_guessed() {
    let schema = json!({
        "type": "object",
        "properties": {
            "a_rather_long_name_of_a_property": {"type": "boolean"},
            "another_name_that_nobody_has_to_think_about": {"enum": ["yes", "no"]},
        },
        "required": [
            "a_rather_long_name_of_a_property", "another_name_that_nobody_has_to_think_about"
        ],
        "additionalProperties": false,
    });
    let answers = [Speculation::Off, Speculation::PromptLookup].map(|speculation| {
        let engine = engine(speculation);
        let request = request(&engine, &Grammar::JsonSchema(schema.clone()), "a thing", 2);
        collect(engine.generate(request).unwrap())
    });
    let [(slow, _), (fast, done)] = &answers;
    assert_eq!(slow, fast);
    // Some guesses may come from the prompt; most are forced, and those are right.
    let Done { n_generated, n_accepted, .. } = done;
    assert!(n_accepted * 2 > *n_generated, "{n_accepted} of {n_generated}: {fast}");
}

#[test]
fn other_grammars_and_bounds() {
    let engine = engine(Speculation::PromptLookup);
    let run = |grammar: Grammar, max_tokens| {
        let mut request = request(&engine, &grammar, "an answer", 3);
        request.max_tokens = Some(max_tokens);
        collect(engine.generate(request).unwrap())
    };
    let choice = Grammar::Choice(vec!["maybe".into(), "never".into()]);
    let (text, done) = run(choice, 20);
    assert!(["maybe", "never"].contains(&text.as_str()), "{text:?}");
    assert_eq!(done.reason, FinishReason::Stop);
    let (text, done) = run(Grammar::Regex("[0-9]{400}".into()), 5);
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty(), "{text:?}");
    assert_eq!(done.reason, FinishReason::Length);
    let (text, _) = run(Grammar::JsonObject, 300);
    assert!(text.starts_with('{'), "{text:?}");

    let request =
        Request { ignore_eos: true, ..request(&engine, &Grammar::JsonObject, "an answer", 3) };
    let refused = engine.generate(request);
    assert!(matches!(refused, Err(EngineError::Invalid { field: "ignore_eos", .. })));
    let refused = engine.constraint(&Grammar::JsonSchema(json!({"not": {}})));
    assert!(refused.unwrap_err().to_string().contains("#: keyword \"not\""));
}
