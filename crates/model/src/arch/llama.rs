//! Llama 1 to 3 and what follows its shape: SmolLM2, Mistral 7B, TinyLlama, Yi (Touvron et al.
//! 2023).

use super::{Activation, ArchSpec, AttentionScale, EmbeddingScale, PostNorms, Windows};
use kernels::RopePairing;

pub(super) const SPEC: ArchSpec = ArchSpec {
    name: "llama",
    // The converter permutes q and k so that the pairs stand side by side.
    rope_pairing: RopePairing::Adjacent,
    activation: Activation::Silu,
    embedding_scale: EmbeddingScale::One,
    attention_scale: AttentionScale::HeadDim,
    post_norms: PostNorms::None,
    windows: Windows::None,
    required: &[],
};
