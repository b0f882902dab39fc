//! The engine thread: one step after the other, as long as there is work.
//!
//! A step reads schedule, forward, sample, emit. Everything here happens on this one thread;
//! callers reach it through the [`Queue`] only.

use crate::cores::{Member, Turn};
use crate::draft::StepCost;
use crate::keeper::{Keeper, Kept};
use crate::pace::{Pace, Speed};
use crate::pages::PagePool;
use crate::queue::{Queue, Submission};
use crate::request::FinishReason;
use crate::sampler::SamplerScratch;
use crate::scheduler::{
    PREFILL_CHUNK, Prefill, Share, add_drafts, n_decoding, n_prompts, schedule, whole_slice,
};
use crate::sequence::{Sequence, finish_unseated};
use crate::waiting::{ANSWER_WEIGHT, Entry, Waiting, Work};
use kernels::{KvPool, PAGE_LEN};
use model::{LogitsOf, Model, Scratch, Slice};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use text::Tokenizer;

/// Steps that may panic one after the other before the engine gives up: the same request may be
/// tried by its owner once or twice, but a pass that never succeeds should not look alive.
const MAX_PANICS: usize = 3;

/// Most ids of which logits are computed one by one. More are mostly in too many places for that to
/// be cheaper, and their list would cost time as well.
const N_WANTED_MAX: usize = 1024;
/// Most prompt tokens of a step for whose turn the model had to wait, since others wait for its
/// steps then. A choice: less keeps others waiting for less, and makes reading slower.
const PREFILL_BESIDE: usize = PREFILL_CHUNK / 4;
/// How long an engine without work waits for a store that has enough to do.
const DISK_PAUSE: Duration = Duration::from_millis(20);

