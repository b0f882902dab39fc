//! Grammars in GBNF: what they accept and what they do not, walks through their masks, and what is
//! refused, by place.
#![allow(clippy::unwrap_used)] // What fails here fails the test.

use crate::support::{real, small, walk};
#[allow(dead_code)] // What other tests need of it.
use freehold_text::{Constraint, Constraints, Grammar, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// A grammar with texts that it accepts and texts that it does not.
struct Case {
    name: String,
    source: String,
    accept: Vec<String>,
    reject: Vec<String>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grammars");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "gbnf") {
            let texts = std::fs::read_to_string(path.with_extension("json")).unwrap();
            let texts: Value = serde_json::from_str(&texts).unwrap();
            let list = |name: &str| -> Vec<String> {
                texts[name].as_array().unwrap().iter().map(|t| t.as_str().unwrap().into()).collect()
            };
            cases.push(Case {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                source: std::fs::read_to_string(&path).unwrap(),
                accept: list("accept"),
                reject: list("reject"),
            });
        }
    }
    assert_eq!(cases.len(), 7);
    cases
}

fn compile(constraints: &Constraints, source: &str) -> Constraint {
    let grammar = Grammar::of_rules(source.to_owned());
    assert!(matches!(grammar, Grammar::Gbnf(_)));
    constraints.compile(&grammar).unwrap_or_else(|e| panic!("{e}: {source}"))
}

/// Whether `text`, written byte by byte, is an answer.
fn accepts(constraint: &Constraint, tokenizer: &Tokenizer, text: &str) -> bool {
    let mut matcher = constraint.matcher();
    for byte in text.bytes() {
        let id = (0..tokenizer.n_vocab() as u32)
            .find(|&id| !tokenizer.is_control(id) && tokenizer.token_bytes(id) == [byte])
            .unwrap();
        // What is forced comes as the tokenizer writes it, so bytes need not be in the mask.
        if matcher.is_complete() || matcher.accept(id).is_err() {
            return false;
        }
    }
    matcher.may_end()
}

#[test]
fn well_known_grammars_accept_what_they_should() {
    let tokenizer = small();
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    for Case { name, source, accept, reject } in cases() {
        let constraint = compile(&constraints, &source);
        for text in accept {
            assert!(accepts(&constraint, &tokenizer, &text), "{name} rejects {text:?}");
        }
        for text in reject {
            assert!(!accepts(&constraint, &tokenizer, &text), "{name} accepts {text:?}");
        }
    }
}

