//! One running request: its tokens, its pages, where it stands and how it ends.

use crate::answer::Answer;
use crate::draft::{Drafter, StepCost};
use crate::queue::Submission;
use crate::request::{Done, Event, FinishReason, Request, TokenInfo};
use crate::sampler::{SampleError, Sampler, SamplerScratch, log_probabilities};
use crate::scheduler::{Progress, Share};
use crate::worker::Limits;
use model::{LogitsFor, Slice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use text::{StreamDecoder, Tokenizer};

/// A request with a seat.
pub(crate) struct Sequence {
    /// Prompt and answer, and behind them this step's draft; capacity for all that can come.
    tokens: Vec<u32>,
    n_prompt: usize,
    /// Positions that the KV cache holds; what it has beyond them is written anew before it is
    /// read.
    n_cached: usize,
    /// How many of the tokens are guesses.
    n_draft: usize,
    /// What makes them, where drafts can pay.
    drafter: Option<Drafter>,
    n_drafted: u32,
    n_accepted: u32,
    /// Tokens, prompt included, at which the sequence ends with `Length`.
    n_max: usize,
    /// Its KV pages, enough for `n_max` positions.
    pub(crate) pages: Vec<u32>,
    sampler: Sampler,
    seed: u64,
    logprobs: Option<u32>,
    ignore_eos: bool,
    /// Why it ends, once it does.
    end: Option<FinishReason>,
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
    /// Seats a checked request; `pages` hold its [`n_positions`].
    pub(crate) fn new(
        submission: Submission,
        pages: Vec<u32>,
        tokenizer: &Tokenizer,
        limits: &Limits,
    ) -> Self {
        let n_max = n_positions(&submission.request, limits.n_ctx);
        let Request { prompt, sampling, stop, ignore_eos, logprobs, .. } = submission.request;
        let sampler = Sampler::new(sampling, submission.seed, &prompt, limits.n_vocab);
        let decoder = StreamDecoder::after(tokenizer, &prompt);
        let n_prompt = prompt.len();
        let mut tokens = prompt;
        tokens.reserve_exact(n_max - n_prompt);
        Self {
            tokens,
            n_prompt,
            n_cached: 0,
            n_draft: 0,
            drafter: (limits.cost.max_rows > 1).then(|| Drafter::new(n_max)),
            n_drafted: 0,
            n_accepted: 0,
            n_max,
            pages,
            sampler,
            seed: submission.seed,
            logprobs,
            ignore_eos,
            end: None,
            answer: Answer::new(decoder, stop, submission.on_event),
            cancelled: submission.cancelled,
            submitted_at: submission.submitted_at,
            started_at: None,
            first_token_at: None,
        }
    }

    /// Tokens of prompt and answer.
    fn n_known(&self) -> usize {
        self.tokens.len() - self.n_draft
    }

    /// The counters that scheduling goes by.
    pub(crate) fn progress(&self) -> Progress {
        Progress { n_tokens: self.n_known(), n_cached: self.n_cached }
    }

    /// Whether the caller cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// How many guesses it would add to a step of `n_rows` rows.
    pub(crate) fn n_draft_wanted(&self, n_rows: usize, cost: &StepCost) -> usize {
        // All accepted, there is one more token, and no more than `n_max` in all.
        let n_most = self.n_max - self.n_known() - 1;
        self.drafter.as_ref().map_or(0, |drafter| drafter.n_wanted(n_rows, cost).min(n_most))
    }

    /// Makes the guesses of its share.
    pub(crate) fn draft(&mut self, share: &Share) {
        if let Some(drafter) = &self.drafter {
            drafter.draft(&mut self.tokens, share.n_draft);
            self.n_draft = share.n_draft;
            self.n_drafted += share.n_draft as u32;
        }
    }

    /// Its part of the batch.
    pub(crate) fn slice(&self, share: &Share) -> Slice<'_> {
        Slice {
            tokens: &self.tokens[self.n_cached..][..share.n_tokens + share.n_draft],
            start_pos: self.n_cached as u32,
            pages: &self.pages,
            logits: match share {
                Share { is_last: false, .. } => LogitsFor::None,
                Share { n_draft: 0, .. } => LogitsFor::Last,
                // Behind a single token, so for it and for each guess.
                _ => LogitsFor::All,
            },
        }
    }

    /// Notes that the pass over its share is done, guesses apart.
    pub(crate) fn advance(&mut self, share: &Share, step_began: Instant) {
        self.n_cached += share.n_tokens;
        self.started_at.get_or_insert(step_began);
    }

    /// Samples and sends the token that follows the known ones, given its logits `[n_vocab]`.
    /// Returns whether the next row of logits is of use: the token is what was guessed, and the
    /// sequence goes on.
    pub(crate) fn take(
        &mut self,
        logits: &[f32],
        tokenizer: &Tokenizer,
        scratch: &mut SamplerScratch,
    ) -> bool {
        match self.sample(logits, scratch) {
            Err(error) => self.end = Some(FinishReason::Failed(error.to_string())),
            Ok(token) => {
                let is_guessed = self.push(token.id);
                self.end = self.emit(tokenizer, token);
                if is_guessed && self.end.is_none() {
                    return true;
                }
            }
        }
        self.tokens.truncate(self.n_known());
        self.n_draft = 0;
        false
    }

    /// Chooses the next token.
    fn sample(
        &self,
        logits: &[f32],
        scratch: &mut SamplerScratch,
    ) -> Result<TokenInfo, SampleError> {
        let id = self.sampler.choose(logits, self.n_known() as u64, scratch)?;
        Ok(match self.logprobs {
            None => TokenInfo { id, logprob: None, top: Vec::new() },
            Some(n_top) => {
                let (logprob, top) = log_probabilities(logits, id, n_top as usize, scratch);
                TokenInfo { id, logprob: Some(logprob), top }
            }
        })
    }

    /// Makes `id` the next known token. Returns whether it was guessed, so that the cache has it;
    /// if not, the guesses are gone.
    fn push(&mut self, id: u32) -> bool {
        let n_known = self.n_known();
        let is_guessed = self.tokens.get(n_known) == Some(&id);
        if is_guessed {
            self.n_draft -= 1;
            self.n_cached += 1;
            self.n_accepted += 1;
        } else {
            self.tokens.truncate(n_known);
            self.n_draft = 0;
            self.tokens.push(id);
        }
        self.sampler.accept(id);
        if let Some(drafter) = &mut self.drafter {
            let tokens = &self.tokens[..=n_known];
            drafter.read(&tokens[..n_known]);
            drafter.judge(tokens, id);
            drafter.read(tokens);
        }
        is_guessed
    }

    /// Sends what the newest token releases. Returns why the sequence ends, if it does.
    fn emit(&mut self, tokenizer: &Tokenizer, token: TokenInfo) -> Option<FinishReason> {
        self.first_token_at.get_or_insert_with(Instant::now);
        if !self.ignore_eos && tokenizer.is_end_of_generation(token.id) {
            return Some(FinishReason::Stop);
        }
        if let Some(stop) = self.answer.push(tokenizer, token) {
            return Some(FinishReason::StopString(stop));
        }
        if self.n_known() == self.n_max {
            return Some(FinishReason::Length);
        }
        // Nobody is left to tell, so the reason is for form's sake.
        self.answer.is_deaf().then_some(FinishReason::Cancelled)
    }

    /// Why the sequence ends, if this step ended it.
    pub(crate) fn take_end(&mut self) -> Option<FinishReason> {
        self.end.take()
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
            n_generated: (self.n_known() - self.n_prompt) as u32,
            n_drafted: self.n_drafted,
            n_accepted: self.n_accepted,
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
        n_drafted: 0,
        n_accepted: 0,
        seed: submission.seed,
        prefill: Duration::ZERO,
        decode: Duration::ZERO,
        time_to_first_token: Duration::ZERO,
    }));
}
