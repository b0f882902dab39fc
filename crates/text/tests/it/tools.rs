//! Tool calls: what models wrote is taken apart as recorded, however it is cut; whatever a model
//! without any sense would write under the grammar is a call of a tool with valid arguments.
#![allow(clippy::unwrap_used)] // What fails here fails the test.

use crate::support::{real, schemas, small, walk, walk_from, with_control, with_marks};
use freehold_text::{
    CallGrammar, Calls, ChatTemplate, ConstraintError, Constraints, Grammar, Part, Preamble,
    Special, Splitter, StreamDecoder, Tokenizer, Tool, ToolChoice, ToolFormat,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// One family: its name, a part of its template, and answers with their parts.
struct Family {
    name: String,
    template: ChatTemplate,
    /// Marks of reasoning.
    reasoning: Option<[String; 2]>,
    answers: Vec<(String, Vec<Part>)>,
}

impl Family {
    fn format(&self) -> &'static ToolFormat {
        ToolFormat::of(&self.template).unwrap_or(ToolFormat::generic())
    }

    /// Whether the vocabulary can write the marks: in one of SentencePiece "▁" is a space.
    fn fits(&self, tokenizer: &Tokenizer) -> bool {
        let mark = self.format().mark;
        !mark.contains('▁') || tokenizer.encode(mark, Special::Parse).len() == 1
    }
}

fn families() -> Vec<Family> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let part = |part: &Value| {
            let (kind, value) = part.as_object().unwrap().iter().next().unwrap();
            match kind.as_str() {
                "text" => Part::Text(text(value)),
                "reasoning" => Part::Reasoning(text(value)),
                "call" => Part::CallBegin(text(value)),
                "arguments" => Part::Arguments(text(value)),
                "end" => Part::CallEnd,
                other => panic!("{other}"),
            }
        };
        let answer = |answer: &Value| {
            let parts = answer["parts"].as_array().unwrap();
            (text(&answer["text"]), parts.iter().map(part).collect())
        };
        Family {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            template: ChatTemplate::new(file["template"].as_str().unwrap()).unwrap(),
            reasoning: file["reasoning"].as_array().map(|marks| [text(&marks[0]), text(&marks[1])]),
            answers: file["answers"].as_array().unwrap().iter().map(answer).collect(),
        }
    };
    let families: Vec<Family> = std::fs::read_dir(folder).unwrap().map(read).collect();
    assert!(families.len() >= 13);
    families
}

/// All marks as tokens that have no text.
const CONTROL: &[&str] = &[
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|tool_call|>",
    "<|python_tag|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|tool_calls_section_end|>",
];

fn preamble(marks: Option<&[String; 2]>, tokenizer: &Tokenizer) -> Option<Preamble> {
    let id = |text: &str| tokenizer.encode(text, Special::Parse)[0];
    marks.map(|[begin, end]| Preamble {
        begin: Some(id(begin).into()),
        end: id(end).into(),
        again: None,
        n_max: None,
    })
}

/// Parts in one piece each.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match (all.last_mut(), part) {
            (Some(Part::Text(last)), Part::Text(more))
            | (Some(Part::Reasoning(last)), Part::Reasoning(more))
            | (Some(Part::Arguments(last)), Part::Arguments(more)) => last.push_str(&more),
            (_, part) => all.push(part),
        }
    }
    all
}

/// The parts of an answer, given by its tokens.
fn split_tokens(mut splitter: Splitter, tokenizer: &Tokenizer, ids: &[u32]) -> Vec<Part> {
    let (mut decoder, mut parts) = (StreamDecoder::verbatim(), Vec::new());
    for &id in ids {
        let mut text = String::new();
        decoder.push(tokenizer, id, &mut text);
        splitter.push_token(id, &text, &mut parts);
    }
    splitter.finish(&mut parts);
    joined(parts)
}

