//! Drafts by prompt lookup (Saxena 2023): where the sequence's last tokens stood before, what came
//! next there is likely to come again. A guess that a pass checks beside the token it is for.
//!
//! A draft costs a few more rows of a pass and never changes a result: the sampler chooses each
//! token from the same logits at the same position with the same random number, and what it
//! chooses otherwise than the draft is simply the next token. So everything here is about cost,
//! and goes by counts alone: no clock, no random number.

use kernels::Isa;

/// Tokens that must agree before a place counts as an earlier occurrence; the longer is tried
/// first.
const N_GRAMS: [usize; 2] = [3, 2];
/// Slots of the index, 4 bytes each: eight for each token, so that few are wanted twice, and at
/// most 256 KiB a sequence. Later n-grams take the slots of earlier ones, which only costs drafts.
const MIN_SLOTS: usize = 1 << 10;
const MAX_SLOTS: usize = 1 << 16;
/// Agreements of this many tokens and more are one class.
const LONG_MATCH: usize = 5;
/// Weight of the newest observation in a rate: some eight tokens of memory, so that a text that
/// stops repeating itself is noticed within a sentence.
const RATE_STEP: f32 = 1.0 / 8.0;
/// What is expected of a match before anything was observed.
const FIRST_RATE: f32 = 0.5;

/// What the rows of a decode step cost: the first as much as reading all weights, each further one
/// `row` of it, up to `max_rows`, where the arithmetic outweighs the reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepCost {
    row: f32,
    /// Most rows of a step with drafts.
    pub(crate) max_rows: usize,
}

impl StepCost {
    /// Drafts never pay.
    pub(crate) const NO_DRAFTS: Self = Self { row: 1.0, max_rows: 0 };

    /// As measured with the default model, which is small and so has the dearest rows: a step of
    /// `n` rows takes `1 + 0.23 (n - 1)` of a step of one with AVX-512 and `1 + 0.26 (n - 1)` with
    /// AVX2, to 16 rows and beyond. A constant and not a measurement at load, so that the same
    /// requests make the same steps.
    pub(crate) fn of(isa: Isa) -> Self {
        match isa {
            Isa::Avx512 => Self { row: 0.25, max_rows: 8 },
            Isa::Avx2 | Isa::AvxVnni => Self { row: 0.3, max_rows: 6 },
            // Portable arithmetic is what its steps wait for.
            _ => Self::NO_DRAFTS,
        }
    }

    /// Drafts as long as they can be, for tests.
    #[cfg(test)]
    pub(crate) fn free(max_rows: usize) -> Self {
        Self { row: 0.0, max_rows }
    }

    /// Time of a step of `n_rows`, in steps of one row.
    fn time(&self, n_rows: usize) -> f32 {
        1.0 + self.row * (n_rows as f32 - 1.0)
    }
}

/// Guesses how one sequence goes on.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// By hash of an n-gram: the position after its latest occurrence; 0 for none. A collision
    /// is found by comparing the tokens.
    slots: Box<[u32]>,
    n_indexed: usize,
    /// What agrees with the end of the sequence.
    found: Option<Match>,
    /// How often the guess was right, by length of the match.
    rates: [f32; LONG_MATCH + 1],
}

/// The tokens before `next` are those that the sequence ends with.
#[derive(Debug, Clone, Copy)]
struct Match {
    next: usize,
    /// How many agree, as far as is known.
    len: usize,
}

impl Match {
    /// Whether what came behind the earlier occurrence is `more`, which comes behind `tokens`.
    fn goes_on_with(&self, tokens: &[u32], more: &[u32]) -> bool {
        tokens[self.next..].iter().chain(more).zip(more).all(|(earlier, token)| earlier == token)
    }
}

