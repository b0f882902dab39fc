//! What an attempt shows, from what happened with the lock and without it.

use crate::{Attempt, Outcome};

/// How one try went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It is out: how that is known.
    Out(String),
    /// It was stopped: by what.
    Stopped(String),
}

/// What both tries together show.
pub(crate) fn judge(way: &'static str, unlocked: Tried, locked: Tried) -> Attempt {
    let (outcome, evidence) = match (unlocked, locked) {
        (_, Tried::Out(how)) => (Outcome::GotOut, how),
        (Tried::Out(how), Tried::Stopped(why)) => {
            (Outcome::Refused, format!("{why} (without the lock: {how})"))
        }
        (Tried::Stopped(why), Tried::Stopped(_)) => {
            (Outcome::NotTestable, format!("without the lock too: {why}"))
        }
    };
    Attempt { way, outcome, evidence }
}

/// What both tries show of a way that is to be open.
pub(crate) fn judge_meant(way: &'static str, unlocked: Tried, locked: Tried) -> Attempt {
    let (outcome, evidence) = match (unlocked, locked) {
        (Tried::Out(_), Tried::Out(how)) => (Outcome::Allowed, how),
        (Tried::Out(_), Tried::Stopped(why)) => {
            (Outcome::NotTestable, format!("locked it is closed, and should not be: {why}"))
        }
        (Tried::Stopped(why), _) => {
            (Outcome::NotTestable, format!("without the lock it is closed: {why}"))
        }
    };
    Attempt { way, outcome, evidence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_works_without_the_lock_shows_something() {
        let out = || Tried::Out("out".to_owned());
        let stopped = || Tried::Stopped("EPERM".to_owned());
        let check = |unlocked, locked, outcome, evidence: &str| {
            let attempt = judge("way", unlocked, locked);
            assert_eq!((attempt.outcome, &*attempt.evidence), (outcome, evidence));
        };
        check(out(), stopped(), Outcome::Refused, "EPERM (without the lock: out)");
        check(out(), out(), Outcome::GotOut, "out");
        check(stopped(), out(), Outcome::GotOut, "out");
        check(stopped(), stopped(), Outcome::NotTestable, "without the lock too: EPERM");
    }

    #[test]
    fn what_is_meant_to_be_open_is_allowed() {
        let out = || Tried::Out("out".to_owned());
        let stopped = || Tried::Stopped("EPERM".to_owned());
        let check = |unlocked, locked, outcome| {
            assert_eq!(judge_meant("way", unlocked, locked).outcome, outcome);
        };
        check(out(), out(), Outcome::Allowed);
        check(out(), stopped(), Outcome::NotTestable);
        check(stopped(), stopped(), Outcome::NotTestable);
    }
}
