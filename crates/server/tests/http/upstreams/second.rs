//! A second Freehold as the upstream, of either kind.

use super::{House, VENDOR, chat_body, rule, text};
use crate::client::{Response, post};
use crate::{MODEL, address};
use broker::UpstreamKind::{self, Anthropic, OpenAi};
use freehold_server::receipts::SignedReceipt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

fn house(kind: UpstreamKind) -> &'static House {
    static HOUSES: [OnceLock<House>; 2] = [const { OnceLock::new() }; 2];
    let idx = usize::from(kind == Anthropic);
    let url = format!("http://{}", address());
    HOUSES[idx].get_or_init(|| House::open(kind, &url, &rule("there", "")))
}

/// What the second server says when it is asked itself.
fn expected() -> String {
    let body = chat_body(json!({"model": MODEL}));
    let expected = text(&post(address(), "/v1/chat/completions", &body));
    assert!(expected.contains("Paris"), "{expected}");
    expected
}

/// The text of an answer of any route.
fn said(path: &str, response: &Response) -> String {
    let is_streamed = response.headers["content-type"] != "application/json";
    let lines = || {
        response.body.lines().filter_map(|line| {
            let line = line.strip_prefix("data: ").unwrap_or(line);
            serde_json::from_str::<Value>(line).ok()
        })
    };
    let all = |pick: fn(&Value) -> Option<&str>| -> String {
        lines().filter_map(|line| pick(&line).map(str::to_owned)).collect()
    };
    match (path, is_streamed) {
        ("/v1/chat/completions", _) => text(response),
        ("/v1/responses", false) => {
            response.json()["output"][0]["content"][0]["text"].as_str().unwrap().to_owned()
        }
        ("/v1/responses", true) => all(|event| {
            (event["type"] == "response.output_text.delta").then(|| event["delta"].as_str())?
        }),
        ("/v1/messages", false) => {
            response.json()["content"][0]["text"].as_str().unwrap().to_owned()
        }
        ("/v1/messages", true) => all(|event| event["delta"]["text"].as_str()),
        ("/api/chat", _) => all(|line| line["message"]["content"].as_str()),
        ("/api/generate", _) => all(|line| line["response"].as_str()),
        other => panic!("{other:?}"),
    }
}

/// The same question in each family's words.
fn questions(is_streamed: bool) -> Vec<(&'static str, Value)> {
    const TEXT: &str = "What is the capital of France?";
    let messages = json!([{"role": "user", "content": TEXT}]);
    let options = json!({"temperature": 0, "num_predict": 12});
    vec![
        ("/v1/chat/completions", chat_body(json!({"stream": is_streamed}))),
        (
            "/v1/responses",
            json!({
                "model": "any", "input": TEXT, "temperature": 0, "max_output_tokens": 12,
                "stream": is_streamed,
            }),
        ),
        (
            "/v1/messages",
            json!({
                "model": "any", "messages": messages, "temperature": 0, "max_tokens": 12,
                "stream": is_streamed,
            }),
        ),
        (
            "/api/chat",
            json!({
                "model": "any", "messages": messages, "options": options, "stream": is_streamed,
            }),
        ),
        (
            "/api/generate",
            json!({
                "model": "any", "prompt": TEXT, "options": options, "stream": is_streamed,
            }),
        ),
    ]
}

#[test]
fn every_family_is_answered_by_every_kind() {
    let expected = expected();
    for kind in [OpenAi, Anthropic] {
        let house = house(kind);
        for is_streamed in [false, true] {
            for (path, body) in questions(is_streamed) {
                let response = house.ask(path, "public", "", &body);
                let place = format!("{kind:?} {path} {is_streamed}: {}", response.body);
                assert_eq!(response.status, 200, "{place}");
                assert_eq!(said(path, &response), expected, "{place}");
                assert_eq!(response.headers["x-freehold-route"], "there", "{place}");
                assert_eq!(response.headers["x-freehold-upstream"], VENDOR, "{place}");
                assert_eq!(response.headers["x-freehold-rule"], "out", "{place}");
            }
        }
    }
}

#[test]
fn an_answer_is_in_the_books() {
    let house = house(OpenAi);
    let response = house.ask("/v1/chat/completions", "internal", "", &chat_body(json!({})));
    let usage = response.json()["usage"].clone();
    let id = &response.headers["x-freehold-receipt"];
    let receipt = house.get(&format!("/v1/receipts/{id}"), "internal");
    let receipt = SignedReceipt::read(&receipt.to_string()).unwrap().receipt;
    assert!(receipt.choices.is_empty() && receipt.prompts.is_empty());
    let route = receipt.route.unwrap();
    assert_eq!((&*route.answered, &*route.label), ("there", "internal"));
    assert_eq!(route.rule.as_deref(), Some("out"));
    let there = route.there.unwrap();
    assert_eq!((&*there.upstream, &*there.model), (VENDOR, MODEL));
    let hash: String =
        Sha256::digest(text(&response)).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(there.answers[0].sha256, hash);
    let departures = house.departures();
    let left = departures.iter().find(|left| left["id"] == there.departure).unwrap();
    assert_eq!(left["upstream"], VENDOR, "{left}");
    assert_eq!((&left["model"], &left["label"]), (&json!(MODEL), &json!("internal")));
    assert_eq!((&left["key"], &left["rule"]), (&json!("internal"), &json!("out")));
    assert_eq!(left["estimate"]["currency"], "EUR", "{left}");
    let end = &left["end"];
    assert_eq!((&end["outcome"], &end["status"]), (&json!("done"), &json!(200)), "{left}");
    assert_eq!(end["n_prompt"], usage["prompt_tokens"]);
    assert_eq!(end["n_answer"], usage["completion_tokens"]);
    let [n_prompt, n_answer] =
        ["prompt_tokens", "completion_tokens"].map(|name| usage[name].as_i64().unwrap());
    assert_eq!(end["cost"], json!({"micro": n_prompt + 10 * n_answer, "currency": "EUR"}));
    let head = "GET /admin/departures\nAuthorization: Bearer ";
    let head = format!("{head}{}", house.key("public"));
    assert_eq!(crate::client::request(house.running.address, &head, b"").status, 403);
}

