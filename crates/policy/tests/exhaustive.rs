//! What is private never leaves: each rule of a grid over every combination of facts, and each pair
//! of rules over a share of them. And what is kept when all is known is kept when less is.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use freehold_policy::{Capability, Class, Decision, Facts, Label, Rules, Sendable, decide};

const OUTCOMES: &[&str] = &[
    "outcome = \"here\"",
    "outcome = \"refuse\"\nreason = \"no\"",
    "outcome = \"there\"\nupstream = \"u\"",
    "outcome = \"here-then-there\"\nupstream = \"u\"\nredacted = true",
    "outcome = \"there-then-here\"\nupstream = \"u\"",
];

const LABELS: &[&str] = &[
    "",
    "label = \"public\"",
    "label = \"internal\"",
    "label = \"private\"",
    "label = [\"public\", \"internal\"]",
    "label = [\"public\", \"private\"]",
    "label = [\"private\", \"internal\", \"public\"]",
];

const CONDITIONS: &[&str] = &[
    "",
    "alias = \"gpt-*\"",
    "tokens = { max = 100 }",
    "detected = \"none\"",
    "needs = \"images\"\ntime = \"22:00-06:00\"",
];

const RAISES: &[&str] = &["", "[detect]\nraise = { email = \"internal\", secret = \"private\" }\n"];

/// One rule of each kind, and whether it may be: a rule that sends has labels, none of them
/// private.
fn rules() -> Vec<(String, bool)> {
    let mut rules = Vec::new();
    for outcome in OUTCOMES {
        for label in LABELS {
            for condition in CONDITIONS {
                let sends = outcome.contains("upstream");
                let may_be = !sends || !(label.is_empty() || label.contains("private"));
                rules.push((format!("{label}\n{condition}\n{outcome}\n"), may_be));
            }
        }
    }
    rules
}

fn policy(raise: &str, rules: &[&str]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .enumerate()
        .map(|(at, rule)| format!("[[rule]]\nname = \"{at}\"\n{rule}"))
        .collect();
    format!("upstreams = [\"u\"]\n{raise}{}", rules.concat())
}

/// All combinations of what may be known of a request.
fn facts() -> Vec<Facts> {
    let labels = || [None, Some(Label::Public), Some(Label::Internal), Some(Label::Private)];
    let class = |name| Class::named(name).unwrap();
    let detected = || {
        let sets = [vec![], vec![class("email")], vec![class("email"), class("jwt")]];
        let known = sets.map(|set| Some(set.into_iter().collect::<BTreeSet<_>>()));
        std::iter::once(None).chain(known)
    };
    let mut all = Vec::new();
    for key_label in labels() {
        for header_label in labels() {
            for detected in detected() {
                // What else there is, known and unknown, is counted through by its bits.
                for bits in 0_u32..1 << 6 {
                    let has = |bit: u32| bits & (1 << bit) != 0;
                    all.push(Facts {
                        key_label,
                        header_label,
                        detected: detected.clone(),
                        alias: has(0).then(|| "gpt-4".to_owned()),
                        n_tokens: has(1).then_some(50),
                        needs: has(2).then(|| [Capability::Images].into()),
                        minute: has(3).then_some(0),
                        here_problem: has(4).then(|| "no model".to_owned()),
                        down: has(5).then(|| "u".to_owned()).into_iter().collect(),
                        ..Facts::default()
                    });
                }
            }
        }
    }
    all
}

/// The label that a request has at least, told apart from the code under test.
fn least_label(facts: &Facts, raises: bool) -> Label {
    let key = facts.key_label.unwrap_or(Label::Private);
    let header = facts.header_label.unwrap_or(Label::Public);
    let detected = match &facts.detected {
        _ if !raises => Label::Public,
        None => Label::Private,
        Some(found) => match found.len() {
            0 => Label::Public,
            1 => Label::Internal,
            _ => Label::Private,
        },
    };
    key.max(header).max(detected)
}

#[track_caller]
fn check(text: &str, facts: &Facts, decision: &Decision) {
    let least = least_label(facts, text.contains("raise"));
    assert_eq!(decision.label, least, "{text}\n{facts:?}");
    if let Some(departure) = decision.route.departure() {
        let is_of_label = match departure.label() {
            Sendable::Public => least == Label::Public,
            Sendable::Internal => least == Label::Internal,
        };
        assert!(is_of_label && least != Label::Private, "{text}\n{facts:?}\n{decision:#?}");
        assert!(!facts.down.contains(departure.upstream()), "{text}\n{facts:?}");
    }
}

#[test]
fn a_rule_that_would_send_what_is_private_cannot_be_read() {
    for raise in RAISES {
        for (rule, may_be) in rules() {
            let text = policy(raise, &[&rule]);
            assert_eq!(Rules::parse("t.toml", &text).is_ok(), may_be, "{text}");
        }
    }
}

#[test]
fn what_is_private_never_leaves() {
    let all = facts();
    let rules: Vec<String> =
        rules().into_iter().filter(|(_, may_be)| *may_be).map(|(rule, _)| rule).collect();
    let mut n_sent = 0_usize;
    // Each fact meets each rule alone, and each pair of rules meets a share of the facts in turn,
    // with a stride that has no factor in common with the grid's sides.
    for raise in RAISES {
        for (at, first) in rules.iter().enumerate() {
            let text = policy(raise, &[first]);
            let policy_of_one = Rules::parse("t.toml", &text).unwrap();
            for facts in &all {
                let decision = decide(&policy_of_one, facts);
                n_sent += usize::from(decision.route.departure().is_some());
                check(&text, facts, &decision);
            }
            for second in &rules {
                let text = policy(raise, &[first, second]);
                // A rule behind one without conditions is never asked, and refused.
                let Ok(rules) = Rules::parse("t.toml", &text) else { continue };
                for facts in all.iter().skip(at % 211).step_by(211) {
                    check(&text, facts, &decide(&rules, facts));
                }
            }
        }
    }
    assert!(n_sent > 10_000, "{n_sent} sent: the grid shows nothing");
}

#[test]
fn who_knows_less_sends_no_more() {
    let forget: &[fn(&mut Facts)] = &[
        |facts| facts.key_label = None,
        |facts| facts.detected = None,
        |facts| facts.alias = None,
        |facts| facts.n_tokens = None,
        |facts| facts.needs = None,
        |facts| facts.minute = None,
    ];
    let rules: Vec<String> =
        rules().into_iter().filter(|(_, may_be)| *may_be).map(|(rule, _)| rule).collect();
    let all = facts();
    for (at, first) in rules.iter().enumerate() {
        for second in &rules {
            let text = policy(RAISES[1], &[first, second]);
            let Ok(rules) = Rules::parse("t.toml", &text) else { continue };
            for facts in all.iter().skip(at % 499).step_by(499) {
                let known = decide(&rules, facts);
                for forget in forget {
                    let mut less = facts.clone();
                    forget(&mut less);
                    let unknown = decide(&rules, &less);
                    let sends_more =
                        unknown.route.departure().is_some() && known.route.departure().is_none();
                    assert!(!sends_more, "{text}\n{facts:?}\n{less:?}");
                }
            }
        }
    }
}
