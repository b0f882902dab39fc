//! Cases made of real requests: the settings that record them, and `freehold record`.
#![allow(clippy::unwrap_used)] // The helpers of these tests are tests, which the lint cannot see.

use crate::binary::{Home, arg};

const CASE: &str = r#"{"id":"recorded 1-a","messages":[{"role":"user","content":"What is\n the capital?"}],"parameters":{"temperature":0,"max_tokens":4},"expect":[{"exact":"Paris"}]}"#;

/// A folder of recorded cases: a good one and one that somebody has edited badly.
fn recorded(home: &Home) -> String {
    std::fs::create_dir_all(home.path("cases/pending")).unwrap();
    home.write("cases/pending/1-a.jsonl", format!("{CASE}\n").as_bytes());
    home.write("cases/pending/2-b.jsonl", CASE.replace("expect", "expects").as_bytes());
    home.write("cases/pending/2-b.new", b"half");
    arg(&home.path("cases")).to_owned()
}

#[test]
fn cases_are_looked_through_and_accepted_or_dropped() {
    let home = Home::new();
    let folder = recorded(&home);
    let list = home.run(&["record", "list", &folder]).ok();
    assert!(list.contains("1-a   What is  the capital?  [{\"exact\":\"Paris\"}]"), "{list}");
    assert!(list.contains("2-b") && !list.contains("half"), "{list}");
    let shown = home.run(&["record", "show", &folder, "1-a"]).json();
    assert_eq!(shown["expect"][0]["exact"], "Paris");
    home.run(&["record", "show", &folder, "../1-a"]).fails(3, &["../1-a: no such case"]);
    // All or none.
    let both = ["record", "accept", &folder, "1-a", "2-b"];
    home.run(&both).fails(2, &["2-b.jsonl", "expect"]);
    assert!(home.path("cases/pending/1-a.jsonl").exists());
    home.run(&["record", "accept", &folder, "1-a"]).says(0, "1 cases are in ");
    assert_eq!(std::fs::read_to_string(home.path("cases/1-a.jsonl")).unwrap(), format!("{CASE}\n"));
    home.run(&["record", "drop", &folder]).says(2, "NAME");
    home.run(&["record", "drop", &folder, "--all"]).says(0, "1 cases deleted");
    home.run(&["record", "list", &folder]).says(0, "no cases wait here");
    home.run(&["record", "list", "nowhere"]).fails(3, &["nowhere"]);
    // What was accepted is asked, and what waits is not.
    let model = testkit::smollm2();
    let outcome = home.run(&["test", arg(&model), "--cases", &folder]);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert!(text.contains("of 1 cases passed"), "{text} {}", outcome.stderr);
}

#[test]
fn nothing_is_recorded_without_consent() {
    let home = Home::new();
    let folder = home.path("cases");
    let serve =
        |more: &[&str]| home.run(&[&["serve", "nobody", "--listen", "127.0.0.1:0"], more].concat());
    let cases = ["--record-cases", arg(&folder)];
    serve(&cases).fails(2, &["--record-cases: nobody consented, expected --record-keys"]);
    let keys = home.write("keys", b"\n  \n");
    let args = [&cases[..], &["--record-keys", arg(&keys)]].concat();
    serve(&args[2..]).fails(2, &["--record-keys: expected --record-cases beside it"]);
    serve(&["--record-loopback"]).fails(2, &["--record-loopback: expected --record-cases"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let allow =
            |mode| std::fs::set_permissions(&keys, PermissionsExt::from_mode(mode)).unwrap();
        allow(0o644);
        serve(&args).fails(2, &["keys: mode 0644", "expected 0600"]);
        allow(0o600);
        serve(&args).fails(2, &["keys: expected one key a line"]);
    }
    assert!(!folder.exists());
}