#[test]
fn recorded_answers_are_taken_apart() {
    let control = with_control(CONTROL);
    // User-defined, in an old tokenizer and in a new one.
    let [old, new] = [true, false].map(|adds_space| with_marks(CONTROL, 4, adds_space));
    // The marks of reasoning are tokens in either.
    let without = with_control(&CONTROL[..4]);
    for family in families() {
        assert_eq!(family.format().name, family.name);
        for (text, expected) in &family.answers {
            let all = [&control, &old, &new, &without];
            for tokenizer in all.into_iter().filter(|tokenizer| family.fits(tokenizer)) {
                let calls = Calls::new(family.format(), tokenizer);
                let preamble = preamble(family.reasoning.as_ref(), tokenizer);
                let ids = tokenizer.encode(text, Special::Parse);
                let found = split_tokens(Splitter::new(preamble, Some(calls)), tokenizer, &ids);
                assert_eq!(found, *expected, "{}: {text:?}", family.name);
            }
        }
    }
}

/// The templates of the conformance kit as they were published.
#[test]
fn formats_are_found_from_published_templates() {
    let Some(kit) = testkit::kit() else { return };
    for (file, expected) in [
        ("Qwen-Qwen2.5-7B-Instruct", Some("hermes")),
        ("Qwen-Qwen3-0.6B", Some("hermes")),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", Some("hermes")),
        ("meta-llama-Llama-3.1-8B-Instruct", Some("llama3")),
        ("mistralai-Mistral-Nemo-Instruct-2407", Some("mistral")),
        ("ibm-granite-granite-3.3-2B-Instruct", Some("granite")),
        ("llama-cpp-deepseek-r1", Some("deepseek-r1")),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", None),
        ("google-gemma-2-2b-it", None),
        ("microsoft-Phi-3.5-mini-instruct", None),
        ("openai-gpt-oss-120b", Some("harmony")),
    ] {
        let path = kit.join("templates").join(format!("{file}.jinja"));
        let template = ChatTemplate::new(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(ToolFormat::of(&template).map(|format| format.name), expected, "{file}");
    }
}

/// What a format writes of calls is what it takes apart.
#[test]
fn calls_are_written_as_they_are_read() {
    let tokenizer = small();
    let values = json!({
        "x": "}\"<tool_call>", "y": [1, -2.5, "é", {"z": null}], "t": true, "n": null, "s": "a\nb, c)",
    });
    let calls = [("a", values), ("b-2", json!({}))];
    for family in families() {
        // A format of single calls writes one.
        let is_single = family.name == "llama3";
        let calls = &calls[..if is_single { 1 } else { 2 }];
        let text = family.format().write(calls.iter().map(|(name, value)| (*name, value)));
        let mut splitter = Splitter::new(None, Some(Calls::new(family.format(), &tokenizer)));
        let mut parts = Vec::new();
        splitter.push(&text, &mut parts);
        splitter.finish(&mut parts);
        let mut parts = joined(parts).into_iter();
        for (name, expected) in calls {
            assert_eq!(parts.next(), Some(Part::CallBegin((*name).to_owned())), "{text:?}");
            let Some(Part::Arguments(arguments)) = parts.next() else { panic!("{text:?}") };
            let arguments: Value = serde_json::from_str(&arguments).unwrap();
            assert_eq!(arguments, *expected, "{}: {text:?}", family.name);
            assert_eq!(parts.next(), Some(Part::CallEnd), "{text:?}");
        }
        assert_eq!(parts.next(), None, "{}: {text:?}", family.name);
    }
}

const PIECES: &[&str] = &[
    "<tool_call>",
    "\n",
    "{\"name\": \"",
    "a-1",
    "\", \"arguments\": ",
    "{\"x\": \"}\\\"\"}",
    "}",
    "\n</tool_call>",
    "[TOOL_CALLS]",
    "[",
    "]",
    ", ",
    "[ARGS]",
    "text ",
    "<tool_",
    "<|python_tag|>",
    "\", \"parameters\": ",
    "日本",
    " \n ",
    "{",
    "<tool_call>\n<function=f>\n<parameter=x>\n",
    "\n</parameter>\n",
    "</function>\n</tool_call>",
    "<tool_call>f\n<arg_key>k</arg_key>\n<arg_value>",
    "</arg_value>\n",
    "</tool_call>",
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "[f(x=",
    "\"a, \\\"b)\"",
    "y='c'",
    ")",
];

proptest! {
    #[test]
    fn parts_do_not_depend_on_how_the_text_comes(
        pieces in prop::collection::vec(0..PIECES.len(), 1..14),
        cuts in prop::collection::vec(0..9_usize, 1..40),
        is_only in any::<bool>(),
    ) {
        let text: String = pieces.iter().map(|&idx| PIECES[idx]).collect();
        let tokenizer = small();
        for family in families() {
            let calls = Calls::new(family.format(), &tokenizer);
            let calls = if is_only { calls.only_first() } else { calls };
            let split = |lengths: &mut dyn Iterator<Item = usize>| {
                let mut splitter = Splitter::new(None, Some(calls.clone()));
                let (mut parts, mut rest) = (Vec::new(), text.as_str());
                while !rest.is_empty() {
                    let n_bytes = lengths.next().unwrap().min(rest.len());
                    let (piece, behind) = rest.split_at(rest.floor_char_boundary(n_bytes));
                    splitter.push(piece, &mut parts);
                    rest = behind;
                }
                splitter.finish(&mut parts);
                joined(parts)
            };
            let whole = split(&mut std::iter::repeat(usize::MAX));
            let cut = split(&mut cuts.iter().copied().chain(std::iter::repeat(4)));
            prop_assert_eq!(&whole, &cut, "{}", &text);
        }
    }
}

fn tool(name: &str, parameters: Option<Value>) -> Tool {
    Tool { name: name.to_owned(), parameters, texts: None }
}

/// Checks that `text` is calls of `tools`, and returns how many.
fn check_calls(splitter: Splitter, tokenizer: &Tokenizer, text: &str, tools: &[Tool]) -> usize {
    let ids = tokenizer.encode(text, Special::Parse);
    let mut parts = split_tokens(splitter, tokenizer, &ids).into_iter().peekable();
    if let Some(Part::Text(_)) = parts.peek() {
        parts.next();
    }
    let mut n_calls = 0;
    while let Some(part) = parts.next() {
        let Part::CallBegin(name) = part else { panic!("{part:?}: {text:?}") };
        let tool = tools.iter().find(|tool| tool.name == name);
        let tool = tool.unwrap_or_else(|| panic!("{name} is no tool: {text:?}"));
        let Some(Part::Arguments(arguments)) = parts.next() else { panic!("{text:?}") };
        assert_eq!(parts.next(), Some(Part::CallEnd), "{text:?}");
        n_calls += 1;
        let value: Value = match serde_json::from_str(&arguments) {
            Ok(value) => value,
            // JSON has numbers that are too large for the judge.
            Err(error) if error.to_string().contains("number out of range") => continue,
            Err(error) => panic!("{error}: {arguments}: {text:?}"),
        };
        assert!(value.is_object(), "{text:?}");
        if let Some(schema) = &tool.parameters {
            let judge = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
            if let Err(error) = judge.validate(&value) {
                panic!("{name}: {error}: {text:?}");
            }
        }
    }
    n_calls
}

/// Three tools, of which two have the schemas at hand.
fn tools_of(schemas: &[Value]) -> Vec<Tool> {
    let of = |idx: usize| schemas.get(idx).cloned();
    vec![tool("a", of(0)), tool("ab", of(1)), tool("get-it_2", None)]
}

/// The schemas of objects among the test schemas, in pairs.
fn object_schemas() -> Vec<Vec<Value>> {
    let schemas = schemas().into_iter().map(|(_, schema)| schema);
    let objects: Vec<Value> = schemas.filter(|schema| schema["type"] == "object").collect();
    assert!(objects.len() > 20, "{}", objects.len());
    objects.chunks(2).map(<[Value]>::to_vec).collect()
}

#[test]
fn random_calls_are_valid() {
    let vocabularies = [with_control(CONTROL), with_marks(CONTROL, 4, true), small()];
    let schemas = object_schemas();
    for tokenizer in &vocabularies {
        let constraints = Constraints::new(Arc::clone(tokenizer)).unwrap();
        let families = families().into_iter().filter(|family| family.fits(tokenizer));
        for (family_idx, family) in families.enumerate() {
            let (mut n_most, mut n_held, mut n_refused) = (0, 0, 0);
            for (seed, schemas) in schemas.iter().enumerate().skip(family_idx % 3).step_by(3) {
                for (choice, is_parallel) in [
                    (ToolChoice::Required, true),
                    (ToolChoice::Required, false),
                    (ToolChoice::Auto, true),
                ] {
                    let tools = tools_of(schemas);
                    let calls = Calls::new(family.format(), tokenizer).of_tools(&tools);
                    if choice == ToolChoice::Auto && !calls.is_marked() {
                        continue;
                    }
                    let grammar = Grammar::Calls(Box::new(CallGrammar {
                        calls: calls.clone(),
                        tools: tools.clone(),
                        choice,
                        is_parallel,
                        content: None,
                    }));
                    let constraint = constraints.compile(&grammar);
                    let constraint = match constraint {
                        // Where arguments are no JSON, not all schemas can be held to.
                        Err(ConstraintError::Tool { error, .. })
                            if is_spelled(&family) && is_unspelled(&error) =>
                        {
                            n_refused += 1;
                            continue;
                        }
                        constraint => constraint.unwrap_or_else(|e| panic!("{}: {e}", family.name)),
                    };
                    n_held += 1;
                    let begin = match choice {
                        ToolChoice::Auto => tokenizer.encode(&begun(&family), Special::Parse),
                        _ => Vec::new(),
                    };
                    let text =
                        walk_from(&constraint, tokenizer, &begin, mark_of(&family), seed as u64);
                    let splitter = Splitter::new(None, Some(calls.clone()));
                    let n_calls = check_calls(splitter, tokenizer, &text, &tools);
                    assert!(n_calls >= 1 && (is_parallel || n_calls == 1), "{text:?}");
                    n_most = n_most.max(n_calls);
                }
            }
            // A long text leaves a walk no time for a second one.
            let is_single = family.name == "llama3" || !mark_of(&family).is_empty();
            assert!(is_single || n_most > 1, "{}: never two calls", family.name);
            // Which are refused is held by name below; a pair goes with either of its two.
            assert!(n_held > 0, "{}: all {n_refused} refused", family.name);
        }
    }
}

/// A text with a newline, a control character and what JSON escapes in it.
const NOTE: &str = r#"start: "say \"" WORD "\"" ("\n" NUMBER)~1..3 "\\"
WORD: /[a-c"\\\n\x01é]{1,4}/
NUMBER: DIGIT DIGIT?
%import common.DIGIT"#;

#[test]
fn a_text_keeps_to_the_grammar_of_its_tool() {
    let schema = json!({"type": "object", "properties": {"input": {"type": "string"}},
        "required": ["input"]});
    let expected = r#"^say "[a-c"\\\n\x01é]{1,4}"(\n[0-9]{1,2}){1,3}\\$"#;
    let expected = regex::Regex::new(expected).unwrap();
    for tokenizer in [with_control(CONTROL), real()] {
        let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
        let families = families().into_iter().filter(|family| family.fits(&tokenizer));
        for (seed, family) in families.enumerate() {
            let of = |texts: &str| {
                let texts = Some(texts.to_owned());
                let tools = vec![Tool { texts, ..tool("note", Some(schema.clone())) }];
                let calls = Calls::new(family.format(), &tokenizer).of_tools(&tools);
                let (choice, is_parallel, content) = (ToolChoice::Required, false, None);
                CallGrammar { calls, tools, choice, is_parallel, content }
            };
            let grammar = of(NOTE);
            let (calls, tools) = (grammar.calls.clone(), grammar.tools.clone());
            let constraint = constraints.compile(&Grammar::Calls(Box::new(grammar))).unwrap();
            let text = walk_from(&constraint, &tokenizer, &[], mark_of(&family), seed as u64);
            let splitter = || Splitter::new(None, Some(calls.clone()));
            assert_eq!(check_calls(splitter(), &tokenizer, &text, &tools), 1, "{text:?}");
            let ids = tokenizer.encode(&text, Special::Parse);
            let parts = split_tokens(splitter(), &tokenizer, &ids);
            let arguments = parts.iter().find_map(|part| match part {
                Part::Arguments(arguments) => Some(arguments),
                _ => None,
            });
            let arguments: Value = serde_json::from_str(arguments.unwrap()).unwrap();
            let note = arguments["input"].as_str().unwrap();
            assert!(expected.is_match(note), "{}: {note:?}", family.name);
            for (texts, why) in [
                ("start: missing", "unknown name: \"missing\""),
                ("start: \"a\"..\"bc\"", "range end must be a single character"),
                ("start: \"a\" <[1]>", "line 1: a token"),
            ] {
                let refused = constraints.compile(&Grammar::Calls(Box::new(of(texts))));
                let error = refused.unwrap_err().to_string();
                assert!(error.contains("tool note") && error.contains(why), "{error}");
            }
        }
    }
}

/// Whether arguments are written otherwise than as a JSON object.
fn is_spelled(family: &Family) -> bool {
    ["glm", "pythonic", "qwen3-coder"].contains(&&*family.name)
}

/// The test schemas that say more of all arguments than can be held to where each is written by
/// itself, with the keyword that says it.
const UNSPELLED: &[(&str, &str)] = &[
    ("map_of_numbers", "maxProperties"),
    ("min_properties", "minProperties"),
    ("open_object", "maxProperties"),
    ("pattern_properties", "patternProperties"),
    ("unicode_names", "properties"),
];

fn is_unspelled(error: &ConstraintError) -> bool {
    let ConstraintError::Keyword { path, keyword, .. } = error else { return false };
    path == "#" && UNSPELLED.iter().any(|(_, word)| word == keyword)
}

#[test]
fn only_some_schemas_cannot_be_spelled() {
    let tokenizer = small();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    for family in families().into_iter().filter(is_spelled) {
        let mut refused = Vec::new();
        for (name, schema) in schemas().into_iter().filter(|(_, s)| s["type"] == "object") {
            match constraints.compile(&required(&family, &tokenizer, schema)) {
                Ok(_) => {}
                Err(ConstraintError::Tool { error, .. }) => match *error {
                    ConstraintError::Keyword { keyword, .. } => refused.push((name, keyword)),
                    error => panic!("{name}: {error}"),
                },
                Err(error) => panic!("{name}: {error}"),
            }
        }
        let expected = UNSPELLED.iter().map(|&(name, word)| (name.to_owned(), word.to_owned()));
        assert_eq!(refused, expected.collect::<Vec<_>>(), "{}", family.name);
    }
}

/// The grammar of a call of the tool `f` with these arguments.
fn required(family: &Family, tokenizer: &Tokenizer, schema: Value) -> Grammar {
    let tools = vec![tool("f", Some(schema))];
    Grammar::Calls(Box::new(CallGrammar {
        calls: Calls::new(family.format(), tokenizer).of_tools(&tools),
        tools,
        choice: ToolChoice::Required,
        is_parallel: false,
        content: None,
    }))
}

fn family(name: &str) -> Family {
    families().into_iter().find(|family| family.name == name).unwrap()
}

#[test]
fn spelled_values_keep_to_all_of_their_schemas() {
    let tokenizer = small();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    let check = |name: &str, schema: &Value, arguments: &str, expected: bool| {
        let begin = match name {
            "pythonic" => "[f(",
            _ => "<tool_call>\n<function=f>\n",
        };
        let (family, text) = (family(name), format!("{begin}{arguments}"));
        let grammar = required(&family, &tokenizer, schema.clone());
        let found = is_allowed(&constraints, &tokenizer, &grammar, &text);
        assert_eq!(found, expected, "{schema}: {text}");
    };
    let items = json!([{"type": "integer"}, {"type": "boolean"}]);
    let tuple = json!({"type": "array", "items": items, "additionalItems": false});
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"x": tuple},
    });
    check("qwen3-coder", &schema, "<parameter=x>\n[1,true]\n</parameter>", true);
    check("qwen3-coder", &schema, "<parameter=x>\n[true", false);
    check("pythonic", &schema, "x=[1,true])", true);
    // A reference to the root means the arguments, not the value.
    let schema = json!({
        "type": "object",
        "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}},
    });
    check("qwen3-coder", &schema, "<parameter=next>\n{\"v\":1}", true);
    check("qwen3-coder", &schema, "<parameter=next>\n{\"v\":\"", false);
    // Names that begin alike, of which the schema has one.
    let schema = json!({
        "type": "object",
        "properties": {"path": {"type": "string"}, "n": {"type": "integer"}},
        "additionalProperties": true,
    });
    check("qwen3-coder", &schema, "<parameter=pattern>\n{\n</parameter>", true);
    check("qwen3-coder", &schema, "<parameter=path>\na\n</parameter>\n<parameter=n>\n1", true);
    check("qwen3-coder", &schema, "<parameter=n>\nx", false);
    for fixed in [json!({"const": true}), json!({"anyOf": [{"const": true}]})] {
        let mut value = fixed;
        value["type"] = json!("boolean");
        let schema = json!({"type": "object", "properties": {"b": value}});
        check("pythonic", &schema, "b=true)", true);
        check("pythonic", &schema, "b=false)", false);
        check("pythonic", &schema, "b=False)", false);
    }
    let schema = json!({"type": "object", "properties": {"b": {"type": "boolean"}}});
    check("pythonic", &schema, "b=False)", true);
}

