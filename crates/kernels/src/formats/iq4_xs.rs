//! IQ4_XS: super-blocks of 256 in 8 sub-blocks, `d·(sc - 32)·table[index]`, 4-bit indices into the
//! table of IQ4_NL, 6-bit scales. `{ f16 d; u16 scales_h; u8 scales_l[4]; u8 qs[128] }`.
//!
//! Scale `sub` has its low four bits in a nibble of byte sub / 2 of `scales_l`, its upper two in
//! bits 2·sub of `scales_h`. They are packed as they are: 2 + 4 vectors of bytes.

use super::iq4_nl::NonLinear;
use super::q4_0::split_nibbles;
use super::{bytes_at, f16_at, gather_bytes, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::Lookup;

pub(crate) struct Iq4Xs;

impl QuantFormat for Iq4Xs {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = 136;
    const SCALE_BYTES: usize = 32 + 96;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = false;
    type Planes = Lookup<NonLinear>;

    fn codes(block: &[u8], sub: usize) -> [u8; 32] {
        Self::Planes::codes(split_nibbles(&block[8 + sub * 16..][..16]))
    }
    fn block_scales(block: &[u8], sub: usize) -> Scale {
        let low = (block[4 + sub / 2] >> (4 * (sub % 2))) & 15;
        let high = (block[2 + sub / 4] >> (2 * (sub % 4))) & 3;
        let factor = f16_at(block, 0) * f32::from((low | high << 4) as i8 - 32);
        Scale { factor: [factor; 2], offset: [0.0; 2] }
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        gather_f16(blocks, 0, out);
        gather_bytes(blocks, 2..8, &mut out[32..]);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], sub: usize) -> Scales<S> {
        let low = simd.load_u8(bytes_at(packed, 4 + sub / 2));
        let low = simd.and_i(simd.shr_i(low, 4 * (sub as u32 % 2)), simd.splat_i(15));
        let high = simd.load_u8(bytes_at(packed, 2 + sub / 4));
        let high = simd.and_i(simd.shr_i(high, 2 * (sub as u32 % 4)), simd.splat_i(3));
        let scale = simd.sub_i(simd.or_i(low, simd.shl_i::<4>(high)), simd.splat_i(32));
        let factor = simd.mul(load_f16(simd, packed, 0), simd.to_f(scale));
        Scales { factor: [factor; 2], offset: [simd.splat(0.0); 2] }
    }
}
