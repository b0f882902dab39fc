//! Statistics of verdicts, each by a named source.

/// Bounds of an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper one.
    pub high: f64,
}

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Resamplings of a bootstrap: with ten thousand the bounds move by about a hundredth of the
/// interval between seeds (Efron and Tibshirani 1993, section 14.3, want at least a thousand).
const N_RESAMPLES: usize = 10_000;
/// Where they begin: reports of the same answers are the same.
const SEED: u64 = 0x4672_6565_686f_6c64;

/// The 95 % interval of a proportion by Wilson's score method without continuity correction
/// (Wilson 1927; method 3 of Newcombe 1998, Statistics in Medicine 17, 857-872). Of none of none
/// it is everything.
pub fn wilson(n_hits: usize, n_all: usize) -> Interval {
    if n_all == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = n_all as f64;
    let p = n_hits as f64 / n;
    let z2 = Z * Z;
    let centre = 2.0 * n * p + z2;
    let half = Z * (z2 + 4.0 * n * p * (1.0 - p)).sqrt();
    let bound = |sign: f64| ((centre + sign * half) / (2.0 * (n + z2))).clamp(0.0, 1.0);
    Interval { low: bound(-1.0), high: bound(1.0) }
}

/// How likely it is that of the cases on which two candidates disagree at least so many are lost,
/// were either as likely: the one-sided exact test of McNemar (1947; the exact binomial form as in
/// Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91). 1 where they
/// disagree on none.
pub fn mcnemar_worse(n_lost: usize, n_won: usize) -> f64 {
    let n = n_lost + n_won;
    let ln = |k: usize| (k as f64).ln();
    // Logarithm of the binomial coefficient over 2^n, from k = 0 on.
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for k in 0..=n {
        if k >= n_lost {
            sum += ln_term.exp();
        }
        ln_term += ln(n - k) - ln(k + 1);
    }
    sum.min(1.0)
}

/// The 95 % interval of the mean of `values`, by the percentile bootstrap (Efron and Tibshirani
/// 1993, "An Introduction to the Bootstrap", section 13.3): the mean of as many values drawn with
/// replacement, ten thousand times, from a fixed seed.
///
/// # Panics
/// If there are no values.
pub(crate) fn bootstrap_mean(values: &[f64]) -> Interval {
    let means = resampled_means(values);
    // The smallest value that at least so many means do not exceed.
    let at = |part: f64| means[((part * means.len() as f64).ceil() as usize).max(1) - 1];
    Interval { low: at(0.025), high: at(0.975) }
}

/// In rising order.
fn resampled_means(values: &[f64]) -> Vec<f64> {
    assert!(!values.is_empty(), "a bootstrap of nothing");
    let mut random = SplitMix(SEED);
    let n = values.len() as f64;
    let mean = |_| (0..values.len()).map(|_| values[random.below(values.len())]).sum::<f64>() / n;
    let mut means: Vec<f64> = (0..N_RESAMPLES).map(mean).collect();
    means.sort_by(f64::total_cmp);
    means
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Of `n` numbers one; the bias is below `n` / 2^64.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64, within: f64) {
        assert!((found - expected).abs() <= within, "{found}, expected {expected}");
    }

    /// Table I of Newcombe 1998, method 3.
    #[test]
    fn wilson_has_the_published_bounds() {
        for (n_hits, n_all, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let found = wilson(n_hits, n_all);
            close(found.low, low, 5e-5);
            close(found.high, high, 5e-5);
        }
        assert_eq!(wilson(0, 0), Interval { low: 0.0, high: 1.0 });
        assert_eq!(wilson(7, 7).high, 1.0);
    }

    /// Approval of a prime minister in two surveys (Agresti 2002, "Categorical Data Analysis",
    /// section 10.1: 150 and 86 changed their minds); the exact two-sided value is that of R's
    /// `exact2x2`, twice the one-sided one.
    #[test]
    fn mcnemar_has_the_published_value() {
        close(2.0 * mcnemar_worse(150, 86), 3.716e-5, 5e-9);
        close(mcnemar_worse(5, 0), 1.0 / 32.0, 1e-15);
        close(mcnemar_worse(4, 1), 6.0 / 32.0, 1e-15);
        assert_eq!(mcnemar_worse(0, 0), 1.0);
        close(mcnemar_worse(0, 9), 1.0, 1e-12);
        // A thousand disagreements lie beyond what 2^-n can say in a double.
        close(mcnemar_worse(1000, 1000), 0.5089, 5e-5);
    }

    /// The mouse data of Efron and Tibshirani 1993, table 2.1: the treatment group, whose bootstrap
    /// standard error of the mean is 23.36 with resamplings without end (table 2.2).
    #[test]
    fn bootstrap_has_the_published_standard_error() {
        let values = [94.0, 197.0, 16.0, 38.0, 99.0, 141.0, 23.0];
        let means = resampled_means(&values);
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / means.len() as f64;
        close(mean, 86.86, 0.8);
        close(variance.sqrt(), 23.36, 0.5);
    }

    /// Against all 27 resamplings of three values, whose means are known one by one.
    #[test]
    fn bootstrap_agrees_with_its_definition() {
        let found = bootstrap_mean(&[0.0, 3.0, 6.0]);
        // 1 of 27 has the mean 0, and 1 the mean 6: more than 2.5 % each.
        assert_eq!(found, Interval { low: 0.0, high: 6.0 });
        assert_eq!(bootstrap_mean(&[0.5; 9]), Interval { low: 0.5, high: 0.5 });
    }

    /// Of the reference implementation (S. Vigna, splitmix64.c), from the state 1234567.
    #[test]
    fn the_generator_is_splitmix() {
        let mut random = SplitMix(1_234_567);
        let found = [random.next(), random.next(), random.next()];
        assert_eq!(
            found,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }
}
