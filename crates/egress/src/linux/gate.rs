//! The addresses to which a locked process may still connect, where nothing can change them.
//!
//! A filter of system calls sees the pointer to an address, not the address. So the addresses lie
//! in memory of which nothing in this process can change a byte: a file in memory that is sealed
//! against writing, mapped for reading, and the mapping sealed too (`mseal`, Linux 6.10), so that
//! it cannot be taken away, moved, or put something else in its place. `connect` passes the filter
//! where its pointer is to one of them. There is no moment between look and use: the kernel
//! copies what the pointer is to, and that is what it was.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use super::raw;

/// Bytes of a slot, in which an address of either family has room. Slots lie at multiples of it,
/// which is what the filter compares.
pub(crate) const SLOT_BYTES: usize = 32;

/// An address as the kernel has it (`struct sockaddr_in`, `struct sockaddr_in6`).
#[repr(C, align(32))]
#[derive(Clone, Copy)]
pub(crate) struct Slot([u8; SLOT_BYTES]);

impl Slot {
    fn new(address: SocketAddr) -> Self {
        let mut bytes = [0; SLOT_BYTES];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let family = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                libc::AF_INET
            }
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                libc::AF_INET6
            }
        };
        bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; SLOT_BYTES] {
        &self.0
    }
}

/// The addresses.
pub(crate) struct Gate {
    addresses: Vec<SocketAddr>,
    /// One for each address. They are there for as long as the process is.
    slots: &'static [Slot],
    /// Why something in this process could change them, if it could.
    unsealed: Option<String>,
}

impl Gate {
    /// Puts the addresses where nothing changes them; where the kernel cannot, it is told why.
    pub(crate) fn new(addresses: &[SocketAddr]) -> Self {
        let slots: Vec<Slot> = addresses.iter().copied().map(Slot::new).collect();
        let addresses = addresses.to_vec();
        match sealed(&slots) {
            Ok(slots) => Self { addresses, slots, unsealed: None },
            Err(error) => {
                let slots = Vec::leak(slots);
                Self { addresses, slots, unsealed: Some(error.to_string()) }
            }
        }
    }

    /// Where the pointers lie that `connect` may be given; an error where that would say nothing.
    pub(crate) fn pointers(&self) -> Result<Range<u64>, &str> {
        let range = self.slots.as_ptr_range();
        match &self.unsealed {
            None => Ok(range.start.addr() as u64..range.end.addr() as u64),
            Some(why) => Err(why),
        }
    }

    /// The ports, each once.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.addresses.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Begins to connect to the address, if it is one of them.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let idx = self.addresses.iter().position(|address| *address == to).ok_or_else(|| {
            let why = format!("{to}: none of the addresses that were named before the lock");
            io::Error::new(io::ErrorKind::PermissionDenied, why)
        })?;
        let (family, n_bytes) = match to {
            SocketAddr::V4(_) => (libc::AF_INET, size_of::<libc::sockaddr_in>()),
            SocketAddr::V6(_) => (libc::AF_INET6, size_of::<libc::sockaddr_in6>()),
        };
        let socket = raw::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
        match raw::connect_to(socket.as_fd(), &self.slots[idx], n_bytes) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket.into()),
            done => done.map(|()| socket.into()),
        }
    }
}

/// A copy of the slots in sealed memory.
fn sealed(slots: &[Slot]) -> io::Result<&'static [Slot]> {
    let file = File::from(raw::memory_file(c"freehold addresses")?);
    // One at least: nothing cannot be mapped.
    let blank = [Slot([0; SLOT_BYTES])];
    for (idx, slot) in slots.iter().chain(&blank).enumerate() {
        file.write_all_at(slot.bytes(), (idx * SLOT_BYTES) as u64)?;
    }
    raw::seal_file(file.as_fd())?;
    let mapped = raw::map_slots(file.as_fd(), slots.len() + 1)?;
    Ok(&mapped[..slots.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    #[test]
    fn slots_are_addresses_as_the_kernel_has_them() {
        let v4 = Slot::new("127.0.0.1:258".parse().unwrap());
        let family = (libc::AF_INET as u16).to_ne_bytes();
        assert_eq!(v4.0[..8], [family[0], family[1], 1, 2, 127, 0, 0, 1]);
        let v6 = Slot::new("[::1]:258".parse().unwrap());
        assert_eq!(v6.0[..4], [(libc::AF_INET6 as u16).to_ne_bytes()[0], 0, 1, 2]);
        assert_eq!(v6.0[8..24], std::net::Ipv6Addr::LOCALHOST.octets());
    }

    #[test]
    fn only_its_addresses_are_reached_through_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, other) = (listener.local_addr().unwrap(), "127.0.0.1:9".parse().unwrap());
        let gate = Gate::new(&[at]);
        let stream = gate.connect(at).unwrap();
        drop(listener.accept().unwrap());
        stream.set_nonblocking(false).unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        let refused = gate.connect(other).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(gate.ports(), [at.port()]);
    }

    #[test]
    fn what_is_sealed_is_not_changed() {
        let gate = Gate::new(&["127.0.0.1:9".parse().unwrap()]);
        let Ok(pointers) = gate.pointers() else { return };
        assert_eq!(pointers.end - pointers.start, SLOT_BYTES as u64);
        assert_eq!(pointers.start % SLOT_BYTES as u64, 0);
        // SAFETY: the page is the gate's, which is not used any more.
        for (call, changed) in unsafe { raw::change_memory(pointers.start as usize) } {
            assert!(changed.is_err(), "{call}");
        }
        let none = Gate::new(&[]);
        assert!(none.pointers().is_ok_and(|pointers| pointers.is_empty()));
    }
}
