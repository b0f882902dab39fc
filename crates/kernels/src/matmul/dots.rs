//! The arithmetic of one sub-block, which all quantised products share: integer dots, then scales.

use std::marker::PhantomData;

use crate::activations::Sub;
use crate::format::QuantFormat;
use crate::isa::Simd;
use crate::planes::{Planes, chain_len};

/// K-groups of a sub-block.
pub(super) const N_GROUPS: usize = 8;

/// What the arithmetic must know of a format, its codes and scales being unpacked.
pub(super) trait Scheme {
    /// Whether scales change every 16 columns.
    const HALVES: bool;
    /// Whether weights have an offset beside the scale.
    const HAS_OFFSET: bool;
    /// Whether codes went through [`Simd::raise`].
    const SIGNED: bool;
    /// How many k-groups can be added in 16 bits.
    const CHAIN: usize;
}

/// The scheme of a format.
pub(super) struct Of<Q>(PhantomData<Q>);

impl<Q: QuantFormat> Scheme for Of<Q> {
    const HALVES: bool = Q::HALVES;
    const HAS_OFFSET: bool = Q::HAS_OFFSET;
    const SIGNED: bool = Q::Planes::SIGNED;
    const CHAIN: usize = chain_len(Q::Planes::MAX_CODE);
}

/// What dots subtract from each code of a format.
#[inline(always)]
pub(super) fn zero_point<S: Simd, Q: QuantFormat>() -> i32 {
    Q::ZERO_POINT + if Q::Planes::SIGNED { S::I8_OFFSET } else { 0 }
}

/// The codes of a sub-block of a strip: in registers, or unpacked to memory.
pub(super) trait Codes<S: Simd> {
    /// The vector of one k-group.
    fn group(&self, simd: S, idx: usize) -> S::B;
    /// The same codes, for another pass over them.
    fn again(&self) -> &Self;
}

impl<S: Simd> Codes<S> for [S::B; N_GROUPS] {
    #[inline(always)]
    fn group(&self, _simd: S, idx: usize) -> S::B {
        self[idx]
    }
    #[inline(always)]
    fn again(&self) -> &Self {
        self
    }
}

/// Codes in memory, one byte each, raised where they are signed.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Unpacked(pub(super) [[u8; 64]; N_GROUPS]);

impl<S: Simd> Codes<S> for Unpacked {
    #[inline(always)]
    fn group(&self, simd: S, idx: usize) -> S::B {
        simd.load_b(&self.0[idx])
    }
    /// Hides that the codes are the same: kept in registers they would crowd out the sums.
    #[inline(always)]
    fn again(&self) -> &Self {
        std::hint::black_box(self)
    }
}

