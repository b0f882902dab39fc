//! Whole rows of logits at once: the largest, the `k` largest, and exponentials.
//!
//! A vocabulary has up to a quarter of a million ids and is walked for every token, so these
//! loops are written for the vectoriser: no early exit, no call, plain IEEE operations in a fixed
//! order. So they also give the same bits on every machine.

use std::cmp::Ordering;

/// A token that may still be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    pub(crate) logit: f32,
    /// Its probability relative to the likeliest token's.
    pub(crate) weight: f32,
}

/// The likelier first, and of equals the lower id. A total order, as no logit is NaN.
pub(crate) fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// The id that greedy sampling takes from a row of logits, which is not empty; `None` where one of
/// them is NaN or infinite.
pub fn greedy(logits: &[f32]) -> Option<u32> {
    let Scan { best, is_finite } = scan(logits);
    is_finite.then_some(best)
}

/// What one pass over a row finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The id of the largest logit, the lowest of several. Means nothing where there is a NaN.
    pub(crate) best: u32,
    /// Whether no logit is NaN or infinite.
    pub(crate) is_finite: bool,
}

/// Finds the largest of `logits`, which are not empty.
///
/// Each piece of the row gives its maximum; only the piece that has the row's is looked at again,
/// for where it stands.
pub(crate) fn scan(logits: &[f32]) -> Scan {
    const LANES: usize = 16;
    const PIECE: usize = 1024;
    let (mut max, mut max_start, mut zero) = (f32::NEG_INFINITY, 0, 0.0);
    for (piece_idx, piece) in logits.chunks(PIECE).enumerate() {
        let (mut maxima, mut zeros) = ([f32::NEG_INFINITY; LANES], [0.0; LANES]);
        let (vectors, rest) = piece.as_chunks::<LANES>();
        for vector in vectors {
            for ((max, zero), &logit) in maxima.iter_mut().zip(&mut zeros).zip(vector) {
                *max = if logit > *max { logit } else { *max };
                // Zero times a number is zero, times anything else it is NaN.
                *zero += logit * 0.0;
            }
        }
        let piece_max = maxima.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        zero += zeros.iter().sum::<f32>() + rest.iter().map(|logit| logit * 0.0).sum::<f32>();
        if piece_max > max {
            (max, max_start) = (piece_max, piece_idx * PIECE);
        }
    }
    let offset = logits[max_start..].iter().position(|&logit| logit == max).unwrap_or(0);
    Scan { best: (max_start + offset) as u32, is_finite: zero == 0.0 }
}

/// Puts the `k` likeliest ids into `out`, in no order; `k` is at least 1. Weights are not set.
///
/// Only what beats the `k`-th best so far is looked at twice, which is little after the first
/// thousand: mostly a whole piece is passed over.
pub(crate) fn top_k(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    const PIECE: usize = 64;
    out.clear();
    let n_full = k.saturating_mul(2).max(64);
    let mut bar = f32::NEG_INFINITY;
    for (piece_idx, piece) in logits.chunks(PIECE).enumerate() {
        // Before there is a k-th best, even minus infinity is among them.
        let has_bar = bar > f32::NEG_INFINITY;
        if has_bar && !piece.iter().fold(false, |any, &logit| any | (logit > bar)) {
            continue;
        }
        for (id, &logit) in (piece_idx * PIECE..).zip(piece) {
            // An equal of the k-th best has the higher id and is not among them.
            if logit > bar || bar == f32::NEG_INFINITY {
                out.push(Candidate { id: id as u32, logit, weight: 0.0 });
                if out.len() == n_full {
                    out.select_nth_unstable_by(k - 1, likelier);
                    out.truncate(k);
                    bar = out[k - 1].logit;
                }
            }
        }
    }
    if out.len() > k {
        out.select_nth_unstable_by(k - 1, likelier);
        out.truncate(k);
    }
}

/// The probabilities of a whole row relative to the likeliest token's, with their sums.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    /// `[n_vocab]`.
    weights: Vec<f32>,
    /// Σ of the weights from the first to the end of each piece, added in order of id: that order
    /// is part of the definition, and one addition waits for the other. So a draw walks through
    /// one piece and not through the row once more.
    sums: Vec<f64>,
}

impl Weights {
    const PIECE: usize = 256;

    /// Sets the weights to `exp((logit - max) / temperature)` for each logit.
    pub(crate) fn fill(&mut self, logits: &[f32], max: f32, temperature: f32) {
        self.weights.resize(logits.len(), 0.0);
        self.sums.clear();
        let mut sum = 0.0;
        let pieces = self.weights.chunks_mut(Self::PIECE).zip(logits.chunks(Self::PIECE));
        for (weights, logits) in pieces {
            for (out, &logit) in weights.iter_mut().zip(logits) {
                *out = weight(logit, max, temperature);
            }
            sum = weights.iter().fold(sum, |sum, &weight| sum + f64::from(weight));
            self.sums.push(sum);
        }
    }

    /// The weights, by id.
    pub(crate) fn all(&self) -> &[f32] {
        &self.weights
    }

    /// Their sum.
    pub(crate) fn sum(&self) -> f64 {
        self.sums.last().copied().unwrap_or(0.0)
    }

