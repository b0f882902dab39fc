//! What the next step works on: pure arithmetic over counters, no tensor in sight.
//!
//! A step carries the decode token of every sequence that is generating, so that none of them
//! waits behind a long prompt. A row costs a part of the step, so where several clients generate,
//! one with many sequences has them take turns: a client's time between tokens is its own and that
//! of a few rows, however many another has. Beside the decodes goes a slice of prefill whose size
//! the caller gives ([`Pace`](crate::pace::Pace)). Clients get equal parts of it, and the prompts
//! of each shortest first, so that a question does not wait for a book, interactive before batch;
//! but a quarter is always for the one that was seated first, so that every prompt gets done. A
//! slice that was made larger for short prompts ([`whole_slice`]) is for these first, of clients of
//! which nothing generates before others: such slices are rare, and come on top of what the others
//! have. Drafts fill up what such a step leaves of the rows that cost little ([`StepCost`]). The
//! split has no influence on results, only on when they come.

use crate::draft::StepCost;
use crate::request::Priority;
use std::time::Instant;

/// Most prompt tokens of one step, over all sequences: enough to keep the matrix products busy,
/// few enough that a request that comes in between gets its turn soon.
pub const PREFILL_CHUNK: usize = 256;
/// Most prompt tokens of one step whose logits are wanted, over all sequences: it bounds the logits
/// that a step holds, `[n_rows, n_vocab]`.
pub(crate) const SCORED_CHUNK: usize = 64;
/// How many times the sequences of the client with fewest another one may have in a step: as many
/// rows as make a step about twice as long as one row.
const TIMES_FEWEST: usize = 4;
/// What part of the slice of prefill is for the sequence that was seated first.
const FIRST_PART: usize = 4;

/// Where one running sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Tokens known: the prompt and what was sampled.
    pub(crate) n_tokens: usize,
    /// Of those, how many the KV cache holds.
    pub(crate) n_cached: usize,
    /// Of those, how many it held before the sequence began.
    pub(crate) n_reused: usize,
    pub(crate) priority: Priority,
    /// The client's place in the ledger.
    pub(crate) account: usize,
    /// When the step began that it last had a share of.
    pub(crate) served_at: Option<Instant>,
    /// Whether it waits for pages that another sequence computes.
    pub(crate) is_held: bool,
    /// Whether the logits of all its prompt's tokens are wanted.
    pub(crate) is_scored: bool,
}

impl Progress {
    fn n_left(&self) -> usize {
        self.n_tokens - self.n_cached
    }

    /// Whether its prompt is one that a slice may be made larger for. The end of a long prompt is
    /// none of them: it is dear, and saves little of the wait.
    fn is_short(&self, n_most: usize) -> bool {
        self.priority == Priority::Interactive
            && self.is_prefilling()
            && !self.is_scored
            && self.n_tokens - self.n_reused <= n_most
    }

    /// Whether its prompt is being read.
    pub(crate) fn is_prefilling(&self) -> bool {
        self.n_left() > 1 && !self.is_held
    }

    /// Whether it is generating: its newest token is all that is to be worked on.
    pub(crate) fn is_decoding(&self) -> bool {
        self.n_left() == 1 && !self.is_held
    }
}

/// A sequence's share of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Which of the running sequences, and its client's place in the ledger.
    pub(crate) seq_idx: usize,
    account: usize,
    /// How many of its next tokens are worked on, at least 1.
    pub(crate) n_tokens: usize,
    /// How many there are.
    n_wanted: usize,
    /// Whether the logits of all of them are wanted.
    is_scored: bool,
    /// Whether it comes first in this slice.
    is_first: bool,
    /// Whether these are the last it has, so that the next one can be sampled.
    pub(crate) is_last: bool,
    /// Guesses that are worked on behind them.
    pub(crate) n_draft: usize,
}

/// What a step may work on of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefill {
    /// So many tokens.
    Shared(usize),
    /// So many, for which [`whole_slice`] was asked with `n_most`.
    Whole { n_tokens: usize, n_most: usize },
}

