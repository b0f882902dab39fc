//! Where an answer stands in its train of thought, and that it comes to an end.

use text::{Mark, Preamble};

/// Follows the preamble of one answer.
#[derive(Debug)]
pub(crate) struct Thought {
    preamble: Preamble,
    /// What begins the one that may come now.
    begin: Option<Mark>,
    /// Tokens that end it without its end, as they begin something else.
    marks: Vec<u32>,
    phase: Phase,
    /// Whether it has begun for sure, though its mark is not complete.
    is_certain: bool,
    /// Tokens of it so far, marks included; of those, the ones known to be of it; and those
    /// without marks.
    n_tokens: u32,
    n_known: u32,
    n_within: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// At the answer's beginning, or where another preamble may begin, of which so many tokens are
    /// those that begin it.
    Start(usize),
    /// Before the tokens that end it.
    Within,
    /// Behind so many of these.
    Ending(usize),
    /// Behind it.
    Over,
}

/// What a token is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartOf {
    Preamble,
    /// It completes what begins the preamble, of which other tokens came before.
    PreambleAfterAll,
    Answer,
    /// The preamble or the answer proper; the next will tell.
    Either,
}

impl Thought {
    /// At the beginning of an answer.
    pub(crate) fn new(preamble: Preamble) -> Self {
        let Preamble { begin, .. } = preamble;
        let phase = if begin.is_some() { Phase::Start(0) } else { Phase::Within };
        Self {
            preamble,
            begin,
            marks: Vec::new(),
            phase,
            is_certain: false,
            n_tokens: 0,
            n_known: 0,
            n_within: 0,
        }
    }

    /// The same, where these tokens are marks of messages: any of them ends it.
    pub(crate) fn beside(mut self, marks: impl Iterator<Item = u32>) -> Self {
        let end = self.preamble.end.ids().first().copied();
        self.marks = marks.filter(|&mark| Some(mark) != end).collect();
        self
    }

    /// The tokens that end it without its end.
    pub(crate) fn marks(&self) -> &[u32] {
        &self.marks
    }

    /// The token that may come beside those of the answer proper, because it begins the preamble:
    /// not another one, once its tokens are spent.
    pub(crate) fn may_begin_with(&self) -> Option<u32> {
        self.next_of_begin().filter(|_| self.n_known == 0 || !self.is_spent())
    }

    fn next_of_begin(&self) -> Option<u32> {
        let Phase::Start(n_read) = self.phase else { return None };
        self.begin.and_then(|begin| begin.ids().get(n_read).copied())
    }

    /// Whether the next token belongs to the preamble.
    pub(crate) fn is_within(&self) -> bool {
        matches!(self.phase, Phase::Within | Phase::Ending(_))
    }

