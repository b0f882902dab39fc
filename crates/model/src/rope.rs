//! Rope frequencies and their angles' sines (Su et al. 2021, section 3.4.2).
//!
//! Frequencies are kept in f64 and angles are taken in f64 by `libm`, the crate: at position
//! 100,000 an f32 angle would be off by hundredths, and the system's libm differs by system.

/// How fast the pairs of a head rotate.
#[derive(Clone, Debug)]
pub(crate) struct RopeParams {
    /// Leading elements of a head that rotate; even.
    pub(crate) n_rot: usize,
    /// Pair `i` turns by `base^(-2i / n_rot)` per position.
    pub(crate) base: f32,
    pub(crate) scaling: Scaling,
}

/// How a model was stretched beyond the context it was first trained for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Positions are divided by `factor` (Chen et al. 2023).
    Linear {
        factor: f32,
    },
    /// Slow pairs are divided, fast ones kept, and the scores sharpened (Peng et al. 2023).
    Yarn {
        factor: f32,
        n_ctx_original: usize,
        beta_fast: f32,
        beta_slow: f32,
    },
}

/// The frequencies of one kind of layer.
pub(crate) struct Rope {
    /// Radians per position, `[n_rot / 2]`.
    frequencies: Vec<f64>,
    /// What sines and cosines are multiplied by: yarn's sharpening.
    magnitude: f64,
}

impl Rope {
    /// `divisors` is the file's `rope_freqs.weight`, `[n_rot / 2]`, where it has one (Llama 3.1).
    pub(crate) fn new(params: &RopeParams, divisors: Option<&[f32]>) -> Self {
        let frequencies = (0..params.n_rot / 2).map(|pair| {
            let exponent = -2.0 * pair as f64 / params.n_rot as f64;
            let divisor = divisors.map_or(1.0, |divisors| f64::from(divisors[pair]));
            let frequency = libm::pow(f64::from(params.base), exponent) / divisor;
            frequency * params.slowdown(pair)
        });
        let magnitude = match params.scaling {
            Scaling::Yarn { factor, .. } => 1.0 + 0.1 * libm::log(f64::from(factor)),
            _ => 1.0,
        };
        Self { frequencies: frequencies.collect(), magnitude }
    }

    /// Writes the angles' cosines and sines, both `[n_tokens, n_rot / 2]`.
    pub(crate) fn fill(
        &self,
        positions: impl Iterator<Item = u32>,
        cos: &mut [f32],
        sin: &mut [f32],
    ) {
        let n_pairs = self.frequencies.len();
        let rows = cos.chunks_exact_mut(n_pairs).zip(sin.chunks_exact_mut(n_pairs));
        for (pos, (cos, sin)) in positions.zip(rows) {
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&self.frequencies) {
                let (s, c) = libm::sincos(f64::from(pos) * frequency);
                *cos = (c * self.magnitude) as f32;
                *sin = (s * self.magnitude) as f32;
            }
        }
    }
}

impl RopeParams {
    /// What the frequency of `pair` is multiplied by.
    fn slowdown(&self, pair: usize) -> f64 {
        match self.scaling {
            Scaling::None => 1.0,
            Scaling::Linear { factor } => 1.0 / f64::from(factor),
            Scaling::Yarn { factor, n_ctx_original, beta_fast, beta_slow } => {
                // The pair that turns `turns` times over the original context.
                let pair_of = |turns: f32| {
                    let wavelength =
                        n_ctx_original as f64 / (f64::from(turns) * 2.0 * std::f64::consts::PI);
                    self.n_rot as f64 * libm::log(wavelength)
                        / (2.0 * libm::log(f64::from(self.base)))
                };
                let low = libm::floor(pair_of(beta_fast)).max(0.0);
                let high = libm::ceil(pair_of(beta_slow)).min(self.n_rot as f64 - 1.0);
                let ramp = ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                ramp / f64::from(factor) + (1.0 - ramp)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(scaling: Scaling, divisors: Option<&[f32]>) -> Vec<f64> {
        Rope::new(&RopeParams { n_rot: 8, base: 10_000.0, scaling }, divisors).frequencies
    }

    #[test]
    fn frequencies_fall_by_powers_of_the_base() {
        for (got, expected) in frequencies(Scaling::None, None).iter().zip([1.0, 0.1, 0.01, 0.001])
        {
            assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        }
    }

    #[test]
    fn scalings_divide_what_they_should() {
        let plain = frequencies(Scaling::None, None);
        let linear = frequencies(Scaling::Linear { factor: 4.0 }, None);
        let divided = frequencies(Scaling::None, Some(&[1.0, 2.0, 4.0, 8.0]));
        let yarn =
            Scaling::Yarn { factor: 4.0, n_ctx_original: 2048, beta_fast: 32.0, beta_slow: 1.0 };
        let yarn = frequencies(yarn, None);
        for pair in 0..4 {
            assert_eq!(linear[pair] * 4.0, plain[pair]);
            assert_eq!(divided[pair] * f64::from(1 << pair), plain[pair]);
        }
        // 2048 positions: pair 0 turns 326 times and is kept, pair 3 turns 0.3 times. The ramp
        // runs over pairs floor(1.008) = 1 to ceil(2.513) = 3, so pair 2 is half way.
        assert_eq!(yarn[0], plain[0]);
        assert_eq!(yarn[1], plain[1]);
        assert_eq!(yarn[2], plain[2] * 0.625);
        assert_eq!(yarn[3], plain[3] / 4.0);
    }

    #[test]
    fn angles_stay_exact_far_out() {
        let rope =
            Rope::new(&RopeParams { n_rot: 2, base: 10_000.0, scaling: Scaling::None }, None);
        let (mut cos, mut sin) = ([0.0], [0.0]);
        rope.fill(std::iter::once(1_000_000), &mut cos, &mut sin);
        // An f32 argument reduction would be wrong in the second digit here.
        assert_eq!(cos, [0.936_752_127_533_144_7_f64 as f32]);
        assert_eq!(sin, [-0.349_993_502_171_292_94_f64 as f32]);
    }
}
