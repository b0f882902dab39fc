//! The one log line of a request, written when it ends, however it ends, what is counted of it, and
//! its receipt. Never any contents.

use super::draft::Draft;
use super::route::Went;
use crate::access::Who;
use crate::accounts::{Account, Spent};
use crate::app::{App, Arrival};
use crate::contents;
use crate::dialects::Usage;
use crate::energy::{EnergySource, Taking};
use crate::errors::ServerError;
use crate::metrics::{Histogram, Seen};
use crate::running::{AtWork, Work};
use crate::traces::{self, Told};
use axum::http::StatusCode;
use engine::{FinishReason, Part, TokenInfo};
use policy::Label;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

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
    /// Its client or the owner had it cancelled.
    Cancelled,
}

impl Outcome {
    pub(super) fn of(error: &ServerError) -> Self {
        match error {
            ServerError::ShuttingDown => Self::Shutdown,
            ServerError::Cancelled => Self::Cancelled,
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
            Self::Cancelled => "cancelled",
        }
    }
}

/// What is known of a request so far. Dropped without an end, it says that the client went away:
/// that is what becomes of a request that nobody waits for.
pub(super) struct Record {
    app: Arc<App>,
    at_work: AtWork,
    id: String,
    trace: Option<traces::Context>,
    route: String,
    method: Option<&'static str>,
    local: Option<SocketAddr>,
    started: Instant,
    model: String,
    usage: Usage,
    cost_micro: Option<i64>,
    queue: Option<Duration>,
    time_to_first_token: Option<Duration>,
    /// When the newest piece of each alternative came.
    newest: Vec<Option<Instant>>,
    between: Histogram,
    /// How alternatives ended.
    finish_reasons: Vec<&'static str>,
    outcome: Outcome,
    /// Whether the head of an answer went out before its end.
    is_begun: bool,
    refusal: Option<Refusal>,
    is_logged: bool,
    is_counted: bool,
    /// Where its alias has a canary, whether that answers.
    canary: Option<bool>,
    /// Where there are rules, what they came to.
    went: Option<Went>,
    /// The receipt, of an answer that has begun and is to have one.
    draft: Option<Draft>,
    /// Where what it takes is written down, once it was taken.
    account: Option<Account>,
    /// The id of its receipt.
    receipt: String,
    /// What is kept of it, with the answer's id.
    content: Option<(String, contents::Draft)>,
    /// What it takes of energy while it is computed, and what that came to.
    taking: Option<Taking>,
    energy: Option<(u64, EnergySource)>,
    /// Whose it is.
    who: Arc<Who>,
    client: u64,
    /// What cut it off, should nothing else come.
    cut: &'static str,
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
            at_work: app.running.begin(arrival),
            id: arrival.id.clone(),
            // So that the log names the traces that begin here.
            trace: match (&arrival.trace, &app.traces) {
                (None, Some(_)) => Some(traces::Context::new()),
                (trace, _) => trace.clone(),
            },
            route: arrival.route.clone(),
            method: arrival.method,
            local: arrival.local,
            started: arrival.started,
            model: String::new(),
            usage: Usage::default(),
            cost_micro: None,
            queue: None,
            time_to_first_token: None,
            newest: Vec::new(),
            between: Histogram::default(),
            finish_reasons: Vec::new(),
            outcome: Outcome::Disconnected,
            is_begun: false,
            refusal: None,
            is_logged: true,
            is_counted: true,
            canary: None,
            went: None,
            draft: None,
            account: None,
            receipt: String::new(),
            who: Arc::clone(&arrival.who),
            content: None,
            taking: None,
            energy: None,
            client: arrival.principal,
            cut: Outcome::Disconnected.word(),
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

    /// What the rules came to.
    pub(super) fn went(&mut self, went: Option<Went>) {
        self.went = went;
    }

    /// The label of the request; where nobody has asked, the most sensitive.
    pub(super) fn label(&self) -> Label {
        self.went.as_ref().map_or(Label::Private, |went| went.label)
    }

