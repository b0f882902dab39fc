//! Plain Rust twin of every vector operation: the definition the other instruction sets must equal.

use super::{Kernel, LANES, Simd};

/// Needs nothing of the CPU.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn map<T: Copy + Default, U: Copy>(a: &[U; LANES], f: impl Fn(U) -> T) -> [T; LANES] {
    let mut out = [T::default(); LANES];
    for (out, a) in out.iter_mut().zip(a) {
        *out = f(*a);
    }
    out
}

#[inline(always)]
fn zip<T: Copy + Default, U: Copy>(
    a: &[U; LANES],
    b: &[U; LANES],
    f: impl Fn(U, U) -> T,
) -> [T; LANES] {
    let mut out = [T::default(); LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];
    type D = [i32; LANES];

    const WIDE: bool = false;
    const I8_OFFSET: i32 = 128;
    const NARROW: bool = false;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        kernel.run(self);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        map(x, f16_to_f32)
    }
    #[inline(always)]
    fn store_f16(self, v: Self::F, out: &mut [u16; LANES]) {
        *out = map(&v, f32_to_f16);
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        map(x, bf16_to_f32)
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(&a, &b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(&a, &b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(&a, &b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(&a, &b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, mut c: Self::F) -> Self::F {
        for i in 0..LANES {
            c[i] = a[i].mul_add(b[i], c[i]);
        }
        c
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(&a, &b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(&a, &b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, then: Self::F, mut otherwise: Self::F) -> Self::F {
        for i in 0..LANES {
            if a[i] < b[i] {
                otherwise[i] = then[i];
            }
        }
        otherwise
    }
    #[inline(always)]
    fn round(self, v: Self::F) -> Self::I {
        map(&v, |x: f32| x.round_ties_even() as i32)
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn store_i(self, v: Self::I, out: &mut [i32; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn store_i8(self, v: Self::I, out: &mut [i8; LANES]) {
        for (out, v) in out.iter_mut().zip(v) {
            *out = v as i8;
        }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::I {
        map(x, i32::from)
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::I {
        map(x, |x| i32::from(x as i8))
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(&a, &b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(&a, &b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(&a, &b, |a, b| a & b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        zip(&a, &b, |a, b| a | b)
    }
    #[inline(always)]
    fn shl_i<const N: u32>(self, v: Self::I) -> Self::I {
        map(&v, |x| x << N)
    }
    #[inline(always)]
    fn shr_i(self, v: Self::I, n: u32) -> Self::I {
        map(&v, |x| ((x as u32) >> n) as i32)
    }
    #[inline(always)]
    fn to_f(self, v: Self::I) -> Self::F {
        map(&v, |x| x as f32)
    }
    #[inline(always)]
    fn bits_to_f(self, v: Self::I) -> Self::F {
        map(&v, |x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    fn load_b(self, x: &[u8; 64]) -> Self::B {
        *x
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> Self::B {
        [x; 64]
    }
    #[inline(always)]
    fn and_b(self, mut a: Self::B, b: Self::B) -> Self::B {
        for i in 0..64 {
            a[i] &= b[i];
        }
        a
    }
    #[inline(always)]
    fn or_b(self, mut a: Self::B, b: Self::B) -> Self::B {
        for i in 0..64 {
            a[i] |= b[i];
        }
        a
    }
    #[inline(always)]
    fn shr_b<const N: u32>(self, v: Self::B) -> Self::B {
        pairs(v, |x| x >> N)
    }
    #[inline(always)]
    fn shl_b<const N: u32>(self, v: Self::B) -> Self::B {
        pairs(v, |x| x << N)
    }
    #[inline(always)]
    fn lookup_b(self, table: &[u8; 16], mut idx: Self::B) -> Self::B {
        for byte in &mut idx {
            *byte = table[usize::from(*byte)];
        }
        idx
    }
    #[inline(always)]
    fn store_b(self, v: Self::B, out: &mut [u8; 64]) {
        *out = v;
    }
    #[inline(always)]
    fn raise(self, w: Self::B) -> Self::B {
        w.map(|w| w ^ 0x80)
    }
    #[inline(always)]
    fn start(self, acc: Self::I) -> Self::D {
        acc
    }
    #[inline(always)]
    fn dot(self, mut d: Self::D, w: Self::B, a: i32) -> Self::D {
        let a = a.to_le_bytes();
        for row in 0..LANES {
            for i in 0..4 {
                d[row] += i32::from(w[row * 4 + i]) * i32::from(a[i] as i8);
            }
        }
        d
    }
    #[inline(always)]
    fn dot_signed(self, d: Self::D, w: Self::B, a: i32) -> Self::D {
        self.dot(d, w, a)
    }
    #[inline(always)]
    fn finish(self, _acc: Self::I, d: Self::D) -> Self::I {
        d
    }
}

#[inline(always)]
fn pairs(v: [u8; 64], f: impl Fn(u16) -> u16) -> [u8; 64] {
    let mut out = [0; 64];
    for i in 0..32 {
        let pair = f(u16::from_le_bytes([v[2 * i], v[2 * i + 1]])).to_le_bytes();
        out[2 * i] = pair[0];
        out[2 * i + 1] = pair[1];
    }
    out
}

/// The value of an IEEE-754 binary16; exact.
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: fraction / 2^24, which f32 holds exactly.
        0 => (fraction as f32 / 16_777_216.0).to_bits(),
        // Infinity, or a NaN made quiet as the hardware conversion does.
        31 if fraction != 0 => 0x7fc0_0000 | (fraction << 13),
        31 => 0x7f80_0000,
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest IEEE-754 binary16, ties to even; too large becomes infinity.
pub(crate) fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff) as u16;
    }
    // 65520 and above round to infinity.
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00;
    }
    // Normal binary16 numbers start at 2^-14.
    if magnitude >= 0x3880_0000 {
        let rebased = magnitude - (112 << 23);
        let odd = (rebased >> 13) & 1;
        return sign | ((rebased + 0xfff + odd) >> 13) as u16;
    }
    // Subnormal: the multiple of 2^-24 nearest to |x|. Scaling by a power of two is exact.
    let scaled = f32::from_bits(magnitude) * 16_777_216.0;
    sign | scaled.round_ties_even() as u16
}

/// The value of a bfloat16; exact.
pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_round_trips() {
        for bits in 0..=u16::MAX {
            let x = f16_to_f32(bits);
            if !x.is_nan() {
                assert_eq!(f32_to_f16(x), bits, "{bits:#06x} = {x}");
            }
        }
    }

    #[test]
    fn f16_rounds_to_nearest_even() {
        for (x, expected) in [
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (65519.9, 0x7bff),
            (65520.0, 0x7c00),
            (2.9802322e-8, 0x0000),
            (2.9802326e-8, 0x0001),
            (-1e9, 0xfc00),
        ] {
            assert_eq!(f32_to_f16(x), expected, "{x}");
        }
    }
}
