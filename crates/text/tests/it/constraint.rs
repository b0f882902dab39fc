//! Constraints on whole answers: whatever a model would like to say, what comes out is valid.
//!
//! A random walk through the masks is a model without any sense, so it meets what a good model
//! never tries. Each schema in `schemas/` is walked on a small vocabulary and on a real one, and
//! another library judges the result.
#![allow(clippy::unwrap_used)] // What fails here fails the test.

use crate::support::{real, schemas, small, walk};
use freehold_text::{ConstraintError, Constraints, Grammar, Tokenizer};
use serde_json::Value;
use std::sync::Arc;

fn check_schemas(tokenizer: &Arc<Tokenizer>, n_walks: u64) {
    let constraints = Constraints::new(Arc::clone(tokenizer)).unwrap();
    for (name, schema) in schemas() {
        let grammar = Grammar::JsonSchema(schema.clone());
        let constraint = constraints.compile(&grammar).unwrap_or_else(|e| panic!("{name}: {e}"));
        let judge = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        for seed in 0..n_walks {
            let text = walk(&constraint, tokenizer, seed);
            let value: Value = match serde_json::from_str(&text) {
                Ok(value) => value,
                // JSON has numbers that are too large for the judge.
                Err(error) if error.to_string().contains("number out of range") => continue,
                Err(error) => panic!("{name}: {error}: {text}"),
            };
            if let Err(error) = judge.validate(&value) {
                panic!("{name} {seed}: {error}: {text}");
            }
        }
    }
}

#[test]
fn random_walks_are_valid_on_a_small_vocabulary() {
    check_schemas(&small(), 20);
}

#[test]
fn random_walks_are_valid_on_a_real_vocabulary() {
    check_schemas(&real(), 2);
}

/// The real vocabulary has no token for some control characters.
#[test]
fn a_choice_is_of_what_the_vocabulary_can_spell() {
    let constraints = Constraints::new(real()).unwrap();
    let check = |text: &str, is_spelled: bool| {
        let grammar = Grammar::Choice(vec!["yes".to_owned(), text.to_owned()]);
        match constraints.compile(&grammar) {
            Ok(_) => assert!(is_spelled, "{text:?}"),
            Err(error) => {
                let expected = "alternative 1 has bytes that this model cannot write";
                assert!(!is_spelled && error.to_string() == expected, "{text:?}: {error}");
            }
        }
    };
    check("a\u{7f}", true);
    check("\u{9a}\u{1}🦀 b", true);
    check("a\u{4}", false);
    check("\u{9a}\u{4}🦀", false);
}

#[test]
fn other_grammars_hold_too() {
    let tokenizer = small();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    let check = |grammar: Grammar, is_good: &dyn Fn(&str) -> bool| {
        let constraint = constraints.compile(&grammar).unwrap();
        for seed in 0..30 {
            let text = walk(&constraint, &tokenizer, seed);
            assert!(is_good(&text), "{grammar:?}: {text:?}");
        }
    };
    check(Grammar::JsonObject, &|text| match serde_json::from_str::<Value>(text) {
        Ok(value) => value.is_object(),
        // JSON has numbers that are too large for the judge.
        Err(error) => error.to_string().contains("number out of range"),
    });
    check(Grammar::Regex("a+(b|é)[0-9]{2}/".into()), &|text| {
        let rest = text.trim_start_matches('a');
        let digits = rest.strip_prefix('b').or(rest.strip_prefix('é')).unwrap();
        rest != text
            && digits.len() == 3
            && digits.ends_with('/')
            && digits[..2].parse::<u8>().is_ok()
    });
    let choices = ["yes", "no", "yes, but\n\"later\"", "日本"];
    let choice = Grammar::Choice(choices.map(String::from).to_vec());
    check(choice, &|text| choices.contains(&text));
    let lark = "start: \"(\" inner* \")\"\ninner: \"a\" | start".to_owned();
    check(Grammar::Lark(lark), &|text| {
        text.matches('(').count() == text.matches(')').count() && !text.contains("()a)b")
    });
}

