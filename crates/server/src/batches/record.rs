//! What is known of a file and of a batch, as it is kept on disk, and the states that a batch goes
//! through. Pure: it knows no disk and no clock.
//!
//! ```text
//! validating ─▶ in_progress ─▶ finalizing ─▶ completed | expired | failed
//!     │  └─▶ failed   └────────▶ cancelling ─▶ cancelled
//!     └────────────────────────────┘
//! ```

use super::input::Problem;
use crate::access::Asker;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Its lines are requests.
    Batch,
    /// Its lines are answers.
    BatchOutput,
}

impl Purpose {
    /// All of them, as they are on the wire.
    pub(crate) const WORDS: &[&str] = &["batch", "batch_output"];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::BatchOutput => "batch_output",
        }
    }
}

/// A file that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) client: u64,
    pub(crate) purpose: Purpose,
    /// As whoever sent it calls it.
    pub(crate) name: String,
    pub(crate) n_bytes: u64,
    /// Unix seconds.
    pub(crate) created_at: u64,
}

/// The routes that answer lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Endpoint {
    #[serde(rename = "/v1/chat/completions")]
    Chat,
    #[serde(rename = "/v1/completions")]
    Completions,
    #[serde(rename = "/v1/embeddings")]
    Embeddings,
    #[serde(rename = "/v1/responses")]
    Responses,
}

impl Endpoint {
    const ALL: [Self; 4] = [Self::Chat, Self::Completions, Self::Embeddings, Self::Responses];
    /// Their paths.
    pub(crate) const PATHS: &[&str] =
        &["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
        }
    }

    pub(crate) fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

/// What a batch is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Its input is being checked.
    Validating,
    /// Its lines are being answered.
    InProgress,
    /// What came of it is becoming files.
    Finalizing,
    /// The same, of one that its client wants no more.
    Cancelling,
    Completed,
    /// Its time was over.
    Expired,
    Cancelled,
    /// Nothing could come of it, or nothing more.
    Failed,
}

/// How many of its lines became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

/// When it became what, in Unix seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) created: u64,
    pub(crate) expires: u64,
    pub(crate) in_progress: Option<u64>,
    pub(crate) finalizing: Option<u64>,
    pub(crate) completed: Option<u64>,
    pub(crate) failed: Option<u64>,
    pub(crate) expired: Option<u64>,
    pub(crate) cancelling: Option<u64>,
    pub(crate) cancelled: Option<u64>,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) endpoint: Endpoint,
    pub(crate) input: String,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Who asks.
    pub(crate) by: Asker,
    /// The label that its lines claim, by its name.
    pub(crate) label: Option<String>,
}

impl Ask {
    /// One that says no more, of anybody.
    pub(crate) fn new(endpoint: Endpoint, input: String) -> Self {
        let (metadata, by, label) = Default::default();
        Self { endpoint, input, metadata, by, label }
    }
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) client: u64,
    /// As whom its lines are asked.
    #[serde(default)]
    pub(crate) by: Asker,
    /// The label that they claim, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    pub(crate) endpoint: Endpoint,
    /// The file of its requests.
    pub(crate) input: String,
    /// Those of what came of them: of answers, and of refusals and failures.
    pub(crate) output: String,
    pub(crate) errors: String,
    /// Whether there are such files, which is known at the end.
    pub(crate) has_output: bool,
    pub(crate) has_errors: bool,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) status: Status,
    /// What it ends as, once it is finalizing.
    ends_as: Option<Status>,
    pub(crate) times: Times,
    pub(crate) counts: Counts,
    /// Why it failed.
    pub(crate) problems: Vec<Problem>,
}

impl Batch {
    /// A new one, of a client that has `window` seconds for it.
    pub(crate) fn new(ask: Ask, client: u64, name: &str, now: u64, window: u64) -> Self {
        Self {
            id: format!("batch_{name}"),
            client,
            by: ask.by,
            label: ask.label,
            endpoint: ask.endpoint,
            input: ask.input,
            output: format!("file-{name}-output"),
            errors: format!("file-{name}-errors"),
            has_output: false,
            has_errors: false,
            metadata: ask.metadata,
            status: Status::Validating,
            ends_as: None,
            times: Times { created: now, expires: now + window, ..Times::default() },
            counts: Counts::default(),
            problems: Vec::new(),
        }
    }

    /// Whether nothing more becomes of it.
    pub(crate) fn is_over(&self) -> bool {
        use Status::{Cancelled, Completed, Expired, Failed};
        matches!(self.status, Completed | Expired | Cancelled | Failed)
    }

