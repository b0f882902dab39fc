//! `freehold broker`: the process that may reach upstreams. `freehold serve` starts it and speaks
//! to it over its standard input; nobody else has a use for it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::Context as _;
use broker::{Departure, Departures, Dial, Later, Means, Unlocked};
use egress::Gate;
use ledger::{Kind, LedgerError, Reader};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::OnceCell;

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::is_remote;
use crate::terminal;

/// Reach upstreams for the server that has started this
///
/// `freehold serve` starts it where upstreams are configured. It may connect to their addresses and
/// to nothing else, and sends nothing without a departure in the ledger (docs/upstreams.md).
#[derive(Debug, clap::Args)]
#[command(
    hide = true,
    after_help = "\
Examples:
  freehold serve     starts it where there are upstreams"
)]
pub(crate) struct Broker {
    /// What is logged
    #[arg(long, value_name = "FILTER", value_parser = terminal::log_filter)]
    log: Option<String>,
    /// How the log is written
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Serve when another one ends, which standard output is a socket to
    #[arg(long)]
    spare: bool,
}

impl Subcommand for Broker {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        terminal::set_log(self.log.as_deref(), self.log_format == "json");
        let inherited = egress::open_sockets();
        let stdin = io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
        let stream = UnixStream::from(stdin);
        if stream.peer_addr().is_err() {
            let message = "standard input: expected the socket of a server, which starts this \
                           itself (freehold serve)";
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let watched = match self.spare {
            true => Some(io::stdout().as_fd().try_clone_to_owned().context("standard output")?),
            false => None,
        };
        let watched = watched.map(UnixStream::from);
        let prepared = broker::prepare(&stream).map_err(said)?;
        let place = prepared.ledger().to_owned();
        // What starts behind the lock, it holds whole: the threads of the ledger.
        let (lock, dial) = lock(&prepared.addresses(), &place, &inherited);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("start the broker")?.block_on(async {
            // It ends with its server, whoever else is told to.
            let _deaf = deaf().context("signals")?;
            let departures = Arc::new(OwnLedger { place, reader: OnceCell::new() });
            let before = departures.last_seq().await.map_err(|error| {
                let why = error.to_string();
                broker::refuse(&stream, &why);
                said(why)
            })?;
            let ledger = Arc::clone(&departures);
            let floor: Later<'static, _> = Box::pin(async move {
                let Some(watched) = watched else { return Ok(before) };
                broker::ended(watched).await.map_err(|error| error.to_string())?;
                // What the other has sent is not sent again.
                ledger.last_seq().await.map_err(|error| error.to_string())
            });
            let means = Means { departures, floor, dial, lock };
            broker::serve(prepared, means, stream).await.map_err(|why| {
                tracing::error!("the broker ends: {why}");
                said(why)
            })
        })
    }
}

/// An end of which the server tells.
fn said(_why: String) -> anyhow::Error {
    Failure::silent(Exit::Failed).into()
}

/// Gives up all connections but those to the addresses, if nothing speaks against it.
fn lock(
    addresses: &[SocketAddr],
    ledger: &str,
    inherited: &[String],
) -> (Result<String, String>, Arc<dyn Dial>) {
    if !inherited.is_empty() {
        let descriptors = inherited.join(", ");
        let why = format!("whoever started this left sockets open (descriptors {descriptors})");
        return (Err(why), Arc::new(Unlocked));
    }
    // The database's own library looks for its name, and connects.
    if is_remote(ledger) {
        return (Err("its ledger is a database elsewhere".to_owned()), Arc::new(Unlocked));
    }
    match egress::lock_to(addresses) {
        Ok((locked, gate)) => (Ok(locked.to_string()), Arc::new(Through(gate))),
        Err(why) => (Err(why.to_string()), Arc::new(Unlocked)),
    }
}

/// Signals that end other programs, taken and passed over.
fn deaf() -> io::Result<Vec<Signal>> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    kinds.into_iter().map(signal).collect()
}

/// Through the gate of the lock.
struct Through(Gate);

impl Dial for Through {
    fn dial(&self, address: SocketAddr) -> Later<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let stream = TcpStream::from_std(self.0.connect(address)?)?;
            stream.writable().await?;
            match stream.take_error()? {
                Some(error) => Err(error),
                None => Ok(stream),
            }
        })
    }
}

/// The ledger of this machine, or of several, for reading. Where it is not made yet it is looked
/// for again.
struct OwnLedger {
    place: String,
    reader: OnceCell<Reader>,
}

impl OwnLedger {
    async fn reader(&self) -> Result<&Reader, LedgerError> {
        self.reader.get_or_try_init(|| Reader::open(&self.place)).await
    }

    /// The place of the last entry: what stands up to there was not written for this broker.
    async fn last_seq(&self) -> Result<i64, LedgerError> {
        match self.reader().await {
            Ok(reader) => reader.last_seq().await,
            Err(LedgerError::Missing { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Departures for OwnLedger {
    fn find<'a>(&'a self, id: &'a str) -> Later<'a, Result<Option<Departure>, String>> {
        Box::pin(async move {
            let reader = self.reader().await.map_err(|error| error.to_string())?;
            let found = reader.find(Kind::Departure, id).await;
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.map(|found| Departure { seq: found.seq, body: found.entry.body }))
        })
    }
}
