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
//! scales the weights once. Where dots of bytes are narrow ([`Simd::NARROW`]) they lie as 16-bit
//! numbers instead, in as much memory: even columns in the one place, odd ones in the other.
//!
//! A row is quantised by itself, so the batch cannot change it.

use crate::Cpu;
use crate::cpu::SendPtr;
use crate::isa::{Isa, Kernel, LANES, Simd};
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
///
/// The quantised form lies by blocks of 256 columns, `[n_blocks][n_tokens]`, the last block padded:
/// a product takes the columns of many tokens one after the other.
#[derive(Default)]
pub struct Activations {
    n_tokens: usize,
    n_cols: usize,
    values: Vec<f32>,
    /// The plane of [`Precision::Bits8`]; the low and the high one of [`Precision::Bits16`], or its
    /// words of even and of odd columns.
    planes: [Vec<Codes>; 2],
    scales: Vec<Scales>,
    /// Of the quantised form, if it was computed since the values were set.
    precision: Option<Precision>,
    /// For which instruction set that was: where numbers of 16 bits lie depends on it.
    isa: Option<Isa>,
}

/// Sub-blocks of 32 columns in a block.
pub(crate) const BLOCK_SUBS: usize = 8;
const BLOCK_LEN: usize = BLOCK_SUBS * SUB_LEN;

/// One plane of 256 quantised columns of one token, four columns (a k-group) at a time.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Codes(pub(crate) [[[i8; 4]; SUB_LEN / 4]; BLOCK_SUBS]);

impl Codes {
    /// The four bytes of k-group `idx` of a sub-block, as dot instructions take them.
    #[inline(always)]
    pub(crate) fn group(&self, sub: usize, idx: usize) -> i32 {
        i32::from_le_bytes(self.0[sub][idx].map(|a| a as u8))
    }
}

/// What else belongs to 256 quantised columns of one token: `x ≈ scale · a`, by sub-block.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Scales {
    pub(crate) scale: [f32; BLOCK_SUBS],
    /// `scale` times the sum of `a`.
    pub(crate) scaled_sum: [f32; BLOCK_SUBS],
    /// Sums of the first and of the second 16 of `a`.
    pub(crate) sums: [[i32; BLOCK_SUBS]; 2],
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
        self.isa = None;
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
    /// Whether the quantised form was computed for this instruction set since the values were set.
    pub(crate) fn is_quantised_for(&self, isa: Isa) -> bool {
        self.isa == Some(isa)
    }
    /// Planes of the quantised form.
    pub(crate) fn n_planes(&self) -> usize {
        if self.precision == Some(Precision::Bits16) { 2 } else { 1 }
    }
    /// 32-column sub-blocks of a row.
    pub(crate) fn n_subs(&self) -> usize {
        self.n_cols / SUB_LEN
    }
    /// A plane of a block of columns, `[n_tokens]`. Plane 1 is filled only where there are two.
    #[inline(always)]
    pub(crate) fn codes(&self, plane: usize, block: usize) -> &[Codes] {
        &self.planes[plane][block * self.n_tokens..][..self.n_tokens]
    }
    /// The scales of a block of columns, `[n_tokens]`.
    #[inline(always)]
    pub(crate) fn scales(&self, block: usize) -> &[Scales] {
        &self.scales[block * self.n_tokens..][..self.n_tokens]
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
        let (n_tokens, n_cols) = (x.n_tokens, x.n_cols);
        let len = n_tokens * n_cols.div_ceil(BLOCK_LEN);
        x.precision = Some(precision);
        x.isa = Some(self.isa());
        let n_planes = x.n_planes();
        for plane in &mut x.planes[..n_planes] {
            if plane.len() < len {
                plane.resize(len, Codes::default());
            }
        }
        if x.scales.len() < len {
            x.scales.resize(len, Scales::default());
        }
        let out = Out {
            planes: x.planes.each_mut().map(|plane| SendPtr(plane.as_mut_ptr())),
            scales: SendPtr(x.scales.as_mut_ptr()),
            n_tokens,
            precision,
        };
        let (values, isa) = (&x.values[..n_tokens * n_cols], self.isa());
        self.for_each_piece(n_tokens, n_cols, |tokens| {
            for token in tokens {
                let row = &values[token * n_cols..][..n_cols];
                // SAFETY: a token belongs to one piece, so nobody else writes what is its own.
                let out = unsafe { out.token(token) };
                isa.dispatch(Quantise { row, out });
            }
        });
    }
}

/// Where quantised rows go.
#[derive(Clone, Copy)]
struct Out {
    planes: [SendPtr<Codes>; 2],
    scales: SendPtr<Scales>,
    n_tokens: usize,
    precision: Precision,
}

/// Where one token's quantised row goes: the right to write it.
struct OutToken {
    out: Out,
    token: usize,
}

impl Out {
    /// # Safety
    /// `token` is below `n_tokens`; the pointers are those of `n_blocks` times `n_tokens` elements
    /// (the high plane only where the precision has one) that outlive the result; and no one else
    /// reads or writes what belongs to this token.
    unsafe fn token(self, token: usize) -> OutToken {
        OutToken { out: self, token }
    }
}

impl OutToken {
    /// The places of a block below `n_blocks`; no high plane with 8 bits.
    #[inline(always)]
    fn block(&mut self, block: usize) -> (&mut Codes, Option<&mut Codes>, &mut Scales) {
        let Out { planes: [low, high], scales, n_tokens, precision } = self.out;
        let at = block * n_tokens + self.token;
        // SAFETY: whoever made `self` granted that these elements exist and are ours alone.
        unsafe {
            let high = (precision == Precision::Bits16).then(|| &mut *high.get().add(at));
            (&mut *low.get().add(at), high, &mut *scales.get().add(at))
        }
    }
}

