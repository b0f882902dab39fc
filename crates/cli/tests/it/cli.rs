//! The good paths of every subcommand, through the real binary, the kit and the real model.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::binary::{Home, Outcome, arg};
use gguf::TensorType;
use gguf::write::Writer;
use serde_json::{Value, json};

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn read_f32(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Normalised mean squared error: mean((a - b)²) / mean(b²).
fn nmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    error / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()
}

#[test]
fn logits_agree_with_the_kit_and_with_themselves() {
    let Some(kit) = testkit::kit() else { return };
    let home = Home::new();
    for name in ["llama-dense", "qwen2-dense", "qwen3-dense", "gemma3-dense"] {
        let case = read_json(&kit.join(format!("arch/{name}.json")));
        let ids: Vec<String> =
            case["tokens"].as_array().unwrap().iter().map(ToString::to_string).collect();
        let model = kit.join(format!("arch/{name}.gguf"));
        let (first, second) = (home.path("first.f32"), home.path("second.f32"));
        let ids_file = home.write("ids.txt", ids.join("\n").as_bytes());
        let from_file = format!("@{}", arg(&ids_file));
        let base = ["debug", "logits", arg(&model), "--tokens"];
        home.run(&[&base[..], &[&ids.join(","), "--out", arg(&first)]].concat()).ok();
        let other = [&from_file, "--out", arg(&second), "--threads", "1", "--chunk", "7"];
        home.run(&[&base[..], &other].concat()).ok();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap(), "{name}");
        let expected = read_f32(&kit.join("arch").join(case["logits_file"].as_str().unwrap()));
        let nmse = nmse(&read_f32(&first), &expected);
        assert!(nmse <= 1e-5, "{name}: nmse {nmse:e}");
    }
}

#[test]
fn tokenize_agrees_with_the_kit() {
    let Some(kit) = testkit::kit() else { return };
    let home = Home::new();
    for name in ["bert-bge", "deepseek-llm", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"] {
        let cases = read_json(&kit.join(format!("tokenizers/{name}.json")));
        let cases = cases.as_array().unwrap();
        let line = |case: &Value| format!("{}\n", json!({ "text": case["text"] }));
        let input: String = cases.iter().map(line).collect();
        let vocabulary = kit.join(format!("tokenizers/{name}.vocab.gguf"));
        let args = ["debug", "tokenize", arg(&vocabulary)];
        let output = home.run_with_input(&args, input.as_bytes()).ok();
        let lines: Vec<Value> = output.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), cases.len(), "{name}");
        for (found, case) in lines.iter().zip(cases) {
            assert_eq!(found["ids"], case["ids"], "{name}: {}", case["text"]);
        }
    }
}

#[test]
fn template_agrees_with_the_kit() {
    let Some(kit) = testkit::kit() else { return };
    let home = Home::new();
    let mut n_cases = 0;
    for entry in std::fs::read_dir(kit.join("templates")).unwrap() {
        let template = entry.unwrap().path();
        if template.extension().is_none_or(|extension| extension != "jinja") {
            continue;
        }
        for case in read_json(&template.with_extension("json")).as_array().unwrap() {
            let place = format!("{} {}", template.display(), case["name"]);
            let args = ["debug", "template", arg(&template)];
            let outcome = home.run_with_input(&args, case.to_string().as_bytes());
            match case["text"].as_str() {
                Some(text) => assert_eq!(outcome.ok(), text, "{place}"),
                None => {
                    assert!(outcome.code.is_some_and(|code| code != 0), "{place}");
                    assert!(outcome.stderr.starts_with("error: "), "{place}: {}", outcome.stderr);
                }
            }
            n_cases += 1;
        }
    }
    assert!(n_cases > 0);
}

