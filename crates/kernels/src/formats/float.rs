//! F32, F16 and BF16: weights that are used as they are, with activations in f32.
//!
//! Packed as `[n_cols][16 rows]`, so a row is a lane here too.

use crate::isa::portable::{bf16_to_f32, f16_to_f32};
use crate::isa::{LANES, Simd};

/// A float format.
pub(crate) trait FloatFormat {
    /// Bytes of a weight.
    const BYTES: usize;
    /// The weight in the first `BYTES` bytes.
    fn value(bytes: &[u8]) -> f32;
    /// 16 weights in the first `16 * BYTES` bytes.
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F;
}

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct Bf16;

impl FloatFormat for F32 {
    const BYTES: usize = 4;
    fn value(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F {
        let mut lanes = [0.0; LANES];
        for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *lane = f32::from_le_bytes(*bytes);
        }
        simd.load(&lanes)
    }
}

/// 16 little-endian words.
#[inline(always)]
fn words(bytes: &[u8]) -> [u16; LANES] {
    let mut lanes = [0; LANES];
    for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *lane = u16::from_le_bytes(*bytes);
    }
    lanes
}

impl FloatFormat for F16 {
    const BYTES: usize = 2;
    fn value(bytes: &[u8]) -> f32 {
        f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F {
        simd.load_f16(&words(bytes))
    }
}

impl FloatFormat for Bf16 {
    const BYTES: usize = 2;
    fn value(bytes: &[u8]) -> f32 {
        bf16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F {
        simd.load_bf16(&words(bytes))
    }
}