impl Drafter {
    /// A drafter for a sequence of at most `n_max` tokens.
    pub(crate) fn new(n_max: usize) -> Self {
        let n_slots = (8 * n_max).next_power_of_two().clamp(MIN_SLOTS, MAX_SLOTS);
        Self {
            slots: vec![0; n_slots].into(),
            n_indexed: 0,
            found: None,
            rates: [FIRST_RATE; LONG_MATCH + 1],
        }
    }

    /// Takes in what `tokens` has beyond the last call: a few steps for each token.
    pub(crate) fn read(&mut self, tokens: &[u32]) {
        for pos in self.n_indexed..tokens.len() {
            self.read_token(&tokens[..=pos]);
        }
        self.n_indexed = tokens.len();
    }

    /// Notes whether the guess for the token about to be read is right, used or not: so a text
    /// that begins to repeat itself is noticed without paying for a draft.
    pub(crate) fn judge(&mut self, tokens: &[u32], id: u32) {
        if let Some(Match { next, len }) = self.found {
            let hit = if tokens[next] == id { 1.0 } else { 0.0 };
            let rate = &mut self.rates[len.min(LONG_MATCH)];
            *rate += (hit - *rate) * RATE_STEP;
        }
    }

    /// How many guesses pay in a step that has `n_rows` rows without them: each must add more
    /// tokens per time than the step has. `forced` are sure to come behind `tokens`.
    pub(crate) fn n_wanted(
        &self,
        n_rows: usize,
        cost: &StepCost,
        tokens: &[u32],
        forced: &[u32],
    ) -> usize {
        let len = self.found.filter(|found| found.goes_on_with(tokens, forced)).map(|f| f.len);
        let n_most = cost.max_rows.saturating_sub(n_rows);
        let (mut n_tokens, mut reached) = (n_rows as f32, 1.0);
        for n_drafted in 0..n_most {
            reached *= match len {
                _ if n_drafted < forced.len() => 1.0,
                Some(len) => self.rates[(len + n_drafted).min(LONG_MATCH)],
                None => return n_drafted,
            };
            if reached * cost.time(n_rows + n_drafted) <= cost.row * n_tokens {
                return n_drafted;
            }
            n_tokens += reached;
        }
        n_most
    }

    /// Appends `n_tokens` guesses, as many as were wanted at most, within the capacity of `tokens`,
    /// all of which were read. A text that repeats itself in a period shorter than that goes on in
    /// its guesses.
    pub(crate) fn draft(&self, tokens: &mut Vec<u32>, n_tokens: usize, forced: &[u32]) {
        let n_forced = n_tokens.min(forced.len());
        tokens.extend_from_slice(&forced[..n_forced]);
        let Some(Match { next, .. }) = self.found else { return };
        for pos in next + n_forced..next + n_tokens {
            tokens.push(tokens[pos]);
        }
    }

    /// Takes in the last of `tokens`.
    fn read_token(&mut self, tokens: &[u32]) {
        let end = tokens.len();
        let last = tokens[end - 1];
        // Where the match goes on it is longer than any that the index could find.
        self.found = self.found.filter(|found| tokens[found.next] == last);
        if let Some(found) = &mut self.found {
            *found = Match { next: found.next + 1, len: found.len + 1 };
        }
        for n in N_GRAMS {
            if end < n {
                continue;
            }
            let gram = &tokens[end - n..];
            let slot = slot_of(gram, self.slots.len());
            let earlier = std::mem::replace(&mut self.slots[slot], end as u32) as usize;
            // Within the earlier tokens: the other n-gram may have taken this slot just now.
            let is_earlier = (n..end).contains(&earlier);
            if self.found.is_none() && is_earlier && tokens[earlier - n..earlier] == *gram {
                self.found = Some(Match { next: earlier, len: n });
            }
        }
    }
}