#[test]
fn perplexity_of_one_window_is_plausible() {
    let Some(kit) = testkit::kit() else { return };
    let home = Home::new();
    let (model, text) = (testkit::smollm2(), kit.join("real/eval.txt"));
    let args = ["debug", "perplexity", arg(&model), arg(&text), "--ctx", "128", "--chunks", "1"];
    let report = home.run(&[&args[..], &["--json"]].concat()).json();
    // The row at each position of the second half but the last predicts the next token.
    assert_eq!(report["n_scored"], 63);
    let perplexity = report["perplexity"].as_f64().unwrap();
    assert!((2.0..60.0).contains(&perplexity), "{perplexity}");
}

/// Minutes in a debug build; the figure that the kit gives for the whole text.
#[test]
#[ignore = "slow: run with --release --ignored"]
fn slow_perplexity_agrees_with_the_kit() {
    let Some(kit) = testkit::kit() else { return };
    let home = Home::new();
    let eval = &read_json(&kit.join("real/smollm2-135m.json"))["eval"];
    let (model, text) = (testkit::smollm2(), kit.join("real/eval.txt"));
    let n_chunks = eval["n_chunks"].to_string();
    let args = ["debug", "perplexity", arg(&model), arg(&text), "--chunks", &n_chunks, "--json"];
    let found = home.run(&args).json()["perplexity"].as_f64().unwrap();
    let expected = eval["ppl_exact"].as_f64().unwrap();
    assert!((found / expected - 1.0).abs() <= 0.005, "{found}, expected {expected}");
}

#[test]
fn a_file_is_adopted_listed_shown_verified_and_forgotten() {
    let home = Home::new();
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama").metadata("general.name", "a\x1b[31mb");
    writer.tensor("w", &[2, 32], TensorType::Q8_0, vec![0_u8; 2 * 34]);
    let path = home.write("mine.gguf", &writer.finish().unwrap());
    assert_eq!(home.run(&["list", "--json"]).json(), json!([]));
    assert_eq!(home.run(&["add", arg(&path), "--name", "mine"]).ok(), "mine\n");
    let listed = home.run(&["list", "--json"]).json();
    assert_eq!(listed[0]["name"], "mine");
    assert_eq!(listed[0]["adopted"], true);
    assert_eq!(listed[0]["licence"]["id"], "unknown");
    assert!(home.run(&["list"]).ok().contains("mine"));
    let shown = home.run(&["show", "mine", "--json"]).json();
    assert_eq!(shown["formats"][0]["format"], "Q8_0");
    assert_eq!(shown["n_parameters"], 64);
    let text = home.run(&["show", "mine"]).ok();
    assert!(text.contains("a\\u{1b}[31mb") && !text.contains('\x1b'), "{text}");
    assert!(home.run(&["verify"]).ok().contains("intact"));
    assert_eq!(home.run(&["verify", "mine", "--json"]).json()[0]["intact"], true);
    home.run(&["rm", "mine"]).ok();
    assert!(path.exists(), "an adopted file is not ours to delete");
    assert_eq!(home.run(&["list", "--json"]).json(), json!([]));
}

#[test]
fn a_file_is_pulled_and_removed() {
    let home = Home::new();
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama");
    writer.tensor("w", &[2, 32], TensorType::Q8_0, vec![0_u8; 2 * 34]);
    let path = home.write("copied.gguf", &writer.finish().unwrap());
    let pulled = home.run(&["pull", arg(&path), "--name", "copied", "--json"]).json();
    assert_eq!(pulled["adopted"], false);
    let copy = pulled["files"][0]["path"].as_str().unwrap().to_owned();
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&path).unwrap());
    home.run(&["rm", "copied"]).ok();
    assert!(!Path::new(&copy).exists());
}

#[test]
fn the_catalogue_is_listed() {
    let listed = Home::new().run(&["list", "--all", "--json"]).json();
    let names: Vec<&str> = listed["catalogue"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"smollm2-135m") && names.contains(&"gemma3-270m"), "{names:?}");
}

/// The arguments of a greedy answer of the real model.
fn ask<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let greedy = ["--temperature", "0", "--max-tokens", "16"];
    [&["run", "--model", model][..], &greedy, more].concat()
}

