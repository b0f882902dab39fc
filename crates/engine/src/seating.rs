//! Who gets a seat and who loses one: the part of a step that comes before the pass.
//!
//! A sequence is seated when there are pages for all that it knows, beside what those that run
//! still need for theirs and one page for each of them to grow by. Beyond that pages are taken as
//! they are needed; when there are none, the youngest of the lowest priority is put back, and the
//! one that came first among the highest never is, so that there is always progress.

use crate::pages::PagePool;
use crate::request::FinishReason;
use crate::sequence::Sequence;
use crate::waiting::{Entry, Waiting, Work};
use crate::worker::{Forward, Worker, finish_waiting};
use kernels::PAGE_LEN;
use std::time::Instant;

impl<F: Forward> Worker<F> {
    /// Ends what was cancelled or is too late, waiting or running.
    pub(crate) fn remove_over(&mut self) {
        self.queue.take_arrived(&mut self.arrived);
        self.arrived.drain(..).for_each(|submission| self.waiting.arrive(submission));
        let now = Instant::now();
        for entry in self.waiting.take_over(|entry| entry.over(now).is_some()) {
            if let Work::New(submission) = &entry.work {
                self.queue.no_longer_waits(submission);
            }
            let reason = entry.over(now).unwrap_or(FinishReason::Cancelled);
            finish_waiting(entry, reason);
        }
        self.remove(|sequence| sequence.over(now));
    }

    /// Seats who comes next as long as there is room, if need be that of a lower priority.
    pub(crate) fn admit(&mut self) {
        while let Some(next) = self.waiting.next() {
            let priority = next.priority;
            if self.running.len() < self.limits.max_sequences && self.has_pages_for(next) {
                if let Some(entry) = self.waiting.pop() {
                    self.seat(entry);
                }
            } else if self.running.iter().any(|sequence| sequence.priority > priority) {
                self.preempt_last();
            } else {
                return;
            }
        }
    }

    fn seat(&mut self, entry: Entry) {
        let mut sequence = match entry.work {
            Work::New(submission) => {
                self.queue.no_longer_waits(&submission);
                self.waiting.charge(entry.account, submission.request.prompt.len() as u64);
                let place = (entry.ticket, entry.priority, entry.account);
                Sequence::new(place, *submission, &self.tokenizer, &self.limits)
            }
            Work::Back(sequence) => *sequence,
        };
        sequence.priority = entry.priority;
        sequence.seat = self.next_seat;
        self.next_seat += 1;
        let scope = sequence.scope();
        sequence.name_pages(self.keeper.as_ref().and_then(|keeper| keeper.start(scope)));
        claim_cached(&mut sequence, &mut self.pages, &mut self.waiting);
        self.running.iter().for_each(|other| sequence.follow(other));
        self.running.push(sequence);
        self.begin_restore(self.running.len() - 1);
    }

    /// Lets those go on whose leaders have come far enough, or are gone.
    pub(crate) fn release_followers(&mut self) {
        for seq_idx in 0..self.running.len() {
            let Some((seat, n_pages)) = self.running[seq_idx].leader() else { continue };
            let leader = self.running[..seq_idx].iter().find(|other| other.seat == seat);
            if leader.is_some_and(|leader| leader.n_published() < n_pages) {
                continue;
            }
            let (before, rest) = self.running.split_at_mut(seq_idx);
            let Some(sequence) = rest.first_mut() else { continue };
            sequence.stop_following();
            claim_cached(sequence, &mut self.pages, &mut self.waiting);
            before.iter().for_each(|other| sequence.follow(other));
            self.begin_restore(seq_idx);
        }
    }

    /// Whether there are pages for one that waits.
    fn has_pages_for(&self, entry: &Entry) -> bool {
        let n_all = (entry.tokens().len() + 1).min(self.limits.n_ctx).div_ceil(PAGE_LEN);
        let n_needed = n_all - n_shared(&self.pages, entry);
        let n_owed: usize = self.running.iter().map(Sequence::n_pages_lacking).sum();
        n_needed + n_owed + self.running.len() <= self.pages.n_available()
    }

    /// Puts back the sequence that must give way first.
    pub(crate) fn preempt_last(&mut self) {
        let ranks = self.running.iter().map(Sequence::rank).enumerate();
        let Some((seq_idx, _)) = ranks.max_by_key(|&(_, rank)| rank) else { return };
        let mut sequence = self.running.remove(seq_idx);
        sequence.preempt(&mut self.pages);
        self.waiting.put_back(sequence);
    }
}

/// Takes over what is in the cache; the client need not pay for it.
fn claim_cached(sequence: &mut Sequence, pages: &mut PagePool, waiting: &mut Waiting) {
    let n_before = sequence.n_reused();
    sequence.claim_cached(pages);
    waiting.refund(sequence.account, u64::from(sequence.n_reused() - n_before));
}

/// Pages of the entry's tokens that some sequence uses now: sharing them takes none.
fn n_shared(pool: &PagePool, entry: &Entry) -> usize {
    let Some(start) = entry.prefix() else { return 0 };
    let tokens = entry.tokens();
    let mut prefix = start;
    let full = tokens[..tokens.len() - 1].chunks_exact(PAGE_LEN);
    full.map_while(|tokens| {
        let (page, after) = pool.find(prefix, tokens)?;
        prefix = after;
        Some(page)
    })
    .take_while(|&page| pool.is_used(page))
    .count()
}
