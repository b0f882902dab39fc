//! How a server gets its broker: a process of its own, over standard input.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Broker;
use crate::connections::Unlocked;
use crate::departures::Departures;
use crate::frame::{Decoder, Frame, FrameKind};
use crate::serve::{Means, serve};
use crate::upstreams::Prepared;
use crate::wire::{self, Ready, Setup};

/// How long a broker may take to be ready: names are resolved, and a resolver can be slow.
const START_TIME: Duration = Duration::from_secs(60);
/// How long one may take to end once its server has closed the connection.
const END_TIME: Duration = Duration::from_secs(2);
/// How often it is looked whether it has.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Something that the system does was not done.
    #[error("cannot start the broker: {doing}: {source}")]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// Why it was not.
        source: io::Error,
    },
    /// The broker says why it cannot be one.
    #[error("{0}")]
    Refused(String),
    /// It ended, or said what it may not.
    #[error("cannot start the broker: {0}")]
    Broken(String),
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { doing, source }
}

/// A broker that has been started, and is ready, with its spare, if it has one. Both end when this,
/// and every [`Broker`] of it, is dropped.
#[derive(Debug)]
pub struct Started {
    stream: UnixStream,
    child: Option<Child>,
    ready: Ready,
    spare: Option<Box<Self>>,
}

/// Which of two brokers a command is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The one that is asked.
    First,
    /// The one that takes its place: it must wait for the [end](ended) of the other.
    Spare,
}

impl Started {
    /// Starts `command`, which must read a [`Setup`] from its standard input ([`prepare`]) and
    /// [`serve`] there, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or says why it cannot be one.
    pub fn process(command: Command, setup: &Setup) -> Result<Self, StartError> {
        Self::command(command, setup)
    }

    /// As [`process`](Self::process), with a spare: a second process that has all that the first
    /// has, serves nothing while that lives, and takes its place when it ends. A server that is
    /// locked can start none. The standard outputs of both are a pair of sockets, by whose end the
    /// second knows of the end of the first.
    ///
    /// # Errors
    /// As [`process`](Self::process), of either.
    pub fn with_spare(
        command: impl Fn(Place) -> Command,
        setup: &Setup,
    ) -> Result<Self, StartError> {
        let (held, watched) = UnixStream::pair().map_err(io_error("a pair of sockets"))?;
        let [mut first, mut spare] = [Place::First, Place::Spare].map(command);
        first.stdout(OwnedFd::from(held));
        spare.stdout(OwnedFd::from(watched));
        let mut started = Self::command(first, setup)?;
        started.spare = Some(Box::new(Self::command(spare, setup)?));
        Ok(started)
    }

    fn command(mut command: Command, setup: &Setup) -> Result<Self, StartError> {
        let (own, other) = UnixStream::pair().map_err(io_error("a pair of sockets"))?;
        command.stdin(OwnedFd::from(other));
        let child = command.spawn().map_err(io_error("a process"))?;
        // It holds the other end, and would keep it open when the broker has ended.
        drop(command);
        Self::over(own, Some(child), setup)
    }

    /// The same as a thread of this process, which nothing locks: for tests.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn thread(setup: &Setup, departures: Arc<dyn Departures>) -> Result<Self, StartError> {
        let (own, other) = UnixStream::pair().map_err(io_error("a pair of sockets"))?;
        let work = move || -> Result<(), String> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let prepared = prepare(&other)?;
            let means = Means {
                departures,
                floor: Box::pin(async { Ok(0) }),
                dial: Arc::new(Unlocked),
                lock: Err("it is a thread of its server".to_owned()),
            };
            runtime.block_on(serve(prepared, means, other))
        };
        let thread = thread::Builder::new().name("broker".to_owned());
        thread.spawn(work).map_err(io_error("a thread"))?;
        Self::over(own, None, setup)
    }

    fn over(stream: UnixStream, child: Option<Child>, setup: &Setup) -> Result<Self, StartError> {
        let mut started = Self {
            stream,
            child,
            ready: Ready { is_locked: false, lock: String::new(), upstreams: vec![] },
            spare: None,
        };
        started.ready = started.greet(setup)?;
        Ok(started)
    }

    fn greet(&mut self, setup: &Setup) -> Result<Ready, StartError> {
        let setup = wire::frame(FrameKind::Setup, 0, setup);
        let broken = |why: String| StartError::Broken(why);
        let mut bytes = Vec::new();
        setup.encode(&mut bytes).map_err(|error| broken(error.to_string()))?;
        match self.stream.write_all(&bytes) {
            Err(error) if has_ended(&error) => return Err(broken(ENDED.to_owned())),
            written => written.map_err(io_error("tell it the upstreams"))?,
        }
        let began = Instant::now();
        let frame = first_frame(&self.stream, began + START_TIME).map_err(broken)?;
        match frame.kind {
            FrameKind::Ready => wire::read(&frame).map_err(broken),
            FrameKind::Failed => {
                Err(StartError::Refused(String::from_utf8_lossy(&frame.payload).into_owned()))
            }
            kind => Err(broken(format!("it began with {kind:?}"))),
        }
    }

    /// What the broker came to.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The broker, to be asked from within the runtime that calls this, and what ends it.
    ///
    /// # Errors
    /// The runtime cannot take the socket.
    pub fn attach(self) -> io::Result<(Broker, Ending)> {
        let (mut children, mut spare) = (Vec::from_iter(self.child), None);
        if let Some(second) = self.spare {
            children.extend(second.child);
            spare = Some(waiting(second.stream)?);
        }
        let stream = tokio::net::UnixStream::from_std(waiting(self.stream)?)?;
        Ok((Broker::over(stream, spare, self.ready.upstreams), Ending { children }))
    }
}

