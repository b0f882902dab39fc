//! Code planes: how the integer codes of 16 rows × 32 columns lie in a packed strip.
//!
//! The unit is a sub-block of 32 columns, seen as 8 *k-groups* of 4 columns. A k-group of a strip
//! is 64 bytes: 16 rows, 4 codes each, which is one AVX-512 register and what a 4-byte dot
//! instruction eats with the activations broadcast. Narrow codes are split over bit planes so that
//! every load is a full register and the packed size equals the file's.
//!
//! | plane | bytes | content |
//! | --- | --- | --- |
//! | nibble | 4 × 64 | vector j: low nibble = k-group j, high nibble = k-group j + 4 |
//! | 1-bit | 64 | bit g of byte (row, i) = the one further bit of column 4g + i |
//! | 2-bit | 2 × 64 | vector h: bits 2g, 2g + 1 = the two (upper) bits of k-group 4h + g |
//! | byte | 8 × 64 | k-group g, signed |

mod narrow;
mod table;

pub(crate) use narrow::{B2, B2B1};
pub(crate) use table::{Lookup, Table};

use crate::isa::{LANES, Simd};

/// Columns of a sub-block.
pub(crate) const SUB_LEN: usize = 32;

/// The codes of one sub-block of a strip, row by row.
pub(crate) type Codes = [[u8; SUB_LEN]; LANES];

/// One way to lay out codes.
pub(crate) trait Planes {
    /// Bytes of one sub-block of 16 rows.
    const BYTES: usize;
    /// Whether codes are signed bytes.
    const SIGNED: bool;
    /// The largest magnitude of a code.
    const MAX_CODE: i32;

    /// Lays out `codes` in `out`, `BYTES` long.
    fn put(codes: &Codes, out: &mut [u8]);
    /// The codes of one row of a laid out sub-block.
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN];
    /// K-groups `J` and `J + 4` (`J` < 4) of a laid out sub-block of at least `BYTES` bytes.
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B);
}

/// How many k-groups of such codes can be added up in 16 bits: each adds two products with bytes of
/// magnitude up to 127.
pub(crate) const fn chain_len(max_code: i32) -> usize {
    match i16::MAX as i32 / (2 * 127 * max_code) {
        8.. => 8,
        4..8 => 4,
        2..4 => 2,
        _ => 1,
    }
}

/// A row's codes as k-groups: byte i of word g is column 4g + i. Whole words at a time, bits can be
/// masked and moved for four columns at once.
fn k_groups(codes: &[u8; SUB_LEN]) -> [u32; 8] {
    let mut groups = [0; 8];
    for (group, bytes) in groups.iter_mut().zip(codes.as_chunks::<4>().0) {
        *group = u32::from_le_bytes(*bytes);
    }
    groups
}

/// `byte` in each byte of a word.
const fn bytes_of(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

/// The 16 words, a row each, of vector `idx`.
fn rows_of(out: &mut [u8], idx: usize) -> &mut [[u8; 4]] {
    out[idx * 64..][..64].as_chunks_mut().0
}

/// Position of (row, column) within the 512 bytes of one byte per code.
fn byte_idx(row: usize, col: usize) -> (usize, usize) {
    (col / 4, row * 4 + col % 4)
}

#[inline(always)]
fn vector<S: Simd>(simd: S, bytes: &[u8], idx: usize) -> S::B {
    let vector: &[u8; 64] = bytes[idx * 64..].first_chunk().expect("the caller gives BYTES bytes");
    simd.load_b(vector)
}

/// 4-bit codes.
pub(crate) struct N4;

impl Planes for N4 {
    const BYTES: usize = 256;
    const SIGNED: bool = false;
    const MAX_CODE: i32 = 15;

    fn put(codes: &Codes, out: &mut [u8]) {
        let out = &mut out[..Self::BYTES];
        for (row, codes) in codes.iter().enumerate() {
            let groups = k_groups(codes).map(|group| group & bytes_of(15));
            for j in 0..4 {
                rows_of(out, j)[row] = (groups[j] | groups[j + 4] << 4).to_le_bytes();
            }
        }
    }
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN] {
        std::array::from_fn(|col| {
            let (group, byte) = byte_idx(row, col);
            (bytes[(group % 4) * 64 + byte] >> (4 * (group / 4))) & 15
        })
    }
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B) {
        let both = vector(simd, bytes, J);
        let mask = simd.splat_b(15);
        (simd.and_b(both, mask), simd.and_b(simd.shr_b::<4>(both), mask))
    }
}

/// 5-bit codes: nibbles and one more bit.
pub(crate) struct N4B1;

impl Planes for N4B1 {
    const BYTES: usize = 256 + 64;
    const SIGNED: bool = false;
    const MAX_CODE: i32 = 31;

