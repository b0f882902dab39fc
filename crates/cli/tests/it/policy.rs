//! `freehold policy` through the real binary.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use crate::binary::{Home, arg};

const POLICY: &[u8] = br#"upstreams = ["big"]

[detect]
raise = { iban = "private" }
names = ["Ada Lovelace"]

[[rule]]
name = "at night"
time = "22:00-06:00"
outcome = "here"

[[rule]]
name = "out"
label = "public"
alias = "gpt-*"
outcome = "here-then-there"
upstream = "big"
redacted = true
"#;

const IBAN: &str = "to DE89 3704 0044 0532 0130 00";

#[test]
fn check_tells_every_mistake() {
    let home = Home::new();
    let good = home.write("good.toml", POLICY);
    home.run(&["policy", "check", arg(&good)]).says(0, "good.toml: 2 rules, nothing is wrong");
    let text =
        "[[rule]]\nname = \"a\"\noutcom = \"here\"\n[[rule]]\nname = \"b\"\noutcome = \"there\"\n";
    let bad = home.write("bad.toml", text.as_bytes());
    let check = home.run(&["policy", "check", arg(&bad)]);
    check.says(1, "bad.toml:1:1: rule \"a\": expected a field \"outcome\"");
    check.says(1, "bad.toml:6:11: rule \"b\": outcome: \"there\" may send");
    home.run(&["policy", "check", "none.toml"]).fails(3, &["none.toml"]);
    home.run(&["policy", "explain", arg(&bad)]).fails(2, &["bad.toml:1:1"]);
}

#[test]
fn explain_tells_which_rule_decides_and_why() {
    let home = Home::new();
    let file = home.write("p.toml", POLICY);
    let request =
        ["policy", "explain", arg(&file), "--request", "key_label=public", "alias=gpt-4o"];
    let day = [&request[..], &["time=12:00", "detected=none"]].concat();
    let text = home.run(&day).ok();
    for words in [
        "outcome   here-then-there: big, redacted\n",
        "rule      \"out\" (line 12)\n",
        "label     public\n",
        "not       \"at night\" (line 7)\n",
        "time is 12:00, expected 22:00-06:00\n",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let json = home.run(&[&day[..], &["--json"]].concat()).json();
    assert_eq!((&json["outcome"], &json["upstream"]), (&"here-then-there".into(), &"big".into()));
    assert_eq!(json["considered"][0]["why_not"][0], "time is 12:00, expected 22:00-06:00");
    // What is not known keeps, and what is detected raises.
    let json = home.run(&[&request[..], &["--json"]].concat()).json();
    assert_eq!((&json["outcome"], &json["label"]), (&"here".into(), &"private".into()));
    assert_eq!(json["considered"][0]["assumed"][0], "time is not known");
    let raised = [&request[..], &["time=12:00", "--text", IBAN, "--json"]].concat();
    let json = home.run(&raised).json();
    assert_eq!((&json["outcome"], &json["rule"]), (&"here".into(), &serde_json::Value::Null));
    assert_eq!(json["label_because"][1], "iban was detected: private");
    let wrong = ["policy", "explain", arg(&file), "--request", "tokns=1"];
    home.run(&wrong).fails(2, &["--request: unknown field \"tokns\", did you mean \"tokens\"?"]);
}

#[test]
fn test_holds_rules_against_cases() {
    let home = Home::new();
    let file = home.write("p.toml", POLICY);
    let case = |expect: &str| {
        format!(
            "[[case]]\nname = \"out\"\nexpect = \"{expect}\"\nredacted = true\n\
             request = {{ key_label = \"public\", alias = \"gpt-4o\", time = \"12:00\", detected = \"none\" }}\n"
        )
    };
    let good = home.write("good.toml", case("here-then-there").as_bytes());
    let text = home.run(&["policy", "test", arg(&file), arg(&good)]).ok();
    assert_eq!(text, "1 of 1 cases passed\n");
    let bad = home.write("bad.toml", case("here").as_bytes());
    let failed = home.run(&["policy", "test", arg(&file), arg(&bad)]);
    assert_eq!(failed.code, Some(9), "{}", failed.stderr);
    let text = String::from_utf8(failed.stdout).unwrap();
    let expected = "bad.toml:1:1: case \"out\": goes \"here-then-there\", expected \"here\"\n";
    assert!(text.contains(expected) && text.ends_with("0 of 1 cases passed\n"), "{text}");
    let json = home.run(&["policy", "test", arg(&file), arg(&good), "--json"]).json();
    assert_eq!((&json["failed"], &json["cases"][0]["rule"]), (&0.into(), &"out".into()));
}

#[test]
fn detect_prints_the_text_without_what_it_found() {
    let home = Home::new();
    let file = home.write("p.toml", POLICY);
    let input = format!("Ada Lovelace, {IBAN}, a@x.org and a@x.org");
    let found =
        home.run_with_input(&["policy", "detect", "--policy", arg(&file)], input.as_bytes());
    found.says(0, "email: 2\niban: 1\nname: 1\n");
    assert!(!found.stderr.contains("Ada") && !found.stderr.contains("DE89"), "{}", found.stderr);
    assert_eq!(found.ok(), "⟦NAME_1⟧, to ⟦IBAN_1⟧, ⟦EMAIL_1⟧ and ⟦EMAIL_1⟧");
    let json = home.run_with_input(&["policy", "detect", "--json"], input.as_bytes()).json();
    assert_eq!(json["counts"], serde_json::json!({"email": 2, "iban": 1}));
    assert_eq!(json["detections"][0]["class"], "iban");
    assert_eq!(json["detections"][0]["confidence"], 0.95);
}