/// A socket as a runtime takes it.
fn waiting(stream: UnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    stream.set_read_timeout(None)?;
    Ok(stream)
}

/// The processes of a broker, to be waited for when all that speak to it are gone.
#[derive(Debug)]
pub struct Ending {
    /// The one that is asked first, and its spare.
    children: Vec<Child>,
}

impl Ending {
    /// The number of the process that is asked first, if it is one.
    pub fn pid(&self) -> Option<u32> {
        self.children.first().map(Child::id)
    }

    /// Waits for the end of the processes, and ends those where it does not come; what the first
    /// ended with, if it was one.
    pub fn wait(self) -> Option<ExitStatus> {
        let began = Instant::now();
        let all: Vec<_> = self.children.into_iter().map(|child| end(child, began)).collect();
        all.into_iter().next().flatten()
    }
}

fn end(mut child: Child, began: Instant) -> Option<ExitStatus> {
    while began.elapsed() < END_TIME {
        match child.try_wait() {
            Ok(None) => thread::sleep(POLL_INTERVAL),
            Ok(Some(status)) => return Some(status),
            Err(_) => return None,
        }
    }
    // A lock may forbid it: then it ends by itself, or the system ends it with the server.
    child.kill().ok()?;
    child.wait().ok()
}

/// Waits until the other end of `watched` is closed: until the broker has ended whose spare this
/// is. What comes there says nothing.
///
/// # Errors
/// The socket fails.
pub async fn ended(watched: UnixStream) -> io::Result<()> {
    let watched = tokio::net::UnixStream::from_std(waiting(watched)?)?;
    let mut buffer = [0; 64];
    loop {
        watched.readable().await?;
        match watched.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

/// The setup that the server sends first.
fn read_setup(stream: &UnixStream) -> Result<Setup, String> {
    let frame = first_frame(stream, Instant::now() + START_TIME)?;
    match frame.kind {
        FrameKind::Setup => wire::read(&frame),
        kind => Err(format!("frame {kind:?}: expected a setup first")),
    }
}

/// Reads the setup and prepares what it says; where that cannot be, the server is told why.
///
/// # Errors
/// Why it cannot be.
pub fn prepare(stream: &UnixStream) -> Result<Prepared, String> {
    read_setup(stream).and_then(Prepared::new).inspect_err(|why| refuse(stream, why))
}

/// Tells the server why there will be no broker.
pub fn refuse(mut stream: &UnixStream, why: &str) {
    let mut bytes = Vec::new();
    let why: String = why.chars().take(4096).collect();
    if Frame::new(FrameKind::Failed, 0, why).encode(&mut bytes).is_ok() {
        // A server that has ended needs no answer.
        let _ = stream.write_all(&bytes);
    }
}

const ENDED: &str = "it ended before it was ready";

/// Whether an error says that the other end is closed.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Waits for one frame, without a runtime. Nothing may follow it yet: the other side waits.
fn first_frame(mut stream: &UnixStream, until: Instant) -> Result<Frame, String> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
            return Ok(frame);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("it said nothing for {} s", START_TIME.as_secs()));
        }
        stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ENDED.to_owned()),
            Ok(n_bytes) => decoder.push(&buffer[..n_bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if has_ended(&error) => return Err(ENDED.to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
