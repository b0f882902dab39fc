//! Settings through the real binary: the file, the environment, flags, and what a reload does.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use crate::binary::{Home, Outcome, arg};
use serde_json::Value;

/// `freehold config show --json` with these flags and variables.
fn show(home: &Home, flags: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut command = home.command(&[&["config", "show", "--json"], flags].concat());
    command.envs(variables.iter().copied());
    crate::binary::finish(command)
}

/// A server that begins, and finds nothing to serve.
const NOTHING: [&str; 4] = ["serve", "none.gguf", "--listen", "127.0.0.1:0"];

fn origin(shown: &Value, name: &str) -> (String, String) {
    let entry = &shown[name];
    (entry["value"].to_string(), entry["origin"].as_str().unwrap().to_owned())
}

#[test]
fn a_flag_outranks_a_variable_a_variable_the_file_and_the_file_the_default() {
    let home = Home::new();
    let none = show(&home, &[], &[]).json();
    let of = |shown: &Value, name: &str| origin(shown, name);
    let default = ("\"127.0.0.1:11500\"".to_owned(), "default".to_owned());
    assert_eq!(of(&none, "listen"), default);
    assert_eq!(none["memory"]["value"], Value::Null);
    // Found where nobody names it: in the data directory, then where the program is started.
    std::fs::create_dir_all(home.path("home")).unwrap();
    home.write("home/freehold.toml", b"listen = \"127.0.0.1:1\"\nctx = 1");
    assert_eq!(of(&show(&home, &[], &[]).json(), "listen").0, "\"127.0.0.1:1\"");
    home.write("freehold.toml", b"\nlisten = \"127.0.0.1:2\"");
    let shown = show(&home, &[], &[]).json();
    assert_eq!(of(&shown, "listen"), ("\"127.0.0.1:2\"".to_owned(), "file".to_owned()));
    assert_eq!(shown["listen"]["place"], "freehold.toml:2:1");
    assert_eq!(of(&shown, "ctx").1, "default", "one file, not both");
    let variables = [("FREEHOLD_LISTEN", "127.0.0.1:3"), ("FREEHOLD_ALLOW_HOST", "a, b")];
    let shown = show(&home, &[], &variables).json();
    let expected = ("\"127.0.0.1:3\"".to_owned(), "environment".to_owned());
    assert_eq!(of(&shown, "listen"), expected);
    assert_eq!(shown["allow-host"]["value"], serde_json::json!(["a", "b"]));
    let shown = show(&home, &["--listen", "127.0.0.1:4"], &variables).json();
    assert_eq!(of(&shown, "listen"), ("\"127.0.0.1:4\"".to_owned(), "flag".to_owned()));
    let other = home.write("other.toml", b"listen = \"127.0.0.1:5\"");
    let shown = show(&home, &[], &[("FREEHOLD_CONFIG", arg(&other))]).json();
    assert_eq!(of(&shown, "listen").0, "\"127.0.0.1:5\"");
    let shown = show(&home, &["--config", "freehold.toml"], &[("FREEHOLD_CONFIG", arg(&other))]);
    assert_eq!(of(&shown.json(), "listen").0, "\"127.0.0.1:2\"");
    // As it is printed it can be read.
    let text = home.run(&["config", "show", "--origin", "--ctx", "7"]).ok();
    assert!(text.contains("# freehold.toml:2:1\n") && text.contains("# flag\n"), "{text}");
    let again = home.write("again.toml", text.as_bytes());
    let shown = show(&home, &["--config", arg(&again)], &[]).json();
    assert_eq!(shown["ctx"]["value"], 7);
}

#[test]
fn a_misspelt_variable_is_told_and_nothing_else_of_it() {
    let home = Home::new();
    let line =
        "warning: FREEHOLD_LISTN: no setting has this variable, did you mean FREEHOLD_LISTEN?";
    for (args, code) in [(&["config", "check"][..], 0), (&NOTHING[..], 3)] {
        let mut command = home.command(args);
        command.env("FREEHOLD_LISTN", "hush-1");
        let outcome = crate::binary::finish(command);
        outcome.says(code, line);
        assert!(!outcome.stderr.contains("hush-1"), "{}", outcome.stderr);
        assert!(!home.run(args).stderr.contains("no setting has this variable"));
    }
}