struct Quantise<'a> {
    row: &'a [f32],
    out: OutToken,
}

impl Kernel for Quantise<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for (block_idx, block) in self.row.chunks(BLOCK_LEN).enumerate() {
            let (low, mut high, scales) = self.out.block(block_idx);
            for (sub, x) in block.as_chunks().0.iter().enumerate() {
                let low = low.0[sub].as_flattened_mut();
                let high = high.as_deref_mut().map(|high| high.0[sub].as_flattened_mut());
                let (scale, sums) = quantise_sub(simd, x, low, high);
                scales.scale[sub] = scale;
                scales.scaled_sum[sub] = scale * sums[0].wrapping_add(sums[1]) as f32;
                (scales.sums[0][sub], scales.sums[1][sub]) = (sums[0], sums[1]);
            }
        }
    }
}

/// Quantises 32 columns, to 16 bits where there is a high plane. Returns the scale and the sums of
/// the halves.
#[inline(always)]
fn quantise_sub<S: Simd>(
    simd: S,
    x: &[f32; SUB_LEN],
    low: &mut [i8],
    mut high: Option<&mut [i8]>,
) -> (f32, [i32; 2]) {
    let (halves, _) = x.as_chunks::<LANES>();
    let (a, b) = (simd.load(&halves[0]), simd.load(&halves[1]));
    let zero = simd.splat(0.0);
    let abs_a = simd.max(a, simd.sub(zero, a));
    let abs_b = simd.max(b, simd.sub(zero, b));
    let amax = simd.max_lane(simd.max(abs_a, abs_b));
    let max = if high.is_some() { Precision::Bits16 } else { Precision::Bits8 }.max();
    // Below this max / amax would overflow; such a block is zero for every purpose.
    let (scale, inverse) =
        if amax > 1e-30 { (amax / max as f32, max as f32 / amax) } else { (0.0, 0.0) };
    let mut sums = [0; 2];
    for (half, x) in [a, b].into_iter().enumerate() {
        let value = simd.round(simd.mul(x, simd.splat(inverse)));
        sums[half] = simd.sum_i(value);
        let low = half_mut(low, half);
        if let Some(high) = &mut high {
            let high = half_mut(high, half);
            if S::NARROW {
                simd.store_words(value, low, high);
                continue;
            }
            // What is left is at most 127 of 255, so the nearest integer is never in doubt.
            let nearest = simd.mul(simd.to_f(value), simd.splat(1.0 / RADIX as f32));
            let count = simd.round(nearest);
            let counted = simd.sub_i(simd.shl_i::<8>(count), count);
            simd.store_i8(simd.sub_i(value, counted), low);
            simd.store_i8(count, high);
        } else {
            simd.store_i8(value, low);
        }
    }
    (scale, sums)
}

#[inline(always)]
fn half_mut(plane: &mut [i8], half: usize) -> &mut [i8; LANES] {
    plane[half * LANES..].first_chunk_mut().expect("a sub-block is two halves")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 32 integers of a sub-block, and whether all bytes of planes are in range.
    fn integers(x: &Activations, block: usize, token: usize, sub: usize) -> ([i32; 32], bool) {
        let bytes = |plane: usize| {
            *x.codes(plane, block)[token].0[sub].as_flattened().as_array::<SUB_LEN>().unwrap()
        };
        match (x.n_planes(), x.isa) {
            (2, Some(Isa::Avx2)) => {
                let words = [bytes(0), bytes(1)];
                let word = |col: usize| {
                    let at = col / 2 * 2;
                    let bytes = [words[col % 2][at], words[col % 2][at + 1]];
                    i32::from(i16::from_le_bytes(bytes.map(|byte| byte as u8)))
                };
                (std::array::from_fn(word), true)
            }
            (n_planes, _) => {
                let [low, high] = [bytes(0), if n_planes == 2 { bytes(1) } else { [0; 32] }];
                let of = |col: usize| RADIX * i32::from(high[col]) + i32::from(low[col]);
                (std::array::from_fn(of), !low.contains(&-128) && !high.contains(&-128))
            }
        }
    }

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
                let (found, is_in_range) = integers(&x, 0, 0, 0);
                assert_eq!(found, std::array::from_fn(|i| value(i as i32)));
                assert!(is_in_range, "{first}");
            }
        }
    }

    #[test]
    fn activations_are_within_half_a_step_of_what_they_stand_for() {
        let n_cols = 544;
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
                let (token, col) = (i / n_cols, i % n_cols);
                let (block, sub) = (col / BLOCK_LEN, col % BLOCK_LEN / SUB_LEN);
                let (a, _) = integers(&x, block, token, sub);
                let scales = &x.scales(block)[token];
                let (scale, sums) = (scales.scale[sub], scales.sums.map(|sums| sums[sub]));
                assert_eq!(a.iter().sum::<i32>(), sums[0] + sums[1]);
                let rest = value - a[col % SUB_LEN] as f32 * scale;
                assert!(rest.abs() <= scale * 0.51, "{precision:?} of {value}: {rest} is left");
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
                    let (found, is_in_range) = integers(&acts, 0, 0, 0);
                    assert!(is_in_range, "{x}");
                    assert!(found.iter().all(|a| a.abs() <= precision.max()), "{x}: {found:?}");
                }
            }
        }
    }
}
