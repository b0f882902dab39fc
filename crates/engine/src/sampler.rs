//! From logits to the next token.
//!
//! The definition is written at [`Sampling`]; the tests hold this file against its plain form.
//! Two things make the result a function of (logits, settings, seed, position) alone: sums run in
//! f64 in an order that is part of the definition (by token id; in a nucleus, likeliest first),
//! and every order by probability breaks ties by lowest id.

use crate::constrain::Constrained;
use crate::dry::Repetitions;
use crate::philox;
use crate::preamble::{PartOf, Thought};
use crate::request::{Mirostat, Sampling};
use crate::weights::{Candidate, Scan, Weights, likelier, scan, top_k, weight};
use text::{Banned, Channels, Constraint, Mark, Preamble, Tokenizer};

/// Why no token could be chosen. The request fails, the process does not.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum SampleError {
    /// The model computed no number.
    #[error("the model's logit of token {id} is {value}, expected a finite number")]
    NotFinite { id: u32, value: f32 },
    /// Bias or penalties took a logit out of the numbers.
    #[error("bias and penalties make the logit of token {id} {value}, expected less")]
    Adjusted { id: u32, value: f32 },
    /// What may forbid tokens leaves none.
    #[error(
        "constraint, banned texts, minimum length (min_tokens) and bias forbid every token, \
         expected at least one that is allowed"
    )]
    AllForbidden,
    /// The answer cannot be followed any further.
    #[error("{0}")]
    Constraint(String),
}

