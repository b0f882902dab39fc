//! Qwen3 (dense): no biases, and a norm over each head of q and k (Yang et al. 2025).

use super::{Activation, ArchSpec, AttentionScale, EmbeddingScale, PostNorms, Windows};
use kernels::RopePairing;

pub(super) const SPEC: ArchSpec = ArchSpec {
    name: "qwen3",
    rope_pairing: RopePairing::HalfSplit,
    activation: Activation::Silu,
    embedding_scale: EmbeddingScale::One,
    attention_scale: AttentionScale::HeadDim,
    post_norms: PostNorms::None,
    windows: Windows::None,
    required: &["attn_q_norm.weight", "attn_k_norm.weight"],
};
