//! Norms, activations, sums: the small things between matrix products.
//!
//! Sums across a row use 16 lane sums in column order and a fixed tree over the lanes, so they are
//! the same on every instruction set. A row is worked on by one thread.

use crate::Cpu;
use crate::isa::{Kernel, LANES, Simd};

impl Cpu {
    /// Root-mean-square norm of each row (Zhang and Sennrich 2019): `x / sqrt(mean(x²) + eps) · w`.
    ///
    /// `x` and `out` are `[n_rows, weight.len()]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let len = weight.len();
        assert_eq!(x.len(), out.len(), "rms_norm: lengths of input and output");
        assert!(len > 0 && x.len().is_multiple_of(len), "rms_norm: rows of {len}");
        self.for_each_row(out, len, 1, |row, out| {
            out.copy_from_slice(&x[row * len..][..len]);
            self.isa().dispatch(RmsNorm { x: out, weight, eps });
        });
    }

    /// As [`Cpu::rms_norm`], in place; also for norms per head (`weight.len()` = head_dim).
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn rms_norm_in_place(&self, x: &mut [f32], weight: &[f32], eps: f32) {
        let len = weight.len();
        assert!(len > 0 && x.len().is_multiple_of(len), "rms_norm: rows of {len}");
        self.for_each_row(x, len, 1, |_, x| self.isa().dispatch(RmsNorm { x, weight, eps }));
    }

    /// Layer norm of each row (Ba et al. 2016): `(x - mean) / sqrt(variance + eps) · w + b`.
    ///
    /// `x` is `[n_rows, weight.len()]`. The variance is that of the rows about their means, so a
    /// large mean costs no digits.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn layer_norm_in_place(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let len = weight.len();
        assert_eq!(bias.len(), len, "layer_norm: lengths of weight and bias");
        assert!(len > 0 && x.len().is_multiple_of(len), "layer_norm: rows of {len}");
        self.for_each_row(x, len, 1, |_, x| {
            self.isa().dispatch(LayerNorm { x, weight, bias, eps });
        });
    }

    /// `acc += x`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&self, acc: &mut [f32], x: &[f32]) {
        assert_eq!(acc.len(), x.len(), "add: lengths");
        self.for_each_row(acc, ROW, 1, |row, acc| {
            let x = &x[row * ROW..][..acc.len()];
            acc.iter_mut().zip(x).for_each(|(acc, x)| *acc += x);
        });
    }

    /// Adds `bias` to each row of `x`, which is `[n_rows, bias.len()]`.
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn add_bias(&self, x: &mut [f32], bias: &[f32]) {
        assert!(!bias.is_empty() && x.len().is_multiple_of(bias.len()), "add_bias: row length");
        self.for_each_row(x, bias.len(), 1, |_, x| {
            x.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        });
    }

    /// `x *= factor`.
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        self.for_each_row(x, ROW, 1, |_, x| x.iter_mut().for_each(|x| *x *= factor));
    }

    /// `out = silu(gate) · up` (SwiGLU; Shazeer 2020), `silu(x) = x / (1 + exp(-x))`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn silu_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        self.gated(gate, up, out, Gate::Silu);
    }

    /// `out = gelu(gate) · up` with the tanh form of GELU (Hendrycks and Gimpel 2016), which equals
    /// `x / (1 + exp(-2u))`, `u = √(2/π) (x + 0.044715 x³)`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gelu_tanh_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        self.gated(gate, up, out, Gate::GeluTanh);
    }

    /// `out = gelu(x) = x · Φ(x)` in its exact form (Hendrycks and Gimpel 2016).
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gelu(&self, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "gelu: lengths");
        self.for_each_row(out, ROW, 4, |row, out| {
            self.isa().dispatch(Gelu { x: &x[row * ROW..][..out.len()], out });
        });
    }

    fn gated(&self, gate: &[f32], up: &[f32], out: &mut [f32], kind: Gate) {
        assert!(gate.len() == out.len() && up.len() == out.len(), "gated activation: lengths");
        self.for_each_row(out, ROW, 4, |row, out| {
            let (gate, up) = (&gate[row * ROW..][..out.len()], &up[row * ROW..][..out.len()]);
            self.isa().dispatch(Gated { gate, up, out, kind });
        });
    }

    /// `x = cap · tanh(x / cap)` (soft capping; Gemma 2 report, section 2.2).
    pub fn soft_cap(&self, x: &mut [f32], cap: f32) {
        self.for_each_row(x, ROW, 4, |_, x| self.isa().dispatch(SoftCap { x, cap }));
    }
}

/// Values of a piece of a long vector without rows.
const ROW: usize = 1024;

