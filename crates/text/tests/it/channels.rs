//! Answers in channels: what a model wrote is taken apart as documented, however its text is cut;
//! whatever a model without any sense would write under the grammar has the parts that were asked
//! for.
#![allow(clippy::unwrap_used)] // What fails here fails the test.

use crate::support::{schemas, walk_from, with_control, with_marks};
#[allow(dead_code)] // Each test uses a part.
use freehold_text::{
    CallGrammar, Calls, Channels, ChatInput, ChatTemplate, Constraint, Constraints, Grammar, Part,
    Special, Splitter, StreamDecoder, Tokenizer, Tool, ToolChoice, ToolFormat,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

const MARKS: &[&str] = &[
    "<|start|>",
    "<|channel|>",
    "<|constrain|>",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
];

/// The ways in which a template like the published one writes calls.
const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}{% endif %}\
    {{ '<|start|>assistant to=functions.' + name + '<|channel|>commentary json' }}";

fn format() -> &'static ToolFormat {
    ToolFormat::of(&ChatTemplate::new(TEMPLATE).unwrap()).unwrap()
}

fn tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    Arc::clone(TOKENIZER.get_or_init(|| with_control(MARKS)))
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, Special::Parse)
}

fn channels(tokenizer: &Tokenizer, prompt: &str) -> Channels {
    format().channels(tokenizer, &ids(tokenizer, prompt)).unwrap()
}

const PROMPT: &str = "<|start|>user<|message|>hi<|end|><|start|>assistant";

fn calls(tokenizer: &Tokenizer, prompt: &str) -> Calls {
    Calls::new(format(), tokenizer).in_channels(Some(channels(tokenizer, prompt)))
}

fn splitter(tokenizer: &Tokenizer, prompt: &str, may_call: bool) -> Splitter {
    let channels = channels(tokenizer, prompt);
    let calls = may_call.then(|| calls(tokenizer, prompt));
    Splitter::new(channels.preamble(tokenizer), calls).in_channels(Some(channels))
}

/// Parts in one piece each, written down shortly.
fn told(parts: &[Part]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = "";
    for part in parts {
        let (kind, text) = match part {
            Part::Text(text) => ("text: ", text.as_str()),
            Part::Reasoning(text) => ("thought: ", text.as_str()),
            Part::CallBegin(name) => ("call: ", name.as_str()),
            Part::Arguments(text) => ("with: ", text.as_str()),
            Part::CallEnd => ("end", ""),
        };
        match all.last_mut().filter(|_| kind == last && kind != "call: ") {
            Some(before) => before.push_str(text),
            None => all.push([kind, text].concat()),
        }
        last = kind;
    }
    all
}

fn split(tokenizer: &Tokenizer, mut splitter: Splitter, answer: &str) -> Vec<Part> {
    let (mut decoder, mut parts) = (StreamDecoder::verbatim(), Vec::new());
    for id in ids(tokenizer, answer) {
        let mut text = String::new();
        decoder.push(tokenizer, id, &mut text);
        splitter.push_token(id, &text, &mut parts);
    }
    splitter.finish(&mut parts);
    parts
}

