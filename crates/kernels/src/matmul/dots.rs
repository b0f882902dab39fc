//! The arithmetic of one sub-block, which all quantised products share: integer dots, then scales.

use std::marker::PhantomData;

use crate::activations::{self, Activations, BLOCK_SUBS, Scales};
use crate::format::QuantFormat;
use crate::isa::Simd;
use crate::planes::{Planes, chain_len};

/// K-groups of a sub-block.
pub(super) const N_GROUPS: usize = 8;

/// Dots of a chain from which on a loop over them pays.
const LONG_CHAIN: usize = 4;

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
    /// How many halves to go through, where a loop over them is to stay one: with codes in
    /// registers it is unrolled, with codes in memory two bodies in one would crowd each other.
    fn n_halves() -> usize;
    /// `n`, how often a loop over dots turns. With 16 registers it is to stay one: unrolled, its
    /// loads would crowd the sums out of them.
    fn n_turns(simd: S, n: usize) -> usize;
    /// What is read next. Where codes are in memory, hides where it is from: read long before its
    /// use, or kept for another pass, it would crowd the sums out of the registers.
    fn next<T>(value: &T) -> &T;
}

impl<S: Simd> Codes<S> for [S::B; N_GROUPS] {
    #[inline(always)]
    fn group(&self, _simd: S, idx: usize) -> S::B {
        self[idx]
    }
    #[inline(always)]
    fn n_halves() -> usize {
        2
    }
    #[inline(always)]
    fn n_turns(_simd: S, n: usize) -> usize {
        n
    }
    #[inline(always)]
    fn next<T>(value: &T) -> &T {
        value
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
    #[inline(always)]
    fn n_halves() -> usize {
        std::hint::black_box(2)
    }
    #[inline(always)]
    fn n_turns(_simd: S, n: usize) -> usize {
        if S::WIDE { n } else { std::hint::black_box(n) }
    }
    #[inline(always)]
    fn next<T>(value: &T) -> &T {
        std::hint::black_box(value)
    }
}

/// What `M` tokens have in a block of columns.
pub(super) struct Tokens<'a, const M: usize, const P: usize> {
    planes: [&'a [activations::Codes; M]; 2],
    n_planes: usize,
    scales: &'a [Scales; M],
    /// What integer sums begin with: minus zero point times the sum of activations. Of the first
    /// and the second half where scales differ; else the first is of both.
    starts: [[[i32; BLOCK_SUBS]; 2]; M],
    /// What offsets are multiplied with, likewise.
    sums: [[[f32; BLOCK_SUBS]; 2]; M],
}

impl<'a, const M: usize, const P: usize> Tokens<'a, M, P> {
    /// The tokens from `token` on.
    #[inline(always)]
    pub(super) fn new<K: Scheme>(
        x: &'a Activations,
        block: usize,
        token: usize,
        zero_point: i32,
    ) -> Self {
        let scales: &[Scales; M] = some(x.scales(block), token);
        let n_planes = if P == 0 { x.n_planes() } else { P };
        let mut tokens = Self {
            planes: [0, n_planes - 1].map(|plane| some(x.codes(plane, block), token)),
            n_planes,
            scales,
            starts: [[[0; BLOCK_SUBS]; 2]; M],
            sums: [[[0.0; BLOCK_SUBS]; 2]; M],
        };
        for m in 0..M {
            let [first, second] = &scales[m].sums;
            for sub in 0..BLOCK_SUBS {
                let (first, second) = (first[sub], second[sub]);
                let sum = if K::HALVES { first } else { first.wrapping_add(second) };
                tokens.starts[m][0][sub] = sum.wrapping_mul(-zero_point);
                if K::HALVES {
                    tokens.starts[m][1][sub] = second.wrapping_mul(-zero_point);
                    if K::HAS_OFFSET {
                        tokens.sums[m][0][sub] = scales[m].scale[sub] * first as f32;
                        tokens.sums[m][1][sub] = scales[m].scale[sub] * second as f32;
                    }
                }
            }
        }
        tokens
    }
}

/// `M` elements from `at` on.
#[inline(always)]
fn some<T, const M: usize>(all: &[T], at: usize) -> &[T; M] {
    all[at..].first_chunk().expect("a tile is not longer than the tokens left")
}

/// One sub-block of `N` strips and `M` tokens.
pub(super) struct SubBlock<'a, C, const N: usize, const M: usize, const P: usize> {
    pub(super) codes: [&'a C; N],
    pub(super) x: &'a Tokens<'a, M, P>,
    /// Which one of the block.
    pub(super) sub: usize,
}

impl<C, const N: usize, const M: usize, const P: usize> SubBlock<'_, C, N, M, P> {
    /// The integer sums of one half, or of all where a scheme has no halves.
    #[inline(always)]
    fn sums<S: Simd, K: Scheme>(&self, simd: S, half: usize) -> [[S::I; M]; N]
    where
        C: Codes<S>,
    {
        let mut start = [simd.splat_i(0); M];
        for m in 0..M {
            start[m] = simd.splat_i(self.x.starts[m][half][self.sub]);
        }
        let n_planes = if P == 0 { self.x.n_planes } else { P };
        if S::NARROW && P == 2 {
            let mut d = [start; N];
            self.add_words::<S, K>(simd, half, &mut d);
            return d;
        }
        let mut d = if n_planes == 1 { [start; N] } else { [[simd.splat_i(0); M]; N] };
        if P == 2 {
            self.add_dots::<S, K>(simd, half, 1, &mut d);
            Self::count_high_plane(simd, &start, &mut d);
            self.add_dots::<S, K>(simd, half, 0, &mut d);
            return d;
        }
        for plane in (0..n_planes).rev() {
            self.add_dots::<S, K>(simd, half, plane, &mut d);
            if plane == 1 {
                Self::count_high_plane(simd, &start, &mut d);
            }
        }
        d
    }