/// Fills `shares` with the next step's work: decodes in the order of `sequences`, which is the
/// order of their seating, then prompts.
pub(crate) fn schedule(
    sequences: impl Iterator<Item = Progress> + Clone,
    prefill: Prefill,
    shares: &mut Vec<Share>,
) {
    shares.clear();
    let n_prefill = match prefill {
        Prefill::Shared(n_tokens) | Prefill::Whole { n_tokens, .. } => n_tokens,
    };
    let none = |(seq_idx, progress): (usize, Progress)| Share {
        seq_idx,
        account: progress.account,
        n_tokens: 0,
        n_wanted: progress.n_left(),
        is_scored: progress.is_scored,
        is_first: false,
        is_last: false,
        n_draft: 0,
    };
    let n_most = most_decoding(sequences.clone());
    let decoding = sequences.clone().enumerate().filter(|(_, progress)| progress.is_decoding());
    let has_turn = |at: &(usize, Progress)| has_turn(sequences.clone(), *at, n_most);
    shares.extend(decoding.filter(has_turn).map(none).map(|share| share.with(1)));
    let n_decoding = shares.len();
    let prefilling = |(_, progress): &(usize, Progress)| progress.is_prefilling();
    for priority in [Priority::Interactive, Priority::Batch] {
        let n_before = shares.len();
        let of_class = sequences.clone().enumerate().filter(prefilling);
        shares.extend(of_class.filter(|(_, p)| p.priority == priority).map(none));
        shares[n_before..].sort_unstable_by_key(|share| (share.n_wanted, share.seq_idx));
    }
    let mut left = Left { n_tokens: n_prefill, n_scored: SCORED_CHUNK };
    let prompts = &mut shares[n_decoding..];
    if let Some(first) = prompts.iter_mut().min_by_key(|share| share.seq_idx) {
        let n_most = if first.is_scored { SCORED_CHUNK } else { n_prefill };
        left.give(first, n_most.min(n_prefill).div_ceil(FIRST_PART));
    }
    if let Prefill::Whole { n_most, .. } = prefill {
        mark_first(sequences.clone(), n_most, prompts);
        left.share_out(prompts, |share| share.is_first);
    }
    let is_batch = |share: &Share| {
        let progress = sequences.clone().nth(share.seq_idx);
        progress.is_some_and(|progress| progress.priority == Priority::Batch)
    };
    let n_interactive = prompts.partition_point(|share| !is_batch(share));
    let (interactive, batch) = prompts.split_at_mut(n_interactive);
    left.share_out(interactive, |_| true);
    left.share_out(batch, |_| true);
    shares.retain(|share| share.n_tokens > 0);
}

/// Marks the short prompts of clients of which nothing generates, or all where there are none.
fn mark_first(
    sequences: impl Iterator<Item = Progress> + Clone,
    n_most: usize,
    prompts: &mut [Share],
) {
    let is_short = |share: &Share| {
        let progress = sequences.clone().nth(share.seq_idx);
        progress.is_some_and(|progress| progress.is_short(n_most))
    };
    for share in prompts.iter_mut() {
        share.is_first = is_short(share) && !generates(sequences.clone(), share.account);
    }
    if prompts.iter().all(|share| !share.is_first) {
        prompts.iter_mut().for_each(|share| share.is_first = is_short(share));
    }
}

/// Most sequences of one client that decode in a step: beside another client, [`TIMES_FEWEST`]
/// times what the one has that has fewest.
fn most_decoding(sequences: impl Iterator<Item = Progress> + Clone) -> usize {
    let decoding = sequences.filter(Progress::is_decoding);
    let first = decoding.clone().next().map(|progress| progress.account);
    if decoding.clone().all(|progress| Some(progress.account) == first) {
        return usize::MAX;
    }
    let n_of = |account: usize| decoding.clone().filter(|other| other.account == account).count();
    let fewest = decoding.clone().map(|progress| n_of(progress.account)).min();
    fewest.map_or(usize::MAX, |fewest| TIMES_FEWEST * fewest)
}

