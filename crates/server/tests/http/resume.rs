//! Streams whose connections are lost, and clients that do not read, over real connections with
//! the real default model.

use super::client::{Connection, Response, post, post_head, request};
use super::{MODEL, Running, address, check_error, own_engine, start, start_engine};
use freehold_server::Limits;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const LASTS: Duration = Duration::from_secs(600);

fn resumable(limits: Limits) -> Running {
    start(Limits { resume_streams: Some(LASTS), ..limits })
}

/// Such a server, and the id of a stream that has ended, of a client without a key.
pub(super) fn one_ended() -> (Running, String) {
    let server = resumable(Limits::default());
    let body = json!({"prompt": "Once", "max_tokens": 2, "stream": true}).to_string();
    let stream = request(server.address, "POST /v1/completions", body.as_bytes());
    let id = stream_id(&stream);
    (server, id)
}

/// A request of each route whose streams have ids.
fn requests() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let chat = json!({"messages": messages, "max_tokens": 12, "logprobs": true, "n": 2});
    let bodies = [
        ("/v1/chat/completions", chat),
        ("/v1/completions", json!({"prompt": ["One, two,", "A"], "max_tokens": 6})),
        ("/v1/responses", json!({"input": "What is the capital of France?"})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 12})),
    ];
    let streamed = |(path, mut body): (&'static str, Value)| {
        (body["model"], body["stream"], body["temperature"]) =
            (MODEL.into(), true.into(), 0.into());
        (path, body)
    };
    bodies.into_iter().map(streamed).collect()
}

/// The events of a stream as they are, comments left out.
fn events(stream: &Response) -> Vec<String> {
    assert_eq!(stream.status, 200, "{}", stream.body);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["x-freehold-resumable"], "600");
    let events = stream.body.split_inclusive("\n\n").map(str::to_owned);
    events.filter(|event| event.starts_with("id: ")).collect()
}

fn stream_id(stream: &Response) -> String {
    let first = stream.body.strip_prefix("id: ").unwrap();
    first.split_once(":0\n").unwrap().0.to_owned()
}

#[test]
fn every_stream_is_resumed_behind_every_event() {
    let server = resumable(Limits::default());
    for (path, body) in requests() {
        let stream = post(server.address, path, &body);
        let (events, id) = (events(&stream), stream_id(&stream));
        assert!(events.len() > 5, "{path}: {}", stream.body);
        assert_eq!(events.concat(), stream.body, "{path}");
        // The answer's own id, which clients know from the first event.
        assert!(events[0].contains(&format!("\"id\":\"{id}\"")), "{}", events[0]);
        let key = "Authorization: Bearer any-key";
        let get = |head: &str| request(server.address, &format!("GET {head}\n{key}"), b"");
        for (n, event) in events.iter().enumerate() {
            assert!(event.starts_with(&format!("id: {id}:{n}\n")), "{event}");
            let rest = events[n + 1..].concat();
            let by_header = get(&format!("/v1/streams/{id}\nLast-Event-ID: {id}:{n}"));
            let by_query = get(&format!("/v1/streams/{id}?starting_after={n}"));
            let head = format!("{}\nLast-Event-ID: {id}:{n}", post_head(path));
            let repeated = request(server.address, &head, body.to_string().as_bytes());
            for resumed in [by_header, by_query, repeated] {
                assert_eq!(self::events(&resumed).concat(), rest, "{path} {n}");
                assert_eq!(resumed.body, rest, "{path} {n}");
            }
            if path == "/v1/responses" {
                assert!(event.contains(&format!("\"sequence_number\":{n},")), "{event}");
                let query = format!("stream=true&starting_after={n}");
                assert_eq!(get(&format!("/v1/responses/{id}?{query}")).body, rest, "{n}");
            }
        }
        assert_eq!(get(&format!("/v1/streams/{id}")).body, stream.body, "{path}");
        assert_eq!(get(&format!("/v1/responses/{id}?stream=true")).body, stream.body, "{path}");
    }
    let page = request(server.address, "GET /metrics", b"").body;
    assert!(!page.contains("freehold_streams_resumed_total 0"), "{page}");
}

