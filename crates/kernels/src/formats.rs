//! One file per weight format.

pub(crate) mod float;
pub(crate) mod iq4_nl;
pub(crate) mod iq4_xs;
mod k_scales;
pub(crate) mod mxfp4;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
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
    for (out, block) in out[..2 * LANES].as_chunks_mut::<2>().0.iter_mut().zip(blocks) {
        *out = [block[at], block[at + 1]];
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

#[cfg(test)]
mod tests {
    use crate::{Format, reference};

    /// What ggml's `dequantize_row_*` make of a block of bytes `37i + 11` with scales (at `scales`)
    /// of 2^-5 and 2^-3: some columns, and the sum of column number times value. All are exact.
    #[track_caller]
    fn check(format: Format, scales: &[usize], columns: [(usize, f32); 3], weighted_sum: f64) {
        let mut block: Vec<u8> = (0..format.block_bytes()).map(|i| (i * 37 + 11) as u8).collect();
        for (at, scale) in scales.iter().zip([0x2800u16, 0x3000]) {
            block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if format == Format::MXFP4 {
            block[0] = 120;
        }
        let row = reference::row(format, format.block_len(), &block, 0);
        for (col, value) in columns {
            assert_eq!(row[col], value, "{} column {col}", format.name());
        }
        let sum: f64 = row.iter().enumerate().map(|(i, x)| (i + 1) as f64 * f64::from(*x)).sum();
        assert_eq!(sum, weighted_sum, "{}", format.name());
    }

    #[test]
    fn blocks_are_what_ggml_reads_in_them() {
        use Format::{IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K};
        check(Q2_K, &[80, 82], [(0, 1.03125), (17, -0.375), (255, -0.1875)], -17708.0625);
        check(Q3_K, &[108], [(0, 2.53125), (17, 4.0), (255, 1.3125)], 5535.78125);
        check(IQ4_NL, &[0], [(0, -1.09375), (17, -0.3125), (31, 0.03125)], -216.21875);
        check(IQ4_XS, &[0], [(0, 2.03125), (17, 1.09375), (255, -0.5)], -65347.9375);
        check(MXFP4, &[], [(0, 0.0), (17, 0.0234375), (31, 0.0234375)], 2.4921875);
    }
}
