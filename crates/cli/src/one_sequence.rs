//! One sequence fed to a model without an engine: for conformance tests and measurements.

use kernels::{KvPool, PAGE_LEN};
use model::{LogitsFor, Model, Scratch, Slice};

/// One sequence with its own KV cache.
pub(crate) struct OneSequence<'m> {
    model: &'m Model,
    kv: KvPool,
    pages: Vec<u32>,
    scratch: Scratch,
    n_past: usize,
}

impl<'m> OneSequence<'m> {
    /// An empty sequence with room for `n_tokens` positions.
    pub(crate) fn new(model: &'m Model, n_tokens: usize) -> Self {
        let n_pages = n_tokens.div_ceil(PAGE_LEN);
        Self {
            model,
            kv: KvPool::new(model.kv_shape(), n_pages),
            pages: (0_u32..).take(n_pages).collect(),
            scratch: Scratch::new(),
            n_past: 0,
        }
    }

    /// Starts again at position 0.
    pub(crate) fn restart(&mut self) {
        self.n_past = 0;
    }

    /// Feeds `tokens` after those before; returns logits `[n_outputs, n_vocab]`.
    ///
    /// # Panics
    /// If there is no room for them, or an id is not below `n_vocab`: callers check both.
    pub(crate) fn feed(&mut self, tokens: &[u32], logits: LogitsFor) -> &[f32] {
        let start_pos = u32::try_from(self.n_past).expect("the room asked for is bounded");
        let slice = Slice { tokens, start_pos, pages: &self.pages, logits };
        self.n_past += tokens.len();
        self.model.forward(&[slice], &mut self.kv, &mut self.scratch)
    }
}
