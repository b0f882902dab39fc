//! Linux: a filter of system calls for all threads, and a domain of Landlock's behind it.

mod domain;
mod errno;
mod filter;
mod gate;
mod judge;
mod prove;
mod raw;
mod targets;
mod ways;

pub(crate) use domain::guards_files;
pub(crate) use gate::Gate;
pub(crate) use prove::{attempt, prove, prove_gate};

use std::fs;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use filter::Connect;

use crate::{EgressError, Holds, Locked};

/// Descriptors below are standard input, output and error.
const FIRST_OWN: RawFd = 3;

pub(crate) fn lock() -> Result<Locked, EgressError> {
    // The filter first: where there is none, nothing is changed. It lets Landlock's calls pass.
    filter::install(&Connect::Nothing)?;
    Ok(Locked { landlock: domain::enter(&[]).map(|wall| wall.abi), gate: None })
}

pub(crate) fn lock_to(addresses: &[SocketAddr]) -> Result<(Locked, Gate), EgressError> {
    let gate = Gate::new(addresses);
    let (connect, unsealed) = match gate.pointers() {
        Ok(pointers) => (Connect::Pointers(pointers), None),
        Err(why) => (Connect::Anything, Some(why.to_owned())),
    };
    filter::install(&connect)?;
    let wall = domain::enter(&gate.ports());
    let holds = match (unsealed, &wall) {
        (None, _) => Holds::Addresses,
        (Some(why), Ok(wall)) if wall.holds_ports => Holds::Ports { why },
        (Some(why), _) => Holds::Nothing { why },
    };
    let locked = Locked { landlock: wall.map(|wall| wall.abi), gate: Some(holds) };
    Ok((locked, gate))
}

pub(crate) fn open_sockets() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return vec!["unknown: /proc/self/fd cannot be read".to_owned()];
    };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_socket = |number: &String| {
        let target = fs::read_link(format!("/proc/self/fd/{number}"));
        target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
            && !number.parse().is_ok_and(is_standard)
    };
    numbers.filter(is_socket).collect()
}

/// Whether a socket is what standard input, output and error may be: the journal's, or a pair's.
/// One of TCP (as inetd starts programs) leads elsewhere.
fn is_standard(number: RawFd) -> bool {
    number < FIRST_OWN && raw::family(number).is_ok_and(|family| family == libc::AF_UNIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn sockets_have_families() {
        let (pair, _other) = UnixStream::pair().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(raw::family(pair.as_raw_fd()).unwrap(), libc::AF_UNIX);
        assert_eq!(raw::family(tcp.as_raw_fd()).unwrap(), libc::AF_INET);
        assert!(raw::family(-1).is_err());
        // Behind the first three none is standard.
        assert!(!is_standard(pair.as_raw_fd()));
        let found = open_sockets();
        assert!(found.contains(&pair.as_raw_fd().to_string()), "{found:?}");
        assert!(found.contains(&tcp.as_raw_fd().to_string()), "{found:?}");
    }
}