/// The slot of an n-gram (Fibonacci hashing; Knuth, volume 3, section 6.4); `n_slots` is a power
/// of two above 1.
fn slot_of(gram: &[u32], n_slots: usize) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = gram.iter().fold(gram.len() as u64, |hash, &id| {
        (hash ^ u64::from(id)).wrapping_mul(GOLDEN).rotate_left(29)
    });
    (hash.wrapping_mul(GOLDEN) >> (64 - n_slots.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::uniform;

    /// The draft of up to `n_tokens` for a sequence read token by token.
    fn draft_after(tokens: &[u32], n_tokens: usize) -> Vec<u32> {
        draft_forced(tokens, n_tokens, &[])
    }

    fn draft_forced(tokens: &[u32], n_tokens: usize, forced: &[u32]) -> Vec<u32> {
        let mut drafter = Drafter::new(tokens.len() + n_tokens);
        for end in 1..=tokens.len() {
            drafter.read(&tokens[..end]);
        }
        let mut all = tokens.to_vec();
        let n_wanted = drafter.n_wanted(1, &StepCost::free(1 + n_tokens), tokens, forced);
        drafter.draft(&mut all, n_wanted, forced);
        all.split_off(tokens.len())
    }

    #[test]
    fn drafts_what_came_after_the_latest_longest_match() {
        let check = |tokens: &[u32], expected: &[u32]| {
            assert_eq!(draft_after(tokens, 4), expected, "{tokens:?}");
        };
        check(&[], &[]);
        check(&[1], &[]);
        check(&[1, 2, 3, 4], &[]);
        // Two tokens agree, then three; one is not enough.
        check(&[1, 2, 3, 4, 5, 2, 3], &[4, 5, 2, 3]);
        check(&[1, 2, 3, 4, 5, 1, 2, 3], &[4, 5, 1, 2]);
        check(&[1, 2, 3, 4, 5, 3], &[]);
        // The later of two places, but the longer agreement before it.
        check(&[1, 2, 7, 8, 1, 2, 9, 9, 1, 2], &[9, 9, 1, 2]);
        check(&[5, 1, 2, 7, 8, 6, 1, 2, 9, 5, 1, 2], &[7, 8, 6, 1]);
        // A period shorter than the draft.
        check(&[7, 7, 7], &[7, 7, 7, 7]);
        check(&[3, 4, 3, 4], &[3, 4, 3, 4]);
    }

    #[test]
    fn what_is_forced_comes_first_and_what_agrees_with_it_behind() {
        let check = |tokens: &[u32], forced: &[u32], expected: &[u32]| {
            assert_eq!(draft_forced(tokens, 4, forced), expected, "{tokens:?} {forced:?}");
        };
        check(&[], &[7, 8], &[7, 8]);
        check(&[1, 2, 3, 4], &[5], &[5]);
        check(&[1, 2, 3, 4], &[5, 6, 7, 8, 9], &[5, 6, 7, 8]);
        // The earlier occurrence goes on otherwise, or as the forced tokens do.
        check(&[1, 2, 3, 4, 5, 2, 3], &[6], &[6]);
        check(&[1, 2, 3, 4, 5, 2, 3], &[4], &[4, 5, 2, 3]);
        check(&[1, 2, 3, 4, 5, 2, 3], &[4, 6], &[4, 6]);
        // Beyond the end of what is known.
        check(&[7, 7, 7], &[7, 7], &[7, 7, 7, 7]);
        check(&[3, 4, 3, 4], &[3, 4, 3], &[3, 4, 3, 4]);
        check(&[3, 4, 3, 4], &[3, 4, 4], &[3, 4, 4]);
    }

    /// The definition without an index: a match goes on, or is looked for from the end. A slot
    /// that another n-gram took loses a match, which must be rare.
    #[test]
    fn agrees_with_a_search_of_the_whole_sequence() {
        let mut n_lost = 0;
        for case in 0..40u64 {
            let number = |i: u64| (uniform(case, i) * (2 + case % 5) as f64) as u32;
            let all: Vec<u32> = (0..200).map(number).collect();
            let mut drafter = Drafter::new(all.len());
            for end in 1..=all.len() {
                let (tokens, gone_on) = (&all[..end], drafter.found);
                drafter.read(tokens);
                let gone_on = gone_on.map(|found| found.next);
                let gone_on = gone_on.filter(|&next| tokens[next] == tokens[end - 1]);
                let expected = gone_on.map(|next| next + 1).or_else(|| {
                    N_GRAMS.into_iter().filter(|&n| n < end).find_map(|n| {
                        (n..end).rev().find(|&at| tokens[at - n..at] == tokens[end - n..])
                    })
                });
                n_lost += usize::from(drafter.found.map(|found| found.next) != expected);
                if let Some(Match { next, len }) = drafter.found {
                    assert_eq!(tokens[next - len..next], tokens[end - len..], "case {case}");
                }
            }
        }
        assert!(n_lost < 8000 / 10, "{n_lost} of 8000 lost");
    }

    #[test]
    fn drafts_are_as_long_as_they_pay() {
        const TOKENS: [u32; 5] = [1, 2, 3, 1, 2];
        let check = |rate: f32, n_rows: usize, row: f32, expected: usize| {
            let mut drafter = Drafter::new(100);
            drafter.read(&TOKENS);
            drafter.rates = [rate; LONG_MATCH + 1];
            let found = drafter.n_wanted(n_rows, &StepCost { row, max_rows: 8 }, &TOKENS, &[]);
            assert_eq!(found, expected, "rate {rate}, {n_rows} rows at {row}");
        };
        check(1.0, 1, 0.25, 7);
        check(1.0, 5, 0.25, 3);
        check(1.0, 8, 0.25, 0);
        check(1.0, 300, 0.25, 0);
        check(0.25, 1, 0.25, 0);
        // 1.3 tokens in 1.25 steps; the next row adds 0.09 tokens for 0.25.
        check(0.3, 1, 0.25, 1);
        check(0.5, 1, 0.25, 1);
        check(0.9, 1, 0.25, 6);
        // Four rows are 4 tokens in 1.75 steps: a row must bring more than 0.57 of a token.
        check(0.5, 4, 0.25, 0);
        check(0.6, 4, 0.25, 1);
        check(1.0, 1, 1.0, 0);
        check(0.0, 1, 0.0, 0);
        check(0.01, 1, 0.0, 7);
        // What is sure pays as long as a row costs less than a step.
        let empty = Drafter::new(100);
        let cost = StepCost { row: 0.25, max_rows: 8 };
        assert_eq!(empty.n_wanted(1, &cost, &[], &[5; 3]), 3);
        assert_eq!(empty.n_wanted(5, &cost, &[], &[5; 9]), 3);
        assert_eq!(empty.n_wanted(1, &StepCost::NO_DRAFTS, &[], &[5; 3]), 0);
        assert_eq!(empty.n_wanted(1, &StepCost::free(8), &[], &[]), 0);
    }

    #[test]
    fn wrong_guesses_end_the_drafts_and_right_ones_bring_them_back() {
        let cost = StepCost { row: 0.25, max_rows: 8 };
        let (mut tokens, mut drafter) = (Vec::new(), Drafter::new(4000));
        let mut next = |drafter: &mut Drafter, id: u32| {
            drafter.judge(&tokens, id);
            tokens.push(id);
            drafter.read(&tokens);
            drafter.n_wanted(1, &cost, &tokens, &[])
        };
        let number = |i: u64| (uniform(1, i) * 20.0) as u32;
        let n_random: usize = (0..400).map(|i| next(&mut drafter, number(i))).skip(100).sum();
        assert!(n_random < 100, "{n_random} drafted in 300 random tokens");
        let n_repeated: usize = (0..100).map(|i| next(&mut drafter, i % 9)).skip(50).sum();
        assert_eq!(n_repeated, 50 * 7);
    }

    #[test]
    fn the_index_is_bounded() {
        assert_eq!(Drafter::new(2).slots.len(), MIN_SLOTS);
        assert_eq!(Drafter::new(1 << 30).slots.len(), MAX_SLOTS);
    }
}
