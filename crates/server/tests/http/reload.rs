//! A configuration that is read anew while answers run, and certificates with it.
//!
//! `tls/*.crt` and `tls/*.key` were made for these tests, and for nothing else, by
//! `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500`
//! `-subj "/CN=freehold test first" -addext "basicConstraints=critical,CA:FALSE"`
//! `-addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -keyout first.key -out first.crt`.

use super::client::{Connection, Response, post, post_head, request};
use super::{MODEL, Running, engine, only_model, run};
use engine::{EngineOptions, Fleet, FleetModel, Keep, Task};
use freehold_server::{
    Afterwards, Alias, Config, Elsewhere, Limits, Live, Model, Prepared, Reload, Report, Shares,
    Tls,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FIRST: [&[u8]; 2] = [include_bytes!("tls/first.crt"), include_bytes!("tls/first.key")];
const SECOND: [&[u8]; 2] = [include_bytes!("tls/second.crt"), include_bytes!("tls/second.key")];

/// A second name for the same model.
const OTHER: &str = "other-model";

fn tls([certificate, key]: [&[u8]; 2]) -> Tls {
    Tls::from_pem(certificate, key).unwrap()
}

/// What the next reading finds.
#[derive(Clone)]
struct Wanted {
    names: Vec<&'static str>,
    alias: Option<&'static str>,
    n_body_bytes: usize,
    tls: Option<Tls>,
    is_wrong: bool,
}

/// A configuration that tests write by hand.
struct ByHand {
    fleet: Fleet,
    wanted: Mutex<Wanted>,
    n_at_once: AtomicUsize,
    n_read: AtomicUsize,
}

impl Reload for ByHand {
    fn prepare(&self, served: &[Model]) -> Result<Prepared, Vec<String>> {
        assert_eq!(self.n_at_once.fetch_add(1, Ordering::SeqCst), 0, "two at once");
        self.n_read.fetch_add(1, Ordering::SeqCst);
        let wanted = self.wanted.lock().unwrap().clone();
        self.n_at_once.fetch_sub(1, Ordering::SeqCst);
        if wanted.is_wrong {
            return Err(vec!["f.toml:1:1: a: b, expected c".to_owned(), "and more".to_owned()]);
        }
        let is_wanted = |name: &str| wanted.names.contains(&name);
        let gone = served.iter().map(|model| model.name.clone()).filter(|name| !is_wanted(name));
        let gone: Vec<String> = gone.collect();
        for name in &wanted.names {
            if self.fleet.own_keep(name).is_none() {
                let open = Arc::new(|_: &EngineOptions| Ok(engine().into()));
                let options = EngineOptions::default();
                self.fleet.set(name, FleetModel { open, options, keep: Keep::Pinned });
            }
        }
        let model = |name: &&str| Model {
            name: (*name).to_owned(),
            task: Task::Generate,
            digest: None,
            lock: None,
        };
        let alias = |of: &str| Alias { name: "alias".to_owned(), model: of.to_owned() };
        let live = Live {
            models: wanted.names.iter().map(model).collect(),
            gone: gone.clone(),
            aliases: wanted.alias.map(alias).into_iter().collect(),
            elsewhere: Elsewhere::default(),
            shares: Shares::default(),
            limits: Limits { n_body_bytes: wanted.n_body_bytes, ..Limits::default() },
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            tls: wanted.tls,
        };
        let report = Report { needs_restart: vec!["listen".to_owned()], ..Report::default() };
        let fleet = self.fleet.clone();
        let afterwards = move || gone.iter().for_each(|name| assert!(fleet.remove(name)));
        let commit = Box::new(move || -> Afterwards { Box::new(afterwards) });
        Ok(Prepared { live, report, commit })
    }
}

fn start(tls: Option<Tls>) -> (Running, Arc<ByHand>) {
    let (fleet, model) = only_model(engine(), "00");
    let wanted = Wanted {
        names: vec![MODEL],
        alias: Some(MODEL),
        n_body_bytes: 4 << 20,
        tls: tls.clone(),
        is_wrong: false,
    };
    let by_hand = Arc::new(ByHand {
        fleet: fleet.clone(),
        wanted: Mutex::new(wanted),
        n_at_once: AtomicUsize::new(0),
        n_read: AtomicUsize::new(0),
    });
    let mut config = Config::new(fleet, vec![model]);
    config.aliases = vec![Alias { name: "alias".to_owned(), model: MODEL.to_owned() }];
    config.reload = Some(by_hand.clone());
    config.limits.handshake_timeout = Duration::from_secs(2);
    config.limits.n_handshakes = 2;
    config.tls = tls;
    config.allow_anyone = true;
    (run(config), by_hand)
}

fn change(by_hand: &ByHand, change: impl FnOnce(&mut Wanted)) {
    change(&mut by_hand.wanted.lock().unwrap());
}

fn reload(address: SocketAddr) -> Response {
    request(address, "POST /admin/reload", b"")
}

fn ask(address: SocketAddr, model: &str) -> Response {
    let body = json!({"model": model, "prompt": "One, two,", "max_tokens": 4, "temperature": 0});
    post(address, "/v1/completions", &body)
}

/// A stream of so many tokens, as it is asked for.
fn stream_body(n_tokens: usize) -> Value {
    json!({"model": MODEL, "prompt": "One, two,", "max_tokens": n_tokens, "temperature": 0,
           "ignore_eos": true, "stream": true})
}

/// The text of a stream of completions.
fn text_of(body: &str) -> String {
    let events = body.lines().filter_map(|line| line.strip_prefix("data: {"));
    let text = |event: &str| {
        let event: Value = serde_json::from_str(&format!("{{{event}")).unwrap();
        event["choices"][0]["text"].as_str().unwrap_or_default().to_owned()
    };
    events.map(text).collect()
}

#[test]
fn a_stream_outlives_the_reload_that_takes_its_model_away() {
    let (server, by_hand) = start(None);
    let body = stream_body(200).to_string();
    let whole = request(server.address, &post_head("/v1/completions"), body.as_bytes());
    let mut stream =
        Connection::send(server.address, &post_head("/v1/completions"), body.as_bytes());
    let mut head = String::new();
    while !head.contains("data: ") {
        head.push_str(&stream.line());
    }
    change(&by_hand, |wanted| {
        wanted.names = vec![OTHER];
        wanted.alias = Some(OTHER);
    });
    let done = reload(server.address);
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.json()["needs_restart"], json!(["listen"]));
    // Who asks now gets what is served now.
    assert_eq!(ask(server.address, MODEL).status, 404);
    assert_eq!(ask(server.address, OTHER).status, 200);
    assert_eq!(ask(server.address, "alias").json()["model"], OTHER);
    // Who asked before gets the whole answer.
    let mut rest = head;
    loop {
        let line = stream.line();
        if line.is_empty() {
            break;
        }
        rest.push_str(&line);
    }
    assert!(rest.contains("[DONE]"), "{rest}");
    assert_eq!(text_of(&rest), text_of(&whole.body));
}