/// The first `LANES` values of `x`, or fewer followed by zeros.
#[inline(always)]
fn padded(x: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..x.len()].copy_from_slice(x);
    lanes
}

struct RmsNorm<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for RmsNorm<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut sum = simd.splat(0.0);
        let (chunks, tail) = self.x.as_chunks::<LANES>();
        for chunk in chunks {
            let x = simd.load(chunk);
            sum = simd.fma(x, x, sum);
        }
        let rest = simd.load(&padded(tail));
        sum = simd.fma(rest, rest, sum);
        let mean = simd.sum(sum) / self.x.len() as f32;
        let factor = simd.splat(1.0 / (mean + self.eps).sqrt());
        let (chunks, tail) = self.x.as_chunks_mut::<LANES>();
        let (weights, weight_tail) = self.weight.as_chunks::<LANES>();
        for (chunk, weight) in chunks.iter_mut().zip(weights) {
            let x = simd.mul(simd.mul(simd.load(chunk), factor), simd.load(weight));
            simd.store(x, chunk);
        }
        let x = simd.mul(simd.mul(rest, factor), simd.load(&padded(weight_tail)));
        let mut lanes = [0.0; LANES];
        simd.store(x, &mut lanes);
        let n = tail.len();
        tail.copy_from_slice(&lanes[..n]);
    }
}

struct LayerNorm<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl Kernel for LayerNorm<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let len = self.x.len() as f32;
        let mut sum = simd.splat(0.0);
        let (chunks, tail) = self.x.as_chunks::<LANES>();
        for chunk in chunks {
            sum = simd.add(simd.load(chunk), sum);
        }
        sum = simd.add(simd.load(&padded(tail)), sum);
        let mean = simd.splat(simd.sum(sum) / len);
        let mut squares = simd.splat(0.0);
        let (chunks, tail) = self.x.as_chunks_mut::<LANES>();
        for chunk in &mut *chunks {
            let x = simd.sub(simd.load(chunk), mean);
            simd.store(x, chunk);
            squares = simd.fma(x, x, squares);
        }
        let mut lanes = [0.0; LANES];
        simd.store(simd.sub(simd.load(&padded(tail)), mean), &mut lanes);
        tail.copy_from_slice(&lanes[..tail.len()]);
        // Lanes behind the row hold the mean's negative now: they count as zeros again.
        let rest = simd.load(&padded(tail));
        squares = simd.fma(rest, rest, squares);
        let factor = simd.splat(1.0 / (simd.sum(squares) / len + self.eps).sqrt());
        let (weights, weight_tail) = self.weight.as_chunks::<LANES>();
        let (biases, bias_tail) = self.bias.as_chunks::<LANES>();
        for ((chunk, weight), bias) in chunks.iter_mut().zip(weights).zip(biases) {
            let x = simd.mul(simd.load(chunk), factor);
            simd.store(simd.fma(x, simd.load(weight), simd.load(bias)), chunk);
        }
        let x = simd.mul(rest, factor);
        let (weight, bias) = (simd.load(&padded(weight_tail)), simd.load(&padded(bias_tail)));
        simd.store(simd.fma(x, weight, bias), &mut lanes);
        tail.copy_from_slice(&lanes[..tail.len()]);
    }
}

struct Gelu<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Gelu<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (chunks, tail) = self.x.as_chunks();
        let (outs, out_tail) = self.out.as_chunks_mut();
        for (x, out) in chunks.iter().zip(outs) {
            simd.store(gelu(simd, simd.load(x)), out);
        }
        let mut lanes = [0.0; LANES];
        simd.store(gelu(simd, simd.load(&padded(tail))), &mut lanes);
        out_tail.copy_from_slice(&lanes[..out_tail.len()]);
    }
}

#[derive(Clone, Copy)]
enum Gate {
    Silu,
    GeluTanh,
}

struct Gated<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
    kind: Gate,
}

impl Kernel for Gated<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (gates, gate_tail) = self.gate.as_chunks();
        let (ups, up_tail) = self.up.as_chunks();
        let (outs, out_tail) = self.out.as_chunks_mut();
        for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
            gated(simd, self.kind, gate, up, out);
        }
        let mut lanes = [0.0; LANES];
        gated(simd, self.kind, &padded(gate_tail), &padded(up_tail), &mut lanes);
        out_tail.copy_from_slice(&lanes[..out_tail.len()]);
    }
}

#[inline(always)]
fn gated<S: Simd>(
    simd: S,
    kind: Gate,
    gate: &[f32; LANES],
    up: &[f32; LANES],
    out: &mut [f32; LANES],
) {
    let x = simd.load(gate);
    let y = match kind {
        Gate::Silu => silu(simd, x),
        Gate::GeluTanh => gelu_tanh(simd, x),
    };
    simd.store(simd.mul(y, simd.load(up)), out);
}

