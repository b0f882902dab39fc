//! `freehold.lock` through the real binary: nothing changes without its owner's say.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use crate::binary::{Home, Outcome, arg};
use gguf::TensorType;
use gguf::write::Writer;
use serde_json::{Value, json};

const TEMPLATE: &str = "{% for m in messages %}\n{{ m.content }}\n{% endfor %}";

/// A small file that is a model but for its weights: it is held against the lock before anybody
/// finds out.
fn small(template: &str, ty: TensorType) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama").metadata("general.license", "MIT");
    writer.metadata("tokenizer.ggml.model", "gpt2").metadata("tokenizer.ggml.bos_token_id", 1_u32);
    writer.metadata("tokenizer.chat_template", template);
    let n_bytes = if ty == TensorType::Q8_0 { 2 * 34 } else { 2 * 64 };
    writer.tensor("blk.0.w", &[2, 32], ty, vec![7_u8; n_bytes]);
    writer.finish().unwrap()
}

/// A home with the small model, adopted as `m` and locked. Returns the model's file.
fn locked() -> (Home, PathBuf) {
    let home = Home::new();
    let path = home.write("m.gguf", &small(TEMPLATE, TensorType::Q8_0));
    home.run(&["add", arg(&path), "--name", "m"]).ok();
    home.run(&["lock", "m", "--alias", "claude-*=m"]).ok();
    (home, path)
}

/// Says what is installed now as if it had always been so.
fn adopt_again(home: &Home, path: &Path) {
    home.run(&["add", arg(path), "--name", "m"]).ok();
}

fn lock_text(home: &Home) -> String {
    std::fs::read_to_string(home.path("freehold.lock")).unwrap()
}

/// Asserts that the model is refused for what the words say; its own faults would be code 5.
#[track_caller]
fn refused(home: &Home, words: &[&str]) {
    let outcome = home.run(&["run", "--model", "m", "Hello"]);
    outcome.fails(4, &[&["m is not as freehold.lock says: "], words].concat());
}

fn sha256(path: &Path) -> String {
    store::hash_file(path, &store::Silent).unwrap().1.to_string()
}

#[test]
fn a_lock_is_written_once_and_stays_the_same() {
    let (home, path) = locked();
    let text = lock_text(&home);
    assert!(text.contains(&sha256(&path)) && text.contains("licence = \"MIT\""), "{text}");
    assert!(text.contains("source = \"file m.gguf\"\n"), "no path of this machine: {text}");
    assert!(text.contains("Q8_0 x1") && text.contains("\"claude-*\" = \"m\""), "{text}");
    home.run(&["lock", "m", "--alias", "claude-*=m"]).says(0, "says so already");
    assert_eq!(lock_text(&home), text);
    // What is as locked gets as far as its weights.
    home.run(&["run", "--model", "m", "Hello"]).says(5, "held to freehold.lock (1 models)");
    // Another model changes nothing of this one.
    let other = home.write("other.gguf", &small("{{ x }}", TensorType::F16));
    home.run(&["add", arg(&other)]).ok();
    home.run(&["lock", "other"]).ok();
    let now = lock_text(&home);
    let entry = |text: &str| {
        let begin = text.find("[model.m]").unwrap();
        let end = text[begin..].find("\n[model.other]").unwrap_or(text[begin..].len() - 24);
        text[begin..begin + end].trim().to_owned()
    };
    assert_eq!(entry(&now), entry(&text));
    assert!(now.contains("[model.other]"), "{now}");
}