#[test]
fn traces_go_where_the_owner_says_and_nowhere_else() {
    let home = Home::new();
    let serve = |endpoint: &str, variables: &[(&str, &str)]| {
        let mut command = home.command(&[&NOTHING[..], &["--otlp-endpoint", endpoint]].concat());
        command.envs(variables.iter().copied());
        crate::binary::finish(command)
    };
    let what = "traces of requests (times, counts, names of models, no contents)";
    let here = serve("http://127.0.0.1:9", &[]);
    here.says(3, &format!("{what} go to http://127.0.0.1:9/v1/traces"));
    let far = "https://otel.invalid:4318";
    serve(far, &[]).says(7, &format!("{far}/v1/traces: FREEHOLD_OFFLINE is set"));
    let online = [("FREEHOLD_OFFLINE", "0")];
    serve(far, &online).says(3, &format!("warning: {what} leave this machine for {far}/v1/traces"));
    let bad = [("OTEL_EXPORTER_OTLP_HEADERS", "x-key:hush-1")];
    let told = serve("http://127.0.0.1:9", &bad);
    told.says(2, "OTEL_EXPORTER_OTLP_HEADERS");
    assert!(!told.stderr.contains("hush"), "{}", told.stderr);
    serve("127.0.0.1:9", &[]).says(2, "expected an address such as http://127.0.0.1:4318");
    // A variable of OpenTelemetry's own sends nothing anywhere.
    let mut command = home.command(&NOTHING);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    assert!(!crate::binary::finish(command).stderr.contains("traces"));
}

#[test]
fn a_wrong_file_or_variable_is_told_by_every_mistake() {
    let home = Home::new();
    let file = home.write("w.toml", b"lisen = 1\nkv = \"q9\"\nkeep-alive = \"5 days\"\n");
    let check = home.run(&["config", "check", arg(&file)]);
    check.says(1, "w.toml:1:1: \"lisen\": no setting has this name, did you mean \"listen\"?");
    check.says(1, "w.toml:2:6: kv: \"q9\": expected one of f16, q8");
    check.says(1, "w.toml:3:14: keep-alive: \"5 days\": expected a time such as 30s, 5m or 2h");
    let serve = home.run(&["serve", "--config", arg(&file)]);
    serve.fails(2, &["w.toml:1:1"]);
    let mut command = home.command(&["serve"]);
    command.env("FREEHOLD_CTX", "many");
    crate::binary::finish(command).fails(2, &["FREEHOLD_CTX: \"many\""]);
    home.run(&["serve", "--config", "none.toml"]).fails(2, &["none.toml: "]);
    let together = [
        ("on-demand = true", "on-demand: no models are named"),
        ("cache-size = \"1GiB\"", "cache-size: nothing is kept"),
        ("tls-cert = \"c.pem\"", "tls-cert: expected --tls-key beside it"),
        ("models = [\"nobody\"]", "models: "),
        ("log = \"server=loud\"", "log: \"server=loud\": expected a level"),
    ];
    for (text, expected) in together {
        let file = home.write("w.toml", text.as_bytes());
        home.run(&["config", "check", arg(&file)]).says(1, expected);
    }
    let file = home.write("w.toml", b"");
    home.run(&["config", "check", arg(&file)]).says(0, "nothing is wrong");
}

