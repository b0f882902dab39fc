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
    find_not_finite(logits).is_none().then(|| arg_max(logits))
}

/// The id of the first logit that is NaN or infinite.
pub(crate) fn find_not_finite(logits: &[f32]) -> Option<usize> {
    let magnitudes = logits.iter().map(|logit| logit.to_bits() & !(1 << 31));
    let largest = magnitudes.fold(0, u32::max);
    if largest < f32::INFINITY.to_bits() {
        return None;
    }
    logits.iter().position(|logit| !logit.is_finite())
}

/// The id of the largest logit, the lowest of several. `logits` is not empty and has no NaN.
pub(crate) fn arg_max(logits: &[f32]) -> u32 {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &logit| max.max(logit));
    logits.iter().position(|&logit| logit == max).map_or(0, |id| id as u32)
}

/// Puts the `k` likeliest ids into `out`, in no order; `k` is at least 1. Weights are not set.
///
/// Only what beats the `k`-th best so far is looked at twice, which is little after the first
/// thousand.
pub(crate) fn top_k(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    let n_full = k.saturating_mul(2).max(64);
    let mut bar = f32::NEG_INFINITY;
    for (id, &logit) in logits.iter().enumerate() {
        // An equal of the k-th best has the higher id and is not among them; before there is a
        // k-th best, even minus infinity is.
        if logit > bar || bar == f32::NEG_INFINITY {
            out.push(Candidate { id: id as u32, logit, weight: 0.0 });
            if out.len() == n_full {
                out.select_nth_unstable_by(k - 1, likelier);
                out.truncate(k);
                bar = out[k - 1].logit;
            }
        }
    }
    if out.len() > k {
        out.select_nth_unstable_by(k - 1, likelier);
        out.truncate(k);
    }
}

/// Fills `weights` with `exp((logit - max) / temperature)` for each logit.
pub(crate) fn fill_weights(logits: &[f32], max: f32, temperature: f32, weights: &mut Vec<f32>) {
    weights.clear();
    weights.extend(logits.iter().map(|&logit| weight(logit, max, temperature)));
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
            assert_eq!(arg_max(&logits), all[0].id);
            for k in [1, 2, 3, 31, 32, 33, 64, 999, 1000, n_vocab, usize::MAX] {
                top_k(&logits, k, &mut found);
                found.sort_by(likelier);
                assert_eq!(found, all[..k.min(n_vocab)], "{k} of {n_vocab}");
            }
        }
    }

    #[test]
    fn all_forbidden_still_has_a_largest() {
        assert_eq!(arg_max(&[f32::NEG_INFINITY; 40]), 0);
        let mut found = Vec::new();
        top_k(&[f32::NEG_INFINITY; 400], 3, &mut found);
        found.sort_by(likelier);
        assert_eq!(found.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn what_is_no_number_is_found() {
        let mut logits = random_logits(100, 1);
        logits.iter_mut().for_each(|logit| *logit = logit.max(-1e30));
        assert_eq!((find_not_finite(&logits), greedy(&logits)), (None, Some(arg_max(&logits))));
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = logits.clone();
            logits[77] = value;
            logits[99] = value;
            assert_eq!((find_not_finite(&logits), greedy(&logits)), (Some(77), None), "{value}");
        }
        assert_eq!(find_not_finite(&[f32::MAX, f32::MIN, 0.0, -0.0]), None);
    }
}
