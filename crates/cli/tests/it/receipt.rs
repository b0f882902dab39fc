//! `freehold receipt` through the real binary: what a server answered is the same bits for another
//! process, on fewer threads and without vector instructions; what was changed is named.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // The helpers of these tests are tests, which the lint cannot see.

use crate::binary::{Home, Outcome, arg};
use crate::server::Server;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Asks a server of its own, which serves the file of the default model, and stops it. Returns the
/// ids of the answers' receipts.
fn answered(home: &Home, requests: &[(&str, &str)], more: &[&str]) -> Vec<String> {
    answered_by(home, arg(&testkit::smollm2()), requests, more)
}

/// As [`answered`], by this model.
pub(crate) fn answered_by(
    home: &Home,
    model: &str,
    requests: &[(&str, &str)],
    more: &[&str],
) -> Vec<String> {
    let server = Server::start(home, &[&[model, "--ctx", "256"][..], more].concat());
    let ask = |(route, body): &(&str, &str)| {
        let answer = server.ask(&format!("POST {route}"), "", body);
        let mut lines = answer.head.lines();
        let id = lines.find_map(|line| line.strip_prefix("x-freehold-receipt: "));
        id.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    };
    let ids = requests.iter().map(ask).collect();
    server.stop();
    ids
}

/// A chat that is streamed, and a text with two alternatives.
const CHAT: &str = r#"{"messages": [{"role": "user", "content": "Name a colour."}],
 "stream": true, "max_tokens": 6, "temperature": 0.9}"#;
const TEXT: &str = r#"{"prompt": "One, two,", "max_tokens": 5, "n": 2, "seed": 7}"#;

fn stdout(outcome: Outcome, code: i32) -> String {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    String::from_utf8(outcome.stdout).unwrap()
}

#[test]
fn what_was_answered_is_bit_equal_elsewhere_and_what_was_changed_is_named() {
    let home = Home::new();
    let asked = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)];
    let ids = answered(&home, &asked, &[]);
    let bodies =
        [home.write("chat.json", CHAT.as_bytes()), home.write("text.json", TEXT.as_bytes())];
    let model = testkit::smollm2();
    let model = ["--model", arg(&model)];

    let shown = home.run(&["receipt", "show", &ids[1]]).ok();
    assert!(shown.contains("choice      5 tokens, length, seed 8"), "{shown}");
    assert!(shown.contains("(this machine's)") && shown.contains("context 256"), "{shown}");
    home.run(&["receipt", "show", "chatcmpl-none"])
        .fails(3, &["chatcmpl-none", "not in the ledger"]);

    let both = ["receipt", "verify", &ids[0], &ids[1]];
    let requests = ["--request", arg(&bodies[0]), "--request", arg(&bodies[1])];
    let told = home.run(&[&both[..], &requests, &model, &["--threads", "1"]].concat()).ok();
    assert_eq!(told.matches(": bit-equal, ").count(), 2, "{told}");

    // On a machine that has nothing but the two files, and no vector instructions.
    let exported = home.run(&["receipt", "export", &ids[1]]).ok();
    let elsewhere = Home::new();
    let receipt = elsewhere.write("receipt.json", exported.as_bytes());
    let verify = |receipt: &PathBuf, request: &PathBuf, more: &[&str]| {
        let args = ["receipt", "verify", arg(receipt), "--request", arg(request)];
        let mut command = elsewhere.command(&[&args[..], more].concat());
        command.env("FREEHOLD_ISA", "portable");
        crate::binary::finish(command)
    };
    let told = verify(&receipt, &bodies[1], &model).ok();
    assert!(told.contains("bit-equal, 10 tokens") && told.contains("another machine's"), "{told}");

    let other = verify(&receipt, &bodies[0], &model);
    assert!(stdout(other, 9).contains("request.sha256: expected "));
    let node = stdout(verify(&receipt, &bodies[1], &[&model[..], &["--node", "00"]].concat()), 9);
    assert!(node.contains("node: expected 00, found "), "{node}");
    let document: Value = serde_json::from_str(&exported).unwrap();
    for (pointer, value, named) in [
        ("/receipt/parameters/temperature", json!(0.25), "parameters.temperature"),
        ("/receipt/choices/1/seed", json!(9), "choices[1].seed"),
        ("/receipt/time/unix_us", json!(0), "time.unix_us"),
        ("/receipt/model/digest", json!("00"), "model.digest"),
    ] {
        let mut tampered = document.clone();
        *tampered.pointer_mut(pointer).unwrap() = value;
        let file = elsewhere.write("tampered.json", tampered.to_string().as_bytes());
        let told = stdout(verify(&file, &bodies[1], &model), 9);
        assert!(told.contains(&format!("not as it was signed: {named}\n")), "{told}");
        let args = ["receipt", "show", arg(&file)];
        elsewhere.run(&args).fails(4, &["not as it was signed", named]);
    }

    // The same weights in another file are other bytes.
    let repacked = elsewhere.path("repacked.gguf");
    crate::repack::repack(&testkit::smollm2(), &repacked, 4, "ffn_down").unwrap();
    let told = stdout(verify(&receipt, &bodies[1], &["--model", arg(&repacked)]), 9);
    assert!(told.contains("model.digest: expected b179c952"), "{told}");
}

