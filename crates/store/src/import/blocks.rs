//! Values as a GGUF file holds them: `f32`, binary16, and Q8_0 blocks as ggml quantises them.

use gguf::TensorType;

/// Values of a Q8_0 block.
const BLOCK_LEN: usize = 32;

/// The bytes of `values` in `ty`, which is F32, F16 or Q8_0 (of whole blocks).
pub(super) fn encode(values: &[f32], ty: TensorType) -> Result<Vec<u8>, String> {
    // Larger ones would become infinite in binary16, and any of these makes vectors of no numbers.
    const LARGEST: f32 = 65504.0;
    if let Some(idx) = values.iter().position(|x| x.is_nan() || x.abs() > LARGEST) {
        let found = values[idx];
        return Err(format!("value {idx} is {found}, expected at most {LARGEST} either way"));
    }
    match ty {
        TensorType::F32 => Ok(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        TensorType::F16 => Ok(values.iter().flat_map(|x| f16(*x).to_le_bytes()).collect()),
        TensorType::Q8_0 => Ok(values.as_chunks().0.iter().flat_map(q8_0).collect()),
        other => Err(format!("type {other}, expected F32, F16 or Q8_0")),
    }
}

/// A scale of `largest / 127` in binary16, then the codes; ties go away from zero.
fn q8_0(block: &[f32; BLOCK_LEN]) -> [u8; 2 + BLOCK_LEN] {
    let largest = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut bytes = [0; 2 + BLOCK_LEN];
    bytes[..2].copy_from_slice(&f16(scale).to_le_bytes());
    for (byte, x) in bytes[2..].iter_mut().zip(block) {
        *byte = (x * inverse).round() as i8 as u8;
    }
    bytes
}

/// The nearest IEEE-754 binary16, ties to even, of a value that fits.
fn f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // 2^-14: below it the steps are multiples of 2^-24.
    if magnitude < 0x3880_0000 {
        return sign | (x.abs() * 16_777_216.0).round_ties_even() as u16;
    }
    // The exponent counts from another number, and of the fraction 13 bits go; a half is rounded
    // up where the last bit that stays is odd. A carry runs into the exponent, as it should.
    let odd = (magnitude >> 13) & 1;
    sign | ((magnitude - (112 << 23) + 0xfff + odd) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary16_rounds_to_nearest_even() {
        for (x, expected) in [
            (0.0, 0),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (65504.0, 0x7bff),
            (6.103_515_6e-5, 0x0400),
            (6.1e-5, 0x03ff),
            (2.980_232_2e-8, 0),
            (2.980_232_6e-8, 1),
        ] {
            assert_eq!(f16(x), expected, "{x}");
        }
    }

    #[test]
    fn blocks_hold_their_values_within_half_a_step() {
        let mut block = [0.0; BLOCK_LEN];
        assert_eq!(q8_0(&block), [0; 2 + BLOCK_LEN]);
        for (idx, x) in block.iter_mut().enumerate() {
            *x = (idx as f32 * 0.7).sin() * 3.0;
        }
        let largest = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let bytes = q8_0(&block);
        assert_eq!(bytes[..2], f16(largest / 127.0).to_le_bytes());
        for (x, code) in block.iter().zip(&bytes[2..]) {
            let error = x - f32::from(*code as i8) * largest / 127.0;
            assert!(error.abs() <= largest / 253.0, "{x} {error}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, -65600.0] {
            let error = encode(&[0.0, bad], TensorType::F32).unwrap_err();
            assert!(error.starts_with("value 1 is "), "{error}");
        }
        assert!(encode(&[1.0; 32], TensorType::Q4_0).is_err());
    }
}
