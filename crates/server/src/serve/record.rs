//! The one log line of a request, written when it ends, however it ends, and what is counted of it.
//! Never any contents.

use crate::app::{App, Arrival};
use crate::dialects::Usage;
use crate::errors::ServerError;
use crate::metrics::{Histogram, Seen};
use axum::http::StatusCode;
use std::sync::Arc;
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
    app: Arc<App>,
    id: String,
    trace: Option<String>,
    route: String,
    started: Instant,
    model: String,
    usage: Usage,
    queue: Option<Duration>,
    time_to_first_token: Option<Duration>,
    /// When the newest piece of each alternative came.
    newest: Vec<Option<Instant>>,
    between: Histogram,
    outcome: Outcome,
    refusal: Option<Refusal>,
    is_logged: bool,
    is_counted: bool,
    /// Where its alias has a canary, whether that answers.
    canary: Option<bool>,
}

/// An error without its message, which may quote the request.
struct Refusal {
    /// The HTTP status.
    status: u16,
    word: &'static str,
    /// The field it names.
    param: Option<String>,
}

impl Record {
    pub(super) fn new(app: &Arc<App>, arrival: &Arrival) -> Self {
        Self {
            app: app.clone(),
            id: arrival.id.clone(),
            trace: arrival.trace.clone(),
            route: arrival.route.clone(),
            started: arrival.started,
            model: String::new(),
            usage: Usage::default(),
            queue: None,
            time_to_first_token: None,
            newest: Vec::new(),
            between: Histogram::default(),
            outcome: Outcome::Disconnected,
            refusal: None,
            is_logged: true,
            is_counted: true,
            canary: None,
        }
    }

    /// A request of this process, which is counted only.
    pub(super) fn unlogged(app: &Arc<App>, arrival: &Arrival) -> Self {
        let mut record = Self::new(app, arrival);
        record.is_logged = false;
        record
    }

    /// A request that nobody sent.
    pub(super) fn uncounted(app: &Arc<App>, arrival: &Arrival) -> Self {
        let mut record = Self::unlogged(app, arrival);
        record.is_counted = false;
        record
    }

    /// Its alias has a canary, which answers or does not.
    pub(super) fn canary(&mut self, answers: Option<bool>) {
        self.canary = answers;
    }

    pub(super) fn model(&mut self, name: &str) {
        name.clone_into(&mut self.model);
    }

    pub(super) fn usage(&mut self, usage: Usage) {
        self.usage = usage;
    }

    /// A piece of an alternative came.
    pub(super) fn piece(&mut self, choice_idx: usize) {
        let now = Instant::now();
        self.time_to_first_token.get_or_insert(now - self.started);
        if choice_idx >= self.newest.len() {
            self.newest.resize(choice_idx + 1, None);
        }
        if let Some(before) = self.newest[choice_idx].replace(now) {
            self.between.add(now - before);
        }
    }

    /// How long the first of its generations waited for a step.
    pub(super) fn queue(&mut self, queue: Option<Duration>) {
        self.queue = queue;
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Ends with an error.
    pub(super) fn fail(mut self, error: &ServerError) {
        self.outcome = Outcome::of(error);
        self.refusal = Some(Refusal {
            status: error.status().as_u16(),
            word: error.word(),
            param: error.param().map(str::to_owned),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let duration = self.started.elapsed();
        let refusal = self.refusal.as_ref();
        let seen = Seen {
            outcome: self.outcome.word(),
            error: refusal.map(|refusal| refusal.word),
            n_prompt: self.usage.n_prompt,
            n_reused: self.usage.n_reused,
            n_generated: self.usage.n_generated,
            queue: self.queue,
            first_token: self.time_to_first_token,
            between: std::mem::take(&mut self.between),
            duration,
        };
        self.app.metrics.request(&self.route, &self.model, &seen);
        if !self.is_logged {
            return;
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            id = %self.id,
            trace = self.trace.as_deref(),
            route = %self.route,
            model = %self.model,
            canary = self.canary,
            n_prompt = self.usage.n_prompt,
            n_generated = self.usage.n_generated,
            ttft_ms = self.time_to_first_token.map(ms),
            duration_ms = ms(duration),
            outcome = self.outcome.word(),
            status = refusal.map(|refusal| refusal.status),
            error = refusal.map(|refusal| refusal.word),
            param = refusal.and_then(|refusal| refusal.param.as_deref()),
            "request"
        );
    }
}
