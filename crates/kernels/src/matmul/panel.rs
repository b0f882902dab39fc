//! Many tokens: a panel of weights is unpacked once and meets all tokens.
//!
//! ```text
//! for each panel of 32 rows                       a thread's share
//!   for each chunk of tokens                      their activations stay in the second-level cache
//!     for each 256 columns: unpack the panel      8 KiB of codes, first-level cache
//!       for each tile of tokens: dots, scales     in registers
//!     write the results
//! ```
//!
//! Formats differ only in how they unpack: the tile is compiled once per [`Scheme`].

use std::marker::PhantomData;
use std::ops::Range;

use super::dots::{Of, Scheme, SubBlock, Tokens, Unpacked, zero_point};
use super::small::{Ahead, Lines, unpack};
use super::{Job, Strips};
use crate::activations::{BLOCK_SUBS, Codes, Scales};
use crate::format::QuantFormat;
use crate::isa::{Kernel, LANES, Simd};
use crate::planes::{Planes, SUB_LEN};

/// With fewer tokens unpacking in registers is faster than through memory; with narrow dots the
/// chains leave few registers for codes. Tiles of nearly equal size must not be smaller than those
/// there are: half of the largest at least, which 5 and 3 see to.
pub(super) const fn n_tokens_min<S: Simd>() -> usize {
    if S::NARROW { 3 } else { 5 }
}
/// So few that reading the weights takes a good part of the time of computing: then memory is asked
/// for from within the first tile, a little with each sub-block, so that both go on together. With
/// more tokens that would only cost registers. Where `NARROW`; wide tiles were not found to wait.
const N_TOKENS_FEW: usize = 16;
/// Strips of a panel.
pub(super) const N_STRIPS: usize = 2;
/// Sub-blocks of a panel: 256 columns, so that codes and scales stay in the first-level cache.
const N_SUBS: usize = BLOCK_SUBS;
/// Bytes of activations that a chunk of tokens should not exceed, so that every panel finds them in
/// the second-level cache: half of the smallest one about.
const CHUNK_BYTES: usize = 384 << 10;
/// Most tokens of a chunk: their results are kept while the columns pass by.
const N_TOKENS: usize = 192;
/// Fewest, or unpacking would cost too much: it takes about as long as a tile of tokens.
const N_TOKENS_CHUNK_MIN: usize = 48;

/// 16 values, one for each row of a strip.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lanes([f32; LANES]);

/// The results of one token.
type Rows = [Lanes; N_STRIPS];

/// An unpacked panel.
struct Panel {
    n_subs: usize,
    codes: [[Unpacked; N_STRIPS]; N_SUBS],
    /// Of the first and the second half of a sub-block.
    factor: [[Rows; 2]; N_SUBS],
    offset: [[Rows; 2]; N_SUBS],
}

impl Panel {
    const EMPTY: Self = Self {
        n_subs: 0,
        codes: [[Unpacked([[0; 64]; 8]); N_STRIPS]; N_SUBS],
        factor: [[[Lanes([0.0; LANES]); N_STRIPS]; 2]; N_SUBS],
        offset: [[[Lanes([0.0; LANES]); N_STRIPS]; 2]; N_SUBS],
    };

    /// Unpacks `subs` of strip `n`; `n_subs` is the whole width of the matrix.
    #[inline(always)]
    fn fill<S: Simd, Q: QuantFormat>(
        &mut self,
        simd: S,
        n: usize,
        strip: &[u8],
        subs: Range<usize>,
        asks: bool,
    ) {
        let n_subs = strip.len() / (Q::Planes::BYTES + Q::SCALE_BYTES * SUB_LEN / Q::BLOCK_LEN);
        let subs_per_block = Q::BLOCK_LEN / SUB_LEN;
        let scale_area = n_subs * Q::Planes::BYTES;
        self.n_subs = subs.len();
        let ahead = Ahead::of::<Q>(subs.start / N_SUBS, n_subs, strip.len(), N_STRIPS);
        for (idx, sub_idx) in subs.enumerate() {
            if asks {
                ahead.ask::<S, Q>(simd, strip, idx);
            }
            let codes = unpack::<S, Q>(simd, &strip[sub_idx * Q::Planes::BYTES..]);
            for (codes, out) in codes.into_iter().zip(&mut self.codes[idx][n].0) {
                simd.store_b(codes, out);
            }
            let at = scale_area + sub_idx / subs_per_block * Q::SCALE_BYTES;
            let packed = &strip[at..][..Q::SCALE_BYTES];
            let scales = Q::scales(simd, packed, sub_idx % subs_per_block);
            for half in 0..if Q::HALVES { 2 } else { 1 } {
                simd.store(scales.factor[half], &mut self.factor[idx][half][n].0);
                if Q::HAS_OFFSET {
                    simd.store(scales.offset[half], &mut self.offset[idx][half][n].0);
                }
            }
        }
    }
}

