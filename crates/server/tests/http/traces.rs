//! Traces of requests, taken by a collector on this machine: over real connections, from the server
//! to it too.

use super::client::{post, post_head, request};
use super::{MODEL, Running, engine, only_model, run};
use freehold_server::{Config, Traces, Undelivered};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A collector, and what the server leaves for it.
pub(super) struct Collecting {
    bodies: Receiver<String>,
    traces: Traces,
}

/// A server whose traces go to a collector.
pub(super) fn traced() -> (Running, Collecting) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, bodies) = channel();
    // It ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            take(stream.unwrap(), &sender);
        }
    });
    let endpoint = store::Endpoint::parse(&format!("http://{address}")).unwrap();
    let collector = store::Collector::new(&endpoint).unwrap();
    let deliver = move |body| {
        let posted = collector.post(body);
        posted.map_err(|unposted| Undelivered {
            reason: unposted.reason,
            may_pass: unposted.may_pass,
            wait: unposted.wait,
        })
    };
    let traces = Traces::start(Box::new(deliver)).unwrap();
    let (fleet, model) = only_model(engine(), "00");
    let mut config = Config::new(fleet, vec![model]);
    config.traces = Some(traces.clone());
    (run(config), Collecting { bodies, traces })
}

/// Takes one body.
fn take(stream: TcpStream, bodies: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut n_bytes = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(n) = line.strip_prefix("content-length: ") {
            n_bytes = n.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; n_bytes];
    reader.read_exact(&mut body).unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    let answer = format!("{head}Connection: close\r\n\r\n{{}}");
    // Before the answer: whoever has it looks for the body.
    bodies.send(String::from_utf8(body).unwrap()).unwrap();
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
}

impl Collecting {
    /// All that was told, as it came; nothing more comes.
    pub(super) fn text(&self) -> String {
        self.traces.finish(Duration::from_secs(60));
        self.bodies.try_iter().collect::<Vec<_>>().join("\n")
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |attribute| &attribute["value"])
}

#[test]
fn a_request_is_a_trace_with_its_parts() {
    let (server, collecting) = traced();
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let body = json!({"messages": messages, "max_tokens": 5, "temperature": 0, "stream": true});
    let traced = |trace: &str, flags: &str, body: &Value| {
        let head = post_head("/v1/chat/completions");
        let head = format!("{head}\ntraceparent: 00-{trace}-00f067aa0ba902b7-{flags}");
        request(server.address, &head, body.to_string().as_bytes()).status
    };
    let [recorded, not_recorded, refused] = ["1", "2", "3"].map(|digit| digit.repeat(32));
    assert_eq!(traced(&recorded, "01", &body), 200);
    assert_eq!(traced(&not_recorded, "00", &body), 200);
    assert_eq!(traced(&refused, "01", &json!({"messages": messages, "temprature": 1})), 400);
    // Without a trace of the client's one begins here.
    let plain = json!({"prompt": "a b c", "max_tokens": 2, "n": 2, "ignore_eos": true});
    assert_eq!(post(server.address, "/v1/completions", &plain).status, 200);
    let page = request(server.address, "GET /metrics", b"").body;
    assert!(page.contains("freehold_spans_dropped_total 0"), "{page}");
    let text = collecting.text();
    let bodies = text.lines().map(|body| serde_json::from_str::<Value>(body).unwrap());
    let spans: Vec<Value> = bodies
        .flat_map(|body| {
            body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
        })
        .collect();
    let of = |trace: &str| -> Vec<&Value> {
        spans.iter().filter(|span| span["traceId"] == trace).collect()
    };
    let names = |spans: &[&Value]| -> Vec<String> {
        spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
    };
    let recorded = of(&recorded);
    let told = names(&recorded);
    assert_eq!(told[0], "POST /v1/chat/completions");
    assert!(told.ends_with(&["prompt".to_owned(), "decode".to_owned()]), "{told:?}");
    let whole = recorded[0];
    assert_eq!((&whole["parentSpanId"], &whole["kind"]), (&json!("00f067aa0ba902b7"), &json!(2)));
    let time =
        |span: &Value, field: &str| -> u128 { span[field].as_str().unwrap().parse().unwrap() };
    for part in &recorded[1..] {
        assert_eq!(part["parentSpanId"], whole["spanId"]);
        let [begin, end] = ["startTimeUnixNano", "endTimeUnixNano"];
        assert!(time(whole, begin) <= time(part, begin) && time(part, end) <= time(whole, end));
    }
    let text = |text: &str| json!({"stringValue": text});
    let number = |n: u64| json!({"intValue": n.to_string()});
    for (key, value) in [
        ("gen_ai.request.model", text(MODEL)),
        ("gen_ai.usage.output_tokens", number(5)),
        ("gen_ai.response.finish_reasons", json!({"arrayValue": {"values": [text("length")]}})),
        ("http.response.status_code", number(200)),
        ("server.port", number(server.address.port().into())),
    ] {
        assert_eq!(*attribute(whole, key), value, "{key}");
    }
    assert!(of(&not_recorded).is_empty());
    let refused = of(&refused);
    assert_eq!(names(&refused), ["POST /v1/chat/completions"]);
    assert_eq!(*attribute(refused[0], "error.type"), text("unknown_parameter"));
    assert_eq!(*attribute(refused[0], "http.response.status_code"), number(400));
    assert_eq!(refused[0]["status"], json!({}), "the client's fault is none of the server's");
    let begun = spans.iter().find(|span| span["name"] == "POST /v1/completions").unwrap();
    assert!(begun.get("parentSpanId").is_none(), "{begun}");
    let reasons = &attribute(begun, "gen_ai.response.finish_reasons")["arrayValue"]["values"];
    assert_eq!(*reasons, json!([text("length"), text("length")]));
}
