//! Products with float weights: two running sums, over even and odd columns.

use super::Strips;
use crate::formats::float::FloatFormat;
use crate::isa::{LANES, Simd};

impl Strips<'_> {
    #[inline(always)]
    pub(super) fn float<S: Simd, W: FloatFormat>(self, simd: S) {
        let n_tokens = self.job.x.n_tokens();
        for strip in self.strips.clone() {
            let mut token = 0;
            while n_tokens - token >= 4 {
                self.float_tile::<S, W, 4>(simd, strip, token);
                token += 4;
            }
            while token < n_tokens {
                self.float_tile::<S, W, 1>(simd, strip, token);
                token += 1;
            }
        }
    }

    #[inline(always)]
    fn float_tile<S: Simd, W: FloatFormat, const M: usize>(
        &self,
        simd: S,
        strip: usize,
        token: usize,
    ) {
        let job = self.job;
        let weights = job.weight.strip(strip);
        let rows: [&[f32]; M] = std::array::from_fn(|m| job.x.row(token + m));
        let mut y = [[simd.splat(0.0); 2]; M];
        let step = LANES * W::BYTES;
        for (col, w) in weights.chunks_exact(step).enumerate() {
            let w = W::load(simd, w);
            for m in 0..M {
                y[m][col % 2] = simd.fma(w, simd.splat(rows[m][col]), y[m][col % 2]);
            }
        }
        for (m, [even, odd]) in y.into_iter().enumerate() {
            // SAFETY: the strip is one of this task's, the token one of the batch.
            unsafe { job.write(simd, strip, token + m, simd.add(even, odd)) }
        }
    }
}