/// `max(x, 0) - |x| / 2 · erfc(|x| / √2)`, with `erfc(z) = t · p(t) · exp(-z²)` and
/// `t = 1 / (1 + 0.3275911 z)` (Abramowitz and Stegun 1964, 7.1.26: absolute error of erfc below
/// 1.5e-7). Of a negative x nothing is subtracted that is nearly the same, so the tail keeps its
/// digits.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::F) -> S::F {
    let (zero, one) = (simd.splat(0.0), simd.splat(1.0));
    let abs = simd.max(x, simd.sub(zero, x));
    let z = simd.mul(abs, simd.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = simd.div(one, simd.fma(z, simd.splat(0.327_591_1), one));
    let mut p = simd.splat(1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = simd.fma(p, t, simd.splat(coefficient));
    }
    let erfc = simd.mul(simd.mul(p, t), exp(simd, simd.mul(simd.sub(zero, z), z)));
    let half = simd.mul(abs, simd.splat(-0.5));
    simd.fma(half, erfc, simd.max(x, zero))
}

struct SoftCap<'a> {
    x: &'a mut [f32],
    cap: f32,
}

impl Kernel for SoftCap<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (chunks, tail) = self.x.as_chunks_mut();
        for x in chunks {
            simd.store(soft_cap(simd, simd.load(x), self.cap), x);
        }
        let mut lanes = [0.0; LANES];
        simd.store(soft_cap(simd, simd.load(&padded(tail)), self.cap), &mut lanes);
        tail.copy_from_slice(&lanes[..tail.len()]);
    }
}

#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::F) -> S::F {
    let one = simd.splat(1.0);
    simd.div(x, simd.add(one, exp(simd, simd.sub(simd.splat(0.0), x))))
}

#[inline(always)]
fn gelu_tanh<S: Simd>(simd: S, x: S::F) -> S::F {
    let cubic = simd.fma(simd.mul(x, x), simd.splat(0.044_715), simd.splat(1.0));
    // -2 √(2/π) x (1 + 0.044715 x²)
    let minus_2u = simd.mul(simd.mul(x, simd.splat(-1.595_769)), cubic);
    simd.div(x, simd.add(simd.splat(1.0), exp(simd, minus_2u)))
}

/// `cap · tanh(x / cap)`, with `tanh(y) = 1 - 2 / (exp(2y) + 1)`.
#[inline(always)]
pub(crate) fn soft_cap<S: Simd>(simd: S, x: S::F, cap: f32) -> S::F {
    let one = simd.splat(1.0);
    let e = exp(simd, simd.mul(x, simd.splat(2.0 / cap)));
    let tanh = simd.sub(one, simd.div(simd.splat(2.0), simd.add(e, one)));
    simd.mul(simd.splat(cap), tanh)
}

