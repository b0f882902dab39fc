//! Q4_1: blocks of 32, `d · code + m`, 4-bit codes. `{ f16 d; f16 m; u8 qs[16] }`.

use super::q4_0::split_nibbles;
use super::{f16_at, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::N4;

pub(crate) struct Q4_1;

impl QuantFormat for Q4_1 {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = 20;
    const SCALE_BYTES: usize = 64;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = true;
    const HALVES: bool = false;
    type Planes = N4;

    fn codes(block: &[u8], _sub: usize) -> [u8; 32] {
        split_nibbles(&block[4..20])
    }
    fn block_scales(block: &[u8], _sub: usize) -> Scale {
        Scale { factor: [f16_at(block, 0); 2], offset: [f16_at(block, 2); 2] }
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        gather_f16(blocks, 0, out);
        gather_f16(blocks, 2, &mut out[32..]);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], _sub: usize) -> Scales<S> {
        Scales { factor: [load_f16(simd, packed, 0); 2], offset: [load_f16(simd, packed, 1); 2] }
    }
}
