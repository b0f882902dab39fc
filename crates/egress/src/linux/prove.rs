//! Both sides of the proof: the process that holds the targets and judges, and a process for each
//! try, so that what one does to itself (a lock, a signal that ends it) is its own.

use std::collections::HashMap;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::judge::{Tried, judge};
use super::targets::Targets;
use super::ways::{Marks, Thread, WAYS, Way};
use crate::{ATTEMPT, Attempt, EgressError};

/// How long one try may take: a resolver of names that says nothing is given up in less.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether one has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Words for whether a try is locked, between the processes.
const LOCKED: &str = "locked";
const UNLOCKED: &str = "unlocked";
/// And for how it went; what was printed beside them is not the try's.
const SAYS: &str = "freehold-egress-attempt: ";
const OUT: &str = "out: ";
const STOPPED: &str = "stopped: ";
const NO_LOCK: &str = "no lock: ";

pub(crate) fn prove(child: &dyn Fn() -> Command) -> Result<Vec<Attempt>, EgressError> {
    let targets = Targets::open()?;
    let both = |way: &'static Way| {
        let unlocked = run(&targets, way, UNLOCKED, child())?;
        let locked = run(&targets, way, LOCKED, child())?;
        Ok(judge(way.name, unlocked, locked))
    };
    WAYS.iter().map(both).collect()
}

/// Has a process try.
fn run(
    targets: &Targets,
    way: &Way,
    lock: &str,
    mut command: Command,
) -> Result<Tried, EgressError> {
    let of = |source| EgressError::Io { doing: "start a process for an attempt", source };
    let stdin = targets.at_hand(way.at_hand).map_err(of)?;
    command.env(ATTEMPT, format!("{}\n{lock}\n{}", way.name, targets.marks()));
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(of)?;
    // It holds what the try has at hand, and would keep its connections open.
    drop(command);
    let ended = wait(&mut child).map_err(of)?;
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // What the try started may still hold it open: its own words are there by now.
        if ended.is_some() {
            stdout.read_to_string(&mut printed).map_err(of)?;
        }
    }
    if let Some(how) = targets.arrived() {
        return Ok(Tried::Out(how));
    }
    let says = printed.lines().find_map(|line| Some(line.split_once(SAYS)?.1));
    match (says, ended) {
        (Some(says), _) => {
            if let Some(how) = says.strip_prefix(OUT) {
                return Ok(Tried::Out(how.to_owned()));
            }
            if let Some(why) = says.strip_prefix(STOPPED) {
                return Ok(Tried::Stopped(why.to_owned()));
            }
            Err(match says.strip_prefix(NO_LOCK) {
                Some(why) => EgressError::NotLocked(why.to_owned()),
                None => EgressError::NoAttempt { way: way.name.to_owned(), why: says.to_owned() },
            })
        }
        (None, None) => Ok(Tried::Stopped("it did not end".to_owned())),
        (None, Some(status)) => match signal(status) {
            Some(signal) => Ok(Tried::Stopped(format!("ended by signal {signal}"))),
            None => {
                let why = format!("it said nothing ({status})");
                Err(EgressError::NoAttempt { way: way.name.to_owned(), why })
            }
        },
    }
}

fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// Waits for a process's end; `None`: it was ended for want of time.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    while began.elapsed() < TRY_TIMEOUT {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL_INTERVAL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Makes the attempt of an order; returns what to print of it.
pub(crate) fn attempt(order: &str) -> String {
    let mut lines = order.lines();
    let (name, lock) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let marks: HashMap<&str, &str> = lines.filter_map(|line| line.split_once('=')).collect();
    let marks = Marks::new(marks, lock == LOCKED);
    let Some(way) = WAYS.iter().find(|way| way.name == name) else {
        return format!("{SAYS}{name:?} is no way that is known");
    };
    match try_one(way, &marks) {
        Ok(Tried::Out(how)) => format!("{SAYS}{OUT}{how}"),
        Ok(Tried::Stopped(why)) => format!("{SAYS}{STOPPED}{why}"),
        Err(error) => format!("{SAYS}{NO_LOCK}{error}"),
    }
}

/// Locks the process if it is to be, and tries from the thread that the way says.
fn try_one(way: &Way, marks: &Marks<'_>) -> Result<Tried, EgressError> {
    let lock = || if marks.is_locked() { crate::lock().map(drop) } else { Ok(()) };
    let ended = |tried: thread::Result<Tried>| {
        tried.unwrap_or_else(|_| Tried::Stopped("its thread panicked".to_owned()))
    };
    match way.thread {
        Thread::Locking => lock().map(|()| way.go(marks)),
        Thread::Later => {
            lock()?;
            thread::scope(|scope| Ok(ended(scope.spawn(|| way.go(marks)).join())))
        }
        Thread::Earlier => thread::scope(|scope| {
            let (go, gone) = mpsc::channel::<()>();
            let earlier = scope.spawn(move || {
                // It goes on whether the lock is in place or not; that is told by its own.
                let _ = gone.recv();
                way.go(marks)
            });
            let locked = lock();
            drop(go);
            let tried = ended(earlier.join());
            locked.map(|()| tried)
        }),
    }
}
