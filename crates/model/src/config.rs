//! The dimensions and constants of a model, read from metadata and bounded.
//!
//! Every number that later sizes a buffer or a loop passes a named bound here, so that nothing
//! behind this file has to doubt one. Keys that ask for maths which the pass does not do are
//! refused by name: a model must not run as something it is not.

use crate::arch::{self, ArchSpec, AttentionScale, EmbeddingScale, Windows};
use crate::rope::{RopeParams, Scaling};
use crate::{ModelError, is_encoder, known_architectures};
use gguf::{Gguf, Metadata};
use kernels::{KvFormat, KvShape, Precision};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// The deepest published dense models have about 130 layers.
pub(crate) const N_LAYERS_MAX: usize = 1024;
/// Four times the widest published residual stream (16,384).
pub(crate) const N_EMBD_MAX: usize = 65_536;
/// Wider than any published feed-forward block (53,248).
pub(crate) const N_FF_MAX: usize = 524_288;
/// Published models have up to 128 heads.
pub(crate) const N_HEADS_MAX: usize = 1024;
/// Published heads have up to 256 elements.
pub(crate) const HEAD_DIM_MAX: usize = 1024;
/// Attention works on 16 elements at a time.
pub(crate) const HEAD_DIM_STEP: usize = 16;
/// Published vocabularies have up to 262,144 tokens.
const N_VOCAB_MAX: usize = 1 << 22;
/// Positions are `u32` and their products with f64 frequencies stay exact far beyond this.
pub(crate) const N_CTX_MAX: usize = 1 << 24;
/// From this width on 8 bits an activation are enough.
const N_EMBD_WIDE: usize = 1024;

/// The dimensions and constants of a model.
#[derive(Clone, Debug)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// What the architecture says and the file does not.
    pub spec: &'static ArchSpec,
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
    /// Elements of a head; a multiple of 16.
    pub head_dim: usize,
    /// Leading elements of a head that rope rotates; even, at most `head_dim`.
    pub n_rot: usize,
    /// Width of the feed-forward block.
    pub n_ff: usize,
    /// What RMS norms add to the mean square.
    pub rms_eps: f32,
    /// What the embedding rows are multiplied by.
    pub embedding_scale: Option<f32>,
    /// What attention scores are multiplied by.
    pub attention_scale: f32,
    /// Cap of the attention scores, `cap * tanh(score / cap)`.
    pub attention_soft_cap: Option<f32>,
    /// Cap of the logits.
    pub logit_soft_cap: Option<f32>,
    /// Rope of the layers that see everything.
    pub(crate) rope: RopeParams,
    /// The windowed layers, where the architecture has such.
    pub(crate) windows: Option<WindowedLayers>,
}

/// Which layers see a window only, and how those rotate.
#[derive(Clone, Debug)]
pub(crate) struct WindowedLayers {
    /// Positions that such a layer sees, its own counted.
    pub(crate) n_positions: u32,
    /// Per layer.
    pub(crate) is_windowed: Vec<bool>,
    pub(crate) rope: RopeParams,
}

impl Config {
    /// Reads and bounds everything.
    ///
    /// # Errors
    /// Names the key, its value and what was expected; for an unknown architecture, the known.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let name = gguf.metadata().require_str("general.architecture")?;
        let spec = arch::find(name).ok_or_else(|| {
            let (name, known) = (name.to_owned(), known_architectures());
            match is_encoder(gguf) {
                true => ModelError::Encoder { name, known },
                false => ModelError::UnknownArchitecture { name, known },
            }
        })?;
        let keys = Keys { metadata: gguf.metadata(), prefix: spec.name };
        keys.refuse_unknown_maths()?;

