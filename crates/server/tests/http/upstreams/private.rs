//! What is private reaches no upstream, whatever the key, the header, the rule, the contents, and
//! whoever fails.

use super::scripted::Scripted;
use super::{House, chat_body, rule};
use broker::UpstreamKind::OpenAi;
use policy::Label;
use serde_json::json;

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
                        for model in [crate::MODEL, "any", "large"] {
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
