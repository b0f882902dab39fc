//! One answer under a constraint: which tokens its next one may be.
//!
//! The tokens that are forbidden count as minus infinity before everything else that sampling
//! does, so that the choice stays a function of the logits and of what came before. The matcher
//! follows the tokens that were chosen, never guesses: a guess that the grammar forbids is one
//! that is wrong.
//!
//! A set of tokens takes a tenth of a millisecond and needs no logits. So as soon as a token is
//! chosen, the matcher goes to a thread of the answer's own, which computes the next set while the
//! forward pass runs. Where a set is of one token, that token is what will be chosen, and the
//! thread goes on behind it. So the sets of a piece that is forced, and the one behind it, are
//! there when the pass needs them, and the pass need not compute logits that decide nothing.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use text::{Constraint, ConstraintError, Mask, Matcher};

/// Most sets that are computed ahead, as many as a step has rows.
const SETS_AHEAD_MAX: usize = 16;

/// Follows one answer.
#[derive(Debug)]
pub(crate) struct Constrained {
    matcher: Place,
    /// What is known from the next token on. The matcher stands before the token of the last of
    /// these, or behind it where that is forced.
    ahead: VecDeque<Ahead>,
    /// The tokens that must come next, as far as they are known without waiting.
    forced: Vec<u32>,
    /// Knows the tokens that end an answer.
    constraint: Constraint,
    /// Tokens that have a logit.
    n_vocab: usize,
    /// Whether nothing may follow.
    is_complete: bool,
    /// The matcher's refusal of a token that it had allowed: its bounds.
    failure: Option<ConstraintError>,
    /// `None` where the system gave no thread: then sets are computed when they are needed.
    thread: Option<MaskThread>,
}

/// Where the matcher is.
#[derive(Debug)]
enum Place {
    Here(Box<Matcher>),
    /// On the thread, for its next sets.
    Away,
}

/// What may come at one position.
#[derive(Debug)]
struct Ahead {
    mask: Mask,
    /// The only token of the mask, once the matcher is behind it, and whether it completes the
    /// answer.
    forced: Option<(u32, bool)>,
}

type Masked = (Box<Matcher>, Result<VecDeque<Ahead>, ConstraintError>);

/// A thread that computes sets of tokens. It ends when its answer does.
#[derive(Debug)]
struct MaskThread {
    matchers: Sender<Box<Matcher>>,
    masked: Receiver<Masked>,
}