#[test]
fn messages_become_the_parts_of_their_channels() {
    let check = |prompt: &str, answer: &str, expected: &[&str]| {
        // As control tokens and as such that a file calls text.
        for tokenizer in [tokenizer(), with_marks(MARKS, 4, false)] {
            let parts = split(&tokenizer, splitter(&tokenizer, prompt, true), answer);
            assert_eq!(told(&parts), expected, "{answer}");
        }
    };
    const THOUGHT: &str = "<|channel|>analysis<|message|> Hm, so.\n<|end|><|start|>assistant";
    let after = |answer: &str| [THOUGHT, answer].concat();
    check(
        PROMPT,
        &after("<|channel|>final<|message|>It is <b>4</b>. <|return|>"),
        &["thought: Hm, so.", "text: It is <b>4</b>."],
    );
    let call =
        "<|channel|>commentary to=functions.get_it <|constrain|>json<|message|>{\"x\": \"}\"}";
    let called = ["thought: Hm, so.", "call: get_it", "with: {\"x\": \"}\"}", "end"];
    check(PROMPT, &after(&[call, "<|call|>"].concat()), &called);
    // The end of the answer is no part of it.
    check(PROMPT, &after(call), &called);
    // As the template writes it, and without the space.
    let call = " to=functions.get_it<|channel|>commentary json<|message|>{\"x\": \"}\"}<|call|>";
    check(PROMPT, &after(call), &called);
    let call = "<|channel|>commentary to=get_it<|constrain|>json<|message|>{\"x\": \"}\"}";
    check(PROMPT, &after(call), &called);
    // What is said before a call, and a cut.
    let said = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant";
    check(
        PROMPT,
        &[said, "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"x\""].concat(),
        &["text: I look.", "call: f", "with: {\"x\""],
    );
    let last = "<|channel|>final<|message|>Done.";
    check(
        PROMPT,
        &[said, THOUGHT, THOUGHT, last].concat(),
        &["text: I look.", "thought: Hm, so.\n\nHm, so.", "text: Done."],
    );
    check(PROMPT, &[said, last].concat(), &["text: I look.\n\nDone."]);
    // A mark left out, a header cut off, and none at all.
    check(
        PROMPT,
        "<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>4",
        &["thought: Hm.", "text: 4"],
    );
    check(PROMPT, "<|channel|>commentary to=functions.f", &[]);
    check(PROMPT, " It is 4.", &["text: It is 4."]);
    let long = "a b ".repeat(200);
    check(PROMPT, &long, &[&["text: ", &long].concat()]);
    check(PROMPT, "<|channel|>commentary to=a.b c<|message|>{}", &["text: {}"]);
    check(
        PROMPT,
        "<|channel|>commentary to=f<|message|>{} no",
        &["call: f", "with: {}", "end", "text: no"],
    );
    // Within a message that the prompt has begun.
    let begun = [PROMPT, "<|channel|>final<|message|>It"].concat();
    check(&begun, " is 4.", &["text:  is 4."]);
    let begun = [PROMPT, "<|channel|>analysis<|message|>"].concat();
    check(
        &begun,
        "Hm.<|end|><|start|>assistant<|channel|>final<|message|>4",
        &["thought: Hm.", "text: 4"],
    );
}

#[test]
fn without_tools_a_call_is_text() {
    let tokenizer = tokenizer();
    let answer = "<|channel|>commentary to=functions.f json<|message|>{}";
    let parts = split(&tokenizer, splitter(&tokenizer, PROMPT, false), answer);
    assert_eq!(told(&parts), ["text: {}"]);
}

#[test]
fn the_train_of_thought_has_its_marks() {
    let tokenizer = tokenizer();
    let preamble = |prompt: &str| channels(&tokenizer, prompt).preamble(&tokenizer);
    let begin = ids(&tokenizer, "<|channel|>analysis<|message|>");
    let end = ids(&tokenizer, "<|end|><|start|>assistant");
    let found = preamble(PROMPT).unwrap();
    assert_eq!((found.begin.unwrap().ids(), found.end.ids()), (&begin[..], &end[..]));
    assert_eq!(found.again, found.begin);
    let begun = preamble(&[PROMPT, "<|channel|>analysis<|message|>So"].concat()).unwrap();
    assert_eq!((begun.begin, begun.again, begun.end.ids()), (None, found.begin, &end[..]));
    assert_eq!(preamble(&[PROMPT, "<|channel|>final<|message|>So"].concat()), None);
    // A vocabulary without the marks has no channels.
    assert_eq!(format().channels(&with_control(&MARKS[..3]), &[]), None);
}

/// Else a grammar would take them for text, and so would whoever encodes a text of a stranger.
#[test]
fn marks_are_no_text_whatever_the_file_calls_them() {
    for kind in [1, 3, 4] {
        let tokenizer = with_marks(MARKS, kind, false);
        for mark in MARKS {
            let id = match ids(&tokenizer, mark)[..] {
                [id] => id,
                ref other => panic!("{mark}: {other:?}"),
            };
            assert!(tokenizer.is_control(id), "{kind} {mark}");
            assert!(!tokenizer.encode(mark, Special::Plain).contains(&id), "{kind} {mark}");
        }
        let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
        let call = grammar(&tokenizer, PROMPT, ToolChoice::Required, json!({}));
        let constraint = constraints.compile(&Grammar::Calls(Box::new(call))).unwrap();
        let begin = ids(&tokenizer, "<|channel|>");
        assert!(constraint.matcher().mask().unwrap().allows(begin[0]), "{kind}");
    }
    // Nothing but two of them tells such a vocabulary from others.
    assert_eq!(format().channels(&with_marks(&MARKS[..5], 4, false), &[]), None);
}

