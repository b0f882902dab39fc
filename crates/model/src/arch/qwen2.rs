//! Qwen2 and Qwen2.5 (dense): llama's shape with biases on q, k and v (Yang et al. 2024).

use super::{Activation, ArchSpec, AttentionScale, EmbeddingScale, PostNorms, Windows};
use kernels::RopePairing;

pub(super) const SPEC: ArchSpec = ArchSpec {
    name: "qwen2",
    rope_pairing: RopePairing::HalfSplit,
    activation: Activation::Silu,
    embedding_scale: EmbeddingScale::One,
    attention_scale: AttentionScale::HeadDim,
    post_norms: PostNorms::None,
    windows: Windows::None,
    required: &["attn_q.bias", "attn_k.bias", "attn_v.bias"],
};
