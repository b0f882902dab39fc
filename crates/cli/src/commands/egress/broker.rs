//! What a broker of our own can be talked into: it is the real one, with a ledger that is made for
//! that, and one upstream, which is a listener here.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use broker::{Broker, Outgoing, Setup, Started, Upstream, UpstreamKind};
use egress::{Attempt, Outcome};
use ledger::{Entry, Kind, Ledger, NodeKey};
use serde_json::json;

use crate::ledger::wait;

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(20);
const UPSTREAM: &str = "listed";
const BODY: &[u8] = b"{}";

/// What is tried: which departure is there, and what it is used for.
struct Try {
    way: &'static str,
    departure: &'static str,
    upstream: &'static str,
    path: &'static str,
    body: &'static [u8],
    expected: Outcome,
}

const fn of(way: &'static str, departure: &'static str) -> Try {
    let (upstream, path) = (UPSTREAM, "/chat/completions");
    Try { way, departure, upstream, path, body: BODY, expected: Outcome::Refused }
}

/// Each departure but `none` and `early` is written when the broker is there, of [`BODY`] to
/// [`UPSTREAM`].
const TRIES: &[Try] = &[
    of("the broker: no departure", "none"),
    of("the broker: a departure from before it was started", "early"),
    Try { body: b"{\"more\": 1}", ..of("the broker: another body than the departure's", "body") },
    Try { upstream: "other", ..of("the broker: an upstream that is not listed", "upstream") },
    Try { path: "/files", ..of("the broker: another path", "path") },
    Try { expected: Outcome::Allowed, ..of("the broker: a departure", "one") },
    of("the broker: the same departure again", "one"),
];

/// Tries all of it.
///
/// # Errors
/// The ledger or the broker could not be started.
pub(super) fn attempts() -> anyhow::Result<Vec<Attempt>> {
    let folder = Folder::new()?;
    let (port, n_arrived) = listen()?;
    let place = folder.0.join("ledger.sqlite");
    let place = place.to_str().context("the folder for temporary files: not UTF-8")?.to_owned();
    // Each in a runtime of its own: the broker is started between them.
    wait(async { depart(&place, &folder.0, &["early"]).await })?;
    let urls = vec![format!("http://127.0.0.1:{port}")];
    let upstreams = vec![Upstream::new(UPSTREAM, UpstreamKind::OpenAi, urls)];
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["broker", "--log=off"]).stdout(Stdio::null());
    let started = Started::process(command, &Setup { upstreams, ledger: place.clone() })?;
    wait(async {
        let names: Vec<&str> = TRIES.iter().map(|one| one.departure).collect();
        let written = names.into_iter().filter(|name| !["none", "early"].contains(name));
        let mut written: Vec<&str> = written.collect();
        written.dedup();
        depart(&place, &folder.0, &written).await?;
        let (broker, ending) = started.attach().context("the broker")?;
        let mut attempts = Vec::new();
        for one in TRIES {
            attempts.push(attempt(&broker, one, &n_arrived).await);
        }
        drop(broker);
        tokio::task::spawn_blocking(|| ending.wait()).await.context("the broker")?;
        Ok(attempts)
    })
}

/// A folder for temporary files, which goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("freehold-broker-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The upstream: its port, and how many requests have arrived there.
fn listen() -> anyhow::Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on TCP")?;
    let port = listener.local_addr().context("listen on TCP")?.port();
    let n_arrived = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&n_arrived);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Bytes that are no request have arrived too.
            if answer(&mut stream).unwrap_or(true) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    Ok((port, n_arrived))
}

/// Answers a request; whether something came.
fn answer(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut bytes = [0; 4096];
    if stream.read(&mut bytes)? == 0 {
        return Ok(false);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")?;
    Ok(true)
}

/// Writes departures into the ledger.
async fn depart(place: &str, folder: &Path, ids: &[&str]) -> anyhow::Result<()> {
    let key = NodeKey::load_or_create(&folder.join("node.key"))?;
    let ledger = Ledger::open(place, key).await?;
    for id in ids {
        let body = json!({"upstream": UPSTREAM, "sha256": broker::sha256(BODY)}).to_string();
        let (id, principal) = ((*id).to_owned(), "owner".to_owned());
        let entry = Entry { kind: Kind::Departure, id, at: 1, principal, body };
        ledger.append_durable(entry).await?;
    }
    Ok(ledger.close().await?)
}

async fn attempt(broker: &Broker, one: &Try, n_arrived: &AtomicUsize) -> Attempt {
    let before = n_arrived.load(Ordering::SeqCst);
    let sent = broker.send(Outgoing {
        departure: one.departure.to_owned(),
        upstream: one.upstream.to_owned(),
        path: one.path,
        headers: Vec::new(),
        body: one.body.into(),
        deadline: Instant::now() + TIMEOUT,
        affinity: None,
    });
    let sent = sent.await.map(|incoming| incoming.address);
    let has_arrived = n_arrived.load(Ordering::SeqCst) > before;
    let (outcome, evidence) = match (sent, one.expected) {
        (Ok(address), Outcome::Allowed) => (Outcome::Allowed, format!("{address} was reached")),
        (Ok(address), _) => (Outcome::GotOut, format!("{address} was reached")),
        (Err(error), _) if has_arrived => (Outcome::GotOut, format!("it arrived: {error}")),
        (Err(error), Outcome::Allowed) => {
            (Outcome::NotTestable, format!("it should be sent: {error}"))
        }
        (Err(error), _) => (Outcome::Refused, error.to_string()),
    };
    Attempt { way: one.way, outcome, evidence }
}