    /// Walks the weights in order of id to where `uniform` (in [0, 1)) falls.
    pub(crate) fn draw(&self, uniform: f64) -> Option<u32> {
        let target = uniform * self.sum();
        let piece_idx = self.sums.partition_point(|&sum| sum <= target);
        let start = piece_idx * Self::PIECE;
        let mut sum = if piece_idx == 0 { 0.0 } else { self.sums[piece_idx - 1] };
        let offset = self.weights.get(start..)?.iter().position(|&weight| {
            sum += f64::from(weight);
            sum > target
        });
        offset.map(|offset| (start + offset) as u32)
    }
}

/// `exp((logit - max) / temperature)`, for `logit <= max`.
pub(crate) fn weight(logit: f32, max: f32, temperature: f32) -> f32 {
    exp_of_negative((logit - max) / temperature)
}

/// The exponential of a number not above 0 (minus infinity included), to within two units in the
/// last place; zero below -87, where the result would be about to leave the normal numbers.
///
/// Cody and Waite's reduction by powers of two, and the polynomial of Cephes' `expf` (Moshier):
/// multiplications and additions only.
fn exp_of_negative(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HI: f32 = 0.693_359_4;
    const LN_2_LO: f32 = -2.121_944_4e-4;
    /// Adding it rounds to an integer, which then stands in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    const LOWEST: f32 = -87.0;

    let clamped = if x > LOWEST { x } else { LOWEST };
    let rounded = clamped * LOG2_E + ROUNDER;
    let exponent = rounded.to_bits().wrapping_sub(ROUNDER.to_bits());
    let whole = rounded - ROUNDER;
    let r = clamped - whole * LN_2_HI - whole * LN_2_LO;
    let mut sum = 1.987_569_2e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * r + coefficient;
    }
    let fraction = sum * r * r + r + 1.0;
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x >= LOWEST { fraction * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::uniform;

    #[test]
    fn exponentials_are_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in 0..200_000u64 {
            let x = (-87.0 * uniform(9, i).powi(1 + (i % 6) as i32)) as f32;
            let exact = libm::exp(f64::from(x));
            worst = worst.max((f64::from(exp_of_negative(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "relative error {worst}");
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(-0.0), 1.0);
        for x in [-87.001, -1e30, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp_of_negative(x), 0.0, "exp({x})");
        }
    }

    /// Logits with many ties, and some that are forbidden.
    fn random_logits(n_vocab: usize, seed: u64) -> Vec<f32> {
        let number = |i: usize| (uniform(seed, i as u64) * 60.0) as i32;
        (0..n_vocab)
            .map(|i| match number(i) {
                0 => f32::NEG_INFINITY,
                number => number as f32 / 4.0 - 8.0,
            })
            .collect()
    }

    #[test]
    fn the_largest_agree_with_a_full_sort() {
        let mut found = Vec::new();
        for n_vocab in [1, 2, 15, 16, 17, 100, 1000, 5000] {
            let logits = random_logits(n_vocab, n_vocab as u64);
            let all = logits.iter().enumerate();
            let mut all: Vec<Candidate> =
                all.map(|(id, &logit)| Candidate { id: id as u32, logit, weight: 0.0 }).collect();
            all.sort_by(likelier);
            assert_eq!(scan(&logits).best, all[0].id);
            for k in [1, 2, 3, 31, 32, 33, 64, 999, 1000, n_vocab, usize::MAX] {
                top_k(&logits, k, &mut found);
                found.sort_by(likelier);
                assert_eq!(found, all[..k.min(n_vocab)], "{k} of {n_vocab}");
            }
        }
    }

    #[test]
    fn all_forbidden_still_has_a_largest() {
        assert_eq!(scan(&[f32::NEG_INFINITY; 40]).best, 0);
        let mut found = Vec::new();
        top_k(&[f32::NEG_INFINITY; 400], 3, &mut found);
        found.sort_by(likelier);
        assert_eq!(found.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn what_is_no_number_is_found() {
        let mut logits = random_logits(100, 1);
        logits.iter_mut().for_each(|logit| *logit = logit.max(-1e30));
        assert!(scan(&logits).is_finite);
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for id in [0, 77, 99] {
                let mut logits = logits.clone();
                logits[id] = value;
                assert!(!scan(&logits).is_finite, "{value} at {id}");
            }
        }
        assert!(scan(&[f32::MAX, f32::MIN, 0.0, -0.0]).is_finite);
    }

    #[test]
    fn a_draw_is_a_walk_from_the_first_id() {
        let mut weights = Weights::default();
        for n_vocab in [1, 255, 256, 257, 2000] {
            let logits = random_logits(n_vocab, 3);
            weights.fill(&logits, 8.0, 2.0);
            let sum = weights.all().iter().fold(0.0, |sum, &weight| sum + f64::from(weight));
            assert_eq!(weights.sum().to_bits(), f64::to_bits(sum));
            for i in 0..500 {
                let uniform = [0.0, uniform(4, i), 1.0][i as usize % 3];
                let mut so_far = 0.0;
                let expected = weights.all().iter().position(|&weight| {
                    so_far += f64::from(weight);
                    so_far > uniform * sum
                });
                assert_eq!(weights.draw(uniform), expected.map(|id| id as u32), "{uniform}");
            }
        }
    }
}
