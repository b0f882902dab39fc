//! What this machine can do at best: the yardsticks that speed is held against.
//!
//! Two limits bind a language model on a CPU: how fast all threads together read memory (decode
//! reads every weight for each token), and how many integer products they make (prefill). Both are
//! measured with the vector operations that the kernels are written in, so the instruction set in
//! use counts. Of several passes the best is given: what else the machine does only slows one down.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Cpu;
use crate::arena::Arena;
use crate::isa::{Kernel, LANES, Simd};

/// Bytes that one task reads, long enough for the prefetcher to run ahead.
const READ_TASK_BYTES: usize = 1 << 20;
/// Passes over the buffer.
const N_READ_PASSES: usize = 10;
/// Bytes of a vector of codes: 16 rows of 4.
const VECTOR_BYTES: usize = 4 * LANES;

/// Dot operations of one task: some tens of microseconds of work.
const N_DOTS: usize = 1 << 16;
/// Activations that they go through, over and over, out of the first-level cache.
const N_INPUTS: usize = 256;
/// Dots of 4-bit codes that any instruction set can chain.
const CHAIN: usize = 8;
/// How long products are measured: long enough for the clock to settle.
const DOT_TIME: Duration = Duration::from_millis(400);

impl Cpu {
    /// Bytes per second that all threads together read from a buffer of `n_bytes` (rounded up to
    /// whole MiB); the best of several passes. The buffer should be much larger than the caches.
    pub fn measure_read(&self, n_bytes: usize) -> f64 {
        let n_bytes = n_bytes.max(1).next_multiple_of(READ_TASK_BYTES);
        let mut buffer = Arena::with_capacity(n_bytes).take(n_bytes);
        // Written once, or every page would be the system's one page of zeros.
        self.for_each_chunk(&mut buffer, READ_TASK_BYTES, |idx, chunk| chunk.fill(idx as u8));
        let buffer = &*buffer;
        let pass = |_| {
            let began = Instant::now();
            self.run(n_bytes / READ_TASK_BYTES, |idx| {
                let bytes = &buffer[idx * READ_TASK_BYTES..][..READ_TASK_BYTES];
                self.isa().dispatch(Read { bytes });
            });
            n_bytes as f64 / began.elapsed().as_secs_f64()
        };
        (0..N_READ_PASSES).map(pass).fold(0.0, f64::max)
    }

    /// Products of a weight code and an 8-bit activation that all threads together make and add up
    /// per second, operands at hand; the best of many passes.
    pub fn measure_products(&self) -> f64 {
        let byte = |i: usize| ((i * 37 % 255) as u8).wrapping_add(129);
        let inputs =
            std::array::from_fn(|i| i32::from_le_bytes([0, 1, 2, 3].map(|b| byte(4 * i + b))));
        let n_tasks = 32 * self.n_threads();
        let pass = || {
            let began = Instant::now();
            self.run(n_tasks, |_| self.isa().dispatch(Dot { inputs: &inputs }));
            (n_tasks * N_DOTS * VECTOR_BYTES) as f64 / began.elapsed().as_secs_f64()
        };
        let (began, mut best) = (Instant::now(), 0.0);
        while began.elapsed() < DOT_TIME {
            best = pass().max(best);
        }
        best
    }
}

/// Reads everything and does next to nothing with it.
struct Read<'a> {
    bytes: &'a [u8],
}

impl Kernel for Read<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut any = [simd.splat_b(0); 8];
        for vectors in self.bytes.as_chunks::<VECTOR_BYTES>().0.as_chunks::<8>().0 {
            for (any, vector) in any.iter_mut().zip(vectors) {
                *any = simd.or_b(*any, simd.load_b(vector));
            }
        }
        black_box(any);
    }
}

/// Makes [`N_DOTS`] dot operations, as many at once as the registers hold sums.
struct Dot<'a> {
    inputs: &'a [i32; N_INPUTS],
}

impl Kernel for Dot<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::WIDE { self.dots::<S, 16>(simd) } else { self.dots::<S, 4>(simd) }
    }
}

impl Dot<'_> {
    #[inline(always)]
    fn dots<S: Simd, const N: usize>(&self, simd: S) {
        let weights = simd.splat_b(black_box(15));
        let mut sums = [simd.splat_i(0); N];
        // A sum takes at most 2^14 steps of four products of 15 and 127: it stays below 2^31.
        for _ in 0..N_DOTS / N_INPUTS {
            // The compiler must not know that the inputs are the same each time.
            for inputs in black_box(self.inputs).as_chunks::<N>().0.as_chunks::<CHAIN>().0 {
                let mut chains = [simd.start(sums[0]); N];
                for n in 1..N {
                    chains[n] = simd.start(sums[n]);
                }
                for inputs in inputs {
                    for n in 0..N {
                        chains[n] = simd.dot(chains[n], weights, inputs[n]);
                    }
                }
                for n in 0..N {
                    sums[n] = simd.finish(sums[n], chains[n]);
                }
            }
        }
        black_box(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn every_instruction_set_has_limits() {
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 2);
            for limit in [cpu.measure_read(1 << 22), cpu.measure_products()] {
                assert!(limit.is_finite() && limit > 0.0, "{}: {limit}", isa.name());
            }
        }
    }
}
