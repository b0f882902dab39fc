//! The dimensions and constants of an encoder, read from metadata and bounded as those of any
//! model are ([`crate::config`]).

use crate::ModelError;
use crate::config::{
    self, HEAD_DIM_MAX, HEAD_DIM_STEP, Keys, N_CTX_MAX, N_EMBD_MAX, N_FF_MAX, N_HEADS_MAX,
    N_LAYERS_MAX,
};
use gguf::Gguf;
use kernels::{KvFormat, KvShape, Precision};

/// The architecture that is known: `general.architecture`, and the prefix of its keys.
const BERT: &str = "bert";

/// Whether the file's model makes vectors of texts: [`crate::Encoder`] runs it, not
/// [`crate::Model`].
pub fn is_encoder(gguf: &Gguf) -> bool {
    matches!(gguf.metadata().str("general.architecture"), Ok(Some(BERT)))
}

/// How the rows of a text's tokens become its one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one, of `[CLS]`.
    Cls,
}

impl Pooling {
    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// The dimensions and constants of an encoder.
#[derive(Clone, Debug)]
pub struct EncoderConfig {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Most tokens of a text: positions that have an embedding.
    pub n_ctx: usize,
    /// Rows of the embedding.
    pub n_vocab: usize,
    /// Width of the residual stream, and of the vectors.
    pub n_embd: usize,
    /// Encoder layers.
    pub n_layers: usize,
    /// Heads of queries, keys and values.
    pub n_heads: usize,
    /// Elements of a head; a multiple of 16.
    pub head_dim: usize,
    /// Width of the feed-forward block.
    pub n_ff: usize,
    /// What layer norms add to the variance.
    pub norm_eps: f32,
    /// How a text's rows become one vector.
    pub pooling: Pooling,
}

impl EncoderConfig {
    /// Reads and bounds everything.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let metadata = gguf.metadata();
        let name = metadata.require_str("general.architecture")?;
        if !is_encoder(gguf) {
            return Err(ModelError::NoEncoder { name: name.to_owned(), known: vec![BERT] });
        }
        let keys = Keys { metadata, prefix: BERT };
        if metadata.bool(&keys.name("attention.causal"))? == Some(true) {
            return Err(keys.bad("attention.causal", true, "false: every token sees all others"));
        }
        let n_embd = keys.count("embedding_length", 1..=N_EMBD_MAX, None)?;
        let n_heads = keys.count("attention.head_count", 1..=N_HEADS_MAX, None)?;
        let n_kv_heads = keys.count("attention.head_count_kv", 1..=N_HEADS_MAX, Some(n_heads))?;
        if n_kv_heads != n_heads {
            let expected = format!("{n_heads}, as the queries have");
            return Err(keys.bad("attention.head_count_kv", n_kv_heads, expected));
        }
        let head_dim = n_embd / n_heads;
        let is_whole = n_embd.is_multiple_of(n_heads) && head_dim.is_multiple_of(HEAD_DIM_STEP);
        if !is_whole || !(1..=HEAD_DIM_MAX).contains(&head_dim) {
            let expected = format!(
                "a count that cuts embedding_length {n_embd} into heads of a multiple of \
                 {HEAD_DIM_STEP} up to {HEAD_DIM_MAX}"
            );
            return Err(keys.bad("attention.head_count", n_heads, expected));
        }
        let pooling = match metadata.u64(&keys.name("pooling_type"))? {
            Some(1) => Pooling::Mean,
            Some(2) => Pooling::Cls,
            other => {
                let found = other.map_or("absent".to_owned(), |other| other.to_string());
                return Err(keys.bad("pooling_type", found, "1 (mean) or 2 (CLS)"));
            }
        };
        Ok(Self {
            architecture: BERT,
            n_ctx: keys.count("context_length", 1..=N_CTX_MAX, None)?,
            n_vocab: config::n_vocab(gguf)?,
            n_embd,
            n_layers: keys.count("block_count", 1..=N_LAYERS_MAX, None)?,
            n_heads,
            head_dim,
            n_ff: keys.count("feed_forward_length", 1..=N_FF_MAX, None)?,
            norm_eps: keys.float("attention.layer_norm_epsilon", 0.0..=0.1, None)?,
            pooling,
        })
    }

    /// How exactly activations meet the weights: see [`crate::Config::precision`].
    pub fn precision(&self) -> Precision {
        config::precision(self.n_embd)
    }

    /// Keys and values of one layer: the next overwrites them, since no text goes on.
    pub(crate) fn kv_shape(&self) -> KvShape {
        let (n_kv_heads, head_dim) = (self.n_heads, self.head_dim);
        KvShape { n_layers: 1, n_kv_heads, head_dim, format: KvFormat::F16 }
    }
}
