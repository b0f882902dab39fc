//! Q8_0: blocks of 32, `d · code`, signed bytes. `{ f16 d; i8 qs[32] }`.

use super::{f16_at, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::B8;

pub(crate) struct Q8_0;

impl QuantFormat for Q8_0 {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = 34;
    const SCALE_BYTES: usize = 32;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = false;
    type Planes = B8;

    fn codes(block: &[u8], _sub: usize) -> [u8; 32] {
        *block[2..].first_chunk().expect("the caller gives BLOCK_BYTES bytes")
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