#[test]
fn what_is_wrong_changes_nothing_and_is_told() {
    let (server, by_hand) = start(None);
    change(&by_hand, |wanted| {
        wanted.is_wrong = true;
        wanted.names = vec![OTHER];
    });
    let refused = reload(server.address);
    assert_eq!(refused.status, 400, "{}", refused.body);
    let error = &refused.json()["error"];
    let message = "nothing was changed: f.toml:1:1: a: b, expected c; and more";
    assert_eq!((&error["message"], &error["code"]), (&json!(message), &json!("not_reloaded")));
    // What only the server can see is wrong.
    change(&by_hand, |wanted| {
        wanted.is_wrong = false;
        wanted.alias = Some("nobody");
    });
    let refused = reload(server.address);
    assert!(refused.status == 400 && refused.body.contains("nobody"), "{}", refused.body);
    assert_eq!(ask(server.address, MODEL).status, 200);
    assert_eq!(ask(server.address, "alias").status, 200);
    assert_eq!(ask(server.address, OTHER).status, 404);
}

#[test]
fn limits_change_and_reloads_take_turns() {
    let (server, by_hand) = start(None);
    change(&by_hand, |wanted| wanted.n_body_bytes = 16);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(reload(server.address).status, 200));
        }
    });
    assert_eq!(by_hand.n_read.load(Ordering::SeqCst), 8);
    assert_eq!(ask(server.address, MODEL).status, 413);
}