    /// Whether its files are all there is left to do.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.status, Status::Finalizing | Status::Cancelling)
    }

    /// Its input was checked and has so many requests.
    pub(crate) fn begin(&mut self, n_total: u64, now: u64) {
        if self.status == Status::Validating {
            self.status = Status::InProgress;
            self.counts = Counts { total: n_total, ..Counts::default() };
            self.times.in_progress = Some(now);
        }
    }

    /// Nothing more can come of it.
    pub(crate) fn fail(&mut self, problems: Vec<Problem>, now: u64) {
        match self.status {
            Status::Validating => {
                self.status = Status::Failed;
                self.times.failed = Some(now);
            }
            Status::InProgress => self.finalize(Status::Failed, now),
            _ => return,
        }
        self.problems = problems;
    }

    /// All of its lines were answered, or its time is over.
    pub(crate) fn finalize(&mut self, ends_as: Status, now: u64) {
        if self.status == Status::InProgress {
            self.status = Status::Finalizing;
            self.ends_as = Some(ends_as);
            self.times.finalizing = Some(now);
        }
    }

    /// Its client wants it no more; `false` where it is too late for that.
    pub(crate) fn cancel(&mut self, now: u64) -> bool {
        let is_in_time = matches!(self.status, Status::Validating | Status::InProgress);
        if is_in_time {
            self.status = Status::Cancelling;
            self.times.cancelling = Some(now);
        }
        is_in_time
    }

    /// What came of it is there, as far as anything did.
    pub(crate) fn end(&mut self, has_output: bool, has_errors: bool, counts: Counts, now: u64) {
        self.status = match (self.status, self.ends_as) {
            (Status::Cancelling, _) => Status::Cancelled,
            (Status::Finalizing, Some(ends_as)) => ends_as,
            _ => return,
        };
        let time = match self.status {
            Status::Cancelled => &mut self.times.cancelled,
            Status::Expired => &mut self.times.expired,
            Status::Failed => &mut self.times.failed,
            _ => &mut self.times.completed,
        };
        *time = Some(now);
        (self.has_output, self.has_errors, self.counts) = (has_output, has_errors, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let ask = Ask {
            by: Asker::Key("abc".to_owned()),
            label: Some("private".to_owned()),
            ..Ask::new(Endpoint::Chat, "file-in".to_owned())
        };
        Batch::new(ask, 1, "a", 100, 86_400)
    }

    /// What a batch is after each of these events, which happen at 101, 102 and so on.
    fn check(events: &[fn(&mut Batch, u64)], expected: Status) -> Batch {
        let mut batch = batch();
        for (event, now) in events.iter().zip(101..) {
            event(&mut batch, now);
            // Nothing of it is lost where it is read again.
            let text = serde_json::to_string(&batch).unwrap();
            assert_eq!(serde_json::from_str::<Batch>(&text).unwrap(), batch);
        }
        assert_eq!(batch.status, expected);
        batch
    }

    #[test]
    fn a_batch_goes_through_its_states_and_stays_in_the_last() {
        let begin: fn(&mut Batch, u64) = |batch, now| batch.begin(3, now);
        let done: fn(&mut Batch, u64) = |batch, now| batch.finalize(Status::Completed, now);
        let late: fn(&mut Batch, u64) = |batch, now| batch.finalize(Status::Expired, now);
        let cancel: fn(&mut Batch, u64) = |batch, now| {
            batch.cancel(now);
        };
        let fail: fn(&mut Batch, u64) = |batch, now| batch.fail(Vec::new(), now);
        let end: fn(&mut Batch, u64) = |batch, now| batch.end(true, false, batch.counts, now);
        let times = check(&[begin, done, end], Status::Completed).times;
        let found = (times.created, times.expires, times.in_progress, times.finalizing);
        assert_eq!(found, (100, 86_500, Some(101), Some(102)));
        assert_eq!(times.completed, Some(103));
        assert_eq!(check(&[begin, late, end], Status::Expired).times.expired, Some(103));
        assert_eq!(check(&[cancel, end], Status::Cancelled).times.cancelled, Some(102));
        assert_eq!(check(&[begin, cancel, end], Status::Cancelled).times.cancelling, Some(102));
        assert_eq!(check(&[fail], Status::Failed).times.failed, Some(101));
        assert_eq!(check(&[begin, fail, end], Status::Failed).times.failed, Some(103));
        // Too late, too early, or twice.
        check(&[done], Status::Validating);
        check(&[end], Status::Validating);
        check(&[begin, end], Status::InProgress);
        check(&[begin, done, cancel, end, cancel], Status::Completed);
        check(&[begin, cancel, done, late, begin, end, end], Status::Cancelled);
        check(&[fail, begin, cancel, end], Status::Failed);
    }

    #[test]
    fn endpoints_are_known_by_their_paths() {
        assert_eq!(Endpoint::ALL.map(Endpoint::path), Endpoint::PATHS);
        for path in Endpoint::PATHS {
            assert_eq!(Endpoint::of(path).map(Endpoint::path), Some(*path));
        }
        assert_eq!(Endpoint::of("/v1/messages"), None);
    }
}