/// Reads so many events; the id of the last of them.
fn read_events(connection: &mut Connection, n_events: usize) -> String {
    let (mut id, mut n) = (String::new(), 0);
    while n < n_events {
        let line = connection.line();
        assert!(!line.is_empty(), "the stream ended after {n} events");
        match line.strip_prefix("id: ") {
            Some(found) => id = found.trim_end().to_owned(),
            // The end of an event, not of a piece of the transfer.
            None if line == "\n" => n += 1,
            None => {}
        }
    }
    id
}

fn text_of(events: &[&str]) -> String {
    let data = events.iter().filter_map(|event| event.split_once("\ndata: ")).map(|(_, data)| data);
    let chunks = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    chunks
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect()
}

fn story(max_tokens: u32) -> Value {
    json!({
        "messages": [{"role": "user", "content": "Tell me a long story."}], "temperature": 0,
        "stream": true, "ignore_eos": true, "max_tokens": max_tokens,
    })
}

const CHAT: &str = "/v1/chat/completions";

fn send(address: SocketAddr, body: &Value) -> Connection {
    Connection::send(address, &post_head(CHAT), body.to_string().as_bytes())
}

#[test]
fn a_stream_goes_on_behind_a_lost_connection() {
    let server = resumable(Limits { n_requests: 1, ..Limits::default() });
    let body = story(120);
    let mut connection = send(server.address, &body);
    let last = read_events(&mut connection, 9);
    drop(connection);
    // It goes on, and has its place still.
    let busy = post(server.address, CHAT, &body);
    assert!([200, 429].contains(&busy.status), "{}", busy.body);
    // Lost again, and resumed in the other way.
    let (id, n) = last.split_once(':').unwrap();
    let head = format!("GET /v1/streams/{id}?starting_after={n}\nx-api-key: any-key");
    let mut connection = Connection::send(server.address, &head, b"");
    let last = read_events(&mut connection, 20);
    assert_eq!(last, format!("{id}:28"));
    drop(connection);
    let head = format!("{}\nLast-Event-ID: {last}", post_head(CHAT));
    let rest = request(server.address, &head, body.to_string().as_bytes());
    let begin = format!("id: {id}:29\n");
    assert!(rest.body.starts_with(&begin), "{}", rest.body);
    let all = request(server.address, &format!("GET /v1/streams/{id}\nx-api-key: any-key"), b"");
    let events: Vec<&str> = all.body.split_terminator("\n\n").collect();
    assert!(all.body.ends_with(&rest.body));
    assert_eq!(events.last(), Some(&&*format!("id: {id}:{}\ndata: [DONE]", events.len() - 1)));
    let mut whole = body;
    whole["stream"] = false.into();
    let whole = post(address(), CHAT, &whole).json();
    assert_eq!(text_of(&events), whole["choices"][0]["message"]["content"].as_str().unwrap());
}

#[test]
fn who_asks_for_the_head_of_a_stream_takes_it_from_nobody() {
    let server = resumable(Limits::default());
    let mut connection = send(server.address, &story(60));
    let last = read_events(&mut connection, 3);
    let (id, _) = last.split_once(':').unwrap();
    let key = "x-api-key: any-key";
    let head = request(server.address, &format!("HEAD /v1/streams/{id}\n{key}"), b"");
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(head.headers["content-type"], "text/event-stream");
    let none = request(server.address, &format!("HEAD /v1/streams/nobody\n{key}"), b"");
    assert_eq!(none.status, 404);
    let mut last = String::new();
    while !last.contains("[DONE]") {
        last = connection.line();
        assert!(!last.is_empty() && !last.contains("\"error\""), "the stream was taken: {last}");
    }
}

#[test]
fn a_stream_that_nobody_resumes_frees_its_place() {
    let resume_streams = Some(Duration::from_millis(50));
    let server = start(Limits { n_requests: 1, resume_streams, ..Limits::default() });
    let mut connection = send(server.address, &story(100_000));
    let last = read_events(&mut connection, 2);
    drop(connection);
    let body = json!({"prompt": "a", "max_tokens": 1});
    // Far fewer tries than the stream would have taken to end by itself.
    let freed = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        post(server.address, "/v1/completions", &body).status == 200
    });
    assert!(freed, "the seat is still taken");
    let head = format!("{}\nLast-Event-ID: {last}", post_head(CHAT));
    let gone = request(server.address, &head, story(100_000).to_string().as_bytes());
    check_error(&gone, 404, Some("id"), Some("stream_not_found"));
}