        let n_layers = keys.count("block_count", 1..=N_LAYERS_MAX, None)?;
        let n_embd = keys.count("embedding_length", 1..=N_EMBD_MAX, None)?;
        let n_heads = keys.count("attention.head_count", 1..=N_HEADS_MAX, None)?;
        let n_kv_heads = keys.count("attention.head_count_kv", 1..=N_HEADS_MAX, Some(n_heads))?;
        if !n_heads.is_multiple_of(n_kv_heads) {
            let expected = format!("a divisor of the {n_heads} heads");
            return Err(keys.bad("attention.head_count_kv", n_kv_heads, expected));
        }
        let head_dim = head_dim(&keys, n_embd, n_heads)?;
        let n_ctx_train = keys.count("context_length", 1..=N_CTX_MAX, None)?;
        let n_rot = keys.multiple("rope.dimension_count", 2, head_dim, Some(head_dim))?;
        let rope = RopeParams {
            n_rot,
            base: keys.rope_base("rope.freq_base", 10_000.0)?,
            scaling: scaling(&keys, n_ctx_train)?,
        };
        Ok(Self {
            architecture: spec.name,
            spec,
            n_ctx_train,
            n_vocab: n_vocab(gguf)?,
            n_embd,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            n_rot,
            n_ff: keys.count("feed_forward_length", 1..=N_FF_MAX, None)?,
            rms_eps: keys.float("attention.layer_norm_rms_epsilon", 0.0..=0.1, None)?,
            embedding_scale: match spec.embedding_scale {
                EmbeddingScale::One => None,
                EmbeddingScale::SqrtEmbd => Some((n_embd as f32).sqrt()),
            },
            attention_scale: match keys.positive("attention.scale")? {
                Some(scale) => scale,
                None => attention_scale(spec, n_layers, n_embd, n_heads, head_dim),
            },
            attention_soft_cap: keys.positive("attn_logit_softcapping")?,
            logit_soft_cap: keys.positive("final_logit_softcapping")?,
            windows: windows(&keys, spec, n_layers, n_ctx_train, n_rot)?,
            rope,
        })
    }

    /// How exactly activations meet the weights: 16 bits in models narrower than 1024, else 8.
    ///
    /// A narrow model has little redundancy: with 8 bits the default model misses its own best
    /// token at 6 of 441 positions (`docs/accuracy.md`), and it has speed to spare. In a wide one
    /// the errors of many columns should average out (not measured yet), and a second dot product
    /// would nearly halve the speed of prefill.
    pub fn precision(&self) -> Precision {
        precision(self.n_embd)
    }

    /// The shape of the kv cache.
    pub fn kv_shape(&self) -> KvShape {
        KvShape {
            n_layers: self.n_layers,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            format: KvFormat::default(),
        }
    }

    /// Multiplications with weights that the layers make per token; the output head is not counted.
    pub fn layer_macs(&self) -> u64 {
        let (q_dim, kv_dim) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let attention = 2 * q_dim + 2 * kv_dim;
        (self.n_layers * self.n_embd) as u64 * (attention + 3 * self.n_ff) as u64
    }

    /// Positions that layer `layer_idx` sees, its own counted; `None` for all.
    pub fn window(&self, layer_idx: usize) -> Option<u32> {
        let windows = self.windows.as_ref()?;
        windows.is_windowed[layer_idx].then_some(windows.n_positions)
    }
}

/// See [`Config::precision`].
pub(crate) fn precision(n_embd: usize) -> Precision {
    if n_embd < N_EMBD_WIDE { Precision::Bits16 } else { Precision::Bits8 }
}

fn head_dim(keys: &Keys<'_>, n_embd: usize, n_heads: usize) -> Result<usize, ModelError> {
    let default = match keys.metadata.u64(&keys.name("attention.key_length"))? {
        Some(_) => None,
        None if n_embd.is_multiple_of(n_heads) => Some(n_embd / n_heads),
        None => {
            let expected = format!("a divisor of embedding_length {n_embd}");
            return Err(keys.bad("attention.head_count", n_heads, expected));
        }
    };
    let head_dim = keys.multiple("attention.key_length", HEAD_DIM_STEP, HEAD_DIM_MAX, default)?;
    let value_dim = keys.count("attention.value_length", 1..=HEAD_DIM_MAX, Some(head_dim))?;
    if value_dim != head_dim {
        let expected = format!("{head_dim}, as the keys have");
        return Err(keys.bad("attention.value_length", value_dim, expected));
    }
    Ok(head_dim)
}