    pub(super) fn model(&mut self, name: &str) {
        name.clone_into(&mut self.model);
        self.at_work.work.model(name);
    }

    /// What cancels it, and knows whether somebody did.
    pub(super) fn work(&self) -> &Arc<Work> {
        &self.at_work.work
    }

    pub(super) fn usage(&mut self, usage: Usage) {
        self.usage = usage;
        // Until its answer begins, nobody knows how far a prompt was read.
        let n_read = usage.n_prompt.saturating_sub(usage.n_reused);
        let n_read = if usage.n_generated > 0 { n_read } else { 0 };
        self.computed(n_read + usage.n_generated);
        self.at_work.work.progress(usage.n_prompt, usage.n_generated);
    }

    /// It is computed no more.
    fn rest(&mut self) {
        self.energy = self.taking.take().map(Taking::end).or(self.energy);
    }

    /// So many tokens were computed for it by now.
    pub(super) fn computed(&self, n_tokens: u64) {
        if let Some(taking) = &self.taking {
            taking.tokens(n_tokens);
        }
    }

    /// It is computed from here on, unless somebody else does that.
    pub(super) fn computing(&mut self) {
        let is_there = self.went.as_ref().is_some_and(Went::is_there);
        let energy = self.app.energy.as_ref().filter(|_| !is_there);
        self.taking = energy.map(crate::Energy::begin);
    }

    /// What an upstream asks for it, in millionths of the owner's currency.
    pub(super) fn cost(&mut self, micro: Option<i64>) {
        self.cost_micro = micro;
    }

    /// The answer has begun; from here on it has a receipt, where one is to be made, and what is
    /// asked and answered is kept, where it is to be.
    pub(super) fn begin(&mut self, draft: Option<Draft>, content: Option<contents::Draft>) {
        self.content = draft.as_ref().map(|draft| draft.id().to_owned()).zip(content);
        self.draft = draft;
        self.computing();
    }

    /// Somebody else is asked, and nothing of the answer so far is told. What left is accounted
    /// for; what never began here is given back.
    pub(super) fn again(&mut self) {
        if !self.went.as_ref().is_some_and(Went::is_there) && self.usage.n_generated == 0 {
            self.account = None;
        }
        self.settle(Outcome::Failed);
        (self.draft, self.content, self.taking, self.energy) = (None, None, None, None);
        (self.usage, self.cost_micro) = (Usage::default(), None);
        (self.queue, self.time_to_first_token) = (None, None);
        self.newest.clear();
        self.between = Histogram::default();
        self.finish_reasons.clear();
        self.receipt.clear();
    }

    /// It was taken: from here on what it takes counts, however it ends.
    pub(super) fn taken(&mut self, account: Option<Account>) {
        self.account = account;
    }