#[test]
fn the_real_model_answers() {
    let home = Home::new();
    let path = testkit::smollm2();
    let question = "What is 2+2?";
    let outcome = home.run(&ask(arg(&path), &[question]));
    assert!(outcome.stderr.contains("tokens/s"), "{}", outcome.stderr);
    let answer = outcome.ok();
    assert!(answer.contains('4'), "{answer}");
    let quiet = home.run(&ask(arg(&path), &["--quiet", question]));
    assert_eq!(quiet.stderr, "");
    assert_eq!(quiet.ok(), answer);
    let piped = home.run_with_input(&ask(arg(&path), &["--json"]), question.as_bytes()).json();
    assert_eq!(format!("{}\n", piped["text"].as_str().unwrap()), answer);
    assert!(piped["n_prompt"].as_u64().unwrap() > 8 && piped["seed"].is_u64());
}

#[test]
fn what_is_piped_in_is_appended_to_the_prompt() {
    let home = Home::new();
    let path = testkit::smollm2();
    let args = ["run", "--model", arg(&path), "--json", "--max-tokens", "1", "Sum up:"];
    let n_prompt = |outcome: Outcome| outcome.json()["n_prompt"].as_u64().unwrap();
    let bare = n_prompt(home.run(&args));
    assert_eq!(n_prompt(home.run_with_input(&args, b"")), bare);
    let text = "one two three four";
    let piped = n_prompt(home.run_with_input(&args, text.as_bytes()));
    assert!(piped >= bare + 4, "{piped} tokens, {bare} without the text");
    let joined = format!("Sum up:\n\n{text}");
    let whole = [&args[..args.len() - 1], &[joined.as_str()]].concat();
    assert_eq!(n_prompt(home.run(&whole)), piped);
    let mut command = home.command(&args);
    command.stdin(std::fs::File::open(home.write("text", text.as_bytes())).unwrap());
    assert_eq!(n_prompt(crate::binary::finish(command)), piped);
    // A pipe that nobody writes to and nobody closes must not hold the answer up for ever.
    let mut command = home.command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let never_closed = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(never_closed);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("nothing came on stdin"), "{stderr}");
}

#[test]
fn an_answer_that_is_cut_says_by_what() {
    let home = Home::new();
    let path = testkit::smollm2();
    let story = "Write a long story.";
    let base = ["run", "--model", arg(&path), "--temperature", "0", story];
    let outcome = home.run(&[&base[..], &["--max-tokens", "3"]].concat());
    outcome.says(0, "answer cut after 3 tokens (--max-tokens)");
    let outcome = home.run(&[&base[..], &["--ctx", "64"]].concat());
    outcome.says(0, "answer cut: the context of 64 tokens is full (--ctx, at most 8192)");
}

#[test]
fn models_of_one_name_are_told_apart() {
    let home = Home::new();
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama");
    writer.tensor("w", &[2, 32], TensorType::Q8_0, vec![0_u8; 2 * 34]);
    let path = home.write("twin.gguf", &writer.finish().unwrap());
    assert_eq!(home.run(&["add", arg(&path)]).ok(), "twin\n");
    let outcome = home.run(&["add", arg(&path), "--name", "other/twin"]);
    outcome.says(0, "`freehold run --model other/twin`");
    assert_eq!(outcome.ok(), "other/twin\n");
    let listed = home.run(&["list"]).ok();
    assert!(listed.contains("local/twin") && listed.contains("other/twin"), "{listed}");
}

#[test]
fn a_seed_gives_the_same_answer_again() {
    let home = Home::new();
    let path = testkit::smollm2();
    let args = ["run", "--model", arg(&path), "--json", "--max-tokens", "12", "A story:"];
    let first = home.run(&args).json();
    let seed = first["seed"].to_string();
    let second = home.run(&[&args[..], &["--seed", &seed]].concat()).json();
    assert_eq!(first["text"], second["text"]);
}