    /// Between the planes: what the high one counts, 255, times its sums, and the start.
    #[inline(always)]
    fn count_high_plane<S: Simd>(simd: S, start: &[S::I; M], d: &mut [[S::I; M]; N]) {
        for n in 0..N {
            for m in 0..M {
                let counted = simd.sub_i(simd.shl_i::<8>(d[n][m]), d[n][m]);
                d[n][m] = simd.add_i(counted, start[m]);
            }
        }
    }

    /// Adds the dot products with one plane of the activations.
    #[inline(always)]
    fn add_dots<S: Simd, K: Scheme>(
        &self,
        simd: S,
        half: usize,
        plane: usize,
        d: &mut [[S::I; M]; N],
    ) where
        C: Codes<S>,
    {
        let chain = if S::NARROW { K::CHAIN } else { N_GROUPS };
        let mut codes = self.codes;
        for codes in &mut codes {
            *codes = C::next(*codes);
        }
        let x = C::next(self.x.planes[plane]);
        let n_groups = if K::HALVES { N_GROUPS / 2 } else { N_GROUPS };
        let chain = chain.min(n_groups);
        // Long chains are a loop over their dots, short ones a loop over chains.
        let is_long = chain >= LONG_CHAIN;
        let n_chains = n_groups / chain;
        for first in 0..if is_long { n_chains } else { C::n_turns(simd, n_chains) } {
            let mut chains = [[simd.start(d[0][0]); M]; N];
            for n in 0..N {
                for m in 0..M {
                    chains[n][m] = simd.start(d[n][m]);
                }
            }
            for idx in 0..if is_long { C::n_turns(simd, chain) } else { chain } {
                let group = half * n_groups + first * chain + idx;
                let mut w = [codes[0].group(simd, group); N];
                for n in 1..N {
                    w[n] = codes[n].group(simd, group);
                }
                for m in 0..M {
                    let a = x[m].group(self.sub, group);
                    for n in 0..N {
                        chains[n][m] = if K::SIGNED {
                            simd.dot_signed(chains[n][m], w[n], a)
                        } else {
                            simd.dot(chains[n][m], w[n], a)
                        };
                    }
                }
            }
            for n in 0..N {
                for m in 0..M {
                    d[n][m] = simd.finish(d[n][m], chains[n][m]);
                }
            }
        }
    }

    /// Adds the dot products with activations of 16 bits that lie as such.
    #[inline(always)]
    fn add_words<S: Simd, K: Scheme>(&self, simd: S, half: usize, d: &mut [[S::I; M]; N])
    where
        C: Codes<S>,
    {
        let mut codes = self.codes;
        for codes in &mut codes {
            *codes = C::next(*codes);
        }
        let [even, odd] = self.x.planes.each_ref().map(|plane| C::next(plane));
        let n_groups = if K::HALVES { N_GROUPS / 2 } else { N_GROUPS };
        for idx in 0..C::n_turns(simd, n_groups) {
            let group = half * n_groups + idx;
            for n in 0..N {
                let w = simd.words(codes[n].group(simd, group), K::SIGNED);
                for m in 0..M {
                    d[n][m] = simd.dot_words(d[n][m], w[0], even[m].group(self.sub, group));
                    d[n][m] = simd.dot_words(d[n][m], w[1], odd[m].group(self.sub, group));
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
        for half in 0..if K::HALVES { C::n_halves() } else { 1 } {
            let d = self.sums::<S, K>(simd, half);
            self.scale(simd, factor[half], &d, y);
            if K::HAS_OFFSET {
                self.offset::<S, K>(simd, half, offset[half], y);
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
                let factor = simd.mul(factor[n], simd.splat(self.x.scales[m].scale[self.sub]));
                y[n][m] = simd.fma(simd.to_f(d[n][m]), factor, y[n][m]);
            }
        }
    }

    /// Adds the offsets of a sub-block or of one half of it, after its sums.
    #[inline(always)]
    fn offset<S: Simd, K: Scheme>(
        &self,
        simd: S,
        half: usize,
        offset: [S::F; N],
        y: &mut [[S::F; M]; N],
    ) {
        for n in 0..N {
            for m in 0..M {
                let sum = if K::HALVES {
                    self.x.sums[m][half][self.sub]
                } else {
                    self.x.scales[m].scaled_sum[self.sub]
                };
                y[n][m] = simd.fma(simd.splat(sum), offset[n], y[n][m]);
            }
        }
    }
}
