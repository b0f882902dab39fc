//! A broker as a thread, a ledger in memory, and servers that do what they are told.

use std::collections::HashMap;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use freehold_broker::{
    Body, Broker, BrokerError, Departure, Departures, Incoming, Later, Outgoing, Setup, Started,
    Upstream, UpstreamKind,
};

/// A ledger.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<HashMap<String, Departure>>,
    next: AtomicI64,
    /// Where they are too, for another process: a file for each.
    folder: Option<PathBuf>,
}

impl Ledger {
    /// One whose departures another process finds in a folder.
    pub(crate) fn within(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..Self::default() }
    }

    /// Writes a departure.
    pub(crate) fn depart(&self, id: &str, upstream: &str, body: &[u8]) {
        let sha256 = freehold_broker::sha256(body);
        let body = format!(r#"{{"upstream": "{upstream}", "sha256": "{sha256}"}}"#);
        let seq = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(folder) = &self.folder {
            std::fs::write(folder.join(id), format!("{seq}\n{body}")).unwrap();
        }
        self.entries.lock().unwrap().insert(id.to_owned(), Departure { seq, body });
    }
}

/// Those files, as another process sees them.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Counts those that were written, when it is called: the place of the last.
    pub(crate) fn n_written(&self) -> impl FnOnce() -> i64 + Send + use<> {
        let folder = self.0.clone();
        move || i64::try_from(std::fs::read_dir(folder).unwrap().count()).unwrap()
    }
}

impl Departures for Folder {
    fn find<'a>(&'a self, id: &'a str) -> Later<'a, Result<Option<Departure>, String>> {
        let text = std::fs::read_to_string(self.0.join(id)).ok();
        let found = text.map(|text| {
            let (seq, body) = text.split_once('\n').unwrap();
            Departure { seq: seq.parse().unwrap(), body: body.to_owned() }
        });
        Box::pin(async move { Ok(found) })
    }
}

/// The ledger as the broker sees it.
struct Book(Arc<Ledger>);

impl Departures for Book {
    fn find<'a>(&'a self, id: &'a str) -> Later<'a, Result<Option<Departure>, String>> {
        let found = self.0.entries.lock().unwrap().get(id).cloned();
        Box::pin(async move { if id == "lost" { Err("it is gone".to_owned()) } else { Ok(found) } })
    }
}

/// A broker with one upstream, `one`.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) ledger: Arc<Ledger>,
    n_sent: AtomicUsize,
}

pub(crate) const BODY: &[u8] = br#"{"model": "m"}"#;

pub(crate) fn urls(servers: &[&Server]) -> Vec<String> {
    servers.iter().map(|server| format!("http://{}", server.address)).collect()
}

pub(crate) fn upstream(servers: &[&Server]) -> Upstream {
    Upstream::new("one", UpstreamKind::OpenAi, urls(servers))
}

impl World {
    /// Must be made within a runtime.
    pub(crate) fn new(upstream: Upstream) -> Self {
        let ledger = Arc::new(Ledger::default());
        let setup = Setup { upstreams: vec![upstream], ledger: String::new() };
        let started = Started::thread(&setup, Arc::new(Book(Arc::clone(&ledger)))).unwrap();
        let (broker, _) = started.attach().unwrap();
        Self::of(broker, ledger)
    }

    pub(crate) fn of(broker: Broker, ledger: Arc<Ledger>) -> Self {
        Self { broker, ledger, n_sent: AtomicUsize::new(0) }
    }

    /// A request with a departure of its own.
    pub(crate) fn outgoing(&self, body: &[u8]) -> Outgoing {
        let id = format!("dep-{}", self.n_sent.fetch_add(1, Ordering::Relaxed));
        self.ledger.depart(&id, "one", body);
        outgoing(&id, body)
    }

    pub(crate) async fn send(&self) -> Result<Incoming, BrokerError> {
        self.broker.send(self.outgoing(BODY)).await
    }
}

pub(crate) fn outgoing(departure: &str, body: &[u8]) -> Outgoing {
    Outgoing {
        departure: departure.to_owned(),
        upstream: "one".to_owned(),
        path: "/chat/completions",
        headers: Vec::new(),
        body: body.to_vec().into(),
        deadline: Instant::now() + Duration::from_secs(30),
        affinity: None,
    }
}

/// All of a body, or what ended it.
pub(crate) async fn all(body: &mut Body) -> Result<Vec<u8>, BrokerError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// Runs a test; none waits longer than this for something that does not come.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await }).unwrap();
    runtime.shutdown_background();
}

/// A server of HTTP: what it was asked, and an answer for each request by its number.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` writes to the connection what it likes; the connection stays for the next request
    /// while it says so.
    pub(crate) fn new(
        answer: impl Fn(usize, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    while let Some(request) = request(&mut stream) {
                        let number = {
                            let mut seen = seen.lock().unwrap();
                            seen.push(request);
                            seen.len()
                        };
                        if !answer(number, &mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// One that answers each request with the same.
    pub(crate) fn saying(answer: String) -> Self {
        Self::new(move |_, stream| stream.write_all(answer.as_bytes()).is_ok())
    }

    pub(crate) fn n_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// An answer with its head.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let n_bytes = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {n_bytes}\r\n\r\n{body}")
}

pub(crate) fn ok(body: &str) -> String {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

/// Reads a request, with its body; `None` where there is no more.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(n @ 1..) => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