#[test]
fn only_programs_on_this_machine_may_have_it_read() {
    let (server, by_hand) = start(None);
    for header in [
        "Origin: http://127.0.0.1:1",
        "X-Forwarded-For: 10.0.0.1",
        "Forwarded: for=10.0.0.1",
        "Host: evil.example",
    ] {
        let refused = request(server.address, &format!("POST /admin/reload\n{header}"), b"");
        assert_eq!(refused.status, 403, "{header}");
    }
    let with_body = request(server.address, "POST /admin/reload", b"{}");
    assert!(with_body.status == 400 && with_body.body.contains("body: "), "{}", with_body.body);
    assert_eq!(request(server.address, "GET /admin/reload", b"").status, 405);
    assert_eq!(by_hand.n_read.load(Ordering::SeqCst), 0);
    // The server's own page is as good as a program here.
    let same_origin = format!("POST /admin/reload\nOrigin: http://{}", server.address);
    assert_eq!(request(server.address, &same_origin, b"").status, 200);
    assert_eq!(reload(super::address()).status, 501);
}

/// A connection that trusts `root` alone.
fn connect(address: SocketAddr, root: &[u8]) -> BufReader<impl Read + Write> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    BufReader::new(rustls::StreamOwned::new(client, stream))
}

fn send(to: &mut impl Write, line: &str, body: &str) -> std::io::Result<()> {
    let n_bytes = body.len();
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json";
    write!(to, "{line} HTTP/1.1\r\n{head}\r\nContent-Length: {n_bytes}\r\n\r\n{body}")?;
    to.flush()
}

/// One request; what came, or why nothing did.
fn ask_tls(address: SocketAddr, root: &[u8], line: &str) -> Result<String, String> {
    let mut connection = connect(address, root);
    let answer = (|| {
        send(connection.get_mut(), line, "")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })();
    answer.map_err(|error| error.to_string())
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let (server, by_hand) = start(Some(tls(FIRST)));
    let address = server.address;
    let health = |root| ask_tls(address, root, "GET /health");
    assert!(health(FIRST[0]).unwrap().starts_with("HTTP/1.1 200"));
    assert!(health(SECOND[0]).unwrap_err().contains("certificate"));
    let mut stream = connect(address, FIRST[0]);
    let body = stream_body(200).to_string();
    send(stream.get_mut(), "POST /v1/completions", &body).unwrap();
    let mut streamed = String::new();
    while !streamed.contains("data: ") {
        assert!(stream.read_line(&mut streamed).unwrap() > 0, "{streamed}");
    }
    change(&by_hand, |wanted| wanted.tls = Some(tls(SECOND)));
    let done = ask_tls(address, FIRST[0], "POST /admin/reload").unwrap();
    assert!(done.starts_with("HTTP/1.1 200"), "{done}");
    assert!(health(SECOND[0]).unwrap().starts_with("HTTP/1.1 200"));
    assert!(health(FIRST[0]).unwrap_err().contains("certificate"));
    stream.read_to_string(&mut streamed).unwrap();
    assert!(streamed.contains("[DONE]"), "{streamed}");
    // Switched off by a reload it is not: that would be another address.
    change(&by_hand, |wanted| wanted.tls = None);
    assert!(ask_tls(address, SECOND[0], "POST /admin/reload").unwrap().contains(" 200 "));
    assert!(health(SECOND[0]).is_ok());
}

#[test]
fn clients_that_do_not_greet_keep_nobody_out() {
    let (server, _by_hand) = start(Some(tls(FIRST)));
    // More than there are turns, and each waits for the server to give it up.
    let silent: Vec<TcpStream> =
        (0..6).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "closed by the server");
    }
    // One that speaks without TLS is told so by an alert, and nothing of HTTP.
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert!(ask_tls(server.address, FIRST[0], "GET /health").unwrap().contains(" 200 "));
}
