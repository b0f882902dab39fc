//! Redaction through the whole server: pseudonyms leave, values come back, and no text of anybody's
//! stands in a log or in the ledger.

use super::scripted::{Scripted, chunk, head};
use super::{House, VENDOR, chat_body, rule, text};
use crate::operate::Log;
use broker::UpstreamKind::{Anthropic, OpenAi};
use ledger::LedgerError;
use serde_json::{Value, json};

const REDACTED: &str = "redacted = true";

fn asked() -> Value {
    json!({"messages": [
        {"role": "system", "content": "You write for ada@example.org."},
        {"role": "user", "content": "Mail bob@example.org, not ada@example.org."},
    ]})
}

fn event(delta: &Value, end: &Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": end});
    format!("data: {}\n\n", json!({"choices": [choice]}))
}

#[test]
fn pseudonyms_leave_and_values_come_back() {
    let answer = "Dear ⟦EMAIL_2⟧, says ⟦EMAIL_1⟧; ⟦EMAIL_3⟧.";
    let expected = "Dear bob@example.org, says ada@example.org; ⟦EMAIL_3⟧.";
    let message = json!({"role": "assistant", "content": answer});
    let whole = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
    let vendor = Scripted::saying(200, "Content-Type: application/json\r\n", &whole.to_string());
    let house = House::open(OpenAi, &vendor.url(), &rule("there", REDACTED));
    let response = house.chat(asked());
    assert_eq!(text(&response), expected, "{}", response.body);
    assert_eq!(response.headers["x-freehold-redacted"], "email=3");
    let sent = vendor.asked().remove(0);
    assert!(!sent.contains("example.org"), "{sent}");
    assert!(sent.contains("Mail ⟦EMAIL_2⟧, not ⟦EMAIL_1⟧."), "{sent}");
    let left = &house.departures()[0];
    assert_eq!(left["redacted"], json!({"email": 3}), "{left}");
    let refused = house.chat(json!({"logprobs": true}));
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("logprobs")));
}