#[test]
fn a_request_that_the_ledger_keeps_is_asked_again_without_a_file() {
    let home = Home::new();
    let asked = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)];
    let ids = answered(&home, &asked, &["--keep-contents", "1"]);
    let model = testkit::smollm2();
    let both = ["receipt", "verify", &ids[0], &ids[1], "--model", arg(&model)];
    let told = home.run(&both).ok();
    assert_eq!(told.matches(": bit-equal, ").count(), 2, "{told}");
    // The receipt alone, where there is no such ledger.
    let exported = home.run(&["receipt", "export", &ids[1]]).ok();
    let elsewhere = Home::new();
    elsewhere.write("receipt.json", exported.as_bytes());
    let words = ["request of ", "there is no ledger here", "expected the request's body as a file"];
    elsewhere.run(&["receipt", "verify", "receipt.json"]).fails(3, &words);
    // The key of the contents is another matter than the ledger.
    std::fs::rename(home.path("home/content-keys"), home.path("keys")).unwrap();
    home.run(&both).fails(3, &["its contents are kept, and their key is not here", "--request"]);
    let own = answered(&home, &asked[1..], &[]);
    let args = ["receipt", "verify", &own[0], "--model", arg(&model)];
    home.run(&args).fails(3, &["its contents are not kept", "--request"]);
}

#[test]
fn what_cannot_be_verified_is_told_before_a_model_is_opened() {
    let home = Home::new();
    let file = home.write("x.json", b"{}");
    let verify = |receipt: &str, more: &[&str]| {
        home.run(&[&["receipt", "verify", receipt, "--request", arg(&file)], more].concat())
    };
    verify("x.json", &[]).fails(2, &["x.json: no receipt: expected an object"]);
    verify("none", &[]).fails(3, &["\"none\"", "there is no ledger here"]);
    verify("none", &["--ledger", "none"]).fails(3, &["expected a ledger, not none"]);
    let two = ["--request", arg(&file)];
    verify("none", &two).fails(2, &["--request: 2 given for 1 receipts"]);
    home.run(&["receipt", "verify", "x.json", "--request", "absent"]).fails(3, &["absent: "]);
    home.run(&["receipt", "show", "x.json"]).fails(4, &["no receipt"]);
}

#[test]
fn a_ledger_that_cannot_be_opened_keeps_the_server_from_starting() {
    let home = Home::new();
    let folder = home.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let model = testkit::smollm2();
    let args = ["serve", arg(&model), "--listen", "127.0.0.1:0", "--ledger", arg(&folder)];
    home.run(&args).fails(2, &["--ledger", "folder", "\"none\": no receipts"]);
}
