//! The filter of system calls (seccomp), which the kernel asks before each call of any thread.
//!
//! It lists what is refused, not what is allowed: what computing and the C library call differs
//! from version to version. What a later kernel adds does not exist here, as on a kernel that is
//! older: calls behind [`LAST_KNOWN`] fail with `ENOSYS`. So do calls of other tables of the same
//! kernel (i386, x32), by another number or another architecture, with `EPERM`.
//!
//! A filter sees numbers. What lies behind a pointer, such as the address in a message, it cannot
//! read, so those calls are refused whole. A process with a [`Gate`](super::gate::Gate) may make
//! sockets of TCP, and connect them to what lies behind the gate's pointers.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use super::gate::SLOT_BYTES;
use crate::EgressError;

/// `AUDIT_ARCH_…` of this processor's own table of calls (linux/audit.h), and the filter's word.
#[cfg(target_arch = "x86_64")]
const ARCH: (u32, TargetArch) = (0xc000_003e, TargetArch::x86_64);
#[cfg(target_arch = "aarch64")]
const ARCH: (u32, TargetArch) = (0xc000_00b7, TargetArch::aarch64);

/// The last call that was looked at: `file_setattr` of Linux 6.17. The number is the same on all
/// processors.
const LAST_KNOWN: c_long = 469;
/// From here on numbers are of the x32 table.
const X32: u32 = 0x4000_0000;
/// Calls that the C library's bindings have no name for yet.
const SYS_OPEN_TREE_ATTR: c_long = 467;

/// Refused whatever they ask for.
const REFUSED: &[&[c_long]] = &[
    // New connections. Messages carry addresses and descriptors behind a pointer.
    &[
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
    ],
    // A ring makes calls that no filter sees.
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register],
    // Other programs, which would reach out instead.
    &[libc::SYS_execve, libc::SYS_execveat],
    // Other processes' memory and descriptors.
    &[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
    ],
    // Other processes' queues and shared memory.
    &[
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_mq_open,
        libc::SYS_mq_timedsend,
        libc::SYS_mq_timedreceive,
    ],
    // Other networks and other views of files.
    &[
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
        libc::SYS_open_by_handle_at,
        SYS_OPEN_TREE_ATTR,
    ],
    // The kernel itself, which could be told to send, or to run what sends.
    &[
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
    ],
    PROCESSORS_OWN,
];

/// Refused calls that only this processor has: its ports.
#[cfg(target_arch = "x86_64")]
const PROCESSORS_OWN: &[c_long] = &[libc::SYS_iopl, libc::SYS_ioperm];
#[cfg(target_arch = "aarch64")]
const PROCESSORS_OWN: &[c_long] = &[];

/// Flags of `clone` that make namespaces. Those of `clone3` lie behind a pointer.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Requests of `ioctl`: keys pressed in the terminal of others (`TIOCSTI`, `TIOCLINUX`), and a
/// network device of one's own (`TUNSETIFF`).
const DEVICE_REQUESTS: [u64; 3] = [0x5412, 0x541c, 0x4004_54ca];
/// Requests of `ioctl` of this kind (linux/sockios.h) set up devices, routes and bridges on any
/// socket. Where it stands in a request, and the kind.
const SOCKET_REQUESTS: (u64, u64) = (0xff00, 0x8900);

/// To what a process may still connect.
#[derive(Debug, Clone)]
pub(crate) enum Connect {
    /// To nothing.
    Nothing,
    /// By TCP, to the addresses behind these pointers.
    Pointers(Range<u64>),
    /// By TCP, as far as the filter goes.
    Anything,
}

/// Has the kernel ask the filter for every call of every thread, from now on.
///
/// # Errors
/// The kernel does not take it.
pub(crate) fn install(connect: &Connect) -> Result<(), EgressError> {
    let program = program(connect).map_err(|error| EgressError::NoFilter(error.to_string()))?;
    // Kernels before 5.16 make processes with a filter compute without speculating on stores,
    // unless they are told that these run nobody else's code. Those before 4.17 know no such flag.
    let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
    let set = match set(&program, all | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set(&program, all),
        set => set,
    };
    set.map_err(|error| EgressError::NoFilter(error.to_string()))
}