impl MaskThread {
    fn start(ends: Vec<u32>, n_vocab: usize) -> Option<Self> {
        let (matchers, to_mask) = channel::<Box<Matcher>>();
        let (done, masked) = channel();
        let work = move || {
            for mut matcher in to_mask {
                let ahead = look_ahead(&mut matcher, &ends, n_vocab);
                if done.send((matcher, ahead)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("constraint".to_owned()).spawn(work);
        thread.ok().map(|_| Self { matchers, masked })
    }
}

/// The next set, and those behind it as long as they are of one token that does not end the
/// answer.
fn look_ahead(
    matcher: &mut Matcher,
    ends: &[u32],
    n_vocab: usize,
) -> Result<VecDeque<Ahead>, ConstraintError> {
    let mut ahead = VecDeque::new();
    loop {
        let mask = match matcher.mask() {
            Ok(mask) => mask.below(n_vocab),
            Err(error) if ahead.is_empty() => return Err(error),
            // It says so again when it is asked for this set.
            Err(_) => return Ok(ahead),
        };
        let single = mask.single().filter(|id| !ends.contains(id));
        let single = single.filter(|_| ahead.len() + 1 < SETS_AHEAD_MAX);
        // A refusal comes again when the token is chosen.
        let accepted = single.filter(|&id| matcher.accept(id).is_ok());
        let forced = accepted.map(|id| (id, matcher.is_complete()));
        ahead.push_back(Ahead { mask, forced });
        if !matches!(forced, Some((_, false))) {
            return Ok(ahead);
        }
    }
}

impl Constrained {
    /// At the beginning of the part of an answer that the constraint is about. Of a vocabulary that
    /// is larger than the model's rows only the first `n_vocab` tokens can come.
    pub(crate) fn new(constraint: Constraint, n_vocab: usize) -> Self {
        let matcher = Place::Here(Box::new(constraint.matcher()));
        let thread = MaskThread::start(constraint.ends().to_vec(), n_vocab);
        let mut new = Self {
            matcher,
            ahead: VecDeque::new(),
            forced: Vec::new(),
            constraint,
            n_vocab,
            is_complete: false,
            failure: None,
            thread,
        };
        new.send_ahead();
        new
    }

    /// Has the next sets computed elsewhere, if they are not known.
    pub(crate) fn send_ahead(&mut self) {
        let Some(thread) = &self.thread else { return };
        if !self.ahead.is_empty() || self.is_complete || self.failure.is_some() {
            return;
        }
        if let Place::Here(matcher) = std::mem::replace(&mut self.matcher, Place::Away)
            && let Err(unsent) = thread.matchers.send(matcher)
        {
            self.matcher = Place::Here(unsent.0);
            self.thread = None;
        }
    }

    /// Finds the tokens that must come next.
    pub(crate) fn find_forced(&mut self) {
        self.forced.clear();
        if !self.ahead.is_empty() {
            self.forced.extend(self.ahead.iter().map_while(|ahead| Some(ahead.forced?.0)));
        } else if let Place::Here(matcher) = &mut self.matcher
            && !self.is_complete
            && self.failure.is_none()
        {
            let ids = matcher.forced().into_iter();
            self.forced.extend(ids.take_while(|&id| (id as usize) < self.n_vocab));
        }
    }

    /// What [`Constrained::find_forced`] found; a guess like any other.
    pub(crate) fn forced(&self) -> &[u32] {
        &self.forced
    }

    /// Gives up what was found to be forced.
    pub(crate) fn forget_forced(&mut self) {
        self.forced.clear();
    }

    /// Waits for the next set.
    fn fetch(&mut self) -> Result<(), ConstraintError> {
        let lost = || ConstraintError::Step("its thread has ended".to_owned());
        if !self.ahead.is_empty() {
            return Ok(());
        }
        match (&mut self.matcher, &self.thread) {
            (Place::Here(matcher), _) => {
                let mask = matcher.mask()?.below(self.n_vocab);
                self.ahead.push_back(Ahead { mask, forced: None });
            }
            (Place::Away, None) => return Err(lost()),
            (Place::Away, Some(thread)) => {
                let (matcher, ahead) = thread.masked.recv().map_err(|_| lost())?;
                self.matcher = Place::Here(matcher);
                self.ahead = ahead?;
            }
        }
        Ok(())
    }

    /// The tokens that may come `n_behind` positions behind the next, where those before it are
    /// forced.
    pub(crate) fn mask_behind(&mut self, n_behind: usize) -> Option<&Mask> {
        // What goes wrong here does so again when the mask is needed.
        if self.failure.is_some() || self.fetch().is_err() {
            return None;
        }
        self.ahead.get(n_behind).map(|ahead| &ahead.mask)
    }

    /// The only token that may come next.
    pub(crate) fn single(&mut self) -> Option<u32> {
        self.mask_behind(0)?.single()
    }

    /// Sets the logits of forbidden tokens to minus infinity; `also` is allowed beside the others.
    pub(crate) fn forbid(
        &mut self,
        logits: &mut [f32],
        also: Option<u32>,
    ) -> Result<(), ConstraintError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.fetch()?;
        let Some(Ahead { mask, .. }) = self.ahead.front() else { return Ok(()) };
        let also = also.and_then(|id| Some((id as usize, *logits.get(id as usize)?)));
        apply(mask, logits);
        if let Some((id, logit)) = also {
            logits[id] = logit;
        }
        Ok(())
    }

    /// Sets the logits of the tokens that end an answer to minus infinity.
    pub(crate) fn forbid_ends(&self, logits: &mut [f32]) {
        for &id in self.constraint.ends() {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Tells that `id` is now part of what the constraint is about.
    pub(crate) fn accept(&mut self, id: u32) {
        if let Place::Away = self.matcher {
            // Nobody asked for the set that it is gone for.
            self.failure = self.fetch().err();
        }
        match (self.ahead.pop_front(), &mut self.matcher) {
            (Some(Ahead { forced: Some((forced, is_complete)), .. }), _) => {
                self.is_complete = is_complete;
                if forced != id {
                    let problem = format!("token {id}, expected {forced}, the only one allowed");
                    self.failure = Some(ConstraintError::Step(problem));
                }
            }
            (_, Place::Here(matcher)) => {
                self.failure = self.failure.take().or(matcher.accept(id).err());
                self.is_complete = matcher.is_complete();
            }
            // Its thread is lost, which is the failure.
            (_, Place::Away) => {}
        }
    }

    /// As [`Constrained::accept`], where the token is allowed; returns whether it is.
    pub(crate) fn follow(&mut self, id: u32) -> bool {
        let is_allowed = self.mask_behind(0).is_some_and(|mask| mask.allows(id));
        if is_allowed {
            self.accept(id);
        }
        is_allowed
    }

    /// Goes back to the beginning: what came was not the part that the constraint is about.
    pub(crate) fn restart(&mut self) {
        // The matcher comes back from its thread.
        let _ = self.fetch();
        self.matcher = Place::Here(Box::new(self.constraint.matcher()));
        self.ahead.clear();
        self.forced.clear();
        (self.is_complete, self.failure) = (false, None);
    }

    /// Whether the answer is complete and nothing may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete && self.failure.is_none()
    }
}

/// Sets the logits outside of the mask to minus infinity.
fn apply(mask: &Mask, logits: &mut [f32]) {
    const WORD: usize = u32::BITS as usize;
    let mut words = mask.words().iter();
    for chunk in logits.chunks_mut(WORD) {
        let word = words.next().copied().unwrap_or(0);
        if word == 0 {
            chunk.fill(f32::NEG_INFINITY);
        } else if word != u32::MAX {
            for (bit, logit) in chunk.iter_mut().enumerate() {
                let is_allowed = word >> bit & 1 == 1;
                *logit = if is_allowed { *logit } else { f32::NEG_INFINITY };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use text::{Constraints, Grammar, Special, Tokenizer};

    fn tokenizer() -> Arc<Tokenizer> {
        let file = gguf::Gguf::open(&testkit::smollm2()).unwrap();
        Arc::new(Tokenizer::from_gguf(file.metadata()).unwrap())
    }

    fn allowed(constrained: &mut Constrained, n_vocab: usize) -> Vec<u32> {
        let mut logits = vec![1.0; n_vocab];
        constrained.forbid(&mut logits, None).unwrap();
        (0..).zip(logits).filter(|&(_, logit)| logit == 1.0).map(|(id, _)| id).collect()
    }

    #[test]
    fn forbidden_are_all_but_the_mask() {
        let tokenizer = tokenizer();
        let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
        for pattern in ["[a-z ]+", "(yes|no)", ".*", "\\d{3}"] {
            let constraint = constraints.compile(&Grammar::Regex(pattern.into())).unwrap();
            let mask = constraint.matcher().mask().unwrap();
            // A row may be shorter or longer than the vocabulary, and end within a word.
            for n_vocab in [1, 31, 32, 1000, tokenizer.n_vocab(), tokenizer.n_vocab() + 50] {
                let mut constrained = Constrained::new(constraint.clone(), n_vocab);
                let expected = (0..n_vocab as u32).filter(|&id| mask.allows(id));
                assert_eq!(allowed(&mut constrained, n_vocab), expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_token_may_be_allowed_beside_the_mask() {
        let tokenizer = tokenizer();
        let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
        let constraint = constraints.compile(&Grammar::Choice(vec!["7".into()])).unwrap();
        let [seven, other] = ["7", "x"].map(|text| tokenizer.encode(text, Special::Plain)[0]);
        let mut constrained = Constrained::new(constraint.clone(), tokenizer.n_vocab());
        let mut logits = vec![1.0; tokenizer.n_vocab()];
        constrained.forbid(&mut logits, Some(other)).unwrap();
        let allowed: Vec<u32> =
            (0..).zip(&logits).filter(|(_, logit)| **logit == 1.0).map(|(id, _)| id).collect();
        let mut expected = vec![seven, other];
        expected.sort_unstable();
        assert_eq!(allowed, expected);
        logits.fill(1.0);
        constrained.forbid_ends(&mut logits);
        let n_forbidden = logits.iter().filter(|logit| **logit == f32::NEG_INFINITY).count();
        assert_eq!(n_forbidden, constraint.ends().len());
        constrained.accept(seven);
        assert!(constrained.is_complete());
    }

    /// A vocabulary may have tokens beyond the rows of the model, which no logit stands for.
    #[test]
    fn tokens_without_a_logit_are_no_choice() {
        let tokenizer = tokenizer();
        let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
        let check = |pattern: &str, n_vocab: usize, n_behind: &[Option<u32>], forced: &[u32]| {
            let constraint = constraints.compile(&Grammar::Regex(pattern.into())).unwrap();
            for is_sent in [false, true] {
                let mut constrained = Constrained::new(constraint.clone(), n_vocab);
                if !is_sent {
                    // As where the system gives no thread.
                    constrained.thread = None;
                    constrained.matcher = Place::Here(Box::new(constraint.matcher()));
                    constrained.find_forced();
                    assert_eq!(constrained.forced(), forced, "{pattern}");
                }
                assert_eq!(constrained.single(), n_behind[0], "{pattern}");
                for (idx, expected) in n_behind.iter().enumerate().skip(1).filter(|_| is_sent) {
                    let mask = constrained.mask_behind(idx).unwrap();
                    assert_eq!(mask.single(), *expected, "{pattern} {idx}");
                }
            }
        };
        let ids = tokenizer.encode("7 of them", Special::Plain);
        let above = ids.iter().position(|&id| id > ids[0]).unwrap();
        let n_vocab = ids[above] as usize;
        let singles: Vec<Option<u32>> = ids.iter().copied().map(Some).collect();
        let all = tokenizer.n_vocab();
        check("7 of them", all, &singles, &ids);
        let mut cut = singles[..=above].to_vec();
        cut[above] = None;
        check("7 of them", n_vocab, &cut, &ids[..above]);
        // A single one is left.
        check("[0-9]", ids[0] as usize, &[None], &[]);
    }
}
