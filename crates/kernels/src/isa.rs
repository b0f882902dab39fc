//! Instruction sets: which one this process uses, and the vector operations kernels are written in.
//!
//! A kernel is written **once**, generic over [`Simd`], and compiled once per instruction set by
//! [`Isa::dispatch`], which enters it through a function with the right `target_feature`s. Every
//! operation is defined exactly (IEEE-754 single operations, fused multiply-add, exact integers),
//! so all instruction sets give the same bits. One more instruction set is one more file in `isa/`
//! and one line in each `match` below.
//!
//! An instruction set is proved by holding its token, whose only constructor asks the CPU: that is
//! what makes the operations safe to call.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

/// Lanes of a vector: 16 `f32`, 16 `i32`, or 16 rows of 4 code bytes.
pub(crate) const LANES: usize = 16;

/// An instruction set the kernels can be run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust: the definition of every kernel, and the fallback. Slow without hardware FMA.
    Portable,
    /// AVX2 with FMA and F16C (x86-64-v3: Haswell, Zen and later).
    Avx2,
    /// AVX2 with AVX-VNNI (Alder Lake and later, Zen 5).
    AvxVnni,
    /// AVX-512 F/BW/VL/DQ with VNNI (Ice Lake, Zen 4 and later).
    Avx512,
}

/// The environment variable that overrides the choice: `portable`, `avx2`, `avxvnni` or `avx512`.
pub const ISA_VARIABLE: &str = "FREEHOLD_ISA";

/// `FREEHOLD_ISA` asks for something this machine or this program does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ISA_VARIABLE}: \"{value}\": expected one of {available} (what this machine has)")]
pub struct IsaError {
    value: String,
    available: String,
}

impl Isa {
    /// Every instruction set the program knows, best first.
    pub const ALL: [Isa; 4] = [Isa::Avx512, Isa::AvxVnni, Isa::Avx2, Isa::Portable];

    /// The best instruction set of this CPU.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// What this CPU has, best first; never empty.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The instruction set named by `FREEHOLD_ISA`, or the best one when the variable is not set.
    ///
    /// # Errors
    /// If the variable names an instruction set that is not known or that this CPU lacks.
    pub fn from_env() -> Result<Self, IsaError> {
        match std::env::var(ISA_VARIABLE) {
            Ok(value) if !value.is_empty() => Self::from_name(&value),
            _ => Ok(Self::detect()),
        }
    }

