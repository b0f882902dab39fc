//! What the next step works on: pure arithmetic over counters, no tensor in sight.
//!
//! A step carries the decode token of every sequence that is generating, so that none of them
//! waits behind a long prompt, and beside them at most [`PREFILL_CHUNK`] tokens of prompts, the
//! longest-admitted first. Drafts fill up what such a step leaves of the rows that cost little
//! ([`StepCost`]). The split has no influence on results, only on when they come.

use crate::draft::StepCost;

/// Most prompt tokens of one step, over all sequences: enough to keep the matrix products busy,
/// few enough that the sequences beside it get their next token soon.
pub const PREFILL_CHUNK: usize = 256;

/// Where one running sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Tokens known: the prompt and what was sampled.
    pub(crate) n_tokens: usize,
    /// Of those, how many the KV cache holds.
    pub(crate) n_cached: usize,
}

/// A sequence's share of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Which of the running sequences.
    pub(crate) seq_idx: usize,
    /// How many of its next tokens are worked on, at least 1.
    pub(crate) n_tokens: usize,
    /// Whether these are the last it has, so that the next one can be sampled.
    pub(crate) is_last: bool,
    /// Guesses that are worked on behind them.
    pub(crate) n_draft: usize,
}

/// Fills `shares` with the next step's work, in the order of `sequences`, which is the order of
/// their admission.
pub(crate) fn schedule(sequences: impl Iterator<Item = Progress>, shares: &mut Vec<Share>) {
    shares.clear();
    let mut n_prefill_left = PREFILL_CHUNK;
    for (seq_idx, progress) in sequences.enumerate() {
        let n_left = progress.n_tokens - progress.n_cached;
        let n_tokens = match n_left {
            1 => 1,
            _ => n_left.min(n_prefill_left),
        };
        if n_tokens == 0 {
            continue;
        }
        if n_left > 1 {
            n_prefill_left -= n_tokens;
        }
        shares.push(Share { seq_idx, n_tokens, is_last: n_tokens == n_left, n_draft: 0 });
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

    fn check(sequences: &[(usize, usize)], expected: &[(usize, usize, bool)]) {
        let mut shares = Vec::new();
        let progress = |&(n_tokens, n_cached)| Progress { n_tokens, n_cached };
        schedule(sequences.iter().map(progress), &mut shares);
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
        check(&[(1000, 0), (50, 49), (90, 89)], &[(0, 256, false), (1, 1, true), (2, 1, true)]);
        check(
            &[(50, 49), (200, 0), (100, 0), (9, 0)],
            &[(0, 1, true), (1, 200, true), (2, 56, false)],
        );
        check(&[(300, 299), (2, 0)], &[(0, 1, true), (1, 2, true)]);
    }

    #[test]
    fn drafts_fill_the_rows_that_are_left() {
        let check = |sequences: &[(usize, usize)], wanted: &[usize], expected: &[usize]| {
            let mut shares = Vec::new();
            let progress = |&(n_tokens, n_cached)| Progress { n_tokens, n_cached };
            schedule(sequences.iter().map(progress), &mut shares);
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

    /// Any load: bounded steps, no double work, and everything gets done.
    #[test]
    fn every_sequence_gets_to_its_end() {
        for case in 0..50u64 {
            let number = |i: u64, n: f64| (crate::philox::uniform(case, i) * n) as usize;
            let n_sequences = 1 + number(0, 12.0) as u64;
            let mut sequences: Vec<Progress> = (0..n_sequences)
                .map(|i| Progress { n_tokens: 1 + number(i + 1, 900.0), n_cached: 0 })
                .collect();
            let n_all: usize = sequences.iter().map(|s| s.n_tokens).sum();
            let mut shares = Vec::new();
            for n_steps in 0.. {
                schedule(sequences.iter().copied(), &mut shares);
                if sequences.iter().all(|s| s.n_cached == s.n_tokens) {
                    assert!(shares.is_empty());
                    break;
                }
                let n_tokens: usize = shares.iter().map(|share| share.n_tokens).sum();
                assert!(n_tokens > 0 && n_tokens <= PREFILL_CHUNK + sequences.len());
                assert!(n_steps <= n_all.div_ceil(PREFILL_CHUNK) + sequences.len());
                for share in &shares {
                    let sequence = &mut sequences[share.seq_idx];
                    sequence.n_cached += share.n_tokens;
                    assert!(sequence.n_cached <= sequence.n_tokens);
                    assert_eq!(share.is_last, sequence.n_cached == sequence.n_tokens);
                }
            }
        }
    }
}
