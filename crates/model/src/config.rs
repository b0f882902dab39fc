//! The dimensions and constants of a model, read from metadata and bounded.

use kernels::KvShape;

/// The dimensions and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Positions the model was trained for.
    pub n_ctx_train: usize,
    /// Rows of the embedding, and of the logits.
    pub n_vocab: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Heads of the queries.
    pub n_heads: usize,
    /// Heads of keys and values; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// Width of the feed-forward block.
    pub n_ff: usize,
}

impl Config {
    /// The shape of the kv cache.
    pub fn kv_shape(&self) -> KvShape {
        KvShape {
            n_layers: self.n_layers,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }
}