    /// The available instruction set of that name.
    ///
    /// # Errors
    /// If the name is not known or this CPU lacks it.
    pub fn from_name(name: &str) -> Result<Self, IsaError> {
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| IsaError {
            value: name.to_owned(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The name used by `FREEHOLD_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this CPU can run it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::Avx2::<false>::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => avx2::Avx2::<true>::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::Avx512::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Runs `kernel` compiled for this instruction set, or portably where the CPU lacks it.
    #[inline]
    pub(crate) fn dispatch<K: Kernel>(self, kernel: K) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                if let Some(proof) = avx2::Avx2::<false>::detect() {
                    return proof.enter(kernel);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => {
                if let Some(proof) = avx2::Avx2::<true>::detect() {
                    return proof.enter(kernel);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                if let Some(proof) = avx512::Avx512::detect() {
                    return proof.enter(kernel);
                }
            }
            _ => {}
        }
        kernel.run(portable::Portable);
    }
}

/// A piece of work that can be compiled for any instruction set: a struct of operands and one body.
///
/// `run` must be `#[inline(always)]`, and so must everything it calls that touches vectors, or the
/// operations are compiled as calls.
pub(crate) trait Kernel {
    fn run<S: Simd>(self, simd: S);
}

/// The vector operations. `F` is 16 `f32`, `I` is 16 `i32`, `B` is 64 bytes (16 rows of 4).
///
/// Each operation is exact or rounds once as IEEE-754 says; `portable.rs` is the definition.
pub(crate) trait Simd: Copy {
    type F: Copy;
    type I: Copy;
    type B: Copy;
    /// Dot products under way, 16 rows: as `I`, or in 16 bits where the CPU has no 4-byte dot.
    type D: Copy;

    /// Whether there are 32 vector registers of full width: chooses the register tile.
    const WIDE: bool;
    /// What [`Simd::raise`] adds to each signed weight code.
    const I8_OFFSET: i32;
    /// Whether `D` has 16 bits: then only so many dots may be added as cannot overflow.
    const NARROW: bool;

    /// Runs a kernel as a function of its own, compiled for this instruction set: where inlining
    /// would copy one body into many.
    fn call<K: Kernel>(self, kernel: K);

    /// Asks for a cache line to be near when it is read. A hint, harmless at any address.
    #[inline(always)]
    fn prefetch(self, _line: *const u8) {}

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; LANES]);
    fn load_f16(self, x: &[u16; LANES]) -> Self::F;
    /// Rounds to nearest even.
    fn store_f16(self, v: Self::F, out: &mut [u16; LANES]);
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where `a > b`, else `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where `a < b`, else `b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `then` where `a < b`, else `otherwise`.
    fn select_less(self, a: Self::F, b: Self::F, then: Self::F, otherwise: Self::F) -> Self::F;
    /// Nearest integer, ties to even. Only for values that fit.
    fn round(self, v: Self::F) -> Self::I;

    fn splat_i(self, x: i32) -> Self::I;
    fn store_i(self, v: Self::I, out: &mut [i32; LANES]);
    /// Stores the low byte of each lane.
    fn store_i8(self, v: Self::I, out: &mut [i8; LANES]);
    /// Stores the low 16 bits of each lane: those of the even lanes, and those of the odd ones.
    /// Only where [`Simd::NARROW`].
    #[inline(always)]
    fn store_words(self, _v: Self::I, _even: &mut [i8; LANES], _odd: &mut [i8; LANES]) {
        unreachable!("dots of this instruction set are not narrow")
    }
    fn load_u8(self, x: &[u8; LANES]) -> Self::I;
    fn load_i8(self, x: &[u8; LANES]) -> Self::I;
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn shl_i<const N: u32>(self, v: Self::I) -> Self::I;
    /// Logical shift by a count that is the same for all lanes, below 32.
    fn shr_i(self, v: Self::I, n: u32) -> Self::I;
    /// Nearest `f32`, ties to even.
    fn to_f(self, v: Self::I) -> Self::F;
    /// Reads the bits of an integer vector as `f32`.
    fn bits_to_f(self, v: Self::I) -> Self::F;

    fn load_b(self, x: &[u8; 64]) -> Self::B;
    fn splat_b(self, x: u8) -> Self::B;
    fn and_b(self, a: Self::B, b: Self::B) -> Self::B;
    fn or_b(self, a: Self::B, b: Self::B) -> Self::B;
    /// Shifts pairs of bytes: bits cross between neighbours, so mask afterwards.
    fn shr_b<const N: u32>(self, v: Self::B) -> Self::B;
    /// As [`Simd::shr_b`], to the left.
    fn shl_b<const N: u32>(self, v: Self::B) -> Self::B;
    /// The table's byte for each byte of `idx`, all of them below 16.
    fn lookup_b(self, table: &[u8; 16], idx: Self::B) -> Self::B;

    fn store_b(self, v: Self::B, out: &mut [u8; 64]);

    /// Signed codes as [`Simd::dot_signed`] takes them, each raised by [`Simd::I8_OFFSET`].
    fn raise(self, w: Self::B) -> Self::B;
    /// The start of a chain of dots that will be added to `acc`.
    fn start(self, acc: Self::I) -> Self::D;
    /// Adds to each row's lane the dot product of its 4 unsigned codes with the 4 signed bytes of
    /// `a`, none of them -128. Where [`Simd::NARROW`], codes are at most 63.
    fn dot(self, d: Self::D, w: Self::B, a: i32) -> Self::D;
    /// As [`Simd::dot`], of signed codes that went through [`Simd::raise`].
    fn dot_signed(self, d: Self::D, w: Self::B, a: i32) -> Self::D;
    /// Codes as [`Simd::dot_words`] takes them, in 16 bits: of the even columns of each row, and of
    /// the odd ones. Only where [`Simd::NARROW`].
    #[inline(always)]
    fn words(self, _w: Self::B, _is_signed: bool) -> [Self::B; 2] {
        unreachable!("dots of this instruction set are not narrow")
    }
    /// Adds to each row's lane the dot product of its two codes with the two 16-bit numbers of `a`.
    /// Only where [`Simd::NARROW`].
    #[inline(always)]
    fn dot_words(self, _acc: Self::I, _w: Self::B, _a: i32) -> Self::I {
        unreachable!("dots of this instruction set are not narrow")
    }
    /// `acc` and the chain that was started with it.
    fn finish(self, acc: Self::I, d: Self::D) -> Self::I;

    /// Sum of the lanes, as a fixed tree: lane i with lane i + 8, then + 4, + 2, + 1.
    #[inline(always)]
    fn sum(self, v: Self::F) -> f32 {
        let mut x = [0.0f32; LANES];
        self.store(v, &mut x);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }

    /// Sum of the lanes, wrapping.
    #[inline(always)]
    fn sum_i(self, v: Self::I) -> i32 {
        let mut x = [0; LANES];
        self.store_i(v, &mut x);
        let mut sum = 0i32;
        for x in x {
            sum = sum.wrapping_add(x);
        }
        sum
    }

    /// Largest lane.
    #[inline(always)]
    fn max_lane(self, v: Self::F) -> f32 {
        let mut x = [0.0f32; LANES];
        self.store(v, &mut x);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] = if x[i] > x[i + half] { x[i] } else { x[i + half] };
            }
        }
        x[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_available_and_names_round_trip() {
        assert!(Isa::available().contains(&Isa::detect()));
        for isa in Isa::available() {
            assert_eq!(Isa::from_name(isa.name()), Ok(isa));
        }
        let error = Isa::from_name("sse9").unwrap_err().to_string();
        assert!(error.contains("\"sse9\"") && error.contains("portable"), "{error}");
    }

    /// Across lanes each instruction set has its own way; results must be those of the definition.
    struct AcrossLanes<'a> {
        values: [f32; LANES],
        integers: [f32; LANES],
        found: &'a mut (u32, u32, i32),
    }

