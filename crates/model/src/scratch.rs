//! Buffers of the forward pass, kept between passes so that nothing is allocated per token.

use crate::Config;
use kernels::{Activations, Query};

/// Buffers of the forward pass. Grows to the largest batch seen, then never allocates.
#[derive(Default)]
pub struct Scratch {
    activations: Activations,
    floats: Vec<f32>,
    /// Always empty between passes; only its allocation is kept.
    rows: Vec<Query<'static>>,
    /// Tokens and outputs of the last pass.
    n_tokens: usize,
    n_outputs: usize,
    /// Strips of the output matrix that are wanted; meaningful within a pass only.
    pub(crate) strips: Vec<u32>,
}

/// The buffers of one pass, cut to its batch. `n` is its count of tokens.
pub(crate) struct Buffers<'s> {
    /// Input of the next matrix product.
    pub(crate) activations: &'s mut Activations,
    /// The residual stream, `[n, n_embd]`.
    pub(crate) hidden: &'s mut [f32],
    /// A block's output where a norm stands before the residual addition, `[n, n_embd]`.
    pub(crate) block: &'s mut [f32],
    /// `[n, n_heads, head_dim]`.
    pub(crate) q: &'s mut [f32],
    /// `[n, n_kv_heads, head_dim]`.
    pub(crate) k: &'s mut [f32],
    /// `[n, n_kv_heads, head_dim]`.
    pub(crate) v: &'s mut [f32],
    /// `[n, n_ff]`.
    pub(crate) gate: &'s mut [f32],
    /// `[n, n_ff]`.
    pub(crate) up: &'s mut [f32],
    /// Of the layers that see everything.
    pub(crate) angles: Angles<'s>,
    /// Of the windowed layers; empty where there are none.
    pub(crate) angles_windowed: Angles<'s>,
    /// The residual rows of which logits are wanted, `[n_outputs, n_embd]`.
    pub(crate) output_rows: &'s mut [f32],
    /// `[n_outputs, n_vocab]`.
    pub(crate) logits: &'s mut [f32],
}

/// Cosines and sines of rope's angles, `[n, n_rot / 2]` each.
pub(crate) struct Angles<'s> {
    pub(crate) cos: &'s mut [f32],
    pub(crate) sin: &'s mut [f32],
}

impl Scratch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty list of rows that lives as long as a batch, in the allocation kept from before.
    pub(crate) fn take_rows<'a>(&mut self) -> Vec<Query<'a>> {
        relive(std::mem::take(&mut self.rows))
    }

    /// Gives the list's allocation back.
    pub(crate) fn put_rows(&mut self, rows: Vec<Query<'_>>) {
        self.rows = relive(rows);
    }

    /// The logits of the last pass: they lie first.
    pub(crate) fn logits(&self, n_logits: usize) -> &[f32] {
        &self.floats[..n_logits]
    }

    /// Begins a pass over so many tokens.
    pub(crate) fn begin_pass(&mut self, n_tokens: usize, n_outputs: usize) {
        (self.n_tokens, self.n_outputs) = (n_tokens, n_outputs);
    }

    /// Buffers for the pass, grown if they must be.
    pub(crate) fn buffers(&mut self, config: &Config) -> Buffers<'_> {
        let lens = lens(config, self.n_tokens, self.n_outputs);
        let n_floats = lens.iter().sum();
        if self.floats.len() < n_floats {
            self.floats.resize(n_floats, 0.0);
        }
        let mut rest = self.floats.as_mut_slice();
        let [logits, output_rows, hidden, block, q, k, v, gate, up, cos, sin, cos_w, sin_w] = lens
            .map(|len| {
                let (head, tail) = std::mem::take(&mut rest).split_at_mut(len);
                rest = tail;
                head
            });
        Buffers {
            activations: &mut self.activations,
            hidden,
            block,
            q,
            k,
            v,
            gate,
            up,
            angles: Angles { cos, sin },
            angles_windowed: Angles { cos: cos_w, sin: sin_w },
            output_rows,
            logits,
        }
    }
}

/// Lengths of the buffers, in the order in which they lie.
fn lens(config: &Config, n_tokens: usize, n_outputs: usize) -> [usize; 13] {
    let n_pairs = config.n_rot / 2;
    let n_pairs_windowed = if config.windows.is_some() { n_pairs } else { 0 };
    let kv_dim = config.n_kv_heads * config.head_dim;
    [
        config.n_vocab * n_outputs,
        config.n_embd * n_outputs,
        config.n_embd * n_tokens,
        config.n_embd * n_tokens,
        config.n_heads * config.head_dim * n_tokens,
        kv_dim * n_tokens,
        kv_dim * n_tokens,
        config.n_ff * n_tokens,
        config.n_ff * n_tokens,
        n_pairs * n_tokens,
        n_pairs * n_tokens,
        n_pairs_windowed * n_tokens,
        n_pairs_windowed * n_tokens,
    ]
}

/// Bytes that 32 columns of activations take: as f32, and quantised in two planes with scales and
/// sums.
const ACTIVATION_BYTES_PER_32: usize = 128 + 80;

/// Bytes of a [`Scratch`] that has served such a batch.
pub(crate) fn n_bytes(config: &Config, n_tokens: usize, n_outputs: usize) -> u64 {
    let n_floats: usize = lens(config, n_tokens, n_outputs).iter().sum();
    let widest = config.n_embd.max(config.n_ff).max(config.n_heads * config.head_dim);
    let rows = n_tokens * size_of::<Query<'static>>();
    (4 * n_floats + rows) as u64 + activation_bytes(widest, n_tokens)
}

/// Bytes of activations of `n_tokens` rows of `n_cols` columns.
pub(crate) fn activation_bytes(n_cols: usize, n_tokens: usize) -> u64 {
    (n_cols.div_ceil(32) * ACTIVATION_BYTES_PER_32 * n_tokens) as u64
}

/// Empties a list and gives its allocation to a list of another lifetime. The standard library
/// collects in place when source and target are laid out alike, so this allocates nothing (and
/// were it ever to, the test below would say so and only a little time be lost).
fn relive<'a>(mut rows: Vec<Query<'_>>) -> Vec<Query<'a>> {
    rows.clear();
    rows.into_iter().map(|_| unreachable!("the list was cleared")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_rows_keeps_its_allocation() {
        let mut scratch = Scratch::new();
        let pages = [0];
        let mut rows = scratch.take_rows();
        rows.extend((0..100).map(|pos| Query { pos, pages: &pages }));
        let (address, capacity) = (rows.as_ptr() as usize, rows.capacity());
        scratch.put_rows(rows);
        let again = scratch.take_rows();
        assert_eq!((again.as_ptr() as usize, again.capacity()), (address, capacity));
        assert!(again.is_empty());
    }
}