#[test]
fn upstreams_are_tables_of_the_file() {
    let home = Home::new();
    let text = "ctx = 7\n[upstream.b]\nkind = \"anthropic\"\nurl = \"https://api.invalid\"\n\
                key-env = \"SOME_KEY\"\nretries = 0\nidle-timeout = \"5m\"\n\
                [upstream.a]\nkind = \"openai\"\nurl = [\"http://[::1]:1/v1\", \"http://10.0.0.1\"]\n\
                key-file = \"keys/a\"\nhealth = \"/health\"\nallow-plain = true\n";
    let file = home.write("u.toml", text.as_bytes());
    home.run(&["config", "check", arg(&file)]).says(0, "nothing is wrong");
    let shown = show(&home, &["--config", arg(&file)], &[]).json();
    let of = |name: &str| shown["upstream"][name]["value"].clone();
    assert!(shown["upstream"]["b"]["place"].as_str().unwrap().ends_with("u.toml:2:11"), "{shown}");
    let b = of("b");
    assert_eq!((&b["kind"], &b["key-env"]), (&"anthropic".into(), &"SOME_KEY".into()));
    assert_eq!((&b["retries"], &b["idle-timeout"]), (&0.into(), &"300s".into()));
    let a = of("a");
    assert_eq!((&a["health"], &a["connect-timeout"]), (&"/health".into(), &"10s".into()));
    assert!(a["key-file"].as_str().unwrap().ends_with("keys/a"), "{a}");
    // As it is printed it can be read.
    let text = home.run(&["config", "show", "--origin", "--config", arg(&file)]).ok();
    assert!(text.contains("u.toml:8:11\n[upstream.a]\n"), "{text}");
    let again = home.write("again.toml", text.as_bytes());
    let shown = show(&home, &["--config", arg(&again)], &[]).json();
    assert_eq!((&shown["upstream"]["b"]["value"], &shown["ctx"]["value"]), (&b, &7.into()));

    let one =
        |lines: &str| format!("[upstream.a]\nkind = \"openai\"\nurl = \"http://h\"\n{lines}\n");
    for (text, expected) in [
        ("upstream = 1".to_owned(), "u.toml:1:12: upstream: expected tables"),
        ("[upstream]\na = 1".to_owned(), "u.toml:2:5: upstream: expected tables"),
        ("[upstream.a]\nurl = \"http://h\"".to_owned(), "u.toml:1:11: upstream.a: expected kind"),
        ("[upstream.a]\nkind = \"openai\"".to_owned(), "u.toml:1:11: upstream.a: expected url"),
        (
            one("x = 1"),
            "u.toml:4:1: upstream.a: \"x\": an upstream has no such field, expected one",
        ),
        (one("key = \"hush-1\""), "u.toml:4:1: upstream.a: \"key\": a key does not stand here"),
        (one("retries = 11"), "u.toml:1:11: upstream.a: retries: \"11\": expected 0 to 10"),
        (one("retries = \"2\""), "u.toml:4:1: upstream.a: retries: expected a number"),
        (one("open-for = \"5 days\""), "u.toml:4:1: upstream.a: open-for: expected a time"),
        (
            one("key-env = \"K\"\nkey-file = \"k\""),
            "upstream.a: key-env and key-file, expected one",
        ),
        (
            one("").replace("http://h", "http://u:hush-1@h"),
            "upstream.a: url: \"http://…@h\": expected",
        ),
        (one("").replace("upstream.a", "upstream.A"), "upstream.A: name: \"A\": expected 1 to 64"),
    ] {
        let file = home.write("u.toml", text.as_bytes());
        let check = home.run(&["config", "check", arg(&file)]);
        check.says(1, expected);
        assert!(!check.stderr.contains("hush"), "{}", check.stderr);
    }
}

#[cfg(unix)]
mod running {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../../server/tests/http/tls/first.crt");
    const KEY: &[u8] = include_bytes!("../../../server/tests/http/tls/first.key");

