//! AVX-512 F/BW/VL/DQ + VNNI: a vector is one zmm register, a 4-byte dot is one instruction.

use core::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// Proof that this CPU has AVX-512 F, BW, VL, DQ and VNNI (and AVX2, FMA, F16C below it).
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    #[inline]
    pub(crate) fn enter<K: Kernel>(self, kernel: K) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn body<K: Kernel>(proof: Avx512, kernel: K) {
            kernel.run(proof);
        }
        // SAFETY: `self` exists only where these features were detected.
        unsafe { body(self, kernel) }
    }
}

// SAFETY of every block in this file: the token `self` proves the features, and loads and stores
// go through references to arrays of exactly the bytes they touch.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: see above: the token proves the features, the references prove the bytes.
        unsafe { $e }
    };
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    type D = __m512i;

    const WIDE: bool = true;
    // `vpdpbusd` wants unsigned codes, so the sign bit is flipped, which adds 128.
    const I8_OFFSET: i32 = 128;
    const NARROW: bool = false;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        self.enter(kernel);
    }

    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        op!(_mm_prefetch::<_MM_HINT_T0>(line.cast()))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        op!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        op!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; LANES]) {
        op!(_mm512_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> __m512 {
        op!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, out: &mut [u16; LANES]) {
        op!({
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), half);
        })
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> __m512 {
        op!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, then: __m512, otherwise: __m512) -> __m512 {
        op!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then))
    }
    #[inline(always)]
    fn round(self, v: __m512) -> __m512i {
        op!(_mm512_cvtps_epi32(v))
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> __m512i {
        op!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn store_i(self, v: __m512i, out: &mut [i32; LANES]) {
        op!(_mm512_storeu_si512(out.as_mut_ptr().cast(), v))
    }
    #[inline(always)]
    fn store_i8(self, v: __m512i, out: &mut [i8; LANES]) {
        op!(_mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(v)))
    }
    #[inline(always)]
    fn sum_i(self, v: __m512i) -> i32 {
        op!(_mm512_reduce_add_epi32(v))
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        op!(_mm512_reduce_max_ps(v))
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> __m512i {
        op!(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> __m512i {
        op!(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn and_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn shl_i<const N: u32>(self, v: __m512i) -> __m512i {
        op!(_mm512_slli_epi32::<N>(v))
    }
    #[inline(always)]
    fn shr_i(self, v: __m512i, n: u32) -> __m512i {
        op!(_mm512_srl_epi32(v, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn to_f(self, v: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn bits_to_f(self, v: __m512i) -> __m512 {
        op!(_mm512_castsi512_ps(v))
    }
    #[inline(always)]
    fn load_b(self, x: &[u8; 64]) -> __m512i {
        op!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> __m512i {
        op!(_mm512_set1_epi8(x as i8))
    }
    #[inline(always)]
    fn and_b(self, a: __m512i, b: __m512i) -> __m512i {
        self.and_i(a, b)
    }
    #[inline(always)]
    fn or_b(self, a: __m512i, b: __m512i) -> __m512i {
        self.or_i(a, b)
    }
    #[inline(always)]
    fn shr_b<const N: u32>(self, v: __m512i) -> __m512i {
        op!(_mm512_srli_epi16::<N>(v))
    }
    #[inline(always)]
    fn shl_b<const N: u32>(self, v: __m512i) -> __m512i {
        op!(_mm512_slli_epi16::<N>(v))
    }
    #[inline(always)]
    fn lookup_b(self, table: &[u8; 16], idx: __m512i) -> __m512i {
        op!({
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), idx)
        })
    }
    #[inline(always)]
    fn store_b(self, v: __m512i, out: &mut [u8; 64]) {
        op!(_mm512_storeu_si512(out.as_mut_ptr().cast(), v))
    }
    #[inline(always)]
    fn raise(self, w: __m512i) -> __m512i {
        op!(_mm512_xor_si512(w, _mm512_set1_epi8(-128)))
    }
    #[inline(always)]
    fn start(self, acc: __m512i) -> __m512i {
        acc
    }
    #[inline(always)]
    fn dot(self, d: __m512i, w: __m512i, a: i32) -> __m512i {
        op!(_mm512_dpbusd_epi32(d, w, _mm512_set1_epi32(a)))
    }
    #[inline(always)]
    fn dot_signed(self, d: __m512i, w: __m512i, a: i32) -> __m512i {
        self.dot(d, w, a)
    }
    #[inline(always)]
    fn finish(self, _acc: __m512i, d: __m512i) -> __m512i {
        d
    }
}