#[test]
fn an_entry_changes_only_with_update() {
    let (home, path) = locked();
    let before = lock_text(&home);
    std::fs::write(&path, small("{{ other }}", TensorType::F16)).unwrap();
    home.run(&["lock", "m"]).fails(4, &["sha256 is ", "expected "]);
    adopt_again(&home, &path);
    let outcome = home.run(&["lock", "m"]);
    outcome.fails(4, &["freehold.lock: 1 entries would change", "--update"]);
    let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
    for words in [
        "m: chat template: expected sha256 ",
        "m: tensors blk.*.w: expected Q8_0 x1, found F16 x1",
        &format!(", found sha256 {}", sha256(&path)),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(lock_text(&home), before);
    home.run(&["lock", "m", "--alias", "claude-*=nobody"]).fails(2, &["--alias claude-*=nobody"]);
    home.run(&["lock", "m", "--update"]).ok();
    assert!(lock_text(&home).contains("F16 x1"));
    home.run(&["run", "--model", "m", "Hello"]).says(5, "held to");
}

/// Every byte of the file, from the header to the last weight.
#[test]
fn a_flipped_byte_anywhere_is_refused_with_both_hashes() {
    let (home, path) = locked();
    let good = std::fs::read(&path).unwrap();
    let expected = sha256(&path);
    let place_of =
        |text: &str| good.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    for (what, at) in [
        ("the magic", 0),
        ("the version", 4),
        ("the number of tensors", 8),
        ("a key", place_of("general.license")),
        ("the tensor's name", place_of("blk.0.w")),
        // 68 bytes of weights are filled up to 96.
        ("the first weight", good.len() - 96),
        ("a weight in the middle", good.len() - 60),
        ("the last byte", good.len() - 1),
    ] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let outcome = home.run(&["run", "--model", "m", "Hello"]);
        assert_eq!(outcome.code, Some(4), "{what}: {}", outcome.stderr);
        let is_told = outcome.stderr.contains("m is not as freehold.lock says: ");
        assert!(is_told, "{what}: {}", outcome.stderr);
        // What the metadata tells comes first; only of the rest the bytes are read.
        let has_hashes = outcome.stderr.contains("file m.gguf: expected sha256 ");
        let of_bytes = [expected.as_str(), &sha256(&path)];
        let has_both = of_bytes.iter().all(|hash| outcome.stderr.contains(hash));
        let is_of_tensors = outcome.stderr.contains("tensors ");
        assert!(has_hashes && has_both || is_of_tensors, "{what}: {}", outcome.stderr);
    }
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    refused(&home, &["file m.gguf: expected ", &format!("{} bytes", good.len())]);
    std::fs::remove_file(&path).unwrap();
    home.run(&["run", "--model", "m", "Hello"]).fails(3, &["m.gguf"]);
    std::fs::write(&path, &good).unwrap();
    home.run(&["run", "--model", "m", "Hello"]).says(5, "held to");
}

#[test]
fn what_the_metadata_says_is_told_by_its_name() {
    let (home, path) = locked();
    let hash_of = |text: &str| sha256(&home.write("text", text.as_bytes()));
    let edited = TEMPLATE.replace("m.content", "m.kontent");
    std::fs::write(&path, small(&edited, TensorType::Q8_0)).unwrap();
    let words = format!(
        "chat template: expected sha256 {}, found sha256 {}",
        hash_of(TEMPLATE),
        hash_of(&edited)
    );
    refused(&home, &[&words]);
    // A manifest that goes along with it does not help, nor does the same file in another place.
    adopt_again(&home, &path);
    refused(&home, &[&words, "file m.gguf: expected sha256 "]);
    let mut bytes = small(TEMPLATE, TensorType::Q8_0);
    let at = bytes.windows(4).position(|window| window == b"gpt2").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    adopt_again(&home, &path);
    refused(&home, &["tokenizer: expected sha256 ", "found sha256 "]);
}