impl Strips<'_> {
    #[inline(always)]
    pub(super) fn panels<S: Simd, Q: QuantFormat>(self, simd: S) {
        let job = self.job;
        let (n_tokens, n_subs) = (job.x.n_tokens(), job.x.n_subs());
        let block_bytes = job.x.n_planes() * size_of::<Codes>() + size_of::<Scales>();
        let row_bytes = n_subs.div_ceil(N_SUBS) * block_bytes;
        let n_chunk = (CHUNK_BYTES / row_bytes.max(1)).clamp(N_TOKENS_CHUNK_MIN, N_TOKENS);
        let n_chunks = n_tokens.div_ceil(n_chunk);
        let is_few = S::NARROW && n_tokens <= N_TOKENS_FEW;
        let mut panel = Panel::EMPTY;
        let mut results = [[Lanes([0.0; LANES]); N_STRIPS]; N_TOKENS];
        for strip in self.strips.clone().step_by(N_STRIPS) {
            let strips = strip..(strip + N_STRIPS).min(self.strips.end);
            for chunk in 0..n_chunks {
                // Nearly equal chunks, so that none is too short for a tile.
                let tokens = chunk * n_tokens / n_chunks..(chunk + 1) * n_tokens / n_chunks;
                let y = &mut results[..tokens.len()];
                for sub in (0..n_subs).step_by(N_SUBS) {
                    let subs = sub..(sub + N_SUBS).min(n_subs);
                    let mut ahead = [Lines::NONE; N_STRIPS];
                    for (n, strip) in strips.clone().enumerate() {
                        let strip = job.weight.strip(strip);
                        panel.fill::<S, Q>(simd, n, strip, subs.clone(), !is_few);
                        let block = sub / N_SUBS;
                        ahead[n] =
                            Ahead::of::<Q>(block, n_subs, strip.len(), N_STRIPS).lines::<Q>(strip);
                    }
                    let zero_point = zero_point::<S, Q>();
                    multiply::<S, Q>(
                        simd,
                        Operands {
                            job,
                            first_strip: strip,
                            panel: &panel,
                            tokens: tokens.clone(),
                            block: sub / N_SUBS,
                            zero_point,
                            ahead: &ahead,
                            y,
                        },
                    );
                }
                for (token, y) in tokens.zip(&results) {
                    for (strip, y) in strips.clone().zip(y) {
                        // SAFETY: the strip is one of this task's, the token one of the batch.
                        unsafe { job.write(simd, strip, token, simd.load(&y.0)) }
                    }
                }
            }
        }
    }
}

/// Chooses the scheme of a format. Where `NARROW`, more of them differ.
#[inline(always)]
fn multiply<S: Simd, Q: QuantFormat>(simd: S, operands: Operands<'_>) {
    let chain = if S::NARROW { Of::<Q>::CHAIN } else { 8 };
    let signed = S::NARROW && Q::Planes::SIGNED;
    let is_few = S::NARROW && operands.job.x.n_tokens() <= N_TOKENS_FEW;
    macro_rules! choose {
        ($(($halves:literal, $offset:literal, $signed:literal, $chain:literal),)*) => {
            match (Q::HALVES, Q::HAS_OFFSET, signed, chain) {
                $(($halves, $offset, $signed, $chain) => {
                    type K = Kind<$halves, $offset, $signed, $chain>;
                    match (is_few, operands.job.x.n_planes()) {
                        (false, 1) => simd.call(Tiles::<K, 1, false>::new(operands)),
                        (false, _) => simd.call(Tiles::<K, 2, false>::new(operands)),
                        (true, 1) => simd.call(Tiles::<K, 1, true>::new(operands)),
                        (true, _) => simd.call(Tiles::<K, 2, true>::new(operands)),
                    }
                })*
                _ => unreachable!("no scheme for this format"),
            }
        };
    }
    choose! {
        (false, false, false, 8),
        (false, true, false, 8),
        (true, false, false, 8),
        (true, true, false, 8),
        (false, false, false, 4),
        (false, true, false, 4),
        (true, false, false, 2),
        (false, false, true, 1),
    }
}

/// A scheme by its properties.
struct Kind<const HALVES: bool, const HAS_OFFSET: bool, const SIGNED: bool, const CHAIN: usize>;

impl<const HALVES: bool, const HAS_OFFSET: bool, const SIGNED: bool, const CHAIN: usize> Scheme
    for Kind<HALVES, HAS_OFFSET, SIGNED, CHAIN>
{
    const HALVES: bool = HALVES;
    const HAS_OFFSET: bool = HAS_OFFSET;
    const SIGNED: bool = SIGNED;
    const CHAIN: usize = CHAIN;
}

