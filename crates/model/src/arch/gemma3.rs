//! Gemma 3, text (Gemma Team 2025): norms on both sides of each block, five windowed layers to one
//! that sees everything. The `1 +` of Gemma's norms is already in the file's weights.

use super::{Activation, ArchSpec, AttentionScale, EmbeddingScale, PostNorms, Windows};
use kernels::RopePairing;

pub(super) const SPEC: ArchSpec = ArchSpec {
    name: "gemma3",
    rope_pairing: RopePairing::HalfSplit,
    activation: Activation::GeluTanh,
    embedding_scale: EmbeddingScale::SqrtEmbd,
    // The 27B model, and only it, scales by `n_embd / n_heads` (168) and not by `head_dim` (128).
    attention_scale: AttentionScale::EmbdPerHeadWhen { n_layers: 62 },
    post_norms: PostNorms::Both,
    windows: Windows::AllButEvery { period: 6, rope_base: 10_000.0 },
    required: &["attn_q_norm.weight", "attn_k_norm.weight"],
};
