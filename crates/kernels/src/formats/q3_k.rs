//! Q3_K: super-blocks of 256 in 16 halves of 16, `d·(sc - 32)·(code - 4)`, 3-bit codes, 6-bit
//! scales. `{ u8 hmask[32]; u8 qs[64]; u8 scales[12]; f16 d }`; bit `sub` of `hmask[col]` is the
//! third.
//!
//! Scale i has its low four bits in the low (i < 8) or high nibble of byte i % 8, its upper two in
//! bits 2(i / 4) of byte 8 + i % 4. They are packed as they are: 12 vectors of bytes.

use super::q2_k::two_bits;
use super::{bytes_at, f16_at, gather_bytes, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::B2B1;

pub(crate) struct Q3K;

/// The factors of half `idx` of a block.
#[inline(always)]
fn factor<S: Simd>(simd: S, packed: &[u8], idx: usize) -> S::F {
    let low = simd.load_u8(bytes_at(packed, 2 + idx % 8));
    let low = simd.and_i(simd.shr_i(low, 4 * (idx as u32 / 8)), simd.splat_i(15));
    let high = simd.load_u8(bytes_at(packed, 10 + idx % 4));
    let high = simd.and_i(simd.shr_i(high, 2 * (idx as u32 / 4)), simd.splat_i(3));
    let scale = simd.sub_i(simd.or_i(low, simd.shl_i::<4>(high)), simd.splat_i(32));
    simd.mul(load_f16(simd, packed, 0), simd.to_f(scale))
}

impl QuantFormat for Q3K {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = 110;
    const SCALE_BYTES: usize = 32 + 192;
    const ZERO_POINT: i32 = 4;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = true;
    type Planes = B2B1;

    fn codes(block: &[u8], sub: usize) -> [u8; 32] {
        let mut codes = two_bits(&block[32..96], sub);
        for (code, hmask) in codes.iter_mut().zip(&block[..32]) {
            *code |= ((hmask >> sub) & 1) << 2;
        }
        codes
    }
    fn block_scales(block: &[u8], sub: usize) -> Scale {
        let (d, scales) = (f16_at(block, 108), &block[96..108]);
        let factor = |half: usize| {
            let idx = sub * 2 + half;
            let low = (scales[idx % 8] >> (4 * (idx / 8))) & 15;
            let high = (scales[8 + idx % 4] >> (2 * (idx / 4))) & 3;
            d * f32::from((low | high << 4) as i8 - 32)
        };
        Scale { factor: [factor(0), factor(1)], offset: [0.0; 2] }
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        gather_f16(blocks, 108, out);
        gather_bytes(blocks, 96..108, &mut out[32..]);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], sub: usize) -> Scales<S> {
        let (first, second) = (factor(simd, packed, sub * 2), factor(simd, packed, sub * 2 + 1));
        Scales { factor: [first, second], offset: [simd.splat(0.0); 2] }
    }
}
