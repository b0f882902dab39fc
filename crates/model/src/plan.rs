//! What a model will take in memory, known before anything is allocated.

use crate::scratch;
use crate::weights::Layout;
use crate::{Config, ModelError};
use gguf::Gguf;
use kernels::{KvFormat, KvShape};

/// What a model will take in memory. All sizes are bytes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model's dimensions.
    pub config: Config,
    /// The packed weights.
    pub weight_bytes: u64,
}

impl Plan {
    /// Bytes of scratch that a pass over `n_tokens` tokens with `n_outputs` rows of logits takes,
    /// within a few percent.
    pub fn scratch_bytes(&self, n_tokens: usize, n_outputs: usize) -> u64 {
        scratch::n_bytes(&self.config, n_tokens, n_outputs)
    }

    /// One page of [`kernels::PAGE_LEN`] positions of the kv cache, over all layers.
    pub fn kv_page_bytes(&self, format: KvFormat) -> u64 {
        KvShape { format, ..self.config.kv_shape() }.page_bytes() as u64
    }

    pub(crate) fn new(gguf: &Gguf) -> Result<Self, ModelError> {
        let config = Config::from_gguf(gguf)?;
        Ok(Self { weight_bytes: Layout::check(gguf, &config)?.packed_bytes(), config })
    }
}