/// The count of tokens is what the embedding has rows for; its shape is checked with the others.
pub(crate) fn n_vocab(gguf: &Gguf) -> Result<usize, ModelError> {
    let tensor = gguf.tensor("token_embd.weight").ok_or_else(|| ModelError::MissingTensor {
        tensor: "token_embd.weight".to_owned(),
        expected: Vec::new(),
    })?;
    match tensor.shape[..] {
        [n_vocab, _] if n_vocab <= N_VOCAB_MAX => Ok(n_vocab),
        _ => Err(ModelError::Bounds {
            tensor: tensor.name.clone(),
            shape: tensor.shape.clone(),
            expected: format!("[n_vocab, n_embd] with n_vocab at most {N_VOCAB_MAX}"),
        }),
    }
}

fn attention_scale(
    spec: &ArchSpec,
    n_layers: usize,
    n_embd: usize,
    n_heads: usize,
    head_dim: usize,
) -> f32 {
    let divisor = match spec.attention_scale {
        AttentionScale::EmbdPerHeadWhen { n_layers: known } if known == n_layers => {
            n_embd as f64 / n_heads as f64
        }
        _ => head_dim as f64,
    };
    (1.0 / divisor.sqrt()) as f32
}

fn windows(
    keys: &Keys<'_>,
    spec: &ArchSpec,
    n_layers: usize,
    n_ctx_train: usize,
    n_rot: usize,
) -> Result<Option<WindowedLayers>, ModelError> {
    const KEY: &str = "attention.sliding_window";
    const PATTERN: &str = "attention.sliding_window_pattern";
    match spec.windows {
        Windows::None => {
            // A window as long as the context cuts nothing off.
            let window = keys.count(KEY, 0..=u32::MAX as usize, Some(0))?;
            if window > 0 && window < n_ctx_train {
                let expected = format!("none, or at least context_length {n_ctx_train}");
                return Err(keys.bad(KEY, window, expected));
            }
            Ok(None)
        }
        Windows::AllButEvery { period, rope_base } => {
            let pattern = keys.name(PATTERN);
            let is_windowed: Vec<bool> = match keys.metadata.get(&pattern) {
                Some(gguf::Value::Array(_)) => {
                    keys.metadata.bools(&pattern)?.unwrap_or_default().to_vec()
                }
                _ => {
                    let period = keys.count(PATTERN, 1..=N_LAYERS_MAX, Some(period))?;
                    (1..=n_layers).map(|nth| !nth.is_multiple_of(period)).collect()
                }
            };
            if is_windowed.len() != n_layers {
                let value = format!("{} layers", is_windowed.len());
                return Err(keys.bad(PATTERN, value, format!("the {n_layers} of block_count")));
            }
            let base = keys.rope_base("rope.freq_base_swa", rope_base)?;
            Ok(Some(WindowedLayers {
                n_positions: keys.count(KEY, 1..=N_CTX_MAX, None)? as u32,
                is_windowed,
                rope: RopeParams { n_rot, base, scaling: Scaling::None },
            }))
        }
    }
}

fn scaling(keys: &Keys<'_>, n_ctx_train: usize) -> Result<Scaling, ModelError> {
    let factor = match keys.positive("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.positive("rope.scale_linear")?, // as files of 2023 call it
    };
    let kind_key = keys.name("rope.scaling.type");
    let kind = keys.metadata.str(&kind_key)?.unwrap_or("linear");
    match (kind, factor) {
        ("none", _) | ("linear" | "yarn", None) => Ok(Scaling::None),
        ("linear", Some(factor)) => Ok(Scaling::Linear { factor }),
        ("yarn", Some(factor)) => Ok(Scaling::Yarn {
            factor,
            n_ctx_original: keys.count(
                "rope.scaling.original_context_length",
                1..=N_CTX_MAX,
                Some(n_ctx_train),
            )?,
            beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        }),
        _ => Err(keys.bad("rope.scaling.type", format!("{kind:?}"), "none, linear or yarn")),
    }
}

