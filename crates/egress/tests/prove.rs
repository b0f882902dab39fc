//! The proof itself: nothing gets out of a locked process, and without the lock most of it does.

// Helpers of tests are tests, and the attempts print what they have found.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::process::Command;

use freehold_egress::{Attempt, EgressError, LANDLOCKS, Outcome, guards_files};

/// Not a test where nobody asks for an attempt: the process that makes one.
#[test]
fn an_attempt() {
    if let Some(line) = freehold_egress::attempt() {
        println!("{line}");
    }
}

fn child() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["an_attempt", "--exact", "--nocapture"]);
    command
}

/// The attempts; `None` where this system cannot lock, which is told.
fn proved(attempts: Result<Vec<Attempt>, EgressError>) -> Option<Vec<Attempt>> {
    match attempts {
        Ok(attempts) => Some(attempts),
        Err(error @ (EgressError::NoSystem { .. } | EgressError::NotLocked(_))) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nothing_gets_out_of_a_gate_but_to_its_address() {
    let Some(attempts) = proved(freehold_egress::prove_gate(&child)) else { return };
    let of = |outcome| attempts.iter().filter(move |attempt| attempt.outcome == outcome);
    let allowed: Vec<&str> = of(Outcome::Allowed).map(|attempt| attempt.way).collect();
    assert_eq!(allowed, ["the listed address"], "{attempts:#?}");
    // Only a kernel that seals memory holds the address; one with Landlock's ABI 4 the port.
    let only_seals =
        ["the listed port of another address", "another address in the place of the listed one"];
    let seals = of(Outcome::Refused).any(|attempt| attempt.way == only_seals[1]);
    let may_be_open = |out: &&Attempt| {
        (!guards_files() && LANDLOCKS.contains(&out.way)) || (!seals && only_seals[0] == out.way)
    };
    let out: Vec<&Attempt> = of(Outcome::GotOut).filter(|out| !may_be_open(out)).collect();
    assert_eq!(out, Vec::<&Attempt>::new());
    for way in ["the listed address, by UDP", "UDP", "netlink", "another program"] {
        assert!(of(Outcome::Refused).any(|attempt| attempt.way == way), "{way}: {attempts:#?}");
    }
}

#[test]
fn nothing_gets_out() {
    let Some(attempts) = proved(freehold_egress::prove(&child)) else { return };
    let of = |outcome| attempts.iter().filter(move |attempt| attempt.outcome == outcome);
    let may_be_open = |out: &&Attempt| !guards_files() && LANDLOCKS.contains(&out.way);
    let out: Vec<&Attempt> = of(Outcome::GotOut).filter(|out| !may_be_open(out)).collect();
    assert_eq!(out, Vec::<&Attempt>::new());
    assert!(LANDLOCKS.iter().all(|name| attempts.iter().any(|attempt| attempt.way == *name)));
    // What any user of any machine may do without the lock.
    for way in [
        "TCP over IPv4",
        "TCP, from a thread that was there before",
        "TCP, from a thread that came later",
        "UDP",
        "a TCP socket at hand: connect",
        "a UDP socket at hand: sendmsg",
        "a connected socket in a message",
        "a socket that was inherited",
        "Unix socket by path",
        "netlink",
        "any other family of sockets",
        "another program",
    ] {
        assert!(of(Outcome::Refused).any(|attempt| attempt.way == way), "{way}: {attempts:#?}");
    }
}
