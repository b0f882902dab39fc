//! Who gets a seat and who loses one: the part of a step that comes before the pass.
//!
//! A sequence is seated when there are pages for all that it knows, beside what those that run
//! still need for theirs and one page for each of them to grow by. Beyond that pages are taken as
//! they are needed; when there are none, one of the lowest priority is put back, the youngest of
//! the client that has most seats; the one that came first among the highest never is, so that
//! there is always progress.
//!
//! Nor does one client keep another out by holding every seat: who has none takes one from the
//! client that has most of them, at least two.

use crate::pages::PagePool;
use crate::request::{FinishReason, Priority};
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
            } else if !self.admit_deprived(priority) {
                return;
            }
        }
    }

    /// Seats the next one whose client has no seat, if need be in the place of one whose client has
    /// several. Returns whether it did.
    fn admit_deprived(&mut self, priority: Priority) -> bool {
        let running = &self.running;
        // One that was put back comes first here too, and holds the line until there are pages for
        // it: small newcomers would take what becomes free for ever.
        let next = self.waiting.first(|entry| lacks_seat(entry, priority, running));
        let Some(entry) = next else { return false };
        let n_short = self.n_pages_short(entry);
        if self.running.len() == self.limits.max_sequences || n_short > 0 {
            let Some(seq_idx) = self.seat_to_take(entry.priority, n_short) else { return false };
            self.preempt(seq_idx);
        }
        let Self { running, waiting, .. } = self;
        let next = waiting.pop_first(|entry| lacks_seat(entry, priority, running));
        next.map(|entry| self.seat(entry)).is_some()
    }

    /// The youngest sequence of the client that has most seats, at least two, if its pages are
    /// enough.
    fn seat_to_take(&self, priority: Priority, n_short: usize) -> Option<usize> {
        let seats = self.running.iter().map(|sequence| self.n_seats(sequence.account));
        let most = seats.max()?;
        let of_most = |(_, sequence): &(usize, &Sequence)| {
            sequence.priority >= priority && self.n_seats(sequence.account) == most
        };
        let candidates = self.running.iter().enumerate().filter(of_most);
        let (seq_idx, youngest) = candidates.max_by_key(|(_, sequence)| sequence.rank())?;
        // What it has, what it was still owed, and the page to grow by.
        let n_given = youngest.n_own_pages(&self.pages) + youngest.n_pages_lacking() + 1;
        (most > 1 && n_given >= n_short).then_some(seq_idx)
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
        self.n_pages_short(entry) == 0
    }

    /// How many pages lack for one that waits.
    fn n_pages_short(&self, entry: &Entry) -> usize {
        let n_all = (entry.tokens().len() + 1).min(self.limits.n_ctx).div_ceil(PAGE_LEN);
        let n_needed = n_all - n_shared(&self.pages, entry);
        let n_owed: usize = self.running.iter().map(Sequence::n_pages_lacking).sum();
        (n_needed + n_owed + self.running.len()).saturating_sub(self.pages.n_available())
    }

    /// Puts back the sequence that must give way first.
    pub(crate) fn preempt_last(&mut self) {
        let rank = |sequence: &Sequence| {
            let (priority, ticket) = sequence.rank();
            (priority, self.n_seats(sequence.account), ticket)
        };
        let ranks = self.running.iter().map(rank).enumerate();
        if let Some((seq_idx, _)) = ranks.max_by_key(|&(_, rank)| rank) {
            self.preempt(seq_idx);
        }
    }

    /// Seats that a client has.
    fn n_seats(&self, account: usize) -> usize {
        self.running.iter().filter(|sequence| sequence.account == account).count()
    }

    fn preempt(&mut self, seq_idx: usize) {
        let mut sequence = self.running.remove(seq_idx);
        sequence.preempt(&mut self.pages);
        self.queue.counters.preempted();
        self.waiting.put_back(sequence);
    }
}

/// Takes over what is in the cache; the client need not pay for it.
fn claim_cached(sequence: &mut Sequence, pages: &mut PagePool, waiting: &mut Waiting) {
    let n_before = sequence.n_reused();
    sequence.claim_cached(pages);
    waiting.refund(sequence.account, u64::from(sequence.n_reused() - n_before));
}

/// Whether it is of this priority or a higher one and of a client that has no seat.
fn lacks_seat(entry: &Entry, priority: Priority, running: &[Sequence]) -> bool {
    let has_seat = || running.iter().any(|sequence| sequence.account == entry.account);
    entry.priority <= priority && !has_seat()
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