#[test]
fn arguments_that_multiply_or_hold_their_mark_are_refused() {
    let tokenizer = small();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    let check = |schema: Value, expected: &str| {
        let grammar = required(&family("qwen3-coder"), &tokenizer, schema);
        let error = constraints.compile(&grammar).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    };
    let choice = json!({"type": "string", "enum": ["a", "b</parameter>"]});
    check(json!({"type": "object", "properties": {"x": choice}}), "in it, which ends it");
    let values = (0..500).map(|i| (format!("p{i}"), json!({"$ref": "#/$defs/all"})));
    let long = json!({"type": "integer", "enum": (0..4000).collect::<Vec<_>>()});
    let properties: serde_json::Map<String, Value> = values.collect();
    let schema = json!({"type": "object", "properties": properties, "$defs": {"all": long}});
    check(schema, "bytes of the definitions that arguments refer to");
}

/// The parts of what a model wrote as a call of `f` with the arguments `x`, a list, and `t`.
fn spelled_parts(text: &str) -> Vec<Part> {
    let properties = json!({"x": {"type": "array"}, "t": {"type": "string"}});
    let tools = [tool("f", Some(json!({"type": "object", "properties": properties})))];
    let calls = Calls::new(family("qwen3-coder").format(), &small()).of_tools(&tools);
    let (mut splitter, mut parts) = (Splitter::new(None, Some(calls)), Vec::new());
    splitter.push(&format!("<tool_call>\n<function=f>\n{text}"), &mut parts);
    splitter.finish(&mut parts);
    joined(parts)
}