/// A panel, the tokens it meets and their results so far.
struct Operands<'a> {
    job: &'a Job<'a>,
    first_strip: usize,
    panel: &'a Panel,
    tokens: Range<usize>,
    /// The block of the activations' columns that the panel holds.
    block: usize,
    zero_point: i32,
    /// What is asked for meanwhile, where tokens are few.
    ahead: &'a [Lines; N_STRIPS],
    /// One for each of `tokens`.
    y: &'a mut [Rows],
}

/// The work of one panel with activations of `P` planes; of few tokens, at most [`N_TOKENS_FEW`],
/// where `FEW`.
struct Tiles<'a, K, const P: usize, const FEW: bool> {
    operands: Operands<'a>,
    kind: PhantomData<K>,
}

impl<'a, K, const P: usize, const FEW: bool> Tiles<'a, K, P, FEW> {
    #[inline(always)]
    fn new(operands: Operands<'a>) -> Self {
        Self { operands, kind: PhantomData }
    }
}

impl<K: Scheme, const P: usize, const FEW: bool> Kernel for Tiles<'_, K, P, FEW> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // Tiles of nearly equal size: their number is what costs.
        let n_max = match (S::WIDE, S::NARROW && (K::SIGNED || P == 2)) {
            (true, _) => 6,
            // No chains, or of one dot: fewer registers are sums under way.
            (false, true) => 4,
            (false, false) => 3,
        };
        let mut done = 0;
        let n_tokens = self.operands.tokens.len();
        let mut n_tiles = n_tokens.div_ceil(n_max);
        while done < n_tokens {
            let len = (n_tokens - done).div_ceil(n_tiles);
            match (S::WIDE, len) {
                (true, 6) => self.strips::<S, 6>(simd, done),
                (true, 5) => self.strips::<S, 5>(simd, done),
                (true, 4) => self.strips::<S, 4>(simd, done),
                (true, 3) => self.strips::<S, 3>(simd, done),
                (false, 4) => self.strips::<S, 4>(simd, done),
                (false, 3) => self.strips::<S, 3>(simd, done),
                (false, 2) => self.strips::<S, 2>(simd, done),
                _ => unreachable!("{} tokens or more make no smaller tile", n_tokens_min::<S>()),
            }
            done += len;
            n_tiles -= 1;
        }
    }
}

impl<K: Scheme, const P: usize, const FEW: bool> Tiles<'_, K, P, FEW> {
    /// `M` tokens with all strips of the panel: at once where there are registers for it.
    #[inline(always)]
    fn strips<S: Simd, const M: usize>(&mut self, simd: S, at: usize) {
        if S::WIDE {
            self.tile::<S, N_STRIPS, M>(simd, 0, at);
        } else {
            for strip in 0..N_STRIPS {
                self.tile::<S, 1, M>(simd, strip, at);
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const N: usize, const M: usize>(&mut self, simd: S, strip: usize, at: usize) {
        let Operands { job, first_strip, panel, tokens, block, zero_point, ahead, y } =
            &mut self.operands;
        let x = Tokens::<M, P>::new::<K>(job.x, *block, tokens.start + at, *zero_point);
        if (*block + 1) * N_SUBS >= job.x.n_subs() {
            // The last block: the results will be written when the chunk has passed.
            for n in 0..N {
                for m in 0..M {
                    let first = *first_strip + strip + n;
                    simd.prefetch(job.place(first, tokens.start + at + m).cast());
                }
            }
        }
        let y: &mut [Rows; M] =
            y[at..].first_chunk_mut().expect("a tile is not longer than the tokens left");
        let mut acc = [[simd.splat(0.0); M]; N];
        if *block > 0 {
            for n in 0..N {
                for m in 0..M {
                    acc[n][m] = simd.load(&y[m][strip + n].0);
                }
            }
        }
        for sub in 0..panel.n_subs {
            if FEW && at == 0 {
                for lines in &ahead[strip..strip + N] {
                    lines.ask(simd, sub);
                }
            }
            let mut codes = [&panel.codes[sub][strip]; N];
            for n in 1..N {
                codes[n] = &panel.codes[sub][strip + n];
            }
            let factor = load_halves::<S, N>(simd, &panel.factor[sub], strip);
            let offset = load_halves::<S, N>(simd, &panel.offset[sub], strip);
            SubBlock { codes, x: &x, sub }.multiply::<S, K>(simd, factor, offset, &mut acc);
        }
        for n in 0..N {
            for m in 0..M {
                simd.store(acc[n][m], &mut y[m][strip + n].0);
            }
        }
    }
}

#[inline(always)]
fn load_halves<S: Simd, const N: usize>(
    simd: S,
    halves: &[Rows; 2],
    strip: usize,
) -> [[S::F; N]; 2] {
    let mut values = [[simd.splat(0.0); N]; 2];
    for half in 0..2 {
        for n in 0..N {
            values[half][n] = simd.load(&halves[half][strip + n].0);
        }
    }
    values
}
