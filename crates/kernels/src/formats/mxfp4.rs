//! MXFP4: blocks of 32, `2^(e - 127) · value`, 4-bit floats (one sign, two exponent and one
//! fraction bit). `{ u8 e; u8 qs[16] }`. The table holds twice the values, so the scale is half.

use super::q4_0::split_nibbles;
use super::{bytes_at, gather_bytes};
use crate::format::{QuantFormat, Scale, Scales};
use crate::isa::{LANES, Simd};
use crate::planes::{Lookup, Table};

pub(crate) struct Mxfp4;

/// Twice 0, 0.5, 1, 1.5, 2, 3, 4, 6 and the same negative (ggml's `kvalues_mxfp4`).
pub(crate) struct E2M1;

impl Table for E2M1 {
    const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
}

/// `2^(e - 128)`, which is subnormal for the two smallest. The 255 that the standard makes NaN is
/// one more power of two here, as in ggml.
#[cfg_attr(not(test), allow(dead_code))] // of the definition, which tests hold the kernels to
fn half_scale(e: u8) -> f32 {
    f32::from_bits(match e {
        0 | 1 => 0x0020_0000 << e,
        _ => u32::from(e - 1) << 23,
    })
}

impl QuantFormat for Mxfp4 {
    const BLOCK_LEN: usize = 32;
    const BLOCK_BYTES: usize = 17;
    const SCALE_BYTES: usize = 16;
    const ZERO_POINT: i32 = 0;
    const HAS_OFFSET: bool = false;
    const HALVES: bool = false;
    type Planes = Lookup<E2M1>;

    fn codes(block: &[u8], _sub: usize) -> [u8; 32] {
        Self::Planes::codes(split_nibbles(&block[1..17]))
    }
    fn block_scales(block: &[u8], _sub: usize) -> Scale {
        Scale { factor: [half_scale(block[0]); 2], offset: [0.0; 2] }
    }
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]) {
        gather_bytes(blocks, 0..1, out);
    }
    #[inline(always)]
    fn scales<S: Simd>(simd: S, packed: &[u8], _sub: usize) -> Scales<S> {
        let e = simd.load_u8(bytes_at(packed, 0));
        let normal = simd.bits_to_f(simd.shl_i::<23>(simd.sub_i(e, simd.splat_i(1))));
        // 2^-128 and 2^-127: 1 and 2 times the bits of the first.
        let subnormal = simd.bits_to_f(simd.shl_i::<21>(simd.add_i(e, simd.splat_i(1))));
        let factor = simd.select_less(simd.to_f(e), simd.splat(2.0), subnormal, normal);
        Scales { factor: [factor; 2], offset: [simd.splat(0.0); 2] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::isa::Kernel;

    struct Exponents {
        first: u8,
    }

    impl Kernel for Exponents {
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let exponents: [u8; LANES] = std::array::from_fn(|lane| self.first + lane as u8);
            let mut lanes = [0.0; LANES];
            simd.store(Mxfp4::scales(simd, &exponents, 0).factor[0], &mut lanes);
            for (e, lane) in exponents.into_iter().zip(lanes) {
                let power = 2f64.powi(i32::from(e) - 128) as f32;
                assert_eq!(half_scale(e).to_bits(), power.to_bits(), "{e}");
                assert_eq!(lane.to_bits(), power.to_bits(), "{e}");
            }
        }
    }

    #[test]
    fn every_exponent_is_its_power_of_two() {
        for isa in Isa::available() {
            for first in (0..=255).step_by(LANES) {
                isa.dispatch(Exponents { first });
            }
        }
    }
}
