//! What an operator sees: numbers and log lines, and nothing of what people say.

use super::{MODEL, traces};
use crate::client::{Response, post, request};
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

/// The value of a line of the page, 0 where it is not there yet.
fn value(page: &Response, line: &str) -> f64 {
    assert_eq!(page.status, 200);
    let found = page.body.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn what_is_done_is_counted() {
    let server = super::start(super::Limits::default());
    let page = || request(server.address, "GET /metrics", b"");
    let empty = page();
    assert!(empty.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let body = json!({"prompt": "a b c", "max_tokens": 5, "temperature": 0, "ignore_eos": true});
    for n_times in 1..=2 {
        assert_eq!(post(server.address, "/v1/completions", &body).status, 200);
        let refused = json!({"prompt": "a", "temprature": 1});
        assert_eq!(post(server.address, "/v1/completions", &refused).status, 400);
        assert_eq!(request(server.address, "GET /nowhere", b"").status, 404);
        let page = page();
        let of = format!("route=\"/v1/completions\",model=\"{MODEL}\"");
        let n = f64::from(n_times);
        let check =
            |line: String, expected: f64| assert_eq!(value(&page, &line), expected, "{line}");
        check(format!("freehold_requests_total{{{of},outcome=\"done\"}}"), n);
        check(format!("freehold_generated_tokens_total{{{of}}}"), 5.0 * n);
        check(format!("freehold_time_to_first_token_seconds_count{{{of}}}"), n);
        check(format!("freehold_queue_seconds_count{{{of}}}"), n);
        let head = "freehold_errors_total{route=\"/v1/completions\",model=\"\"";
        check(format!("{head},error=\"unknown_parameter\"}}"), n);
        let head = "freehold_http_responses_total{route";
        check(format!("{head}=\"/v1/completions\",method=\"POST\",status=\"200\"}}"), n);
        check(format!("{head}=\"none\",method=\"GET\",status=\"404\"}}"), n);
        check(format!("freehold_model_open{{model=\"{MODEL}\"}}"), 1.0);
        check("freehold_requests_at_work".to_owned(), 0.0);
        assert!(value(&page, &format!("freehold_kv_pages{{model=\"{MODEL}\"}}")) >= 8.0);
        assert!(value(&page, &format!("freehold_steps_total{{model=\"{MODEL}\"}}")) >= 1.0);
        assert!(value(&page, "process_start_time_seconds") > 1.7e9);
    }
    // Whatever is asked for makes no new line: labels come from the program.
    assert!(!page().body.contains("nowhere"));
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// That of this process, from now on.
    pub(crate) fn start() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let start = || {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_writer(move || writer.clone())
                .with_ansi(false);
            subscriber.try_init().unwrap();
            log
        };
        LOG.get_or_init(start).clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn logs_numbers_and_traces_say_nothing_of_what_people_say() {
    let log = Log::start();
    let (server, collecting) = traces::traced();
    let address = server.address;
    let question = json!({
        "messages": [{"role": "user", "content": "Repeat: pomegranate-4711 pomegranate-4711"}],
        "user": "somebody-4712",
        "max_tokens": 24,
        "ignore_eos": true,
        "stop": "hawthorn-4720",
    });
    let answer = post(address, "/v1/chat/completions", &question);
    let said = super::content(&answer, 0);
    let with_key = |path: &str| {
        format!(
            "POST {path}\nAuthorization: Bearer sk-4713\nx-api-key: sk-4714\nx-request-id: mine-1\n\
             traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        )
    };
    // Refusals, whose messages quote the request, in several shapes.
    for (path, body) in [
        ("/v1/completions", r#"{"prompt": "quince-4715", "temperature": "hot-4716"}"#),
        ("/v1/completions", r#"{"prompt": "quince-4715", "max_tokens": 1, "cold-4719": 1}"#),
        ("/v1/messages", r#"{"max_tokens": 1, "messages": [{"role": "hot-4716"}]}"#),
        ("/v1/embeddings", r#"{"input": "quince-4715"}"#),
        ("/v1/messages", "quince-4715"),
        ("/v1/chat/completions?key=sk-4717", r#"{"messages": "quince-4715", "model": "x-4718"}"#),
    ] {
        let response = request(address, &with_key(path), body.as_bytes());
        assert!((400..500).contains(&response.status), "{path} {}", response.body);
    }
    assert_eq!(
        post(address, "/v1/completions", &json!({"prompt": "a", "max_tokens": 1})).status,
        200
    );
    let log = log.text();
    let page = request(address, "GET /metrics", b"").body;
    let lines = log.lines().filter(|line| line.contains("mine-1"));
    assert!(lines.clone().count() >= 6, "a line for each request: {log}");
    assert!(lines.clone().any(|line| line.contains("4bf92f3577b34da6a3ce929d0e0e4736")), "{log}");
    assert!(log.contains("outcome=\"done\"") && log.contains("outcome=\"refused\""), "{log}");
    let spans = collecting.text();
    assert!(spans.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{spans}");
    assert!(spans.matches("POST /v1/").count() >= 8, "a span for each request: {spans}");
    // The name of a field is no matter of a trace, nor is what a client calls its request.
    for secret in ["-4716", "-4719", "mine-1"] {
        assert!(!spans.contains(secret), "{secret:?} was told:\n{spans}");
    }
    for text in [&log, &page, &spans] {
        // With the hyphen: in a process with other tests four digits stand in some id or time.
        for secret in
            ["-4711", "-4712", "-4713", "-4714", "-4715", "-4717", "-4718", "-4720", &said]
        {
            assert!(!text.contains(secret), "{secret:?} was told:\n{text}");
        }
    }
    // The name of a field may be told, since it says where the mistake is; its value may not.
    assert!(log.contains("param=\"cold-4719\""), "{log}");
    assert!(!log.contains("-4716") && !page.contains("-4716") && !page.contains("-4719"), "{log}");
}
