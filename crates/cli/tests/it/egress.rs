//! Locked egress through the real binary: who is locked, who says so, and what it is refused for.
#![cfg(target_os = "linux")]
// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::binary::{Home, arg};
use crate::server::Server;
use serde_json::Value;

/// Whether this kernel can lock; where it cannot, the test says so.
fn can_lock() -> bool {
    let can = Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
    if !can {
        eprintln!("skipped: this kernel has no seccomp");
    }
    can
}

/// A server on a model that it opens when it is asked for.
fn start(home: &Home, flags: &[&str]) -> Server {
    home.run(&["add", arg(&testkit::smollm2()), "--name", "one"]).ok();
    Server::start(home, &[&["one", "--on-demand"], flags].concat())
}

fn request(server: &Server, line: &str, body: &str) -> Value {
    let answer = server.ask(line, "", body);
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// How many filters each thread of a server has more than this test, which may be in a container
/// that has some; each number once.
fn filters_of(server: &Server) -> Vec<u32> {
    let own = n_filters(Path::new("/proc/self/status"));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        n_filters(&task.unwrap().path().join("status")) - own
    };
    let mut numbers: Vec<u32> = tasks.map(of).collect();
    assert!(numbers.len() > 3, "threads of the engine and of tokio are missing: {numbers:?}");
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn n_filters(status: &Path) -> u32 {
    let status = std::fs::read_to_string(status).unwrap();
    let of = |line: &str| line.strip_prefix("Seccomp_filters:")?.trim().parse().ok();
    status.lines().find_map(of).expect(&status)
}

const QUESTION: &str = r#"{"model": "one", "prompt": "a", "max_tokens": 2}"#;

#[test]
fn a_server_is_locked_on_all_threads_and_says_so() {
    if !can_lock() {
        return;
    }
    let home = Home::new();
    let server = start(&home, &["--egress", "locked"]);
    let answer = request(&server, "POST /v1/completions", QUESTION);
    assert!(answer["choices"][0]["text"].is_string(), "{answer}");
    assert_eq!(filters_of(&server), [1]);
    assert_eq!(request(&server, "GET /version", "")["egress"], "locked");
    let said = server.kill();
    assert!(said.contains("nothing leaves: locked by seccomp"), "{said}");
}

#[test]
fn a_server_is_open_where_that_is_asked_for_or_needed() {
    for (flags, why) in [
        (&["--egress", "open"], "network: open, because --egress says so"),
        (&["--allow-model-changes", "-v"], "network: open, because --allow-model-changes lets"),
    ] {
        let home = Home::new();
        let server = start(&home, flags);
        request(&server, "POST /v1/completions", QUESTION);
        assert_eq!(filters_of(&server), [0]);
        assert_eq!(request(&server, "GET /version", "")["egress"], "open");
        let said = server.kill();
        assert!(said.contains(why), "{said}");
    }
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default()
    };
    tasks.map(of).collect::<String>().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Waits until a process is gone.
fn wait_for_end(pid: u32) {
    let began = Instant::now();
    while Path::new(&format!("/proc/{pid}/exe")).exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "{pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_with_upstreams_is_locked_beside_a_broker_that_is_too() {
    if !can_lock() {
        return;
    }
    let home = Home::new();
    let text =
        b"[upstream.near]\nkind = \"openai\"\nurl = [\"http://127.0.0.1:9\", \"http://[::1]:9\"]\n\
        [upstream.lost]\nkind = \"anthropic\"\nurl = \"https://no-such-host.invalid\"\n";
    let file = home.write("f.toml", text);
    let server = start(&home, &["--egress", "locked", "--config", arg(&file)]);
    request(&server, "POST /v1/completions", QUESTION);
    assert_eq!(filters_of(&server), [1]);
    let broker = children(server.child.id());
    // It and its spare.
    assert_eq!(broker.len(), 2, "{broker:?}");
    for pid in &broker {
        let status = format!("/proc/{pid}/status");
        assert_eq!(n_filters(Path::new(&status)), 1 + n_filters(Path::new("/proc/self/status")));
    }
    let status = format!("/proc/{}/status", broker[0]);
    // Both are told to end, as by Ctrl-C in a terminal: the broker stays until its server ends.
    let terminate = |pid: u32| {
        let status = Command::new("kill").arg(pid.to_string()).status().unwrap();
        assert!(status.success());
    };
    terminate(broker[0]);
    request(&server, "POST /v1/completions", QUESTION);
    assert!(Path::new(&status).exists());
    terminate(server.child.id());
    wait_for_end(server.child.id());
    broker.iter().for_each(|pid| wait_for_end(*pid));
    let said = server.kill();
    let line = "upstreams: near (openai, 2 addresses), lost (anthropic, 0 addresses); reached by \
                the broker alone, with a departure for each request: locked by seccomp";
    assert!(said.contains(line), "{said}");
    assert!(said.contains("nothing leaves: locked by seccomp"), "{said}");
    assert!(said.contains("upstream lost: https://no-such-host.invalid: "), "{said}");
    assert!(said.contains("stopped"), "{said}");
    // A server that is ended without a word takes its broker with it.
    let server = start(&home, &["--config", arg(&file)]);
    let broker = children(server.child.id());
    server.kill();
    broker.iter().for_each(|pid| wait_for_end(*pid));
}

#[test]
fn upstreams_that_cannot_be_used_keep_a_server_from_starting() {
    let home = Home::new();
    home.run(&["add", arg(&testkit::smollm2()), "--name", "one"]).ok();
    let start = |upstream: &str, flags: &[&str]| {
        let text = format!("[upstream.far]\nkind = \"openai\"\n{upstream}\n");
        let file = home.write("f.toml", text.as_bytes());
        let args = ["serve", "one", "--on-demand", "--listen", "127.0.0.1:0", "--config"];
        home.run(&[&args[..], &[arg(&file)], flags].concat())
    };
    let near = "url = \"http://127.0.0.1:9\"";
    let no_key = start(&format!("{near}\nkey-env = \"FREEHOLD_TEST_NO_KEY\""), &[]);
    no_key.fails(1, &["upstream \"far\": key-env: \"FREEHOLD_TEST_NO_KEY\": not set"]);
    let plain = start("url = \"http://192.0.2.1\"", &[]);
    plain.fails(1, &["192.0.2.1 is neither this machine's nor private, expected https"]);
    let no_ledger = start(near, &["--ledger", "none"]);
    no_ledger
        .fails(2, &["f.toml:1:11: upstream.far: nothing is sent that the ledger does not have"]);
    home.run(&["broker"]).fails(2, &["standard input: expected the socket of a server"]);
}

#[test]
fn a_broker_sends_nothing_but_what_it_has_a_departure_for() {
    if !can_lock() {
        return;
    }
    let outcome = Home::new().run(&["egress", "prove", "--broker", "--json"]);
    let proved: Value = serde_json::from_slice(&outcome.stdout).expect(&outcome.stderr);
    let attempts = proved["attempts"].as_array().unwrap();
    let of = |result: &str| -> Vec<&str> {
        let of = attempts.iter().filter(|attempt| attempt["result"] == result);
        of.map(|attempt| attempt["way"].as_str().unwrap()).collect()
    };
    assert_eq!(of("allowed"), ["the listed address", "the broker: a departure"], "{attempts:#?}");
    let refused = of("refused").into_iter().filter(|way| way.starts_with("the broker: "));
    assert_eq!(refused.count(), 6, "{attempts:#?}");
    let may_be_open = |way: &&str| {
        (!egress::guards_files() && egress::LANDLOCKS.contains(way))
            || (*way == "the listed port of another address"
                && !of("refused").contains(&"another address in the place of the listed one"))
    };
    let out: Vec<&str> = of("got out").into_iter().filter(|way| !may_be_open(way)).collect();
    assert!(out.is_empty(), "{attempts:#?}");
    assert_eq!(outcome.code, Some(i32::from(!of("got out").is_empty())));
}

#[test]
fn what_cannot_be_locked_does_not_start_as_if_it_were() {
    let home = Home::new();
    let args = ["serve", "--egress", "locked", "--allow-model-changes"];
    home.run(&args).fails(2, &["--egress: locked, but --allow-model-changes lets clients pull"]);
    home.run(&["serve", "--egress", "half"]).says(2, "locked, open");
    let file = home.write("f.toml", b"egress = \"locked\"\nallow-model-changes = true\n");
    let check = home.run(&["config", "check", arg(&file)]);
    check.says(1, "f.toml:1:1: egress: locked, but --allow-model-changes");
    home.run(&["add", arg(&testkit::smollm2()), "--name", "one"]).ok();
    let args = ["serve", "one", "--on-demand", "--listen", "127.0.0.1:0", "--egress", "locked"];
    let outcome = run_with_socket(&home, &args);
    let why = "--egress: locked, but whoever started this left sockets open (descriptors 5)";
    outcome.fails(1, &[why]);
}

/// Beside a socket that whoever started it has left open, as descriptor 5. That it is standard
/// input too does not matter.
fn run_with_socket(home: &Home, args: &[&str]) -> crate::binary::Outcome {
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 5<&0", "sh", env!("CARGO_BIN_EXE_freehold")]);
    command.args(args).env("FREEHOLD_HOME", home.path("home")).stdin(OwnedFd::from(socket));
    crate::binary::finish(command)
}

#[test]
fn commands_that_only_compute_are_locked_too() {
    if !can_lock() {
        return;
    }
    let home = Home::new();
    let model = testkit::smollm2();
    let args = ["run", "--model", arg(&model), "--max-tokens", "2", "-v", "Say hello"];
    home.run(&args).says(0, "nothing leaves: locked by seccomp");
    let embedder = testkit::minilm_f16();
    let args = ["embed", "--model", arg(&embedder), "-v", "a text"];
    let left = "whoever started this left sockets open (descriptors 5)";
    run_with_socket(&home, &args).says(0, left);
}

#[test]
fn nothing_gets_out_and_each_attempt_is_told() {
    if !can_lock() {
        return;
    }
    let outcome = Home::new().run(&["egress", "prove", "--json"]);
    let proved: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let attempts = proved["attempts"].as_array().unwrap();
    let n_refused = attempts.iter().filter(|attempt| attempt["result"] == "refused").count();
    assert!(n_refused >= 20, "{attempts:#?}");
    let is_out = |attempt: &Value| attempt["result"] == "got out";
    let may_be_open = |attempt: &Value| {
        !egress::guards_files() && egress::LANDLOCKS.iter().any(|way| attempt["way"] == *way)
    };
    for attempt in attempts {
        assert!(attempt["way"].is_string() && attempt["evidence"].is_string(), "{attempt}");
        assert!(!is_out(attempt) || may_be_open(attempt), "{attempt}");
    }
    assert_eq!(outcome.code, Some(i32::from(attempts.iter().any(is_out))));
}
