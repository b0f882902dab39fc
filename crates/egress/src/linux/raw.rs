//! The system calls that the standard library does not make: those of the attempts, and the look at
//! a socket's family. Each function is safe for its caller; what it hands the kernel it made
//! itself.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::slice;

use libc::{c_int, c_long, c_void};

use super::gate::Slot;

/// `mseal` (Linux 6.10), for which the C library's bindings have no name; the same on all
/// processors.
const SYS_MSEAL: c_long = 462;

/// Room for a message that carries one descriptor (`CMSG_SPACE(4)`), aligned as its head is.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// What the kernel returned, or its error.
fn checked(value: c_long) -> io::Result<c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// A descriptor that a call made, or its error.
fn descriptor(value: c_long) -> io::Result<OwnedFd> {
    let fd = c_int::try_from(checked(value)?).map_err(io::Error::other)?;
    // SAFETY: callers hand over what a call that makes descriptors returned: it is open and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket of any kind.
pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: three numbers go in.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    descriptor(fd.into())
}

/// The family of a socket; an error where the descriptor is none.
pub(crate) fn family(fd: RawFd) -> io::Result<c_int> {
    let mut family: c_int = 0;
    let mut n_bytes = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `n_bytes` to the number, and their count beside it; both
    // live until the call returns. A descriptor that is not open is an error.
    let value = unsafe {
        let to = (&raw mut family).cast::<c_void>();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, to, &raw mut n_bytes)
    };
    checked(value.into())?;
    Ok(family)
}

fn address(to: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// Bytes of an address.
const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

pub(crate) fn connect(fd: BorrowedFd<'_>, to: SocketAddrV4) -> io::Result<()> {
    let address = address(to);
    // SAFETY: the address lives until the call returns, and has the size that is given.
    let value = unsafe {
        libc::connect(fd.as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), ADDRESS_BYTES)
    };
    checked(value.into()).map(drop)
}

/// Connects to the address in a slot, of which the kernel is told so many bytes.
pub(crate) fn connect_to(fd: BorrowedFd<'_>, to: &Slot, n_bytes: usize) -> io::Result<()> {
    let bytes = &to.bytes()[..n_bytes];
    // SAFETY: the address lives until the call returns, and has the size that is given.
    let value = unsafe {
        let address = bytes.as_ptr().cast::<libc::sockaddr>();
        libc::connect(fd.as_raw_fd(), address, bytes.len() as libc::socklen_t)
    };
    checked(value.into()).map(drop)
}

/// A file in memory that can be sealed.
pub(crate) fn memory_file(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name lives until the call returns, and ends with a zero.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    descriptor(fd.into())
}

/// Seals a file in memory: nobody writes to it or changes its length any more.
pub(crate) fn seal_file(fd: BorrowedFd<'_>) -> io::Result<()> {
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: numbers go in.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into()).map(drop)
}

/// Maps the slots that a sealed file holds, and seals the mapping: it stays as it is and where it
/// is until the process ends.
pub(crate) fn map_slots(fd: BorrowedFd<'_>, n_slots: usize) -> io::Result<&'static [Slot]> {
    let n_bytes = n_slots * size_of::<Slot>();
    let metadata = std::fs::File::from(fd.try_clone_to_owned()?).metadata()?;
    if metadata.len() < n_bytes as u64 {
        return Err(io::Error::other("the file is shorter than what is to be mapped"));
    }
    // SAFETY: the kernel chooses the place: nothing that is there is touched.
    let place = unsafe {
        libc::mmap(ptr::null_mut(), n_bytes, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), 0)
    };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: what is sealed was mapped just now, and nobody else knows of it.
    if let Err(error) = checked(unsafe { libc::syscall(SYS_MSEAL, place, n_bytes, 0) }) {
        // SAFETY: nothing points there.
        unsafe { libc::munmap(place, n_bytes) };
        return Err(error);
    }
    // SAFETY: the mapping begins at a page, is as long as the slots, every byte of the file is
    // there and none ever changes; a slot is bytes. A sealed mapping is never taken away.
    Ok(unsafe { slice::from_raw_parts(place.cast::<Slot>(), n_slots) })
}

/// A page of memory of its own, which nobody uses.
pub(crate) fn page() -> io::Result<usize> {
    let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses the place: nothing that is there is touched.
    match unsafe { libc::mmap(ptr::null_mut(), 1, read, private, -1, 0) } {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        place => Ok(place.addr()),
    }
}

