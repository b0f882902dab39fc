//! From logits to the next token.
//!
//! The definition is written at [`Sampling`]; the tests hold this file against its plain form.
//! Two things make the result a function of (logits, settings, seed, position) alone: sums run in
//! order of token id in f64 with `libm`'s arithmetic, whatever machine this is; and every order
//! by probability breaks ties by lowest id.

use crate::philox;
use crate::request::Sampling;
use std::cmp::Ordering;

/// Why no token could be chosen. The request fails, the process does not.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum SampleError {
    /// The model computed no number.
    #[error("the model's logit of token {id} is {value}, expected a finite number")]
    NotFinite { id: u32, value: f32 },
    /// Bias or penalties took a logit out of the numbers.
    #[error("bias and penalties make the logit of token {id} {value}, expected less")]
    Adjusted { id: u32, value: f32 },
    /// The bias is minus infinity everywhere.
    #[error("logit bias forbids every token, expected at least one that is allowed")]
    AllForbidden,
}

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    settings: Sampling,
    seed: u64,
    seen: Option<Seen>,
}

/// What the penalties need to know about the sequence; exists only where one is on.
#[derive(Debug)]
struct Seen {
    /// Every distinct id of prompt and answer, in order of appearance.
    ids: Vec<u32>,
    /// By id: how often it is in the answer, and [`Seen::IN_TEXT`] once it is anywhere. Dense,
    /// so that a step neither hashes nor searches.
    counts: Vec<u32>,
}

impl Seen {
    /// Set in a count as soon as the id appeared in prompt or answer.
    const IN_TEXT: u32 = 1 << 31;

    fn add(&mut self, id: u32, n_in_answer: u32) {
        let count = &mut self.counts[id as usize];
        if *count == 0 {
            *count = Self::IN_TEXT;
            self.ids.push(id);
        }
        *count += n_in_answer;
    }
}

/// Buffers of one choice, shared by all sequences of an engine.
#[derive(Debug, Default)]
pub(crate) struct SamplerScratch {
    /// The adjusted logits, `[n_vocab]`.
    logits: Vec<f32>,
    /// Relative probabilities by id, the likeliest being 1; `[n_vocab]`, and current only for the
    /// candidates.
    weights: Vec<f64>,
    /// Ids not cut away yet, ascending.
    candidates: Vec<u32>,
}

impl Sampler {
    /// A sampler for an answer to `prompt`. The settings and ids were validated.
    pub(crate) fn new(settings: Sampling, seed: u64, prompt: &[u32], n_vocab: usize) -> Self {
        let has_penalty = settings.repetition_penalty != 1.0
            || settings.presence_penalty != 0.0
            || settings.frequency_penalty != 0.0;
        let seen = has_penalty.then(|| {
            let mut seen = Seen { ids: Vec::new(), counts: vec![0; n_vocab] };
            prompt.iter().for_each(|&id| seen.add(id, 0));
            seen
        });
        Self { settings, seed, seen }
    }

    /// Tells the sampler that `id` is now part of the answer.
    pub(crate) fn accept(&mut self, id: u32) {
        if let Some(seen) = &mut self.seen {
            seen.add(id, 1);
        }
    }

    /// The token at position `pos` of the sequence, given its logits `[n_vocab]`.
    pub(crate) fn choose(
        &self,
        logits: &[f32],
        pos: u64,
        scratch: &mut SamplerScratch,
    ) -> Result<u32, SampleError> {
        if let Some(id) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(SampleError::NotFinite { id: id as u32, value: logits[id] });
        }
        let is_adjusted = self.seen.is_some() || !self.settings.logit_bias.is_empty();
        if !is_adjusted && self.settings.temperature == 0.0 {
            return Ok(arg_max(logits));
        }
        scratch.logits.clear();
        scratch.logits.extend_from_slice(logits);
        self.adjust(&mut scratch.logits);
        let best = arg_max(&scratch.logits);
        check_adjusted(&scratch.logits, best)?;
        if self.settings.temperature == 0.0 {
            return Ok(best);
        }
        self.cut(best, scratch);
        Ok(draw(philox::uniform(self.seed, pos), scratch, best))
    }

    /// Applies logit bias, then the penalties.
    fn adjust(&self, logits: &mut [f32]) {
        for &(id, bias) in &self.settings.logit_bias {
            logits[id as usize] += bias;
        }
        let Some(seen) = &self.seen else { return };
        for &id in &seen.ids {
            let logit = &mut logits[id as usize];
            let n_in_answer = seen.counts[id as usize] & !Seen::IN_TEXT;
            if *logit > 0.0 {
                *logit /= self.settings.repetition_penalty;
            } else {
                *logit *= self.settings.repetition_penalty;
            }
            if n_in_answer > 0 {
                *logit -= self.settings.presence_penalty
                    + self.settings.frequency_penalty * n_in_answer as f32;
            }
        }
    }

    /// Fills `candidates` with the ids that top-k, top-p and min-p leave, and their `weights`.
    fn cut(&self, best: u32, scratch: &mut SamplerScratch) {
        let SamplerScratch { logits, weights, candidates } = scratch;
        let n_vocab = logits.len();
        candidates.clear();
        candidates.extend(0..n_vocab as u32);
        weights.resize(n_vocab, 0.0);

        let top_k = self.settings.top_k as usize;
        if (1..n_vocab).contains(&top_k) {
            candidates.select_nth_unstable_by(top_k - 1, |&a, &b| likelier(logits, a, b));
            candidates.truncate(top_k);
            candidates.sort_unstable();
        }
        let max = f64::from(logits[best as usize]);
        let temperature = f64::from(self.settings.temperature);
        for &id in &*candidates {
            // Never above 1, so that nothing overflows; far below, exp gives a plain zero.
            let scaled = (f64::from(logits[id as usize]) - max) / temperature;
            weights[id as usize] = if scaled < 0.0 { libm::exp(scaled) } else { 1.0 };
        }
        if self.settings.top_p < 1.0 {
            let total: f64 = candidates.iter().map(|&id| weights[id as usize]).sum();
            let target = f64::from(self.settings.top_p) * total;
            let n_kept = n_nucleus(logits, weights, candidates, target);
            candidates.truncate(n_kept);
            candidates.sort_unstable();
        }
        if self.settings.min_p > 0.0 {
            let floor = f64::from(self.settings.min_p);
            candidates.retain(|&id| weights[id as usize] >= floor);
        }
    }
}