fn tool() -> Value {
    let parameters = json!({
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    });
    json!({"type": "function", "function": {"name": "weather", "parameters": parameters}})
}

#[test]
fn tools_and_schemas_are_kept_to() {
    let schema = json!({
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"], "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    for kind in [OpenAi, Anthropic] {
        let house = house(kind);
        for is_streamed in [false, true] {
            let asked = json!({
                "tools": [tool()], "tool_choice": "required", "parallel_tool_calls": false,
                "max_tokens": 100, "stream": is_streamed,
            });
            let response = house.chat(asked);
            assert_eq!(response.status, 200, "{kind:?}: {}", response.body);
            let (mut name, mut arguments) = (String::new(), String::new());
            let mut take = |message: &Value| {
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    name.push_str(function["name"].as_str().unwrap_or_default());
                    arguments.push_str(function["arguments"].as_str().unwrap_or_default());
                }
            };
            match is_streamed {
                false => take(&response.json()["choices"][0]["message"]),
                true => {
                    response.events().iter().filter(|event| **event != "[DONE]").for_each(|event| {
                        let event: Value = serde_json::from_str(event).unwrap();
                        take(&event["choices"][0]["delta"]);
                    })
                }
            }
            assert_eq!(name, "weather", "{}", response.body);
            let arguments: Value = serde_json::from_str(&arguments).unwrap();
            assert!(arguments["city"].is_string(), "{arguments}");
            let response = house.chat(json!({
                "response_format": format, "max_tokens": 60, "stream": is_streamed,
            }));
            let value: Value = serde_json::from_str(&text(&response))
                .unwrap_or_else(|error| panic!("{kind:?}: {error}: {}", response.body));
            assert!(value["city"].is_string(), "{value}");
        }
    }
}

#[test]
fn alternatives_and_logprobs_come_from_there() {
    let house = house(OpenAi);
    let asked = json!({
        "n": 2, "logprobs": true, "top_logprobs": 2, "temperature": 1, "seed": 3, "max_tokens": 4,
        "ignore_eos": false,
    });
    let own = post(address(), "/v1/chat/completions", &{
        let mut body = chat_body(asked.clone());
        body["model"] = MODEL.into();
        body
    });
    let there = house.chat(asked);
    assert_eq!(there.status, 200, "{}", there.body);
    for idx in 0..2 {
        let [own, there] = [&own, &there].map(|of| of.json()["choices"][idx].clone());
        assert_eq!(own["message"], there["message"]);
        assert_eq!(own["logprobs"], there["logprobs"]);
        assert_eq!(own["finish_reason"], there["finish_reason"]);
    }
}

#[test]
fn aliases_and_names_of_upstreams_lead_there() {
    let house = house(OpenAi);
    let expected = expected();
    for name in ["large", &format!("{VENDOR}/{MODEL}")] {
        let response = house.chat(json!({"model": name}));
        assert_eq!((response.status, text(&response)), (200, expected.clone()), "{name}");
        assert_eq!(response.json()["model"], format!("{VENDOR}/{MODEL}"));
        // No rule is for what is private.
        let body = chat_body(json!({"model": name}));
        let refused = house.ask("/v1/chat/completions", "private", "", &body);
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert_eq!(refused.json()["error"]["code"], "refused_by_rule");
        let told = refused.json()["error"]["message"].to_string();
        assert!(told.contains("(its label is private)"), "{told}");
    }
    let unknown = house.chat(json!({"model": format!("{VENDOR}/none")}));
    assert_eq!(unknown.status, 400, "{}", unknown.body);
    assert_eq!(unknown.json()["error"]["code"], "upstream_refused");
}

#[test]
fn what_cannot_be_said_there_is_refused_by_name() {
    let refused = house(OpenAi).chat(json!({"top_k": 5}));
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("top_k")));
    let told = house(OpenAi).ask(
        "/v1/messages",
        "public",
        "",
        &json!({
            "model": "any", "max_tokens": 2, "temperature": 0,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [{"role": "user", "content": "Hi"}],
        }),
    );
    assert_eq!(told.status, 200, "{}", told.body);
    assert_eq!(told.headers["x-freehold-ignored"], "thinking, thinking.budget_tokens");
    let wrong = house(OpenAi).ask(
        "/v1/chat/completions",
        "public",
        "\nX-Freehold-Label: secret",
        &chat_body(json!({})),
    );
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["error"]["param"], "x-freehold-label");
}
