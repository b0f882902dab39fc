//! Why a request to an upstream failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// A connection, with its keys.
    Connection,
    /// The head of the answer.
    FirstByte,
    /// More of the answer.
    NextByte,
    /// The end of the answer, by the request's deadline.
    Deadline,
}

impl Waiting {
    fn words(self) -> &'static str {
        match self {
            Self::Connection => "a connection",
            Self::FirstByte => "the first byte of the answer",
            Self::NextByte => "more of the answer",
            Self::Deadline => "the end of the answer",
        }
    }
}

/// Why there is no answer from an upstream, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum BrokerError {
    /// No upstream has this name.
    #[error("upstream {upstream:?}: none has this name, expected one of {known}")]
    UnknownUpstream {
        /// The name that was asked for.
        upstream: String,
        /// Those that there are.
        known: String,
    },
    /// The ledger has no departure that this request could leave by.
    #[error("departure {departure:?}: {why}")]
    NoDeparture {
        /// The id that was given.
        departure: String,
        /// What is wrong with it.
        why: String,
    },
    /// The request is not one that the broker sends.
    #[error("upstream {upstream:?}: {why}")]
    Invalid {
        /// The upstream that was asked for.
        upstream: String,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// As much is on its way as may be at once.
    #[error("upstream {upstream:?}: {why}")]
    Busy {
        /// The upstream that was asked for.
        upstream: String,
        /// What is full.
        why: String,
    },
    /// Every address failed so often that none is asked for now.
    #[error(
        "upstream {upstream:?}: every address failed of late, asked again in {retry_after_s} s"
    )]
    CircuitOpen {
        /// The upstream.
        upstream: String,
        /// Seconds until one is tried again.
        retry_after_s: u64,
    },
    /// No address could be reached, or none answered.
    #[error("upstream {upstream:?}: {why}")]
    Unreachable {
        /// The upstream.
        upstream: String,
        /// The address that was tried last, and why it failed.
        why: String,
        /// Whether the request, or part of it, had been sent.
        is_sent: bool,
    },
    /// It took too long.
    #[error("upstream {upstream:?}: waited {after_ms} ms for {}", waiting.words())]
    TimedOut {
        /// The upstream.
        upstream: String,
        /// For what.
        waiting: Waiting,
        /// For how long.
        after_ms: u64,
    },
    /// The upstream answered with another status than 2xx.
    #[error("upstream {upstream:?} at {address}: status {status}")]
    Refused {
        /// The upstream.
        upstream: String,
        /// Which of its addresses.
        address: String,
        /// The status of the last attempt.
        status: u16,
        /// Seconds after which it may be asked again, as it says.
        retry_after_s: Option<u64>,
        /// The beginning of what it said, at most 16 KiB. It may quote the request.
        body: String,
        /// How often it was asked.
        attempts: u32,
    },
    /// The answer broke off.
    #[error(
        "upstream {upstream:?} at {address}: the answer broke off after {n_bytes} bytes: {why}"
    )]
    Cut {
        /// The upstream.
        upstream: String,
        /// Which of its addresses.
        address: String,
        /// Bytes of the answer's body that had come.
        n_bytes: u64,
        /// What happened.
        why: String,
    },
    /// The broker has ended while the request was with it.
    #[error("the broker has ended ({why})")]
    Gone {
        /// What is known of it.
        why: String,
    },
    /// There is no broker that could be asked.
    #[error("the broker has ended ({why}): {}", spare_words(*.has_spare))]
    Away {
        /// What is known of its end.
        why: String,
        /// Whether another one takes its place, within a second or two.
        has_spare: bool,
    },
}

fn spare_words(has_spare: bool) -> &'static str {
    match has_spare {
        true => "another takes its place",
        false => "no upstream can be reached until the server restarts",
    }
}

impl BrokerError {
    /// Whether nothing of the request has left this machine.
    pub fn nothing_left(&self) -> bool {
        match self {
            Self::UnknownUpstream { .. }
            | Self::NoDeparture { .. }
            | Self::Invalid { .. }
            | Self::Busy { .. }
            | Self::CircuitOpen { .. }
            | Self::Away { .. } => true,
            Self::Unreachable { is_sent, .. } => !is_sent,
            Self::TimedOut { waiting, .. } => *waiting == Waiting::Connection,
            // With a broker that ended nobody knows.
            Self::Refused { .. } | Self::Cut { .. } | Self::Gone { .. } => false,
        }
    }

    /// When it may be worth to ask again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after_s, .. } => Some(Duration::from_secs(*retry_after_s)),
            Self::Refused { retry_after_s, .. } => retry_after_s.map(Duration::from_secs),
            Self::Away { has_spare: true, .. } => Some(Duration::from_secs(2)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_whether_something_left() {
        let upstream = || "one".to_owned();
        let timed_out =
            |waiting| BrokerError::TimedOut { upstream: upstream(), waiting, after_ms: 1 };
        assert!(timed_out(Waiting::Connection).nothing_left());
        assert!(!timed_out(Waiting::FirstByte).nothing_left());
        let unreachable = |is_sent| BrokerError::Unreachable {
            upstream: upstream(),
            why: String::new(),
            is_sent,
        };
        assert!(unreachable(false).nothing_left() && !unreachable(true).nothing_left());
        assert!(!BrokerError::Gone { why: String::new() }.nothing_left());
        let away = |has_spare| BrokerError::Away { why: String::new(), has_spare };
        assert!(away(true).nothing_left() && away(true).retry_after().is_some());
        assert!(away(false).retry_after().is_none());
    }
}
