//! The sampler's randomness: Philox4x32-10, a generator without state.
//!
//! A number is a pure function of (seed, position), so that what one request draws never depends
//! on which others ran beside it or in how many steps the work was cut. Salmon, Moraes, Dror,
//! Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3.3 and table 2.

const N_ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and the square root of three minus one, as in the paper.
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Four random words for a counter under a key.
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..N_ROUNDS {
        let (hi_0, lo_0) = mul_wide(MULTIPLIERS[0], counter[0]);
        let (hi_1, lo_1) = mul_wide(MULTIPLIERS[1], counter[2]);
        counter = [hi_1 ^ counter[1] ^ key[0], lo_1, hi_0 ^ counter[3] ^ key[1], lo_0];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

fn mul_wide(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// A number in [0, 1) with 53 random bits, for position `pos` under `seed`.
pub(crate) fn uniform(seed: u64, pos: u64) -> f64 {
    nth_uniform(seed, pos, 0)
}

/// As [`uniform`]: the `n`-th number of the position, for what needs more than one.
pub(crate) fn nth_uniform(seed: u64, pos: u64, n: u32) -> f64 {
    let words =
        philox4x32_10([pos as u32, (pos >> 32) as u32, n, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(words[1]) << 32 | u64::from(words[0])) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authors' known answers (Random123, file `kat_vectors`).
    #[test]
    fn agrees_with_the_published_vectors() {
        let check = |counter, key, expected| assert_eq!(philox4x32_10(counter, key), expected);
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn uniform_numbers_fill_the_unit_interval() {
        let mut n_per_bin = [0u32; 16];
        for pos in 0..16_000 {
            let number = uniform(7, pos);
            assert!((0.0..1.0).contains(&number), "position {pos}: {number}");
            n_per_bin[(number * 16.0) as usize] += 1;
        }
        // 1000 are expected in each; 200 is more than six standard deviations.
        assert!(n_per_bin.iter().all(|n| n.abs_diff(1000) < 200), "{n_per_bin:?}");
    }

    #[test]
    fn seeds_and_positions_give_different_numbers() {
        assert_ne!(uniform(1, 0), uniform(2, 0));
        assert_ne!(uniform(1, 0), uniform(1 << 40, 0));
        assert_ne!(uniform(1, 0), uniform(1, 1));
        assert_eq!(uniform(1, 5), uniform(1, 5));
    }
}
