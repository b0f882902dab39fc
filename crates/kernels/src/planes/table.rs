//! 4-bit indices into a table of 16 signed bytes. A code is what the table holds, so nothing but
//! this file knows of the indices.

use std::marker::PhantomData;

use super::{Codes, N4, Planes, SUB_LEN};
use crate::isa::Simd;

/// Which table.
pub(crate) trait Table {
    /// What the indices stand for; none is -128, which the dot product of AVX2 could not take.
    const VALUES: [i8; 16];
}

/// The index of each value, for packing. Where a value stands twice either index will do.
const fn inverse(values: [i8; 16]) -> [u8; 256] {
    let mut indices = [0; 256];
    let mut idx = 0;
    while idx < 16 {
        indices[values[idx] as u8 as usize] = idx as u8;
        idx += 1;
    }
    indices
}

/// Codes that are looked up in a table; they lie as 4-bit codes do.
pub(crate) struct Lookup<T>(PhantomData<T>);

impl<T: Table> Lookup<T> {
    const BYTE_VALUES: [u8; 16] = {
        let mut bytes = [0; 16];
        let mut idx = 0;
        while idx < 16 {
            bytes[idx] = T::VALUES[idx] as u8;
            idx += 1;
        }
        bytes
    };
    const INDICES: [u8; 256] = inverse(T::VALUES);

    /// The codes of indices.
    pub(crate) fn codes(indices: [u8; SUB_LEN]) -> [u8; SUB_LEN] {
        indices.map(|idx| Self::BYTE_VALUES[usize::from(idx)])
    }
}

impl<T: Table> Planes for Lookup<T> {
    const BYTES: usize = N4::BYTES;
    const SIGNED: bool = true;
    const MAX_CODE: i32 = 127;

    fn put(codes: &Codes, out: &mut [u8]) {
        let indices = codes.map(|codes| codes.map(|code| Self::INDICES[usize::from(code)]));
        N4::put(&indices, out);
    }
    fn get(bytes: &[u8], row: usize) -> [u8; SUB_LEN] {
        Self::codes(N4::get(bytes, row))
    }
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(simd: S, bytes: &[u8]) -> (S::B, S::B) {
        let (lo, hi) = N4::pair::<S, J>(simd, bytes);
        (simd.lookup_b(&Self::BYTE_VALUES, lo), simd.lookup_b(&Self::BYTE_VALUES, hi))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, random_codes};
    use super::*;
    use crate::formats::{iq4_nl::NonLinear, mxfp4::E2M1};

    #[test]
    fn planes_give_back_what_the_table_holds() {
        check::<Lookup<NonLinear>>(&random_codes(4).map(Lookup::<NonLinear>::codes));
        check::<Lookup<E2M1>>(&random_codes(4).map(Lookup::<E2M1>::codes));
    }

    #[test]
    fn no_value_is_too_low_for_a_dot_product() {
        assert!(NonLinear::VALUES.iter().chain(&E2M1::VALUES).all(|value| *value != -128));
    }
}
