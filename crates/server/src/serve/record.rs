//! The one log line of a request, written when it ends, however it ends. Never any contents.

use crate::app::Arrival;
use crate::dialects::Usage;
use crate::errors::ServerError;
use axum::http::StatusCode;
use std::time::{Duration, Instant};

/// How a request ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered to the end.
    Done,
    /// Refused: the client's error or too much to do.
    Refused,
    /// Broke off by our fault.
    Failed,
    /// The client went away.
    Disconnected,
    /// Broke off because the server went down.
    Shutdown,
}

impl Outcome {
    pub(super) fn of(error: &ServerError) -> Self {
        match error {
            ServerError::ShuttingDown => Self::Shutdown,
            error if error.status() >= StatusCode::INTERNAL_SERVER_ERROR => Self::Failed,
            _ => Self::Refused,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Disconnected => "disconnected",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What is known of a request so far. Dropped without an end, it says that the client went away:
/// that is what becomes of a request that nobody waits for.
pub(super) struct Record {
    id: String,
    started: Instant,
    model: String,
    usage: Usage,
    time_to_first_token: Option<Duration>,
    outcome: Outcome,
    /// Of an error: its HTTP status, and the field it names.
    refusal: Option<(u16, Option<String>)>,
}

impl Record {
    pub(super) fn new(arrival: &Arrival) -> Self {
        Self {
            id: arrival.id.clone(),
            started: arrival.started,
            model: String::new(),
            usage: Usage::default(),
            time_to_first_token: None,
            outcome: Outcome::Disconnected,
            refusal: None,
        }
    }

    pub(super) fn model(&mut self, name: &str) {
        name.clone_into(&mut self.model);
    }

    pub(super) fn prompts(&mut self, prompts: &[Vec<u32>]) {
        self.usage.n_prompt = prompts.iter().map(|prompt| prompt.len() as u64).sum();
    }

    pub(super) fn usage(&mut self, usage: Usage) {
        self.usage = usage;
    }

    pub(super) fn first_token(&mut self) {
        self.time_to_first_token.get_or_insert_with(|| self.started.elapsed());
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Ends with an error. Its message may quote the request, so only its place is kept.
    pub(super) fn fail(mut self, error: &ServerError) {
        self.outcome = Outcome::of(error);
        self.refusal = Some((error.status().as_u16(), error.param().map(str::to_owned)));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            id = %self.id,
            model = %self.model,
            n_prompt = self.usage.n_prompt,
            n_generated = self.usage.n_generated,
            ttft_ms = self.time_to_first_token.map(ms),
            duration_ms = ms(self.started.elapsed()),
            outcome = self.outcome.word(),
            status = self.refusal.as_ref().map(|(status, _)| status),
            param = self.refusal.as_ref().and_then(|(_, param)| param.as_deref()),
            "request"
        );
    }
}