#[test]
fn one_grammar_is_compiled_once() {
    let constraints = Constraints::new(small()).unwrap();
    let regex = |n: usize| Grammar::Regex(format!("a{{{n}}}"));
    let first = constraints.compile(&regex(1)).unwrap();
    assert!(first == constraints.compile(&regex(1)).unwrap());
    assert!(first != constraints.compile(&regex(2)).unwrap());
    for n in 0..40 {
        constraints.compile(&regex(100 + n)).unwrap();
    }
    assert!(first != constraints.compile(&regex(1)).unwrap(), "the oldest made room");
}

/// The schema is refused with this message.
#[track_caller]
fn check_refused(constraints: &Constraints, schema: Value, expected: &str) {
    let error = constraints.compile(&Grammar::JsonSchema(schema.clone()));
    let message = error.expect_err(&schema.to_string()).to_string();
    assert!(message.contains(expected), "{schema}: {message:?} lacks {expected:?}");
}

#[test]
fn what_cannot_be_enforced_is_refused_by_place_and_name() {
    use serde_json::json;
    let constraints = Constraints::new(small()).unwrap();
    let check = |schema: Value, expected: &str| check_refused(&constraints, schema, expected);
    for keyword in [
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$recursiveRef",
        "nullable",
        "minLenght",
        "x-guidance",
    ] {
        let schema = json!({"type": "object", "properties": {"a/b": {keyword: {}}}});
        check(schema, &format!("#/properties/a~1b: keyword {keyword:?}"));
    }
    check(json!({"items": {"uniqueItems": true}}), "#/items: keyword \"uniqueItems\"");
    check(json!({"anyOf": [{}, {"format": "regex"}]}), "#/anyOf/1: keyword \"format\": \"regex\"");
    check(json!({"$defs": {"a": {"not": {}}}, "$ref": "#/$defs/a"}), "#/$defs/a: keyword \"not\"");
    for pointer in ["#/$defs/b", "https://example.org/a.json", "a.json", "#anchor", ""] {
        check(json!({"$defs": {"a": {}}, "$ref": pointer}), "#: keyword \"$ref\"");
    }
    check(json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "#: keyword \"oneOf\"");
    check(json!({"oneOf": [{"type": "object"}, {"type": "object"}]}), "branch 0 and branch 1");
    check(
        json!({"properties": {"a": {}}, "maxProperties": 2}),
        "#: keyword \"maxProperties\": not supported where a property (\"a\") is optional",
    );
    check(json!({"properties": []}), "#: keyword \"properties\"");
    check(json!({"items": 3}), "#/items: expected a schema");
    check(json!("string"), "#: expected a schema");
    check(json!(false), "false");
    check(json!({"type": "string", "pattern": "(?=a)b"}), "look");
    check(json!({"type": "integer", "minimum": 5, "maximum": 4}), "5");
    check(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "");
}

