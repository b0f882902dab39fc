//! Activations: the inputs of matrix products, in `f32` and quantised to 8 bits.
//!
//! One form for every quantised weight format: 32 columns share one `f32` scale (`amax / 127`),
//! with the exact integer sums that zero points need and the scaled sum that offsets need.
//! llama.cpp uses one scale per 256 columns for the K formats; finer scales cost one multiplication
//! per 32 products and remove most of the error of large single activations.
//!
//! A row is quantised by itself, so the batch cannot change it.

use crate::Cpu;
use crate::format::Format;
use crate::isa::{Kernel, LANES, Simd};
use crate::matrix::Matrix;
use crate::planes::SUB_LEN;

/// Which forms of the input a product reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    quantised: bool,
}

impl Needs {
    /// What products with `weights` need.
    pub fn of(weights: &[&Matrix]) -> Self {
        Self { quantised: weights.iter().any(|weight| weight.format().is_quantised()) }
    }

    /// What a product with weights of this format needs.
    pub fn of_format(format: Format) -> Self {
        Self { quantised: format.is_quantised() }
    }
}

/// A batch of input rows, `[n_tokens, n_cols]`; reused between products, so it does not allocate
/// once it has seen the largest batch.
#[derive(Default)]
pub struct Activations {
    n_tokens: usize,
    n_cols: usize,
    values: Vec<f32>,
    quantised: Vec<Sub>,
    is_quantised: bool,
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
        self.is_quantised = false;
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
    pub(crate) fn is_quantised(&self) -> bool {
        self.is_quantised
    }
    pub(crate) fn quantised_row(&self, token: usize) -> &[Sub] {
        let n_subs = self.n_cols / SUB_LEN;
        &self.quantised[token * n_subs..][..n_subs]
    }
}

impl Cpu {
    /// Computes the forms of `x` that `needs` asks for. To be called after the values are filled.
    ///
    /// # Panics
    /// If quantised columns are asked for and `n_cols` is not a multiple of 32.
    pub fn quantise(&self, x: &mut Activations, needs: Needs) {
        if !needs.quantised {
            return;
        }
        assert!(x.n_cols.is_multiple_of(SUB_LEN), "quantise: {} columns", x.n_cols);
        let n_subs = x.n_cols / SUB_LEN;
        let len = x.n_tokens * n_subs;
        if x.quantised.len() < len {
            x.quantised.resize(len, Sub::default());
        }
        let (values, isa) = (&x.values[..len * SUB_LEN], self.isa());
        self.for_each_row(&mut x.quantised[..len], n_subs.max(1), SUB_LEN, |token, subs| {
            let row = &values[token * n_subs * SUB_LEN..][..n_subs * SUB_LEN];
            isa.dispatch(Quantise { row, subs });
        });
        x.is_quantised = true;
    }
}

struct Quantise<'a> {
    row: &'a [f32],
    subs: &'a mut [Sub],
}

impl Kernel for Quantise<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (sub, x) in self.subs.iter_mut().zip(self.row.as_chunks::<SUB_LEN>().0) {
            let (halves, _) = x.as_chunks::<LANES>();
            let (a, b) = (simd.load(&halves[0]), simd.load(&halves[1]));
            let zero = simd.splat(0.0);
            let abs_a = simd.max(a, simd.sub(zero, a));
            let abs_b = simd.max(b, simd.sub(zero, b));
            let amax = simd.max_lane(simd.max(abs_a, abs_b));
            // Below this 127 / amax would overflow; such a block is zero for every purpose.
            let inverse = if amax > 1e-30 { 127.0 / amax } else { 0.0 };
            let mut q = [[0i32; LANES]; 2];
            simd.store_i(simd.round(simd.mul(a, simd.splat(inverse))), &mut q[0]);
            simd.store_i(simd.round(simd.mul(b, simd.splat(inverse))), &mut q[1]);
            let mut sums = [0i32; 2];
            for half in 0..2 {
                for i in 0..LANES {
                    // The clamp matters only for inputs that are not finite.
                    let value = q[half][i].clamp(-127, 127);
                    sums[half] += value;
                    sub.q[half * 4 + i / 4][i % 4] = value as i8;
                }
            }
            sub.scale = if amax > 1e-30 { amax / 127.0 } else { 0.0 };
            sub.scaled_sum = sub.scale * (sums[0] + sums[1]) as f32;
            sub.sums = sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn quantised_values_are_within_half_a_step_on_every_instruction_set() {
        let n_cols = 96;
        let values: Vec<f32> = (0..2 * n_cols).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 2);
            let mut x = Activations::new();
            x.set(2, n_cols).copy_from_slice(&values);
            cpu.quantise(&mut x, Needs { quantised: true });
            for token in 0..2 {
                for (sub, row) in x.quantised_row(token).iter().zip(x.row(token).chunks(SUB_LEN)) {
                    let mut sum = 0;
                    for (q, x) in sub.q.as_flattened().iter().zip(row) {
                        sum += i32::from(*q);
                        let error = (f32::from(*q) * sub.scale - x).abs();
                        assert!(error <= sub.scale * 0.5001, "{x} became {q} × {}", sub.scale);
                    }
                    assert_eq!(sub.sums[0] + sub.sums[1], sum);
                }
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
                cpu.quantise(&mut acts, Needs { quantised: true });
                let sub = &acts.quantised_row(0)[0];
                assert!(sub.q.as_flattened().iter().all(|q| *q != -128), "{x}");
            }
        }
    }
}