#[test]
fn a_lock_that_was_edited_refuses_what_it_no_longer_fits() {
    let (home, _) = locked();
    let good = lock_text(&home);
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in\n{good}");
        home.write("freehold.lock", good.replacen(from, to, 1).as_bytes());
    };
    let numerics = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("numerics = ")).unwrap().to_owned()
    };
    let number = numerics(&good);
    edit(&format!("numerics = {number}"), "numerics = 9999");
    refused(&home, &[&format!("numerics: expected 9999, found {number}")]);
    edit("temperature = 0.8", "temperature = 0.7");
    refused(&home, &["default temperature: expected 0.7, found 0.8"]);
    edit("licence = \"MIT\"", "licence = \"GPL-2.0\"");
    refused(&home, &["licence: expected GPL-2.0, found MIT"]);
    edit("Q8_0 x1", "Q8_0 x2");
    refused(&home, &["tensors blk.*.w: expected Q8_0 x2, found Q8_0 x1"]);
    edit("n_bytes = ", "n_bytes = 1");
    refused(&home, &["file m.gguf: expected 1", " bytes, found "]);
    // The first hash is of the tokenizer; those of the template and of the file come behind it.
    for (item, begin) in
        [("tokenizer", "tokenizer = \""), ("chat template", "[model.m.template]\nsha256 = \"")]
    {
        let at = good.find(begin).unwrap_or_else(|| panic!("{begin}: {good}")) + begin.len();
        let digit = &good[at..=at];
        let other = if digit == "0" { "1" } else { "0" };
        edit(&format!("{begin}{digit}"), &format!("{begin}{other}"));
        refused(&home, &[&format!("{item}: expected sha256 {other}"), ", found sha256 "]);
    }
    let file_hash = good.rfind("sha256 = \"").unwrap() + "sha256 = \"".len();
    let digit = &good[file_hash..=file_hash];
    let other = if digit == "0" { "1" } else { "0" };
    let edited = format!("{}{other}{}", &good[..file_hash], &good[file_hash + 1..]);
    home.write("freehold.lock", edited.as_bytes());
    refused(&home, &[&format!("file m.gguf: expected sha256 {other}"), ", found sha256 "]);
    edit("{{ m.content }}", "{{ m.kontent }}");
    refused(&home, &["text of the chat template in the lock: expected sha256 "]);
}

#[test]
fn a_lock_that_cannot_be_read_stops_everything_with_its_place() {
    let (home, _) = locked();
    let good = lock_text(&home);
    let check = |text: &str, words: &[&str]| {
        home.write("freehold.lock", text.as_bytes());
        let words = [&["freehold.lock: line ", "column "], words].concat();
        home.run(&["run", "--model", "m", "Hello"]).fails(2, &words);
        home.run(&["serve", "m", "--on-demand", "--listen", "127.0.0.1:0"]).fails(2, &words);
        home.run(&["verify"]).fails(2, &words);
        home.run(&["lock", "m"]).fails(2, &words);
    };
    check(&good.replacen("numerics", "numerix = 1\nnumerics", 1), &["numerix"]);
    check(&good.replacen("[model.m]\n", "[model.m]\nlicence = \"a\"\n", 1), &["duplicate key"]);
    check(&good[..good.len() / 2], &[]);
    check(&good[..good.len() - 5], &["ends before its last line"]);
    let absent = home.path("no.lock");
    let args = ["run", "--model", "m", "--lock", arg(&absent), "Hello"];
    home.run(&args).fails(3, &["no.lock", "no such file"]);
    std::fs::remove_file(home.path("freehold.lock")).unwrap();
    home.run(&["run", "--model", "m", "--locked", "Hello"])
        .fails(3, &["--locked", "freehold.lock"]);
    home.run(&["run", "--model", "m", "Hello"]).says(5, "");
}

#[test]
fn locked_answers_with_nothing_that_is_not_listed() {
    let (home, path) = locked();
    let other = home.write("other.gguf", &small("{{ x }}", TensorType::F16));
    home.run(&["add", arg(&other)]).ok();
    home.run(&["run", "--model", "other", "Hello"]).says(5, "held to");
    let args = ["run", "--model", "other", "--locked", "Hello"];
    home.run(&args).fails(4, &["other is not in freehold.lock"]);
    home.run(&["run", "--model", "m", "--locked", "Hello"]).says(5, "held to");
    let args = ["run", "--model", "minilm-l6-v2", "--locked", "Hello"];
    home.run(&args).fails(3, &["not here yet"]);
    // A plain file goes by the name that it would be served under; only its contents count.
    let same = std::fs::create_dir(home.path("f")).map(|()| home.path("f/m.gguf")).unwrap();
    std::fs::copy(&path, &same).unwrap();
    home.run(&["run", "--model", arg(&same), "--locked", "Hello"]).says(5, "held to");
    std::fs::copy(&other, &same).unwrap();
    let outcome = home.run(&["run", "--model", arg(&same), "Hello"]);
    outcome.fails(4, &["m is not as freehold.lock says", "chat template"]);
}

