//! Files and batches of them, over real connections with the real models.

use super::client::{Response, post, post_head, request};
use super::{MODEL, Running, address, check_error, engine, only_model, run, vectors};
use engine::{Engine, EngineOptions};
use freehold_server::{Batches, Config, Limits};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const KEY: &str = "\nAuthorization: Bearer any-key";
/// A test that waits longer for a batch fails.
const PATIENCE: Duration = Duration::from_secs(100);

/// A folder of files and batches.
pub(super) fn open(path: &Path) -> Batches {
    Batches::open(&path.join("batches"), 1 << 30, |line| panic!("{line}")).unwrap()
}

fn start(path: &Path, limits: Limits) -> Running {
    start_with(path, limits, engine())
}

fn start_with(path: &Path, limits: Limits, engine: Engine) -> Running {
    let (fleet, model) = only_model(engine, "00");
    let mut config = Config::new(fleet, vec![model]);
    (config.limits, config.batches) = (limits, Some(open(path)));
    run(config)
}

fn stop(mut running: Running) {
    running.shutdown.take().unwrap().send(()).unwrap();
    running.thread.join().unwrap();
}

/// The head and body of a form: of texts, and of files, which have a name.
pub(super) fn form(path: &str, parts: &[(&str, Option<&str>, &str)]) -> (String, String) {
    let part = |(name, file_name, text): &(&str, Option<&str>, &str)| {
        let file = file_name.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"{file}");
        format!("--xyz\r\n{disposition}\r\n\r\n{text}\r\n")
    };
    let body: String = parts.iter().map(part).collect();
    let head = format!("POST {path}\nContent-Type: multipart/form-data; boundary=xyz{KEY}");
    (head, body + "--xyz--\r\n")
}

fn send(address: SocketAddr, lines: &str) -> Response {
    let parts = [("purpose", None, "batch"), ("file", Some("lines.jsonl"), lines)];
    let (head, body) = form("/v1/files", &parts);
    request(address, &head, body.as_bytes())
}

/// The id of a file that was sent.
pub(super) fn sent(address: SocketAddr, lines: &str) -> String {
    text(&ok(&send(address, lines)), "id")
}

/// The id of a batch of this input.
pub(super) fn batch(address: SocketAddr, input: &str) -> String {
    text(&ok(&create(address, input, CHAT)), "id")
}

fn ok(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_else(|| panic!("{name} of {body}")).to_owned()
}

fn get(address: SocketAddr, path: &str) -> Response {
    request(address, &format!("GET {path}{KEY}"), b"")
}

fn line(custom_id: &str, url: &str, body: &Value) -> String {
    let line = json!({"custom_id": custom_id, "method": "POST", "url": url, "body": body});
    line.to_string() + "\n"
}

fn question(n: usize, more: Value) -> Value {
    let content = format!("What is {n} + 1?");
    let mut body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": 8,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn create(address: SocketAddr, input: &str, endpoint: &str) -> Response {
    let body = json!({
        "input_file_id": input,
        "endpoint": endpoint,
        "completion_window": "24h",
        "metadata": {"night": "1"},
    });
    post(address, "/v1/batches", &body)
}

/// The batch once `is_so` says so of it.
fn wait(address: SocketAddr, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let batch = ok(&get(address, &format!("/v1/batches/{id}")));
        if is_so(&batch) {
            return batch;
        }
        assert!(begun.elapsed() < PATIENCE, "{batch}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn over(batch: &Value) -> bool {
    ["completed", "failed", "expired", "cancelled"].contains(&batch["status"].as_str().unwrap())
}

/// The entries of a file of a batch, by `custom_id`; none is there twice.
fn entries(address: SocketAddr, batch: &Value, name: &str) -> BTreeMap<String, Value> {
    let Some(id) = batch[name].as_str() else { return BTreeMap::new() };
    let content = get(address, &format!("/v1/files/{id}/content"));
    assert_eq!(content.headers["content-type"], "application/octet-stream");
    let file = ok(&get(address, &format!("/v1/files/{id}")));
    assert_eq!(file["bytes"], content.body.len());
    assert_eq!(file["purpose"], "batch_output");
    let mut entries = BTreeMap::new();
    for line in content.body.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entries.insert(text(&entry, "custom_id"), entry).is_none(), "{}", content.body);
    }
    entries
}

/// What became of the lines of a batch of chats, by `custom_id`.
pub(super) fn answered(address: SocketAddr, lines: &[(&str, &Value)]) -> BTreeMap<String, Value> {
    let lines: String = lines.iter().map(|(id, body)| line(id, CHAT, body)).collect();
    let id = batch(address, &sent(address, &lines));
    entries(address, &wait(address, &id, over), "output_file_id")
}

