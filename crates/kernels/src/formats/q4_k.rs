//! Q4_K: super-blocks of 256 in 8 sub-blocks, `d·sc·code - dmin·m`, 4-bit codes.
//! `{ f16 d; f16 dmin; u8 scales[12]; u8 qs[128] }`.

use super::k_scales;
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::N4;

pub(crate) struct Q4K;

/// 32 bytes hold two sub-blocks: low nibbles the even, high nibbles the odd one.
pub(crate) fn k_nibbles(qs: &[u8], sub: usize) -> [u8; 32] {
    let mut codes = [0; 32];
    codes.copy_from_slice(&qs[(sub / 2) * 32..][..32]);
    if sub.is_multiple_of(2) { codes.map(|byte| byte & 15) } else { codes.map(|byte| byte >> 4) }
}

impl QuantFormat for Q4K {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = 144;
    const SCALE_BYTES: usize = k_scales::BYTES;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = true;
    const HALVES: bool = false;
    type Planes = N4;

    fn codes(block: &[u8], sub: usize) -> [u8; 32] {
        k_nibbles(&block[16..144], sub)
    }
    fn block_scales(block: &[u8], sub: usize) -> Scale {
        k_scales::block_scales(block, sub)
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        k_scales::pack_scales(blocks, out);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], sub: usize) -> Scales<S> {
        k_scales::scales(simd, packed, sub)
    }
}