#[test]
fn a_call_that_is_not_understood_is_not_complete() {
    let check = |text: &str, arguments: &str, is_complete: bool| {
        let parts = spelled_parts(text);
        assert_eq!(parts[0], Part::CallBegin("f".to_owned()), "{text:?}");
        assert_eq!(parts[1], Part::Arguments(arguments.to_owned()), "{text:?}");
        assert_eq!(parts.contains(&Part::CallEnd), is_complete, "{text:?}: {parts:?}");
    };
    let end = "</function>\n</tool_call>";
    let list = r#"["</parameter>", "it's \"</parameter>"]"#;
    let text = format!("<parameter=x>\n{list}\n</parameter>\n{end}");
    check(&text, &format!("{{\"x\": {list}}}"), true);
    check(&format!("<parameter=x>\n[]\n</parameter>\n\"]\n{end}"), "{\"x\": []", false);
    check(&format!("<parameter=x>\n[]\n</parameter>\n<param\n{end}"), "{\"x\": []", false);
    // What came of a text that is cut off is not lost.
    check("<parameter=t>\n", "{\"t\": \"", false);
    check("<parameter=t>\na \"b\n</par", "{\"t\": \"a \\\"b", false);
    check("<parameter=x>\n[]\n</parameter>\n<parameter=t>\na", "{\"x\": [], \"t\": \"a", false);
}