#[test]
fn a_base_model_continues_the_text_and_says_so_once() {
    let Some(path) = testkit::gemma3() else { return };
    let home = Home::new();
    let outcome = home.run(&ask(arg(&path), &["1, 2, 3, 4, 5,"]));
    assert_eq!(outcome.stderr.matches("base model").count(), 1, "{}", outcome.stderr);
    let answer = outcome.ok();
    assert!(answer.starts_with(" 6, 7, 8,"), "{answer}");
}

/// Talks to the chat through a terminal, by Python's `pty`.
const CHAT: &str = r#"
import os, pty, sys, time, select
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
def wait(what, n=1, seconds=240):
    global seen
    end = time.time() + seconds
    while seen.count(what) < n:
        if time.time() > end: sys.exit("no %r x %d in %r" % (what, n, seen))
        if select.select([fd], [], [], 1)[0]: seen += os.read(fd, 65536)
def send(text): os.write(fd, text)
wait(b"Ctrl-D leaves"); wait(b"> ")
send(b"/system Answer in one word.\r"); wait(b"starts over")
send(b"What is \\\r"); wait(b". "); send(b"2+2?\r"); wait(b"tokens/s")
send(b"/nonsense\r"); wait(b"unknown command")
send(b"/clear\r"); wait(b"is forgotten")
send(b"Write a very long story about the sea and its ships.\r")
mark = len(seen)
while len(seen) < mark + 200: seen += os.read(fd, 65536)
send(b"\x03"); wait(b"(stopped)"); wait(b"tokens/s", 2)
send(b"/help\r"); wait(b"/exit")
time.sleep(0.5)
send(b"\x04")
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"#;

#[cfg(unix)]
#[test]
fn a_chat_goes_on_after_ctrl_c_and_ends_with_ctrl_d() {
    let home = Home::new();
    let path = testkit::smollm2();
    let freehold = env!("CARGO_BIN_EXE_freehold");
    let output = Command::new("python3")
        .args(["-c", CHAT, freehold, "run", "--model", arg(&path), "--max-tokens", "400"])
        // The likeliest story is a long one; another may be over before Ctrl-C comes.
        .args(["--temperature", "0"])
        .env("FREEHOLD_HOME", home.path("home"))
        .env("TERM", "xterm")
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no python3 to hold a terminal");
        return;
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
}

/// One HTTP/1.1 request; the whole answer as text.
fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Starts a server on a free port. Returns it, the rest of what it prints, and its address.
#[cfg(unix)]
fn serve(home: &Home, args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
    let mut command = home.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").expect("the address first");
    (child, stdout, address.to_owned())
}

