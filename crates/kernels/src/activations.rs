//! Activations: the inputs of matrix products, in `f32` and quantised to 8 bits.
//!
//! One form for every quantised weight format: 32 columns share one `f32` scale (`amax / 127`),
//! with the exact integer sums that zero points need and the scaled sum that offsets need.
//! llama.cpp uses one scale per 256 columns for the K formats; finer scales cost one multiplication
//! per 32 products and remove most of the error of large single activations.
//!
//! Where more is wanted ([`Precision::Bits16`]) the integers have 16 bits, up to ±32512, and lie in
//! two planes of 8 bits, `a = 255 · high + low`: both stay within ±127, which is what dot
//! instructions take without saturation. A product then costs two dot products but unpacks and
//! scales the weights once.
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
    /// 16 bits: two dot products, practically exact.
    Bits16,
}

/// What the high plane of 16-bit activations counts.
const RADIX: i32 = 255;

impl Precision {
    /// The largest quantised activation.
    pub(crate) fn max(self) -> i32 {
        match self {
            Precision::Bits8 => 127,
            Precision::Bits16 => 127 * RADIX + 127,
        }
    }
}

/// Which form of the input products read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// None where all weights are floats.
    precision: Option<Precision>,
}

impl Needs {
    /// What products of this precision with `weights` need.
    pub fn of(weights: &[&Matrix], precision: Precision) -> Self {
        let quantised = weights.iter().any(|weight| weight.format().is_quantised());
        Self { precision: quantised.then_some(precision) }
    }
}

/// A batch of input rows, `[n_tokens, n_cols]`; reused between products, so it does not allocate
/// once it has seen the largest batch.
#[derive(Default)]
pub struct Activations {
    n_tokens: usize,
    n_cols: usize,
    values: Vec<f32>,
    /// `[n_tokens, n_cols / 32]`.
    subs: Vec<Sub>,
    /// Of `subs`, if they were computed since the values were set.
    precision: Option<Precision>,
}

/// 32 quantised columns: `x ≈ scale · a`.
#[derive(Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct Sub {
    /// The plane of [`Precision::Bits8`], the low and the high one of [`Precision::Bits16`].
    pub(crate) planes: [[[i8; 4]; SUB_LEN / 4]; 2],
    pub(crate) scale: f32,
    /// `scale` times the sum of `a`.
    pub(crate) scaled_sum: f32,
    /// Sums of the first and the second 16 of `a`.
    pub(crate) sums: [i32; 2],
}

impl Sub {
    /// The four bytes of k-group `idx` of a plane, as dot instructions take them.
    #[inline(always)]
    pub(crate) fn group(&self, plane: usize, idx: usize) -> i32 {
        i32::from_le_bytes(self.planes[plane][idx].map(|a| a as u8))
    }

    /// `scale` times the sum of one half, for offsets that change every 16 columns.
    #[inline(always)]
    pub(crate) fn half_sum(&self, half: usize) -> f32 {
        self.scale * self.sums[half] as f32
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
        self.precision = None;
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
    /// How the quantised form was computed, if it was since the values were set.
    pub(crate) fn precision(&self) -> Option<Precision> {
        self.precision
    }
    /// Planes of the quantised form.
    pub(crate) fn n_planes(&self) -> usize {
        if self.precision == Some(Precision::Bits16) { 2 } else { 1 }
    }
    pub(crate) fn subs(&self, token: usize) -> &[Sub] {
        let n_subs = self.n_cols / SUB_LEN;
        &self.subs[token * n_subs..][..n_subs]
    }
}

impl Cpu {
    /// Computes the form of `x` that `needs` asks for. To be called after the values are filled.
    ///
    /// # Panics
    /// If quantised columns are asked for and `n_cols` is not a multiple of 32.
    pub fn quantise(&self, x: &mut Activations, needs: Needs) {
        let Some(precision) = needs.precision else { return };
        assert!(x.n_cols.is_multiple_of(SUB_LEN), "quantise: {} columns", x.n_cols);
        let n_subs = x.n_cols / SUB_LEN;
        let len = x.n_tokens * n_subs;
        if x.subs.len() < len {
            x.subs.resize(len, Sub::default());
        }
        let (values, isa) = (&x.values[..len * SUB_LEN], self.isa());
        self.for_each_row(&mut x.subs[..len], n_subs.max(1), SUB_LEN, |token, subs| {
            let row = &values[token * n_subs * SUB_LEN..][..n_subs * SUB_LEN];
            isa.dispatch(Quantise { row, precision, subs });
        });
        x.precision = Some(precision);
    }
}

struct Quantise<'a> {
    row: &'a [f32],
    precision: Precision,
    subs: &'a mut [Sub],
}

impl Kernel for Quantise<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (sub, x) in self.subs.iter_mut().zip(self.row.as_chunks().0) {
            *sub = quantise_sub(simd, self.precision, x);
        }
    }
}

