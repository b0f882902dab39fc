//! Weights and values for tests: seeded, finite, and the worst a file could hold.

use crate::format::Format;
use crate::isa::portable::f32_to_f16;

struct Lcg(u32);

impl Lcg {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }
    /// Between -1 and 1.
    fn value(&mut self) -> f32 {
        self.next() as f32 / (1 << 23) as f32 - 1.0
    }
}

pub(crate) fn random_values(len: usize, seed: u32) -> Vec<f32> {
    let mut lcg = Lcg(seed);
    (0..len).map(|_| lcg.value() * 3.0).collect()
}

/// Where the binary16 scales of a block are.
fn scales_at(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4_NL | Format::IQ4_XS => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::F32 | Format::F16 | Format::BF16 | Format::MXFP4 => &[],
    }
}

/// Where the exponent byte of a block is.
fn exponent_at(format: Format) -> Option<usize> {
    (format == Format::MXFP4).then_some(0)
}

/// A matrix of random codes with sensible scales.
pub(crate) fn random_matrix(format: Format, n_rows: usize, n_cols: usize, seed: u32) -> Vec<u8> {
    let mut lcg = Lcg(seed);
    let n_blocks = n_rows * n_cols / format.block_len();
    let mut bytes = Vec::new();
    for _ in 0..n_blocks {
        let start = bytes.len();
        match format {
            Format::F32 => bytes.extend(lcg.value().to_le_bytes()),
            Format::F16 => bytes.extend(f32_to_f16(lcg.value()).to_le_bytes()),
            Format::BF16 => bytes.extend(((lcg.value().to_bits() >> 16) as u16).to_le_bytes()),
            _ => bytes.extend((0..format.block_bytes()).map(|_| lcg.next() as u8)),
        }
        for at in scales_at(format) {
            let scale = f32_to_f16(lcg.value() * 0.02).to_le_bytes();
            bytes[start + at..start + at + 2].copy_from_slice(&scale);
        }
        if let Some(at) = exponent_at(format) {
            bytes[start + at] = 115 + (lcg.next() % 10) as u8;
        }
    }
    bytes
}

/// Ways in which a matrix can be extreme.
#[derive(Clone, Copy)]
pub(crate) enum Adversary {
    AllOnes,
    AllZero,
    MostNegative,
    Subnormal,
    Largest,
}

impl Adversary {
    pub(crate) const ALL: [Adversary; 5] = [
        Adversary::AllOnes,
        Adversary::AllZero,
        Adversary::MostNegative,
        Adversary::Subnormal,
        Adversary::Largest,
    ];
}

pub(crate) fn adversarial_matrix(
    format: Format,
    n_rows: usize,
    n_cols: usize,
    adversary: Adversary,
) -> Vec<u8> {
    let (fill, scale, exponent) = match adversary {
        Adversary::AllOnes => (0xff, 0x3c00, 128),
        Adversary::AllZero => (0x00, 0x3c00, 128),
        Adversary::MostNegative => (0x80, 0xbc00, 2),
        Adversary::Subnormal => (0xff, 0x0001, 1),
        // Any larger and sums of products would not be finite.
        Adversary::Largest => (0x7f, 0x7bff_u16, 236),
    };
    let n_blocks = n_rows * n_cols / format.block_len();
    let mut bytes = vec![fill; n_blocks * format.block_bytes()];
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for at in scales_at(format) {
            block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if let Some(at) = exponent_at(format) {
            block[at] = exponent;
        }
    }
    bytes
}
