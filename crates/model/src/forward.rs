//! The forward pass.

use crate::{Model, Scratch};
use kernels::KvPool;

/// One sequence's next tokens in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// The token ids, each below `n_vocab`. Not empty.
    pub tokens: &'a [u32],
    /// The position of the first one; all before it are in the kv cache already.
    pub start_pos: u32,
    /// The sequence's page table; covers `start_pos + tokens.len()` positions.
    pub pages: &'a [u32],
    /// For which of the tokens logits are wanted.
    pub logits: LogitsFor,
}

/// For which tokens of a slice logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// For none: a slice of a prompt that goes on.
    None,
    /// For the last one.
    Last,
    /// For all of them.
    All,
}

impl Model {
    /// One pass over a batch. Writes the kv cache and returns logits `[n_outputs, n_vocab]`, the
    /// outputs in the order of the slices and their tokens.
    ///
    /// The bits of a row depend on its sequence alone: not on the batch, the split into slices of
    /// a prompt, the threads or the instruction set.
    ///
    /// # Panics
    /// If a token is not below `n_vocab` or `pages` does not cover the slice's positions: the
    /// caller checks requests, so reaching this is a bug.
    pub fn forward<'s>(
        &self,
        batch: &[Slice<'_>],
        kv: &mut KvPool,
        scratch: &'s mut Scratch,
    ) -> &'s [f32] {
        let _ = (batch, kv, scratch);
        todo!()
    }
}