#[test]
fn only_its_own_client_resumes_a_stream_and_only_with_its_own_request() {
    let server = resumable(Limits::default());
    let body = story(3);
    let id = stream_id(&post(server.address, CHAT, &body));
    let send = |head: &str, body: &Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(server.address, head, body.as_bytes())
    };
    let not_found = |response: Response| {
        check_error(&response, 404, Some("id"), Some("stream_not_found"));
        assert!(response.body.contains("another client's"), "{}", response.body);
    };
    let of_address = format!("GET /v1/streams/{id}");
    not_found(send(&of_address, &Value::Null));
    not_found(send(&format!("{of_address}\nx-api-key: other"), &Value::Null));
    not_found(send(&format!("GET /v1/responses/{id}?stream=true"), &Value::Null));
    not_found(send(&format!("POST {CHAT}\nLast-Event-ID: {id}:1"), &body));
    let own = |path: &str, event: &str| format!("{}\nLast-Event-ID: {event}", post_head(path));
    not_found(send(&own(CHAT, "chatcmpl-1:1"), &body));
    let refused = |response: Response, what: &str| {
        check_error(&response, 400, Some("last-event-id"), Some("invalid_value"));
        assert!(response.body.contains(what), "{}", response.body);
    };
    let event = format!("{id}:1");
    refused(send(&own(CHAT, &event), &story(4)), "the stream of another request");
    refused(send(&own("/v1/responses", &event), &body), "the stream of another request");
    refused(send(&own(CHAT, &format!("{id}:99")), &body), "99: expected at most 5");
    refused(send(&own(CHAT, &id), &body), "expected the id of an event");
    refused(send(&own(CHAT, "1"), &body), "expected the id of an event");
    assert_eq!(send(&own(CHAT, &event), &body).status, 200);
    // In the family's own form.
    let messages = send(&own("/v1/messages", "msg_1:1"), &json!({}));
    assert_eq!((messages.status, &messages.json()["type"]), (404, &json!("error")));
    // Where none can be resumed that is said, and no header promises it.
    let none = request(address(), &own(CHAT, &event), body.to_string().as_bytes());
    check_error(&none, 404, Some("id"), Some("stream_not_found"));
    assert!(none.body.contains("--resume-streams"), "{}", none.body);
    let plain = post(address(), CHAT, &body);
    assert!(!plain.headers.contains_key("x-freehold-resumable"));
    assert!(plain.body.starts_with("data: "), "{}", plain.body);
    // Lines have no ids.
    let lines = json!({"model": MODEL, "prompt": "Hi", "options": {"num_predict": 1}});
    let lines = post(server.address, "/api/generate", &lines);
    assert!(!lines.headers.contains_key("x-freehold-resumable"), "{}", lines.body);
}

#[test]
fn the_newer_of_two_connections_goes_on() {
    let server = resumable(Limits::default());
    for (path, body) in requests() {
        let mut body = body;
        let long = if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" };
        body[long] = 100.into();
        let text = body.to_string();
        let mut first = Connection::send(server.address, &post_head(path), text.as_bytes());
        let last = read_events(&mut first, 3);
        let (id, _) = last.split_once(':').unwrap();
        let head = format!("GET /v1/streams/{id}\nx-api-key: any-key");
        let mut second = Connection::send(server.address, &head, b"");
        assert_eq!(read_events(&mut second, 1), format!("{id}:0"));
        let mut told = String::new();
        loop {
            let line = first.line();
            // The end of the transfer: it broke off with a word.
            if line == "0\r\n" {
                break;
            }
            assert!(!line.is_empty(), "{path}: {told}");
            told.push_str(&line);
        }
        assert!(told.contains("was resumed on another connection"), "{path}: {told}");
        read_events(&mut second, 10);
    }
}

