//! One answer under a constraint: which tokens its next one may be.
//!
//! The tokens that are forbidden count as minus infinity before everything else that sampling
//! does, so that the choice stays a function of the logits and of what came before. The matcher
//! follows the tokens that were chosen, never guesses: a guess that the grammar forbids is one
//! that is wrong.
//!
//! A set of tokens takes a tenth of a millisecond and needs no logits. So as soon as a token is
//! chosen, the matcher goes to a thread of the answer's own, which computes the next set while the
//! forward pass runs.

use std::sync::mpsc::{Receiver, Sender, channel};
use text::{Constraint, ConstraintError, Mask, Matcher};

/// Follows one answer.
#[derive(Debug)]
pub(crate) struct Constrained {
    matcher: Place,
    /// Knows the tokens that end an answer.
    constraint: Constraint,
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
    /// On the thread, for its next set.
    Away,
}

type Masked = (Box<Matcher>, Result<Mask, ConstraintError>);

/// A thread that computes sets of tokens. It ends when its answer does.
#[derive(Debug)]
struct MaskThread {
    matchers: Sender<Box<Matcher>>,
    masked: Receiver<Masked>,
}

impl MaskThread {
    fn start() -> Option<Self> {
        let (matchers, to_mask) = channel::<Box<Matcher>>();
        let (done, masked) = channel();
        let work = move || {
            for mut matcher in to_mask {
                let mask = matcher.mask();
                if done.send((matcher, mask)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("constraint".to_owned()).spawn(work);
        thread.ok().map(|_| Self { matchers, masked })
    }
}

impl Constrained {
    /// At the beginning of the part of an answer that the constraint is about.
    pub(crate) fn new(constraint: Constraint) -> Self {
        let matcher = Place::Here(Box::new(constraint.matcher()));
        let thread = MaskThread::start();
        let (is_complete, failure) = (false, None);
        let mut new = Self { matcher, constraint, is_complete, failure, thread };
        new.send_ahead();
        new
    }

    /// Has the next set computed elsewhere.
    fn send_ahead(&mut self) {
        let Some(thread) = &self.thread else { return };
        if let Place::Here(matcher) = std::mem::replace(&mut self.matcher, Place::Away)
            && let Err(unsent) = thread.matchers.send(matcher)
        {
            self.matcher = Place::Here(unsent.0);
            self.thread = None;
        }
    }

    /// The tokens that may come next.
    fn mask(&mut self) -> Result<Mask, ConstraintError> {
        let lost = || ConstraintError::Step("its thread has ended".to_owned());
        match (&mut self.matcher, &self.thread) {
            (Place::Here(matcher), _) => matcher.mask(),
            (Place::Away, None) => Err(lost()),
            (Place::Away, Some(thread)) => {
                let (matcher, mask) = thread.masked.recv().map_err(|_| lost())?;
                self.matcher = Place::Here(matcher);
                mask
            }
        }
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
        let mut mask = self.mask()?;
        also.into_iter().for_each(|id| mask.allow(id));
        apply(&mask, logits);
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
            self.failure = self.mask().err();
        }
        if let Place::Here(matcher) = &mut self.matcher {
            self.failure = matcher.accept(id).err();
            self.is_complete = matcher.is_complete();
            if self.failure.is_none() && !self.is_complete {
                self.send_ahead();
            }
        }
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
                let mut constrained = Constrained::new(constraint.clone());
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
        let mut constrained = Constrained::new(constraint.clone());
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
}