#[test]
fn hostile_grammars_are_refused() {
    use serde_json::json;
    let constraints = Constraints::new(small()).unwrap();
    // Definitions in a chain, as deep as the parser recurses along them, and deeper.
    let chain = |n: usize| {
        let definition = |i: usize| {
            let next = format!("#/$defs/d{}", i + 1);
            (format!("d{i}"), json!({"type": "array", "items": {"$ref": next}}))
        };
        let mut definitions: serde_json::Map<String, Value> = (0..n).map(definition).collect();
        definitions.insert(format!("d{n}"), json!({"type": "null"}));
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    };
    constraints.compile(&Grammar::JsonSchema(chain(900))).unwrap();
    check_refused(&constraints, chain(2000), "definitions of the schema");
    let deep = (0..500).fold(json!({}), |inner, _| json!({"items": inner}));
    check_refused(&constraints, deep, "nested too deep");
    let refused = |grammar: Grammar, expected: &str| {
        let start: String = format!("{grammar:?}").chars().take(40).collect();
        let message = constraints.compile(&grammar).expect_err(&start).to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    };
    refused(Grammar::Regex("(".repeat(1000)), "");
    refused(Grammar::Regex("a".repeat(2 << 20)), "bytes of the grammar");
    refused(Grammar::Choice(Vec::new()), "a choice of nothing");
    refused(Grammar::Choice(vec!["a".into(); 1025]), "alternatives of the choice");
    refused(Grammar::Choice(vec![String::new()]), "an alternative is empty");
    // Rules in a chain, each a step of the parser's recursion.
    let rules = |n: usize| {
        let rule = |i: usize| format!("r{i}: r{}\n", i + 1);
        let all: String = (0..n).map(rule).collect();
        Grammar::Lark(format!("start: r0\n{all}r{n}: \"a\"\n"))
    };
    constraints.compile(&rules(990)).unwrap();
    refused(rules(1000), "rules of the grammar");
    refused(Grammar::Lark("start: \"a\"".repeat(10_000)), "bytes of the grammar");
    refused(Grammar::Lark("start: %json {}".into()), "%json");
    refused(Grammar::Lark("start: missing".into()), "missing");
    refused(Grammar::Lark(String::new()), "");
}

#[test]
fn small_schemas_that_ask_for_much_work_are_refused() {
    use serde_json::json;
    let constraints = Constraints::new(small()).unwrap();
    // Two definitions that are alike, and refer to themselves by each of several properties.
    let like = |name: &str| {
        let names: Vec<String> = (0..10).map(|i| format!("p{i}")).collect();
        let itself = json!({"$ref": format!("#/$defs/{name}")});
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| (name.clone(), itself.clone())).collect();
        json!({"type": "object", "required": names, "properties": properties})
    };
    let branches = json!([{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]);
    let schema = json!({"oneOf": branches, "$defs": {"a": like("a"), "b": like("b")}});
    check_refused(&constraints, schema, "comparisons between the branches of oneOf");
    let many: Vec<Value> = (0..1000).map(|i| json!({"const": i})).collect();
    check_refused(
        &constraints,
        json!({"oneOf": many}),
        "comparisons between the branches of oneOf",
    );
    // One definition under many spellings of its pointer is written once.
    let spelling = |bits: usize| {
        let letter = |(i, c): (usize, char)| match bits >> i & 1 {
            0 => c.to_string(),
            _ => format!("%{:02X}", c as u32),
        };
        let name: String = "abcdefghijk".chars().enumerate().map(letter).collect();
        json!({"$ref": format!("#/$defs/{name}")})
    };
    let spellings: Vec<Value> = (0..1500).map(spelling).collect();
    let schema = json!({"prefixItems": spellings, "$defs": {"abcdefghijk": {"type": "null"}}});
    constraints.compile(&Grammar::JsonSchema(schema)).unwrap();
    // Deep definitions in a chain: as deep as the parser may recurse, and deeper.
    let chain = |n: usize| {
        let definition = |i: usize| {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            let deep = (0..120).fold(next, |inner, _| json!({"type": "array", "items": inner}));
            (format!("d{i}"), deep)
        };
        let mut definitions: serde_json::Map<String, Value> = (0..n).map(definition).collect();
        definitions.insert(format!("d{n}"), json!({"type": "null"}));
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    };
    constraints.compile(&Grammar::JsonSchema(chain(30))).unwrap();
    check_refused(&constraints, chain(40), "levels of the schema");
}

#[test]
fn tokens_that_are_not_allowed_are_refused() {
    let constraints = Constraints::new(small()).unwrap();
    let constraint = constraints.compile(&Grammar::Regex("ab".into())).unwrap();
    let mut matcher = constraint.matcher();
    assert!(matches!(matcher.accept(u32::MAX), Err(ConstraintError::Step(_))));
}
