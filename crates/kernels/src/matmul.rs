//! Matrix products: packed weights times a batch of activations.
//!
//! The definition of one output element (its scalar twin is `reference::matmul`), for row `r` and
//! token `t`, sub-blocks `s` of 32 columns ascending, `y = 0`:
//!
//! ```text
//! D = Σ (code - zero_point) · a                       exact integers
//! y = fma(f32(D), factor[r,s] · scale[t,s], y)        once per sub-block
//! y = fma(scaled_sum[t,s], offset[r,s], y)            formats with an offset only
//! ```
//!
//! Where scales change every 16 columns (`HALVES`), all of it is done per half instead, the first
//! half first.
//!
//! Activations of 16 bits are two planes of 8 (`a = 255 · high + low`), so `D` is put together from
//! two exact dot products; its conversion to `f32` is then one more rounding.
//!
//! Float formats keep two sums, over even and odd columns: `y_p = fma(w, x, y_p)`, `y = y_0 + y_1`.
//! Rows are lanes, nothing is summed across lanes, and a row belongs to one task, so neither batch,
//! thread count nor instruction set can change a bit. The register tile (strips × tokens) changes
//! only how often weights and activations are loaded.

mod dots;
mod float;
mod panel;
mod small;

use crate::activations::Activations;
use crate::cpu::{Cpu, SendPtr};
use crate::format::QuantFormat;
use crate::isa::{Kernel, LANES, Simd};
use crate::matrix::Matrix;

/// What happens to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutMode {
    /// `out = W x`.
    Store,
    /// `out = out + W x`, for residual connections.
    Add,
}

/// One product of a dispatch: `out` is `[n_tokens, weight.n_rows()]`.
pub struct Product<'a> {
    /// The weights.
    pub weight: &'a Matrix,
    /// Where the result goes.
    pub out: &'a mut [f32],
    /// Stored or added.
    pub mode: OutMode,
}

/// Strips that one task takes at least: what a panel holds.
const GROUP: usize = panel::N_STRIPS;