/// Tries to change the sealed page at `place`: each way with what came of it.
///
/// # Safety
/// A page is mapped there of which nobody in this process needs more than that it is sealed: where
/// it is not, it is gone.
pub(crate) unsafe fn change_memory(place: usize) -> [(&'static str, io::Result<()>); 4] {
    // The kernel takes whole pages.
    const N_BYTES: usize = 1;
    let place = ptr::without_provenance_mut::<c_void>(place);
    let (read, write) = (libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE);
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let mapped = |at: *mut c_void| match at {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: the page is the caller's to lose. Each call that succeeds leaves one that is mapped.
    unsafe {
        let protect = checked(libc::mprotect(place, N_BYTES, write).into()).map(drop);
        let punch = checked(libc::madvise(place, N_BYTES, libc::MADV_REMOVE).into()).map(drop);
        let over = mapped(libc::mmap(place, N_BYTES, read, anonymous, -1, 0));
        let moved = mapped(libc::mremap(place, N_BYTES, 1 << 20, libc::MREMAP_MAYMOVE));
        [("mprotect", protect), ("madvise", punch), ("mremap", moved), ("mmap", over)]
    }
}

/// Binds to any address and port, and listens.
pub(crate) fn listen(fd: BorrowedFd<'_>) -> io::Result<()> {
    let address = address(SocketAddrV4::new([0, 0, 0, 0].into(), 0));
    // SAFETY: the address lives until the call returns, and has the size that is given.
    let value = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), ADDRESS_BYTES)
    };
    checked(value.into())?;
    // SAFETY: two numbers go in.
    checked(unsafe { libc::listen(fd.as_raw_fd(), 1) }.into()).map(drop)
}

/// Sends with flags to an address.
pub(crate) fn send_to(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    flags: c_int,
    to: SocketAddrV4,
) -> io::Result<()> {
    let address = address(to);
    // SAFETY: address and bytes live until the call returns, and have the sizes that are given.
    let value = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast::<c_void>(),
            bytes.len(),
            flags,
            (&raw const address).cast::<libc::sockaddr>(),
            ADDRESS_BYTES,
        )
    };
    checked(value as c_long).map(drop)
}

/// How many messages one call sends.
#[derive(Clone, Copy)]
pub(crate) enum Messages {
    /// `sendmsg`.
    One,
    /// `sendmmsg`.
    Several,
}

/// Sends a message to an address that stands in the message.
pub(crate) fn send_message(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    messages: Messages,
    to: SocketAddrV4,
) -> io::Result<()> {
    let mut address = address(to);
    let mut part =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(), iov_len: bytes.len() };
    // SAFETY: a message of zeros is one without address, parts and control.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_name = (&raw mut address).cast::<c_void>();
    message.msg_hdr.msg_namelen = ADDRESS_BYTES;
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    // SAFETY: the message and all that it points to live until the call returns; sending reads the
    // bytes and writes none.
    let value = unsafe {
        match messages {
            Messages::One => libc::sendmsg(fd.as_raw_fd(), &raw const message.msg_hdr, 0) as c_long,
            Messages::Several => libc::sendmmsg(fd.as_raw_fd(), &raw mut message, 1, 0).into(),
        }
    };
    checked(value).map(drop)
}

/// Runs `call` on a message of one byte with room for a descriptor.
fn with_control<T>(call: impl FnOnce(&mut libc::msghdr) -> io::Result<T>) -> io::Result<T> {
    let (mut byte, mut control) = (0_u8, Control([0; 24]));
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast::<c_void>(), iov_len: 1 };
    // SAFETY: a message of zeros is one without address, parts and control.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control.0).cast::<c_void>();
    message.msg_controllen = control.0.len() as _;
    call(&mut message)
}

