//! The engine thread: one step after the other, as long as there is work.
//!
//! A step reads schedule, forward, sample, emit. Everything here happens on this one thread;
//! callers reach it through the [`Queue`] only.

use crate::draft::StepCost;
use crate::pages::PageAllocator;
use crate::queue::Queue;
use crate::request::FinishReason;
use crate::sampler::SamplerScratch;
use crate::scheduler::{Share, add_drafts, schedule};
use crate::sequence::{Sequence, finish_unseated, n_positions};
use kernels::{KvPool, PAGE_LEN};
use model::{Model, Scratch, Slice};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use text::Tokenizer;

/// Steps that may panic one after the other before the engine gives up: the same request may be
/// tried by its owner once or twice, but a pass that never succeeds should not look alive.
const MAX_PANICS: usize = 3;

/// What computes logits. The real one is [`Runner`]; the simulator of the tests checks that it is
/// asked consistently.
pub(crate) trait Forward {
    /// Logits `[n_outputs, n_logits]` of a batch; see [`Model::forward`].
    fn forward(&mut self, batch: &[Slice<'_>]) -> &[f32];
    /// Length of a row of logits.
    fn n_logits(&self) -> usize;
    /// Drops what a panic left half done; the KV entries of no sequence are needed any more.
    fn reset(&mut self);
}

/// The model with the state of its passes.
pub(crate) struct Runner {
    pub(crate) model: Arc<Model>,
    pub(crate) kv: KvPool,
    pub(crate) scratch: Scratch,
}

impl Forward for Runner {
    fn forward(&mut self, batch: &[Slice<'_>]) -> &[f32] {
        self.model.forward(batch, &mut self.kv, &mut self.scratch)
    }

    fn n_logits(&self) -> usize {
        self.model.config().n_vocab
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
    /// KV pages; at least one full context.
    pub(crate) n_pages: u32,
    /// What decides about drafts.
    pub(crate) cost: StepCost,
}

/// Everything that the engine thread owns.
pub(crate) struct Worker<F> {
    queue: Arc<Queue>,
    tokenizer: Arc<Tokenizer>,
    forward: F,
    limits: Limits,
    pages: PageAllocator,
    /// In order of admission.
    running: Vec<Sequence>,
    shares: Vec<Share>,
    /// Empty between steps; only its allocation is kept.
    batch: Vec<Slice<'static>>,
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
            pages: PageAllocator::new(limits.n_pages),
            running: Vec::with_capacity(limits.max_sequences),
            shares: Vec::with_capacity(limits.max_sequences),
            batch: Vec::with_capacity(limits.max_sequences),
            scratch: SamplerScratch::default(),
        }
    }

    /// Steps until the queue closes. A panic in a step fails the requests that ran in it; those
    /// that wait still get their turn.
    pub(crate) fn run(mut self) {
        let mut n_panics = 0;
        let reason = loop {
            if self.running.is_empty() {
                self.queue.wait();
            }
            if self.queue.is_closing() {
                break "it was closed".to_string();
            }
            match catch_unwind(AssertUnwindSafe(|| self.step())) {
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
        let failed = || FinishReason::Failed(format!("the engine has stopped: {reason}"));
        self.fail_running(failed());
        for submission in self.queue.stop(&reason) {
            finish_unseated(submission, failed());
        }
    }

    /// One step: admits, schedules, runs the pass, and for each row of logits samples and emits.
    pub(crate) fn step(&mut self) {
        self.remove_cancelled();
        self.admit();
        self.schedule();
        if self.shares.is_empty() {
            return;
        }
        let began = Instant::now();
        let Self { running, shares, forward, tokenizer, scratch, .. } = self;
        let n_logits = forward.n_logits();
        let mut batch = reuse(std::mem::take(&mut self.batch));
        batch.extend(shares.iter().map(|share| running[share.seq_idx].slice(share)));
        let logits = forward.forward(&batch);
        self.batch = reuse(batch);
        let rows = logits.chunks_exact(n_logits).map(|row| &row[..self.limits.n_vocab]);
        take(running, shares, rows, tokenizer, scratch, began);
        self.remove(Sequence::take_end);
    }

    /// Fills `shares`, and lets the sequences make their drafts.
    fn schedule(&mut self) {
        let Self { running, shares, limits, .. } = self;
        schedule(running.iter().map(Sequence::progress), shares);
        let n_wanted =
            |seq_idx: usize, n_rows| running[seq_idx].n_draft_wanted(n_rows, &limits.cost);
        add_drafts(shares, &limits.cost, n_wanted);
        for share in &*shares {
            running[share.seq_idx].draft(share);
        }
    }

    /// Ends what was cancelled, waiting or running.
    fn remove_cancelled(&mut self) {
        for submission in self.queue.take_cancelled() {
            finish_unseated(submission, FinishReason::Cancelled);
        }
        self.remove(|sequence| sequence.is_cancelled().then_some(FinishReason::Cancelled));
    }

    /// Seats waiting requests, first come first served, as long as there are a seat and pages for
    /// all that the first of them may grow to. So a running sequence never runs out of pages.
    fn admit(&mut self) {
        while self.running.len() < self.limits.max_sequences {
            let (n_ctx, n_free) = (self.limits.n_ctx, self.pages.n_free());
            let fits = |n_max: usize| n_max.div_ceil(PAGE_LEN) <= n_free;
            let popped = self.queue.pop_if(|request| fits(n_positions(request, n_ctx)));
            let Some(submission) = popped else { return };
            let n_max = n_positions(&submission.request, n_ctx);
            let pages = self.pages.take(n_max.div_ceil(PAGE_LEN));
            let pages = pages.expect("the queue gave what fits into the free pages");
            let sequence = Sequence::new(submission, pages, &self.tokenizer, &self.limits);
            self.running.push(sequence);
        }
    }

    /// Ends each sequence for which `reason` gives one; keeps the order of the others.
    fn remove(&mut self, mut reason: impl FnMut(&mut Sequence) -> Option<FinishReason>) {
        let mut seq_idx = 0;
        while let Some(sequence) = self.running.get_mut(seq_idx) {
            match reason(sequence) {
                None => seq_idx += 1,
                Some(reason) => {
                    let sequence = self.running.remove(seq_idx);
                    self.pages.release(&sequence.pages);
                    sequence.finish(reason);
                }
            }
        }
    }

    /// Fails what ran in a step that panicked, and begins with fresh state.
    fn recover(&mut self, message: &str) {
        self.fail_running(FinishReason::Failed(format!("internal error: {message}")));
        self.pages = PageAllocator::new(self.limits.n_pages);
        self.scratch = SamplerScratch::default();
        self.forward.reset();
    }

    fn fail_running(&mut self, reason: FinishReason) {
        for sequence in self.running.drain(..) {
            sequence.finish(reason.clone());
        }
    }
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
        sequence.advance(share, step_began);
        let mut is_of_use = share.is_last;
        for _ in 0..if share.is_last { 1 + share.n_draft } else { 0 } {
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
