//! Q5_0: blocks of 32, `d · (code - 16)`, 5-bit codes. `{ f16 d; u32 qh; u8 qs[16] }`.

use super::q4_0::split_nibbles;
use super::{f16_at, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::N4B1;

pub(crate) struct Q5_0;

/// Nibbles as in Q4_0; bit `col` of the little-endian `qh` is the fifth bit.
pub(crate) fn five_bits(qh: &[u8], qs: &[u8]) -> [u8; 32] {
    let qh = u32::from_le_bytes([qh[0], qh[1], qh[2], qh[3]]);
    let mut codes = split_nibbles(qs);
    for (group, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Four bits to the bottom of four bytes: each copy puts one of them in its place.
        let bits = (((qh >> (4 * group)) & 15) * 0x0020_4081) & 0x0101_0101;
        *codes = (u32::from_le_bytes(*codes) | bits << 4).to_le_bytes();
    }
    codes
}

impl QuantFormat for Q5_0 {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = 22;
    const SCALE_BYTES: usize = 32;
    const ZERO_POINT: i32 = 16;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = false;
    type Planes = N4B1;

    fn codes(block: &[u8], _sub: usize) -> [u8; 32] {
        five_bits(&block[2..6], &block[6..22])
    }
    fn block_scales(block: &[u8], _sub: usize) -> Scale {
        Scale { factor: [f16_at(block, 0); 2], offset: [0.0; 2] }
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        gather_f16(blocks, 0, out);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], _sub: usize) -> Scales<S> {
        Scales { factor: [load_f16(simd, packed, 0); 2], offset: [simd.splat(0.0); 2] }
    }
}
