//! Both sides of the proof: the process that holds the targets and judges, and a process for each
//! try, so that what one does to itself (a lock, a signal that ends it) is its own.

use std::collections::HashMap;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::judge::{Tried, judge, judge_meant};
use super::targets::Targets;
use super::ways::{GATE_WAYS, Lock, Marks, Thread, WAYS, Way};
use crate::{ATTEMPT, Attempt, EgressError};

/// How long one try may take: a resolver of names that says nothing is given up in less.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether one has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// One proof at a time: its targets are this process's.
static PROVING: Mutex<()> = Mutex::new(());

/// Words for how a try is locked, between the processes.
const LOCKS: [(&str, Lock); 3] =
    [("unlocked", Lock::None), ("locked", Lock::Whole), ("gated", Lock::Gate)];
/// And for how it went; what was printed beside them is not the try's.
const SAYS: &str = "freehold-egress-attempt: ";
const OUT: &str = "out: ";
const STOPPED: &str = "stopped: ";
const NO_LOCK: &str = "no lock: ";

pub(crate) fn prove(child: &dyn Fn() -> Command) -> Result<Vec<Attempt>, EgressError> {
    let _one = PROVING.lock().unwrap_or_else(PoisonError::into_inner);
    let targets = Targets::open()?;
    WAYS.iter().map(|way| both(&targets, way, Lock::Whole, child)).collect()
}

pub(crate) fn prove_gate(child: &dyn Fn() -> Command) -> Result<Vec<Attempt>, EgressError> {
    let _one = PROVING.lock().unwrap_or_else(PoisonError::into_inner);
    let targets = Targets::open()?;
    let ways = GATE_WAYS.iter().chain(WAYS);
    ways.map(|way| both(&targets, way, Lock::Gate, child)).collect()
}

/// Has a way tried without a lock and with it.
fn both(
    targets: &Targets,
    way: &'static Way,
    lock: Lock,
    child: &dyn Fn() -> Command,
) -> Result<Attempt, EgressError> {
    let unlocked = run(targets, way, Lock::None, child())?;
    let locked = run(targets, way, lock, child())?;
    let judge = if way.is_meant { judge_meant } else { judge };
    Ok(judge(way.name, unlocked, locked))
}

/// Has a process try.
fn run(
    targets: &Targets,
    way: &Way,
    lock: Lock,
    mut command: Command,
) -> Result<Tried, EgressError> {
    let of = |source| EgressError::Io { doing: "start a process for an attempt", source };
    let stdin = targets.at_hand(way.at_hand).map_err(of)?;
    let word = LOCKS.iter().find(|(_, of)| *of == lock).map_or("", |(word, _)| word);
    command.env(ATTEMPT, format!("{}\n{word}\n{}", way.name, targets.marks()));
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
    let (name, word) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let marks: HashMap<&str, &str> = lines.filter_map(|line| line.split_once('=')).collect();
    let Some((_, lock)) = LOCKS.iter().find(|(of, _)| *of == word) else {
        return format!("{SAYS}{word:?} is no lock that is known");
    };
    let marks = Marks::new(marks, *lock);
    let Some(way) = GATE_WAYS.iter().chain(WAYS).find(|way| way.name == name) else {
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
    let lock = || marks.lock();
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