#[cfg(unix)]
#[test]
fn serve_prints_its_address_answers_and_ends_on_sigterm() {
    let home = Home::new();
    let path = testkit::smollm2();
    let (mut child, mut stdout, address) = serve(&home, &["--model", arg(&path)]);
    let models = http_get(&address, "/v1/models");
    assert!(models.starts_with("HTTP/1.1 200") && models.contains("smollm2"), "{models}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("curl ") && rest.contains("from openai import OpenAI"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Starts a server that keeps prompts in a folder, asks it, and stops it. Returns how many tokens
/// of the prompt it had, the text, and what it said.
#[cfg(unix)]
fn ask_a_server_that_keeps(home: &Home, more: &[&str]) -> (u64, String, String) {
    let path = testkit::smollm2();
    let folder = home.path("cache");
    let args = [arg(&path), "--cache-dir", arg(&folder)];
    let (child, _stdout, address) = serve(home, &[&args, more].concat());
    let prompt = "The tide comes in and the tide goes out. ".repeat(30);
    let body = json!({"prompt": prompt, "max_tokens": 8, "temperature": 0}).to_string();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer mine\r\nConnection: close";
    let n_bytes = body.len();
    write!(stream, "{head}\r\nHost: {address}\r\nContent-Length: {n_bytes}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let body: Value = serde_json::from_str(body).expect("the body is JSON");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let n_cached = body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    let text = body["choices"][0]["text"].as_str().unwrap().to_owned();
    (n_cached, text, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[cfg(unix)]
#[test]
fn serve_keeps_prompts_over_restarts() {
    let home = Home::new();
    let (n_cached, text, _) = ask_a_server_that_keeps(&home, &[]);
    assert_eq!(n_cached, 0);
    let (n_again, text_again, said) = ask_a_server_that_keeps(&home, &["--cache-size", "1GiB"]);
    assert!(n_again >= 256 && text_again == text, "{n_again} {text_again:?}, expected {text:?}");
    assert!(!said.contains("warning:"), "{said}");
    // A damaged file is told; the answer stays the same.
    let files = std::fs::read_dir(home.path("cache")).unwrap().map(|file| file.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "kvpage")) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let (n_damaged, text_damaged, said) = ask_a_server_that_keeps(&home, &[]);
    assert_eq!((n_damaged, text_damaged), (0, text));
    assert!(said.contains(".kvpage: not used, removed: the checksum does not fit"), "{said}");
    // No budget keeps nothing.
    assert!(ask_a_server_that_keeps(&home, &["--cache-size", "0"]).0 == 0);
    assert!(ask_a_server_that_keeps(&home, &[]).0 == 0);
    let other = home.write("file", b"");
    let refused = home.run(&["serve", "--cache-dir", arg(&other), "--listen", "127.0.0.1:0"]);
    refused.fails(1, &["--cache-dir", arg(&other)]);
}

/// One request to a server: the status and the body.
#[cfg(unix)]
fn request(address: &str, line: &str, body: &Value) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = body.to_string();
    let n_bytes = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close");
    write!(stream, "{head}\r\nContent-Length: {n_bytes}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (status, body.to_owned())
}

#[cfg(unix)]
#[test]
fn serve_changes_models_only_where_its_owner_lets_clients() {
    let home = Home::new();
    let path = testkit::smollm2();
    home.run(&["add", arg(&path), "--name", "own"]).ok();
    // Returns the log.
    let with_server = |more: &[&str], act: &dyn Fn(&str)| -> String {
        let args = ["serve", "own", "--on-demand", "--listen", "127.0.0.1:0"];
        let mut command = home.command(&[&args, more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("the address first");
        act(address);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let copy = json!({"source": "own:latest", "destination": "copy"});
    with_server(&[], &|address| {
        for (line, body) in [
            ("POST /api/pull", json!({"model": "smollm2-135m"})),
            ("POST /api/create", json!({"model": "copy", "from": "own"})),
            ("POST /api/copy", copy.clone()),
            ("DELETE /api/delete", json!({"model": "own"})),
        ] {
            let (status, said) = request(address, line, &body);
            assert!(status == 403 && said.contains("--allow-model-changes"), "{line}: {said}");
        }
    });
    with_server(&["--allow-model-changes", "--alias", "claude-*=own"], &|address| {
        // What the owner has named stays as it is.
        for (to, why) in [("claude-x", "has an alias"), ("Own", "is served as own")] {
            let body = json!({"source": "own", "destination": to});
            let (status, said) = request(address, "POST /api/copy", &body);
            assert!(status == 403 && said.contains(why), "{to}: {said}");
        }
        let (status, said) = request(address, "DELETE /api/delete", &json!({"model": "own"}));
        assert!(status == 403 && said.contains("has an alias"), "{said}");
        let hub = json!({"model": "hf.co/o/r/claude-1.gguf"});
        let (status, said) = request(address, "POST /api/pull", &hub);
        assert!(status == 403 && said.contains("has an alias"), "{said}");
    });
    let log = with_server(&["--allow-model-changes"], &|address| {
        let tags = || request(address, "GET /api/tags", &json!({})).1;
        assert_eq!(request(address, "POST /api/copy", &copy), (200, String::new()));
        let known: Value = serde_json::from_str(&tags()).unwrap();
        let models = known["models"].as_array().unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!((&models[1]["name"], &models[1]["size"]), (&json!("copy"), &models[0]["size"]));
        assert_eq!(models[1]["digest"], models[0]["digest"]);
        assert_eq!(models[1]["details"]["quantization_level"], "Q4_1");
        // It answers at once, and its files are its own.
        let options = json!({"temperature": 0, "num_predict": 2});
        let body = json!({"model": "copy", "prompt": "Hi", "stream": false, "options": options});
        assert_eq!(request(address, "POST /api/generate", &body).0, 200);
        assert_eq!(request(address, "DELETE /api/delete", &json!({"model": "own"})).0, 200);
        assert!(!tags().contains("\"own\"") && path.is_file(), "an adopted file stays");
        assert_eq!(request(address, "POST /api/generate", &body).0, 200);
        let (status, said) = request(address, "DELETE /api/delete", &json!({"model": "own"}));
        assert!(status == 404 && said.contains("model 'own' not found"), "{said}");
        // By its publisher it is the same model.
        let body = json!({"model": "local/copy:latest", "prompt": "Hi", "stream": false});
        assert_eq!(request(address, "POST /api/show", &body).0, 200);
        // Two names that differ in case only can be one folder.
        let body = json!({"source": "copy", "destination": "COPY"});
        assert_eq!(request(address, "POST /api/copy", &body).0, 403);
        // What is refused at once has a status of its own, in a stream too.
        let (status, said) = request(address, "POST /api/pull", &json!({"model": "nobody"}));
        assert!(status == 404 && said.contains("no model named"), "{said}");
        let (status, said) = request(address, "POST /api/pull", &json!({"model": "../x.gguf"}));
        assert!(status == 400 || status == 404, "{said}");
        let (status, said) = request(address, "POST /api/pull", &json!({"model": "minilm-l6-v2"}));
        assert!(status == 500 && said.contains("FREEHOLD_OFFLINE"), "{said}");
        // What is here already needs no network.
        for (line, body) in [
            ("POST /api/pull", json!({"model": "copy", "stream": false})),
            ("POST /api/create", json!({"model": "made", "from": "copy", "stream": false})),
            ("DELETE /api/delete", json!({"model": "made"})),
        ] {
            let (status, said) = request(address, line, &body);
            assert_eq!(status, 200, "{line}: {said}");
        }
    });
    for (what, model) in [
        ("copy", "copy"),
        ("delete", "own"),
        ("pull", "copy"),
        ("copy", "made"),
        ("delete", "made"),
    ] {
        let is_meant = |line: &&str| {
            line.contains("models changed id=")
                && line.contains(&format!("what=\"{what}\" model={model}"))
        };
        assert_eq!(log.lines().filter(is_meant).count(), 1, "{what} {model}: {log}");
    }
    assert_eq!(home.run(&["list", "--json"]).json().as_array().unwrap().len(), 1);
}

/// The batch of this id, once it is so.
#[cfg(unix)]
fn batch_once(address: &str, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..2000 {
        let (status, body) = request(address, &format!("GET /v1/batches/{id}"), &Value::Null);
        let batch: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{body}");
        if is_so(&batch) {
            return batch;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("batch {id} does not come to be so");
}

#[cfg(unix)]
#[test]
fn serve_goes_on_with_a_batch_after_it_was_killed() {
    const N_LINES: usize = 10;
    let home = Home::new();
    let (path, folder) = (testkit::smollm2(), home.path("batches"));
    let args = [arg(&path), "--batches", arg(&folder), "--max-sequences", "2"];
    let (mut child, _stdout, address) = serve(&home, &args);
    let line = |n: usize| {
        let body = json!({"prompt": format!("{n}"), "max_tokens": 40, "ignore_eos": true});
        let url = "/v1/completions";
        json!({"custom_id": format!("c{n}"), "method": "POST", "url": url, "body": body})
    };
    let lines: String = (0..N_LINES).map(|n| line(n).to_string() + "\n").collect();
    let part = "\r\nContent-Disposition: form-data; name=";
    let form = format!(
        "--x{part}purpose\r\n\r\nbatch\r\n--x{part}file; filename=a\r\n\r\n{lines}\r\n--x--"
    );
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = "POST /v1/files HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x";
    let n_bytes = form.len();
    let more = format!("Host: {address}\r\nConnection: close\r\nContent-Length: {n_bytes}");
    write!(stream, "{head}\r\n{more}\r\n\r\n{form}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, file) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let file: Value = serde_json::from_str(file).unwrap();
    let asked = json!({
        "input_file_id": file["id"],
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    });
    let (status, batch) = request(&address, "POST /v1/batches", &asked);
    assert_eq!(status, 200, "{batch}");
    let batch: Value = serde_json::from_str(&batch).unwrap();
    let id = batch["id"].as_str().unwrap();
    let n_completed = |batch: &Value| batch["request_counts"]["completed"].as_u64().unwrap();
    batch_once(&address, id, |batch| n_completed(batch) >= 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let part =
        folder.join("files").join(format!("{}-output.jsonl.part", id.replace("batch_", "file-")));
    let before = std::fs::read_to_string(&part).unwrap();
    assert!((1..N_LINES).contains(&before.lines().count()), "{before}");
    // As a machine leaves it that loses its power.
    std::fs::write(&part, format!("{before}{{\"id\":\"batch_req")).unwrap();
    let (mut child, _stdout, address) = serve(&home, &args);
    let batch = batch_once(&address, id, |batch| batch["status"] == "completed");
    assert_eq!(n_completed(&batch), N_LINES as u64);
    let output = batch["output_file_id"].as_str().unwrap();
    let path = format!("GET /v1/files/{output}/content");
    let (status, after) = request(&address, &path, &Value::Null);
    // What was there is there as it was, and each line once.
    assert!(status == 200 && after.starts_with(&before), "{after}");
    let entries = after.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ids: std::collections::BTreeSet<String> =
        entries.map(|entry| entry["custom_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), after.lines().count()), (N_LINES, N_LINES));
    child.kill().unwrap();
    child.wait().unwrap();
    let other = home.write("file", b"");
    let refused = home.run(&["serve", "--batches", arg(&other), "--listen", "127.0.0.1:0"]);
    refused.fails(1, &["--batches", arg(&other)]);
}

#[test]
fn doctor_says_what_is_here() {
    let home = Home::new();
    let report = home.run(&["doctor", "--json"]).json();
    assert!(report["cpu"]["cores_usable"].as_u64().unwrap() >= 1);
    assert!(report["cpu"]["isa_available"].as_array().unwrap().contains(&json!("portable")));
    assert_eq!(report["data"]["models"], 0);
    let mut command = home.command(&["doctor"]);
    command.env("FREEHOLD_ISA", "portable");
    let text = crate::binary::finish(command).ok();
    assert!(text.contains("very slow: no vector instructions"), "{text}");
}

#[test]
fn bench_measures_the_model_and_the_machine() {
    let home = Home::new();
    let path = testkit::smollm2();
    let args = ["bench", arg(&path), "--prefill", "16", "--decode", "2", "--repeat", "2"];
    let report = home.run(&[&args[..], &["--depth", "70", "--batch", "3", "--json"]].concat());
    let report = report.json();
    let figures = ["prefill_tok_s", "decode_tok_s", "load_s", "read_gb_s", "int8_gmac_s"];
    for figure in figures.iter().chain(&["prefill_share", "decode_share", "threads"]) {
        assert!(report[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report}");
    }
    assert_eq!((&report["depth"], &report["batch"]), (&json!(70), &json!(3)));
    assert!(report["isa"].is_string() && report["version"].is_string(), "{report}");
    assert!(report["prefill_spread"]["min"].as_f64() <= report["prefill_tok_s"].as_f64());
    // 30 layers of 576 x (2 x 576 + 2 x 192 + 3 x 1536).
    assert_eq!(report["layer_macs_per_token"], 106_168_320);
    // 71.5 positions on average, keys and values of 3 heads of 64 in 2 bytes.
    assert_eq!(report["kv_bytes_per_token"], 71.5 * (30 * 2 * 3 * 64 * 2) as f64);
    if cfg!(target_os = "linux") {
        assert!(report["peak_rss_bytes"].as_u64().unwrap() > 50 << 20, "{report}");
    }

    let only_load = ["bench", arg(&path), "--prefill", "0", "--decode", "0", "--no-limits"];
    let report = home.run(&[&only_load[..], &["--json"]].concat()).json();
    for figure in ["prefill_tok_s", "decode_tok_s", "read_gb_s", "int8_gmac_s", "decode_share"] {
        assert!(report[figure].is_null(), "{figure}: {report}");
    }
    let text = home.run(&[&args[..], &["--no-limits", "--kv", "q8"]].concat()).ok();
    assert!(text.contains("decode 2") && text.contains("tokens/s ("), "{text}");
}

#[cfg(unix)]
#[test]
fn doctor_says_which_clients_would_work() {
    let home = Home::new();
    let path = testkit::smollm2();
    let (mut child, _stdout, address) = serve(&home, &[arg(&path), "--threads", "1"]);
    let url = format!("http://{address}");
    let report = home.run(&["doctor", "clients", "--url", &url, "--json"]);
    assert_eq!(report.code, Some(1), "{}", report.stderr);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let clients = report["clients"].as_array().unwrap();
    let fails = |client: &&Value| client["works"] == false;
    let failing: Vec<&Value> = clients.iter().filter(fails).collect();
    // What asks for models of its vendor; it is said what would help.
    let names: Vec<&str> = failing.iter().map(|client| client["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Claude Code"], "{report:#}");
    let step = failing[0]["steps"].as_array().unwrap().last().unwrap();
    assert!(step["setting"].as_str().unwrap().contains("--alias 'claude-*="), "{step}");
    assert!(step["why"].as_str().unwrap().contains("does not exist here"), "{step}");
    child.kill().unwrap();
    child.wait().unwrap();
    home.run(&["doctor", "clients", "--url", &url]).fails(1, &["no answer"]);
    home.run(&["doctor", "clients", "--url", "localhost"]).fails(2, &["expected http://HOST:PORT"]);
}

#[test]
fn bench_refuses_what_cannot_be_measured() {
    let home = Home::new();
    let path = testkit::smollm2();
    let refused = |more: &[&str], words: &[&str]| {
        home.run(&[&["bench", arg(&path)], more].concat()).fails(2, words);
    };
    refused(&["--prefill", "8193"], &["--prefill 8193", "at most 8192"]);
    refused(
        &["--depth", "8100", "--decode", "100"],
        &["--depth 8100", "--decode 100", "8200 positions", "at most 8192"],
    );
    refused(&["--batch", "0"], &["'0'", "--batch", "1..="]);
    refused(&["--batch", "257"], &["'257'", "--batch", "..=256"]);
    refused(&["--kv", "f17"], &["'f17'", "--kv"]);
    home.run(&["bench", "no-such-model"]).fails(3, &["no-such-model"]);
}

#[test]
fn completions_and_help_are_whole() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(home.run(&["completions", shell]).ok().contains("freehold"), "{shell}");
    }
    let help = home.run(&["--help"]).ok();
    assert!(help.contains("Exit codes:") && help.contains("130") && help.contains("Examples:"));
    assert!(home.run(&["run", "--help"]).ok().contains("--temperature"));
    assert!(home.run(&["--version"]).ok().starts_with("freehold "));
    let nothing: Outcome = home.run::<&str>(&[]);
    assert_eq!(nothing.code, Some(2));
}

/// A reader that goes away early (`freehold completions bash | head -1`) is no failure.
#[test]
fn a_closed_pipe_is_no_failure() {
    let home = Home::new();
    let mut command = home.command(&["completions", "bash"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