/// What ends an argument that is text.
fn mark_of(family: &Family) -> &'static str {
    match &*family.name {
        "glm" => "</arg_value>\n",
        "qwen3-coder" => "\n</parameter>\n",
        _ => "",
    }
}

/// A text and the mark that begins calls behind it.
fn begun(family: &Family) -> String {
    format!("So: {}", family.format().mark)
}

#[test]
fn calls_come_with_a_real_vocabulary_too() {
    let tokenizer = real();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    let calls = Calls::new(ToolFormat::generic(), &tokenizer);
    for (seed, schemas) in object_schemas().iter().enumerate().step_by(8) {
        let tools = tools_of(schemas);
        let grammar = Grammar::Calls(Box::new(CallGrammar {
            calls: calls.clone(),
            tools: tools.clone(),
            choice: ToolChoice::Required,
            is_parallel: true,
            content: None,
        }));
        let constraint = constraints.compile(&grammar).unwrap();
        let text = walk(&constraint, &tokenizer, seed as u64);
        let splitter = Splitter::new(None, Some(calls.clone()));
        assert!(check_calls(splitter, &tokenizer, &text, &tools) >= 1, "{text:?}");
    }
}

/// Whether the answer `text` can be begun under the grammar.
fn is_allowed(constraints: &Constraints, tokenizer: &Tokenizer, g: &Grammar, text: &str) -> bool {
    let mut matcher = constraints.compile(g).unwrap().matcher();
    tokenizer.encode(text, Special::Parse).into_iter().all(|id| {
        let is_allowed = matcher.mask().unwrap().allows(id);
        is_allowed && matcher.accept(id).is_ok()
    })
}

