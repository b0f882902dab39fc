//! One file per weight format.

pub(crate) mod float;
mod k_scales;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;

use crate::isa::portable::f16_to_f32;
use crate::isa::{LANES, Simd};

/// Reads a little-endian binary16 at `at`.
#[cfg_attr(not(test), allow(dead_code))] // of the definition, which tests hold the kernels to
fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Copies the two bytes at `at` of each block to `out`: a vector of 16 binary16.
fn gather_f16(blocks: &[&[u8]; LANES], at: usize, out: &mut [u8]) {
    for (row, block) in blocks.iter().enumerate() {
        out[row * 2..row * 2 + 2].copy_from_slice(&block[at..at + 2]);
    }
}

/// Copies bytes `range` of each block to `out`, a vector of 16 rows for each.
fn gather_bytes(blocks: &[&[u8]; LANES], range: std::ops::Range<usize>, out: &mut [u8]) {
    for (row, block) in blocks.iter().enumerate() {
        for (i, byte) in block[range.clone()].iter().enumerate() {
            out[i * LANES + row] = *byte;
        }
    }
}

/// Vector `idx` of 16 binary16 in `packed`.
#[inline(always)]
fn load_f16<S: Simd>(simd: S, packed: &[u8], idx: usize) -> S::F {
    let bytes: &[u8; 2 * LANES] =
        packed[idx * 32..].first_chunk().expect("the caller gives SCALE_BYTES bytes");
    let mut lanes = [0u16; LANES];
    for (lane, pair) in lanes.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *lane = u16::from_le_bytes(*pair);
    }
    simd.load_f16(&lanes)
}

/// Vector `idx` of 16 bytes in `packed`.
#[inline(always)]
fn bytes_at(packed: &[u8], idx: usize) -> &[u8; LANES] {
    packed[idx * LANES..].first_chunk().expect("the caller gives SCALE_BYTES bytes")
}
