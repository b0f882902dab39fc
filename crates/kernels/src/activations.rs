//! Activations: the inputs of matrix products, in `f32` and quantised to 8 bits.
//!
//! One form for every quantised weight format: 32 columns share one `f32` scale (`amax / 127`),
//! with the exact integer sums that zero points need and the scaled sum that offsets need.
//! llama.cpp uses one scale per 256 columns for the K formats; finer scales cost one multiplication
//! per 32 products and remove most of the error of large single activations.
//!
//! Where more is wanted ([`Precision::Bits16`]), what the 8 bits left over is quantised once more
//! in the same way, so that `x ≈ scale₀ q₀ + scale₁ q₁`, and the product has two terms.
//!
//! A row is quantised by itself, so the batch cannot change it.

use crate::Cpu;
use crate::isa::{Kernel, LANES, Simd};
use crate::matrix::Matrix;
use crate::planes::SUB_LEN;

/// How finely the activations of a product with quantised weights are quantised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 8 bits: one dot product.
    #[default]
    Bits8,
    /// 8 bits and 8 more for the remainder: two dot products, practically exact.
    Bits16,
}

impl Precision {
    /// Dot products it takes.
    pub(crate) fn n_terms(self) -> usize {
        match self {
            Precision::Bits8 => 1,
            Precision::Bits16 => 2,
        }
    }
}

/// Which forms of the input a product reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    n_terms: usize,
}

impl Needs {
    /// What products of this precision with `weights` need.
    pub fn of(weights: &[&Matrix], precision: Precision) -> Self {
        let quantised = weights.iter().any(|weight| weight.format().is_quantised());
        Self { n_terms: if quantised { precision.n_terms() } else { 0 } }
    }
}

/// A batch of input rows, `[n_tokens, n_cols]`; reused between products, so it does not allocate
/// once it has seen the largest batch.
#[derive(Default)]
pub struct Activations {
    n_tokens: usize,
    n_cols: usize,
    values: Vec<f32>,
    /// The terms, each `[n_tokens, n_cols / 32]`.
    terms: [Vec<Sub>; 2],
    n_terms: usize,
}

/// 32 quantised columns. `x ≈ scale · q`.
#[derive(Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct Sub {
    pub(crate) q: [[i8; 4]; SUB_LEN / 4],
    pub(crate) scale: f32,
    /// `scale` times the sum of `q`.
    pub(crate) scaled_sum: f32,
    /// Sums of the first and the second 16 of `q`.
    pub(crate) sums: [i32; 2],
}

impl Sub {
    /// The four bytes of k-group `idx`, as dot instructions take them.
    #[inline(always)]
    pub(crate) fn group(&self, idx: usize) -> i32 {
        i32::from_le_bytes(self.q[idx].map(|q| q as u8))
    }
}

impl Activations {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `[n_tokens, n_cols]` values and returns them to be filled.
    pub fn set(&mut self, n_tokens: usize, n_cols: usize) -> &mut [f32] {
        self.n_tokens = n_tokens;
        self.n_cols = n_cols;
        self.n_terms = 0;
        let len = n_tokens * n_cols;
        if self.values.len() < len {
            self.values.resize(len, 0.0);
        }
        &mut self.values[..len]
    }

    /// Rows.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }
    /// Columns.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }
    /// The values, `[n_tokens, n_cols]`.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.n_tokens * self.n_cols]
    }

    pub(crate) fn row(&self, token: usize) -> &[f32] {
        &self.values()[token * self.n_cols..][..self.n_cols]
    }
    /// Terms that were computed since the values were set.
    pub(crate) fn n_terms(&self) -> usize {
        self.n_terms
    }
    pub(crate) fn term(&self, term: usize, token: usize) -> &[Sub] {
        let n_subs = self.n_cols / SUB_LEN;
        &self.terms[term][token * n_subs..][..n_subs]
    }
}

impl Cpu {
    /// Computes the forms of `x` that `needs` asks for. To be called after the values are filled.
    ///
    /// # Panics
    /// If quantised columns are asked for and `n_cols` is not a multiple of 32.
    pub fn quantise(&self, x: &mut Activations, needs: Needs) {
        if needs.n_terms == 0 {
            return;
        }
        assert!(x.n_cols.is_multiple_of(SUB_LEN), "quantise: {} columns", x.n_cols);
        let n_subs = x.n_cols / SUB_LEN;
        let len = x.n_tokens * n_subs;
        for term in &mut x.terms[..needs.n_terms] {
            if term.len() < len {
                term.resize(len, Sub::default());
            }
        }
        let (values, isa) = (&x.values[..len * SUB_LEN], self.isa());
        let row_len = n_subs.max(1);
        let row = |token: usize| &values[token * n_subs * SUB_LEN..][..n_subs * SUB_LEN];
        let [first, second] = &mut x.terms;
        self.for_each_row(&mut first[..len], row_len, SUB_LEN, |token, subs| {
            isa.dispatch(Quantise { row: row(token), before: None, subs });
        });
        if needs.n_terms > 1 {
            let first = &first[..len];
            self.for_each_row(&mut second[..len], row_len, SUB_LEN, |token, subs| {
                let before = Some(&first[token * n_subs..][..n_subs]);
                isa.dispatch(Quantise { row: row(token), before, subs });
            });
        }
        x.n_terms = needs.n_terms;
    }
}

