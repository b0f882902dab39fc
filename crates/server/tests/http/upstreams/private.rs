//! What is private reaches no upstream, whatever the key, the header, the rule, the contents, and
//! whoever fails; nor does what is made of it later, or what a key may not ask for.

use super::scripted::Scripted;
use super::{House, VENDOR, chat_body, rule};
use crate::MODEL;
use crate::batches::{form, open};
use broker::UpstreamKind::OpenAi;
use policy::Label;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const ANSWER: &str =
    r#"{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
const SECRET: &str = "[detect]\nraise = { secret = \"private\", email = \"internal\" }\n";

fn label(name: &str) -> Label {
    Label::NAMES.iter().find(|(of, _)| *of == name).unwrap().1
}

#[test]
fn nothing_private_leaves() {
    let contents = [
        ("Hi", Label::Public),
        ("Hi a@example.org", Label::Internal),
        ("password = hunter2hunter2", Label::Private),
    ];
    let headers = [None, Some(Label::Public), Some(Label::Internal), Some(Label::Private)];
    let (mut n_sent, mut n_kept) = (0, 0);
    for outcome in ["there", "here-then-there", "there-then-here"] {
        for labels in ["\"public\"", "[\"public\", \"internal\"]"] {
            let vendor = Scripted::saying(200, "Content-Type: application/json\r\n", ANSWER);
            let rules = rule(outcome, "").replace("[\"public\", \"internal\"]", labels);
            // Top-level keys stand before tables.
            let (head, rest) = rules.split_once("[[rule]]").unwrap();
            let rules = format!("{head}{SECRET}[[rule]]{rest}");
            let house = House::open(OpenAi, &vendor.url(), &rules);
            for key in ["public", "internal", "private", "owner"] {
                for header in headers {
                    for (text, raised) in contents {
                        // One that is here, one that is nowhere, and one of the upstream's.
                        for model in [MODEL, "any", "large"] {
                            let of_key = if key == "owner" { Label::Private } else { label(key) };
                            let expected = of_key.max(raised).max(header.unwrap_or(of_key));
                            let before = vendor.asked().len();
                            let more = header.map(|label| format!("\nX-Freehold-Label: {label}"));
                            let body = chat_body(json!({
                                "model": model, "max_tokens": 1,
                                "messages": [{"role": "user", "content": text}],
                            }));
                            let response = house.ask(
                                "/v1/chat/completions",
                                key,
                                &more.unwrap_or_default(),
                                &body,
                            );
                            let n_asked = vendor.asked().len() - before;
                            let place = format!(
                                "{outcome} {labels} {key} {header:?} {text} {model}: {} {}",
                                response.status, response.body
                            );
                            let is_there = response
                                .headers
                                .get("x-freehold-route")
                                .is_some_and(|route| route == "there");
                            assert_eq!(n_asked > 0, is_there, "{place}");
                            if expected == Label::Private {
                                assert_eq!(n_asked, 0, "{place}");
                                n_kept += 1;
                            }
                            let may_leave =
                                labels.contains(expected.name()) && expected != Label::Private;
                            assert!(may_leave || n_asked == 0, "{place}");
                            n_sent += n_asked;
                        }
                    }
                }
            }
            for left in house.departures() {
                assert_ne!(left["label"], "private", "{left}");
            }
        }
    }
    // Both happen.
    assert!(n_sent > 50 && n_kept > 300, "{n_sent} sent, {n_kept} kept");
}

const CHAT: &str = "/v1/chat/completions";
const PRIVATE: &str = "\nX-Freehold-Label: private";

fn vendor() -> Scripted {
    Scripted::saying(200, "Content-Type: application/json\r\n", ANSWER)
}

/// One that keeps answers, has batches, and sends what it may.
fn keeping(vendor: &Scripted, folder: &Path) -> House {
    House::open_with(OpenAi, &vendor.url(), &rule("there", ""), |config| {
        config.limits.keep_responses = Some(Duration::from_secs(1000));
        config.batches = Some(open(folder));
    })
}

#[test]
fn what_goes_on_with_a_private_answer_stays_here() {
    let (vendor, folder) = (vendor(), tempfile::tempdir().unwrap());
    let house = keeping(&vendor, folder.path());
    let ask = |previous: Option<&str>, more: &str, expected: &str| {
        let mut body = json!({"model": MODEL, "input": "Hi", "max_output_tokens": 16});
        if let Some(previous) = previous {
            body["previous_response_id"] = previous.into();
        }
        let response = house.ask("/v1/responses", "public", more, &body);
        assert_eq!(response.status, 200, "{}", response.body);
        assert_eq!(response.headers["x-freehold-route"], expected, "{previous:?} {more}");
        response.json()["id"].as_str().unwrap().to_owned()
    };
    let public = ask(None, "", "there");
    let private = ask(None, PRIVATE, "here");
    ask(Some(&public), "", "there");
    let next = ask(Some(&private), "", "here");
    ask(Some(&next), "", "here");
    // What is private makes no more of it private than what comes behind.
    ask(Some(&public), PRIVATE, "here");
    ask(Some(&public), "", "there");
    assert_eq!(vendor.asked().len(), 3);
}