/// What computes logits. The real one is [`Runner`]; the simulator of the tests checks that it is
/// asked consistently.
pub(crate) trait Forward {
    /// Passes over a batch, all but its logits; see [`Model::forward_layers`].
    fn forward(&mut self, batch: &[Slice<'_>]);
    /// Logits `[n_outputs, n_logits]` of that batch; see [`Model::forward_output`].
    fn logits(&mut self, of: LogitsOf<'_>) -> &[f32];
    /// Length of a row of logits.
    fn n_logits(&self) -> usize;
    /// Appends the bits of a KV page, and fills a page with such.
    fn page_to_bytes(&self, page: u32, out: &mut Vec<u8>);
    fn page_from_bytes(&mut self, page: u32, bytes: &[u8]);
    /// Drops what a panic left half done; the KV entries of no sequence are needed any more.
    fn reset(&mut self);
    /// How long the pass that began at `began` took; the simulator has a clock of its own.
    fn duration(&self, began: Instant) -> Duration {
        began.elapsed()
    }
}

/// The model with the state of its passes.
pub(crate) struct Runner {
    pub(crate) model: Arc<Model>,
    pub(crate) kv: KvPool,
    pub(crate) scratch: Scratch,
}

impl Forward for Runner {
    fn forward(&mut self, batch: &[Slice<'_>]) {
        self.model.forward_layers(batch, &mut self.kv, &mut self.scratch);
    }

    fn logits(&mut self, of: LogitsOf<'_>) -> &[f32] {
        self.model.forward_output(of, &mut self.scratch)
    }

    fn n_logits(&self) -> usize {
        self.model.config().n_vocab
    }

    fn page_to_bytes(&self, page: u32, out: &mut Vec<u8>) {
        self.kv.page_to_bytes(page, out);
    }

    fn page_from_bytes(&mut self, page: u32, bytes: &[u8]) {
        self.kv.page_from_bytes(page, bytes);
    }

    fn reset(&mut self) {
        self.scratch = Scratch::new();
    }
}

/// The bounds that a worker keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Positions of the context of each sequence.
    pub(crate) n_ctx: usize,
    /// Ids that have a meaning: at most a row of logits, which may be padded.
    pub(crate) n_vocab: usize,
    /// Most sequences that run at once.
    pub(crate) max_sequences: usize,
    /// Tokens that may wait for a seat.
    pub(crate) max_waiting_tokens: usize,
    /// KV pages; at least one full context.
    pub(crate) n_pages: u32,
    /// What decides about drafts.
    pub(crate) cost: StepCost,
}

/// Everything that the engine thread owns.
pub(crate) struct Worker<F> {
    pub(crate) queue: Arc<Queue>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) forward: F,
    pub(crate) limits: Limits,
    pub(crate) pages: PagePool,
    /// Where pages are kept over restarts.
    pub(crate) keeper: Option<Keeper>,
    /// The model's place at the cores.
    member: Arc<Member>,
    pub(crate) waiting: Waiting,
    /// Empty between steps; only its allocation is kept.
    pub(crate) arrived: Vec<Submission>,
    /// In order of seating.
    pub(crate) running: Vec<Sequence>,
    /// Number of the next seat.
    pub(crate) next_seat: u64,
    shares: Vec<Share>,
    pace: Pace,
    pub(crate) speed: Speed,
    /// Empty between steps; only its allocation is kept.
    batch: Vec<Slice<'static>>,
    /// Ids of which logits are wanted; meaningful within a step only.
    wanted: Vec<u32>,
    scratch: SamplerScratch,
}

impl<F: Forward> Worker<F> {
    /// A worker that has nothing to do yet.
    pub(crate) fn new(
        queue: Arc<Queue>,
        tokenizer: Arc<Tokenizer>,
        forward: F,
        limits: Limits,
    ) -> Self {
        assert!(limits.n_pages as usize * PAGE_LEN >= limits.n_ctx, "no room for one context");
        Self {
            queue,
            tokenizer,
            forward,
            limits,
            pages: PagePool::new(limits.n_pages),
            keeper: None,
            member: Arc::new(Member::alone()),
            waiting: Waiting::default(),
            arrived: Vec::new(),
            next_seat: 0,
            pace: Pace::default(),
            speed: Speed::default(),
            running: Vec::with_capacity(limits.max_sequences),
            shares: Vec::with_capacity(limits.max_sequences),
            batch: Vec::with_capacity(limits.max_sequences),
            wanted: Vec::new(),
            scratch: SamplerScratch::default(),
        }
    }

    /// The same worker, which keeps pages over restarts.
    pub(crate) fn keeping(self, keeper: Option<Keeper>) -> Self {
        Self { keeper, ..self }
    }

    /// The same worker, which takes turns at the cores with other models.
    pub(crate) fn at(self, member: Arc<Member>) -> Self {
        Self { member, ..self }
    }

    /// Steps until the queue closes. A panic in a step fails the requests that ran in it; those
    /// that wait still get their turn.
    pub(crate) fn run(mut self) {
        let mut n_panics = 0;
        self.count();
        let reason = loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                self.member.rest();
                match self.save_one() {
                    Kept::Nothing => self.queue.wait(),
                    Kept::Page => {}
                    Kept::Busy => self.queue.wait_for(DISK_PAUSE),
                }
            }
            if self.queue.is_closing() {
                self.running.iter_mut().for_each(|sequence| sequence.release(&mut self.pages));
                self.save_all();
                break "it was closed".to_string();
            }
            let stepped = catch_unwind(AssertUnwindSafe(|| self.step()));
            self.count();
            match stepped {
                Ok(()) => n_panics = 0,
                Err(panic) => {
                    let message = panic_message(&*panic);
                    self.recover(&message);
                    n_panics += 1;
                    if n_panics == MAX_PANICS {
                        break format!("{n_panics} steps in a row panicked, the last: {message}");
                    }
                }
            }
        };
        self.member.rest();
        let failed = || FinishReason::Failed(format!("the engine has stopped: {reason}"));
        self.fail_running(&failed());
        for submission in self.queue.stop(&reason) {
            finish_unseated(submission, failed());
        }
        for entry in self.waiting.take_over(|_| true) {
            finish_waiting(entry, failed());
        }
    }