proptest! {
    #[test]
    fn parts_do_not_depend_on_how_the_text_comes(
        pieces in prop::collection::vec(0..PIECES.len() + MARKS.len(), 1..16),
        cuts in prop::collection::vec(1..5_usize, 1..40),
        may_call in any::<bool>(),
    ) {
        let tokenizer = tokenizer();
        let mut lengths = cuts.iter().copied().cycle();
        let mut run = |is_cut: bool| {
            let (mut splitter, mut parts) = (splitter(&tokenizer, PROMPT, may_call), Vec::new());
            for &piece in &pieces {
                let Some(mut rest) = PIECES.get(piece).copied() else {
                    let mark = ids(&tokenizer, MARKS[piece - PIECES.len()]);
                    splitter.push_token(mark[0], "", &mut parts);
                    continue;
                };
                while !rest.is_empty() {
                    let n_bytes = if is_cut { lengths.next().unwrap() } else { rest.len() };
                    let n_first = rest.chars().next().map_or(0, char::len_utf8);
                    let n_bytes = rest.floor_char_boundary(n_bytes).max(n_first);
                    let (now, behind) = rest.split_at(n_bytes);
                    splitter.push(now, &mut parts);
                    rest = behind;
                }
            }
            splitter.finish(&mut parts);
            parts
        };
        let whole = told(&run(false));
        prop_assert_eq!(&whole, &told(&run(true)));
    }
}

const PIECES: &[&str] = &[
    "analysis",
    "commentary",
    "final",
    " to=functions.",
    "f_1 ",
    "json",
    "{\"x\": [1, \"}\\\"\"]}",
    "{",
    " text\n",
    "\n ",
    "日本",
    "<|end|>",
    "assistant",
    "to=f ",
];

fn grammar(tokenizer: &Tokenizer, prompt: &str, choice: ToolChoice, schema: Value) -> CallGrammar {
    CallGrammar {
        calls: calls(tokenizer, prompt),
        tools: vec![Tool { name: "f".to_owned(), parameters: Some(schema), texts: None }],
        choice,
        is_parallel: true,
        content: None,
    }
}

fn compile(grammar: CallGrammar) -> Constraint {
    static CONSTRAINTS: OnceLock<Constraints> = OnceLock::new();
    let constraints = CONSTRAINTS.get_or_init(|| Constraints::new(tokenizer()).unwrap());
    constraints.compile(&Grammar::Calls(Box::new(grammar))).unwrap()
}

/// Whether an answer can be begun under a constraint, and whether it may end there.
fn is_allowed(constraint: &Constraint, answer: &str) -> (bool, bool) {
    let mut matcher = constraint.matcher();
    let is_allowed = ids(&tokenizer(), answer).into_iter().all(|id| {
        let is_allowed = matcher.mask().unwrap().allows(id);
        is_allowed && matcher.accept(id).is_ok()
    });
    (is_allowed, is_allowed && matcher.may_end())
}

#[test]
fn a_grammar_lets_the_messages_through_that_were_asked_for() {
    let schema = || json!({"type": "object", "properties": {"x": {"type": "integer"}}});
    let check = |prompt: &str, choice, content: Option<Grammar>, answer: &str, expected| {
        let grammar = grammar(&tokenizer(), prompt, choice, schema());
        let constraint = compile(CallGrammar { content: content.clone(), ..grammar });
        assert_eq!(is_allowed(&constraint, answer), expected, "{choice:?} {content:?}: {answer}");
    };
    let (yes, begun, no) = ((true, true), (true, false), (false, false));
    const FINAL: &str = "<|channel|>final<|message|>";
    const SAID: &str = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant";
    const CALL: &str = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>";
    const ROLE: &str = " to=functions.f<|channel|>commentary";
    let called = [CALL, "{\"x\":1}"].concat();
    let answered = [FINAL, "So it is."].concat();
    let after = |text: &str| [SAID, text].concat();
    let (none, auto, required) = (ToolChoice::None, ToolChoice::Auto, ToolChoice::Required);
    for choice in [none, auto] {
        check(PROMPT, choice, None, &answered, yes);
        check(PROMPT, choice, None, &after(&answered), yes);
        check(PROMPT, choice, None, &after(&after(&answered)), yes);
        check(PROMPT, choice, None, SAID, begun);
        check(PROMPT, choice, None, "So it is.", no);
        check(PROMPT, choice, None, "<|channel|>analysis", no);
    }
    check(PROMPT, none, None, &called, no);
    check(PROMPT, required, None, &answered, no);
    for choice in [auto, required] {
        check(PROMPT, choice, None, &called, yes);
        check(PROMPT, choice, None, &after(&called), yes);
        check(PROMPT, choice, None, &after(&after(&called)), yes);
        // The recipient in the role, and the form said otherwise or not at all.
        let headers = ["<|channel|>commentary to=functions.f", ROLE];
        for header in headers {
            for form in [" <|constrain|>json", "<|constrain|>json", " json", ""] {
                let called = [header, form, "<|message|>{\"x\":1}"].concat();
                check(PROMPT, choice, None, &called, yes);
                check(PROMPT, choice, None, &after(&called), yes);
                let bad = [header, form, "<|message|>{\"x\":\"a"].concat();
                check(PROMPT, choice, None, &bad, no);
            }
            check(PROMPT, choice, None, &[header, " jso<|message|>"].concat(), no);
        }
        check(PROMPT, choice, None, " to=functions.g", no);
        check(PROMPT, choice, None, &[CALL, "{\"x\":\"a"].concat(), no);
        check(PROMPT, choice, None, &[&called, "{"].concat(), no);
        check(PROMPT, choice, None, "<|channel|>commentary to=functions.g", no);
    }
    let number = || Some(Grammar::JsonSchema(json!({"type": "integer"})));
    check(PROMPT, none, number(), &[FINAL, "12"].concat(), yes);
    check(PROMPT, none, number(), &answered, no);
    check(PROMPT, none, number(), &called, no);
    check(PROMPT, auto, number(), &[FINAL, "12"].concat(), yes);
    check(PROMPT, auto, number(), &called, yes);
    check(PROMPT, auto, number(), SAID, no);
    // Within a message that the prompt has begun.
    let begins = [PROMPT, FINAL].concat();
    let then = ["is.<|end|><|start|>assistant", &called].concat();
    check(&begins, auto, None, "is.", yes);
    check(&begins, auto, None, &then, yes);
    check(&begins, none, None, &then, no);
    check(&begins, required, None, "is.", begun);
    check(&begins, required, None, &then, yes);
    check(&begins, none, number(), "12", yes);
    check(&begins, auto, number(), "is", no);
}

