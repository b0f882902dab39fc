//! The known architectures, and what a description of one says.
//!
//! A new architecture is one file here and one line in [`ALL`]. A description holds only what the
//! GGUF file does not say: which pairs rope rotates, where norms stand, the activation, the pattern
//! of sliding windows. Counts, scales, soft caps, biases and q/k norms are read from the file.

mod gemma3;
mod llama;
mod qwen2;
mod qwen3;

use kernels::RopePairing;

/// Every architecture the forward pass can run.
pub const ALL: &[&ArchSpec] = &[&llama::SPEC, &qwen2::SPEC, &qwen3::SPEC, &gemma3::SPEC];

/// What a GGUF file of an architecture leaves unsaid.
#[derive(Debug)]
pub struct ArchSpec {
    /// `general.architecture`, which is also the prefix of its metadata keys.
    pub name: &'static str,
    /// Which two elements of a head rope rotates together.
    pub rope_pairing: RopePairing,
    /// What the gate of the feed-forward block passes through.
    pub activation: Activation,
    /// What the embedding rows are multiplied by.
    pub embedding_scale: EmbeddingScale,
    /// What the attention scores are multiplied by, where the file has no `attention.scale`.
    pub attention_scale: AttentionScale,
    /// Norms behind the attention and feed-forward blocks, before their residual addition.
    pub post_norms: PostNorms,
    /// Which layers see only a window of positions.
    pub windows: Windows,
    /// Tensors that other architectures may lack but each layer of this one must have: the suffix
    /// after `blk.N.`. Without this a stripped file would run as another architecture, in silence.
    pub required: &'static [&'static str],
}

/// What the gate of the feed-forward block passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)` (Shazeer 2020, SwiGLU).
    Silu,
    /// GELU in its tanh form (GeGLU).
    GeluTanh,
}

/// What the embedding rows are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// Nothing.
    One,
    /// The square root of `n_embd`.
    SqrtEmbd,
}

/// What the attention scores are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionScale {
    /// `1 / sqrt(head_dim)`.
    HeadDim,
    /// `1 / sqrt(n_embd / n_heads)` for the model of the family that has this many layers, and
    /// `1 / sqrt(head_dim)` for the others: its GGUF files carry no key that says so.
    EmbdPerHeadWhen {
        /// The count of layers by which that model is known.
        n_layers: usize,
    },
}

/// Norms behind the attention and feed-forward blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostNorms {
    /// None: a block's output is added to the residual as it is.
    None,
    /// `post_attention_norm` and `post_ffw_norm`, each before its residual addition.
    Both,
}

/// Which layers see only a window of positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Windows {
    /// No layer. A file that sets a window all the same is refused.
    None,
    /// All layers but each `period`-th, counted from one; the windowed ones rotate with their own
    /// base and without scaling. The file may override both numbers.
    AllButEvery {
        /// `attention.sliding_window_pattern` where the file has it.
        period: usize,
        /// `rope.freq_base_swa` where the file has it.
        rope_base: f32,
    },
}

/// The description of the architecture called `name`, if it is known.
pub fn find(name: &str) -> Option<&'static ArchSpec> {
    ALL.iter().copied().find(|spec| spec.name == name)
}

/// The names of all known architectures, for messages.
pub fn known_architectures() -> Vec<&'static str> {
    ALL.iter().map(|spec| spec.name).collect()
}