#[test]
fn a_line_is_answered_as_a_request_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), Limits::default());
    let address = server.address;
    let questions: Vec<Value> = (0..4).map(|n| question(n, json!({}))).collect();
    let mut lines: String = (0..4).map(|n| line(&format!("q{n}"), CHAT, &questions[n])).collect();
    lines += &line("bad", CHAT, &question(9, json!({"temprature": 1})));
    lines += &line("told", CHAT, &question(9, json!({"verbosity": "low"})));
    let sent = ok(&send(address, &lines));
    assert_eq!((&sent["filename"], &sent["bytes"]), (&json!("lines.jsonl"), &json!(lines.len())));
    let input = text(&sent, "id");
    assert_eq!(get(address, &format!("/v1/files/{input}/content")).body, lines);
    let batch = ok(&create(address, &input, CHAT));
    let batch = wait(address, &text(&batch, "id"), over);
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 6, "completed": 5, "failed": 1}));
    assert_eq!(batch["metadata"], json!({"night": "1"}));
    let output = entries(address, &batch, "output_file_id");
    for n in 0..4 {
        let entry = &output[&format!("q{n}")];
        assert_eq!(
            (&entry["response"]["status_code"], &entry["error"]),
            (&json!(200), &Value::Null)
        );
        let alone = post(address, CHAT, &questions[n]).json();
        let body = &entry["response"]["body"];
        assert_eq!((&body["choices"], &body["object"]), (&alone["choices"], &alone["object"]));
    }
    // What a header would say stands beside the body.
    let headers = &output["told"]["response"]["headers"];
    assert_eq!(*headers, json!({"x-freehold-ignored": "verbosity"}));
    let errors = entries(address, &batch, "error_file_id");
    let refused = &errors["bad"]["response"];
    assert_eq!((errors.len(), &refused["status_code"]), (1, &json!(400)));
    assert_eq!(refused["body"]["error"]["param"], "temprature");
    // What there is, whose it is, and that it goes.
    let list = ok(&get(address, "/v1/files?limit=2"));
    assert_eq!((list["data"].as_array().unwrap().len(), &list["has_more"]), (2, &json!(true)));
    let list = ok(&get(address, "/v1/files?purpose=batch"));
    assert_eq!(
        (&list["data"][0]["id"], list["data"].as_array().unwrap().len()),
        (&json!(input), 1)
    );
    let list = ok(&get(address, "/v1/batches"));
    assert_eq!((&list["data"][0]["id"], &list["has_more"]), (&batch["id"], &json!(false)));
    let other = request(address, &format!("GET /v1/files/{input}\nx-api-key: other"), b"");
    check_error(&other, 404, None, None);
    let page = request(address, "GET /metrics", b"").body;
    assert!(page.contains("freehold_batches_unfinished 0"), "{page}");
    let of = format!("freehold_requests_total{{route=\"{CHAT}\",model=\"{MODEL}\"");
    assert!(page.contains(&format!("{of},outcome=\"done\"}} 9")), "{page}");
    for id in [&input, &text(&batch, "output_file_id"), &text(&batch, "error_file_id")] {
        let deleted = request(address, &format!("DELETE /v1/files/{id}{KEY}"), b"");
        assert_eq!(ok(&deleted), json!({"id": id, "object": "file", "deleted": true}));
    }
    let gone = get(address, &format!("/v1/batches/{}", text(&batch, "id")));
    check_error(&gone, 404, None, None);
    stop(server);
}

#[test]
fn texts_of_a_batch_become_vectors() {
    let address = vectors::address();
    let body = json!({"model": "minilm-l6-v2", "input": "own it"});
    let input = sent(address, &line("a", "/v1/embeddings", &body));
    let batch = ok(&create(address, &input, "/v1/embeddings"));
    let batch = wait(address, &text(&batch, "id"), over);
    let output = entries(address, &batch, "output_file_id");
    let alone = post(address, "/v1/embeddings", &body).json();
    assert_eq!(output["a"]["response"]["body"]["data"], alone["data"]);
    let check = |url: &str, body: &Value| {
        let input = sent(address, &line("a", url, body));
        let batch = ok(&create(address, &input, url));
        let batch = wait(address, &text(&batch, "id"), over);
        assert_eq!(batch["status"], "completed", "{batch}");
        assert_eq!(batch["request_counts"]["completed"], 1, "{batch}");
    };
    check("/v1/completions", &json!({"model": MODEL, "prompt": "a", "max_tokens": 1}));
    check("/v1/responses", &json!({"model": MODEL, "input": "a", "max_output_tokens": 1}));
}