/// The least factor and the largest sum of biases with which no logit of a working model leaves
/// f32's range: logits are below 1e6, and what penalties subtract is bounded with the request.
const SANE_PENALTY_MIN: f32 = 1e-6;
const SANE_BIAS_MAX: f64 = 1e30;

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    settings: Sampling,
    seed: u64,
    n_vocab: usize,
    seen: Option<Seen>,
    constrained: Option<Constrained>,
    thought: Option<Thought>,
    repetitions: Option<Repetitions>,
    /// Mirostat's bound on the surprise, in bits.
    surprise_max: f64,
    /// Tokens of the answer that must come before one of `ends` may.
    n_before_end: u32,
    ends: Vec<u32>,
    banned: Option<Banned>,
    /// The last bytes of the answer, as far as `banned` goes.
    tail: Vec<u8>,
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
    adjusted: Vec<f32>,
    /// Probabilities relative to the likeliest token's.
    weights: Weights,
    /// What the cuts left.
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler for an answer to `prompt`. The settings and ids were validated.
    pub(crate) fn new(mut settings: Sampling, seed: u64, prompt: &[u32], n_vocab: usize) -> Self {
        let has_penalty = settings.repetition_penalty != 1.0
            || settings.presence_penalty != 0.0
            || settings.frequency_penalty != 0.0;
        let seen = has_penalty.then(|| {
            let mut seen = Seen { ids: Vec::new(), counts: vec![0; n_vocab] };
            prompt.iter().for_each(|&id| seen.add(id, 0));
            seen
        });
        let dry = settings.dry.take();
        let repetitions = dry.map(|dry| Repetitions::new(dry, prompt, n_vocab));
        let surprise_max = settings.mirostat.map_or(0.0, |mirostat| 2.0 * f64::from(mirostat.tau));
        Self {
            settings,
            seed,
            n_vocab,
            seen,
            constrained: None,
            thought: None,
            repetitions,
            surprise_max,
            n_before_end: 0,
            ends: Vec::new(),
            banned: None,
            tail: Vec::new(),
        }
    }

    /// The same, with none of these texts in the answer.
    pub(crate) fn without(mut self, banned: Option<Banned>) -> Self {
        self.banned = banned;
        self
    }

    /// The same, with none of `ends` among the first `n` tokens.
    pub(crate) fn at_least(mut self, n: u32, ends: impl Iterator<Item = u32>) -> Self {
        if n > 0 {
            (self.n_before_end, self.ends) = (n, ends.collect());
        }
        self
    }

    /// The same under a constraint, which begins behind the preamble.
    pub(crate) fn under(
        mut self,
        constraint: Option<Constraint>,
        preamble: Option<Preamble>,
    ) -> Self {
        let n_vocab = self.n_vocab;
        self.constrained = constraint.map(|constraint| Constrained::new(constraint, n_vocab));
        // Marks without a logit cannot come, and so are none.
        let is_row = |mark: Mark| mark.ids().iter().all(|&id| (id as usize) < n_vocab);
        let preamble = preamble.filter(|p| is_row(p.end) && p.begin.is_none_or(is_row));
        let again = |preamble: Preamble| preamble.again.filter(|again| is_row(*again));
        let preamble = preamble.map(|p| Preamble { again: again(p), ..p });
        self.thought = preamble.map(Thought::new);
        self
    }

    /// The same in these channels. Of their marks only its end may come in a preamble before a
    /// constraint: any other would begin a message that the constraint knows nothing of.
    pub(crate) fn in_channels(mut self, channels: Option<Channels>) -> Self {
        let marks = channels.iter().flat_map(Channels::marks);
        self.thought = self.thought.map(|thought| thought.beside(marks));
        self
    }

    /// Tokens of the preamble so far.
    pub(crate) fn n_preamble(&self) -> u32 {
        self.thought.as_ref().map_or(0, Thought::n_tokens)
    }

    /// Whether the constraint leaves nothing that may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.constrained.as_ref().is_some_and(Constrained::is_complete)
    }

    /// The constraint, where it says what the next token may be.
    fn constraining(&mut self) -> Option<&mut Constrained> {
        // What the answer has begun with decides whether it does.
        let is_silent = |thought: &Thought| thought.is_within() || thought.is_undecided();
        let is_silent = self.thought.as_ref().is_some_and(is_silent);
        self.constrained.as_mut().filter(|_| !is_silent)
    }

    /// Finds the tokens that the constraint leaves no choice of: none where a preamble may begin.
    pub(crate) fn find_forced(&mut self) {
        if self.may_begin_preamble() {
            self.forget_forced();
        } else if let Some(constrained) = self.constraining() {
            constrained.find_forced();
        }
    }

    fn may_begin_preamble(&self) -> bool {
        self.thought.as_ref().and_then(Thought::may_begin_with).is_some()
    }

    /// What [`Sampler::find_forced`] found: guesses that are right but where something else forbids
    /// them.
    pub(crate) fn forced(&self) -> &[u32] {
        self.constrained.as_ref().map_or(&[], Constrained::forced)
    }

    /// Gives up what was found to be forced.
    pub(crate) fn forget_forced(&mut self) {
        if let Some(constrained) = &mut self.constrained {
            constrained.forget_forced();
        }
    }

    /// Has done beside the pass what can be.
    pub(crate) fn send_ahead(&mut self) {
        if let Some(constrained) = self.constraining() {
            constrained.send_ahead();
        }
    }

    /// Whether a token that is the only one allowed is chosen whatever its logit is, if that is a
    /// sane number. Not where something else may forbid it, goes by what was chosen from, or could
    /// take a logit out of the numbers, which has to be told.
    pub(crate) fn is_indifferent(&self) -> bool {
        let Sampling { mirostat, repetition_penalty, logit_bias, .. } = &self.settings;
        // Of one token there may be several. Infinite where one is, which forbids.
        let total_bias = logit_bias.iter().map(|(_, bias)| f64::from(bias.abs())).sum::<f64>();
        self.constrained.is_some()
            && self.banned.is_none()
            && self.n_before_end == 0
            && self.repetitions.is_none()
            && mirostat.is_none()
            && *repetition_penalty >= SANE_PENALTY_MIN
            && total_bias <= SANE_BIAS_MAX
    }

    /// The next token without its logits, where it is the only one allowed and
    /// [`Sampler::is_indifferent`] holds.
    pub(crate) fn choose_single(&mut self) -> Option<u32> {
        if self.may_begin_preamble() {
            return None;
        }
        self.constraining()?.single()
    }

    /// Appends the tokens that may come `n_behind` positions behind the next one, where all before
    /// it are forced. Returns `false` where these are more than `n_most`, or not known.
    pub(crate) fn allowed(&mut self, n_behind: usize, n_most: usize, ids: &mut Vec<u32>) -> bool {
        let also = self.thought.as_ref().and_then(Thought::may_begin_with);
        let Some(constrained) = self.constraining() else { return false };
        let Some(mask) = constrained.mask_behind(n_behind) else { return false };
        let n_before = ids.len();
        ids.extend(mask.ids().take(n_most + 1));
        ids.extend(also);
        ids.len() - n_before <= n_most
    }

    /// Tells the sampler that `id` is now part of the answer.
    pub(crate) fn accept(&mut self, id: u32, tokenizer: &Tokenizer) {
        if let Some(banned) = &self.banned {
            let n_most = banned.n_bytes_max();
            let bytes = if tokenizer.is_control(id) { &[] } else { tokenizer.token_bytes(id) };
            self.tail.extend_from_slice(bytes);
            let n_old = self.tail.len().saturating_sub(n_most);
            self.tail.drain(..n_old);
        }
        self.note(id);
    }

    /// As [`Sampler::accept`], for what goes by the id alone.
    fn note(&mut self, id: u32) {
        if let Some(seen) = &mut self.seen {
            seen.add(id, 1);
        }
        let part_of = self.thought.as_mut().map_or(PartOf::Answer, |thought| thought.accept(id));
        match (part_of, &mut self.constrained, &mut self.thought) {
            (PartOf::Answer, Some(constrained), _) => constrained.accept(id),
            (PartOf::Either, Some(constrained), Some(thought)) => {
                let is_like_it = constrained.follow(id);
                if !is_like_it {
                    thought.rule_out_answer();
                }
            }
            (PartOf::PreambleAfterAll, Some(constrained), _) => constrained.restart(),
            _ => {}
        }
        if let Some(repetitions) = &mut self.repetitions {
            repetitions.accept(id);
        }
        self.n_before_end = self.n_before_end.saturating_sub(1);
    }

    /// The token at position `pos` of the sequence, given its logits `[n_vocab]`.
    pub(crate) fn choose(
        &mut self,
        logits: &[f32],
        pos: u64,
        scratch: &mut SamplerScratch,
    ) -> Result<u32, SampleError> {
        let found = ensure_finite(logits)?;
        let SamplerScratch { adjusted, weights, candidates } = scratch;
        let forced = self.thought.as_ref().and_then(Thought::forced);
        let is_adjusted = self.seen.is_some()
            || self.constrained.is_some()
            || forced.is_some()
            || self.repetitions.is_some()
            || self.n_before_end > 0
            || self.banned.is_some()
            || !self.settings.logit_bias.is_empty();
        let (logits, best) = if is_adjusted {
            adjusted.clear();
            adjusted.extend_from_slice(logits);
            self.forbid(adjusted, forced)?;
            // The mark that ends a thought comes whatever else is asked for.
            let banned = self.banned.as_ref().filter(|_| forced.is_none());
            if let Some(banned) = banned {
                banned.forbid(&self.tail, |id| {
                    if let Some(logit) = adjusted.get_mut(id as usize) {
                        *logit = f32::NEG_INFINITY;
                    }
                });
            }
            if self.n_before_end > 0 && forced.is_none() {
                for &id in self.ends.iter().filter(|&&id| (id as usize) < logits.len()) {
                    adjusted[id as usize] = f32::NEG_INFINITY;
                }
            }
            self.adjust(adjusted)?;
            (&**adjusted, scan(adjusted).best)
        } else {
            (logits, found.best)
        };
        if logits[best as usize] == f32::NEG_INFINITY {
            return Err(SampleError::AllForbidden);
        }
        if self.settings.temperature == 0.0 {
            return Ok(best);
        }
        let uniform = philox::uniform(self.seed, pos);
        let max = logits[best as usize];
        if let Some(mirostat) = self.settings.mirostat {
            weights.fill(logits, max, self.settings.temperature);
            let id = self.choose_by_surprise(mirostat, logits, weights, candidates, uniform);
            return Ok(id.unwrap_or(best));
        }
        let id = match self.cut(logits, max, pos, weights, candidates) {
            Cut::All => weights.draw(uniform),
            Cut::Some => draw(uniform, candidates.iter().map(|c| (c.id, c.weight))),
        };
        // `best` only where `uniform` times the sum rounds up to the sum.
        Ok(id.unwrap_or(best))
    }

    /// Forbids what preamble and constraint do not allow; `forced` is the only token that may come.
    fn forbid(&mut self, logits: &mut [f32], forced: Option<u32>) -> Result<(), SampleError> {
        if let Some(id) = forced {
            let logit = logits[id as usize];
            logits.fill(f32::NEG_INFINITY);
            logits[id as usize] = logit;
            return Ok(());
        }
        let Some(constrained) = &mut self.constrained else { return Ok(()) };
        if self.thought.as_ref().is_some_and(Thought::is_within) {
            constrained.forbid_ends(logits);
            for &id in self.thought.iter().flat_map(Thought::marks) {
                if let Some(logit) = logits.get_mut(id as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            return Ok(());
        }
        let also = self.thought.as_ref().and_then(Thought::may_begin_with);
        let forbidden = constrained.forbid(logits, also);
        forbidden.map_err(|error| SampleError::Constraint(error.to_string()))
    }

    /// Mirostat's choice, by which its bound moves on.
    fn choose_by_surprise(
        &mut self,
        Mirostat { tau, eta }: Mirostat,
        logits: &[f32],
        weights: &Weights,
        candidates: &mut Vec<Candidate>,
        uniform: f64,
    ) -> Option<u32> {
        let floor = weights.sum() * libm::exp2(-self.surprise_max);
        // The likeliest weighs 1 and always stays.
        collect(logits, weights.all(), floor.min(1.0) as f32, candidates);
        let id = draw(uniform, candidates.iter().map(|c| (c.id, c.weight)))?;
        let probability =
            f64::from(weights.all()[id as usize]) / sum(candidates.iter().map(|c| c.weight));
        let error = -libm::log2(probability) - f64::from(tau);
        self.surprise_max -= f64::from(eta) * error;
        Some(id)
    }

    /// Applies logit bias, then the penalties.
    fn adjust(&mut self, logits: &mut [f32]) -> Result<(), SampleError> {
        for &(id, bias) in &self.settings.logit_bias {
            logits[id as usize] += bias;
            check_adjusted(logits, id)?;
        }
        for &id in self.seen.as_ref().map_or(&[][..], |seen| &seen.ids) {
            let Some(seen) = &self.seen else { break };
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
            check_adjusted(logits, id)?;
        }
        match &mut self.repetitions {
            Some(repetitions) => repetitions.penalise(logits, check_adjusted),
            None => Ok(()),
        }
    }

    /// Applies temperature, top-k, top-p, min-p, typical-p and XTC. What is left stands in
    /// `weights`, or in `candidates` in order of id.
    fn cut(
        &self,
        logits: &[f32],
        max: f32,
        pos: u64,
        weights: &mut Weights,
        candidates: &mut Vec<Candidate>,
    ) -> Cut {
        let Sampling { temperature, top_p, min_p, typical_p, .. } = self.settings;
        let is_rare = typical_p < 1.0 || self.settings.xtc_probability > 0.0;
        let k = self.settings.top_k as usize;
        if (1..logits.len()).contains(&k) {
            top_k(logits, k, candidates);
            candidates.sort_unstable_by_key(|candidate| candidate.id);
            candidates.iter_mut().for_each(|c| c.weight = weight(c.logit, max, temperature));
            if top_p < 1.0 {
                let target = f64::from(top_p) * sum(candidates.iter().map(|c| c.weight));
                keep_nucleus(candidates, target);
            }
        } else {
            weights.fill(logits, max, temperature);
            if top_p < 1.0 {
                let target = f64::from(top_p) * weights.sum();
                find_nucleus(logits, weights.all(), target, candidates);
            } else if min_p > 0.0 || is_rare {
                collect(logits, weights.all(), min_p, candidates);
            } else {
                return Cut::All;
            }
        }
        candidates.retain(|candidate| candidate.weight >= min_p);
        if typical_p < 1.0 {
            keep_typical(candidates, typical_p);
        }
        let Sampling { xtc_probability, xtc_threshold, .. } = self.settings;
        if xtc_probability > 0.0
            && philox::nth_uniform(self.seed, pos, 1) < f64::from(xtc_probability)
        {
            exclude_top_choices(candidates, xtc_threshold);
        }
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        Cut::Some
    }
}

/// Where the tokens are that may be drawn.
enum Cut {
    /// All of them, with the dense weights.
    All,
    /// Among the candidates.
    Some,
}

/// Puts the smallest set of likeliest tokens whose weights reach `target` into `candidates`.
///
/// A nucleus is mostly a few dozen tokens of a vocabulary of many thousands. So only tokens above
/// a floor are sorted, and the floor is lowered where they do not reach the target.
fn find_nucleus(logits: &[f32], weights: &[f32], target: f64, candidates: &mut Vec<Candidate>) {
    for floor in [1.0 / 64.0, 1.0 / 4096.0, f32::EPSILON, 0.0] {
        collect(logits, weights, floor, candidates);
        if keep_nucleus(candidates, target) {
            return;
        }
    }
}

/// Puts the tokens of at least this weight into `candidates`, in order of id.
fn collect(logits: &[f32], weights: &[f32], floor: f32, candidates: &mut Vec<Candidate>) {
    candidates.clear();
    let all = (0..).zip(logits.iter().zip(weights));
    let kept = all.filter(|&(_, (_, &weight))| weight >= floor);
    candidates.extend(kept.map(|(id, (&logit, &weight))| Candidate { id, logit, weight }));
}

/// Keeps the likeliest candidates until their weights reach `target`, and says whether they do.
/// Sorts a growing front only.
fn keep_nucleus(candidates: &mut Vec<Candidate>, target: f64) -> bool {
    const FIRST_FRONT: usize = 64;
    const GROWTH: usize = 8;
    let mut n_sorted = 0;
    let mut sum = 0.0;
    let mut n_front = FIRST_FRONT;
    while n_sorted < candidates.len() {
        let rest = &mut candidates[n_sorted..];
        let n_next = (n_front - n_sorted).min(rest.len());
        if n_next < rest.len() {
            rest.select_nth_unstable_by(n_next - 1, likelier);
        }
        rest[..n_next].sort_unstable_by(likelier);
        let last = rest[..n_next].iter().position(|candidate| {
            sum += f64::from(candidate.weight);
            sum >= target
        });
        if let Some(i) = last {
            candidates.truncate(n_sorted + i + 1);
            return true;
        }
        n_sorted += n_next;
        n_front *= GROWTH;
    }
    false
}

/// Keeps the candidates whose information is nearest to the expected one until their weights reach
/// `typical_p` of all. Of equals the lower id.
fn keep_typical(candidates: &mut Vec<Candidate>, typical_p: f32) {
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    let all = sum(candidates.iter().map(|c| c.weight));
    let information = |weight: f32| -libm::log(f64::from(weight) / all);
    let expected = candidates
        .iter()
        .filter(|c| c.weight > 0.0)
        .fold(0.0, |expected, c| expected + f64::from(c.weight) / all * information(c.weight));
    for candidate in &mut *candidates {
        // Nothing asks for the logit any more, and the nearest are to come first. What has no
        // probability is infinitely far.
        candidate.logit = -((information(candidate.weight) - expected).abs() as f32);
    }
    keep_nucleus(candidates, f64::from(typical_p) * all);
}

/// Where several candidates have at least this probability, keeps the least likely of them and all
/// that have less. Of equals the highest id.
fn exclude_top_choices(candidates: &mut Vec<Candidate>, threshold: f32) {
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    let floor = f64::from(threshold) * sum(candidates.iter().map(|c| c.weight));
    let top = candidates.iter().filter(|c| f64::from(c.weight) >= floor);
    let rank = |a: &&Candidate, b: &&Candidate| b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id));
    let Some(&last) = top.max_by(rank) else { return };
    candidates.retain(|c| f64::from(c.weight) < floor || c.id == last.id);
}

