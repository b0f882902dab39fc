//! Locked egress: a process gives up, for good, the means to open a connection to anywhere.
//!
//! [`lock`] has the kernel refuse every system call by which a process reaches what it is not
//! connected to already. What it has stays usable: it accepts on its listeners, and receives and
//! sends on connected sockets. So a broker, a process of its own that may reach other servers, is
//! asked over a pair of sockets that was made before the lock. The broker locks itself too, to the
//! addresses that it is for ([`lock_to`]). [`prove`] tries to get out of the one, [`prove_gate`] of
//! the other.
//!
//! Must not know models, HTTP or settings: who needs the network is decided by whoever locks.
//! `docs/egress.md` says what this is worth, and what it cannot do.

mod attempts;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod linux;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
use linux as system;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod elsewhere;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use elsewhere as system;

pub use attempts::{Attempt, Outcome};

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

/// The environment variable that tells a child of [`prove`] what to attempt.
const ATTEMPT: &str = "FREEHOLD_EGRESS_ATTEMPT";

/// What holds a process that is locked. Its text tells people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The ABI of Landlock that is the second wall, or why there is none.
    landlock: Result<String, String>,
    /// What holds it to its addresses, where it has some.
    gate: Option<Holds>,
}

/// What holds a process to the addresses that it may connect to; elsewhere nothing goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// The kernel, to each address with its port.
    Addresses,
    /// The kernel to their ports; to the addresses this program alone.
    Ports {
        /// Why not to the addresses.
        why: String,
    },
    /// This program alone.
    Nothing {
        /// Why the kernel does not.
        why: String,
    },
}

impl Locked {
    /// What holds the process to its addresses; `None` where it has none and connects to nothing.
    pub fn holds(&self) -> Option<&Holds> {
        self.gate.as_ref()
    }
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.landlock {
            Ok(abi) => write!(f, "by seccomp and Landlock {abi}"),
            Err(why) => write!(f, "by seccomp, without Landlock: {why}"),
        }?;
        match &self.gate {
            None | Some(Holds::Addresses) => Ok(()),
            Some(Holds::Ports { why }) => {
                write!(f, "; to the ports alone, and to the addresses by this program ({why})")
            }
            Some(Holds::Nothing { why }) => {
                write!(f, "; to TCP alone, and to ports and addresses by this program ({why})")
            }
        }
    }
}

/// Why a process cannot be locked, or the attempts not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// Nothing is known here that could lock it.
    #[error("nothing can lock it on {system}, expected Linux on x86-64 or AArch64")]
    NoSystem {
        /// The system and its processor.
        system: String,
    },
    /// The kernel does not take the filter: it has no seccomp, or a container forbids it.
    #[error("the kernel does not take the filter (seccomp): {0}")]
    NoFilter(String),
    /// What the attempts need could not be made.
    #[error("cannot try to get out: {doing}: {source}")]
    Io {
        /// What was to be made.
        doing: &'static str,
        /// Why it was not.
        source: io::Error,
    },
    /// Attempts cannot be locked, for the reason that a child gave.
    #[error("{0}")]
    NotLocked(String),
    /// A child ended without a word of what it attempted.
    #[error("{way}: the process that was to attempt it could not: {why}")]
    NoAttempt {
        /// What was to be attempted.
        way: String,
        /// What it said.
        why: String,
    },
}

/// Has the kernel refuse all that opens a connection, for all threads of this process and whatever
/// it starts, for good. Landlock, the second wall, holds the calling thread and those that start
/// from it (all threads, from Linux 7.0 on).
///
/// Refused calls fail with `EPERM` or `ENOSYS`, or with `EACCES` from Landlock; nothing is killed.
///
/// # Errors
/// The system or its kernel has no such filter; then nothing has changed. A kernel without
/// Landlock is no error.
pub fn lock() -> Result<Locked, EgressError> {
    system::lock()
}

/// As [`lock`], but for connections by TCP to `addresses`, which are made by what this returns. The
/// kernel compares the whole address where it can (Linux 6.10), else the port (Linux 6.7), and the
/// rest is this program's word.
///
/// # Errors
/// As [`lock`].
pub fn lock_to(addresses: &[SocketAddr]) -> Result<(Locked, Gate), EgressError> {
    system::lock_to(addresses).map(|(locked, gate)| (locked, Gate(gate)))
}

/// The one way to connect from a process that is locked to its addresses.
pub struct Gate(system::Gate);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// Begins to connect to an address; the stream does not block, and can be written to, or has an
    /// error, once it is known what came of it.
    ///
    /// # Errors
    /// It is not one of those of the lock; or what the system says.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.0.connect(to)
    }
}

/// The descriptors that are sockets, but for Unix sockets as standard input, output and error:
/// right after the start those that whoever started the process left open. [`lock`] leaves them as
/// they are, so what is connected stays connected. Where they cannot be listed, one line says so.
pub fn open_sockets() -> Vec<String> {
    system::open_sockets()
}

/// The ways of [`prove`] that only Landlock closes, where [`guards_files`].
pub const LANDLOCKS: [&str; 2] =
    ["another process: write its memory as a file", "what the kernel runs at a crash"];

/// Whether this kernel has the Landlock (ABI 2) that keeps a locked process from writing other
/// processes' memory as files, and what is the kernel's. Without it both stay open to whoever has
/// the rights.
pub fn guards_files() -> bool {
    system::guards_files()
}

/// Tries to get out in every way that is known here, each once without the lock, which tells
/// whether it works on this machine at all, and once locked. Each try is a process of its own:
/// `child` makes the command of one, which must print what [`attempt`] gives and end.
///
/// # Errors
/// This system cannot be locked, or a process could not be started.
pub fn prove(child: &dyn Fn() -> Command) -> Result<Vec<Attempt>, EgressError> {
    system::prove(child)
}

/// As [`prove`], of a process that is locked to one address of this machine: that address is
/// reached, and nothing else.
///
/// # Errors
/// As [`prove`].
pub fn prove_gate(child: &dyn Fn() -> Command) -> Result<Vec<Attempt>, EgressError> {
    system::prove_gate(child)
}

/// What a child of [`prove`] is to print, after it has made its attempt; `None` in every other
/// process.
pub fn attempt() -> Option<String> {
    let order = std::env::var(ATTEMPT).ok()?;
    Some(system::attempt(&order))
}
