//! How much prefill a step may carry beside running streams, from the times of the steps before.
//!
//! A decode step of `n` rows takes `a + b n` seconds, fitted to the steps without prefill; a row of
//! prefill takes `c` more, averaged over the steps with it. Both are of the recent past, so that
//! they follow the load of the machine and the depth of the contexts. A step with `k` rows of
//! prefill then takes `a + b n + c k`, and `k` is chosen so that this is at most
//! [`MOST_STRETCH`] of what the streams have undisturbed. Where one prompt waits for its first
//! token and more others do than streams run, what is beyond 1 grows with their ratio: a burst of
//! questions shall not wait for the one that was answered first. The first step with streams, and
//! one now and then, goes without prefill, so that what "undisturbed" means is known and not
//! forgotten. Times choose when a token comes, never which.

use std::time::Duration;

/// Most that a step may take, in steps without prefill: the bound kept is 2.5 for the 95th
/// percentile of the time between tokens, and estimates err.
const MOST_STRETCH: f64 = 2.1;
/// Fewest rows of prefill of a step, so that prompts always go on.
const MIN_ROWS: usize = 1;
/// Rows of prefill beside streams where no prefill was measured yet.
const FIRST_ROWS: usize = 32;
/// Steps with prefill after which one goes without.
const PROBE_INTERVAL: u32 = 64;
/// Steps from one in which a prompt is read whole to the next: fewer than one in twenty.
const WHOLE_INTERVAL: u32 = 24;
/// What remains of an observation's weight after the next.
const MEMORY: f64 = 0.95;
/// Weight of the newest observation of prefill.
const ROW_STEP: f64 = 0.25;
/// Longer than so many times the expected, a step was held up by something else.
const MOST_SURPRISE: f64 = 4.0;

/// Recent times of steps.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Weighted sums over decode steps: 1, rows, rows squared, seconds, seconds times rows.
    sums: [f64; 5],
    /// Seconds of a row of prefill beside decodes, and in steps of nothing else.
    beside_seconds: Option<f64>,
    alone_seconds: Option<f64>,
    /// Steps with prefill since the last without.
    n_mixed: u32,
    /// Steps with streams that must pass before a prompt may be read whole beside them.
    n_until_whole: u32,
    /// Whether the next step reads one.
    is_whole: bool,
}

/// How fast the work goes on, waiting for turns at the cores included: what whoever waits for it
/// goes by. [`Pace`] is about the steps themselves.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    tokens_per_second: f64,
}

impl Speed {
    /// Takes in a step of so many rows, from when it could have begun to its end.
    pub(crate) fn observe(&mut self, n_rows: usize, duration: Duration) {
        let rate = n_rows as f64 / duration.as_secs_f64().max(1e-9);
        self.tokens_per_second = match self.tokens_per_second {
            0.0 => rate,
            before => before + (rate - before) / 16.0,
        };
    }

    /// Tokens worked on in a second; 0 before the first step.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.tokens_per_second
    }
}

impl Pace {
    /// Rows of prefill for the next step, in which `n_decode` sequences decode and `n_prompts`
    /// wait for their first token; at most `n_most`. With `n_whole` rows one of them would have it.
    pub(crate) fn n_prefill(
        &mut self,
        n_decode: usize,
        n_prompts: usize,
        n_whole: Option<usize>,
        n_most: usize,
    ) -> usize {
        self.is_whole = false;
        if n_decode == 0 {
            return n_most;
        }
        let n_fitting = self.n_fitting(n_decode, n_prompts, n_most);
        let n_whole = n_whole.filter(|_| self.n_until_whole == 0).unwrap_or(0).min(n_most);
        self.is_whole = n_whole > n_fitting;
        n_fitting.max(n_whole)
    }