#[test]
fn verify_holds_every_byte_against_the_lock() {
    let (home, path) = locked();
    let said = home.run(&["verify"]).ok();
    assert!(said.contains("local/m: as locked in freehold.lock"), "{said}");
    assert_eq!(home.run(&["verify", "--json"]).json()[0]["lock_differences"], json!([]));
    let good = std::fs::read(&path).unwrap();
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let outcome = home.run(&["verify"]);
    outcome.fails(4, &["1 of 1 models are not as pinned, 1 of 1 models are not as locked"]);
    let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let words = "local/m: not as locked in freehold.lock: file m.gguf: expected sha256 ";
    assert!(said.contains(words) && said.contains(&sha256(&path)), "{said}");
    // A manifest that goes along with it changes nothing for the lock.
    adopt_again(&home, &path);
    home.run(&["verify"]).fails(4, &["1 of 1 models are not as locked"]);
    home.run(&["rm", "m"]).ok();
    home.run(&["verify"]).fails(3, &["1 locked models are not installed"]);
}

#[test]
fn diff_tells_in_words_what_differs() {
    let (home, path) = locked();
    home.run(&["diff"]).says(0, "nothing differs");
    std::fs::copy(home.path("freehold.lock"), home.path("old.lock")).unwrap();
    let edited = TEMPLATE.replace("m.content", "m.content | trim");
    std::fs::write(&path, small(&edited, TensorType::F16)).unwrap();
    adopt_again(&home, &path);
    let words = [
        "m\n",
        "  chat template: sha256 ",
        "  tensors blk.*.w: Q8_0 x1 -> F16 x1",
        "    - {{ m.content }}",
        "    + {{ m.content | trim }}",
        "  file m.gguf: sha256 ",
    ];
    let check = |outcome: Outcome| {
        assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("tokenizer"), "{said}");
    };
    check(home.run(&["diff"]));
    home.run(&["lock", "m", "--update"]).ok();
    check(home.run(&["diff", "old.lock", "freehold.lock"]));
    let outcome = home.run(&["diff", "old.lock", "freehold.lock", "--json"]);
    let changes: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((&changes[0]["name"], &changes[0]["change"]), (&json!("m"), &json!("changed")));
    home.run(&["diff", "none.lock"]).fails(3, &["none.lock"]);
}

