//! Rotary position embedding (RoPE; Su et al. 2021, section 3.4.2).

use crate::Cpu;
use crate::isa::{Kernel, Simd};

/// Which two elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// `(2i, 2i + 1)`: llama files.
    Adjacent,
    /// `(i, i + n_rot / 2)`: qwen, gemma and most others ("NeoX").
    HalfSplit,
}

/// The heads that [`Cpu::rope`] rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShape {
    /// Heads of a token.
    pub n_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl Cpu {
    /// Rotates each head of `x` in place.
    ///
    /// `x` is `[n_tokens, n_heads, head_dim]`; `cos` and `sin` are `[n_tokens, n_rot / 2]` and give
    /// the angles of each token; the first `n_rot` elements of a head rotate.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn rope(
        &self,
        x: &mut [f32],
        heads: HeadShape,
        pairing: RopePairing,
        cos: &[f32],
        sin: &[f32],
    ) {
        let row_len = heads.n_heads * heads.head_dim;
        assert!(row_len > 0 && x.len().is_multiple_of(row_len), "rope: rows of {row_len}");
        let n_tokens = x.len() / row_len;
        assert_eq!(cos.len(), sin.len(), "rope: lengths of cos and sin");
        if n_tokens == 0 {
            return;
        }
        let half = cos.len() / n_tokens;
        assert_eq!(cos.len(), half * n_tokens, "rope: angles for {n_tokens} tokens");
        assert!(2 * half <= heads.head_dim, "rope: {half} angles for heads of {}", heads.head_dim);
        self.for_each_row(x, row_len, 1, |token, x| {
            let (cos, sin) = (&cos[token * half..][..half], &sin[token * half..][..half]);
            self.isa().dispatch(Rotate { x, head_dim: heads.head_dim, pairing, cos, sin });
        });
    }
}

/// The heads of one token.
struct Rotate<'a> {
    x: &'a mut [f32],
    head_dim: usize,
    pairing: RopePairing,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Rotate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for head in self.x.chunks_exact_mut(self.head_dim) {
            rotate(head, self.pairing, self.cos, self.sin);
        }
    }
}

/// Plain arithmetic, one rounding per operation: the compiler turns it into the vectors of the
/// instruction set, but may not fuse or reorder it.
#[inline(always)]
fn rotate(head: &mut [f32], pairing: RopePairing, cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    match pairing {
        RopePairing::Adjacent => {
            for (pair, (cos, sin)) in
                head.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin))
            {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
        RopePairing::HalfSplit => {
            let (first, rest) = head.split_at_mut(half);
            let (rest, sin) = (&mut rest[..half], &sin[..half]);
            for i in 0..half {
                let (a, b) = (first[i], rest[i]);
                first[i] = a * cos[i] - b * sin[i];
                rest[i] = a * sin[i] + b * cos[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn a_quarter_turn_swaps_the_pair() {
        let heads = HeadShape { n_heads: 1, head_dim: 4 };
        let cpu = Cpu::new(Isa::detect(), 1);
        let check = |pairing, n_rot: usize, expected: [f32; 4]| {
            let mut x = [1.0, 2.0, 3.0, 4.0];
            cpu.rope(&mut x, heads, pairing, &vec![0.0; n_rot / 2], &vec![1.0; n_rot / 2]);
            assert_eq!(x, expected);
        };
        check(RopePairing::Adjacent, 4, [-2.0, 1.0, -4.0, 3.0]);
        check(RopePairing::HalfSplit, 4, [-3.0, -4.0, 1.0, 2.0]);
        check(RopePairing::Adjacent, 2, [-2.0, 1.0, 3.0, 4.0]);
        check(RopePairing::HalfSplit, 2, [-2.0, 1.0, 3.0, 4.0]);
    }
}
