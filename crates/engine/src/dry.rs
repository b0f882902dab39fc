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
    /// By id: the longest repetition that it would go on with. All zero between choices.
    longest: Vec<u8>,
    /// The ids that have one.
    found: Vec<u32>,
}

impl Repetitions {
    /// Of a sequence that is its prompt so far.
    pub(crate) fn new(settings: Dry, prompt: &[u32], n_vocab: usize) -> Self {
        let longest = vec![0; n_vocab];
        Self { settings, history: prompt.to_vec(), longest, found: Vec::new() }
    }

    /// Tells that `id` is now part of the answer.
    pub(crate) fn accept(&mut self, id: u32) {
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
        let is_breaker = |id: &u32| self.settings.breakers.contains(id);
        let Some((last, before)) = tokens.split_last() else { return };
        if is_breaker(last) {
            return;
        }
        for end in (0..before.len()).filter(|&end| before[end] == *last) {
            let next = tokens[end + 1];
            if is_breaker(&next) {
                continue;
            }
            let pairs = tokens[..=end].iter().rev().zip(tokens.iter().rev());
            let n = pairs.take(MAX_REPEAT).take_while(|(a, b)| a == b && !is_breaker(a)).count();
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