    /// One step: admits, schedules, runs the pass, and for each row of logits samples and emits.
    /// From admission to the logits it is this model's turn at the cores.
    pub(crate) fn step(&mut self) {
        self.member.lower();
        self.remove_over();
        let asked = Instant::now();
        let Some(turn) = self.take_turn() else { return };
        self.admit();
        self.take_restored();
        self.schedule(if turn.has_waited { PREFILL_BESIDE } else { PREFILL_CHUNK });
        self.save_evicted();
        if self.shares.is_empty() {
            drop(turn);
            self.member.rest();
            self.wait_for_restored();
            return;
        }
        let began = Instant::now();
        let Self { running, shares, forward, tokenizer, scratch, wanted, .. } = self;
        let n_logits = forward.n_logits();
        let mut batch = reuse(std::mem::take(&mut self.batch));
        batch.extend(shares.iter().map(|share| running[share.seq_idx].slice(share)));
        forward.forward(&batch);
        self.batch = reuse(batch);
        let logits = forward.logits(logits_of(running, shares, wanted));
        drop(turn);
        let rows = logits.chunks_exact(n_logits).map(|row| &row[..self.limits.n_vocab]);
        take(running, shares, rows, tokenizer, scratch, began);
        self.settle(began, began.duration_since(asked));
        self.remove(Sequence::take_end);
    }

    /// Waits for this model's turn, for the most urgent that it has to do; `None` where that is
    /// nothing, or the engine is to end.
    fn take_turn(&mut self) -> Option<Turn> {
        let running = self.running.iter().map(|sequence| sequence.priority).min();
        let priority = running.into_iter().chain(self.waiting.highest()).min()?;
        let turn = self.member.take(priority)?;
        if turn.has_waited {
            self.remove_over();
        }
        Some(turn)
    }

    /// Fills `shares`, with at most `n_most` tokens of prompts, and lets the sequences make their
    /// drafts. Where pages are short, a sequence loses its seat and the others are scheduled anew.
    fn schedule(&mut self, n_most: usize) {
        loop {
            // A leader may have lost its seat just now.
            self.release_followers();
            let Self { running, shares, limits, pace, .. } = self;
            let progress = running.iter().map(Sequence::progress);
            let n_prompts = n_prompts(progress.clone());
            let n_decoding = n_decoding(progress.clone());
            let n_whole = whole_slice(progress.clone(), n_most);
            let n_prefill = pace.n_prefill(n_decoding, n_prompts, n_whole, n_most);
            let prefill = match pace.is_whole() {
                true => Prefill::Whole { n_tokens: n_prefill, n_most },
                false => Prefill::Shared(n_prefill),
            };
            schedule(progress, prefill, shares);
            let n_wanted =
                |seq_idx: usize, n_rows| running[seq_idx].n_draft_wanted(n_rows, &limits.cost);
            add_drafts(shares, &limits.cost, n_wanted);
            if self.find_pages() {
                break;
            }
        }
        for share in &self.shares {
            self.running[share.seq_idx].draft(share);
        }
    }

    /// Gives each share the pages that it needs, the longest-serving first; guesses get none where
    /// they are short. Returns `false` where a sequence had to give its pages back.
    fn find_pages(&mut self) -> bool {
        self.shares.sort_unstable_by_key(|share| self.running[share.seq_idx].rank());
        for share in &mut self.shares {
            let sequence = &mut self.running[share.seq_idx];
            let n_room = sequence.grow(share.n_tokens + share.n_draft, &mut self.pages);
            if n_room < share.n_tokens {
                self.preempt_last();
                return false;
            }
            share.n_draft = n_room - share.n_tokens;
        }
        true
    }

    /// After the pass: publishes what is full, counts what was served and how long it took, and how
    /// long the step had `waited` for its pass.
    fn settle(&mut self, began: Instant, waited: Duration) {
        let (mut n_decode, mut n_prefill) = (0, 0);
        for share in &self.shares {
            let sequence = &mut self.running[share.seq_idx];
            sequence.publish(&mut self.pages);
            let n_new = sequence.take_uncharged();
            self.waiting.charge(sequence.account, ANSWER_WEIGHT * n_new as u64);
            match share {
                Share { n_tokens: 1, is_last: true, .. } => n_decode += 1 + share.n_draft,
                _ => n_prefill += share.n_tokens,
            }
        }
        let duration = self.forward.duration(began);
        self.pace.observe(n_decode, n_prefill, duration.as_secs_f64());
        self.queue.counters.step(n_decode, n_prefill, duration);
        self.speed.observe(n_decode + n_prefill, duration + waited);
        self.queue.set_speed(self.speed.tokens_per_second());
        self.keeper.iter_mut().for_each(Keeper::begin_round);
    }

