//! Q5_K: super-blocks of 256 in 8 sub-blocks, `d·sc·code - dmin·m`, 5-bit codes.
//! `{ f16 d; f16 dmin; u8 scales[12]; u8 qh[32]; u8 qs[128] }`; bit `sub` of `qh[col]` is the
//! fifth.

use super::k_scales;
use super::q4_k::k_nibbles;
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::N4B1;

pub(crate) struct Q5K;

impl QuantFormat for Q5K {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = 176;
    const SCALE_BYTES: usize = k_scales::BYTES;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = true;
    const HALVES: bool = false;
    type Planes = N4B1;

    fn codes(block: &[u8], sub: usize) -> [u8; 32] {
        let mut codes = k_nibbles(&block[48..176], sub);
        let qh = block[16..48].as_chunks::<4>().0;
        for (codes, qh) in codes.as_chunks_mut::<4>().0.iter_mut().zip(qh) {
            let bits = (u32::from_le_bytes(*qh) >> sub) & 0x0101_0101;
            *codes = (u32::from_le_bytes(*codes) | bits << 4).to_le_bytes();
        }
        codes
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
