//! The ways out: one more is one line in [`WAYS`]. Each is tried once without the lock, so it must
//! harm nothing where it succeeds.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::Command;
use std::sync::OnceLock;

use libc::{c_int, c_long};

use super::errno::{is_refusal, name};
use super::judge::Tried;
use super::raw::{self, Messages};
use crate::{ATTEMPT, EgressError};

/// What is sent.
const WORD: &[u8] = b"freehold egress prove";
/// A name that nobody has (RFC 6761).
const NO_NAME: &str = "freehold-egress-prove.invalid";
/// A query for the address of `a.`, as it goes to a server of names (RFC 1035).
const DNS_QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
/// Families of sockets have numbers below, with room for those to come.
const N_FAMILIES: c_int = 64;

/// A way out.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) at_hand: AtHand,
    pub(crate) thread: Thread,
    /// Whether it is to be open.
    pub(crate) is_meant: bool,
    by: By,
}

/// What a try is locked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    None,
    /// By `lock`.
    Whole,
    /// By `lock_to`, to the listed address.
    Gate,
}

/// What whoever tries has as its standard input.
#[derive(Clone, Copy)]
pub(crate) enum AtHand {
    Nothing,
    /// A socket that is not connected, as if the lock had come too late for it.
    Tcp,
    Udp,
    /// A Unix socket with a message in it that carries a connected TCP socket.
    Message,
}

/// Which thread tries.
#[derive(Clone, Copy)]
pub(crate) enum Thread {
    /// The one that locks.
    Locking,
    /// One that was there before the lock.
    Earlier,
    /// One that comes after it.
    Later,
}

enum By {
    /// Doing something, which tells how it is known to be out.
    Doing(fn(&Marks<'_>) -> Result<String, Stopped>),
    /// A socket of this family, kind and protocol.
    Socket(c_int, c_int, c_int),
    /// A call that the kernel finds wrong once it is let through: it is handed no memory.
    Call(c_long, [c_long; 5]),
}

/// By what something was stopped.
pub(crate) struct Stopped(String);

/// The error of the call that is named.
fn at(call: &'static str) -> impl Fn(io::Error) -> Stopped {
    move |error| Stopped(format!("{call}: {}", name(&error)))
}

/// Where the targets are, and how this process is locked.
pub(crate) struct Marks<'a> {
    marks: HashMap<&'a str, &'a str>,
    lock: Lock,
    gate: OnceLock<crate::Gate>,
}

impl<'a> Marks<'a> {
    pub(crate) fn new(marks: HashMap<&'a str, &'a str>, lock: Lock) -> Self {
        Self { marks, lock, gate: OnceLock::new() }
    }

    /// Locks this process as it is to be.
    pub(crate) fn lock(&self) -> Result<(), EgressError> {
        match self.lock {
            Lock::None => Ok(()),
            Lock::Whole => crate::lock().map(drop),
            Lock::Gate => {
                let listed =
                    self.v4("listed").map_err(|Stopped(why)| EgressError::NotLocked(why))?;
                let (_, gate) = crate::lock_to(&[listed.into()])?;
                self.gate.get_or_init(|| gate);
                Ok(())
            }
        }
    }

    fn is_locked(&self) -> bool {
        self.lock != Lock::None
    }

    fn text(&self, name: &str) -> Result<&str, Stopped> {
        self.marks.get(name).copied().ok_or_else(|| Stopped(format!("there is no {name} here")))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Stopped> {
        self.text(name)?.parse().map_err(|_| Stopped(format!("{name} is no number")))
    }

    fn v4(&self, name: &str) -> Result<SocketAddrV4, Stopped> {
        Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.number(name)?))
    }
}

impl Way {
    /// Tries it.
    pub(crate) fn go(&self, marks: &Marks<'_>) -> Tried {
        let gone = match self.by {
            By::Doing(doing) => doing(marks),
            By::Socket(family, kind, protocol) => raw::socket(family, kind, protocol)
                .map(|_| "a socket was made".to_owned())
                .map_err(at("socket")),
            By::Call(number, args) => {
                // SAFETY: what `WAYS` hands to its calls are numbers and null pointers; none of
                // them touches memory of this process.
                match unsafe { raw::call(number, args) } {
                    Ok(_) => Ok("the kernel did it".to_owned()),
                    Err(error) if is_refusal(&error) => Err(Stopped(name(&error))),
                    Err(error) => Ok(format!("it reaches the kernel: {}", name(&error))),
                }
            }
        };
        match gone {
            Ok(how) => Tried::Out(how),
            Err(Stopped(why)) => Tried::Stopped(why),
        }
    }