#[inline(always)]
fn quantise_sub<S: Simd>(simd: S, precision: Precision, x: &[f32; SUB_LEN]) -> Sub {
    let (halves, _) = x.as_chunks::<LANES>();
    let (a, b) = (simd.load(&halves[0]), simd.load(&halves[1]));
    let zero = simd.splat(0.0);
    let abs_a = simd.max(a, simd.sub(zero, a));
    let abs_b = simd.max(b, simd.sub(zero, b));
    let amax = simd.max_lane(simd.max(abs_a, abs_b));
    let max = precision.max();
    // Below this max / amax would overflow; such a block is zero for every purpose.
    let (scale, inverse) =
        if amax > 1e-30 { (amax / max as f32, max as f32 / amax) } else { (0.0, 0.0) };
    let mut sub = Sub { scale, ..Sub::default() };
    let [low, high] = sub.planes.each_mut().map(|plane| plane.as_flattened_mut());
    for (half, x) in [a, b].into_iter().enumerate() {
        let value = simd.round(simd.mul(x, simd.splat(inverse)));
        sub.sums[half] = simd.sum_i(value);
        let (low, high) = (&mut low[half * LANES..], &mut high[half * LANES..]);
        let low: &mut [i8; LANES] = low.first_chunk_mut().expect("a plane is two halves");
        let high: &mut [i8; LANES] = high.first_chunk_mut().expect("a plane is two halves");
        match precision {
            Precision::Bits8 => simd.store_i8(value, low),
            Precision::Bits16 => {
                // What is left is at most 127 of 255, so the nearest integer is never in doubt.
                let nearest = simd.mul(simd.to_f(value), simd.splat(1.0 / RADIX as f32));
                let count = simd.round(nearest);
                let counted = simd.sub_i(simd.shl_i::<8>(count), count);
                simd.store_i8(simd.sub_i(value, counted), low);
                simd.store_i8(count, high);
            }
        }
    }
    sub.scaled_sum = scale * (sub.sums[0].wrapping_add(sub.sums[1])) as f32;
    sub
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn the_planes_make_up_every_value_and_stay_in_range() {
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 1);
            let mut x = Activations::new();
            for first in (-32512..=32512).step_by(31) {
                // The first sets the scale to 1, the others are what the planes must make up.
                let value = |i: i32| if i == 0 { 32512 } else { (first + i - 1).min(32512) };
                let values: Vec<f32> = (0..32).map(|i| value(i) as f32).collect();
                x.set(1, 32).copy_from_slice(&values);
                cpu.quantise(&mut x, Needs { precision: Some(Precision::Bits16) });
                let [low, high] = x.subs(0)[0].planes.map(|plane| plane.as_flattened().to_vec());
                for i in 0..32 {
                    let found = RADIX * i32::from(high[i]) + i32::from(low[i]);
                    assert_eq!(found, value(i as i32));
                    assert!(low[i] != -128 && high[i] != -128, "{found}");
                }
            }
        }
    }

    #[test]
    fn activations_are_within_half_a_step_of_what_they_stand_for() {
        let n_cols = 96;
        let values: Vec<f32> = (0..2 * n_cols).map(|i| ((i * 37) % 101) as f32 - 50.3).collect();
        for (isa, precision) in Isa::available()
            .into_iter()
            .flat_map(|isa| [(isa, Precision::Bits8), (isa, Precision::Bits16)])
        {
            let cpu = Cpu::new(isa, 2);
            let mut x = Activations::new();
            x.set(2, n_cols).copy_from_slice(&values);
            cpu.quantise(&mut x, Needs { precision: Some(precision) });
            for (i, value) in values.iter().enumerate() {
                let sub = &x.subs(i / n_cols)[i % n_cols / SUB_LEN];
                let planes = sub.planes.map(|plane| plane.as_flattened().to_vec());
                let a = |i: usize| match precision {
                    Precision::Bits8 => i32::from(planes[0][i]),
                    Precision::Bits16 => RADIX * i32::from(planes[1][i]) + i32::from(planes[0][i]),
                };
                assert_eq!((0..SUB_LEN).map(a).sum::<i32>(), sub.sums[0] + sub.sums[1]);
                let rest = value - a(i % n_cols % SUB_LEN) as f32 * sub.scale;
                assert!(rest.abs() <= sub.scale * 0.51, "{precision:?} of {value}: {rest} is left");
            }
        }
    }

    #[test]
    fn extreme_values_do_not_leave_the_range() {
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 1);
            for x in [0.0, 1e-40, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN] {
                for precision in [Precision::Bits8, Precision::Bits16] {
                    let mut acts = Activations::new();
                    acts.set(1, 32).fill(x);
                    cpu.quantise(&mut acts, Needs { precision: Some(precision) });
                    let planes = &acts.subs(0)[0].planes;
                    assert!(planes.as_flattened().as_flattened().iter().all(|a| *a != -128), "{x}");
                }
            }
        }
    }
}
