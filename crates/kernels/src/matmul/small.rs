//! Few tokens: weights are unpacked in registers, and each is read from memory once.

use std::ops::Range;

use super::Strips;
use super::dots::{Of, SubBlock, Tokens, zero_point};
use crate::activations::{Activations, BLOCK_SUBS};
use crate::format::QuantFormat;
use crate::isa::Simd;
use crate::planes::{Planes, SUB_LEN};

/// Strips that are worked on together: their weights stay in the first-level cache while the tokens
/// pass by.
const GROUP: usize = 4;

/// How far ahead of the codes in use memory is asked for: some 100 ns of reading.
const AHEAD_BYTES: usize = 2048;

/// Where the memory lies that is asked for while a block of a strip is worked on: the block that
/// comes some time after it, in its strip or in the next one. Codes and scales lie apart, so a
/// processor that looks ahead by itself would find the one or the other.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Of the strip in work.
    codes: usize,
    scales: usize,
}

impl Ahead {
    /// For block `block` of a strip of `strip_bytes` and `n_subs`, where the strip `n_strips`
    /// behind it comes next.
    #[inline(always)]
    pub(super) fn of<Q: QuantFormat>(
        block: usize,
        n_subs: usize,
        strip_bytes: usize,
        n_strips: usize,
    ) -> Self {
        let block_bytes = BLOCK_SUBS * Q::Planes::BYTES;
        let ahead = block + AHEAD_BYTES.div_ceil(block_bytes);
        let (begin, block) = match ahead.checked_sub(n_subs.div_ceil(BLOCK_SUBS)) {
            None => (0, ahead),
            Some(block) => (n_strips * strip_bytes, block),
        };
        Self {
            codes: begin + block * block_bytes,
            scales: begin + n_subs * Q::Planes::BYTES + block * scale_bytes::<Q>(),
        }
    }

    /// Asks for the codes of the `idx`-th sub-block there, and with the first for all scales.
    #[inline(always)]
    pub(super) fn ask<S: Simd, Q: QuantFormat>(self, simd: S, strip: &[u8], idx: usize) {
        let ask = |from: usize, n_bytes: usize| {
            for line in (0..n_bytes).step_by(64) {
                simd.prefetch(strip.as_ptr().wrapping_add(from + line));
            }
        };
        if idx == 0 {
            ask(self.scales, scale_bytes::<Q>());
        }
        ask(self.codes + idx * Q::Planes::BYTES, Q::Planes::BYTES);
    }

    /// The same to be asked for by what does not know the format.
    #[inline(always)]
    pub(super) fn lines<Q: QuantFormat>(self, strip: &[u8]) -> Lines {
        Lines {
            codes: strip.as_ptr().wrapping_add(self.codes),
            n_code_bytes: Q::Planes::BYTES,
            scales: strip.as_ptr().wrapping_add(self.scales),
            n_scale_bytes: scale_bytes::<Q>(),
        }
    }
}

/// What memory is asked for while a block is worked on, sub-block by sub-block.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    codes: *const u8,
    /// Of a sub-block.
    n_code_bytes: usize,
    scales: *const u8,
    /// Of the block.
    n_scale_bytes: usize,
}

impl Lines {
    pub(super) const NONE: Self = Self {
        codes: std::ptr::null(),
        n_code_bytes: 0,
        scales: std::ptr::null(),
        n_scale_bytes: 0,
    };

    /// Asks for the share of the `idx`-th sub-block.
    #[inline(always)]
    pub(super) fn ask<S: Simd>(&self, simd: S, idx: usize) {
        let codes = self.codes.wrapping_add(idx * self.n_code_bytes);
        // Most have as many; of those with fewer some are asked for twice.
        for line in 0..4 {
            simd.prefetch(codes.wrapping_add(64 * line));
        }
        for line in (256..self.n_code_bytes).step_by(64) {
            simd.prefetch(codes.wrapping_add(line));
        }
        let from = idx * 64;
        if from < self.n_scale_bytes {
            simd.prefetch(self.scales.wrapping_add(from));
        }
    }
}

/// Bytes of the scales of a block of columns.
const fn scale_bytes<Q: QuantFormat>() -> usize {
    BLOCK_SUBS * SUB_LEN / Q::BLOCK_LEN * Q::SCALE_BYTES
}