#[test]
fn why_tells_what_an_application_gets() {
    let (home, path) = locked();
    let said = home.run(&["why", "claude-sonnet", "--alias", "claude-*=m"]).ok();
    for words in [
        "claude-* -> m (by the command line, as locked)",
        "local/m",
        &sha256(&path),
        "temperature 0.8",
        "as freehold.lock says (its entry is ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let answer = home.run(&["why", "claude-sonnet", "--json"]).json();
    assert_eq!(answer["alias"]["from"], "the lock, as locked");
    assert_eq!(
        (&answer["model"], &answer["lock"]["state"]),
        (&json!("local/m"), &json!("as locked"))
    );
    let other = home.write("other.gguf", &small("{{ x }}", TensorType::F16));
    home.run(&["add", arg(&other)]).ok();
    let said = home.run(&["why", "claude-x", "--alias", "claude-*=other"]).ok();
    assert!(
        said.contains("and the lock says m") && said.contains("not in freehold.lock"),
        "{said}"
    );
    home.run(&["why", "nobody"]).fails(3, &["nobody"]);
    std::fs::remove_file(home.path("freehold.lock")).unwrap();
    assert!(home.run(&["why", "m"]).ok().contains("none is here"));
}

/// A server, and what it said on stderr when it has ended.
#[cfg(unix)]
struct Server {
    child: Child,
    /// Held: what it still has to say there would else end it.
    _stdout: BufReader<ChildStdout>,
    address: String,
}

#[cfg(unix)]
impl Server {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        let Some(address) = address else {
            let output = child.wait_with_output().unwrap();
            panic!("it ended: {}", String::from_utf8_lossy(&output.stderr));
        };
        Self { child, _stdout: stdout, address }
    }

    /// The connection by which a request is sent.
    fn send(&self, line: &str, head: &str, body: &Value) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (host, n_bytes) = (&self.address, body.len());
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{head}");
        // At once: a server that answers before all has come resets the connection.
        let request = format!("{head}Content-Length: {n_bytes}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Status, head and body.
    fn answer(&self, line: &str, head: &str, body: &Value) -> (u16, String, Value) {
        let mut answer = String::new();
        self.send(line, head, body).read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        (status, head.to_owned(), body)
    }

    fn ask(&self, line: &str, head: &str, body: &Value) -> (u16, Value) {
        let (status, _, body) = self.answer(line, head, body);
        (status, body)
    }

    /// A request for a few tokens in each dialect, in order: OpenAI, Anthropic, Ollama.
    fn ask_all(&self, model: &str) -> [(u16, Value); 3] {
        let messages = json!([{"role": "user", "content": "Hi"}]);
        let mut body = json!({"model": model, "messages": messages, "max_tokens": 2});
        let openai = self.ask("POST /v1/chat/completions", "", &body);
        let anthropic = self.ask("POST /v1/messages", "anthropic-version: 2023-06-01\r\n", &body);
        body = json!({"model": model, "messages": messages, "stream": false});
        body["options"] = json!({"num_predict": 2});
        [openai, anthropic, self.ask("POST /api/chat", "", &body)]
    }

    fn stop(self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let output = self.child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The real model as `own`, two small ones, and a lock of all three; then one of those changes.
#[cfg(unix)]
#[test]
fn serve_refuses_what_differs_and_goes_on_with_the_rest() {
    let (home, path) = locked();
    let real = testkit::smollm2();
    home.run(&["add", arg(&real), "--name", "own"]).ok();
    let spare = home.write("spare.gguf", &small(TEMPLATE, TensorType::Q8_0));
    home.run(&["add", arg(&spare), "--name", "spare"]).ok();
    home.run(&["lock", "own", "spare", "--alias", "mine=own"]).ok();
    let entry = home.run(&["why", "own", "--json"]).json()["lock"]["entry"].clone();
    // The template of one, a weight of the other.
    std::fs::write(&path, small("{{ other }}", TensorType::Q8_0)).unwrap();
    let mut bytes = std::fs::read(&spare).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&spare, &bytes).unwrap();

    let aliases = ["--alias", "mine=own", "--alias", "claude-x=own", "--alias", "claude-*=own"];
    let args = [&["own", "m", "spare", "--on-demand", "--locked"], &aliases[..]].concat();
    let server = Server::start(&home, &args);
    for (name, words) in [
        ("m", "m is not as freehold.lock says: chat template: expected sha256 "),
        ("spare", "spare is not as freehold.lock says: file spare.gguf: expected sha256 "),
        ("claude-3", "alias claude-* is not as freehold.lock says: the model it stands for: "),
        // The lock has no such alias, but one whose names it is among.
        ("claude-x", "alias claude-x is not as freehold.lock says: the model it stands for: "),
    ] {
        // Asked again, it says the same.
        for _ in 0..2 {
            let [(openai, of_openai), (anthropic, of_anthropic), (ollama, of_ollama)] =
                server.ask_all(name);
            assert_eq!((openai, anthropic, ollama), (503, 503, 503), "{name}: {of_openai}");
            assert_eq!(of_openai["error"]["code"], "not_as_locked", "{of_openai}");
            assert_eq!(of_openai["error"]["param"], "model", "{of_openai}");
            assert_eq!(of_anthropic["error"]["type"], "api_error", "{of_anthropic}");
            for said in [
                &of_openai["error"]["message"],
                &of_anthropic["error"]["message"],
                &of_ollama["error"],
            ] {
                assert!(said.as_str().unwrap().contains(words), "{name}: {said}");
            }
        }
    }
    // The rest answers, under its name and its alias, and says what it is held to.
    for name in ["own", "mine"] {
        let [openai, anthropic, ollama] = server.ask_all(name);
        assert_eq!((openai.0, anthropic.0, ollama.0), (200, 200, 200), "{name}: {}", openai.1);
        let fingerprint = openai.1["system_fingerprint"].as_str().unwrap().to_owned();
        let end = format!("_n{}_{}", engine::NUMERICS_VERSION, &entry.as_str().unwrap()[..12]);
        assert!(fingerprint.ends_with(&end), "{fingerprint}, expected {end}");
    }
    let (_, list) = server.ask("GET /v1/models", "", &json!({}));
    let status = |id: &str| {
        let cards = list["data"].as_array().unwrap();
        cards.iter().find(|card| card["id"] == id).unwrap_or_else(|| panic!("{list}"))["status"]
            .clone()
    };
    assert_eq!(status("own"), json!({"value": "loaded"}));
    assert_eq!(status("mine"), json!({"value": "loaded"}));
    for (id, words) in [("m", "chat template"), ("spare", "file spare"), ("claude-x", "stands for")]
    {
        let status = status(id);
        assert_eq!(status["value"], "refused", "{id}");
        assert!(status["reason"].as_str().unwrap().contains(words), "{id}: {status}");
    }
    let (_, list) = server.ask("GET /v1/models", "anthropic-version: 2023-06-01\r\n", &json!({}));
    assert!(list["data"][1]["refused"].as_str().unwrap().contains("chat template"), "{list}");
    let (_, tags) = server.ask("GET /api/tags", "", &json!({}));
    assert!(tags["models"][1]["refused"].as_str().unwrap().contains("chat template"), "{tags}");
    // What is put right is served again: as far as a model without weights goes.
    std::fs::write(&path, small(TEMPLATE, TensorType::Q8_0)).unwrap();
    let [(status, said), ..] = server.ask_all("m");
    assert_eq!((status, &said["error"]["code"]), (503, &json!("model_unavailable")), "{said}");
    let said = server.stop();
    assert!(said.contains("error: m is not as freehold.lock says: chat template"), "{said}");
}

/// Names that the lock has for the real model, and that others answer to: a model, and an alias
/// that is wider.
#[cfg(unix)]
#[test]
fn serve_refuses_names_that_the_lock_has_for_another_model() {
    let home = Home::new();
    home.run(&["add", arg(&testkit::smollm2()), "--name", "own"]).ok();
    let other = home.write("other.gguf", &small(TEMPLATE, TensorType::Q8_0));
    home.run(&["add", arg(&other), "--name", "claude-own"]).ok();
    let aliases = ["claude-*=own", "gpt-x=own", "given=own", "never=own"];
    let aliases = aliases.map(|alias| ["--alias", alias]).concat();
    home.run(&[&["lock", "own"], &aliases[..]].concat()).ok();
    let given = ["--alias", "gpt-*=claude-own", "--alias", "given=own"];
    let args = [&["own", "claude-own", "--on-demand"], &given[..]].concat();
    let server = Server::start(&home, &args);
    let found = "the model it stands for: expected own, found claude-own";
    for name in ["claude-own", "claude-own:latest", "gpt-x"] {
        for (status, said) in server.ask_all(name) {
            assert_eq!(status, 503, "{name}: {said}");
            assert!(said.to_string().contains(found), "{name}: {said}");
        }
    }
    // What the lock says nothing of is as it is: here a model without weights.
    let [(status, said), ..] = server.ask_all("gpt-y");
    assert_eq!((status, &said["error"]["code"]), (503, &json!("model_unavailable")), "{said}");
    for name in ["own", "given"] {
        let [(status, said), ..] = server.ask_all(name);
        assert_eq!(status, 200, "{name}: {said}");
    }
    let (_, list) = server.ask("GET /v1/models", "", &json!({}));
    assert_eq!(list["data"][1]["status"]["value"], "refused", "{list}");
    let said = server.stop();
    let refused = format!("error: alias claude-own is not as freehold.lock says: {found}");
    assert!(said.contains(&refused), "{said}");
    let told = "alias never: the lock has it for own, and nothing here answers to it";
    assert!(said.contains(told) && !said.contains("alias given:"), "{said}");
}

/// A model in two versions, of which the lock says the first, with the hash of the entry of each.
#[cfg(unix)]
fn two_versions() -> (Home, [String; 2]) {
    let home = Home::new();
    let entry = || {
        let why = home.run(&["why", "own", "--json"]).json();
        why["lock"]["entry"].as_str().unwrap().to_owned()
    };
    home.run(&["add", arg(&testkit::smollm2()), "--name", "own"]).ok();
    home.run(&["lock", "own", "--alias", "mine=own"]).ok();
    let first = entry();
    // The same weights, in other places of the file.
    let path = home.path("new.gguf");
    crate::repack::repack(&testkit::smollm2(), &path, 4, "ffn_down").unwrap();
    let moved = home.run(&["upgrade", "own", "--from-file", arg(&path), "--force", "--yes"]);
    moved.says(0, "/admin/reload");
    let second = entry();
    assert_ne!(first, second);
    home.run(&["rollback", "own"]).says(0, "/admin/reload");
    assert_eq!(entry(), first);
    (home, [first, second])
}

#[cfg(unix)]
impl Server {
    /// The ends of the fingerprint and the lock in the receipt of an answer now: both of the lock's
    /// entry of this hash.
    #[track_caller]
    fn goes_by(&self, entry: &str) {
        let body = json!({"model": "mine", "prompt": "One, two,", "max_tokens": 2});
        let (status, head, said) = self.answer("POST /v1/completions", "", &body);
        assert_eq!(status, 200, "{said}");
        let fingerprint = said["system_fingerprint"].as_str().unwrap();
        assert!(fingerprint.ends_with(&entry[..12]), "{fingerprint}, expected {entry}");
        let id = head.lines().find_map(|line| line.strip_prefix("x-freehold-receipt: ")).unwrap();
        let (status, receipt) = self.ask(&format!("GET /v1/receipts/{id}"), "", &json!({}));
        assert_eq!((status, &receipt["receipt"]["model"]["lock"]), (200, &json!(entry)));
    }

    fn reload(&self) -> (u16, Value) {
        self.ask("POST /admin/reload", "", &Value::Null)
    }

    /// How often models were opened.
    fn n_opened(&self) -> u64 {
        let mut text = String::new();
        self.send("GET /metrics", "", &json!({})).read_to_string(&mut text).unwrap();
        let opened = text.lines().filter(|line| line.starts_with("freehold_model_opened_total"));
        opened.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

#[cfg(unix)]
#[test]
fn a_running_server_goes_by_the_lock_that_it_is_told_of_and_cuts_no_stream() {
    let (home, [first, second]) = two_versions();
    let args = ["own", "--alias", "mine=own", "--ctx", "2048"];
    let server = Server::start(&home, &args);
    server.goes_by(&first);
    let body = json!({"model": "mine", "prompt": "One, two,", "max_tokens": 1500,
                      "ignore_eos": true, "stream": true});
    let mut stream = server.send("POST /v1/completions", "", &body);
    let mut events = String::new();
    while !events.contains("data: ") {
        assert_ne!(stream.read_line(&mut events).unwrap(), 0, "{events}");
    }
    // It is another file now, and the server is as it was until it is told.
    home.run(&["rollback", "own", "--to", "2"]).ok();
    server.goes_by(&first);
    assert_eq!(server.ask("GET /admin/lock", "", &json!({})).1["has_changed"], true);
    let (status, said) = server.reload();
    assert_eq!((status, &said["changed"]), (200, &json!(["lock"])), "{said}");
    assert_eq!((&said["models_replaced"], &said["needs_restart"]), (&json!(["own"]), &json!([])));
    let at_work = server.ask("GET /admin/running", "", &Value::Null).1["running"].clone();
    assert_eq!(at_work.as_array().map(Vec::len), Some(1), "it has ended: nothing was shown");
    server.goes_by(&second);
    assert_eq!(server.ask("GET /admin/lock", "", &json!({})).1["has_changed"], false);
    // What was streamed ends on what it began with.
    stream.read_to_string(&mut events).unwrap();
    assert!(events.contains("data: [DONE]"), "{events}");
    let prints: Vec<&str> = events.split("\"system_fingerprint\":\"").skip(1).collect();
    assert!(prints.len() > 2, "{events}");
    for print in prints {
        let print = print.split('"').next().unwrap();
        assert!(print.ends_with(&first[..12]), "{print}, expected {first}");
    }
    // The same lock again opens nothing again.
    let n_opened = server.n_opened();
    let (status, said) = server.reload();
    assert_eq!((status, &said["changed"]), (200, &json!([])), "{said}");
    // Nor does one that is another elsewhere.
    let other = home.write("other.gguf", &small(TEMPLATE, TensorType::Q8_0));
    home.run(&["add", arg(&other), "--name", "other"]).ok();
    home.run(&["lock", "other"]).ok();
    let (status, said) = server.reload();
    assert_eq!((status, &said["changed"]), (200, &json!(["lock"])), "{said}");
    assert_eq!((&said["models_replaced"], server.n_opened()), (&json!([]), n_opened));
    server.goes_by(&second);
    server.stop();
}

#[cfg(unix)]
#[test]
fn a_lock_that_cannot_be_held_to_changes_nothing() {
    let (home, [first, second]) = two_versions();
    let server = Server::start(&home, &["own", "--alias", "mine=own"]);
    let good = lock_text(&home);
    let path = home.path("freehold.lock");
    let refused = |words: &str| {
        let (status, said) = server.reload();
        let message = said["error"]["message"].as_str().unwrap();
        assert_eq!((status, &said["error"]["code"]), (400, &json!("not_reloaded")), "{said}");
        assert!(message.contains("nothing was changed: ") && message.contains(words), "{message}");
        server.goes_by(&first);
        let (_, list) = server.ask("GET /v1/models", "", &json!({}));
        assert_eq!(list["data"].as_array().unwrap().len(), 2, "nothing is left over: {list}");
        assert_eq!(list["data"][0]["status"], json!({"value": "loaded"}));
    };
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    refused("freehold.lock:");
    std::fs::remove_file(&path).unwrap();
    refused("lock: freehold.lock: no such file");
    // It says of the model what the model is not: other bytes, then another default.
    let hash = sha256(&testkit::smollm2());
    std::fs::write(&path, good.replace(&hash, &"0".repeat(64))).unwrap();
    refused("own is not as freehold.lock says: file ");
    std::fs::write(&path, good.replace("temperature = 0.8", "temperature = 0.7")).unwrap();
    refused("own is not as freehold.lock says: ");
    // A version that is not here.
    std::fs::write(&path, &good).unwrap();
    home.run(&["rollback", "own", "--to", "2"]).ok();
    let moved = lock_text(&home);
    std::fs::write(&path, moved.replace("local/own-v2", "local/own-v9")).unwrap();
    refused("own-v9, which is not here");
    std::fs::write(&path, moved).unwrap();
    assert_eq!(server.reload().0, 200);
    server.goes_by(&second);
    server.stop();
}

/// The page's buttons: the lock moves, and the server goes by it without being told.
#[cfg(unix)]
#[test]
fn a_server_that_moves_its_lock_goes_by_it_at_once() {
    let (home, [first, second]) = two_versions();
    let settings = home.write("s.toml", b"on-demand = true\n");
    let more = ["--config", arg(&settings), "--allow-lock-changes"];
    let server = Server::start(&home, &[&["own", "--alias", "mine=own"], &more[..]].concat());
    server.goes_by(&first);
    let (status, said) = server.ask("POST /admin/lock/mine/rollback", "", &json!({"to": 2}));
    let told = said["told"].as_str().unwrap_or_default();
    assert!(status == 200 && told.ends_with("goes by the lock as it is now"), "{said}");
    server.goes_by(&second);
    // Settings that are wrong by now keep it as it is, and it says so.
    home.write("s.toml", b"on-demand = 7\n");
    let (status, said) = server.ask("POST /admin/lock/mine/rollback", "", &json!({"to": 1}));
    let told = said["told"].as_str().unwrap_or_default();
    let words = "but this server goes on as before: nothing was changed: ";
    assert!(status == 200 && told.contains(words) && told.contains("s.toml:1:13"), "{said}");
    assert!(lock_text(&home).contains(&sha256(&testkit::smollm2())));
    server.goes_by(&second);
    home.write("s.toml", b"on-demand = true\n");
    assert_eq!(server.reload().0, 200);
    server.goes_by(&first);
    let said = server.stop();
    let can_lock = Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
    assert!(!can_lock || said.contains("nothing leaves: locked"), "{said}");
}

#[cfg(unix)]
#[test]
fn serve_does_not_start_where_nothing_is_left() {
    let (home, path) = locked();
    std::fs::write(&path, small("{{ other }}", TensorType::Q8_0)).unwrap();
    for more in [&["--on-demand"][..], &[]] {
        let args = [&["serve", "m", "--listen", "127.0.0.1:0"], more].concat();
        home.run(&args).says(4, "nothing is left to serve: m is not as freehold.lock says");
    }
}
