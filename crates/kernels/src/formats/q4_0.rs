//! Q4_0: blocks of 32, `d · (code - 8)`, 4-bit codes. `{ f16 d; u8 qs[16] }`.

use super::{f16_at, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::N4;

pub(crate) struct Q4_0;

/// Low nibbles are the first 16 columns, high nibbles the second.
pub(crate) fn split_nibbles(qs: &[u8]) -> [u8; 32] {
    let mut codes = [0; 32];
    let (low, high) = codes.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(qs) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
    codes
}

impl QuantFormat for Q4_0 {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = 18;
    const SCALE_BYTES: usize = 32;
    const ZERO_POINT: i32 = 8;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = false;
    type Planes = N4;

    fn codes(block: &[u8], _sub: usize) -> [u8; 32] {
        split_nibbles(&block[2..18])
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
