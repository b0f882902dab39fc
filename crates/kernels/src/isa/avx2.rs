//! AVX2 + FMA + F16C, and AVX-VNNI where the CPU has it: a vector is two halves of 256 bits.
//!
//! With AVX-VNNI a 4-byte dot is one instruction. Without, it is `maddubs` then `madd`: `maddubs`
//! adds two products in 16 bits with saturation; the bounds below show that it never saturates.

use core::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// Proof that this CPU has AVX2, FMA and F16C, and AVX-VNNI where `VNNI`.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        has.then_some(Self(()))
    }

    #[inline]
    pub(crate) fn enter<K: Kernel>(self, kernel: K) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn body<K: Kernel, const VNNI: bool>(proof: Avx2<VNNI>, kernel: K) {
            kernel.run(proof);
        }
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn body_vnni<K: Kernel, const VNNI: bool>(proof: Avx2<VNNI>, kernel: K) {
            kernel.run(proof);
        }
        // SAFETY: `self` exists only where these features were detected.
        unsafe { if VNNI { body_vnni(self, kernel) } else { body(self, kernel) } }
    }
}

type F = [__m256; 2];
type I = [__m256i; 2];

// SAFETY of every block in this file: the token `self` proves AVX2, FMA and F16C (and AVX-VNNI
// where `VNNI`), and loads and stores go through references to arrays of exactly the bytes they
// touch.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: see above: the token proves the features, the references prove the bytes.
        unsafe { $e }
    };
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type F = F;
    type I = I;
    type B = I;
    type D = I;

    const WIDE: bool = false;
    // `vpdpbusd` wants unsigned codes, so the sign bit is flipped, which adds 128.
    const I8_OFFSET: i32 = if VNNI { 128 } else { 0 };
    const NARROW: bool = !VNNI;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        self.enter(kernel);
    }

    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        op!(_mm_prefetch::<_MM_HINT_T0>(line.cast()))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> F {
        op!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F {
        op!([_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))])
    }
    #[inline(always)]
    fn store(self, v: F, out: &mut [f32; LANES]) {
        op!({
            _mm256_storeu_ps(out.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), v[1]);
        })
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> F {
        op!([
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(8).cast())),
        ])
    }
    #[inline(always)]
    fn store_f16(self, v: F, out: &mut [u16; LANES]) {
        op!({
            let lo = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]);
            let hi = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]);
            _mm_storeu_si128(out.as_mut_ptr().cast(), lo);
            _mm_storeu_si128(out.as_mut_ptr().add(8).cast(), hi);
        })
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> F {
        op!({
            let lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let hi = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().add(8).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(lo)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(hi)),
            ]
        })
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        op!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        op!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        op!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        op!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        op!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        op!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        op!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn select_less(self, a: F, b: F, then: F, otherwise: F) -> F {
        op!([
            _mm256_blendv_ps(otherwise[0], then[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(otherwise[1], then[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
        ])
    }
    #[inline(always)]
    fn round(self, v: F) -> I {
        op!([_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1])])
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> I {
        op!([_mm256_set1_epi32(x); 2])
    }
    #[inline(always)]
    fn store_i(self, v: I, out: &mut [i32; LANES]) {
        op!({
            _mm256_storeu_si256(out.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(out.as_mut_ptr().add(8).cast(), v[1]);
        })
    }
    #[inline(always)]
    fn store_i8(self, v: I, out: &mut [i8; LANES]) {
        op!({
            // The low byte of each lane, gathered into the first four bytes of each half.
            let low = _mm256_set1_epi32(0x0c08_0400);
            let pick = |v: __m256i| {
                let v = _mm256_shuffle_epi8(v, low);
                let high = _mm256_extracti128_si256::<1>(v);
                _mm_unpacklo_epi32(_mm256_castsi256_si128(v), high)
            };
            let bytes = _mm_unpacklo_epi64(pick(v[0]), pick(v[1]));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        })
    }
    #[inline(always)]
    fn store_words(self, v: I, even: &mut [i8; LANES], odd: &mut [i8; LANES]) {
        op!({
            // In each half of 128 bits: two even lanes' words, then two odd ones'.
            let pick = _mm256_set1_epi64x(0x0d0c_0504_0908_0100);
            let halves = |v: __m256i| {
                let v = _mm256_shuffle_epi8(v, pick);
                _mm_unpacklo_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v))
            };
            let (a, b) = (halves(v[0]), halves(v[1]));
            _mm_storeu_si128(even.as_mut_ptr().cast(), _mm_unpacklo_epi64(a, b));
            _mm_storeu_si128(odd.as_mut_ptr().cast(), _mm_unpackhi_epi64(a, b));
        })
    }
    #[inline(always)]
    fn sum(self, v: F) -> f32 {
        op!({
            let sums = _mm256_add_ps(v[0], v[1]);
            let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
            let sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
            _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)))
        })
    }
    #[inline(always)]
    fn sum_i(self, v: I) -> i32 {
        op!({
            let sums = _mm256_add_epi32(v[0], v[1]);
            let high = _mm256_extracti128_si256::<1>(sums);
            let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), high);
            let sums = _mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums));
            _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<1>(sums)))
        })
    }
    #[inline(always)]
    fn max_lane(self, v: F) -> f32 {
        op!({
            let max = _mm256_max_ps(v[0], v[1]);
            let max = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps::<1>(max));
            let max = _mm_max_ps(max, _mm_movehl_ps(max, max));
            _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)))
        })
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> I {
        op!({
            let v = _mm_loadu_si128(x.as_ptr().cast());
            [_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(v))]
        })
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> I {
        op!({
            let v = _mm_loadu_si128(x.as_ptr().cast());
            [_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(v))]
        })
    }
    #[inline(always)]
    fn add_i(self, a: I, b: I) -> I {
        op!([_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])])
    }
    #[inline(always)]
    fn sub_i(self, a: I, b: I) -> I {
        op!([_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])])
    }
    #[inline(always)]
    fn and_i(self, a: I, b: I) -> I {
        op!([_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])])
    }
    #[inline(always)]
    fn or_i(self, a: I, b: I) -> I {
        op!([_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])])
    }
    #[inline(always)]
    fn shl_i<const N: u32>(self, v: I) -> I {
        op!({
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_sll_epi32(v[0], n), _mm256_sll_epi32(v[1], n)]
        })
    }
    #[inline(always)]
    fn shr_i(self, v: I, n: u32) -> I {
        op!({
            let n = _mm_cvtsi32_si128(n as i32);
            [_mm256_srl_epi32(v[0], n), _mm256_srl_epi32(v[1], n)]
        })
    }
    #[inline(always)]
    fn to_f(self, v: I) -> F {
        op!([_mm256_cvtepi32_ps(v[0]), _mm256_cvtepi32_ps(v[1])])
    }
    #[inline(always)]
    fn bits_to_f(self, v: I) -> F {
        op!([_mm256_castsi256_ps(v[0]), _mm256_castsi256_ps(v[1])])
    }
    #[inline(always)]
    fn load_b(self, x: &[u8; 64]) -> I {
        op!([_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(32).cast()),])
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> I {
        op!([_mm256_set1_epi8(x as i8); 2])
    }
    #[inline(always)]
    fn and_b(self, a: I, b: I) -> I {
        self.and_i(a, b)
    }
    #[inline(always)]
    fn or_b(self, a: I, b: I) -> I {
        self.or_i(a, b)
    }
    #[inline(always)]
    fn shr_b<const N: u32>(self, v: I) -> I {
        op!({
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_srl_epi16(v[0], n), _mm256_srl_epi16(v[1], n)]
        })
    }
    #[inline(always)]
    fn shl_b<const N: u32>(self, v: I) -> I {
        op!({
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_sll_epi16(v[0], n), _mm256_sll_epi16(v[1], n)]
        })
    }
    #[inline(always)]
    fn lookup_b(self, table: &[u8; 16], idx: I) -> I {
        op!({
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [_mm256_shuffle_epi8(table, idx[0]), _mm256_shuffle_epi8(table, idx[1])]
        })
    }
    #[inline(always)]
    fn store_b(self, v: I, out: &mut [u8; 64]) {
        op!({
            _mm256_storeu_si256(out.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(out.as_mut_ptr().add(32).cast(), v[1]);
        })
    }
    #[inline(always)]
    fn raise(self, w: I) -> I {
        if !VNNI {
            return w;
        }
        let sign = self.splat_b(128);
        op!([_mm256_xor_si256(w[0], sign[0]), _mm256_xor_si256(w[1], sign[1])])
    }
    #[inline(always)]
    fn start(self, acc: I) -> I {
        if VNNI { acc } else { self.splat_i(0) }
    }
    /// Two products of a code up to 63 and a byte of magnitude up to 127 add to at most 16,002;
    /// how many such sums fit is `planes::chain_len`.
    #[inline(always)]
    fn dot(self, d: I, w: I, a: i32) -> I {
        if VNNI {
            return op!({
                let a = _mm256_set1_epi32(a);
                [_mm256_dpbusd_avx_epi32(d[0], w[0], a), _mm256_dpbusd_avx_epi32(d[1], w[1], a)]
            });
        }
        op!({
            let a = _mm256_set1_epi32(a);
            let (lo, hi) = (_mm256_maddubs_epi16(w[0], a), _mm256_maddubs_epi16(w[1], a));
            [_mm256_add_epi16(d[0], lo), _mm256_add_epi16(d[1], hi)]
        })
    }
    /// The sign of each code moves to the activation; two products of 128 and 127 add to 32,512.
    #[inline(always)]
    fn dot_signed(self, d: I, w: I, a: i32) -> I {
        if VNNI {
            return self.dot(d, w, a);
        }
        op!({
            let a = _mm256_set1_epi32(a);
            let lo = _mm256_maddubs_epi16(_mm256_abs_epi8(w[0]), _mm256_sign_epi8(a, w[0]));
            let hi = _mm256_maddubs_epi16(_mm256_abs_epi8(w[1]), _mm256_sign_epi8(a, w[1]));
            [_mm256_add_epi16(d[0], lo), _mm256_add_epi16(d[1], hi)]
        })
    }
    #[inline(always)]
    fn words(self, w: I, is_signed: bool) -> [I; 2] {
        op!(if is_signed {
            let even = |w| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w));
            [w.map(even), w.map(|w| _mm256_srai_epi16::<8>(w))]
        } else {
            let low = _mm256_set1_epi16(255);
            [w.map(|w| _mm256_and_si256(w, low)), w.map(|w| _mm256_srli_epi16::<8>(w))]
        })
    }
    #[inline(always)]
    fn dot_words(self, acc: I, w: I, a: i32) -> I {
        op!({
            let a = _mm256_set1_epi32(a);
            let (lo, hi) = (_mm256_madd_epi16(w[0], a), _mm256_madd_epi16(w[1], a));
            [_mm256_add_epi32(acc[0], lo), _mm256_add_epi32(acc[1], hi)]
        })
    }
    #[inline(always)]
    fn finish(self, acc: I, d: I) -> I {
        if VNNI {
            return d;
        }
        op!({
            let ones = _mm256_set1_epi16(1);
            let (lo, hi) = (_mm256_madd_epi16(d[0], ones), _mm256_madd_epi16(d[1], ones));
            [_mm256_add_epi32(acc[0], lo), _mm256_add_epi32(acc[1], hi)]
        })
    }
}
