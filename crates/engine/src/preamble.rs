//! Where an answer stands in its train of thought, and that it comes to an end.

use text::Preamble;

/// Follows the preamble of one answer.
#[derive(Debug)]
pub(crate) struct Thought {
    preamble: Preamble,
    phase: Phase,
    /// Tokens of it so far, marks included, and without.
    n_tokens: u32,
    n_within: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// At the answer's first token, which may begin it.
    Start,
    /// Before the token that ends it.
    Within,
    /// Behind it.
    Over,
}

impl Thought {
    /// At the beginning of an answer.
    pub(crate) fn new(preamble: Preamble) -> Self {
        let phase = if preamble.begin.is_some() { Phase::Start } else { Phase::Within };
        Self { preamble, phase, n_tokens: 0, n_within: 0 }
    }

    /// The token that may come beside those of the answer proper, because it begins the preamble.
    pub(crate) fn may_begin_with(&self) -> Option<u32> {
        self.preamble.begin.filter(|_| self.phase == Phase::Start)
    }

    /// Whether the next token belongs to the preamble.
    pub(crate) fn is_within(&self) -> bool {
        self.phase == Phase::Within
    }

    /// The token that has to come next, because the preamble is as long as it may be.
    pub(crate) fn forced(&self) -> Option<u32> {
        let is_spent = self.preamble.n_max.is_some_and(|n_max| self.n_within >= n_max);
        (is_spent && self.is_within()).then_some(self.preamble.end)
    }

    /// Tokens of the preamble so far, its marks included.
    pub(crate) fn n_tokens(&self) -> u32 {
        self.n_tokens
    }

    /// Tells that `id` is now part of the answer. Returns whether it belongs to the preamble.
    pub(crate) fn accept(&mut self, id: u32) -> bool {
        let is_its = match self.phase {
            Phase::Over => false,
            Phase::Start => {
                let begins = self.preamble.begin == Some(id);
                self.phase = if begins { Phase::Within } else { Phase::Over };
                begins
            }
            Phase::Within if id == self.preamble.end => {
                self.phase = Phase::Over;
                true
            }
            Phase::Within => {
                self.n_within += 1;
                true
            }
        };
        self.n_tokens += u32::from(is_its);
        is_its
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_mark_or_when_its_tokens_are_spent() {
        let (begin, end) = (7, 8);
        let check = |begin, n_max, ids: &[u32], forced_at: Option<usize>, n_tokens: u32| {
            let mut thought = Thought::new(Preamble { begin, end, n_max });
            let mut found = None;
            for (idx, &id) in ids.iter().enumerate() {
                if found.is_none() && thought.forced() == Some(end) {
                    found = Some(idx);
                }
                thought.accept(id);
            }
            assert_eq!((found, thought.n_tokens()), (forced_at, n_tokens), "{n_max:?} {ids:?}");
        };
        check(Some(begin), None, &[1, 2, 3], None, 0);
        check(Some(begin), None, &[7, 2, 8, 7, 3], None, 3);
        check(None, None, &[1, 2, 8, 7, 3], None, 3);
        check(Some(begin), Some(2), &[7, 1, 2, 8, 3], Some(3), 4);
        check(None, Some(0), &[8, 3], Some(0), 1);
        check(Some(begin), Some(0), &[3, 3], None, 0);
    }
}