#[test]
fn an_input_that_is_wrong_is_told_by_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), Limits::default());
    let address = server.address;
    let ask = |n: usize, more: Value| line("a", CHAT, &question(n, more));
    let lines = [
        ask(0, json!({})),
        "\nnot JSON\n".to_owned(),
        ask(1, json!({"model": "other"})),
        line("b", "/v1/completions", &json!({})),
        line("c", CHAT, &question(0, json!({"stream": true}))),
    ];
    let batch = ok(&create(address, &sent(address, &lines.concat()), CHAT));
    let batch = wait(address, &text(&batch, "id"), over);
    assert_eq!(batch["status"], "failed");
    let told = |error: &Value| (error["line"].as_u64().unwrap(), text(error, "code"));
    let told: Vec<_> = batch["errors"]["data"].as_array().unwrap().iter().map(told).collect();
    let expected = [
        (3, "invalid_json_line"),
        (4, "duplicate_custom_id"),
        (4, "model_mismatch"),
        (5, "url_mismatch"),
        (6, "unsupported_parameter"),
    ];
    assert_eq!(told, expected.map(|(line, code)| (line, code.to_owned())));
    assert!(batch["output_file_id"].is_null() && batch["failed_at"].is_u64());
    let unknown = ask(0, json!({"model": "no-such-model"}));
    let batch = ok(&create(address, &sent(address, &unknown), CHAT));
    let batch = wait(address, &text(&batch, "id"), over);
    assert_eq!(batch["errors"]["data"][0]["code"], "model_not_found", "{batch}");
    let none = create(address, "file-none", CHAT);
    check_error(&none, 400, Some("input_file_id"), Some("invalid_value"));
    let cancel = format!("POST /v1/batches/{}/cancel{KEY}", text(&batch, "id"));
    check_error(&request(address, &cancel, b""), 409, None, None);
    stop(server);
}

/// Lines that take a while, with one at work at a time.
fn slow(path: &Path, n_lines: usize) -> (Running, String) {
    let limits = Limits { n_batch_lines: 1, ..Limits::default() };
    let server = start(path, limits);
    let ask = |n| question(n, json!({"max_tokens": 40, "ignore_eos": true}));
    let lines: String = (0..n_lines).map(|n| line(&format!("q{n}"), CHAT, &ask(n))).collect();
    let batch = ok(&create(server.address, &sent(server.address, &lines), CHAT));
    let id = text(&batch, "id");
    let is_begun = |batch: &Value| batch["request_counts"]["completed"].as_u64().unwrap() >= 1;
    wait(server.address, &id, is_begun);
    (server, id)
}

#[test]
fn a_batch_goes_on_where_the_server_was_stopped() {
    const N_LINES: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let (server, id) = slow(folder.path(), N_LINES);
    let begun = Instant::now();
    stop(server);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let server = start(folder.path(), Limits::default());
    let batch = wait(server.address, &id, over);
    assert_eq!(batch["status"], "completed");
    let counts = json!({"total": N_LINES, "completed": N_LINES, "failed": 0});
    assert_eq!(batch["request_counts"], counts);
    assert_eq!(entries(server.address, &batch, "output_file_id").len(), N_LINES);
    stop(server);
}

/// The lines have all seats, and will have them for long: whoever asks meanwhile takes one.
#[test]
fn whoever_waits_goes_before_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { n_ctx: Some(512), max_sequences: 2, ..EngineOptions::default() };
    let engine = Engine::open(&testkit::smollm2(), &options).unwrap();
    let server = start_with(folder.path(), Limits::default(), engine);
    let address = server.address;
    let ask = |n| question(n, json!({"max_tokens": 450, "ignore_eos": true}));
    let lines: String = (0..6).map(|n| line(&format!("q{n}"), CHAT, &ask(n))).collect();
    let batch = text(&ok(&create(address, &sent(address, &lines), CHAT)), "id");
    let running = format!("freehold_sequences_running{{model=\"{MODEL}\"}} 2\n");
    let begun = Instant::now();
    while !request(address, "GET /metrics", b"").body.contains(&running) {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    ok(&post(address, CHAT, &question(7, json!({"max_tokens": 2}))));
    let batch = ok(&get(address, &format!("/v1/batches/{batch}")));
    assert_eq!(batch["request_counts"], json!({"total": 6, "completed": 0, "failed": 0}));
    let id = text(&batch, "id");
    ok(&request(address, &format!("POST /v1/batches/{id}/cancel{KEY}"), b""));
    wait(address, &id, over);
    stop(server);
}