/// Whether a sequence is among the `n_most` of its client that have waited longest for a turn.
fn has_turn(
    sequences: impl Iterator<Item = Progress>,
    (seq_idx, progress): (usize, Progress),
    n_most: usize,
) -> bool {
    let before = |(other_idx, other): &(usize, Progress)| {
        other.is_decoding()
            && other.account == progress.account
            && (other.served_at, *other_idx) < (progress.served_at, seq_idx)
    };
    n_most == usize::MAX || sequences.enumerate().filter(before).count() < n_most
}

/// How many sequences decode in the next step.
pub(crate) fn n_decoding(sequences: impl Iterator<Item = Progress> + Clone) -> usize {
    let n_most = most_decoding(sequences.clone());
    let decoding = sequences.clone().enumerate().filter(|(_, progress)| progress.is_decoding());
    decoding.filter(|at| has_turn(sequences.clone(), *at, n_most)).count()
}

/// Whether a client has sequences that generate.
fn generates(mut sequences: impl Iterator<Item = Progress>, account: usize) -> bool {
    sequences.any(|progress| progress.is_decoding() && progress.account == account)
}

/// How many prompts wait for their first token: where there are several clients, each that has some
/// counts once, since the streams of one are not to make way for all that another asks.
pub(crate) fn n_prompts(sequences: impl Iterator<Item = Progress> + Clone) -> usize {
    let waiting = sequences.clone().filter(|progress| !progress.is_decoding());
    match n_accounts(sequences.map(|progress| progress.account)) {
        0 | 1 => waiting.count(),
        _ => n_accounts(waiting.map(|progress| progress.account)),
    }
}

/// What a step's slice of prefill has room for still.
struct Left {
    n_tokens: usize,
    n_scored: usize,
}

impl Left {
    /// Gives a prompt at most `n_most` tokens more.
    fn give(&mut self, share: &mut Share, n_most: usize) {
        let mut n_more = (share.n_wanted - share.n_tokens).min(n_most).min(self.n_tokens);
        if share.is_scored {
            n_more = n_more.min(self.n_scored);
            self.n_scored -= n_more;
        }
        self.n_tokens -= n_more;
        *share = share.with(share.n_tokens + n_more);
    }

    /// Gives each client that is meant the same part, its shortest prompts first, and what some do
    /// not need to the others in the same order.
    fn share_out(&mut self, prompts: &mut [Share], is_meant: impl Fn(&Share) -> bool) {
        let meant = prompts.iter().filter(|share| is_meant(share));
        let n_clients = n_accounts(meant.clone().map(|share| share.account));
        let n_given: usize = meant.map(|share| share.n_tokens).sum();
        let n_each = (self.n_tokens + n_given).div_ceil(n_clients.max(1));
        for prompt_idx in 0..prompts.len() {
            let Share { account, .. } = prompts[prompt_idx];
            if !is_meant(&prompts[prompt_idx]) {
                continue;
            }
            let own = prompts.iter().filter(|share| share.account == account && is_meant(share));
            let n_had: usize = own.map(|share| share.n_tokens).sum();
            self.give(&mut prompts[prompt_idx], n_each.saturating_sub(n_had));
        }
        let meant = prompts.iter_mut().filter(|share| is_meant(share));
        meant.for_each(|share| self.give(share, usize::MAX));
    }
}

impl Share {
    fn with(self, n_tokens: usize) -> Self {
        Self { n_tokens, is_last: n_tokens == self.n_wanted, ..self }
    }
}

/// How many of the accounts differ.
fn n_accounts(accounts: impl Iterator<Item = usize> + Clone) -> usize {
    let is_first = |&(idx, account): &(usize, usize)| {
        !accounts.clone().take(idx).any(|earlier| earlier == account)
    };
    accounts.clone().enumerate().filter(is_first).count()
}