    /// Writes down what it took, where that counts: all has come.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.rest();
        let Some(account) = self.account.take() else { return };
        account.settle(Spent {
            energy: self.energy,
            money_micro: self.cost_micro.and_then(|micro| u64::try_from(micro).ok()),
            n_prompt: self.usage.n_prompt,
            n_cached: self.usage.n_reused,
            n_answer: self.usage.n_generated,
            queue: self.queue.unwrap_or_default(),
            first: self.time_to_first_token.unwrap_or_default(),
            total: self.started.elapsed(),
            outcome: outcome.word(),
            label: self.went.as_ref().map(|went| went.label.name()),
            receipt: std::mem::take(&mut self.receipt),
        });
    }

    /// The id of its receipt.
    pub(super) fn receipt_id(&self) -> Option<&str> {
        self.draft.as_ref().map(Draft::id)
    }

    /// The receipt in the making, which then goes nowhere else.
    pub(super) fn take_draft(&mut self) -> Option<Draft> {
        self.draft.take()
    }

    /// Writes the receipt: all has come, and nothing of the end is sent yet.
    pub(super) fn seal(&mut self) {
        if let (Some(draft), Some(receipts)) = (self.draft.take(), &self.app.receipts) {
            draft.id().clone_into(&mut self.receipt);
            receipts.write(draft.finish(self.cut), self.client);
        }
    }

    /// An alternative has ended.
    pub(super) fn done(&mut self, choice_idx: usize, reason: &FinishReason) {
        if let Some((_, content)) = &mut self.content {
            content.end(choice_idx, reason);
        }
        if let Some(draft) = &mut self.draft {
            draft.end(choice_idx, reason);
        }
        self.finish_reasons.push(match reason {
            FinishReason::Stop | FinishReason::StopString(_) => "stop",
            FinishReason::Length => "length",
            // One that did not go to its end.
            _ => "error",
        });
    }

    /// A piece of an alternative came.
    pub(super) fn piece(&mut self, choice_idx: usize, part: &Part, tokens: &[TokenInfo]) {
        if let Some((_, content)) = &mut self.content {
            content.hear(choice_idx, part);
        }
        if let Some(draft) = &mut self.draft {
            draft.push(choice_idx, part, tokens);
        }
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

    /// The head of the answer goes out; more comes.
    pub(super) fn begun(&mut self) {
        self.is_begun = true;
    }

    /// Leaves the request's spans where there is somebody for them, and whoever began the trace
    /// records it.
    fn trace(&self, duration: Duration) {
        let (Some(traces), Some(context)) = (&self.app.traces, &self.trace) else { return };
        if !context.is_sampled {
            return;
        }
        let refusal = self.refusal.as_ref();
        let is_whole = self.outcome == Outcome::Done || self.is_begun;
        let spent = self.usage.spent;
        traces.leave(Told {
            context: context.clone(),
            route: self.route.clone(),
            method: self.method,
            address: self.local,
            status: match is_whole {
                true => Some(StatusCode::OK.as_u16()),
                false => refusal.map(|refusal| refusal.status),
            },
            error: refusal.map(|refusal| refusal.word),
            is_fault: self.outcome == Outcome::Failed,
            model: self.model.clone(),
            n_prompt: self.usage.n_prompt,
            n_reused: self.usage.n_reused,
            n_generated: self.usage.n_generated,
            finish_reasons: self.finish_reasons.clone(),
            end: SystemTime::now(),
            duration,
            first_token: self.time_to_first_token,
            queue: self.queue.unwrap_or_default(),
            prefill: spent.prefill,
            decode: spent.decode,
        });
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Ends with an error.
    pub(super) fn fail(mut self, error: &ServerError) {
        self.outcome = Outcome::of(error);
        self.cut = match error {
            ServerError::Expired => "expired",
            ServerError::ShuttingDown => Outcome::Shutdown.word(),
            ServerError::Cancelled => Outcome::Cancelled.word(),
            _ => Outcome::Failed.word(),
        };
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
        self.seal();
        self.settle(self.outcome);
        if let Some((id, content)) = self.content.take() {
            content.keep(&id, &self.model, self.cut);
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
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let ttft_ms = self.time_to_first_token.map(ms);
        self.at_work.ended(seen.outcome, seen.error, ttft_ms);
        if !self.is_logged {
            return;
        }
        self.trace(duration);
        tracing::info!(
            id = %self.id,
            trace = self.trace.as_ref().map(|context| &*context.trace),
            key = self.who.key.as_ref().map(|_| &*self.who.name),
            project = self.who.project.as_deref(),
            route = %self.route,
            model = %self.model,
            canary = self.canary,
            answered = self.went.as_ref().map(|went| went.answered),
            upstream = self.went.as_ref().and_then(|went| went.upstream.as_deref()),
            n_prompt = self.usage.n_prompt,
            n_generated = self.usage.n_generated,
            cost_micro = self.cost_micro,
            ttft_ms,
            duration_ms = ms(duration),
            energy_mj = self.energy.map(|(taken_mj, _)| taken_mj),
            energy_source = self.energy.map(|(_, source)| source.name()),
            outcome = self.outcome.word(),
            status = refusal.map(|refusal| refusal.status),
            error = refusal.map(|refusal| refusal.word),
            param = refusal.and_then(|refusal| refusal.param.as_deref()),
            "request"
        );
    }
}