/// One sub-block of `N` strips and `M` tokens.
pub(super) struct SubBlock<'a, C, const N: usize, const M: usize> {
    pub(super) codes: [&'a C; N],
    pub(super) x: [&'a Sub; M],
    pub(super) zero_point: i32,
    pub(super) n_planes: usize,
}

impl<C, const N: usize, const M: usize> SubBlock<'_, C, N, M> {
    /// The integer sums of k-groups `FIRST..LAST` (a half, or all).
    #[inline(always)]
    fn sums<S: Simd, K: Scheme, const FIRST: usize, const LAST: usize>(
        &self,
        simd: S,
    ) -> [[S::I; M]; N]
    where
        C: Codes<S>,
    {
        let mut start = [simd.splat_i(0); M];
        if self.zero_point != 0 {
            for m in 0..M {
                let first = if FIRST == 0 { self.x[m].sums[0] } else { 0 };
                let second = if LAST == N_GROUPS { self.x[m].sums[1] } else { 0 };
                start[m] = simd.splat_i(-self.zero_point * (first + second));
            }
        }
        let mut d = [[simd.splat_i(0); M]; N];
        if self.n_planes == 1 {
            d = [start; N];
        }
        // The high plane first, and one set of sums for both: a loop, not two copies of its body.
        for plane in (0..self.n_planes).rev() {
            self.add_dots::<S, K, FIRST, LAST>(simd, plane, &mut d);
            if plane == 1 {
                for n in 0..N {
                    for m in 0..M {
                        // What the high plane counts, 255, times its sum.
                        let counted = simd.sub_i(simd.shl_i::<8>(d[n][m]), d[n][m]);
                        d[n][m] = simd.add_i(counted, start[m]);
                    }
                }
            }
        }
        d
    }

    /// Adds the dot products with one plane of the activations.
    #[inline(always)]
    fn add_dots<S: Simd, K: Scheme, const FIRST: usize, const LAST: usize>(
        &self,
        simd: S,
        plane: usize,
        d: &mut [[S::I; M]; N],
    ) where
        C: Codes<S>,
    {
        let chain = if S::NARROW { K::CHAIN } else { N_GROUPS };
        let mut codes = self.codes;
        for codes in &mut codes {
            *codes = codes.again();
        }
        let mut chains = [[simd.start(d[0][0]); M]; N];
        for idx in FIRST..LAST {
            if (idx - FIRST).is_multiple_of(chain) {
                for n in 0..N {
                    for m in 0..M {
                        chains[n][m] = simd.start(d[n][m]);
                    }
                }
            }
            let mut w = [codes[0].group(simd, idx); N];
            for n in 1..N {
                w[n] = codes[n].group(simd, idx);
            }
            for m in 0..M {
                let a = self.x[m].group(plane, idx);
                for n in 0..N {
                    chains[n][m] = if K::SIGNED {
                        simd.dot_signed(chains[n][m], w[n], a)
                    } else {
                        simd.dot(chains[n][m], w[n], a)
                    };
                }
            }
            if (idx + 1 - FIRST).is_multiple_of(chain) || idx + 1 == LAST {
                for n in 0..N {
                    for m in 0..M {
                        d[n][m] = simd.finish(d[n][m], chains[n][m]);
                    }
                }
            }
        }
    }

    /// Adds the products of the whole sub-block to the results. `factor` and `offset` are those of
    /// its two halves; only the first counts where a scheme has no halves.
    #[inline(always)]
    pub(super) fn multiply<S: Simd, K: Scheme>(
        &self,
        simd: S,
        factor: [[S::F; N]; 2],
        offset: [[S::F; N]; 2],
        y: &mut [[S::F; M]; N],
    ) where
        C: Codes<S>,
    {
        if K::HALVES {
            let d = self.sums::<S, K, 0, 4>(simd);
            self.scale(simd, factor[0], &d, y);
            if K::HAS_OFFSET {
                self.offset::<S, K, 0>(simd, offset[0], y);
            }
            let d = self.sums::<S, K, 4, N_GROUPS>(simd);
            self.scale(simd, factor[1], &d, y);
            if K::HAS_OFFSET {
                self.offset::<S, K, 1>(simd, offset[1], y);
            }
        } else {
            let d = self.sums::<S, K, 0, N_GROUPS>(simd);
            self.scale(simd, factor[0], &d, y);
            if K::HAS_OFFSET {
                self.offset::<S, K, 0>(simd, offset[0], y);
            }
        }
    }

    /// Scales integer sums and adds them to the results.
    #[inline(always)]
    fn scale<S: Simd>(
        &self,
        simd: S,
        factor: [S::F; N],
        d: &[[S::I; M]; N],
        y: &mut [[S::F; M]; N],
    ) {
        for n in 0..N {
            for m in 0..M {
                let factor = simd.mul(factor[n], simd.splat(self.x[m].scale));
                y[n][m] = simd.fma(simd.to_f(d[n][m]), factor, y[n][m]);
            }
        }
    }

    /// Adds the offsets of a sub-block or of one half of it, after its sums.
    #[inline(always)]
    fn offset<S: Simd, K: Scheme, const HALF: usize>(
        &self,
        simd: S,
        offset: [S::F; N],
        y: &mut [[S::F; M]; N],
    ) {
        for n in 0..N {
            for m in 0..M {
                let x = self.x[m];
                let sum = if K::HALVES { x.half_sum(HALF) } else { x.scaled_sum };
                y[n][m] = simd.fma(simd.splat(sum), offset[n], y[n][m]);
            }
        }
    }
}