/// The slice of prefill in which all short interactive prompts would be done, or else the shortest
/// of them, where they come first; `None` where it is more than `n_most`. Of clients of which
/// nothing generates, where such have short prompts.
pub(crate) fn whole_slice(
    sequences: impl Iterator<Item = Progress> + Clone,
    n_most: usize,
) -> Option<usize> {
    // Of clients of which nothing generates, and of all.
    let mut groups = [Prompts::default(), Prompts::default()];
    let prompts = sequences.clone().enumerate().filter(|(_, p)| p.is_short(n_most));
    for (seq_idx, Progress { account, n_tokens, n_cached, .. }) in prompts {
        let is_other = |p: Progress| p.account == account && p.is_short(n_most);
        let is_new = !sequences.clone().take(seq_idx).any(is_other);
        let n_groups = if generates(sequences.clone(), account) { 1 } else { 2 };
        for group in groups.iter_mut().rev().take(n_groups) {
            group.add(n_tokens - n_cached, is_new);
        }
    }
    let Prompts { n_clients, n_tokens, shortest } = groups.into_iter().find(|g| g.n_clients > 0)?;
    // Beside what is reserved for the one that was seated first; the shortest, beside the others'
    // parts as well.
    let slice_of = |n_tokens: usize| (n_tokens * FIRST_PART).div_ceil(FIRST_PART - 1);
    let slices = [n_tokens, shortest * n_clients].map(slice_of);
    slices.into_iter().find(|&n_rows| n_rows <= n_most)
}

/// Some prompts together.
#[derive(Debug, Default)]
struct Prompts {
    n_clients: usize,
    n_tokens: usize,
    /// Tokens that the shortest has left.
    shortest: usize,
}

impl Prompts {
    fn add(&mut self, n_tokens: usize, is_of_new_client: bool) {
        self.shortest = if self.n_clients == 0 { n_tokens } else { self.shortest.min(n_tokens) };
        self.n_tokens += n_tokens;
        self.n_clients += usize::from(is_of_new_client);
    }
}