#[test]
fn no_call_begins_where_none_is_wanted_and_nothing_else_behind_a_mark() {
    for tokenizer in [with_control(CONTROL), small()] {
        let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
        for family in families().into_iter().filter(|family| family.fits(&tokenizer)) {
            let grammar = |choice, content| {
                Grammar::Calls(Box::new(CallGrammar {
                    calls: Calls::new(family.format(), &tokenizer),
                    tools: vec![tool("a", None)],
                    choice,
                    is_parallel: true,
                    content,
                }))
            };
            let check = |choice, content: Option<Grammar>, text: &str, expected: bool| {
                let grammar = grammar(choice, content);
                let found = is_allowed(&constraints, &tokenizer, &grammar, text);
                assert_eq!(found, expected, "{}: {choice:?}: {text:?}", family.name);
            };
            let call = begun(&family);
            let is_marked = Calls::new(family.format(), &tokenizer).is_marked();
            check(ToolChoice::None, None, "So it is.", true);
            check(ToolChoice::Auto, None, "So it is.", true);
            check(ToolChoice::Required, None, "So", false);
            check(ToolChoice::None, None, &call, false);
            check(ToolChoice::Auto, None, &call, is_marked);
            if is_marked {
                check(ToolChoice::Auto, None, &format!("{call} no"), false);
            }
            // Beside a schema it is either the one or the other.
            let number = || Some(Grammar::JsonSchema(json!({"type": "integer"})));
            check(ToolChoice::Auto, number(), "12", true);
            check(ToolChoice::Auto, number(), "So", false);
            check(ToolChoice::Auto, number(), call.trim_start_matches("So: "), is_marked);
            check(ToolChoice::None, number(), call.trim_start_matches("So: "), false);
            let whole = family.format().write([("a", &json!({}))]);
            check(ToolChoice::Required, None, &whole, true);
            check(ToolChoice::Auto, None, &whole, true);
            let is_single = family.name == "llama3";
            let two = family.format().write([("a", &json!({"x": 1})), ("a", &json!({}))]);
            check(ToolChoice::Required, None, &two, !is_single);
            let other = family.format().write([("b", &json!({}))]);
            check(ToolChoice::Required, None, &other, false);
            check(ToolChoice::Auto, None, &other, false);
        }
    }
}