/// Orders the likeliest candidates to the front until their weights reach `target`, and returns
/// how many that took. Sorts a growing front only: a nucleus is mostly a few dozen tokens.
fn n_nucleus(logits: &[f32], weights: &[f64], candidates: &mut [u32], target: f64) -> usize {
    const FIRST_FRONT: usize = 64;
    const GROWTH: usize = 8;
    let mut n_sorted = 0;
    let mut sum = 0.0;
    let mut n_front = FIRST_FRONT;
    while n_sorted < candidates.len() {
        let rest = &mut candidates[n_sorted..];
        let n_next = (n_front - n_sorted).min(rest.len());
        if n_next < rest.len() {
            rest.select_nth_unstable_by(n_next - 1, |&a, &b| likelier(logits, a, b));
        }
        rest[..n_next].sort_unstable_by(|&a, &b| likelier(logits, a, b));
        for (i, &id) in rest[..n_next].iter().enumerate() {
            sum += weights[id as usize];
            if sum >= target {
                return n_sorted + i + 1;
            }
        }
        n_sorted += n_next;
        n_front *= GROWTH;
    }
    candidates.len()
}

/// Walks the candidates in order of id to where `uniform` (in [0, 1)) falls.
fn draw(uniform: f64, scratch: &SamplerScratch, best: u32) -> u32 {
    let weight = |id: u32| scratch.weights[id as usize];
    let total: f64 = scratch.candidates.iter().map(|&id| weight(id)).sum();
    let target = uniform * total;
    let mut sum = 0.0;
    for &id in &scratch.candidates {
        sum += weight(id);
        if sum > target {
            return id;
        }
    }
    // Only where `uniform * total` rounds up to `total`.
    best
}

/// The larger logit first, then the lower id: a total order, as no logit is NaN.
fn likelier(logits: &[f32], a: u32, b: u32) -> Ordering {
    let (logit_a, logit_b) = (logits[a as usize], logits[b as usize]);
    logit_b.partial_cmp(&logit_a).unwrap_or(Ordering::Equal).then(a.cmp(&b))
}

/// The id of the largest logit, the lowest of several; not empty.
fn arg_max(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn check_adjusted(logits: &[f32], best: u32) -> Result<(), SampleError> {
    let bad = logits.iter().position(|&logit| logit.is_nan() || logit == f32::INFINITY);
    match bad {
        Some(id) => Err(SampleError::Adjusted { id: id as u32, value: logits[id] }),
        None if logits[best as usize] == f32::NEG_INFINITY => Err(SampleError::AllForbidden),
        None => Ok(()),
    }
}

/// Log-probability of `id` and of the `n_top` likeliest tokens (likeliest first, ties by lowest
/// id) in the model's own distribution: the log-softmax of its unadjusted `logits`.
pub(crate) fn log_probabilities(
    logits: &[f32],
    id: u32,
    n_top: usize,
    scratch: &mut SamplerScratch,
) -> (f32, Vec<(u32, f32)>) {
    let max = f64::from(logits[arg_max(logits) as usize]);
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - max)).sum();
    let log_sum = max + libm::log(sum);
    let log_probability = |id: u32| (f64::from(logits[id as usize]) - log_sum) as f32;

    let candidates = &mut scratch.candidates;
    candidates.clear();
    candidates.extend(0..logits.len() as u32);
    if (1..candidates.len()).contains(&n_top) {
        candidates.select_nth_unstable_by(n_top - 1, |&a, &b| likelier(logits, a, b));
    }
    candidates.truncate(n_top);
    candidates.sort_unstable_by(|&a, &b| likelier(logits, a, b));
    (log_probability(id), candidates.iter().map(|&id| (id, log_probability(id))).collect())
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