/// Adds guesses to the shares of sequences that are generating: as many as `n_wanted(seq_idx,
/// n_rows)` says pays beside the step's `n_rows`, as long as there are rows for them. Each gets
/// its part of what is left, so that the first do not take all.
pub(crate) fn add_drafts(
    shares: &mut [Share],
    cost: &StepCost,
    n_wanted: impl Fn(usize, usize) -> usize,
) {
    let n_rows: usize = shares.iter().map(|share| share.n_tokens).sum();
    let mut n_left = cost.max_rows.saturating_sub(n_rows);
    let n_shares = shares.len();
    for (share_idx, share) in shares.iter_mut().enumerate() {
        if share.n_tokens == 1 && share.is_last && n_left > 0 {
            let n_most = n_left.div_ceil(n_shares - share_idx);
            share.n_draft = n_wanted(share.seq_idx, n_rows).min(n_most);
            n_left -= share.n_draft;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(&(n_tokens, n_cached): &(usize, usize)) -> Progress {
        Progress {
            n_tokens,
            n_cached,
            n_reused: 0,
            priority: Priority::Interactive,
            account: 0,
            served_at: None,
            is_held: false,
            is_scored: false,
        }
    }

    fn check(sequences: &[(usize, usize)], expected: &[(usize, usize, bool)]) {
        let mut shares = Vec::new();
        schedule(sequences.iter().map(progress), Prefill::Shared(PREFILL_CHUNK), &mut shares);
        let found: Vec<_> = shares.iter().map(|s| (s.seq_idx, s.n_tokens, s.is_last)).collect();
        assert_eq!(found, expected, "{sequences:?}");
    }

    #[test]
    fn decodes_always_run_and_prompts_share_one_chunk() {
        check(&[], &[]);
        check(&[(10, 0)], &[(0, 10, true)]);
        check(&[(1000, 0)], &[(0, 256, false)]);
        check(&[(1000, 768)], &[(0, 232, true)]);
        check(&[(1000, 744)], &[(0, 256, true)]);
        check(&[(1000, 0), (50, 49), (90, 89)], &[(1, 1, true), (2, 1, true), (0, 256, false)]);
        // Shortest first, and the rest is the next one's.
        check(
            &[(50, 49), (200, 0), (100, 0), (9, 0)],
            &[(0, 1, true), (3, 9, true), (2, 100, true), (1, 147, false)],
        );
        // A quarter is for the first, however long it is.
        check(&[(900, 0), (200, 0), (100, 0)], &[(2, 100, true), (1, 92, false), (0, 64, false)]);
        check(&[(300, 299), (2, 0)], &[(0, 1, true), (1, 2, true)]);
    }

    #[test]
    fn a_whole_slice_gets_the_shortest_prompt_done() {
        let slice = |sequences: &[(usize, usize)]| whole_slice(sequences.iter().map(progress), 256);
        assert_eq!(slice(&[]), None);
        assert_eq!(slice(&[(50, 49), (9, 8)]), None);
        assert_eq!(slice(&[(50, 49), (4000, 0)]), None);
        assert_eq!(slice(&[(50, 49), (90, 0), (90, 0)]), Some(240));
        for n_tokens in 2..=192 {
            let sequences = [(4000, 0), (50, 49), (n_tokens, 0)];
            let mut shares = Vec::new();
            let prefill =
                Prefill::Whole { n_tokens: slice(&sequences).unwrap(), n_most: PREFILL_CHUNK };
            schedule(sequences.iter().map(progress), prefill, &mut shares);
            let share = shares.iter().find(|share| share.seq_idx == 2);
            assert!(share.is_some_and(|share| share.is_last), "{n_tokens}: {shares:?}");
        }
        assert_eq!(slice(&[(4000, 0), (50, 49), (193, 0)]), None);
        assert_eq!(slice(&[(4000, 3900)]), None);
        let reused = Progress { n_reused: 3900, ..progress(&(4000, 3900)) };
        assert_eq!(whole_slice([reused].into_iter(), 256), Some(134));
    }

    #[test]
    fn drafts_fill_the_rows_that_are_left() {
        let check = |sequences: &[(usize, usize)], wanted: &[usize], expected: &[usize]| {
            let mut shares = Vec::new();
            schedule(sequences.iter().map(progress), Prefill::Shared(PREFILL_CHUNK), &mut shares);
            add_drafts(&mut shares, &StepCost::free(6), |seq_idx, _| wanted[seq_idx]);
            let found: Vec<_> = shares.iter().map(|share| share.n_draft).collect();
            assert_eq!(found, expected, "{sequences:?} {wanted:?}");
        };
        check(&[], &[], &[]);
        check(&[(9, 8)], &[3], &[3]);
        check(&[(9, 8)], &[9], &[5]);
        check(&[(9, 8), (5, 4)], &[9, 9], &[2, 2]);
        check(&[(9, 8), (5, 4)], &[0, 9], &[0, 4]);
        check(&[(9, 8), (5, 4), (5, 4)], &[1, 9, 9], &[1, 1, 1]);
        check(&[(9, 8); 6], &[9; 6], &[0; 6]);
        check(&[(9, 8); 7], &[9; 7], &[0; 7]);
        // Beside a prompt, short or long, and never for one.
        check(&[(9, 8), (3, 0)], &[9, 9], &[1, 0]);
        check(&[(9, 8), (300, 0)], &[9, 9], &[0, 0]);
        check(&[(4, 0)], &[9], &[0]);
    }

    #[test]
    fn batch_comes_after_interactive_and_who_is_held_waits() {
        let mut sequences: Vec<_> =
            [(900, 0), (9, 0), (700, 0), (7, 6)].iter().map(progress).collect();
        sequences[1].priority = Priority::Batch;
        sequences[3].is_held = true;
        let mut shares = Vec::new();
        schedule(sequences.iter().copied(), Prefill::Shared(100), &mut shares);
        let found: Vec<_> = shares.iter().map(|share| (share.seq_idx, share.n_tokens)).collect();
        assert_eq!(found, [(2, 75), (0, 25)]);
    }

    #[test]
    fn clients_share_a_step() {
        let of = |account: usize, at: (usize, usize)| Progress { account, ..progress(&at) };
        let check = |sequences: &[Progress], n_prefill: usize, expected: &[(usize, usize)]| {
            let mut shares = Vec::new();
            schedule(sequences.iter().copied(), Prefill::Shared(n_prefill), &mut shares);
            let found: Vec<_> = shares.iter().map(|s| (s.seq_idx, s.n_tokens)).collect();
            assert_eq!(found, expected);
            let n_decoding = n_decoding(sequences.iter().copied());
            assert_eq!(n_decoding, found.iter().filter(|(_, n_tokens)| *n_tokens == 1).count());
        };
        // One client alone decodes with all it has; beside another, with four times as many.
        let mut many = vec![of(1, (9, 8)); 7];
        check(&many, 0, &[0, 1, 2, 3, 4, 5, 6].map(|seq_idx| (seq_idx, 1)));
        many.push(of(2, (5, 4)));
        check(&many, 0, &[0, 1, 2, 3, 7].map(|seq_idx| (seq_idx, 1)));
        // Who waited longest is next.
        let now = Instant::now();
        many[..4].iter_mut().for_each(|progress| progress.served_at = Some(now));
        check(&many, 0, &[0, 4, 5, 6, 7].map(|seq_idx| (seq_idx, 1)));
        // A client that is not generating yet does not count.
        many[7] = of(2, (50, 0));
        check(&many[3..], 10, &[(0, 1), (1, 1), (2, 1), (3, 1), (4, 10)]);
        // Prompts: equal parts, and to the others what one does not need. The quarter that is for
        // the first is of its client's part.
        let prompts = [of(1, (200, 0)), of(1, (100, 0)), of(1, (90, 0)), of(2, (150, 0))];
        check(&prompts, 240, &[(2, 60), (3, 120), (0, 60)]);
        check(&prompts[..2], 240, &[(1, 100), (0, 140)]);
        let short = [of(1, (900, 0)), of(2, (30, 0)), of(3, (40, 0))];
        check(&short, 240, &[(1, 30), (2, 40), (0, 170)]);
        // Whatever else they have.
        check(&[of(1, (5, 4)), prompts[0], prompts[3]], 240, &[(0, 1), (2, 120), (1, 120)]);
    }

    #[test]
    fn a_slice_is_larger_for_short_prompts_of_clients_without_streams() {
        let of = |account: usize, at: (usize, usize)| Progress { account, ..progress(&at) };
        let check = |sequences: &[Progress], n_tokens: usize, expected: &[(usize, usize)]| {
            let found = whole_slice(sequences.iter().copied(), PREFILL_CHUNK);
            assert_eq!(found, Some(n_tokens), "{sequences:?}");
            let mut shares = Vec::new();
            let whole = Prefill::Whole { n_tokens, n_most: PREFILL_CHUNK };
            schedule(sequences.iter().copied(), whole, &mut shares);
            let found: Vec<_> = shares.iter().map(|s| (s.seq_idx, s.n_tokens)).collect();
            assert_eq!(found, expected, "{sequences:?}");
        };
        let stream = of(1, (5, 4));
        check(&[stream, of(1, (200, 0)), of(2, (150, 0))], 200, &[(0, 1), (2, 150), (1, 50)]);
        // A book is not short, so that a question beside it may be, whose client has a stream.
        check(&[stream, of(2, (900, 0)), of(1, (30, 0))], 40, &[(0, 1), (2, 30), (1, 10)]);
        // Several clients' short ones, and where they are too many, the shortest.
        let many = [stream, of(2, (90, 0)), of(3, (60, 0)), of(1, (9, 0))];
        check(&many, 200, &[(0, 1), (3, 9), (2, 60), (1, 90)]);
        let more = [stream, of(2, (90, 0)), of(3, (60, 0)), of(2, (200, 0))];
        check(&more, 160, &[(0, 1), (2, 60), (1, 90), (3, 10)]);
    }

    /// A step with all seats taken, each by another client, must not be slow by this.
    #[test]
    fn the_larger_slice_is_found_in_quadratic_time() {
        let n = 256;
        let of = |account: usize| Progress { account, ..progress(&(20, 0)) };
        let sequences: Vec<Progress> = (0..n).map(of).collect();
        let n_looks = std::cell::Cell::new(0);
        let counted = sequences.iter().inspect(|_| n_looks.set(n_looks.get() + 1)).copied();
        assert_eq!(whole_slice(counted, PREFILL_CHUNK), None);
        assert!(n_looks.get() <= 3 * n * n, "{} for {n}", n_looks.get());
    }

    #[test]
    fn prompts_whose_logits_are_wanted_share_a_smaller_chunk() {
        let mut sequences: Vec<_> =
            [(900, 0), (50, 0), (9, 8), (40, 0)].iter().map(progress).collect();
        sequences[0].is_scored = true;
        sequences[1].is_scored = true;
        let mut shares = Vec::new();
        schedule(sequences.iter().copied(), Prefill::Shared(PREFILL_CHUNK), &mut shares);
        let found: Vec<_> = shares.iter().map(|share| (share.seq_idx, share.n_tokens)).collect();
        // A quarter is for the first.
        assert_eq!(found, [(2, 1), (3, 40), (1, 48), (0, 16)]);
        sequences[1].n_tokens = 20;
        schedule(sequences.iter().copied(), Prefill::Shared(PREFILL_CHUNK), &mut shares);
        assert_eq!(shares.iter().map(|share| share.n_tokens).collect::<Vec<_>>(), [1, 20, 40, 44]);
        assert_eq!(whole_slice(sequences[..2].iter().copied(), 256), None);
    }

    /// Any load: bounded steps, no double work, and everything gets done, the longest prompt too
    /// while short ones keep coming.
    #[test]
    fn every_sequence_gets_to_its_end() {
        for case in 0..50u64 {
            let number = |i: u64, n: f64| (crate::philox::uniform(case, i) * n) as usize;
            let n_sequences = 2 + number(0, 12.0) as u64;
            let mut sequences: Vec<Progress> =
                (0..n_sequences).map(|i| progress(&(1 + number(i + 1, 900.0), 0))).collect();
            let mut shares = Vec::new();
            let (mut n_steps, mut n_prefilled) = (0, 0);
            while sequences.iter().any(|s| s.n_cached < s.n_tokens) {
                let n_prefill = number(1000 + n_steps, 60.0) + 1;
                schedule(sequences.iter().copied(), Prefill::Shared(n_prefill), &mut shares);
                let n_tokens: usize = shares.iter().map(|share| share.n_tokens).sum();
                assert!(n_tokens > 0 && n_tokens <= n_prefill + sequences.len());
                for share in &shares {
                    let sequence = &mut sequences[share.seq_idx];
                    sequence.n_cached += share.n_tokens;
                    assert!(sequence.n_cached <= sequence.n_tokens);
                    assert_eq!(share.is_last, sequence.n_cached == sequence.n_tokens);
                    if share.is_last && share.seq_idx > 0 && n_steps < 100 {
                        *sequence = progress(&(1 + number(5000 + n_steps, 300.0), 0));
                    }
                }
                n_prefilled += n_prefill;
                n_steps += 1;
                assert!(n_steps < 100 + 900 * 14);
                let is_first_done = sequences[0].n_cached == sequences[0].n_tokens;
                assert!(is_first_done || n_prefilled <= 4 * sequences[0].n_tokens);
            }
        }
    }
}
