//! One running request: its tokens, its pages, where it stands and how it ends.

use crate::answer::Answer;
use crate::queue::Submission;
use crate::request::{Done, Event, FinishReason, Request, TokenInfo};
use crate::sampler::{SampleError, Sampler, SamplerScratch, log_probabilities};
use crate::scheduler::{Progress, Share};
use model::{LogitsFor, Slice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use text::{StreamDecoder, Tokenizer};

/// A request with a seat.
pub(crate) struct Sequence {
    /// Prompt and answer; capacity for all that can come.
    tokens: Vec<u32>,
    n_prompt: usize,
    n_cached: usize,
    /// Tokens, prompt included, at which the sequence ends with `Length`.
    n_max: usize,
    /// Its KV pages, enough for `n_max` positions.
    pub(crate) pages: Vec<u32>,
    sampler: Sampler,
    seed: u64,
    logprobs: Option<u32>,
    ignore_eos: bool,
    /// What this step sampled, until it is emitted.
    sampled: Option<Result<TokenInfo, SampleError>>,
    answer: Answer,
    cancelled: Arc<AtomicBool>,
    submitted_at: Instant,
    started_at: Option<Instant>,
    first_token_at: Option<Instant>,
}

/// Positions that `request` can reach in a context of `n_ctx`.
pub(crate) fn n_positions(request: &Request, n_ctx: usize) -> usize {
    match request.max_tokens {
        Some(max_tokens) => request.prompt.len().saturating_add(max_tokens as usize).min(n_ctx),
        None => n_ctx,
    }
}

impl Sequence {
    /// Seats a checked request; `pages` hold its [`n_positions`], which is `n_max`.
    pub(crate) fn new(
        submission: Submission,
        pages: Vec<u32>,
        n_max: usize,
        tokenizer: &Tokenizer,
        n_vocab: usize,
    ) -> Self {
        let Request { prompt, sampling, stop, ignore_eos, logprobs, .. } = submission.request;
        let sampler = Sampler::new(sampling, submission.seed, &prompt, n_vocab);
        let decoder = StreamDecoder::after(tokenizer, &prompt);
        let n_prompt = prompt.len();
        let mut tokens = prompt;
        tokens.reserve_exact(n_max - n_prompt);
        Self {
            tokens,
            n_prompt,
            n_cached: 0,
            n_max,
            pages,
            sampler,
            seed: submission.seed,
            logprobs,
            ignore_eos,
            sampled: None,
            answer: Answer::new(decoder, stop, submission.on_event),
            cancelled: submission.cancelled,
            submitted_at: submission.submitted_at,
            started_at: None,
            first_token_at: None,
        }
    }

    /// The counters that scheduling goes by.
    pub(crate) fn progress(&self) -> Progress {
        Progress { n_tokens: self.tokens.len(), n_cached: self.n_cached }
    }

    /// Whether the caller cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Its part of the batch.
    pub(crate) fn slice(&self, share: &Share) -> Slice<'_> {
        Slice {
            tokens: &self.tokens[self.n_cached..][..share.n_tokens],
            start_pos: self.n_cached as u32,
            pages: &self.pages,
            logits: if share.is_last { LogitsFor::Last } else { LogitsFor::None },
        }
    }

    /// Notes that the pass over its share is done.
    pub(crate) fn advance(&mut self, share: &Share, step_began: Instant) {
        self.n_cached += share.n_tokens;
        self.started_at.get_or_insert(step_began);
    }

    /// Chooses the next token from its logits `[n_vocab]`.
    pub(crate) fn sample(&mut self, logits: &[f32], scratch: &mut SamplerScratch) {
        let choice = self.sampler.choose(logits, self.tokens.len() as u64, scratch);
        self.sampled = Some(choice.map(|id| match self.logprobs {
            None => TokenInfo { id, logprob: None, top: Vec::new() },
            Some(n_top) => {
                let (logprob, top) = log_probabilities(logits, id, n_top as usize, scratch);
                TokenInfo { id, logprob: Some(logprob), top }
            }
        }));
    }

    /// Takes in the sampled token, if there is one, and sends what it releases. Returns why the
    /// sequence ends, if it does.
    pub(crate) fn emit(&mut self, tokenizer: &Tokenizer) -> Option<FinishReason> {
        let token = match self.sampled.take()? {
            Ok(token) => token,
            Err(error) => return Some(FinishReason::Failed(error.to_string())),
        };
        let id = token.id;
        self.tokens.push(id);
        self.sampler.accept(id);
        self.first_token_at.get_or_insert_with(Instant::now);
        if !self.ignore_eos && tokenizer.is_end_of_generation(id) {
            return Some(FinishReason::Stop);
        }
        if let Some(stop) = self.answer.push(tokenizer, token) {
            return Some(FinishReason::StopString(stop));
        }
        if self.tokens.len() == self.n_max {
            return Some(FinishReason::Length);
        }
        // Nobody is left to tell, so the reason is for form's sake.
        self.answer.is_deaf().then_some(FinishReason::Cancelled)
    }

    /// Sends what is left and the `Done`. The caller released the pages.
    pub(crate) fn finish(mut self, reason: FinishReason) {
        // Otherwise what is held back may be the beginning of a stop string for ever.
        if matches!(reason, FinishReason::Stop | FinishReason::Length) {
            self.answer.finish();
        }
        let now = Instant::now();
        let between = |from: Option<Instant>, to: Instant| -> Duration {
            from.map_or(Duration::ZERO, |from| to.saturating_duration_since(from))
        };
        let done = Done {
            reason,
            n_prompt: self.n_prompt as u32,
            n_generated: (self.tokens.len() - self.n_prompt) as u32,
            seed: self.seed,
            prefill: between(self.started_at, self.first_token_at.unwrap_or(now)),
            decode: between(self.first_token_at, now),
            time_to_first_token: between(
                self.first_token_at.map(|_| self.submitted_at),
                self.first_token_at.unwrap_or(now),
            ),
        };
        self.answer.send(Event::Done(done));
    }
}

/// Ends a request that never got a seat.
pub(crate) fn finish_unseated(submission: Submission, reason: FinishReason) {
    let n_prompt = submission.request.prompt.len() as u32;
    let mut answer = Answer::new(StreamDecoder::new(), Vec::new(), submission.on_event);
    answer.send(Event::Done(Done {
        reason,
        n_prompt,
        n_generated: 0,
        seed: submission.seed,
        prefill: Duration::ZERO,
        decode: Duration::ZERO,
        time_to_first_token: Duration::ZERO,
    }));
}