/// The exponential function; relative error below 2⁻²², 0 below -87.3, finite up to 88.
///
/// `2ⁿ · p(r)` with `n = round(x / ln 2)` and `p` the Taylor polynomial of degree 7 on
/// `|r| ≤ ln 2 / 2`, whose remainder is below 2⁻²⁷.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    const LOWEST: f32 = -87.3;
    // Also gives a not-a-number lane a finite value: `min` and `max` return their second operand.
    let clamped = simd.max(simd.min(x, simd.splat(88.0)), simd.splat(LOWEST));
    let n = simd.round(simd.mul(clamped, simd.splat(std::f32::consts::LOG2_E)));
    let n_f = simd.to_f(n);
    // ln 2 in two parts, so that the first product is exact.
    let r = simd.fma(n_f, simd.splat(-0.693_359_4), clamped);
    let r = simd.fma(n_f, simd.splat(2.121_944_4e-4), r);
    let mut p = simd.splat(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = simd.fma(p, r, simd.splat(coefficient));
    }
    let power = simd.bits_to_f(simd.shl_i::<23>(simd.add_i(n, simd.splat_i(127))));
    let zero = simd.splat(0.0);
    simd.select_less(x, simd.splat(LOWEST), zero, simd.mul(p, power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::isa::portable::Portable;
    use crate::test_data::random_values;

    #[test]
    fn exp_is_close_to_the_real_one() {
        let mut worst: f64 = 0.0;
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let found = f64::from(exp(Portable, [x; LANES])[0]);
            worst = worst.max(((found - exact) / exact).abs());
        }
        assert!(worst < 2.4e-7, "relative error {worst:e}");
        for (x, expected) in [(f32::NEG_INFINITY, 0.0), (-100.0, 0.0), (0.0, 1.0)] {
            assert_eq!(exp(Portable, [x; LANES])[3], expected);
        }
    }

    /// The operation gives on every instruction set what `expected` says, and the same bits.
    fn check(n: usize, expected: impl Fn(f64) -> f64, f: impl Fn(&Cpu, &mut [f32])) {
        let x: Vec<f32> = random_values(n, 5).iter().map(|x| x * 3.0).collect();
        let mut first: Option<Vec<u32>> = None;
        for isa in Isa::available() {
            let mut y = x.clone();
            f(&Cpu::new(isa, 2), &mut y);
            for (x, y) in x.iter().zip(&y) {
                let exact = expected(f64::from(*x));
                let error = (f64::from(*y) - exact).abs();
                assert!(error <= 1e-6 * exact.abs().max(1.0), "f({x}) = {y}, not {exact}");
            }
            let bits: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
            assert_eq!(*first.get_or_insert_with(|| bits.clone()), bits, "{}", isa.name());
        }
    }

    #[test]
    fn activations_match_their_formulas() {
        for n in [1, 16, 100, 20_000] {
            check(
                n,
                |x| x / (1.0 + (-x).exp()) * 2.0,
                |cpu, x| {
                    let gate = x.to_vec();
                    cpu.silu_mul(&gate, &vec![2.0; n], x);
                },
            );
            check(
                n,
                |x| {
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                    0.5 * x * (1.0 + u.tanh())
                },
                |cpu, x| {
                    let gate = x.to_vec();
                    cpu.gelu_tanh_mul(&gate, &vec![1.0; n], x);
                },
            );
            check(n, |x| 5.0 * (x / 5.0).tanh(), |cpu, x| cpu.soft_cap(x, 5.0));
            check(
                n,
                |x| 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
                |cpu, x| {
                    let from = x.to_vec();
                    cpu.gelu(&from, x);
                },
            );
        }
    }

    /// By its series of positive terms, `2/√π · exp(-x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!`.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, 0.0);
        for n in 0..200 {
            sum += term;
            term *= 2.0 * x * x / f64::from(2 * n + 3);
        }
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    }

    #[test]
    fn gelu_is_close_everywhere() {
        for i in -8000..8000 {
            let x = i as f32 / 1000.0;
            let exact = 0.5 * f64::from(x) * (1.0 + erf(f64::from(x) / 2.0_f64.sqrt()));
            let found = f64::from(gelu(Portable, [x; LANES])[0]);
            assert!((found - exact).abs() < 6e-7 * exact.abs().max(1.0), "{x}: {found}, {exact}");
        }
        for (x, expected) in [(f32::MAX, f32::MAX), (f32::MIN, 0.0), (-0.0, 0.0), (40.0, 40.0)] {
            assert_eq!(gelu(Portable, [x; LANES])[5], expected, "{x}");
        }
    }

    #[test]
    fn layer_norm_matches_its_formula() {
        for (n_rows, len) in [(1, 384), (3, 64), (40, 640), (2, 100), (5, 7)] {
            // A mean far from 0, as the residual streams of encoders have.
            let x: Vec<f32> = random_values(n_rows * len, 3).iter().map(|x| x + 10.0).collect();
            let (weight, bias) = (random_values(len, 4), random_values(len, 5));
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut out = x.clone();
                Cpu::new(isa, 2).layer_norm_in_place(&mut out, &weight, &bias, 1e-12);
                for (x, out) in x.chunks(len).zip(out.chunks(len)) {
                    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / len as f64;
                    let squares = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
                    let factor = 1.0 / (squares / len as f64 + 1e-12).sqrt();
                    for i in 0..len {
                        let exact = (f64::from(x[i]) - mean) * factor * f64::from(weight[i])
                            + f64::from(bias[i]);
                        assert!((f64::from(out[i]) - exact).abs() < 2e-5, "{} {exact}", out[i]);
                    }
                }
                assert_eq!(*first.get_or_insert_with(|| out.clone()), out, "{}", isa.name());
            }
        }
    }

    #[test]
    fn rms_norm_matches_its_formula() {
        for (n_rows, len) in [(1, 576), (3, 64), (40, 640), (2, 100)] {
            let x = random_values(n_rows * len, 3);
            let weight = random_values(len, 4);
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut out = vec![0.0; x.len()];
                Cpu::new(isa, 2).rms_norm(&x, &weight, 1e-5, &mut out);
                for (x, out) in x.chunks(len).zip(out.chunks(len)) {
                    let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / len as f64;
                    for i in 0..len {
                        let exact = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i]);
                        assert!((f64::from(out[i]) - exact).abs() < 2e-6, "{} {exact}", out[i]);
                    }
                }
                assert_eq!(*first.get_or_insert_with(|| out.clone()), out, "{}", isa.name());
            }
        }
    }
}
