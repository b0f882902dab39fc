//! Few tokens: weights are unpacked in registers, and each is read from memory once.

use super::Strips;
use super::dots::{Of, SubBlock, zero_point};
use crate::activations::Sub;
use crate::format::QuantFormat;
use crate::isa::Simd;
use crate::planes::{Planes, SUB_LEN};

/// Strips that are worked on together: their weights stay in the first-level cache while the tokens
/// pass by.
const GROUP: usize = 4;

impl Strips<'_> {
    /// `P` is the number of planes of the activations.
    #[inline(always)]
    pub(super) fn small<S: Simd, Q: QuantFormat, const P: usize>(self, simd: S) {
        let n_tokens = self.job.x.n_tokens();
        let mut first = self.strips.start;
        while first < self.strips.end {
            let last = self.strips.end.min(first + GROUP);
            let mut token = 0;
            while S::WIDE && n_tokens - token >= 4 {
                self.tiles::<S, Q, P, 2, 4>(simd, first, last, token);
                token += 4;
            }
            while n_tokens - token >= 2 {
                if S::WIDE {
                    self.tiles::<S, Q, P, 2, 2>(simd, first, last, token);
                } else {
                    self.tiles::<S, Q, P, 1, 2>(simd, first, last, token);
                }
                token += 2;
            }
            if token < n_tokens {
                if S::WIDE {
                    self.tiles::<S, Q, P, 2, 1>(simd, first, last, token);
                } else {
                    self.tiles::<S, Q, P, 1, 1>(simd, first, last, token);
                }
            }
            first = last;
        }
    }

    /// All strips `first..last` for `M` tokens, `N` strips at a time while there are so many.
    #[inline(always)]
    fn tiles<S: Simd, Q: QuantFormat, const P: usize, const N: usize, const M: usize>(
        &self,
        simd: S,
        first: usize,
        last: usize,
        token: usize,
    ) {
        let mut strip = first;
        while last - strip >= N {
            self.tile::<S, Q, P, N, M>(simd, strip, token);
            strip += N;
        }
        if N > 1 {
            while strip < last {
                self.tile::<S, Q, P, 1, M>(simd, strip, token);
                strip += 1;
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, Q: QuantFormat, const P: usize, const N: usize, const M: usize>(
        &self,
        simd: S,
        strip: usize,
        token: usize,
    ) {
        let job = self.job;
        let strips: [&[u8]; N] = std::array::from_fn(|n| job.weight.strip(strip + n));
        let rows: [&[Sub]; M] = std::array::from_fn(|m| job.x.subs(token + m));
        let mut y = [[simd.splat(0.0); M]; N];
        accumulate::<S, Q, P, N, M>(simd, &strips, &rows, &mut y);
        for (n, y) in y.into_iter().enumerate() {
            for (m, y) in y.into_iter().enumerate() {
                // SAFETY: the strip is one of this task's, the token one of the batch.
                unsafe { job.write(simd, strip + n, token + m, y) }
            }
        }
    }
}

/// Adds the products of all sub-blocks of `N` strips with `M` rows to the results.
#[inline(always)]
fn accumulate<S: Simd, Q: QuantFormat, const P: usize, const N: usize, const M: usize>(
    simd: S,
    strips: &[&[u8]; N],
    rows: &[&[Sub]; M],
    y: &mut [[S::F; M]; N],
) {
    let n_subs = rows[0].len();
    let (scale_area, subs_per_block) = (n_subs * Q::Planes::BYTES, Q::BLOCK_LEN / SUB_LEN);
    for sub_idx in 0..n_subs {
        let at = scale_area + sub_idx / subs_per_block * Q::SCALE_BYTES;
        let mut codes = [[simd.splat_b(0); 8]; N];
        let mut factor = [[simd.splat(0.0); N]; 2];
        let mut offset = factor;
        for n in 0..N {
            codes[n] = unpack::<S, Q>(simd, &strips[n][sub_idx * Q::Planes::BYTES..]);
            let packed = &strips[n][at..][..Q::SCALE_BYTES];
            let scales = Q::scales(simd, packed, sub_idx % subs_per_block);
            [factor[0][n], factor[1][n]] = scales.factor;
            [offset[0][n], offset[1][n]] = scales.offset;
        }
        let sub_block = SubBlock {
            codes: codes.each_ref(),
            x: std::array::from_fn(|m| &rows[m][sub_idx]),
            zero_point: zero_point::<S, Q>(),
            n_planes: P,
        };
        sub_block.multiply::<S, Of<Q>>(simd, factor, offset, y);
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