    fn put(codes: &Codes, out: &mut [u8]) {
        N4::put(codes, out);
        for (row, out) in rows_of(out, 4).iter_mut().enumerate() {
            let groups = k_groups(&codes[row]).map(|group| (group >> 4) & bytes_of(1));
            let bits = groups.iter().rev().fold(0, |bits, group| bits << 1 | group);
            *out = bits.to_le_bytes();
        }
    }
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN] {
        let low = N4::get(bytes, row);
        std::array::from_fn(|col| {
            let (group, byte) = byte_idx(row, col);
            low[col] | ((bytes[256 + byte] >> group) & 1) << 4
        })
    }
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B) {
        let (lo, hi) = N4::pair::<S, J>(simd, bytes);
        let bits = vector(simd, bytes, 4);
        let mask = simd.splat_b(16);
        // Bit J and bit J + 4 both go to bit 4.
        let (lo_bit, hi_bit) = match J {
            0 => (simd.shl_b::<4>(bits), bits),
            1 => (simd.shl_b::<3>(bits), simd.shr_b::<1>(bits)),
            2 => (simd.shl_b::<2>(bits), simd.shr_b::<2>(bits)),
            _ => (simd.shl_b::<1>(bits), simd.shr_b::<3>(bits)),
        };
        (simd.or_b(lo, simd.and_b(lo_bit, mask)), simd.or_b(hi, simd.and_b(hi_bit, mask)))
    }
}

/// 6-bit codes: nibbles and two more bits.
pub(crate) struct N4B2;

impl Planes for N4B2 {
    const BYTES: usize = 256 + 128;
    const SIGNED: bool = false;
    const MAX_CODE: i32 = 63;

    fn put(codes: &Codes, out: &mut [u8]) {
        N4::put(codes, out);
        let out = &mut out[..Self::BYTES];
        for (row, codes) in codes.iter().enumerate() {
            let groups = k_groups(codes).map(|group| (group >> 4) & bytes_of(3));
            for (half, groups) in groups.as_chunks::<4>().0.iter().enumerate() {
                let bits = groups.iter().rev().fold(0, |bits, group| bits << 2 | group);
                rows_of(out, 4 + half)[row] = bits.to_le_bytes();
            }
        }
    }
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN] {
        let low = N4::get(bytes, row);
        std::array::from_fn(|col| {
            let (group, byte) = byte_idx(row, col);
            low[col] | ((bytes[256 + (group / 4) * 64 + byte] >> (2 * (group % 4))) & 3) << 4
        })
    }
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B) {
        let (lo, hi) = N4::pair::<S, J>(simd, bytes);
        let (lo_bits, hi_bits) = (vector(simd, bytes, 4), vector(simd, bytes, 5));
        let mask = simd.splat_b(0x30);
        // Bits 2J, 2J + 1 go to bits 4, 5.
        let (lo_bits, hi_bits) = match J {
            0 => (simd.shl_b::<4>(lo_bits), simd.shl_b::<4>(hi_bits)),
            1 => (simd.shl_b::<2>(lo_bits), simd.shl_b::<2>(hi_bits)),
            2 => (lo_bits, hi_bits),
            _ => (simd.shr_b::<2>(lo_bits), simd.shr_b::<2>(hi_bits)),
        };
        (simd.or_b(lo, simd.and_b(lo_bits, mask)), simd.or_b(hi, simd.and_b(hi_bits, mask)))
    }
}

/// 8-bit codes, signed.
pub(crate) struct B8;

impl Planes for B8 {
    const BYTES: usize = 512;
    const SIGNED: bool = true;
    const MAX_CODE: i32 = 128;

    fn put(codes: &Codes, out: &mut [u8]) {
        let out = &mut out[..Self::BYTES];
        for (row, codes) in codes.iter().enumerate() {
            for (group, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                rows_of(out, group)[row] = *codes;
            }
        }
    }
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN] {
        std::array::from_fn(|col| {
            let (group, byte) = byte_idx(row, col);
            bytes[group * 64 + byte]
        })
    }
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B) {
        (vector(simd, bytes, J), vector(simd, bytes, J + 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::portable::Portable;

    pub(super) fn random_codes(n_bits: u32) -> Codes {
        let mut state = 7u32;
        std::array::from_fn(|_| {
            std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8 & ((1u32 << n_bits) - 1) as u8
            })
        })
    }

    /// `get` and `pair` both give back what `put` laid out.
    pub(super) fn check<P: Planes>(codes: &Codes) {
        let mut bytes = vec![0xffu8; P::BYTES];
        P::put(codes, &mut bytes);
        let pairs = [
            P::pair::<_, 0>(Portable, &bytes),
            P::pair::<_, 1>(Portable, &bytes),
            P::pair::<_, 2>(Portable, &bytes),
            P::pair::<_, 3>(Portable, &bytes),
        ];
        for row in 0..LANES {
            assert_eq!(P::get(&bytes, row), codes[row]);
            for col in 0..SUB_LEN {
                let (group, byte) = byte_idx(row, col);
                let pair = &pairs[group % 4];
                let vector = if group < 4 { &pair.0 } else { &pair.1 };
                assert_eq!(vector[byte], codes[row][col], "row {row} column {col}");
            }
        }
    }

    #[test]
    fn planes_give_back_their_codes() {
        check::<N4>(&random_codes(4));
        check::<N4B1>(&random_codes(5));
        check::<N4B2>(&random_codes(6));
        check::<B8>(&random_codes(8));
    }
}