/// Hands the kernel the program, for all threads or for none.
fn set(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: numbers go in. It keeps what is started from gaining rights, without which only root
    // may set a filter.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = program.as_ptr().cast_mut().cast::<libc::sock_filter>();
    let program = libc::sock_fprog { len, filter };
    // SAFETY: the kernel copies `len` steps, which live until the call returns, and writes none.
    // Both crates' steps are the kernel's `struct sock_filter`.
    let result = unsafe {
        let operation = libc::SECCOMP_SET_MODE_FILTER;
        libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program)
    };
    match result {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

/// The filter in the kernel's language (classic BPF).
fn program(connect: &Connect) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().copied().flatten().map(|number| (*number, Vec::new())).collect();
    rules.extend(conditional()?);
    match connect {
        Connect::Nothing => {}
        Connect::Pointers(pointers) => {
            rules.insert(libc::SYS_socket, no_socket_but_tcp()?);
            rules.insert(libc::SYS_connect, no_pointer_but(pointers)?);
        }
        Connect::Anything => {
            rules.insert(libc::SYS_socket, no_socket_but_tcp()?);
            rules.remove(&libc::SYS_connect);
        }
    }
    let eperm = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, ARCH.1)?;
    let listed: BpfProgram = filter.try_into()?;
    let mut program = before();
    program.extend(listed);
    Ok(program)
}