/// A tool that takes a text is one there and here, and values are in the text again.
#[test]
fn tools_that_take_a_text_are_carried_there_and_back() {
    let note = json!({"type": "custom", "custom": {"name": "note", "description": "d",
        "format": {"type": "text"}}});
    let more = |stream: bool| {
        let mut more = asked();
        more["tools"] = json!([note]);
        more["stream"] = json!(stream);
        more
    };
    let made = |input: &str| {
        let custom = json!({"name": "note", "input": input});
        json!([{"id": "c", "type": "custom", "custom": custom}])
    };
    let message = json!({"role": "assistant", "tool_calls": made("\"⟦EMAIL_2⟧\"\n")});
    let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
    let whole = json!({"choices": [choice]}).to_string();
    let vendor = Scripted::saying(200, "Content-Type: application/json\r\n", &whole);
    let house = House::open(OpenAi, &vendor.url(), &rule("there", REDACTED));
    let response = house.chat(more(false));
    let expected = "\"bob@example.org\"\n";
    let call = &response.json()["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["custom"]), (&json!("custom"), &made(expected)[0]["custom"]));
    let sent: Value = serde_json::from_str(&vendor.asked()[0]).unwrap();
    assert_eq!(sent["tools"], json!([note]));

    let piece = |input: &str| json!({"tool_calls": [{"index": 0, "custom": {"input": input}}]});
    let mut first = json!({"tool_calls": made("")});
    first["tool_calls"][0]["index"] = json!(0);
    let events = [
        event(&first, &Value::Null),
        event(&piece("\"⟦EMA"), &Value::Null),
        event(&piece("IL_2⟧\"\n"), &Value::Null),
        event(&json!({}), &json!("tool_calls")),
    ];
    let vendor = Scripted::streaming(&events.each_ref().map(String::as_str));
    let house = House::open(OpenAi, &vendor.url(), &rule("there", REDACTED));
    let stream = house.chat(more(true));
    let input: String = stream
        .events()
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|event| {
            let call = &event["choices"][0]["delta"]["tool_calls"][0];
            call["custom"]["input"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(input, expected, "{}", stream.body);

    let house = House::open(Anthropic, &vendor.url(), &rule("there", ""));
    let grammar = json!({"syntax": "lark", "definition": "start: \"a\""});
    let format = json!({"type": "grammar", "grammar": grammar});
    let held = json!([{"type": "custom", "custom": {"name": "note", "format": format}}]);
    let refused = house.chat(json!({"tools": held}));
    let param = "tools[0].custom.format.grammar.definition";
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(param)));
}

/// However the vendor cuts its stream.
#[test]
fn values_come_back_over_every_cut() {
    let call = |arguments: &str| {
        let function = json!({"name": "mail", "arguments": arguments});
        json!({"tool_calls": [{"index": 0, "function": function}]})
    };
    let cuts = "Dear ⟦EMAIL_2⟧".char_indices().map(|(at, _)| at);
    for cut in cuts {
        let (begin, rest) = "Dear ⟦EMAIL_2⟧".split_at(cut);
        let events = [
            event(&json!({"content": begin}), &Value::Null),
            event(&json!({"content": rest}), &Value::Null),
            event(&call("{\"to\":\"⟦EMA"), &Value::Null),
            event(
                &json!({"tool_calls": [{"index": 0, "function": {"arguments": "IL_1⟧\"}"}}]}),
                &Value::Null,
            ),
            event(&json!({}), &json!("tool_calls")),
            "data: [DONE]\n\n".to_owned(),
        ];
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let vendor = Scripted::streaming(&events);
        let house = House::open(OpenAi, &vendor.url(), &rule("there", REDACTED));
        let function = json!({"name": "mail", "parameters": {"type": "object"}});
        let mut asked = asked();
        asked["stream"] = true.into();
        asked["tools"] = json!([{"type": "function", "function": function}]);
        let response = house.chat(asked);
        assert_eq!(text(&response), "Dear bob@example.org", "cut at {cut}: {}", response.body);
        let arguments: String = response
            .events()
            .iter()
            .filter_map(|event| {
                let event: Value = serde_json::from_str(event).ok()?;
                let call = &event["choices"][0]["delta"]["tool_calls"][0];
                call["function"]["arguments"].as_str().map(str::to_owned)
            })
            .collect();
        assert_eq!(arguments, "{\"to\":\"ada@example.org\"}", "cut at {cut}: {}", response.body);
    }
    // Byte by byte, which cuts characters too.
    let event = event(&json!({"content": "⟦EMAIL_1⟧"}), &json!("stop"));
    let mut pieces = vec![head(200, "Content-Type: text/event-stream\r\n", None)];
    for byte in event.bytes() {
        pieces
            .push(super::scripted::Piece::Bytes([b"1\r\n".as_slice(), &[byte], b"\r\n"].concat()));
    }
    pieces
        .extend([chunk("data: [DONE]\n\n"), super::scripted::Piece::Bytes(b"0\r\n\r\n".to_vec())]);
    let vendor = Scripted::start(pieces);
    let house = House::open(OpenAi, &vendor.url(), &rule("there", REDACTED));
    let mut asked = asked();
    asked["stream"] = true.into();
    assert_eq!(text(&house.chat(asked)), "ada@example.org");
}

#[test]
fn a_vendor_of_the_other_kind_gets_pseudonyms_too() {
    let message = json!({
        "content": [{"type": "text", "text": "To ⟦EMAIL_2⟧"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    });
    let vendor = Scripted::saying(200, "Content-Type: application/json\r\n", &message.to_string());
    let house = House::open(Anthropic, &vendor.url(), &rule("there", REDACTED));
    let response = house.chat(asked());
    assert_eq!(text(&response), "To bob@example.org", "{}", response.body);
    assert!(!vendor.asked()[0].contains("example.org"));
    assert_eq!(response.json()["usage"]["prompt_tokens"], 3);
}

/// What people say is told to whom they say it, and to nobody else.
#[test]
fn no_text_stands_in_a_log_or_in_the_ledger() {
    let log = Log::start();
    let marks = ["xyzzyprompt", "xyzzyanswer", "xyzzyerror", "xyzzy@example.org", "xyzzytool"];
    let message = json!({"content": "xyzzyanswer ⟦EMAIL_1⟧"});
    let whole = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
    let json = "Content-Type: application/json\r\n";
    let error = json!({"error": {"message": "xyzzyerror about xyzzyprompt"}}).to_string();
    let broken = format!("data: {error}\n\n");
    let vendors = [
        Scripted::saying(200, json, &whole.to_string()),
        Scripted::saying(400, json, &error),
        Scripted::saying(500, json, &error),
        Scripted::saying(200, "Content-Type: text/event-stream\r\n", &broken),
        Scripted::saying(200, json, "xyzzyanswer"),
        Scripted::saying(200, json, r#"{"choices":"xyzzyanswer"}"#),
    ];
    let mut told = String::new();
    for vendor in &vendors {
        let house = House::open(OpenAi, &vendor.url(), &rule("there", REDACTED));
        let function = json!({"name": "xyzzytool", "parameters": {"type": "object"}});
        let body = chat_body(json!({
            "messages": [{"role": "user", "content": "xyzzyprompt xyzzy@example.org"}],
            "tools": [{"type": "function", "function": function}],
        }));
        house.ask("/v1/chat/completions", "public", "", &body);
        assert_eq!(vendor.asked().len(), 1);
        assert!(!house.departures().is_empty());
        let export = house.books.receipts.ledger().verify();
        assert!(house.books.runtime.block_on(export).unwrap().is_intact());
        told.push_str(&house.get("/admin/departures", "owner").to_string());
        let place = house.folder.path().join("ledger.sqlite").display().to_string();
        house.books.runtime.block_on(async {
            let reader = ledger::Reader::open(&place).await.unwrap();
            let line = |line: &str| {
                told.push_str(line);
                Ok::<(), LedgerError>(())
            };
            reader.export(1, None, line).await.unwrap();
        });
    }
    assert!(told.contains(VENDOR) && told.contains("sha256"), "{told}");
    let log = log.text();
    assert!(log.contains(VENDOR), "{log}");
    for mark in marks {
        assert!(!told.contains(mark), "{mark}: {told}");
        assert!(!log.contains(mark), "{mark}: {log}");
    }
}