/// The metadata keys of one architecture.
pub(crate) struct Keys<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) prefix: &'static str,
}

impl Keys<'_> {
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    pub(crate) fn bad(&self, key: &str, value: impl Display, expected: impl Display) -> ModelError {
        let (value, expected) = (value.to_string(), expected.to_string());
        ModelError::Metadata { key: self.name(key), value, expected }
    }

    /// An integer within `bounds`; without a `default` the key must be there.
    pub(crate) fn count(
        &self,
        key: &str,
        bounds: RangeInclusive<usize>,
        default: Option<usize>,
    ) -> Result<usize, ModelError> {
        let name = self.name(key);
        let value = match (self.metadata.u64(&name)?, default) {
            (Some(value), _) => value,
            (None, Some(default)) => default as u64,
            (None, None) => self.metadata.require_u64(&name)?,
        };
        usize::try_from(value)
            .ok()
            .filter(|value| bounds.contains(value))
            .ok_or_else(|| self.bad(key, value, format!("{} to {}", bounds.start(), bounds.end())))
    }

    /// A multiple of `step` from `step` to `max`.
    fn multiple(
        &self,
        key: &str,
        step: usize,
        max: usize,
        default: Option<usize>,
    ) -> Result<usize, ModelError> {
        let value = self.count(key, 0..=usize::MAX, default)?;
        if value == 0 || value > max || !value.is_multiple_of(step) {
            return Err(self.bad(key, value, format!("a multiple of {step} up to {max}")));
        }
        Ok(value)
    }

    /// A float above the start of `bounds` and not above their end, which no NaN is.
    pub(crate) fn float(
        &self,
        key: &str,
        bounds: RangeInclusive<f32>,
        default: Option<f32>,
    ) -> Result<f32, ModelError> {
        let name = self.name(key);
        let value = match (self.metadata.f32(&name)?, default) {
            (Some(value), _) => value,
            (None, Some(default)) => default,
            (None, None) => self.metadata.require_f32(&name)?,
        };
        if !(value > *bounds.start() && value <= *bounds.end()) {
            let expected = format!("above {} and at most {}", bounds.start(), bounds.end());
            return Err(self.bad(key, value, expected));
        }
        Ok(value)
    }

    /// A float above 0; `None` where the key is absent or 0, by which writers say "not used".
    fn positive(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.metadata.f32(&self.name(key))? {
            None => Ok(None),
            Some(0.0) => Ok(None),
            Some(_) => self.float(key, 0.0..=1e9, None).map(Some),
        }
    }

    fn rope_base(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        self.float(key, 1.0..=1e12, Some(default))
    }

    /// Refuses keys that change the maths in ways which the pass does not follow.
    fn refuse_unknown_maths(&self) -> Result<(), ModelError> {
        const ONLY_NEUTRAL: [(&str, f32); 9] = [
            ("expert_count", 0.0),
            ("logit_scale", 1.0),
            ("embedding_scale", 1.0),
            ("residual_scale", 1.0),
            ("attention.clamp_kqv", 0.0),
            ("attention.max_alibi_bias", 0.0),
            ("rope.scaling.attn_factor", 1.0),
            ("rope.scaling.yarn_attn_factor", 1.0),
            ("rope.scaling.yarn_ext_factor", 1.0),
        ];
        for (key, neutral) in ONLY_NEUTRAL {
            // Zero is how writers say "not used", whatever the neutral element is.
            match self.metadata.f32(&self.name(key))? {
                Some(value) if value != neutral && value != 0.0 => {
                    let expected = format!("none or {neutral}: nothing else is supported");
                    return Err(self.bad(key, value, expected));
                }
                _ => {}
            }
        }
        if self.metadata.bool(&self.name("attention.causal"))? == Some(false) {
            return Err(self.bad("attention.causal", false, "true: nothing else is supported"));
        }
        Ok(())
    }
}