#[test]
fn what_is_verified_is_asked_here_only() {
    let (vendor, folder) = (vendor(), tempfile::tempdir().unwrap());
    let house = keeping(&vendor, folder.path());
    let body = chat_body(json!({"model": MODEL}));
    let verify = |more: &str| {
        let answered = house.ask(CHAT, "public", more, &body);
        let path = format!("/v1/receipts/{}/verify", answered.headers["x-freehold-receipt"]);
        let before = vendor.asked().len();
        let verified = house.ask(&path, "public", "", &json!({"request": body.to_string()}));
        assert_eq!(vendor.asked().len(), before, "{}", verified.body);
        verified
    };
    let private = verify(PRIVATE);
    assert_eq!(private.status, 200, "{}", private.body);
    assert_eq!(private.json()["equal"], true, "{}", private.body);
    let there = verify("");
    assert_eq!(there.status, 409, "{}", there.body);
    assert!(there.body.contains(VENDOR), "{}", there.body);
    assert_eq!(vendor.asked().len(), 1);
}

/// A batch of one line, when it is over.
fn batch(house: &House, key: &str, label: &str, model: &str) -> Value {
    let body = chat_body(json!({"model": model}));
    let line = json!({"custom_id": "a", "method": "POST", "url": CHAT, "body": body});
    let parts = [("purpose", None, "batch"), ("file", Some("a.jsonl"), &*line.to_string())];
    let (head, form) = form("/v1/files", &parts);
    let head = head.replace("any-key", house.key(key));
    let sent = super::request(house.running.address, &head, form.as_bytes());
    assert_eq!(sent.status, 200, "{}", sent.body);
    let ask = json!({
        "input_file_id": sent.json()["id"], "endpoint": CHAT, "completion_window": "24h",
    });
    let made = house.ask("/v1/batches", key, label, &ask);
    assert_eq!(made.status, 200, "{}", made.body);
    let (path, begun) = (made.json()["id"].as_str().unwrap().to_owned(), Instant::now());
    loop {
        let batch = house.get(&format!("/v1/batches/{path}"), key);
        if ["completed", "failed"].contains(&batch["status"].as_str().unwrap()) {
            return batch;
        }
        assert!(begun.elapsed() < Duration::from_secs(100), "{batch}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_lines_of_a_batch_have_its_label() {
    let (vendor, folder) = (vendor(), tempfile::tempdir().unwrap());
    let house = keeping(&vendor, folder.path());
    let check = |key: &str, label: &str, model: &str, [n_completed, n_sent]: [usize; 2]| {
        let before = vendor.asked().len();
        let batch = batch(&house, key, label, model);
        let place = format!("{key} {label} {model}: {batch}");
        assert_eq!(batch["status"], "completed", "{place}");
        assert_eq!(batch["request_counts"]["completed"], n_completed, "{place}");
        assert_eq!(vendor.asked().len() - before, n_sent, "{place}");
    };
    let of_vendor = format!("{VENDOR}/{MODEL}");
    check("public", "", MODEL, [1, 1]);
    check("public", PRIVATE, MODEL, [1, 0]);
    // It makes nothing less sensitive.
    check("private", "\nX-Freehold-Label: public", MODEL, [1, 0]);
    // One of the upstream's is named, or refused by the rules, not because it is not here.
    for model in ["large", &of_vendor] {
        check("public", "", model, [1, 1]);
        check("public", PRIVATE, model, [0, 0]);
    }
    let wrong = house.ask("/v1/batches", "public", "\nX-Freehold-Label: secret", &json!({}));
    assert_eq!(wrong.status, 400, "{}", wrong.body);
    assert!(wrong.body.contains("x-freehold-label"), "{}", wrong.body);
}

#[test]
fn a_key_reaches_no_model_elsewhere_that_it_may_not_ask_for() {
    let (vendor, folder) = (vendor(), tempfile::tempdir().unwrap());
    let mut house = keeping(&vendor, folder.path());
    let of_vendor = format!("{VENDOR}/{MODEL}");
    for (name, models) in [("own", MODEL), ("there", &*of_vendor), ("none", "gpt-*")] {
        let body = json!({"name": name, "models": [models], "label": "public", "labels": "public"});
        let made = house.ask("/admin/keys", "owner", "", &body);
        assert_eq!(made.status, 200, "{}", made.body);
        house.keys.push((name.to_owned(), made.json()["secret"].as_str().unwrap().to_owned()));
    }
    let check = |key: &str, model: Option<&str>, status: u16, n_sent: usize| {
        let mut body = chat_body(json!({"model": model}));
        if model.is_none() {
            body.as_object_mut().unwrap().remove("model");
        }
        let before = vendor.asked().len();
        let response = house.ask(CHAT, key, "", &body);
        assert_eq!(response.status, status, "{key} {model:?}: {}", response.body);
        assert_eq!(vendor.asked().len() - before, n_sent, "{key} {model:?}");
        let is_told = key != "own" && status != 200 && response.body.contains(MODEL);
        assert!(!is_told || model == Some(MODEL), "{key} {model:?}: {}", response.body);
    };
    check("public", None, 200, 1);
    check("own", None, 200, 1);
    check("own", Some(&of_vendor), 403, 0);
    check("there", Some(&of_vendor), 200, 1);
    check("there", None, 400, 0);
    for model in [MODEL, "large", "any"] {
        check("none", Some(model), 403, 0);
    }
    check("none", None, 400, 0);
    // Nor is it told of others by a batch.
    let failed = batch(&house, "none", "", "any");
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(!failed.to_string().contains(MODEL), "{failed}");
    assert_eq!(batch(&house, "none", "", MODEL)["status"], "failed");
}