struct Quantise<'a> {
    row: &'a [f32],
    /// The term whose remainder is quantised, if this is not the first.
    before: Option<&'a [Sub]>,
    subs: &'a mut [Sub],
}

impl Kernel for Quantise<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (idx, (sub, x)) in self.subs.iter_mut().zip(self.row.as_chunks().0).enumerate() {
            *sub = match self.before {
                None => quantise_sub(simd, x),
                Some(before) => quantise_sub(simd, &remainder(x, &before[idx])),
            };
        }
    }
}

/// `x - scale · q`, rounded once.
#[inline(always)]
fn remainder(x: &[f32; SUB_LEN], sub: &Sub) -> [f32; SUB_LEN] {
    let q = sub.q.as_flattened();
    let mut rest = [0.0; SUB_LEN];
    for i in 0..SUB_LEN {
        rest[i] = f32::from(q[i]).mul_add(-sub.scale, x[i]);
    }
    rest
}

#[inline(always)]
fn quantise_sub<S: Simd>(simd: S, x: &[f32; SUB_LEN]) -> Sub {
    let (halves, _) = x.as_chunks::<LANES>();
    let (a, b) = (simd.load(&halves[0]), simd.load(&halves[1]));
    let zero = simd.splat(0.0);
    let abs_a = simd.max(a, simd.sub(zero, a));
    let abs_b = simd.max(b, simd.sub(zero, b));
    let amax = simd.max_lane(simd.max(abs_a, abs_b));
    // Below this 127 / amax would overflow; such a block is zero for every purpose.
    let (scale, inverse) = if amax > 1e-30 { (amax / 127.0, 127.0 / amax) } else { (0.0, 0.0) };
    let mut q = [[0i32; LANES]; 2];
    simd.store_i(simd.round(simd.mul(a, simd.splat(inverse))), &mut q[0]);
    simd.store_i(simd.round(simd.mul(b, simd.splat(inverse))), &mut q[1]);
    let mut sub = Sub { scale, ..Sub::default() };
    for half in 0..2 {
        for i in 0..LANES {
            // The clamp matters only for inputs that are not finite.
            let value = q[half][i].clamp(-127, 127);
            sub.sums[half] += value;
            sub.q[half * 4 + i / 4][i % 4] = value as i8;
        }
    }
    sub.scaled_sum = scale * (sub.sums[0] + sub.sums[1]) as f32;
    sub
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    const BOTH: Needs = Needs { n_terms: 2 };

    #[test]
    fn each_term_is_within_half_a_step_of_what_it_stands_for() {
        let n_cols = 96;
        let values: Vec<f32> = (0..2 * n_cols).map(|i| ((i * 37) % 101) as f32 - 50.3).collect();
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 2);
            let mut x = Activations::new();
            x.set(2, n_cols).copy_from_slice(&values);
            cpu.quantise(&mut x, BOTH);
            for (i, value) in values.iter().enumerate() {
                let (token, col) = (i / n_cols, i % n_cols);
                let mut rest = *value;
                for term in 0..2 {
                    let sub = &x.term(term, token)[col / SUB_LEN];
                    assert!(
                        sub.q.as_flattened().iter().map(|q| i32::from(*q)).sum::<i32>()
                            == sub.sums[0] + sub.sums[1]
                    );
                    rest -= f32::from(sub.q.as_flattened()[col % SUB_LEN]) * sub.scale;
                    assert!(rest.abs() <= sub.scale * 0.5001, "term {term} of {value}: {rest}");
                }
                assert!(rest.abs() < 50.8 / 127.0 / 254.0 * 0.51, "{value}: {rest} is left");
            }
        }
    }

    #[test]
    fn extreme_values_do_not_leave_the_range() {
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 1);
            for x in [0.0, 1e-40, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN] {
                let mut acts = Activations::new();
                acts.set(1, 32).fill(x);
                cpu.quantise(&mut acts, BOTH);
                for term in 0..2 {
                    let sub = &acts.term(term, 0)[0];
                    assert!(sub.q.as_flattened().iter().all(|q| *q != -128), "{x}");
                }
            }
        }
    }
}
