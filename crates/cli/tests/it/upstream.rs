//! A server that is locked, its broker, and a second server as the upstream: all through the real
//! binary.
// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crate::binary::{Home, arg};
use crate::server::Server;
use serde_json::{Value, json};

/// A server on a model that it opens when it is asked for.
fn start(home: &Home) -> Server {
    Server::start(home, &["one", "--on-demand", "--ctx", "512"])
}

fn home_with_model() -> Home {
    let home = Home::new();
    home.run(&["add", arg(&testkit::smollm2()), "--name", "one"]).ok();
    home
}

fn settings(address: &str, outcome: &str) -> String {
    format!(
        "[upstream.vendor]\nkind = \"openai\"\nurl = \"http://{address}\"\n\n[upstream-model]\n\
         vendor = \"one\"\n\n[alias]\n\"gpt-*\" = \"vendor/one\"\n\n[[rule]]\nname = \"out\"\n\
         label = \"public\"\nalias = \"gpt-*\"\n{outcome}\n"
    )
}

#[test]
fn a_request_leaves_by_rule_and_is_in_the_ledger() {
    let (elsewhere, home) = (home_with_model(), home_with_model());
    let vendor = start(&elsewhere);
    let there = "outcome = \"there\"\nupstream = \"vendor\"";
    let file = home.write("freehold.toml", settings(&vendor.address, there).as_bytes());
    home.run(&["policy", "check", arg(&file)]).says(0, "1 rule, nothing is wrong");
    home.run(&["config", "check"]).ok();
    let key = |name: &str, flags: &[&str]| {
        home.run(&[&["key", "create", name], flags].concat()).ok().trim().to_owned()
    };
    let open = key("open", &["--label", "public"]);
    let closed = key("closed", &[]);
    let owner = key("owner", &["--admin"]);
    let server = start(&home);
    let body = json!({
        "model": "gpt-4", "temperature": 0, "max_tokens": 12,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    })
    .to_string();
    let chat = "POST /v1/chat/completions";
    let answer = server.ask_as(Some(&open), chat, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("Paris"), "{answer:?}");
    let head = answer.head;
    assert!(head.contains("x-freehold-route: there") && head.contains("x-freehold-rule: out"));
    let refused = |key: &str, why: &str| {
        let answer = server.ask_as(Some(key), chat, &body);
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.body.contains(why), "{answer:?}");
    };
    refused(&closed, "its label is private");

    // Its end is written by nobody who waits for that.
    let list = || home.run(&["departures", "--json"]).json();
    let began = Instant::now();
    while list()[0]["end"]["outcome"].is_null() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = list();
    let [left] = &listed.as_array().unwrap()[..] else { panic!("{listed}") };
    let is = |field: &str, value: &str| assert_eq!(left[field], value, "{left}");
    is("upstream", "vendor");
    is("model", "one");
    is("label", "public");
    is("key", "open");
    assert_eq!(left["end"]["outcome"], "done", "{left}");
    let told = home.run(&["departures"]).ok();
    assert!(told.contains("vendor/one public by \"out\" for open: done"), "{told}");
    assert!(!listed.to_string().contains("France") && !told.contains("France"));

    // An upstream's answer cannot be asked for again.
    let id = head.lines().find_map(|line| line.strip_prefix("x-freehold-receipt: ")).unwrap();
    let request = home.write("body.json", body.as_bytes());
    let verified = home.run(&["receipt", "verify", id, "--request", arg(&request)]);
    assert_eq!(verified.code, Some(9), "{}", verified.stderr);
    let told = String::from_utf8(verified.stdout).unwrap();
    assert!(told.contains("NOT asked again"), "{told}");
    let shown = home.run(&["receipt", "show", id]).ok();
    assert!(shown.contains("there, label public, rule: \"out\""), "{shown}");

    // Rules are read anew while it runs.
    let refuse = "outcome = \"refuse\"\nreason = \"not today\"";
    home.write("freehold.toml", settings(&vendor.address, refuse).as_bytes());
    let report = server.ask_as(Some(&owner), "POST /admin/reload", "");
    assert_eq!(report.status, 200, "{report:?}");
    let report: Value = serde_json::from_str(&report.body).unwrap();
    assert_eq!((&report["changed"], &report["needs_restart"]), (&json!(["rule"]), &json!([])));
    refused(&open, "not today");
    home.run(&["ledger", "verify"]).ok();
}

#[test]
fn a_rule_without_an_upstream_is_told_at_the_start() {
    let home = home_with_model();
    let rule =
        "[[rule]]\nname = \"out\"\nlabel = \"public\"\noutcome = \"there\"\nupstream = \"x\"\n";
    home.write("freehold.toml", rule.as_bytes());
    home.run(&["serve", "one"]).fails(2, &["freehold.toml:5:12: rule \"out\": upstream: \"x\""]);
    home.write("freehold.toml", b"");
    let policy = home.write("p.toml", format!("upstreams = [\"x\"]\n{rule}").as_bytes());
    let told = home.run(&["serve", "one", "--policy", arg(&policy)]);
    told.fails(2, &["upstream \"x\": expected a table [upstream.x]"]);
    let told = home.run(&["serve", "one", "--upstream-model", "x=y"]);
    told.fails(2, &["--upstream-model: \"x\": expected the name of an upstream"]);
}