/// Walks the weights in order of id to where `uniform` (in [0, 1)) falls.
fn draw(uniform: f64, weights: impl Iterator<Item = (u32, f32)> + Clone) -> Option<u32> {
    let target = uniform * sum(weights.clone().map(|(_, weight)| weight));
    let mut sum = 0.0;
    weights.into_iter().find_map(|(id, weight)| {
        sum += f64::from(weight);
        (sum > target).then_some(id)
    })
}

/// The sum in the order given, which is part of the definition.
fn sum(weights: impl Iterator<Item = f32>) -> f64 {
    weights.fold(0.0, |sum, weight| sum + f64::from(weight))
}

fn check_adjusted(logits: &[f32], id: u32) -> Result<(), SampleError> {
    let value = logits[id as usize];
    match value.is_nan() || value == f32::INFINITY {
        true => Err(SampleError::Adjusted { id, value }),
        false => Ok(()),
    }
}

/// Scans a row of a pass, in which every logit must be a number.
pub(crate) fn ensure_finite(logits: &[f32]) -> Result<Scan, SampleError> {
    let found = scan(logits);
    if !found.is_finite {
        let broken = (0..).zip(logits).find(|(_, logit)| !logit.is_finite());
        let (id, &value) = broken.expect("the scan met it");
        return Err(SampleError::NotFinite { id, value });
    }
    Ok(found)
}

/// Log-probability of `id` and of the `n_top` likeliest tokens (likeliest first, ties by lowest
/// id) in the model's own distribution: the log-softmax of its unadjusted, finite `logits`.
pub(crate) fn log_probabilities(
    logits: &[f32],
    id: u32,
    n_top: usize,
    scratch: &mut SamplerScratch,
) -> (f32, Vec<(u32, f32)>) {
    let SamplerScratch { weights, candidates, .. } = scratch;
    let max = logits[scan(logits).best as usize];
    weights.fill(logits, max, 1.0);
    let log_sum = f64::from(max) + libm::log(weights.sum());
    let log_probability = |logit: f32| (f64::from(logit) - log_sum) as f32;
    candidates.clear();
    if n_top > 0 {
        top_k(logits, n_top, candidates);
        candidates.sort_unstable_by(likelier);
    }
    let top = candidates.iter().map(|c| (c.id, log_probability(c.logit))).collect();
    (log_probability(logits[id as usize]), top)
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "sampler_channels_tests.rs"]
mod channels_tests;