    const fn at_hand(self, at_hand: AtHand) -> Self {
        Self { at_hand, ..self }
    }

    const fn on(self, thread: Thread) -> Self {
        Self { thread, ..self }
    }

    const fn meant(self) -> Self {
        Self { is_meant: true, ..self }
    }
}

const fn of(name: &'static str, by: By) -> Way {
    Way { name, at_hand: AtHand::Nothing, thread: Thread::Locking, is_meant: false, by }
}

const fn way(name: &'static str, doing: fn(&Marks<'_>) -> Result<String, Stopped>) -> Way {
    of(name, By::Doing(doing))
}

const fn family(name: &'static str, family: c_int, kind: c_int, protocol: c_int) -> Way {
    of(name, By::Socket(family, kind, protocol))
}

const fn call(name: &'static str, number: c_long, args: [c_long; 5]) -> Way {
    of(name, By::Call(number, args))
}

/// Those of a process that may reach one address, before all others.
pub(crate) const GATE_WAYS: &[Way] = &[
    way("the listed address", listed).meant(),
    way("the listed port of another address", beside),
    way("the listed address, by UDP", listed_udp),
    way("another address in the place of the listed one", replace_listed),
];

/// All of them.
pub(crate) const WAYS: &[Way] = &[
    way("TCP over IPv4", tcp4),
    way("TCP over IPv6", tcp6),
    way("TCP, from a thread that was there before", tcp4).on(Thread::Earlier),
    way("TCP, from a thread that came later", tcp4).on(Thread::Later),
    way("TCP fast open", fast_open),
    way("UDP", udp),
    way("UDP, connected", udp_connected),
    way("DNS, a query by hand", dns_query),
    way("DNS, by the C library", resolve),
    way("a TCP socket at hand: connect", connect_at_hand).at_hand(AtHand::Tcp),
    way("a TCP socket at hand: fast open", fast_open_at_hand).at_hand(AtHand::Tcp),
    way("a TCP socket at hand: listen", listen_at_hand).at_hand(AtHand::Tcp),
    call("a TCP socket at hand: source route", libc::SYS_setsockopt, IP_OPTIONS)
        .at_hand(AtHand::Tcp),
    way("a UDP socket at hand: connect", connect_udp_at_hand).at_hand(AtHand::Udp),
    way("a UDP socket at hand: sendto", send_at_hand).at_hand(AtHand::Udp),
    way("a UDP socket at hand: sendmsg", send_message_at_hand).at_hand(AtHand::Udp),
    way("a UDP socket at hand: sendmmsg", send_messages_at_hand).at_hand(AtHand::Udp),
    way("a connected socket in a message", take_from_message).at_hand(AtHand::Message),
    way("a socket that was inherited", inherited),
    way("Unix socket by path", unix),
    way("Unix socket by abstract name", abstracted),
    family("raw IP", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
    family("MPTCP", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
    family("packets of a device", libc::AF_PACKET, libc::SOCK_RAW, 0),
    family("netlink", libc::AF_NETLINK, libc::SOCK_RAW, 0),
    family("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    way("any other family of sockets", families),
    #[cfg(target_arch = "x86_64")]
    way("a call by its x32 number", x32),
    #[cfg(target_arch = "x86_64")]
    way("a call by its i386 number", i386),
    way("io_uring: a ring", ring),
    call("io_uring: orders", libc::SYS_io_uring_enter, [-1, 0, 0, 0, 0]),
    call("io_uring: registration", libc::SYS_io_uring_register, [-1, 0, 0, 0, 0]),
    way("another program", exec),
    call("another program, by descriptor", libc::SYS_execveat, [-1, 0, 0, 0, 0]),
    way("another process: trace it", seize),
    way("another process: write its memory", write_memory),
    way("another process: write its memory as a file", write_memory_file),
    way("another process: take its socket", take_socket),
    call("another process: a queue", libc::SYS_msgsnd, [-1, 0, 0, 0, 0]),
    call("another process: a named queue", libc::SYS_mq_open, [0, 0, 0, 0, 0]),
    way("another network", enter_network),
    way("a network of its own", leave_network),
    call("a mount", libc::SYS_mount, [0, 0, 0, 0, 0]),
    call("a file by its handle", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]),
    call("a program for the kernel", libc::SYS_bpf, [-1, 0, 0, 0, 0]),
    call("a module for the kernel", libc::SYS_finit_module, [-1, 0, 0, 0, 0]),
    call("the kernel's counters", libc::SYS_perf_event_open, [0, 0, 0, 0, 0]),
    call("the kernel's keys, asked for outside", libc::SYS_request_key, [0, 0, 0, 0, 0]),
    call("faults handled here", libc::SYS_userfaultfd, [0xffff, 0, 0, 0, 0]),
    call("keys pressed for others", libc::SYS_ioctl, [-1, 0x5412, 0, 0, 0]),
    way("what the kernel runs at a crash", core_pattern),
    call("a network device of its own", libc::SYS_ioctl, [-1, 0x4004_54ca, 0, 0, 0]),
    call("another route for the network", libc::SYS_ioctl, [-1, 0x890b, 0, 0, 0]),
];

/// `setsockopt(0, IPPROTO_IP, IP_OPTIONS, NULL, 0)`: takes options away, of which there are none.
const IP_OPTIONS: [c_long; 5] = [0, 0, libc::IP_OPTIONS as c_long, 0, 0];

fn say(mut stream: impl Write) -> Result<String, Stopped> {
    stream.write_all(WORD).map_err(at("write"))?;
    Ok("it was sent".to_owned())
}

/// Through the gate, where there is one.
fn listed(marks: &Marks<'_>) -> Result<String, Stopped> {
    let to = marks.v4("listed")?;
    let Some(gate) = marks.gate.get() else {
        return say(TcpStream::connect(to).map_err(at("socket, connect"))?);
    };
    let stream = gate.connect(to.into()).map_err(at("socket, connect"))?;
    // On this machine there is nothing to wait for but the other end's turn.
    stream.set_nonblocking(false).map_err(at("ioctl"))?;
    say(stream)
}

fn beside(marks: &Marks<'_>) -> Result<String, Stopped> {
    let to = SocketAddrV4::new(marks.number("beside")?, marks.number("listed")?);
    say(TcpStream::connect(to).map_err(at("socket, connect"))?)
}

fn listed_udp(marks: &Marks<'_>) -> Result<String, Stopped> {
    let socket = raw::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(at("socket"))?;
    raw::connect(socket.as_fd(), marks.v4("listed")?).map_err(at("connect"))?;
    Ok("it is connected".to_owned())
}

/// The memory in which the kernel looks for what may be connected to.
fn replace_listed(marks: &Marks<'_>) -> Result<String, Stopped> {
    let place = match marks.gate.get() {
        Some(gate) => gate.0.pointers().map_err(|why| Stopped(why.to_owned()))?.start as usize,
        // A page that nothing seals shows that it could be done.
        None => raw::page().map_err(at("mmap"))?,
    };
    // SAFETY: the page is this attempt's own, or the gate's, which nobody connects through.
    let changes = unsafe { raw::change_memory(place) };
    let mut why = String::new();
    for (call, changed) in changes {
        match changed {
            Ok(()) => return Ok(format!("{call} has changed it")),
            Err(error) => why = format!("{call}: {}", name(&error)),
        }
    }
    Err(Stopped(why))
}

fn tcp4(marks: &Marks<'_>) -> Result<String, Stopped> {
    say(TcpStream::connect(marks.v4("tcp4")?).map_err(at("socket, connect"))?)
}

fn tcp6(marks: &Marks<'_>) -> Result<String, Stopped> {
    let to = (Ipv6Addr::LOCALHOST, marks.number::<u16>("tcp6")?);
    say(TcpStream::connect(to).map_err(at("socket, connect"))?)
}

fn fast_open(marks: &Marks<'_>) -> Result<String, Stopped> {
    let socket = raw::socket(libc::AF_INET, libc::SOCK_STREAM, 0).map_err(at("socket"))?;
    raw::send_to(socket.as_fd(), WORD, libc::MSG_FASTOPEN, marks.v4("tcp4")?)
        .map_err(at("sendto"))?;
    Ok("it was sent".to_owned())
}

fn udp_socket() -> Result<UdpSocket, Stopped> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(at("socket, bind"))
}

fn udp(marks: &Marks<'_>) -> Result<String, Stopped> {
    udp_socket()?.send_to(WORD, marks.v4("udp")?).map_err(at("sendto"))?;
    Ok("it was sent".to_owned())
}

fn udp_connected(marks: &Marks<'_>) -> Result<String, Stopped> {
    let socket = udp_socket()?;
    socket.connect(marks.v4("udp")?).map_err(at("connect"))?;
    socket.send(WORD).map_err(at("send"))?;
    Ok("it was sent".to_owned())
}

fn dns_query(marks: &Marks<'_>) -> Result<String, Stopped> {
    udp_socket()?.send_to(DNS_QUERY, marks.v4("udp")?).map_err(at("sendto"))?;
    Ok("it was sent".to_owned())
}

/// An answer that there is no such name is an answer; one that does not come is none.
fn resolve(marks: &Marks<'_>) -> Result<String, Stopped> {
    match (NO_NAME, 80).to_socket_addrs() {
        Ok(_) => Ok("a server of names answered".to_owned()),
        Err(error) if marks.is_locked() => Err(Stopped(error.to_string())),
        Err(error) if error.to_string().contains("emporary") => Err(Stopped(error.to_string())),
        Err(error) => Ok(format!("a server of names answered: {error}")),
    }
}

fn hand() -> io::Stdin {
    io::stdin()
}

fn connect_at_hand(marks: &Marks<'_>) -> Result<String, Stopped> {
    raw::connect(hand().as_fd(), marks.v4("tcp4")?).map_err(at("connect"))?;
    Ok("it is connected".to_owned())
}

fn fast_open_at_hand(marks: &Marks<'_>) -> Result<String, Stopped> {
    let to = marks.v4("tcp4")?;
    raw::send_to(hand().as_fd(), WORD, libc::MSG_FASTOPEN, to).map_err(at("sendto"))?;
    Ok("it was sent".to_owned())
}

fn listen_at_hand(_marks: &Marks<'_>) -> Result<String, Stopped> {
    raw::listen(hand().as_fd()).map_err(at("bind, listen"))?;
    Ok("it listens on another port".to_owned())
}

fn connect_udp_at_hand(marks: &Marks<'_>) -> Result<String, Stopped> {
    raw::connect(hand().as_fd(), marks.v4("udp")?).map_err(at("connect"))?;
    Ok("it is connected".to_owned())
}

fn send_at_hand(marks: &Marks<'_>) -> Result<String, Stopped> {
    raw::send_to(hand().as_fd(), WORD, 0, marks.v4("udp")?).map_err(at("sendto"))?;
    Ok("it was sent".to_owned())
}

fn send_message_at_hand(marks: &Marks<'_>) -> Result<String, Stopped> {
    let to = marks.v4("udp")?;
    raw::send_message(hand().as_fd(), WORD, Messages::One, to).map_err(at("sendmsg"))?;
    Ok("it was sent".to_owned())
}

fn send_messages_at_hand(marks: &Marks<'_>) -> Result<String, Stopped> {
    let to = marks.v4("udp")?;
    raw::send_message(hand().as_fd(), WORD, Messages::Several, to).map_err(at("sendmmsg"))?;
    Ok("it was sent".to_owned())
}

fn take_from_message(_marks: &Marks<'_>) -> Result<String, Stopped> {
    let socket = raw::receive_descriptor(hand().as_fd()).map_err(at("recvmsg"))?;
    say(TcpStream::from(socket))
}

/// Without the lock it opens a socket, to show that it would find one.
fn inherited(marks: &Marks<'_>) -> Result<String, Stopped> {
    let shown = (!marks.is_locked()).then(|| raw::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
    let found = super::open_sockets();
    drop(shown);
    match found.is_empty() {
        true => Err(Stopped("no open descriptor is a socket".to_owned())),
        false => Ok(format!("sockets are open: {}", found.join(", "))),
    }
}

fn unix(marks: &Marks<'_>) -> Result<String, Stopped> {
    say(UnixStream::connect(marks.text("unix")?).map_err(at("socket, connect"))?)
}

fn abstracted(marks: &Marks<'_>) -> Result<String, Stopped> {
    let name = SocketAddr::from_abstract_name(marks.text("abstract")?).map_err(at("name"))?;
    say(UnixStream::connect_addr(&name).map_err(at("socket, connect"))?)
}

#[cfg(target_arch = "x86_64")]
fn made(socket: io::Result<std::os::fd::OwnedFd>) -> Result<String, Stopped> {
    socket.map(|_| "a socket was made".to_owned()).map_err(at("socket"))
}

#[cfg(target_arch = "x86_64")]
fn x32(_marks: &Marks<'_>) -> Result<String, Stopped> {
    made(raw::socket_x32())
}

#[cfg(target_arch = "x86_64")]
fn i386(_marks: &Marks<'_>) -> Result<String, Stopped> {
    made(raw::socket_i386())
}

/// Without the lock only IP is tried: others would have the kernel load what it did not have.
fn families(marks: &Marks<'_>) -> Result<String, Stopped> {
    let families = if marks.is_locked() { 0..N_FAMILIES } else { libc::AF_INET..N_FAMILIES };
    let mut why = Stopped("there is none".to_owned());
    for family in families {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            // A socket alone is no way out, where one of TCP may be made.
            let is_tcp =
                [libc::AF_INET, libc::AF_INET6].contains(&family) && kind == libc::SOCK_STREAM;
            if is_tcp && marks.lock == Lock::Gate {
                continue;
            }
            match raw::socket(family, kind, 0) {
                Ok(_) => return Ok(format!("a socket of family {family} was made")),
                Err(error) if is_refusal(&error) => why = at("socket")(error),
                Err(error) => return Ok(format!("family {family}: {}", name(&error))),
            }
        }
    }
    Err(why)
}

fn ring(_marks: &Marks<'_>) -> Result<String, Stopped> {
    raw::ring().map(|_| "a ring was made".to_owned()).map_err(at("io_uring_setup"))
}

/// This program once more, to do what it is asked without a lock of its own.
fn exec(_marks: &Marks<'_>) -> Result<String, Stopped> {
    let program = std::env::current_exe().map_err(at("this program"))?;
    let order = std::env::var(ATTEMPT).unwrap_or_default();
    let marks: Vec<&str> = order.lines().skip(2).collect();
    let order = format!("{}\nunlocked\n{}\n", WAYS[0].name, marks.join("\n"));
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(ATTEMPT, order);
    let output = command.output().map_err(at("execve"))?;
    Ok(format!("another program ran ({})", output.status))
}

fn seize(marks: &Marks<'_>) -> Result<String, Stopped> {
    raw::seize(marks.number("pid")?).map_err(at("ptrace"))?;
    Ok("it is traced".to_owned())
}

fn write_memory(marks: &Marks<'_>) -> Result<String, Stopped> {
    let (pid, place) = (marks.number("pid")?, marks.number("memory")?);
    raw::write_memory(pid, place, &[1]).map_err(at("process_vm_writev"))?;
    Ok("it was written".to_owned())
}

fn write_memory_file(marks: &Marks<'_>) -> Result<String, Stopped> {
    let path = format!("/proc/{}/mem", marks.text("pid")?);
    let memory = OpenOptions::new().write(true).open(path).map_err(at("open"))?;
    memory.write_at(&[1], marks.number("memory")?).map_err(at("pwrite"))?;
    Ok("it was written".to_owned())
}

fn take_socket(marks: &Marks<'_>) -> Result<String, Stopped> {
    let (pid, socket) = (marks.number("pid")?, marks.number("socket")?);
    let taken = raw::take_descriptor(pid, socket).map_err(at("pidfd_getfd"))?;
    say(TcpStream::from(taken))
}

fn enter_network(marks: &Marks<'_>) -> Result<String, Stopped> {
    let network = File::open(format!("/proc/{}/ns/net", marks.text("pid")?)).map_err(at("open"))?;
    raw::enter_namespace(network.as_fd()).map_err(at("setns"))?;
    Ok("it was entered".to_owned())
}

fn leave_network(_marks: &Marks<'_>) -> Result<String, Stopped> {
    raw::leave_namespaces(libc::CLONE_NEWUSER | libc::CLONE_NEWNET).map_err(at("unshare"))?;
    Ok("it was made".to_owned())
}

/// Opened for writing, and not written.
fn core_pattern(_marks: &Marks<'_>) -> Result<String, Stopped> {
    let path = "/proc/sys/kernel/core_pattern";
    OpenOptions::new().read(true).write(true).open(path).map_err(at("open"))?;
    Ok(format!("{path} can be written"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_way_has_a_name_of_its_own() {
        let all = || GATE_WAYS.iter().chain(WAYS).map(|way| way.name);
        let names: HashSet<&str> = all().collect();
        assert_eq!(names.len(), all().count());
    }
}
