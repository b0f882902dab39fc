//! What a model will take in memory, known before anything is allocated.

use crate::{Config, ModelError};

/// What a model will take in memory. All sizes are bytes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model's dimensions.
    pub config: Config,
    /// The packed weights.
    pub weight_bytes: u64,
    /// One page of 64 positions of the kv cache, over all layers.
    pub kv_page_bytes: u64,
}

impl Plan {
    /// Bytes of scratch that a pass over `n_tokens` tokens with `n_outputs` rows of logits takes.
    pub fn scratch_bytes(&self, n_tokens: usize, n_outputs: usize) -> u64 {
        let _ = (n_tokens, n_outputs);
        todo!()
    }

    pub(crate) fn new(_gguf: &gguf::Gguf) -> Result<Self, ModelError> {
        todo!()
    }
}
