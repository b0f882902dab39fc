//! The 6-bit scales and minima that Q4_K and Q5_K share: 8 pairs in 12 bytes.
//!
//! In the file (ggml `get_scale_min_k4`): pairs 0..4 are the low six bits of bytes 0..4 (scale) and
//! 4..8 (minimum); pairs 4..8 have their low four bits in bytes 8..12 and their upper two in the
//! top bits of bytes 0..8. Packed for 16 rows: 8 vectors of low nibbles (scale below, minimum
//! above), then 4 vectors of upper bits, vector i holding pair i in its low and pair i + 4 in its
//! high nibble. With d and dmin as binary16 in front: 64 + 192 bytes.

use super::{bytes_at, f16_at, gather_f16, load_f16};
use crate::format::{Scale, Scales};
use crate::isa::{LANES, Simd};

/// Bytes for 16 rows of one block.
pub(crate) const BYTES: usize = 64 + 192;

/// Scale and minimum `sub` of the 12 bytes.
#[cfg_attr(not(test), allow(dead_code))] // the definition, as below
fn pair(scales: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        (scales[sub] & 63, scales[sub + 4] & 63)
    } else {
        (
            (scales[sub + 4] & 15) | (scales[sub - 4] >> 6) << 4,
            (scales[sub + 4] >> 4) | (scales[sub] >> 6) << 4,
        )
    }
}

/// `block` starts `{ f16 d; f16 dmin; u8 scales[12]; … }`. Weights are `d·sc·code - dmin·m`.
#[cfg_attr(not(test), allow(dead_code))] // the definition, which tests hold the kernels to
pub(crate) fn block_scales(block: &[u8], sub: usize) -> Scale {
    let (scale, minimum) = pair(&block[4..16], sub);
    Scale {
        factor: [f16_at(block, 0) * f32::from(scale); 2],
        offset: [-f16_at(block, 2) * f32::from(minimum); 2],
    }
}

pub(crate) fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
    gather_f16(blocks, 0, out);
    gather_f16(blocks, 2, &mut out[32..]);
    let out = &mut out[64..BYTES];
    for (row, block) in blocks.iter().enumerate() {
        // Four pairs at a time, a pair a byte.
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| block[at + i]));
        let [a, b, c] = [word(4), word(8), word(12)];
        let low = [a & NIBBLES | (b & NIBBLES) << 4, c];
        let high =
            (a >> 4) & TWOS | ((b >> 4) & TWOS) << 2 | (a >> 6 & TWOS) << 4 | b & (TWOS << 6);
        for (idx, word) in [low[0], low[1], high].into_iter().enumerate() {
            for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
                out[(idx * 4 + i) * 16 + row] = byte;
            }
        }
    }
}

/// The low four bits of each byte, and the low two.
const NIBBLES: u32 = 0x0f0f_0f0f;
const TWOS: u32 = 0x0303_0303;

#[inline(always)]
pub(crate) fn scales<S: Simd>(simd: S, packed: &[u8], sub: usize) -> Scales<S> {
    let low = simd.load_u8(bytes_at(packed, 4 + sub));
    let high = simd.shr_i(simd.load_u8(bytes_at(packed, 12 + sub % 4)), 4 * (sub as u32 / 4));
    let three = simd.splat_i(3);
    let scale =
        simd.or_i(simd.and_i(low, simd.splat_i(15)), simd.shl_i::<4>(simd.and_i(high, three)));
    let minimum =
        simd.or_i(simd.shr_i(low, 4), simd.shl_i::<4>(simd.and_i(simd.shr_i(high, 2), three)));
    let d = load_f16(simd, packed, 0);
    let negative_dmin = simd.mul(load_f16(simd, packed, 1), simd.splat(-1.0));
    Scales {
        factor: [simd.mul(d, simd.to_f(scale)); 2],
        offset: [simd.mul(negative_dmin, simd.to_f(minimum)); 2],
    }
}