    /// A server that is killed where its test fails.
    struct Server {
        child: Child,
        /// A server whose words nobody reads ends.
        _stdout: BufReader<ChildStdout>,
        stderr: BufReader<ChildStderr>,
        address: String,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    impl Server {
        /// Starts it; returns the address that it says too.
        fn start(mut command: Command) -> (Self, String) {
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let base = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
            let address = base.split("://").nth(1).unwrap_or_default().to_owned();
            (Self { address, child, _stdout: stdout, stderr }, base)
        }

        /// Reads the log up to a line with `words`.
        fn wait_for(&mut self, words: &str) -> String {
            loop {
                let mut line = String::new();
                assert!(self.stderr.read_line(&mut line).unwrap() > 0, "{words:?} was not said");
                if line.contains(words) {
                    return line;
                }
            }
        }

        fn request(&self, line: &str, body: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            let n_bytes = body.len();
            let head = format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close", self.address);
            write!(stream, "{head}\r\nContent-Length: {n_bytes}\r\n\r\n{body}").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
            (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
        }

        fn reload(&self) -> (u16, Value) {
            let (status, body) = self.request("POST /admin/reload", "");
            (status, serde_json::from_str(&body).unwrap())
        }

        /// The names that are served.
        fn names(&self) -> Vec<String> {
            let (_, body) = self.request("GET /v1/models", "");
            let list: Value = serde_json::from_str(&body).unwrap();
            let name = |card: &Value| card["id"].as_str().unwrap().to_owned();
            list["data"].as_array().unwrap().iter().map(name).collect()
        }

        fn signal(&self, signal: Signal) {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }

    #[test]
    fn a_running_server_takes_over_what_it_can_and_says_what_it_cannot() {
        let home = Home::new();
        let model = testkit::smollm2();
        home.run(&["add", arg(&model), "--name", "one"]).ok();
        home.run(&["add", arg(&model), "--name", "two"]).ok();
        let file = home.path("s.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        let listen = "listen = \"127.0.0.1:0\"\non-demand = true\n";
        write(&format!("{listen}models = [\"one\"]\n[alias]\nx = \"one\"\n"));
        let command = home.command(&["serve", "--log", "info", "--config", arg(&file)]);
        let (mut server, _) = Server::start(command);
        assert_eq!(server.names(), ["one", "x"]);

        let models = "models = [\"two\", \"one\"]\n[alias]\ny = \"two\"\n";
        write(&format!("{listen}{models}[canary]\ny = \"nobody:5\"\n"));
        let (status, said) = server.reload();
        let message = said["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains("canary: \"y\": \"nobody\""), "{said}");
        write(&format!("{listen}ctx = 64\n{models}[canary]\ny = \"one:5\"\n"));
        server.signal(Signal::HUP);
        server.wait_for("configuration reloaded");
        server.wait_for("need a restart");
        assert_eq!(server.names(), ["two", "one", "y"]);

        write("models = [\"nobody\"]\nlisten = 4\nkv = \"q9\"\n");
        let (status, said) = server.reload();
        let message = said["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains("s.toml:3:6: kv: \"q9\": "), "{said}");
        write("models = [\"nobody\"]\n");
        let (status, said) = server.reload();
        let message = said["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains("s.toml:1:1: models: "), "{said}");
        assert_eq!(server.names(), ["two", "one", "y"]);

        write(&format!("{listen}models = [\"two\"]\nmax-body = 8\nkv = \"q8\"\nlog = \"warn\"\n"));
        let (status, said) = server.reload();
        assert_eq!(status, 200, "{said}");
        let list = |name: &str| said[name].as_array().unwrap().clone();
        for name in ["models", "alias", "canary", "max-body"] {
            assert!(list("changed").contains(&name.into()), "{said}");
        }
        assert_eq!(list("needs_restart"), ["kv"]);
        assert_eq!(list("models_removed"), ["one"]);
        let (status, _) = server.request("POST /v1/completions", "{\"prompt\": \"a\"}");
        assert_eq!((status, server.names()), (413, vec!["two".to_owned()]));
        server.signal(Signal::TERM);
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn a_key_that_everybody_can_read_is_refused() {
        let home = Home::new();
        let certificate = home.write("c.crt", CERTIFICATE);
        let key = home.write("c.key", KEY);
        let with_mode = |mode: u32| {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let args = ["serve", "--tls-cert", arg(&certificate), "--tls-key", arg(&key)];
            home.run(&[&args[..], &["--listen", "256.0.0.1:0"]].concat())
        };
        with_mode(0o644).fails(2, &["--tls-key: ", "c.key: mode 0644: ", "expected 0600"]);
        for mode in [0o600, 0o640] {
            // As far as the address, which is none.
            with_mode(mode).fails(2, &["--listen"]);
        }
        std::fs::write(&key, b"no key").unwrap();
        with_mode(0o600).fails(2, &["c.key: no private key found", "-----BEGIN PRIVATE KEY-----"]);
    }

    #[test]
    fn https_is_announced_and_the_log_can_be_json() {
        let home = Home::new();
        let model = testkit::smollm2();
        home.run(&["add", arg(&model), "--name", "one"]).ok();
        home.write("c.crt", CERTIFICATE);
        let key = home.write("c.key", KEY);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = b"models = [\"one\"]\non-demand = true\nlisten = \"127.0.0.1:0\"\n\
                     log-format = \"json\"\ntls-cert = \"c.crt\"\ntls-key = \"c.key\"\n";
        home.write("freehold.toml", text);
        let (mut server, base) = Server::start(home.command(&["serve", "--log", "info"]));
        assert!(base.starts_with("https://127.0.0.1:"), "{base}");
        server.signal(Signal::HUP);
        let line: Value = serde_json::from_str(&server.wait_for("reloaded")).unwrap();
        assert_eq!(
            (&line["level"], &line["message"]),
            (&"INFO".into(), &"configuration reloaded".into())
        );
        assert!(line["time"].is_string() && line["target"].is_string(), "{line}");
    }
}
