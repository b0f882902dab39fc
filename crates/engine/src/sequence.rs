//! One request that has or had a seat: its tokens, its pages, where it stands and how it ends.
//!
//! Pages come as it grows. What it loses when it is interrupted is its pages alone; its tokens, the
//! sampler, the text on its way out and the drafts stay, so that it goes on as if nothing had been.

use crate::answer::Answer;
use crate::draft::{Drafter, StepCost};
use crate::keeper::{Incoming, Naming};
use crate::page_file::PageKey;
use crate::pages::{PagePool, Prefix, Saved, n_common};
use crate::queue::Submission;
use crate::request::{CacheScope, Done, Event, FinishReason, Priority, Request, TokenInfo};
use crate::sampler::{SampleError, Sampler, SamplerScratch, ensure_finite, log_probabilities};
use crate::scheduler::{Progress, Share};
use crate::waiting::{Entry, Work};
use crate::worker::Limits;
use kernels::PAGE_LEN;
use model::{LogitsFor, Slice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use text::{Splitter, StreamDecoder, Tokenizer};

/// A request with a seat, or between two.
pub(crate) struct Sequence {
    /// In order of arrival.
    pub(crate) ticket: u64,
    pub(crate) priority: Priority,
    /// The client's place in the ledger.
    pub(crate) account: usize,
    /// Number of its seat, larger than of all that were seated before it.
    pub(crate) seat: u64,
    /// Prompt and answer, and behind them this step's draft; capacity for all that can come.
    tokens: Vec<u32>,
    n_prompt: usize,
    /// Positions that the KV cache holds; what it has beyond them is written anew before it is
    /// read.
    n_cached: usize,
    /// How many of the tokens are guesses.
    n_draft: usize,
    /// How many of the rows of this step decide nothing, the first ones: what follows them is
    /// forced.
    n_sure: usize,
    /// What makes them, where drafts can pay.
    drafter: Option<Drafter>,
    n_drafted: u32,
    n_accepted: u32,
    /// Tokens, prompt included, at which the sequence ends with `Length`.
    n_max: usize,
    /// Its KV pages, enough for what is cached and what this step adds; capacity for `n_max`
    /// positions.
    pages: Vec<u32>,
    scope: CacheScope,
    /// What the pages that it shares with the cache stand for, and how many these are.
    prefix: Prefix,
    naming: Naming,
    n_published: usize,
    /// The seat of a sequence that computes the first so many pages of this one.
    leader: Option<(u64, usize)>,
    /// Pages that come from the store; it is held as long as there may be more.
    incoming: Option<Incoming>,
    n_reused: u32,
    n_matched: u32,
    n_preempted: u32,
    /// Tokens of the answer that the ledger knows of.
    n_charged: usize,
    sampler: Sampler,
    seed: u64,
    logprobs: Option<u32>,
    /// What is wanted of the prompt's tokens, and how many of them were reported.
    prompt_logprobs: Option<u32>,
    n_scored: usize,
    ignore_eos: bool,
    stop_tokens: Vec<u32>,
    /// Why it ends, once it does.
    end: Option<FinishReason>,
    answer: Answer,
    cancelled: Arc<AtomicBool>,
    deadline: Option<Instant>,
    submitted_at: Instant,
    started_at: Option<Instant>,
    /// When the last step began that it had a share of.
    served_at: Option<Instant>,
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
    /// Begins a checked request; it has no pages yet.
    pub(crate) fn new(
        place: (u64, Priority, usize),
        submission: Submission,
        tokenizer: &Tokenizer,
        limits: &Limits,
    ) -> Self {
        let (ticket, priority, account) = place;
        let n_max = n_positions(&submission.request, limits.n_ctx);
        let Request { prompt, sampling, stop, ignore_eos, logprobs, cache, deadline, .. } =
            submission.request;
        let Request { constraint, preamble, calls, min_tokens, stop_tokens, banned, .. } =
            submission.request;
        let channels = submission.request.channels;
        let prompt_logprobs = submission.request.prompt_logprobs;
        let decoder = match constraint {
            Some(_) => StreamDecoder::verbatim(),
            None => StreamDecoder::after(tokenizer, &prompt),
        };
        let sampler = Sampler::new(sampling, submission.seed, &prompt, limits.n_vocab)
            .at_least(min_tokens, tokenizer.ends().iter().chain(&stop_tokens).copied())
            .without(banned)
            .under(constraint, preamble)
            .in_channels(channels);
        let splitter = Splitter::new(preamble, calls).in_channels(channels);
        let splitter = Some(splitter).filter(|splitter| !splitter.is_plain());
        let n_prompt = prompt.len();
        let mut tokens = prompt;
        tokens.reserve_exact(n_max - n_prompt);
        Self {
            ticket,
            priority,
            account,
            seat: 0,
            tokens,
            n_prompt,
            n_cached: 0,
            n_draft: 0,
            n_sure: 0,
            drafter: (limits.cost.max_rows > 1).then(|| Drafter::new(n_max)),
            n_drafted: 0,
            n_accepted: 0,
            n_max,
            pages: Vec::with_capacity(n_max.div_ceil(PAGE_LEN)),
            scope: cache,
            prefix: Prefix::Start(cache),
            naming: Naming::default(),
            n_published: 0,
            leader: None,
            incoming: None,
            n_reused: 0,
            n_matched: 0,
            n_preempted: 0,
            n_charged: 0,
            sampler,
            seed: submission.seed,
            logprobs,
            prompt_logprobs,
            n_scored: 0,
            ignore_eos,
            stop_tokens,
            end: None,
            answer: Answer::new(decoder, splitter, stop, submission.listener),
            cancelled: submission.cancelled,
            deadline,
            submitted_at: submission.submitted_at,
            started_at: None,
            served_at: None,
            first_token_at: None,
        }
    }

    /// Tokens of prompt and answer.
    fn n_known(&self) -> usize {
        self.tokens.len() - self.n_draft
    }

    /// Prompt and answer so far.
    pub(crate) fn known(&self) -> &[u32] {
        &self.tokens[..self.n_known()]
    }

    /// The counters that scheduling goes by.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            n_tokens: self.n_known(),
            n_cached: self.n_cached,
            n_reused: self.n_reused as usize,
            priority: self.priority,
            account: self.account,
            served_at: self.served_at,
            is_held: self.leader.is_some() || self.incoming.is_some(),
            is_scored: self.is_scored(),
        }
    }

    /// Whether there are tokens of the prompt of which the logits before them are wanted.
    fn is_scored(&self) -> bool {
        self.prompt_logprobs.is_some() && self.n_scored < self.n_prompt
    }

    /// Tokens of which nobody wants the logits again: they may come from the cache.
    fn n_claimable(&self) -> usize {
        match self.is_scored() {
            true => self.n_scored.saturating_sub(1),
            // The last token must be computed, or there would be no logits.
            false => self.n_known() - 1,
        }
    }

    /// With whom it shares pages.
    pub(crate) fn scope(&self) -> CacheScope {
        self.scope
    }

    /// Prompt tokens that the cache spared.
    pub(crate) fn n_reused(&self) -> u32 {
        self.n_reused
    }

    /// Tokens of the answer since the last call.
    pub(crate) fn take_uncharged(&mut self) -> usize {
        let n_generated = self.n_generated();
        n_generated - std::mem::replace(&mut self.n_charged, n_generated)
    }

    /// Tokens of the answer so far.
    pub(crate) fn n_generated(&self) -> usize {
        self.n_known() - self.n_prompt
    }

    /// Pages that it holds.
    #[cfg(test)]
    pub(crate) fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// Pages that nobody else uses.
    pub(crate) fn n_own_pages(&self, pool: &PagePool) -> usize {
        self.pages.iter().filter(|&&page| !pool.is_shared(page)).count()
    }

    /// Pages that it lacks to compute all that it knows and the next token.
    pub(crate) fn n_pages_lacking(&self) -> usize {
        (self.n_known() + 1).min(self.n_max).div_ceil(PAGE_LEN).saturating_sub(self.pages.len())
    }

    /// Where it stands among those that must give up their pages: the largest first.
    pub(crate) fn rank(&self) -> (Priority, u64) {
        (self.priority, self.ticket)
    }

    /// Takes over the pages of its next tokens that are in the cache, and need not be computed for
    /// their logits. Returns how many tokens that spares.
    pub(crate) fn claim_cached(&mut self, pool: &mut PagePool) -> usize {
        if self.scope == CacheScope::Off || self.n_cached != self.n_published * PAGE_LEN {
            return 0;
        }
        let n_before = self.n_cached;
        while self.n_cached + PAGE_LEN <= self.n_claimable() {
            let tokens = &self.tokens[self.n_cached..][..PAGE_LEN];
            let Some((page, prefix)) = pool.find(self.prefix, tokens) else { break };
            pool.claim(page);
            self.pages.push(page);
            self.prefix = prefix;
            self.naming.pass(self.scope, tokens);
            self.n_published += 1;
            self.n_cached += PAGE_LEN;
        }
        let n_spared = self.n_cached - n_before;
        if self.n_preempted == 0 {
            let n_next = pool.n_matching(self.prefix, &self.tokens[self.n_cached..self.n_prompt]);
            self.n_reused += n_spared as u32;
            self.n_matched = self.n_matched.max((self.n_cached + n_next) as u32);
        }
        n_spared
    }

    /// Lets others find the pages that are full by now.
    pub(crate) fn publish(&mut self, pool: &mut PagePool) {
        while self.scope != CacheScope::Off && (self.n_published + 1) * PAGE_LEN <= self.n_cached {
            self.publish_next(pool, Saved::No);
        }
    }

    fn publish_next(&mut self, pool: &mut PagePool, saved: Saved) {
        let page = &mut self.pages[self.n_published];
        let tokens = &self.tokens[self.n_published * PAGE_LEN..][..PAGE_LEN];
        (*page, self.prefix) = pool.publish(*page, self.prefix, tokens);
        if let Some(name) = self.naming.pass(self.scope, tokens) {
            pool.set_name(*page, name, saved);
        }
        self.n_published += 1;
    }

    /// Notes what its pages are called, before it has any.
    pub(crate) fn name_pages(&mut self, start: Option<PageKey>) {
        self.naming = Naming { key: start, start };
    }

    /// What the store may know of its next tokens: the scope, the page before, and whole pages, at
    /// least one; `None` where it is of no use to ask.
    pub(crate) fn to_restore(&self) -> Option<(CacheScope, PageKey, &[u32])> {
        let is_idle = self.leader.is_none() && self.incoming.is_none();
        let key = self.naming.key.filter(|_| is_idle && self.pages.len() == self.n_published)?;
        let next = self.known().get(self.n_cached..self.n_claimable())?;
        let next = &next[..next.len() / PAGE_LEN * PAGE_LEN];
        (self.n_cached == self.n_published * PAGE_LEN && !next.is_empty())
            .then_some((self.scope, key, next))
    }

    /// The pages on their way to it.
    pub(crate) fn incoming(&mut self) -> Option<&mut Incoming> {
        self.incoming.as_mut()
    }

    /// Begins or ends waiting for the store.
    pub(crate) fn set_incoming(&mut self, incoming: Option<Incoming>) {
        self.incoming = incoming;
    }

    /// Takes over a page that came from the store, for its next tokens. Returns whether it can use
    /// more.
    pub(crate) fn adopt(&mut self, page: u32, pool: &mut PagePool) -> bool {
        self.pages.push(page);
        self.n_cached += PAGE_LEN;
        self.publish_next(pool, Saved::Yes);
        if self.n_preempted == 0 {
            self.n_reused += PAGE_LEN as u32;
            self.n_matched = self.n_matched.max(self.n_cached as u32);
        }
        self.n_cached + PAGE_LEN <= self.n_claimable()
    }

    /// Takes pages until it has room for `n_tokens` beyond what is cached. Returns for how many
    /// it has.
    pub(crate) fn grow(&mut self, n_tokens: usize, pool: &mut PagePool) -> usize {
        let n_wanted = (self.n_cached + n_tokens).div_ceil(PAGE_LEN);
        while self.pages.len() < n_wanted
            && let Some(page) = pool.take()
        {
            self.pages.push(page);
        }
        n_tokens.min(self.pages.len() * PAGE_LEN - self.n_cached)
    }

    /// Gives all pages back; what was published stays in the cache as long as there is room.
    pub(crate) fn release(&mut self, pool: &mut PagePool) {
        self.pages.drain(..).rev().for_each(|page| pool.release(page));
        self.n_cached = 0;
        self.n_published = 0;
        self.prefix = Prefix::Start(self.scope);
        self.naming.restart();
        self.leader = None;
        self.incoming = None;
    }

    /// Notes that it lost its seat.
    pub(crate) fn preempt(&mut self, pool: &mut PagePool) {
        self.release(pool);
        self.n_preempted += 1;
    }

    /// Waits for `other`, seated before, if that computes more of its first pages than the cache
    /// had. One that goes after this one in rank is not waited for.
    pub(crate) fn follow(&mut self, other: &Self) {
        let n_most = self.n_claimable() / PAGE_LEN;
        let is_useful = other.scope == self.scope
            && self.scope != CacheScope::Off
            && other.priority <= self.priority
            && other.n_published < n_most
            && self.leader.is_none_or(|(_, n_pages)| n_pages < n_most);
        if is_useful {
            let n_pages = n_common(other.known(), self.known()) / PAGE_LEN;
            let n_pages = n_pages.min(n_most);
            let n_so_far = self.leader.map_or(self.n_published, |(_, n_pages)| n_pages);
            if n_pages > n_so_far.max(other.n_published) {
                self.leader = Some((other.seat, n_pages));
            }
        }
    }

    /// Whom it waits for: the seat, and how many pages.
    pub(crate) fn leader(&self) -> Option<(u64, usize)> {
        self.leader
    }

    /// Ends the waiting.
    pub(crate) fn stop_following(&mut self) {
        self.leader = None;
    }

    /// Pages that others can find.
    pub(crate) fn n_published(&self) -> usize {
        self.n_published
    }

    /// Why it must end before its time, if it must.
    pub(crate) fn over(&self, now: Instant) -> Option<FinishReason> {
        over(&self.cancelled, self.deadline, now)
    }

    /// How many guesses it would add to a step of `n_rows` rows.
    pub(crate) fn n_draft_wanted(&self, n_rows: usize, cost: &StepCost) -> usize {
        // All accepted, there is one more token, and no more than `n_max` in all.
        let n_most = (self.n_max - self.n_known()).saturating_sub(1);
        let (tokens, forced) = (self.known(), self.sampler.forced());
        let n_wanted = |drafter: &Drafter| drafter.n_wanted(n_rows, cost, tokens, forced);
        self.drafter.as_ref().map_or(0, n_wanted).min(n_most)
    }

    /// Makes the guesses of its share.
    pub(crate) fn draft(&mut self, share: &Share) {
        self.n_sure = 0;
        if let Some(drafter) = &self.drafter {
            let forced = self.sampler.forced();
            drafter.draft(&mut self.tokens, share.n_draft, forced);
            self.n_draft = share.n_draft;
            self.n_drafted += share.n_draft as u32;
            if self.logprobs.is_none() && self.sampler.is_indifferent() {
                self.n_sure = forced.len().min(share.n_draft);
            }
        }
    }

    /// The rows of this step that decide nothing and have no logits, the first ones.
    pub(crate) fn n_sure(&self) -> usize {
        self.n_sure
    }

    /// Appends the tokens of which this step's logits are wanted. Returns `false` where these are
    /// more than `n_most`, or not known.
    pub(crate) fn allowed(&mut self, share: &Share, n_most: usize, ids: &mut Vec<u32>) -> bool {
        // Behind guesses that are not forced it depends on them.
        self.logprobs.is_none()
            && self.n_sure == share.n_draft
            && self.sampler.allowed(self.n_sure, n_most, ids)
    }

    /// Its part of the batch.
    pub(crate) fn slice(&self, share: &Share) -> Slice<'_> {
        Slice {
            tokens: &self.tokens[self.n_cached..][..share.n_tokens + share.n_draft],
            start_pos: self.n_cached as u32,
            pages: &self.pages,
            logits: match share {
                _ if self.is_scored() => LogitsFor::All,
                Share { is_last: false, .. } => LogitsFor::None,
                Share { n_draft: 0, .. } => LogitsFor::Last,
                // Behind a single token, so for it and for each guess.
                _ => LogitsFor::From(self.n_sure),
            },
        }
    }

    /// Notes that the pass over its share is done, guesses apart.
    pub(crate) fn advance(&mut self, share: &Share, step_began: Instant) {
        self.n_cached += share.n_tokens;
        self.started_at.get_or_insert(step_began);
        self.served_at = Some(step_began);
        if share.is_last && self.n_max == self.n_prompt {
            self.end.get_or_insert(FinishReason::Length);
        }
    }

    /// Rows of logits before those that a token is sampled from.
    pub(crate) fn n_scored_rows(&self, share: &Share) -> usize {
        match self.is_scored() {
            true => share.n_tokens - usize::from(share.is_last),
            false => 0,
        }
    }

    /// Reports the tokens of the prompt that follow those of its share, given the logits of these,
    /// one row for each; before [`Sequence::advance`].
    pub(crate) fn score<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [f32]>,
        scratch: &mut SamplerScratch,
    ) {
        let Some(n_top) = self.prompt_logprobs.filter(|_| self.is_scored()) else { return };
        let mut tokens = Vec::new();
        if self.n_scored == 0 {
            tokens.push(TokenInfo { id: self.tokens[0], logprob: None, top: Vec::new() });
        }
        for (pos, row) in (self.n_cached + 1..).zip(rows) {
            // After an interruption some are computed again.
            if pos < self.n_scored + tokens.len() || self.end.is_some() {
                continue;
            }
            if let Err(error) = ensure_finite(row) {
                self.end = Some(FinishReason::Failed(error.to_string()));
                continue;
            }
            let id = self.tokens[pos];
            let (logprob, top) = log_probabilities(row, id, n_top as usize, scratch);
            tokens.push(TokenInfo { id, logprob: Some(logprob), top });
        }
        self.n_scored += tokens.len();
        if !tokens.is_empty() {
            self.answer.send(Event::Prompt { tokens });
        }
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
            Err(error) => {
                self.end = Some(FinishReason::Failed(error.to_string()));
                self.end_draft();
                false
            }
            Ok(token) => self.take_token(token, tokenizer),
        }
    }

    /// As [`Sequence::take`], where the next token is forced: its logits were not computed.
    pub(crate) fn take_sure(&mut self, tokenizer: &Tokenizer) -> bool {
        let guess = self.tokens.get(self.n_known()).copied();
        match self.sampler.choose_single() {
            Some(id) if Some(id) == guess => {
                self.take_token(TokenInfo { id, logprob: None, top: Vec::new() }, tokenizer)
            }
            // It is not after all (a tokenizer may write the rest of a forced text otherwise), so
            // the last token goes through the next pass once more, for its logits.
            _ => {
                self.n_cached -= 1;
                self.end_draft();
                self.sampler.forget_forced();
                false
            }
        }
    }

    fn take_token(&mut self, token: TokenInfo, tokenizer: &Tokenizer) -> bool {
        let is_guessed = self.push(token.id, tokenizer);
        self.end = self.emit(tokenizer, token);
        if is_guessed && self.end.is_none() {
            return true;
        }
        self.end_draft();
        if self.end.is_none() {
            if self.drafter.is_some() {
                self.sampler.find_forced();
            }
            self.sampler.send_ahead();
        }
        false
    }

    /// Forgets the guesses that are left.
    fn end_draft(&mut self) {
        self.tokens.truncate(self.n_known());
        self.n_draft = 0;
    }

    /// Chooses the next token.
    fn sample(
        &mut self,
        logits: &[f32],
        scratch: &mut SamplerScratch,
    ) -> Result<TokenInfo, SampleError> {
        let pos = self.n_known() as u64;
        let id = self.sampler.choose(logits, pos, scratch)?;
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
    fn push(&mut self, id: u32, tokenizer: &Tokenizer) -> bool {
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
        self.sampler.accept(id, tokenizer);
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
        if (!self.ignore_eos && tokenizer.is_end_of_generation(token.id))
            || self.stop_tokens.contains(&token.id)
        {
            return Some(FinishReason::Stop);
        }
        if let Some(stop) = self.answer.push(tokenizer, token) {
            return Some(FinishReason::StopString(stop));
        }
        if self.sampler.is_complete() {
            return Some(FinishReason::Stop);
        }
        if self.n_known() == self.n_max {
            return Some(FinishReason::Length);
        }
        // Nobody is left to tell, so the reason is for form's sake.
        self.answer.is_deaf().then_some(FinishReason::Cancelled)
    }

    /// Whether this step ended it.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
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
            n_reused: self.n_reused,
            n_matched: self.n_matched,
            n_preempted: self.n_preempted,
            n_generated: self.n_generated() as u32,
            n_preamble: self.sampler.n_preamble(),
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

fn over(cancelled: &AtomicBool, deadline: Option<Instant>, now: Instant) -> Option<FinishReason> {
    if cancelled.load(Ordering::Relaxed) {
        return Some(FinishReason::Cancelled);
    }
    deadline.is_some_and(|deadline| deadline <= now).then_some(FinishReason::Expired)
}

impl Entry {
    /// What its first page comes after; `None` where nothing is to be found.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        let scope = match &self.work {
            Work::New(new) => new.request.cache,
            Work::Back(sequence) => sequence.scope,
        };
        (scope != CacheScope::Off).then_some(Prefix::Start(scope))
    }

    /// Why it must end before its time, if it must.
    pub(crate) fn over(&self, now: Instant) -> Option<FinishReason> {
        match &self.work {
            Work::New(new) => over(&new.cancelled, new.request.deadline, now),
            Work::Back(sequence) => sequence.over(now),
        }
    }
}

/// Ends a request that never got a seat.
pub(crate) fn finish_unseated(submission: Submission, reason: FinishReason) {
    let n_prompt = submission.request.prompt.len() as u32;
    let mut answer = Answer::new(StreamDecoder::new(), None, Vec::new(), submission.listener);
    answer.send(Event::Done(Done::unbegun(reason, n_prompt, submission.seed)));
}