    /// Rows of prefill that keep the rhythm.
    fn n_fitting(&self, n_decode: usize, n_prompts: usize, n_most: usize) -> usize {
        // The first step with streams goes without as well: nothing can be held against it yet.
        let step = self.decode_seconds(n_decode).filter(|_| self.n_mixed < PROBE_INTERVAL);
        let Some(step) = step else { return 0 };
        // Few rows at a time cost more than many.
        let row_seconds = self.beside_seconds.or(self.alone_seconds.map(|seconds| 1.5 * seconds));
        let Some(row) = row_seconds else { return FIRST_ROWS.min(n_most) };
        let n_others = n_prompts.saturating_sub(1);
        let ratio = (n_others as f64 / n_decode as f64).max(1.0);
        let n_rows = (MOST_STRETCH - 1.0) * ratio * step / row.max(1e-9);
        (n_rows as usize).clamp(MIN_ROWS, n_most.max(MIN_ROWS))
    }

    /// Whether the next step's slice was made larger, so that a prompt is read whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Takes in how long a step took: `n_decode` rows of decoding sequences, guesses included, and
    /// `n_prefill` of prompts.
    pub(crate) fn observe(&mut self, n_decode: usize, n_prefill: usize, seconds: f64) {
        if n_decode > 0 {
            self.n_until_whole = self.n_until_whole.saturating_sub(1);
            if std::mem::take(&mut self.is_whole) {
                // Many rows at once are cheaper than the few that the estimate is for.
                self.n_until_whole = WHOLE_INTERVAL - 1;
                return;
            }
        }
        if n_prefill == 0 {
            self.n_mixed = 0;
            self.observe_decode(n_decode as f64, seconds);
            return;
        }
        if n_decode == 0 {
            self.alone_seconds = Some(seconds / n_prefill as f64);
            return;
        }
        self.n_mixed += 1;
        let Some(undisturbed) = self.decode_seconds(n_decode) else { return };
        // A step that seems to cost nothing was faster than those before; half is left to doubt.
        let row = (seconds - undisturbed).max(0.25 * undisturbed) / n_prefill as f64;
        self.beside_seconds = Some(match self.beside_seconds {
            None => row,
            Some(before) => before + (row.min(MOST_SURPRISE * before) - before) * ROW_STEP,
        });
    }

    fn observe_decode(&mut self, n_rows: f64, seconds: f64) {
        let expected = self.decode_seconds(n_rows as usize);
        let seconds = expected.map_or(seconds, |expected| seconds.min(MOST_SURPRISE * expected));
        let newest = [1.0, n_rows, n_rows * n_rows, seconds, seconds * n_rows];
        for (sum, newest) in self.sums.iter_mut().zip(newest) {
            *sum = *sum * MEMORY + newest;
        }
    }