/// A rule, which holds where all of its conditions do: of an argument by its number.
fn rule(conditions: &[(u8, Width, Is, u64)]) -> Result<SeccompRule, BackendError> {
    let condition = |(index, width, is, value): &(u8, Width, Is, u64)| {
        SeccompCondition::new(*index, width.clone(), is.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

/// The condition that an argument has a flag.
fn has(index: u8, flag: u64) -> (u8, Width, Is, u64) {
    (index, Width::Qword, Is::MaskedEq(flag), flag)
}

fn number(value: i32) -> u64 {
    value as u64
}

/// `socket` is refused but for TCP over IP. The kind is in the lowest bits, and a stream's is 1;
/// flags stand above.
fn no_socket_but_tcp() -> Result<Vec<SeccompRule>, BackendError> {
    let is_not = |index, value| (index, Width::Dword, Is::Ne, number(value));
    let mut rules = vec![
        rule(&[is_not(0, libc::AF_INET), is_not(0, libc::AF_INET6)])?,
        rule(&[is_not(2, 0), is_not(2, libc::IPPROTO_TCP)])?,
    ];
    for bit in [2, 4, 8] {
        rules.push(rule(&[(1, Width::Dword, Is::MaskedEq(bit), bit)])?);
    }
    Ok(rules)
}

/// `connect` is refused but for pointers in the range, at multiples of a slot.
fn no_pointer_but(pointers: &Range<u64>) -> Result<Vec<SeccompRule>, BackendError> {
    let mut rules = vec![
        rule(&[(1, Width::Qword, Is::Lt, pointers.start)])?,
        rule(&[(1, Width::Qword, Is::Ge, pointers.end)])?,
    ];
    let mut bit = 1;
    while bit < SLOT_BYTES as u64 {
        rules.push(rule(&[has(1, bit)])?);
        bit *= 2;
    }
    Ok(rules)
}

/// Calls that are refused where one of their rules holds.
fn conditional() -> Result<Vec<(i64, Vec<SeccompRule>)>, BackendError> {
    // To an address, be it that of a connection that is not there yet.
    let sendto =
        vec![rule(&[(4, Width::Qword, Is::Ne, 0)])?, rule(&[has(3, number(libc::MSG_FASTOPEN))])?];
    // Both ends are this process's, where they are of the one family that has no network.
    let socketpair = vec![rule(&[(0, Width::Dword, Is::Ne, number(libc::AF_UNIX))])?];
    // Those of IP can send an answer by way of somebody else (source routes).
    let setsockopt = vec![rule(&[
        (1, Width::Dword, Is::Ne, number(libc::SOL_SOCKET)),
        (1, Width::Dword, Is::Ne, number(libc::IPPROTO_TCP)),
    ])?];
    let clone = NAMESPACES.iter().map(|flag| rule(&[has(0, number(*flag))]));
    let ioctl = DEVICE_REQUESTS.iter().map(|request| rule(&[(1, Width::Dword, Is::Eq, *request)]));
    let (mask, kind) = SOCKET_REQUESTS;
    let of_sockets = rule(&[(1, Width::Dword, Is::MaskedEq(mask), kind)]);
    Ok(vec![
        (libc::SYS_sendto, sendto),
        (libc::SYS_socketpair, socketpair),
        (libc::SYS_setsockopt, setsockopt),
        (libc::SYS_clone, clone.collect::<Result<_, _>>()?),
        (libc::SYS_ioctl, ioctl.chain([of_sockets]).collect::<Result<_, _>>()?),
    ])
}

/// What comes before the list, which knows single numbers of one table: other tables are refused,
/// and calls that are not to exist say so, upon which the C library does without them.
fn before() -> BpfProgram {
    // linux/bpf_common.h: load a word of the call's data, jump, return.
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_GREATER: u16 = 0x25;
    const IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    // `struct seccomp_data` (linux/seccomp.h): where the number stands, and the architecture.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    let step = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let jump = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let refuse = |errno: i32| step(RETURN, u32::from(SeccompAction::Errno(errno as u32)));
    vec![
        step(LOAD, ARCHITECTURE),
        jump(IF_EQUAL, ARCH.0, 1, 0),
        refuse(libc::EPERM),
        step(LOAD, NUMBER),
        jump(IF_AT_LEAST, X32, 0, 1),
        refuse(libc::EPERM),
        jump(IF_EQUAL, libc::SYS_clone3 as u32, 1, 0),
        jump(IF_GREATER, LAST_KNOWN as u32, 0, 1),
        refuse(libc::ENOSYS),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;

    /// What the program says of a call: the slow twin of what the kernel does with it.
    fn decide(program: &[sock_filter], arch: u32, number: i64, args: [u64; 6]) -> u32 {
        let mut data = vec![number as u32, arch, 0, 0];
        data.extend(args.iter().flat_map(|arg| [*arg as u32, (*arg >> 32) as u32]));
        let (mut next, mut word) = (0, 0);
        loop {
            let step = &program[next];
            next += 1;
            let taken = match step.code {
                0x06 => return step.k,
                0x20 => {
                    word = data[step.k as usize / 4];
                    continue;
                }
                0x54 => {
                    word &= step.k;
                    continue;
                }
                0x05 => {
                    next += step.k as usize;
                    continue;
                }
                0x15 => word == step.k,
                0x25 => word > step.k,
                0x35 => word >= step.k,
                code => panic!("{code:#x}: not a step of such a filter"),
            };
            next += usize::from(if taken { step.jt } else { step.jf });
        }
    }

    fn check(number: i64, args: [u64; 6], expected: u32) {
        check_of(&Connect::Nothing, number, args, expected);
    }

    fn check_of(connect: &Connect, number: i64, args: [u64; 6], expected: u32) {
        let found = decide(&program(connect).unwrap(), ARCH.0, number, args);
        assert_eq!(found, expected, "{connect:?}: call {number} with {args:?}");
    }

    #[test]
    fn a_gate_lets_tcp_through_to_its_pointers_alone() {
        let gate = Connect::Pointers(0x7fff_0001_0000..0x7fff_0001_0060);
        let open = Connect::Anything;
        let [stream, datagram] = [libc::SOCK_STREAM as u64, libc::SOCK_DGRAM as u64];
        let flags = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64;
        let [v4, v6] = [libc::AF_INET as u64, libc::AF_INET6 as u64];
        for connect in [&gate, &open] {
            let socket = |args: [u64; 3], expected| {
                let args = [args[0], args[1], args[2], 0, 0, 0];
                check_of(connect, libc::SYS_socket, args, expected);
            };
            socket([v4, stream | flags, 0], ALLOWED);
            socket([v6, stream, libc::IPPROTO_TCP as u64], ALLOWED);
            socket([v4, datagram | flags, 0], EPERM);
            socket([v4, libc::SOCK_RAW as u64, 0], EPERM);
            socket([v4, libc::SOCK_SEQPACKET as u64, 0], EPERM);
            socket([v4, stream, libc::IPPROTO_MPTCP as u64], EPERM);
            socket([libc::AF_UNIX as u64, stream, 0], EPERM);
            socket([libc::AF_NETLINK as u64, stream, 0], EPERM);
            for number in REFUSED.iter().copied().flatten() {
                if ![libc::SYS_socket, libc::SYS_connect].contains(number) {
                    check_of(connect, *number, [0; 6], EPERM);
                }
            }
        }
        let connect = |pointer, expected| {
            check_of(&gate, libc::SYS_connect, [3, pointer, 16, 0, 0, 0], expected);
        };
        connect(0x7fff_0001_0000, ALLOWED);
        connect(0x7fff_0001_0040, ALLOWED);
        for wrong in [0, 0x7fff_0000_ffe0, 0x7fff_0001_0060, 0x0001_0020, 0x1_7fff_0001_0020] {
            connect(wrong, EPERM);
        }
        for offset in 1..32 {
            connect(0x7fff_0001_0020 + offset, EPERM);
        }
        check_of(&open, libc::SYS_connect, [3, 1, 16, 0, 0, 0], ALLOWED);
        let empty = Connect::Pointers(0x7fff_0001_0000..0x7fff_0001_0000);
        check_of(&empty, libc::SYS_connect, [3, 0x7fff_0001_0000, 16, 0, 0, 0], EPERM);
    }

    const EPERM: u32 = ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

    #[test]
    fn what_opens_a_connection_is_refused_and_what_serves_one_is_not() {
        for number in REFUSED.iter().copied().flatten() {
            check(*number, [0; 6], EPERM);
        }
        for number in [
            libc::SYS_accept4,
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_recvfrom,
            libc::SYS_shutdown,
            libc::SYS_getsockopt,
            libc::SYS_openat,
            libc::SYS_mmap,
            libc::SYS_epoll_pwait,
            libc::SYS_futex,
            libc::SYS_renameat2,
            LAST_KNOWN,
        ] {
            check(number, [0; 6], ALLOWED);
        }
        check(libc::SYS_clone3, [0; 6], ENOSYS);
        check(LAST_KNOWN + 1, [0; 6], ENOSYS);
    }

    #[test]
    fn some_calls_are_refused_for_what_they_ask() {
        let arg = |index: usize, value: u64| {
            let mut args = [0; 6];
            args[index] = value;
            args
        };
        check(libc::SYS_sendto, [0; 6], ALLOWED);
        check(libc::SYS_sendto, arg(3, libc::MSG_NOSIGNAL as u64), ALLOWED);
        check(libc::SYS_sendto, arg(3, libc::MSG_FASTOPEN as u64), EPERM);
        // A pointer of which one half is zero is one.
        check(libc::SYS_sendto, arg(4, 1 << 32), EPERM);
        check(libc::SYS_sendto, arg(4, 16), EPERM);
        check(libc::SYS_socketpair, arg(0, libc::AF_UNIX as u64), ALLOWED);
        check(libc::SYS_socketpair, arg(0, libc::AF_INET as u64), EPERM);
        check(libc::SYS_setsockopt, arg(1, libc::SOL_SOCKET as u64), ALLOWED);
        check(libc::SYS_setsockopt, arg(1, libc::IPPROTO_TCP as u64), ALLOWED);
        check(libc::SYS_setsockopt, arg(1, libc::IPPROTO_IP as u64), EPERM);
        check(libc::SYS_setsockopt, arg(1, libc::IPPROTO_IPV6 as u64), EPERM);
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_FS;
        check(libc::SYS_clone, arg(0, thread as u64), ALLOWED);
        check(libc::SYS_clone, arg(0, libc::CLONE_NEWUSER as u64), EPERM);
        check(libc::SYS_clone, arg(0, (thread | libc::CLONE_NEWNET) as u64), EPERM);
        check(libc::SYS_ioctl, arg(1, libc::FIONBIO), ALLOWED);
        // What waits to be read, and a route and an address (`SIOCADDRT`, `SIOCSIFADDR`).
        check(libc::SYS_ioctl, arg(1, libc::FIONREAD), ALLOWED);
        check(libc::SYS_ioctl, arg(1, 0x890b), EPERM);
        check(libc::SYS_ioctl, arg(1, 0x8916 | 1 << 32), EPERM);
        for request in DEVICE_REQUESTS {
            check(libc::SYS_ioctl, arg(1, request), EPERM);
            // The kernel looks at the lower half only.
            check(libc::SYS_ioctl, arg(1, request | 1 << 32), EPERM);
        }
    }

    #[test]
    fn other_tables_of_calls_are_refused_whole() {
        let program = program(&Connect::Nothing).unwrap();
        // i386, ARM, and 0, which is none.
        for arch in [0x4000_0003, 0x4000_0028, 0] {
            assert_eq!(decide(&program, arch, libc::SYS_read, [0; 6]), EPERM, "{arch:#x}");
        }
        for number in [i64::from(X32), i64::from(X32) + libc::SYS_connect, 0xffff_ffff] {
            assert_eq!(decide(&program, ARCH.0, number, [0; 6]), EPERM, "{number:#x}");
        }
    }
}