#[test]
fn a_stream_too_large_to_be_kept_is_answered_and_not_resumed() {
    let server = resumable(Limits { n_stream_bytes: 4000, ..Limits::default() });
    let stream = post(server.address, CHAT, &story(60));
    assert!(stream.body.ends_with("data: [DONE]\n\n"), "{}", stream.body);
    let id = stream_id(&stream);
    let gone = request(server.address, &format!("GET /v1/streams/{id}\nx-api-key: any-key"), b"");
    check_error(&gone, 410, None, Some("stream_given_up"));
    // It is cancelled with its connection.
    let mut connection = send(server.address, &story(100_000));
    let last = read_events(&mut connection, 30);
    drop(connection);
    let head = format!("{}\nLast-Event-ID: {last}", post_head(CHAT));
    let gone = request(server.address, &head, story(100_000).to_string().as_bytes());
    check_error(&gone, 410, None, Some("stream_given_up"));
    let none_at_work = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let page = request(server.address, "GET /metrics", b"").body;
        page.contains("freehold_requests_at_work 0\n")
    });
    assert!(none_at_work, "the stream goes on");
}

#[test]
fn a_response_that_is_deleted_is_not_resumed() {
    let keep_responses = Some(LASTS);
    let server = resumable(Limits { keep_responses, ..Limits::default() });
    let body = json!({"input": "Hi", "max_output_tokens": 3, "stream": true});
    let stream = post(server.address, "/v1/responses", &body);
    let path = format!("/v1/responses/{}", stream_id(&stream));
    let send = |head: &str| request(server.address, &format!("{head}\nx-api-key: any-key"), b"");
    assert_eq!(send(&format!("GET {path}?stream=true")).body, stream.body);
    assert_eq!(send(&format!("DELETE {path}")).status, 200);
    let gone = send(&format!("GET {path}?stream=true"));
    check_error(&gone, 404, Some("id"), Some("stream_not_found"));
}

/// A client that asks and asks and reads nothing: of whole answers more than the buffers of the
/// system have room for.
#[test]
fn a_client_that_never_reads_its_answers_loses_its_connection() {
    let write_timeout = Duration::from_millis(100);
    let server = start(Limits { n_connections: 1, write_timeout, ..Limits::default() });
    let n_bytes = request(server.address, "GET /openapi.json", b"").body.len();
    let n_requests = (32 << 20) / n_bytes;
    let mut deaf = TcpStream::connect(server.address).unwrap();
    let one = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    deaf.write_all(one.repeat(n_requests).as_bytes()).unwrap();
    // There is no place for another connection until that one is closed.
    assert_eq!(request(server.address, "GET /health", b"").status, 200);
    drop(deaf);
}

/// One whose stream is larger than those buffers.
#[test]
fn a_client_that_does_not_read_its_stream_keeps_nobody_else_waiting() {
    let write_timeout = Duration::from_secs(2);
    let limits = Limits { write_timeout, ..Limits::default() };
    // It fills the queue.
    let server = start_engine(limits, own_engine(), "00");
    let prompt: Vec<u32> = (0..440).map(|i| 300 + i * 7).collect();
    let body = json!({"prompt": vec![prompt; 8], "echo": true, "logprobs": 5, "n": 16,
        "max_tokens": 1, "stream": true});
    let deaf = Connection::send(
        server.address,
        &post_head("/v1/completions"),
        body.to_string().as_bytes(),
    );
    let ask = json!({"prompt": "a", "max_tokens": 4, "stream": true});
    let count = |outcome: &str| {
        let page = request(server.address, "GET /metrics", b"").body;
        let is_it = |line: &&str| {
            line.starts_with("freehold_requests_total{route=\"/v1/completions\"")
                && line.contains(&format!("outcome=\"{outcome}\""))
        };
        page.lines()
            .find(is_it)
            .map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
    };
    let (mut n_answered, begun) = (0, Instant::now());
    while count("disconnected") == 0 {
        // A minute where nothing else runs.
        assert!(begun.elapsed() < Duration::from_secs(900), "it is waited for without an end");
        let answer = post(server.address, "/v1/completions", &ask);
        if answer.status == 429 {
            // Its prompts are in the queue still.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        assert!(answer.body.ends_with("data: [DONE]\n\n"), "{}", answer.body);
        n_answered += 1;
        assert_eq!(count("done"), n_answered, "all of it fits into the buffers");
    }
    assert!(n_answered > 0);
    drop(deaf);
}