#[test]
fn tools_that_cannot_be_held_to_are_refused_by_name() {
    let tokenizer = small();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    let check = |tools: Vec<Tool>, expected: &str| {
        let grammar = Grammar::Calls(Box::new(CallGrammar {
            calls: Calls::new(ToolFormat::generic(), &tokenizer),
            tools,
            choice: ToolChoice::Auto,
            is_parallel: true,
            content: None,
        }));
        let error = constraints.compile(&grammar).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        error
    };
    let ok = || tool("ok", Some(json!({"type": ["object", "null"], "properties": {}})));
    let bad = json!({"type": "object", "properties": {"x": {"not": {}}}});
    let error = check(vec![ok(), tool("bad", Some(bad))], "#/properties/x: keyword \"not\"");
    assert!(matches!(error, ConstraintError::Tool { name, .. } if name == "bad"));
    check(vec![tool("list", Some(json!({"type": "array"})))], "keyword \"type\"");
    check(vec![tool("text", Some(json!("object")))], "expected a schema of an object");
    check(vec![tool("a b", None)], "no name of a tool");
    check((0..257).map(|i| tool(&format!("t{i}"), None)).collect(), "tools: 257");
}

#[test]
fn what_cannot_be_enforced_is_left_out_and_told_where_nobody_insists() {
    let schema = json!({
        "type": "object",
        "properties": {
            "n": {"type": "integer", "format": "uint32", "minimum": 0},
            "list": {"type": "array", "items": {"$ref": "#/$defs/a"}, "uniqueItems": true},
            "x": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
            "a/b": {"type": "string", "pattern": "^(?!x)"},
            "w": {"type": "string", "pattern": "\\bx"},
            "far": {"$ref": "other.json"},
        },
        "required": ["n", "list", "x"],
        "minProperties": 1,
        "$defs": {"a": {"type": "string", "not": {"const": "x"}}},
    });
    let places = [
        "#/properties/n/format",
        "#/properties/list/uniqueItems",
        "#/properties/x/oneOf",
        "#/properties/a~1b/pattern",
        "#/properties/w/pattern",
        "#/properties/far/$ref",
        "#/minProperties",
        "#/$defs/a/not",
    ];
    let tokenizer = small();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    let calls = Calls::new(ToolFormat::generic(), &tokenizer);
    let (relaxed, left_out) = ToolFormat::generic().relaxed(&tool("f", Some(schema))).unwrap();
    assert_eq!(left_out.places, places);
    assert_eq!(left_out.n_all, places.len());
    // The rest is held to.
    let grammar = Grammar::Calls(Box::new(CallGrammar {
        calls,
        tools: vec![relaxed],
        choice: ToolChoice::Required,
        is_parallel: false,
        content: None,
    }));
    let check = |arguments: Value, expected: bool| {
        let text = ToolFormat::generic().write([("f", &arguments)]);
        let found = is_allowed(&constraints, &tokenizer, &grammar, &text);
        assert_eq!(found, expected, "{arguments}");
    };
    check(json!({"n": 1, "list": ["x", "x"], "x": 2, "a/b": "x"}), true);
    check(json!({"n": -1, "list": [], "x": 2}), false);
    check(json!({"n": 1, "list": [2], "x": 2}), false);
    check(json!({"n": 1, "list": [], "x": "2"}), false);
    check(json!({"n": 1, "list": [], "x": 2, "z": 2}), false);
}