impl Cpu {
    /// Multiplies several matrices with the same activations, in one dispatch to the threads.
    ///
    /// # Panics
    /// If the shapes do not fit, or a quantised matrix meets activations that were not quantised.
    pub fn matmul(&self, x: &Activations, products: &mut [Product<'_>]) {
        let mut jobs = [const { None }; N_PRODUCTS_MAX];
        assert!(products.len() <= N_PRODUCTS_MAX, "matmul: {} products", products.len());
        let mut n_groups = 0;
        for (job, product) in jobs.iter_mut().zip(products) {
            let weight = product.weight;
            assert_eq!(weight.n_cols(), x.n_cols(), "matmul: columns of weight and input");
            assert_eq!(product.out.len(), x.n_tokens() * weight.n_rows(), "matmul: output length");
            assert!(
                x.is_quantised_for(self.isa()) || !weight.format().is_quantised(),
                "matmul: the activations were not quantised for this instruction set"
            );
            let (out, mode) = (SendPtr(product.out.as_mut_ptr()), product.mode);
            *job = Some(Job { x, weight, out, mode, first_group: n_groups });
            n_groups += weight.n_strips().div_ceil(GROUP);
        }
        let per_task = self.per_task(n_groups);
        let isa = self.isa();
        self.run(n_groups.div_ceil(per_task), |task| {
            let groups = task * per_task..((task + 1) * per_task).min(n_groups);
            for job in jobs.iter().flatten() {
                let n_job_groups = job.weight.n_strips().div_ceil(GROUP);
                let first = groups.start.max(job.first_group);
                let last = groups.end.min(job.first_group + n_job_groups);
                if first < last {
                    let strips = (first - job.first_group) * GROUP
                        ..((last - job.first_group) * GROUP).min(job.weight.n_strips());
                    isa.dispatch(Strips { job, strips });
                }
            }
        });
    }

    /// Some of the rows of `out = W x`: those of `strips` (16 rows each, so rows `16 s..16 s + 16`
    /// of a strip `s`), with the bits that [`Cpu::matmul`] gives them. The others are left as they
    /// are.
    ///
    /// # Panics
    /// As [`Cpu::matmul`], and if `strips` do not rise or are beyond the matrix.
    pub fn matmul_strips(&self, x: &Activations, product: Product<'_>, strips: &[u32]) {
        let Product { weight, out, mode } = product;
        assert_eq!(weight.n_cols(), x.n_cols(), "matmul: columns of weight and input");
        assert_eq!(out.len(), x.n_tokens() * weight.n_rows(), "matmul: output length");
        assert!(
            x.is_quantised_for(self.isa()) || !weight.format().is_quantised(),
            "matmul: the activations were not quantised for this instruction set"
        );
        // Each strip is one task's alone.
        assert!(strips.is_sorted_by(|a, b| a < b), "matmul: strips do not rise");
        let is_within = strips.last().is_none_or(|&last| (last as usize) < weight.n_strips());
        assert!(is_within, "matmul: strips beyond the matrix");
        let job = &Job { x, weight, out: SendPtr(out.as_mut_ptr()), mode, first_group: 0 };
        // Whole panels: one with a single strip costs as much as a full one.
        let per_task = self.per_task(strips.len().div_ceil(GROUP)) * GROUP;
        let isa = self.isa();
        self.run(strips.len().div_ceil(per_task), |task| {
            let own = &strips[task * per_task..((task + 1) * per_task).min(strips.len())];
            for run in own.chunk_by(|a, b| a + 1 == *b) {
                let first = run[0] as usize;
                isa.dispatch(Strips { job, strips: first..first + run.len() });
            }
        });
    }

    /// How many of `n` pieces of work one task takes.
    fn per_task(&self, n: usize) -> usize {
        per_task(n, self.n_threads())
    }
}

/// How many of `n` pieces of work one task takes: as many as leave each thread some tasks, or fewer
/// where threads then finish closer together. A matrix of few rows has few pieces, and one thread's
/// last task is what all wait for.
fn per_task(n: usize, n_threads: usize) -> usize {
    let most = n.div_ceil(n_threads * N_TASKS_PER_THREAD).max(1);
    let slowest = |per_task: &usize| n.div_ceil(*per_task).div_ceil(n_threads) * per_task;
    (most.div_ceil(2)..=most).rev().min_by_key(slowest).unwrap_or(most)
}

/// Rows of a strip.
pub const STRIP_ROWS: usize = LANES;

/// Most matrices of one dispatch.
const N_PRODUCTS_MAX: usize = 4;
/// More tasks than threads, so that a slow thread does not hold up the rest.
const N_TASKS_PER_THREAD: usize = 4;

struct Job<'a> {
    x: &'a Activations,
    weight: &'a Matrix,
    out: SendPtr<f32>,
    mode: OutMode,
    /// Where its strip groups begin among those of all jobs.
    first_group: usize,
}

impl Job<'_> {
    /// Where the rows of a strip go, of one token; may be past the end.
    #[inline(always)]
    fn place(&self, strip: usize, token: usize) -> *mut f32 {
        self.out.get().wrapping_add(token * self.weight.n_rows() + strip * LANES)
    }

    /// Writes 16 rows of one token.
    ///
    /// # Safety
    /// `strip` and `token` are in range, and no one else works on this strip.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, simd: S, strip: usize, token: usize, y: S::F) {
        let n_rows = self.weight.n_rows();
        let n = LANES.min(n_rows - strip * LANES);
        // SAFETY: rows `strip * 16..+ n` of `token` are inside `out` (its length was asserted) and
        // belong to this task alone.
        let out = unsafe { std::slice::from_raw_parts_mut(self.place(strip, token), n) };
        let mut lanes = [0.0; LANES];
        if let Some(out) = out.first_chunk_mut::<LANES>() {
            let y = match self.mode {
                OutMode::Store => y,
                OutMode::Add => simd.add(simd.load(out), y),
            };
            simd.store(y, out);
        } else {
            simd.store(y, &mut lanes);
            for (out, y) in out.iter_mut().zip(lanes) {
                *out = if self.mode == OutMode::Add { *out + y } else { y };
            }
        }
    }
}

/// A range of strips of one job, for all tokens.
struct Strips<'a> {
    job: &'a Job<'a>,
    strips: std::ops::Range<usize>,
}