#[test]
fn walks_through_the_masks_are_accepted() {
    let (tokenizer, real) = (small(), real());
    let constraints = [&tokenizer, &real].map(|t| Constraints::new(Arc::clone(t)).unwrap());
    for Case { name, source, .. } in cases() {
        let judge = compile(&constraints[0], &source);
        for (constraints, vocabulary, n_walks) in
            [(&constraints[0], &tokenizer, 12), (&constraints[1], &real, 2)]
        {
            let constraint = compile(constraints, &source);
            for seed in 0..n_walks {
                let text = walk(&constraint, vocabulary, seed);
                assert!(accepts(&judge, &tokenizer, &text), "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn mistakes_are_told_by_line_and_column() {
    let constraints = Constraints::new(small()).unwrap();
    let check = |source: &str, expected: &str| {
        let error = constraints.compile(&Grammar::Gbnf(source.to_owned()));
        let message = error.expect_err(source).to_string();
        assert!(message.contains(expected), "{source:?}: {message}");
    };
    check("", "line 1, column 1: no rule is named root");
    check("a ::= \"b\"", "no rule is named root");
    check("root ::= a\n", "line 1, column 10: there is no rule a");
    check("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: rule root is defined twice");
    check("root = \"a\"", "line 1, column 6: expected ::=");
    check("root ::= \"a", "line 1, column 10: a literal without an end");
    check("root ::= [a-", "line 1, column 10: a class without an end");
    check("root ::= [z-a]", "line 1, column 11: a range that ends before it begins");
    check("root ::= []", "line 1, column 10: a class without characters");
    check("root ::= \"é\" \"\\q\"", "line 1, column 15: expected \\n");
    check("root ::= \"\\ud800\"", "line 1, column 11: expected a character's number in 4 digits");
    check("root ::= \"\\x4\"", "expected a character's number in 2 digits");
    check("# x\nroot ::= (\"a\" | \n\n", "line 4, column 1: expected )");
    check("root ::= \"a\")", "line 1, column 13: expected the end of the rule");
    check("root ::= *", "line 1, column 10: expected something to repeat");
    check("root ::= \"a\"{2,1}", "line 1, column 13: expected at most as many");
    check("root ::= \"a\"{3", "line 1, column 15: expected }");
    check("root ::= \"a\"{x}", "line 1, column 14: expected a count of at most 2000");
    check("root ::= \"a\"{2001}", "line 1, column 14: expected a count");
    check("root ::= <think>", "line 1, column 10: tokens are not supported");
    check("root ::= 'a'", "line 1, column 10: '\\'': expected a literal");
    check(&format!("root ::= {}", "(".repeat(200)), "parentheses deeper than 100");
    check(&format!("root ::= {}", "\"a\" ".repeat(5000)), "items of the grammar: 4001");
    check(&format!("root ::= \"a\"{}", "*".repeat(65_000)), "column 17: more than 4 operators");
    let twice = "\"a\"* ".repeat(2001);
    check(&format!("root ::= {twice}"), "items of the grammar: 4002");
    check(&"a".repeat(70_000), "bytes of the grammar: 70000");
    let rules: String = (0..501).map(|i| format!("r{i} ::= \"a\"\n")).collect();
    check(&rules, "rules of the grammar: 501");
}

/// Rules are walked by recursion, which is not to depend on the stack of the thread that asks.
#[test]
fn long_ways_through_rules_need_no_stack_of_the_caller() {
    let rule = |i: usize| format!("r{i} ::= (\"a\" (\"b\" r{})?)+\n", i + 1);
    let rules: String = (0..400).map(rule).collect();
    let source = format!("root ::= r0\n{rules}r400 ::= \"b\"\n");
    let constraints = Constraints::new(small()).unwrap();
    let work = move || constraints.compile(&Grammar::Gbnf(source)).map(|_| ());
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(work).unwrap();
    thread.join().unwrap().unwrap();
}

/// The definition: a text is cut in every way.
mod definition {
    use super::{BTreeSet, HashMap};

    /// Of a grammar of three rules, by number.
    #[derive(Debug, Clone)]
    pub(super) enum Expr {
        Text(String),
        Class(String),
        Seq(Vec<Expr>),
        Alt(Vec<Expr>),
        Repeat(Box<Expr>, usize, Option<usize>),
        Rule(usize),
    }

    pub(super) fn written(expr: &Expr) -> String {
        let all = |exprs: &[Expr], between: &str| {
            exprs.iter().map(written).collect::<Vec<_>>().join(between)
        };
        match expr {
            Expr::Text(text) => format!("\"{text}\""),
            Expr::Class(chars) => format!("[{chars}]"),
            Expr::Seq(exprs) => format!("({})", all(exprs, " ")),
            Expr::Alt(exprs) => format!("({})", all(exprs, " | ")),
            Expr::Repeat(inner, 0, None) => format!("{}*", written(inner)),
            Expr::Repeat(inner, 1, None) => format!("{}+", written(inner)),
            Expr::Repeat(inner, min, None) => format!("{}{{{min},}}", written(inner)),
            Expr::Repeat(inner, min, Some(max)) => format!("{}{{{min},{max}}}", written(inner)),
            Expr::Rule(idx) => ["root", "b", "c"][*idx].to_owned(),
        }
    }

    /// By rule and begin, the ends of the rule's texts.
    type Ends = HashMap<(usize, usize), BTreeSet<usize>>;

    pub(super) fn accepts(rules: &[Expr], text: &str) -> bool {
        // The least sets for which all rules hold.
        let mut ends = Ends::new();
        loop {
            let before = ends.clone();
            for (rule_idx, rule) in rules.iter().enumerate() {
                for begin in 0..=text.len() {
                    let found = ends_of(rule, text, begin, &ends);
                    ends.entry((rule_idx, begin)).or_default().extend(found);
                }
            }
            if ends == before {
                return ends[&(0, 0)].contains(&text.len());
            }
        }
    }

    fn ends_of(expr: &Expr, text: &str, begin: usize, ends: &Ends) -> BTreeSet<usize> {
        let behind = |begins: &BTreeSet<usize>, expr: &Expr| -> BTreeSet<usize> {
            begins.iter().flat_map(|&begin| ends_of(expr, text, begin, ends)).collect()
        };
        let rest = &text[begin..];
        match expr {
            Expr::Text(own) if rest.starts_with(own.as_str()) => [begin + own.len()].into(),
            Expr::Class(chars) if rest.starts_with(|c| chars.contains(c)) => [begin + 1].into(),
            Expr::Text(_) | Expr::Class(_) => BTreeSet::new(),
            Expr::Seq(exprs) => exprs.iter().fold([begin].into(), |at, expr| behind(&at, expr)),
            Expr::Alt(exprs) => exprs.iter().flat_map(|e| ends_of(e, text, begin, ends)).collect(),
            Expr::Repeat(inner, min, max) => {
                let mut at: BTreeSet<usize> = [begin].into();
                let mut all = if *min == 0 { at.clone() } else { BTreeSet::new() };
                // Empty repetitions can make up for any number that is missing.
                for n in 1..=max.unwrap_or(text.len() + 1 + min) {
                    at = behind(&at, inner);
                    if n >= *min {
                        all.extend(&at);
                    }
                }
                all
            }
            Expr::Rule(idx) => ends.get(&(*idx, begin)).cloned().unwrap_or_default(),
        }
    }
}

fn any_expr() -> impl Strategy<Value = definition::Expr> {
    use definition::Expr;
    let leaf = prop_oneof![
        "[ab]{1,2}".prop_map(Expr::Text),
        prop_oneof!["a", "b", "ab", "bc"].prop_map(Expr::Class),
        (0..3_usize).prop_map(Expr::Rule),
        Just(Expr::Text("(".to_owned())),
        Just(Expr::Seq(Vec::new())),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        let many = || prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            many().prop_map(Expr::Seq),
            many().prop_map(Expr::Alt),
            (inner.clone(), 0..3_usize, prop::option::of(0..2_usize)).prop_map(
                |(inner, min, more)| {
                    let max = more.map(|more| (min + more).max(1));
                    Expr::Repeat(Box::new(inner), min, max)
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    /// However a grammar is written for the lexer, its texts are those of the definition.
    #[test]
    fn any_grammar_has_the_texts_of_its_definition(
        rules in prop::collection::vec(any_expr(), 3..=3),
    ) {
        let (tokenizer, constraints) = shared();
        let source: String = ["root", "b", "c"]
            .iter()
            .zip(&rules)
            .map(|(name, rule)| format!("{name} ::= {}\n", definition::written(rule)))
            .collect();
        let texts: Vec<String> = texts_up_to(4);
        let is_empty = !texts.iter().any(|text| definition::accepts(&rules, text));
        let Ok(constraint) = constraints.compile(&Grammar::Gbnf(source.clone())) else {
            // Refused is only what has no texts, or none that short.
            prop_assert!(is_empty, "{}", source);
            return Ok(());
        };
        for text in &texts {
            let expected = definition::accepts(&rules, text);
            let found = accepts(&constraint, tokenizer, text);
            prop_assert_eq!(found, expected, "{:?} {}", text, source);
        }
    }
}

fn shared() -> &'static (Arc<Tokenizer>, Constraints) {
    static SHARED: std::sync::OnceLock<(Arc<Tokenizer>, Constraints)> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| {
        let tokenizer = small();
        let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
        (tokenizer, constraints)
    })
}

/// All texts of `a`, `b`, `c` and `(` that are not longer.
fn texts_up_to(n_most: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..n_most {
        let longer = |text: &String| ["a", "b", "c", "("].map(|c| format!("{text}{c}"));
        last = last.iter().flat_map(longer).collect();
        all.extend_from_slice(&last);
    }
    all
}

#[test]
fn the_first_rule_tells_the_notation() {
    let check = |source: &str, is_gbnf: bool| {
        let grammar = Grammar::of_rules(source.to_owned());
        assert_eq!(matches!(grammar, Grammar::Gbnf(_)), is_gbnf, "{source:?}");
    };
    check("root ::= \"a\"", true);
    check("\n# start: x\n\n  my-rule\t::= \"a\"", true);
    check("start: \"name ::= value\"", false);
    check("// root ::= x\nstart: \"a\"", false);
    check("::= \"a\"", false);
    check("# root ::= a", false);
    check("", false);
}