#[test]
fn random_calls_are_valid() {
    let tokenizer = tokenizer();
    let objects = schemas().into_iter().filter(|(_, schema)| schema["type"] == "object");
    for (seed, (name, schema)) in objects.enumerate().step_by(3) {
        let constraint = compile(grammar(&tokenizer, PROMPT, ToolChoice::Required, schema.clone()));
        let begin = ids(&tokenizer, "<|channel|>commentary to=");
        let text = walk_from(&constraint, &tokenizer, &begin, "", seed as u64);
        let parts = told(&split(&tokenizer, splitter(&tokenizer, PROMPT, true), &text));
        let [call, arguments, end] = &parts[..] else { panic!("{name}: {parts:?}: {text}") };
        assert_eq!((call.as_str(), end.as_str()), ("call: f", "end"), "{name}");
        let value: Value = match serde_json::from_str(&arguments["with: ".len()..]) {
            Ok(value) => value,
            // JSON has numbers that are too large for the judge.
            Err(error) if error.to_string().contains("number out of range") => continue,
            Err(error) => panic!("{name}: {error}: {text}"),
        };
        let judge = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        if let Err(error) = judge.validate(&value) {
            panic!("{name}: {error}: {text}");
        }
    }
}

#[test]
fn the_published_template_is_known_and_written_as_it_is_read() {
    let Some(kit) = testkit::kit() else { return };
    let path = kit.join("templates/openai-gpt-oss-120b.jinja");
    let template = ChatTemplate::new(&std::fs::read_to_string(path).unwrap()).unwrap();
    let found = ToolFormat::of(&template).unwrap();
    assert!(found == format() && found.has_channels());
    // Earlier calls as the server brings them.
    let function = json!({"name": "f", "arguments": {"x": 1}});
    let messages = json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [
            {"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]);
    let render = |messages: &Value| {
        let input = ChatInput {
            messages,
            tools: None,
            add_generation_prompt: true,
            kwargs: &serde_json::Map::new(),
            bos_token: "",
            eos_token: "",
            now: jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0),
        };
        template.render(&input).unwrap()
    };
    let text = render(&messages);
    let begin = "<|start|>user<|message|>go<|end|><|start|>assistant";
    let answer = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.f\
        <|channel|>commentary json<|message|>{\"x\": 1}<|call|>";
    let end = "<|start|>functions.f to=assistant<|channel|>commentary<|message|>\"1\"<|end|>\
        <|start|>assistant";
    assert!(text.ends_with(&[begin, answer, end].concat()), "{text}");
    let tokenizer = tokenizer();
    let parts = split(&tokenizer, splitter(&tokenizer, begin, true), answer);
    assert_eq!(told(&parts), ["thought: Hm.", "call: f", "with: {\"x\": 1}", "end"]);
    // A prompt that ends like this one is answered from the beginning.
    assert!(channels(&tokenizer, &text).preamble(&tokenizer).unwrap().begin.is_some());
}