    /// Whether it is not known what the answer has begun with.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(self.phase, Phase::Start(1..))
    }

    /// Tells that the answer proper does not begin with what has come, so that the preamble does.
    pub(crate) fn rule_out_answer(&mut self) {
        self.is_certain = true;
    }

    fn is_spent(&self) -> bool {
        self.preamble.n_max.is_some_and(|n_max| self.n_within >= n_max)
    }

    /// The token that has to come next: of a mark that is not complete, or because the preamble is
    /// as long as it may be.
    pub(crate) fn forced(&self) -> Option<u32> {
        let end = self.preamble.end.ids();
        match self.phase {
            Phase::Start(_) => self.next_of_begin().filter(|_| self.is_certain),
            Phase::Within => end.first().copied().filter(|_| self.is_spent()),
            Phase::Ending(n_read) => end.get(n_read).copied(),
            Phase::Over => None,
        }
    }

    /// Tokens of the preamble so far, its marks included.
    pub(crate) fn n_tokens(&self) -> u32 {
        match self.phase {
            Phase::Start(_) => self.n_known,
            _ => self.n_tokens,
        }
    }

    /// Tells that `id` is now part of the answer. Returns what it belongs to.
    pub(crate) fn accept(&mut self, id: u32) -> PartOf {
        let part_of = match self.phase {
            Phase::Over => PartOf::Answer,
            Phase::Start(n_read) if self.next_of_begin() == Some(id) => {
                let n_tokens = self.begin.map_or(0, |begin| begin.ids().len());
                match (n_read, n_read + 1 == n_tokens) {
                    (_, false) => {
                        self.phase = Phase::Start(n_read + 1);
                        PartOf::Either
                    }
                    (n_read, true) => {
                        (self.phase, self.is_certain) = (Phase::Within, false);
                        if n_read == 0 { PartOf::Preamble } else { PartOf::PreambleAfterAll }
                    }
                }
            }
            Phase::Start(_) => {
                (self.phase, self.n_tokens) = (Phase::Over, self.n_known);
                PartOf::Answer
            }
            Phase::Within if self.preamble.end.ids().first() == Some(&id) => {
                self.phase = Phase::Ending(1);
                PartOf::Preamble
            }
            Phase::Within if self.marks.contains(&id) => {
                self.phase = Phase::Over;
                PartOf::Answer
            }
            Phase::Within => {
                self.n_within += 1;
                PartOf::Preamble
            }
            Phase::Ending(n_read) => {
                self.phase = Phase::Ending(n_read + 1);
                PartOf::Preamble
            }
        };
        self.n_tokens += u32::from(part_of != PartOf::Answer);
        if self.phase == Phase::Ending(self.preamble.end.ids().len()) {
            self.end();
        }
        part_of
    }

    /// Behind the last token of its end.
    fn end(&mut self) {
        (self.begin, self.n_known) = (self.preamble.again, self.n_tokens);
        self.phase = if self.begin.is_some() { Phase::Start(0) } else { Phase::Over };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_mark_or_when_its_tokens_are_spent() {
        let (begin, end) = (7, 8);
        let check = |begin: Option<u32>, n_max, ids: &[u32], forced_at: Option<usize>, n_tokens| {
            let begin = begin.map(Mark::from);
            let mut thought = Thought::new(Preamble { begin, end: end.into(), again: None, n_max });
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

    #[test]
    fn marks_of_several_tokens_begin_and_end_it_as_a_whole() {
        let mark = |ids: &[u32]| Mark::new(ids).unwrap();
        let begin = Some(mark(&[1, 2, 3]));
        let preamble = |n_max| Preamble { begin, end: mark(&[8, 9]), again: None, n_max };
        // What has come, what must come next, and how many tokens are of the preamble.
        let check = |n_max, ids: &[u32], forced: Option<u32>, n_tokens: u32| {
            let mut thought = Thought::new(preamble(n_max));
            for &id in ids {
                thought.accept(id);
            }
            assert_eq!((thought.forced(), thought.n_tokens()), (forced, n_tokens), "{ids:?}");
        };
        check(None, &[1, 2], None, 0);
        check(None, &[1, 7], None, 0);
        check(None, &[1, 2, 3, 5], None, 4);
        check(None, &[1, 2, 3, 5, 8], Some(9), 5);
        check(None, &[1, 2, 3, 5, 8, 9], None, 6);
        check(None, &[1, 2, 3, 5, 8, 9, 1, 2, 3], None, 6);
        check(Some(0), &[1, 2, 3], Some(8), 3);
        check(Some(1), &[1, 2, 3, 5, 8], Some(9), 5);
        let mut thought = Thought::new(preamble(None));
        assert_eq!(thought.accept(1), PartOf::Either);
        assert!(thought.is_undecided() && !thought.is_within());
        assert_eq!((thought.may_begin_with(), thought.forced()), (Some(2), None));
        thought.rule_out_answer();
        assert_eq!(thought.forced(), Some(2));
        assert_eq!([2, 3].map(|id| thought.accept(id)), [PartOf::Either, PartOf::PreambleAfterAll]);
        assert!(thought.is_within());
    }
    #[test]
    fn several_have_one_budget() {
        let mark = |ids: &[u32]| Mark::new(ids).unwrap();
        let check = |n_max, ids: &[u32], forced, may_begin_with, n_tokens| {
            let (begin, again) = (None, Some(mark(&[1, 2])));
            let mut thought = Thought::new(Preamble { begin, end: mark(&[8]), again, n_max });
            for &id in ids {
                thought.accept(id);
            }
            let found = (thought.forced(), thought.may_begin_with(), thought.n_tokens());
            assert_eq!(found, (forced, may_begin_with, n_tokens), "{n_max:?} {ids:?}");
        };
        check(Some(3), &[5, 8], None, Some(1), 2);
        check(Some(3), &[5, 8, 1], None, Some(2), 2);
        check(Some(3), &[5, 8, 1, 4], None, None, 2);
        check(Some(3), &[5, 8, 1, 2, 5], None, None, 5);
        check(Some(3), &[5, 8, 1, 2, 5, 5], Some(8), None, 6);
        // Spent, no other begins.
        check(Some(3), &[5, 8, 1, 2, 5, 5, 8], None, None, 7);
        check(Some(3), &[5, 8, 1, 2, 5, 5, 8, 1], None, None, 7);
        check(None, &[5, 8, 1, 2, 5, 5, 8], None, Some(1), 7);
    }

    #[test]
    fn a_mark_of_another_message_ends_it() {
        let preamble = Preamble { begin: None, end: 8.into(), again: None, n_max: Some(2) };
        let mut thought = Thought::new(preamble).beside([8, 6].into_iter());
        let found = [5, 6, 5, 5].map(|id| thought.accept(id));
        let (of, answer) = (PartOf::Preamble, PartOf::Answer);
        assert_eq!((found, thought.n_tokens()), ([of, answer, answer, answer], 1));
        assert_eq!(thought.forced(), None);
    }
}
