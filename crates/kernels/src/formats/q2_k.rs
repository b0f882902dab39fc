//! Q2_K: super-blocks of 256 in 16 halves of 16, `d·sc·code - dmin·m`, 2-bit codes, 4-bit scales.
//! `{ u8 scales[16]; u8 qs[64]; f16 d; f16 dmin }`; a byte of `scales` is the scale below and the
//! minimum above.

use super::{bytes_at, f16_at, gather_bytes, gather_f16, load_f16};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::B2;

pub(crate) struct Q2K;

/// Each 128 columns use 32 bytes of `qs`, 2 bits for each of 4 sub-blocks.
pub(crate) fn two_bits(qs: &[u8], sub: usize) -> [u8; 32] {
    let (half, quarter) = (sub / 4, sub % 4);
    std::array::from_fn(|col| (qs[half * 32 + col] >> (2 * quarter)) & 3)
}

impl QuantFormat for Q2K {
    const BLOCK_LEN: usize = 256;
    const BLOCK_BYTES: usize = 84;
    const SCALE_BYTES: usize = 64 + 256;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = true;
    const HALVES: bool = true;
    type Planes = B2;

    fn codes(block: &[u8], sub: usize) -> [u8; 32] {
        two_bits(&block[16..80], sub)
    }
    fn block_scales(block: &[u8], sub: usize) -> Scale {
        let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
        let bytes = [block[sub * 2], block[sub * 2 + 1]];
        Scale {
            factor: bytes.map(|byte| d * f32::from(byte & 15)),
            offset: bytes.map(|byte| -dmin * f32::from(byte >> 4)),
        }
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        gather_f16(blocks, 80, out);
        gather_f16(blocks, 82, &mut out[32..]);
        gather_bytes(blocks, 0..16, &mut out[64..]);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], sub: usize) -> Scales<S> {
        let d = load_f16(simd, packed, 0);
        let negative_dmin = simd.mul(load_f16(simd, packed, 1), simd.splat(-1.0));
        let first = simd.load_u8(bytes_at(packed, 4 + sub * 2));
        let second = simd.load_u8(bytes_at(packed, 5 + sub * 2));
        let mask = simd.splat_i(15);
        Scales {
            factor: [
                simd.mul(d, simd.to_f(simd.and_i(first, mask))),
                simd.mul(d, simd.to_f(simd.and_i(second, mask))),
            ],
            offset: [
                simd.mul(negative_dmin, simd.to_f(simd.shr_i(first, 4))),
                simd.mul(negative_dmin, simd.to_f(simd.shr_i(second, 4))),
            ],
        }
    }
}