/// Sends a descriptor over a Unix socket.
pub(crate) fn send_descriptor(over: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    with_control(|message| {
        // SAFETY: the control has room for the head of one descriptor and the descriptor, which
        // `CMSG_FIRSTHDR` and `CMSG_DATA` point to; all of it lives until the call returns.
        let value = unsafe {
            let head = libc::CMSG_FIRSTHDR(message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
            ptr::write_unaligned(libc::CMSG_DATA(head).cast::<c_int>(), fd.as_raw_fd());
            libc::sendmsg(over.as_raw_fd(), message, 0)
        };
        checked(value as c_long).map(drop)
    })
}

/// Receives a descriptor over a Unix socket.
pub(crate) fn receive_descriptor(over: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    with_control(|message| {
        // SAFETY: all that the message points to lives until the call returns, with the sizes that
        // it says.
        let value = unsafe { libc::recvmsg(over.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) };
        checked(value as c_long)?;
        // SAFETY: the kernel has filled the control as far as the message now says; a first head
        // that is there is whole, and one of descriptors has at least one.
        let fd = unsafe {
            let head = libc::CMSG_FIRSTHDR(message);
            if head.is_null() || (*head).cmsg_type != libc::SCM_RIGHTS {
                return Err(io::Error::other("no descriptor came"));
            }
            ptr::read_unaligned(libc::CMSG_DATA(head).cast::<c_int>())
        };
        descriptor(fd.into())
    })
}

/// Takes control of another process, until this one ends.
pub(crate) fn seize(pid: c_int) -> io::Result<()> {
    let none = ptr::null_mut::<c_void>();
    // SAFETY: seizing reads and writes no memory of this process.
    checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) }).map(drop)
}

/// Writes into another process's memory.
pub(crate) fn write_memory(pid: c_int, place: usize, bytes: &[u8]) -> io::Result<()> {
    let here =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(), iov_len: bytes.len() };
    let there = libc::iovec {
        iov_base: ptr::without_provenance_mut::<c_void>(place),
        iov_len: bytes.len(),
    };
    // SAFETY: of this process it reads the bytes, which live until the call returns. What is
    // written there is the other process's, which offers the place for that.
    let value = unsafe { libc::process_vm_writev(pid, &raw const here, 1, &raw const there, 1, 0) };
    checked(value as c_long).map(drop)
}

/// A copy of a descriptor of another process.
pub(crate) fn take_descriptor(pid: c_int, fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: numbers go in, a descriptor comes out.
    let process = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as before.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
}

/// Enters the namespace that an open file stands for.
pub(crate) fn enter_namespace(of: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: two numbers go in.
    checked(unsafe { libc::setns(of.as_raw_fd(), 0) }.into()).map(drop)
}

/// Makes namespaces of this process's own.
pub(crate) fn leave_namespaces(flags: c_int) -> io::Result<()> {
    // SAFETY: a number goes in; descriptors and memory stay as they are.
    checked(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// A ring over which the kernel takes orders.
pub(crate) fn ring() -> io::Result<OwnedFd> {
    // `struct io_uring_params` (linux/io_uring.h), 120 bytes, which the kernel fills.
    let mut parameters = [0_u64; 15];
    // SAFETY: the parameters live until the call returns, and have the size that the kernel fills.
    descriptor(unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) })
}

/// Makes a call with numbers alone.
///
/// # Safety
/// The call must touch no memory of this process when it is given these.
pub(crate) unsafe fn call(number: c_long, args: [c_long; 5]) -> io::Result<c_long> {
    let [a, b, c, d, e] = args;
    // SAFETY: the caller vouches for the call.
    checked(unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// A socket by the x32 table's number.
#[cfg(target_arch = "x86_64")]
pub(crate) fn socket_x32() -> io::Result<OwnedFd> {
    const X32: c_long = 0x4000_0000;
    // SAFETY: three numbers go in.
    let fd = unsafe { libc::syscall(X32 + libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0) };
    descriptor(fd)
}

/// A socket by the i386 table, as a program of 32 bits makes it. Kernels without that table end
/// the process.
#[cfg(target_arch = "x86_64")]
pub(crate) fn socket_i386() -> io::Result<OwnedFd> {
    // Of arch/x86/entry/syscalls/syscall_32.tbl.
    const SOCKET: u64 = 359;
    let result: u64;
    // SAFETY: numbers go in by registers, and no memory of this process is touched. The compiler
    // keeps rbx for itself: it is put back. The kernel may clear r8 to r11.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {domain}",
            "int 0x80",
            "xchg rbx, {domain}",
            domain = inout(reg) libc::AF_INET as u64 => _,
            inlateout("rax") SOCKET => result,
            in("rcx") libc::SOCK_STREAM as u64,
            in("rdx") 0_u64,
            in("rsi") 0_u64,
            in("rdi") 0_u64,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    match result as u32 as i32 {
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        fd => descriptor(fd.into()),
    }
}