    /// Ends each sequence for which `reason` gives one; keeps the order of the others.
    pub(crate) fn remove(&mut self, mut reason: impl FnMut(&mut Sequence) -> Option<FinishReason>) {
        let mut seq_idx = 0;
        while let Some(sequence) = self.running.get_mut(seq_idx) {
            match reason(sequence) {
                None => seq_idx += 1,
                Some(reason) => {
                    let mut sequence = self.running.remove(seq_idx);
                    sequence.release(&mut self.pages);
                    self.waiting.leave(sequence.account);
                    sequence.finish(reason);
                }
            }
        }
    }

    /// Tells what is at work.
    fn count(&self) {
        let (n_free, n_cached) = self.pages.n_free_and_cached();
        self.queue.counters.set(self.running.len(), self.limits.n_pages, n_free, n_cached);
    }

    /// Fails what ran in a step that panicked, and begins with fresh state.
    fn recover(&mut self, message: &str) {
        self.fail_running(&FinishReason::Failed(format!("internal error: {message}")));
        self.waiting.recount();
        self.pages = PagePool::new(self.limits.n_pages);
        self.scratch = SamplerScratch::default();
        self.forward.reset();
    }

    fn fail_running(&mut self, reason: &FinishReason) {
        for sequence in self.running.drain(..) {
            self.waiting.leave(sequence.account);
            sequence.finish(reason.clone());
        }
    }
}

/// Ends one that waits.
pub(crate) fn finish_waiting(entry: Entry, reason: FinishReason) {
    match entry.work {
        Work::New(submission) => finish_unseated(*submission, reason),
        Work::Back(sequence) => sequence.finish(reason),
    }
}

/// Of which ids the logits of this step decide anything: the few that constraints allow, where all
/// of its sequences are under one and there are few. Constraints are asked as late as here, since
/// their sets are computed while the pass runs.
fn logits_of<'a>(
    running: &mut [Sequence],
    shares: &[Share],
    ids: &'a mut Vec<u32>,
) -> LogitsOf<'a> {
    ids.clear();
    for share in shares {
        if running[share.seq_idx].n_scored_rows(share) > 0 {
            return LogitsOf::All;
        }
        if !share.is_last {
            continue;
        }
        let n_most = N_WANTED_MAX - ids.len();
        if !running[share.seq_idx].allowed(share, n_most, ids) {
            return LogitsOf::All;
        }
    }
    LogitsOf::Ids(ids)
}

/// Moves the sequences on, and samples and sends what the rows of logits give, in the order of the
/// shares. Behind a guess that was wrong a row is of no use.
fn take<'a>(
    running: &mut [Sequence],
    shares: &[Share],
    mut rows: impl Iterator<Item = &'a [f32]>,
    tokenizer: &Tokenizer,
    scratch: &mut SamplerScratch,
    step_began: Instant,
) {
    for share in shares {
        let sequence = &mut running[share.seq_idx];
        let n_scored = sequence.n_scored_rows(share);
        sequence.score(rows.by_ref().take(n_scored), scratch);
        sequence.advance(share, step_began);
        let mut is_of_use = share.is_last && !sequence.is_over();
        let n_rows = if share.is_last { 1 + share.n_draft } else { 0 };
        let n_sure = sequence.n_sure().min(n_rows);
        for _ in 0..n_sure {
            is_of_use = is_of_use && sequence.take_sure(tokenizer);
        }
        for _ in n_sure..n_rows {
            let row = rows.next().expect("the pass gives the rows that the slices asked for");
            is_of_use = is_of_use && sequence.take(row, tokenizer, scratch);
        }
    }
}

/// Empties a list and gives its allocation to a list of another lifetime, as the slices of a step
/// borrow from its sequences (the standard library collects in place).
fn reuse<'a>(mut batch: Vec<Slice<'_>>) -> Vec<Slice<'a>> {
    batch.clear();
    batch.into_iter().map(|_| unreachable!("the list was cleared")).collect()
}

/// What a panic said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_string()
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