impl Kernel for Strips<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // The format is chosen here, inside the instruction set, so that one body is compiled for
        // each pair without anyone writing pairs.
        macro_rules! arms {
            ($($name:ident => $ty:ty,)*) => {
                match self.job.weight.format() {
                    $(crate::Format::$name => self.quantised::<S, $ty>(simd),)*
                    crate::Format::F32 => self.float::<S, crate::formats::float::F32>(simd),
                    crate::Format::F16 => self.float::<S, crate::formats::float::F16>(simd),
                    crate::Format::BF16 => self.float::<S, crate::formats::float::Bf16>(simd),
                }
            };
        }
        for_quantised!(arms);
    }
}

impl Strips<'_> {
    #[inline(always)]
    fn quantised<S: Simd, Q: QuantFormat>(self, simd: S) {
        if self.job.x.n_tokens() >= panel::n_tokens_min::<S>() {
            self.panels::<S, Q>(simd);
        } else {
            self.small::<S, Q>(simd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::{Needs, Precision};
    use crate::test_data::{Adversary, adversarial_matrix, random_matrix, random_values};
    use crate::{Format, Isa, reference};

    /// Every instruction set, 1 and 3 threads, against the definition, bit for bit.
    fn check(format: Format, n_rows: usize, n_cols: usize, n_tokens: usize, bytes: &[u8]) {
        check_precision(Precision::Bits8, format, [n_rows, n_cols], n_tokens, bytes);
        check_precision(Precision::Bits16, format, [n_rows, n_cols], n_tokens, bytes);
    }

    fn check_precision(
        precision: Precision,
        format: Format,
        [n_rows, n_cols]: [usize; 2],
        n_tokens: usize,
        bytes: &[u8],
    ) {
        let x = random_values(n_tokens * n_cols, 11);
        let expected = reference::matmul(format, precision, n_cols, bytes, &x);
        for isa in Isa::available() {
            for n_threads in [1, 3] {
                let cpu = Cpu::new(isa, n_threads);
                let weight = cpu.pack(format, n_rows, n_cols, bytes).unwrap();
                let mut acts = Activations::new();
                acts.set(n_tokens, n_cols).copy_from_slice(&x);
                cpu.quantise(&mut acts, Needs::of(&[&weight], precision));
                let mut out = vec![1.0; n_tokens * n_rows];
                let mode = OutMode::Store;
                let weight = &weight;
                cpu.matmul(&acts, &mut [Product { weight, out: &mut out, mode }]);
                for (i, (y, expected)) in out.iter().zip(&expected).enumerate() {
                    assert!(
                        y.to_bits() == expected.to_bits(),
                        "{} {} [{n_rows}, {n_cols}] × {n_tokens}: element {i} is {y}, not {expected}",
                        format.name(),
                        isa.name(),
                    );
                }
            }
        }
    }

    #[test]
    fn products_equal_their_definition_on_every_instruction_set() {
        for format in Format::ALL {
            // The last has tasks of several panels, and an odd strip at the end.
            for n_rows in [1, 15, 16, 17, 33, 80, 130, 16 * 36 + 5] {
                let bytes = random_matrix(format, n_rows, 512, n_rows as u32);
                check(format, n_rows, 512, 3, &bytes);
            }
            for n_tokens in (1..=20).chain([257]) {
                let bytes = random_matrix(format, 70, 256, 99);
                check(format, 70, 256, n_tokens, &bytes);
            }
        }
    }

    #[test]
    fn odd_widths_of_the_small_block_formats() {
        for format in Format::ALL.into_iter().filter(|format| format.block_len() <= 32) {
            for n_cols in [32, 64, 96, 896] {
                check(format, 33, n_cols, 5, &random_matrix(format, 33, n_cols, 7));
            }
        }
    }

    #[test]
    fn extreme_codes_and_scales_do_not_saturate() {
        for format in Format::ALL.into_iter().filter(|format| format.is_quantised()) {
            for adversary in Adversary::ALL {
                let bytes = adversarial_matrix(format, 18, 512, adversary);
                check(format, 18, 512, 5, &bytes);
            }
        }
    }

    #[test]
    fn some_strips_have_the_bits_that_all_have() {
        let (n_rows, n_cols) = (16 * 9 + 3, 256);
        for format in Format::ALL {
            let bytes = random_matrix(format, n_rows, n_cols, 5);
            for (isa, n_tokens) in
                Isa::available().into_iter().flat_map(|isa| [1, 3, 20].map(|n| (isa, n)))
            {
                let cpu = Cpu::new(isa, 3);
                let weight = &cpu.pack(format, n_rows, n_cols, &bytes).unwrap();
                let mut acts = Activations::new();
                acts.set(n_tokens, n_cols).copy_from_slice(&random_values(n_tokens * n_cols, 3));
                cpu.quantise(&mut acts, Needs::of(&[weight], Precision::Bits8));
                let mode = OutMode::Store;
                let mut all = vec![1.0; n_tokens * n_rows];
                cpu.matmul(&acts, &mut [Product { weight, out: &mut all, mode }]);
                for strips in [&[][..], &[0], &[9], &[2, 3, 4, 7], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]
                {
                    let mut some = vec![1.0; n_tokens * n_rows];
                    cpu.matmul_strips(&acts, Product { weight, out: &mut some, mode }, strips);
                    for (i, (some, all)) in some.iter().zip(&all).enumerate() {
                        let is_asked = strips.contains(&((i % n_rows / STRIP_ROWS) as u32));
                        let expected: f32 = if is_asked { *all } else { 1.0 };
                        let name = (format.name(), isa.name());
                        assert_eq!(some.to_bits(), expected.to_bits(), "{name:?} {strips:?} {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn threads_finish_together_where_pieces_allow() {
        for n_threads in 1..=16 {
            for n in 1..500 {
                let per_task = per_task(n, n_threads);
                let n_tasks = n.div_ceil(per_task);
                assert!((1..=n).contains(&per_task), "{n} on {n_threads}");
                assert!(n_tasks <= n_threads * N_TASKS_PER_THREAD * 2, "{n} on {n_threads}");
                let slowest = n_tasks.div_ceil(n_threads) * per_task;
                let most = n.div_ceil(n_threads * N_TASKS_PER_THREAD);
                assert!(slowest <= n.div_ceil(most).div_ceil(n_threads) * most, "{n}, {n_threads}");
            }
        }
        // Matrices of 576 and of 640 rows: no thread has more than half.
        assert_eq!(per_task(18, 2), 3);
        assert_eq!(per_task(20, 2), 2);
    }

    #[test]
    #[should_panic(expected = "strips do not rise")]
    fn no_strip_is_asked_for_twice() {
        let cpu = Cpu::new(Isa::Portable, 2);
        let weight = &cpu.pack(Format::F32, 32, 4, &[0; 512]).unwrap();
        let mut acts = Activations::new();
        acts.set(1, 4).fill(1.0);
        let product = Product { weight, out: &mut [0.0; 32], mode: OutMode::Store };
        cpu.matmul_strips(&acts, product, &[1, 1]);
    }

    #[test]
    fn several_products_share_a_dispatch_and_add_to_what_was_there() {
        let cpu = Cpu::new(Isa::detect(), 2);
        let (n_cols, n_tokens) = (256, 3);
        let x = random_values(n_tokens * n_cols, 1);
        let mut acts = Activations::new();
        acts.set(n_tokens, n_cols).copy_from_slice(&x);
        // Tasks of several panels, of which one goes from one matrix to the next.
        let formats = [(Format::Q4_K, 330), (Format::Q6_K, 20), (Format::F16, 133)];
        let raw: Vec<_> =
            formats.iter().map(|(format, rows)| random_matrix(*format, *rows, n_cols, 2)).collect();
        let weights: Vec<_> = formats
            .iter()
            .zip(&raw)
            .map(|((format, rows), raw)| cpu.pack(*format, *rows, n_cols, raw).unwrap())
            .collect();
        let precision = Precision::Bits8;
        cpu.quantise(&mut acts, Needs::of(&weights.iter().collect::<Vec<_>>(), precision));
        let mut outs: Vec<_> = formats.iter().map(|(_, rows)| vec![0.5; rows * n_tokens]).collect();
        let mut products: Vec<_> = weights
            .iter()
            .zip(&mut outs)
            .map(|(weight, out)| Product { weight, out, mode: OutMode::Add })
            .collect();
        cpu.matmul(&acts, &mut products);
        for (((format, _), raw), out) in formats.iter().zip(&raw).zip(&outs) {
            let expected = reference::matmul(*format, precision, n_cols, raw, &x);
            for (y, expected) in out.iter().zip(expected) {
                assert_eq!(y.to_bits(), (0.5 + expected).to_bits());
            }
        }
    }
}