#[test]
fn what_was_done_before_it_was_cancelled_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (server, id) = slow(folder.path(), 40);
    let address = server.address;
    let input = text(&ok(&get(address, &format!("/v1/batches/{id}"))), "input_file_id");
    let deleted = request(address, &format!("DELETE /v1/files/{input}{KEY}"), b"");
    check_error(&deleted, 409, None, None);
    let cancelled = request(address, &format!("POST /v1/batches/{id}/cancel{KEY}"), b"");
    assert_eq!(ok(&cancelled)["status"], "cancelling");
    let batch = wait(address, &id, over);
    assert_eq!(batch["status"], "cancelled");
    let n_completed = batch["request_counts"]["completed"].as_u64().unwrap();
    assert!((1..40).contains(&n_completed), "{batch}");
    let output = entries(address, &batch, "output_file_id");
    assert_eq!(output.len() as u64, n_completed);
    stop(server);
}

#[test]
fn a_batch_ends_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let (server, id) = slow(folder.path(), 40);
    stop(server);
    let record = folder.path().join("batches/batches").join(format!("{id}.json"));
    let mut batch: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    batch["times"]["expires"] = batch["times"]["created"].clone();
    std::fs::write(&record, batch.to_string()).unwrap();
    let server = start(folder.path(), Limits::default());
    let batch = wait(server.address, &id, over);
    assert_eq!((&batch["status"], batch["expired_at"].is_u64()), (&json!("expired"), true));
    let output = entries(server.address, &batch, "output_file_id");
    let errors = entries(server.address, &batch, "error_file_id");
    assert!(!output.is_empty() && output.len() + errors.len() == 40, "{batch}");
    assert_eq!(errors["q39"]["error"]["code"], "batch_expired");
    stop(server);
}

#[test]
fn forms_are_bounded_and_refused_by_their_fields() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { n_file_bytes: 100_000, ..Limits::default() };
    let server = start(folder.path(), limits);
    let address = server.address;
    let check = |parts: &[(&str, Option<&str>, &str)], status, param, code| {
        let (head, body) = form("/v1/files", parts);
        check_error(&request(address, &head, body.as_bytes()), status, param, code);
    };
    let (purpose, file) = (("purpose", None, "batch"), ("file", Some("a"), "{}"));
    let missing = Some("missing_required_parameter");
    let long = "x".repeat(100_001);
    check(&[purpose], 400, Some("file"), missing);
    check(&[file], 400, Some("purpose"), missing);
    check(&[file, file, purpose], 400, Some("file"), Some("invalid_value"));
    check(&[("purpose", None, "vision"), file], 400, Some("purpose"), Some("invalid_value"));
    check(&[purpose, ("file", None, "{}")], 400, Some("file"), Some("invalid_value"));
    check(&[purpose, ("file[]", None, "{}")], 400, Some("file"), Some("invalid_value"));
    check(&[purpose, file, ("file[x]", Some("b"), "")], 400, Some("file"), Some("invalid_value"));
    check(
        &[purpose, ("purposes", None, &long), file],
        400,
        Some("purposes"),
        Some("invalid_value"),
    );
    let expiry = ("expires_after[seconds]", None, "3600");
    let code = Some("unsupported_parameter");
    check(&[purpose, file, expiry], 400, Some("expires_after"), code);
    check(&[purpose, ("file", Some("a"), &long)], 413, None, Some("request_too_large"));
    let (head, body) = form("/v1/files", &[purpose, file]);
    let torn = request(address, &head, &body.as_bytes()[..body.len() - 9]);
    check_error(&torn, 400, None, Some("invalid_form"));
    let json = request(address, &post_head("/v1/files"), b"{}");
    check_error(&json, 400, None, Some("invalid_value"));
    assert_eq!(ok(&get(address, "/v1/files"))["data"], json!([]));
    let left = std::fs::read_dir(folder.path().join("batches/files")).unwrap().count();
    assert_eq!(left, 0);
    stop(server);
}

#[test]
fn whoever_has_not_switched_it_on_keeps_nothing() {
    let (head, body) = form("/v1/files", &[("purpose", None, "batch"), ("file", Some("a"), "{}")]);
    for response in [
        request(address(), &head, body.as_bytes()),
        get(address(), "/v1/files"),
        get(address(), "/v1/files/file-a"),
        get(address(), "/v1/files/file-a/content"),
        request(address(), &format!("DELETE /v1/files/file-a{KEY}"), b""),
        create(address(), "file-a", CHAT),
        get(address(), "/v1/batches"),
        get(address(), "/v1/batches/batch_a"),
        request(address(), &format!("POST /v1/batches/batch_a/cancel{KEY}"), b""),
    ] {
        check_error(&response, 403, None, None);
        assert!(response.body.contains("--batches"), "{}", response.body);
    }
}