    /// The fitted time of a decode step; `None` before the first.
    fn decode_seconds(&self, n_rows: usize) -> Option<f64> {
        let [n, rows, squares, seconds, products] = self.sums;
        if n == 0.0 {
            return None;
        }
        let (mean_rows, mean_seconds) = (rows / n, seconds / n);
        let variance = squares / n - mean_rows * mean_rows;
        // With one count of rows alone there is no slope to be seen.
        let slope = match variance {
            0.05.. => (products / n - mean_rows * mean_seconds) / variance,
            _ => 0.0,
        };
        let slope = slope.clamp(0.0, mean_seconds / mean_rows);
        let found = mean_seconds + slope * (n_rows as f64 - mean_rows);
        Some(found.max(0.25 * mean_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a machine whose steps take `time(n_decode, n_prefill)`; returns the last budgets.
    fn settle(time: impl Fn(usize, usize) -> f64, n_decode: usize, n_prompts: usize) -> Vec<usize> {
        let mut pace = Pace::default();
        pace.observe(0, 256, time(0, 256));
        (0..20).for_each(|i| pace.observe(1 + i % 4, 0, time(1 + i % 4, 0)));
        let budgets = (0..300).map(|_| {
            let n_prefill = pace.n_prefill(n_decode, n_prompts, None, 256);
            pace.observe(n_decode, n_prefill, time(n_decode, n_prefill));
            n_prefill
        });
        budgets.skip(100).collect()
    }

    #[test]
    fn streams_are_stretched_by_no_more_than_the_bound() {
        for (a, b, c) in [(4e-3, 1e-3, 0.7e-3), (40e-3, 2e-3, 5e-3), (1e-3, 0.3e-3, 0.1e-3)] {
            for n_decode in [1, 4, 15] {
                // Few rows at a time cost more than many.
                let time = |n: usize, k: usize| {
                    let row = c * (1.0 + 4.0 / (k as f64 + 1.0));
                    if n == 0 { c * k as f64 } else { a + b * n as f64 + row * k as f64 }
                };
                let budgets = settle(time, n_decode, 1);
                for &k in budgets.iter().filter(|&&k| k > MIN_ROWS) {
                    let stretch = time(n_decode, k) / time(n_decode, 0);
                    assert!((1.3..2.3).contains(&stretch), "{a} {b} {c} {n_decode}: {stretch}");
                }
                let n_probes = budgets.iter().filter(|&&k| k == 0).count();
                assert!((2..=4).contains(&n_probes), "{n_probes} probes");
            }
        }
    }

    #[test]
    fn many_prompts_outweigh_few_streams() {
        let time = |n: usize, k: usize| 4e-3 + 1e-3 * n as f64 + 0.7e-3 * k as f64;
        let widest = |n_decode, n_prompts| settle(time, n_decode, n_prompts).into_iter().max();
        assert!(widest(1, 1) < Some(10) && widest(8, 8) < Some(24));
        assert!(widest(1, 31) > Some(200) && widest(8, 24) > Some(48));
    }

    #[test]
    fn with_nothing_to_disturb_prompts_take_all() {
        assert_eq!(Pace::default().n_prefill(0, 1, None, 512), 512);
    }

    #[test]
    fn what_streams_take_undisturbed_is_measured_first() {
        let mut pace = Pace::default();
        pace.observe(0, 256, 0.2);
        assert_eq!(pace.n_prefill(1, 1, None, 256), 0);
        pace.observe(1, 0, 0.005);
        assert!((1..6).contains(&pace.n_prefill(1, 1, None, 256)));
        // Where a row of prefill is not known, some are tried.
        let mut pace = Pace::default();
        pace.observe(3, 0, 0.005);
        assert_eq!(pace.n_prefill(3, 1, None, 512), FIRST_ROWS);
    }

    #[test]
    fn short_prompts_are_read_whole_in_few_steps() {
        let time = |n: usize, k: usize| 4e-3 + 1e-3 * n as f64 + 0.7e-3 * k as f64;
        let mut pace = Pace::default();
        (0..50).for_each(|_| pace.observe(2, 0, time(2, 0)));
        let budgets: Vec<usize> = (0..1000)
            .map(|_| {
                let n_prefill = pace.n_prefill(2, 1, Some(171), 256);
                pace.observe(2, n_prefill, time(2, n_prefill));
                n_prefill
            })
            .collect();
        let whole: Vec<usize> = (0..budgets.len()).filter(|&i| budgets[i] == 171).collect();
        assert_eq!(whole[0], 0);
        assert!(whole.windows(2).all(|pair| pair[1] - pair[0] == WHOLE_INTERVAL as usize));
        assert!(budgets.iter().all(|&k| k == 171 || k <= FIRST_ROWS));
        // What fits the rhythm anyway does not count.
        let mut pace = Pace::default();
        (0..50).for_each(|_| pace.observe(2, 0, time(2, 0)));
        assert!(pace.n_prefill(2, 1, Some(1), 256) > 1 && !pace.is_whole);
    }

    #[test]
    fn a_step_that_was_held_up_does_not_count_for_much() {
        let mut pace = Pace::default();
        (0..50).for_each(|_| pace.observe(1, 0, 0.01));
        let before = pace.decode_seconds(1).unwrap();
        pace.observe(1, 0, 10.0);
        assert!(pace.decode_seconds(1).unwrap() < before * 1.5);
    }
}
