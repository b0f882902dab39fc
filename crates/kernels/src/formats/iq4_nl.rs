//! IQ4_NL: blocks of 32, `d · table[index]`, 4-bit indices. `{ f16 d; u8 qs[16] }`.

use super::q4_0::split_nibbles;
use super::{f16_at, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::{Lookup, Table};

pub(crate) struct Iq4Nl;

/// ggml's `kvalues_iq4nl`, also of IQ4_XS.
pub(crate) struct NonLinear;

impl Table for NonLinear {
    const VALUES: [i8; 16] =
        [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
}

impl QuantFormat for Iq4Nl {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = 18;
    const SCALE_BYTES: usize = 32;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = false;
    type Planes = Lookup<NonLinear>;

    fn codes(block: &[u8], _sub: usize) -> [u8; 32] {
        Self::Planes::codes(split_nibbles(&block[2..18]))
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
