//! What the attempts aim at, all on this machine: listeners, another process's memory and one of
//! its sockets. What arrives there has got out.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use super::raw;
use super::ways::AtHand;
use crate::EgressError;

/// The memory that attempts try to write.
static MEMORY: AtomicU64 = AtomicU64::new(0);

/// Another address of this machine.
const BESIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Most bytes that are read of one.
const N_BYTES: usize = 64;

/// What the attempts aim at. They are made one after the other.
pub(crate) struct Targets {
    tcp4: TcpListener,
    /// Not everywhere.
    tcp6: Option<TcpListener>,
    /// The one that a process with a gate may reach, and one on its port at another address, which
    /// is not everywhere either.
    listed: TcpListener,
    beside: Option<TcpListener>,
    udp: UdpSocket,
    folder: PathBuf,
    unix: UnixListener,
    abstracted: UnixListener,
    /// A connection that this process has, and its other end.
    near: TcpStream,
    far: TcpStream,
}

impl Targets {
    /// Opens them.
    pub(crate) fn open() -> Result<Self, EgressError> {
        let of = |doing| move |source| EgressError::Io { doing, source };
        let tcp4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(of("listen on TCP"))?;
        let tcp6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        let listed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(of("listen on TCP"))?;
        let port = listed.local_addr().map_err(of("listen on TCP"))?.port();
        let beside = TcpListener::bind((BESIDE, port)).ok();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(of("listen on UDP"))?;
        let (near, far) = connection().map_err(of("connect to this process"))?;
        let folder = std::env::temp_dir().join(format!("freehold-egress-{}", std::process::id()));
        fs::create_dir(&folder).map_err(of("make a folder for a socket"))?;
        let unix = UnixListener::bind(folder.join("socket")).map_err(of("listen on a path"))?;
        let name = folder.file_name().unwrap_or_default();
        let abstracted = SocketAddr::from_abstract_name(name.as_encoded_bytes())
            .and_then(|name| UnixListener::bind_addr(&name))
            .map_err(of("listen on an abstract name"))?;
        let targets = Self { tcp4, tcp6, listed, beside, udp, folder, unix, abstracted, near, far };
        targets.wait_for_none().map_err(of("listen"))?;
        Ok(targets)
    }

    /// Whoever looks for what has arrived waits for nothing.
    fn wait_for_none(&self) -> io::Result<()> {
        self.tcp4.set_nonblocking(true)?;
        self.tcp6.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        self.listed.set_nonblocking(true)?;
        self.beside.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        self.udp.set_nonblocking(true)?;
        self.unix.set_nonblocking(true)?;
        self.abstracted.set_nonblocking(true)?;
        self.far.set_nonblocking(true)
    }

    /// Where they are, as `name=value` on one line each, for the process that makes an attempt.
    pub(crate) fn marks(&self) -> String {
        let mut marks = String::new();
        let mut mark = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(marks, "{name}={value}").expect("a string takes all");
        };
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |at| at.port());
        mark("tcp4", &port(&self.tcp4));
        if let Some(listener) = &self.tcp6 {
            mark("tcp6", &port(listener));
        }
        mark("listed", &port(&self.listed));
        if self.beside.is_some() {
            mark("beside", &BESIDE);
        }
        mark("udp", &self.udp.local_addr().map_or(0, |at| at.port()));
        mark("unix", &self.folder.join("socket").display());
        mark("abstract", &self.folder.file_name().unwrap_or_default().to_string_lossy());
        mark("pid", &std::process::id());
        mark("memory", &(&raw const MEMORY).addr());
        mark("socket", &self.near.as_raw_fd());
        marks
    }

    /// What an attempt has at hand when it starts: its standard input.
    pub(crate) fn at_hand(&self, at_hand: AtHand) -> io::Result<Stdio> {
        Ok(match at_hand {
            AtHand::Nothing => Stdio::null(),
            AtHand::Tcp => raw::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?.into(),
            AtHand::Udp => raw::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?.into(),
            AtHand::Message => {
                let (ours, theirs) = UnixStream::pair()?;
                // It waits there though this end is closed.
                raw::send_descriptor(ours.as_fd(), self.near.as_fd())?;
                OwnedFd::from(theirs).into()
            }
        })
    }

    /// What has arrived since this was asked last, once whoever may have sent it has ended.
    pub(crate) fn arrived(&self) -> Option<String> {
        let mut arrived = None;
        while let Ok((stream, _)) = self.tcp4.accept() {
            arrived = Some(format!("{} bytes arrived over TCP", n_read(stream)));
        }
        while let Some(Ok((stream, _))) = self.tcp6.as_ref().map(TcpListener::accept) {
            arrived = Some(format!("{} bytes arrived over TCP on IPv6", n_read(stream)));
        }
        while let Ok((stream, _)) = self.listed.accept() {
            arrived = Some(format!("{} bytes arrived at the listed address", n_read(stream)));
        }
        while let Some(Ok((stream, _))) = self.beside.as_ref().map(TcpListener::accept) {
            arrived = Some(format!("{} bytes arrived at another address", n_read(stream)));
        }
        for listener in [&self.unix, &self.abstracted] {
            while let Ok((stream, _)) = listener.accept() {
                arrived = Some(format!("{} bytes arrived over a Unix socket", n_read(stream)));
            }
        }
        while let Ok(n) = self.udp.recv(&mut [0; N_BYTES]) {
            arrived = Some(format!("{n} bytes arrived over UDP"));
        }
        if let Ok(n @ 1..) = (&self.far).read(&mut [0; N_BYTES]) {
            arrived = Some(format!("{n} bytes arrived over another's socket"));
        }
        if MEMORY.swap(0, Ordering::SeqCst) != 0 {
            arrived = Some("another process's memory was written".to_owned());
        }
        arrived
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        // What stays behind is an empty folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    Ok((near, listener.accept()?.0))
}

/// Whoever connected has ended: what it sent is there.
fn n_read(mut stream: impl Read) -> usize {
    stream.read(&mut [0; N_BYTES]).unwrap_or(0)
}