    impl Kernel for AcrossLanes<'_> {
        fn run<S: Simd>(self, simd: S) {
            let v = simd.load(&self.values);
            // What is no number has one of several forms.
            let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
            let sum_i = simd.sum_i(simd.round(simd.load(&self.integers)));
            *self.found = (bits(simd.sum(v)), bits(simd.max_lane(v)), sum_i);
        }
    }

    #[test]
    fn sums_and_maxima_have_the_same_bits_on_every_instruction_set() {
        let random = crate::test_data::random_values(1000 * LANES, 5);
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3e9, -3e9, 1e-40];
        for (idx, random) in random.as_chunks::<LANES>().0.iter().enumerate() {
            // Sums of some wrap.
            let integers = random.map(|x| (x * 2e9).clamp(-2e9, 2e9));
            let mut values = *random;
            for (lane, value) in values.iter_mut().enumerate().filter(|_| idx % 2 == 1) {
                if (idx >> (lane % 8)) & 3 == 3 {
                    *value = special[(idx + 5 * lane) % special.len()];
                }
            }
            let found = |isa: Isa| {
                let mut found = (0, 0, 0);
                isa.dispatch(AcrossLanes { values, integers, found: &mut found });
                found
            };
            for isa in Isa::available() {
                assert_eq!(found(isa), found(Isa::Portable), "{} of {values:?}", isa.name());
            }
        }
    }
}
