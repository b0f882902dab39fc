//! Q6_K: super-blocks of 256 in 16 halves of 16, `d·sc·(code - 32)`, 6-bit codes, 8-bit scales.
//! `{ u8 ql[128]; u8 qh[64]; i8 scales[16]; f16 d }`.

use super::{bytes_at, f16_at, gather_bytes, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::N4B2;

pub(crate) struct Q6K;

fn join(ql: &[u8], qh: &[u8], code: impl Fn(u8, u8) -> u8) -> [u8; 32] {
    let mut codes = [0; 32];
    for ((out, low), high) in codes.iter_mut().zip(ql).zip(qh) {
        *out = code(*low, *high);
    }
    codes
}

impl QuantFormat for Q6K {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = 210;
    const SCALE_BYTES: usize = 32 + 256;
    const ZERO_POINT: i32 = 32;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = true;
    type Planes = N4B2;

    /// Each 128 columns use 64 bytes of `ql` and 32 of `qh`: quarters 0 and 1 are the low nibbles
    /// of the first and second 32 bytes, quarters 2 and 3 the high ones; `qh` has 2 bits a quarter.
    fn codes(block: &[u8], sub: usize) -> [u8; 32] {
        let (half, quarter) = (sub / 4, sub % 4);
        let ql = &block[half * 64 + (quarter % 2) * 32..][..32];
        let qh = &block[128 + half * 32..][..32];
        // Each with its own constants: a byte has no shift by a variable in vector instructions.
        match quarter {
            0 => join(ql, qh, |low, high| low & 15 | (high & 3) << 4),
            1 => join(ql, qh, |low, high| low & 15 | (high & 12) << 2),
            2 => join(ql, qh, |low, high| low >> 4 | high & 48),
            _ => join(ql, qh, |low, high| low >> 4 | (high & 192) >> 2),
        }
    }
    fn block_scales(block: &[u8], sub: usize) -> Scale {
        let d = f16_at(block, 208);
        let factor = |half: usize| d * f32::from(block[192 + sub * 2 + half] as i8);
        Scale { factor: [factor(0), factor(1)], offset: [0.0; 2] }
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        gather_f16(blocks, 208, out);
        gather_bytes(blocks, 192..208, &mut out[32..]);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], sub: usize) -> Scales<S> {
        let d = load_f16(simd, packed, 0);
        // Spelled out: a closure would be compiled without the instruction set.
        let first = simd.mul(d, simd.to_f(simd.load_i8(bytes_at(packed, 2 + sub * 2))));
        let second = simd.mul(d, simd.to_f(simd.load_i8(bytes_at(packed, 3 + sub * 2))));
        Scales { factor: [first, second], offset: [simd.splat(0.0); 2] }
    }
}
