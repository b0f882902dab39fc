//! Codes of 2 and 3 bits.

use super::{Codes, Planes, SUB_LEN, byte_idx, vector};
use crate::isa::Simd;

/// 2-bit codes.
pub(crate) struct B2;

impl Planes for B2 {
    const BYTES: usize = 128;
    const SIGNED: bool = false;
    const MAX_CODE: i32 = 3;

    fn put(codes: &Codes, out: &mut [u8]) {
        out[..Self::BYTES].fill(0);
        for (row, codes) in codes.iter().enumerate() {
            for (col, code) in codes.iter().enumerate() {
                let (group, byte) = byte_idx(row, col);
                out[(group / 4) * 64 + byte] |= (code & 3) << (2 * (group % 4));
            }
        }
    }
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN] {
        std::array::from_fn(|col| {
            let (group, byte) = byte_idx(row, col);
            (bytes[(group / 4) * 64 + byte] >> (2 * (group % 4))) & 3
        })
    }
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B) {
        let (lo, hi) = (vector(simd, bytes, 0), vector(simd, bytes, 1));
        let mask = simd.splat_b(3);
        // Bits 2J, 2J + 1 go to bits 0, 1.
        let (lo, hi) = match J {
            0 => (lo, hi),
            1 => (simd.shr_b::<2>(lo), simd.shr_b::<2>(hi)),
            2 => (simd.shr_b::<4>(lo), simd.shr_b::<4>(hi)),
            _ => (simd.shr_b::<6>(lo), simd.shr_b::<6>(hi)),
        };
        (simd.and_b(lo, mask), simd.and_b(hi, mask))
    }
}

/// 3-bit codes: two bits and one more.
pub(crate) struct B2B1;

impl Planes for B2B1 {
    const BYTES: usize = 128 + 64;
    const SIGNED: bool = false;
    const MAX_CODE: i32 = 7;

    fn put(codes: &Codes, out: &mut [u8]) {
        B2::put(codes, out);
        let bits = &mut out[128..Self::BYTES];
        bits.fill(0);
        for (row, codes) in codes.iter().enumerate() {
            for (col, code) in codes.iter().enumerate() {
                let (group, byte) = byte_idx(row, col);
                bits[byte] |= ((code >> 2) & 1) << group;
            }
        }
    }
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN] {
        let low = B2::get(bytes, row);
        std::array::from_fn(|col| {
            let (group, byte) = byte_idx(row, col);
            low[col] | ((bytes[128 + byte] >> group) & 1) << 2
        })
    }
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B) {
        let (lo, hi) = B2::pair::<S, J>(simd, bytes);
        let bits = vector(simd, bytes, 2);
        let mask = simd.splat_b(4);
        // Bit J and bit J + 4 both go to bit 2.
        let (lo_bit, hi_bit) = match J {
            0 => (simd.shl_b::<2>(bits), simd.shr_b::<2>(bits)),
            1 => (simd.shl_b::<1>(bits), simd.shr_b::<3>(bits)),
            2 => (bits, simd.shr_b::<4>(bits)),
            _ => (simd.shr_b::<1>(bits), simd.shr_b::<5>(bits)),
        };
        (simd.or_b(lo, simd.and_b(lo_bit, mask)), simd.or_b(hi, simd.and_b(hi_bit, mask)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, random_codes};
    use super::*;
    use crate::isa::LANES;

    #[test]
    fn planes_give_back_their_codes() {
        check::<B2>(&random_codes(2));
        check::<B2B1>(&random_codes(3));
    }

    #[test]
    fn rows_do_not_touch_each_other() {
        for row in 0..LANES {
            let mut codes: Codes = [[0; SUB_LEN]; LANES];
            codes[row] = [7; SUB_LEN];
            check::<B2B1>(&codes);
        }
    }
}