#[test]
fn what_is_left_out_is_bounded_and_only_what_must_be() {
    let relaxed = |name: &str, schema: Value| {
        let format = if name.is_empty() { ToolFormat::generic() } else { family(name).format() };
        format.relaxed(&tool("f", Some(schema)))
    };
    let plain = json!({"type": "object", "properties": {"a": {"format": "date"}}});
    let (same, left_out) = relaxed("", plain.clone()).unwrap();
    assert_eq!((same.parameters, left_out.n_all), (Some(plain), 0));
    // What is said about others is not made narrower by leaving it out.
    let open = json!({"properties": {"a": {}}, "if": {}, "then": {"properties": {"b": {}}}});
    let (same, left_out) = relaxed("", open).unwrap();
    assert_eq!(same.parameters.unwrap()["additionalProperties"], true);
    assert_eq!(left_out.places, ["#/if", "#/then"]);
    let many: serde_json::Map<String, Value> =
        (0..100).map(|i| (format!("p{i}"), json!({"not": {}}))).collect();
    let (_, left_out) = relaxed("", json!({"properties": many})).unwrap();
    assert_eq!((left_out.places.len(), left_out.n_all), (16, 100));
    // Where arguments are not written as JSON, the object as a whole is held to nothing.
    let whole = json!({"properties": {"a": {"type": "integer", "not": {}}}, "required": ["a", "b"],
        "anyOf": [{"required": ["a"]}]});
    let (open, left_out) = relaxed("qwen3-coder", whole).unwrap();
    assert_eq!(left_out.places, ["#/anyOf", "#/required", "#/properties/a/not"]);
    let expected = json!({"properties": {"a": {"type": "integer"}}, "required": ["a"],
        "type": "object", "additionalProperties": true});
    assert_eq!(open.parameters, Some(expected));
    // What is no schema of an object is one nowhere.
    assert!(relaxed("", json!({"type": "array"})).is_err());
    assert!(relaxed("", json!({"properties": {"a": 7}})).is_err());
}