impl Strips<'_> {
    #[inline(always)]
    pub(super) fn small<S: Simd, Q: QuantFormat>(self, simd: S) {
        let n_tokens = self.job.x.n_tokens();
        for first in self.strips.clone().step_by(GROUP) {
            let strips = first..(first + GROUP).min(self.strips.end);
            let mut token = 0;
            while token < n_tokens {
                token += match (S::WIDE, n_tokens - token) {
                    (true, 4..) => self.tiles::<S, Q, 2, 4>(simd, strips.clone(), token),
                    (true, 2..) => self.tiles::<S, Q, 2, 2>(simd, strips.clone(), token),
                    (true, _) => self.tiles::<S, Q, 2, 1>(simd, strips.clone(), token),
                    (false, 2..) => self.tiles::<S, Q, 1, 2>(simd, strips.clone(), token),
                    (false, _) => self.tiles::<S, Q, 1, 1>(simd, strips.clone(), token),
                };
            }
        }
    }

    /// `strips` for `M` tokens, `N` strips at a time. Returns `M`.
    #[inline(always)]
    fn tiles<S: Simd, Q: QuantFormat, const N: usize, const M: usize>(
        &self,
        simd: S,
        strips: Range<usize>,
        token: usize,
    ) -> usize {
        let (job, last) = (self.job, strips.end - 1);
        for strip in strips.step_by(N) {
            // Where strips run out the last stands in once more, and is written once.
            let weights: [&[u8]; N] =
                std::array::from_fn(|n| job.weight.strip((strip + n).min(last)));
            let mut y = [[simd.splat(0.0); M]; N];
            // A loop over planes holds registers that chains of narrow dots need.
            match (S::NARROW, job.x.n_planes()) {
                (true, 1) => accumulate::<S, Q, N, M, 1>(simd, &weights, job.x, token, &mut y),
                (true, _) => accumulate::<S, Q, N, M, 2>(simd, &weights, job.x, token, &mut y),
                (false, _) => accumulate::<S, Q, N, M, 0>(simd, &weights, job.x, token, &mut y),
            }
            for (strip, y) in (strip..=last).zip(y) {
                for (m, y) in y.into_iter().enumerate() {
                    // SAFETY: the strip is one of this task's, the token one of the batch.
                    unsafe { job.write(simd, strip, token + m, y) }
                }
            }
        }
        M
    }
}

/// Adds the products of all sub-blocks of `N` strips with `M` tokens to the results.
#[inline(always)]
fn accumulate<S: Simd, Q: QuantFormat, const N: usize, const M: usize, const P: usize>(
    simd: S,
    strips: &[&[u8]; N],
    x: &Activations,
    token: usize,
    y: &mut [[S::F; M]; N],
) {
    let n_subs = x.n_subs();
    let (scale_area, subs_per_block) = (n_subs * Q::Planes::BYTES, Q::BLOCK_LEN / SUB_LEN);
    for first in (0..n_subs).step_by(BLOCK_SUBS) {
        let block = first / BLOCK_SUBS;
        let zero_point = zero_point::<S, Q>();
        let tokens = Tokens::<M, P>::new::<Of<Q>>(x, block, token, zero_point);
        let ahead = Ahead::of::<Q>(block, n_subs, strips[0].len(), N);
        for sub_idx in first..(first + BLOCK_SUBS).min(n_subs) {
            let at = scale_area + sub_idx / subs_per_block * Q::SCALE_BYTES;
            let mut codes = [[simd.splat_b(0); 8]; N];
            let mut factor = [[simd.splat(0.0); N]; 2];
            let mut offset = factor;
            for n in 0..N {
                ahead.ask::<S, Q>(simd, strips[n], sub_idx - first);
                codes[n] = unpack::<S, Q>(simd, &strips[n][sub_idx * Q::Planes::BYTES..]);
                let packed = &strips[n][at..][..Q::SCALE_BYTES];
                let scales = Q::scales(simd, packed, sub_idx % subs_per_block);
                [factor[0][n], factor[1][n]] = scales.factor;
                [offset[0][n], offset[1][n]] = scales.offset;
            }
            let sub_block = SubBlock { codes: codes.each_ref(), x: &tokens, sub: sub_idx - first };
            sub_block.multiply::<S, Of<Q>>(simd, factor, offset, y);
        }
    }
}

/// The codes of a sub-block, one byte each, k-group after k-group.
#[inline(always)]
pub(super) fn unpack<S: Simd, Q: QuantFormat>(simd: S, packed: &[u8]) -> [S::B; 8] {
    let packed = &packed[..Q::Planes::BYTES];
    let (a0, a4) = Q::Planes::pair::<S, 0>(simd, packed);
    let (a1, a5) = Q::Planes::pair::<S, 1>(simd, packed);
    let (a2, a6) = Q::Planes::pair::<S, 2>(simd, packed);
    let (a3, a7) = Q::Planes::pair::<S, 3>(simd, packed);
    let mut codes = [a0, a1, a2, a3, a4, a5, a6, a7];
    if Q::Planes::SIGNED {
        for code in &mut codes {
            *code = simd.raise(*code);
        }
    }
    codes
}
