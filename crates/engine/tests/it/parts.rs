//! Reasoning and calls on the real default model: they are told apart from text, stop strings leave
//! them alone, and a train of thought ends at its budget.
#![allow(clippy::unwrap_used)] // What fails here fails the test.

use freehold_engine::{CallGrammar, Calls, Done, Engine, EngineOptions, Event, FinishReason};
use freehold_engine::{Grammar, Part, Preamble, Request, Tool, ToolChoice, ToolFormat};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let options = EngineOptions { n_ctx: Some(512), ..EngineOptions::default() };
    ENGINE.get_or_init(|| Engine::open(&testkit::smollm2(), &options).unwrap())
}

/// The parts of an answer in one piece each, its tokens, and its end.
fn collect(request: Request) -> (Vec<Part>, Vec<u32>, Done) {
    let (mut parts, mut ids, mut end) = (Vec::new(), Vec::new(), None);
    for event in engine().generate(request).unwrap() {
        let (part, tokens) = match event {
            Event::Text { text, tokens } => (Part::Text(text), tokens),
            Event::Part { part, tokens } => (part, tokens),
            Event::Prompt { .. } => panic!("nobody asked for the prompt"),
            Event::Done(done) => {
                end = Some(done);
                continue;
            }
        };
        ids.extend(tokens.iter().map(|token| token.id));
        // Tokens without text come at the end.
        if part == Part::Text(String::new()) {
            continue;
        }
        match (parts.last_mut(), part) {
            (Some(Part::Text(last)), Part::Text(more))
            | (Some(Part::Reasoning(last)), Part::Reasoning(more))
            | (Some(Part::Arguments(last)), Part::Arguments(more)) => last.push_str(&more),
            (_, part) => parts.push(part),
        }
    }
    (parts, ids, end.expect("the events end with `Done`"))
}

fn request() -> Request {
    let messages = json!([{"role": "user", "content": "Tell me about the sea."}]);
    let prompt = engine().chat_prompt(&messages, None, &Map::new()).unwrap();
    Request { prompt, max_tokens: Some(40), ..Request::default() }
}

/// The token of one character, as a mark.
fn mark(text: &str) -> u32 {
    engine().tokenizer().encode(text, text::Special::Plain)[0]
}

#[test]
fn a_train_of_thought_ends_at_its_budget_and_is_no_text() {
    let (plain, plain_ids, _) = collect(request());
    let [Part::Text(plain)] = &plain[..] else { panic!("{plain:?}") };
    let end = mark("~");
    let preamble = Preamble { begin: None, end: end.into(), again: None, n_max: Some(6) };
    let (parts, ids, done) = collect(Request { preamble: Some(preamble), ..request() });
    let [Part::Reasoning(thought), Part::Text(text)] = &parts[..] else { panic!("{parts:?}") };
    assert!(plain.starts_with(thought.as_str()), "{thought:?} {plain:?}");
    assert_eq!(ids[..6], plain_ids[..6]);
    assert_eq!((ids[6], done.n_preamble), (end, 7));
    assert!(!text.is_empty() && !text.starts_with(' ') && !text.contains('~'), "{text:?}");
    // What is looked for in text is not found in it.
    let stop = vec![thought.clone()];
    let request = || Request { preamble: Some(preamble), stop: stop.clone(), ..request() };
    assert_eq!(collect(request()).0[0], Part::Reasoning(thought.clone()));
    // A constraint begins behind it.
    let constraint = engine().constraint(&Grammar::Choice(vec!["yes".into()])).unwrap();
    let (parts, _, done) = collect(Request { constraint: Some(constraint), ..request() });
    assert_eq!(parts, [Part::Reasoning(thought.clone()), Part::Text("yes".into())]);
    assert_eq!(done.reason, FinishReason::Stop);
}

#[test]
fn one_that_may_begin_with_a_mark_does_not_have_to() {
    let begin = mark("~");
    let (first, end) = (Some(begin.into()), mark("^").into());
    let preamble = Preamble { begin: first, end, again: None, n_max: Some(0) };
    let (parts, _, done) = collect(Request { preamble: Some(preamble), ..request() });
    assert!(matches!(&parts[..], [Part::Text(_)]), "{parts:?}");
    assert_eq!(done.n_preamble, 0);
    // Begun, and over at once.
    let mut begun = Request { preamble: Some(preamble), ..request() };
    begun.sampling.logit_bias = vec![(begin, 100.0)];
    begun.max_tokens = Some(1);
    let (parts, ids, done) = collect(begun);
    assert_eq!((parts, ids, done.n_preamble), (Vec::new(), vec![begin], 1));
}

#[test]
fn calls_are_told_apart_and_stop_strings_leave_them_alone() {
    let schema = json!({"type": "object", "properties": {"x": {"type": "integer"}},
        "required": ["x"]});
    let calls = Calls::new(ToolFormat::generic(), engine().tokenizer());
    let grammar = Grammar::Calls(Box::new(CallGrammar {
        calls: calls.clone(),
        tools: vec![Tool { name: "f".into(), parameters: Some(schema), texts: None }],
        choice: ToolChoice::Required,
        is_parallel: false,
        content: None,
    }));
    let constraint = engine().constraint(&grammar).unwrap();
    let called = |stop: &[&str]| {
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        collect(Request {
            constraint: Some(constraint.clone()),
            calls: Some(calls.clone()),
            stop,
            max_tokens: Some(100),
            ..request()
        })
    };
    let (parts, ids, done) = called(&[]);
    let [Part::CallBegin(name), Part::Arguments(arguments), Part::CallEnd] = &parts[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(name, "f");
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert!(arguments["x"].is_number(), "{arguments}");
    assert_eq!(done.reason, FinishReason::Stop);
    assert_eq!(ids.len(), done.n_generated as usize);
    assert_eq!(called(&["{", "\n", "f"]).0, parts);
}
