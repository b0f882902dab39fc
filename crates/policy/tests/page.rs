//! The examples of docs/policy.md do what the page says, and so do the tables.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use freehold_policy::{Class, Detector, Rules, parse_cases};

const PAGE: &str = include_str!("../../../docs/policy.md");

/// The block of TOML on the page that contains `part`.
fn block(part: &str) -> &'static str {
    let blocks = PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.into_iter().find(|block| block.contains(part)).unwrap()
}

#[test]
fn the_cases_of_the_page_pass_its_rules() {
    let rules = Rules::parse("policy.toml", block("[[rule]]")).unwrap();
    assert_eq!(rules.len(), 3);
    let detector = Detector::new(rules.settings());
    let cases = parse_cases("cases.toml", block("[[case]]")).unwrap();
    assert_eq!(cases.len(), 2);
    for case in &cases {
        let result = case.check(&rules, &detector).unwrap();
        assert!(result.failures.is_empty(), "{}: {result:#?}", case.name);
    }
}

#[test]
fn the_page_has_every_class() {
    for class in Class::all() {
        assert!(PAGE.contains(&format!("| `{}` |", class.name())), "{class:?}");
    }
}
