//! The penalty for going on with a repetition; its definition is at [`Dry`].

use crate::request::Dry;

/// Longest repetition that is told from longer ones; with it the penalty has long won.
pub(crate) const MAX_REPEAT: usize = 50;

/// What the penalty needs to know of one sequence.
#[derive(Debug)]
pub(crate) struct Repetitions {
    settings: Dry,
    /// Prompt and answer.
    history: Vec<u32>,
    /// How many of the last tokens equal those that stand one, two and more tokens before them,
    /// breakers apart and at most [`MAX_REPEAT`]. Carried on from token to token, so that each
    /// costs one look at the history, however much of it repeats.
    n_equal: Vec<u8>,
    /// By id.
    is_breaker: Vec<bool>,
    /// By id: the longest repetition that it would go on with. All zero between choices.
    longest: Vec<u8>,
    /// The ids that have one.
    found: Vec<u32>,
}

impl Repetitions {
    /// Of a sequence that is its prompt so far.
    pub(crate) fn new(settings: Dry, prompt: &[u32], n_vocab: usize) -> Self {
        let mut is_breaker = vec![false; n_vocab];
        for &id in settings.breakers.iter().filter(|&&id| (id as usize) < n_vocab) {
            is_breaker[id as usize] = true;
        }
        // Nothing of what is before these matters to them.
        let (before, last) = prompt.split_at(prompt.len().saturating_sub(MAX_REPEAT));
        let mut repetitions = Self {
            settings,
            history: before.to_vec(),
            n_equal: vec![0; before.len()],
            is_breaker,
            longest: vec![0; n_vocab],
            found: Vec::new(),
        };
        last.iter().for_each(|&id| repetitions.accept(id));
        repetitions
    }

    /// Tells that `id` is now part of the answer.
    pub(crate) fn accept(&mut self, id: u32) {
        let is_breaker = self.is_breaker[id as usize];
        self.n_equal.resize(self.history.len(), 0);
        for (n_equal, &earlier) in self.n_equal.iter_mut().zip(self.history.iter().rev()) {
            let is_equal = earlier == id && !is_breaker;
            *n_equal = if is_equal { (*n_equal + 1).min(MAX_REPEAT as u8) } else { 0 };
        }
        self.history.push(id);
    }

    /// Takes the penalties off, and calls `touched` for each token that has one.
    pub(crate) fn penalise<E>(
        &mut self,
        logits: &mut [f32],
        touched: impl Fn(&[f32], u32) -> Result<(), E>,
    ) -> Result<(), E> {
        self.find();
        let Dry { multiplier, base, allowed_length, .. } = self.settings;
        let mut result = Ok(());
        for &id in &self.found {
            let n = std::mem::take(&mut self.longest[id as usize]);
            let excess = i32::from(n) - allowed_length.min(u32::from(u8::MAX)) as i32;
            if excess >= 0 && result.is_ok() {
                logits[id as usize] -= multiplier * power(base, excess);
                result = touched(logits, id);
            }
        }
        self.found.clear();
        result
    }

    /// Fills `longest` and `found`.
    fn find(&mut self) {
        let range = self.settings.range.map_or(usize::MAX, |range| range as usize);
        let tokens = &self.history[self.history.len().saturating_sub(range)..];
        for distance in 1..tokens.len() {
            // A repetition begins within the range.
            let n = usize::from(self.n_equal[distance - 1]).min(tokens.len() - distance);
            let next = tokens[tokens.len() - distance];
            if n == 0 || self.is_breaker[next as usize] {
                continue;
            }
            let longest = &mut self.longest[next as usize];
            if *longest == 0 {
                self.found.push(next);
            }
            *longest = (*longest).max(n as u8);
        }
    }
}

/// `base` to the power of `n`, by multiplication: the same bits on every machine.
pub(crate) fn power(base: f32, n: i32) -> f32 {
    (0..n).fold(1.0, |product, _| product * base)
}
