//! The naive twin of the forward pass: what it must compute, in f64, with nothing clever.
//!
//! Whole weights dequantised, one sequence, no cache, no batch, no threads, every position looking
//! back at all others by plain loops. Only the reading of the file is shared with the fast pass.
//! It is the oracle of the tests and far too slow for anything else.

pub use crate::encoder::reference::embedding;

use crate::arch::{Activation, AttentionScale, PostNorms};
use crate::weights::pack_matrix;
use crate::{Config, ModelError};
use gguf::Gguf;
use kernels::{Arena, Cpu, Isa, RopePairing};

/// A row per token.
pub(crate) type Rows = Vec<Vec<f64>>;

/// Logits `[n_tokens, n_vocab]` of `tokens`, fed from position 0.
///
/// # Errors
/// As [`crate::Model::load`]; a missing tensor is found when it is needed.
pub fn logits(gguf: &Gguf, tokens: &[u32]) -> Result<Rows, ModelError> {
    let config = Config::from_gguf(gguf)?;
    let file = File::new(gguf);
    let embedding = file.matrix("token_embd.weight")?.expect("its shape gave n_vocab");
    let scale = config.embedding_scale.map_or(1.0, f64::from);
    let mut hidden: Rows = tokens
        .iter()
        .map(|&token| embedding[token as usize].iter().map(|x| x * scale).collect())
        .collect();
    for layer_idx in 0..config.n_layers {
        let pass = Pass { config: &config, file: &file, layer_idx };
        pass.attention_block(&mut hidden)?;
        pass.feed_forward_block(&mut hidden)?;
    }
    let normed = rms_norm(&hidden, &file.vector("output_norm.weight")?, &config);
    let output = file.matrix("output.weight")?.unwrap_or(embedding);
    let mut logits = product(&output, &normed);
    if let Some(cap) = config.logit_soft_cap.map(f64::from) {
        logits.iter_mut().flatten().for_each(|x| *x = cap * (*x / cap).tanh());
    }
    Ok(logits)
}

/// One layer.
struct Pass<'a> {
    config: &'a Config,
    file: &'a File<'a>,
    layer_idx: usize,
}

impl Pass<'_> {
    fn attention_block(&self, hidden: &mut Rows) -> Result<(), ModelError> {
        let config = self.config;
        let x = rms_norm(hidden, &self.vector("attn_norm.weight")?, config);
        let mut q = heads(&self.linear("attn_q", &x)?, config.head_dim);
        let mut k = heads(&self.linear("attn_k", &x)?, config.head_dim);
        let v = heads(&self.linear("attn_v", &x)?, config.head_dim);
        for (x, norm) in [(&mut q, "attn_q_norm.weight"), (&mut k, "attn_k_norm.weight")] {
            for (pos, heads) in x.iter_mut().enumerate() {
                if let Some(norm) = self.vector_if_there(norm)? {
                    *heads = rms_norm(heads, &norm, config);
                }
                for head in heads {
                    self.rope(head, pos)?;
                }
            }
        }
        let mixed: Rows = (0..hidden.len()).map(|pos| self.attention(&q, &k, &v, pos)).collect();
        let out = self.linear("attn_output", &mixed)?;
        self.add(hidden, out, "post_attention_norm.weight")
    }

    fn feed_forward_block(&self, hidden: &mut Rows) -> Result<(), ModelError> {
        let x = rms_norm(hidden, &self.vector("ffn_norm.weight")?, self.config);
        let mut gated = self.linear("ffn_gate", &x)?;
        let up = self.linear("ffn_up", &x)?;
        for (gate, up) in gated.iter_mut().flatten().zip(up.iter().flatten()) {
            let x = *gate;
            *gate = up
                * match self.config.spec.activation {
                    Activation::Silu => x / (1.0 + (-x).exp()),
                    Activation::GeluTanh => {
                        let inner =
                            (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                        0.5 * x * (1.0 + inner.tanh())
                    }
                };
        }
        let out = self.linear("ffn_down", &gated)?;
        self.add(hidden, out, "post_ffw_norm.weight")
    }

    /// What position `pos` sees: `[n_heads * head_dim]`.
    fn attention(&self, q: &[Rows], k: &[Rows], v: &[Rows], pos: usize) -> Vec<f64> {
        let config = self.config;
        let window = config.window(self.layer_idx).map_or(usize::MAX, |window| window as usize);
        let seen = (pos + 1).saturating_sub(window)..pos + 1;
        let scale = self.attention_scale();
        let mut out = Vec::new();
        for (head_idx, q) in q[pos].iter().enumerate() {
            let kv_head_idx = head_idx / (config.n_heads / config.n_kv_heads);
            let scores = seen.clone().map(|other| {
                let score = dot(q, &k[other][kv_head_idx]) * scale;
                match config.attention_soft_cap.map(f64::from) {
                    Some(cap) => cap * (score / cap).tanh(),
                    None => score,
                }
            });
            let scores: Vec<f64> = scores.collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
            let mut mixed = vec![0.0; config.head_dim];
            for (other, score) in seen.clone().zip(&scores) {
                let weight = (score - max).exp() / sum;
                for (mixed, v) in mixed.iter_mut().zip(&v[other][kv_head_idx]) {
                    *mixed += weight * v;
                }
            }
            out.extend(mixed);
        }
        out
    }

    fn attention_scale(&self) -> f64 {
        let key = format!("{}.attention.scale", self.config.architecture);
        if self.file.gguf.metadata().get(&key).is_some() {
            return f64::from(self.config.attention_scale);
        }
        let head_dim = match self.config.spec.attention_scale {
            AttentionScale::EmbdPerHeadWhen { n_layers } if n_layers == self.config.n_layers => {
                self.config.n_embd / self.config.n_heads
            }
            _ => self.config.head_dim,
        };
        1.0 / (head_dim as f64).sqrt()
    }

    /// Turns the pairs of one head, by the plain definition: no scaling but the file's divisors.
    fn rope(&self, head: &mut [f64], pos: usize) -> Result<(), ModelError> {
        let n_rot = self.config.n_rot;
        let windowed = self.config.windows.as_ref().filter(|w| w.is_windowed[self.layer_idx]);
        let base = windowed.map_or(self.config.rope.base, |windows| windows.rope.base);
        let divisors = match windowed {
            Some(_) => None,
            None => self.file.matrix("rope_freqs.weight")?,
        };
        for pair in 0..n_rot / 2 {
            let frequency = f64::from(base).powf(-2.0 * pair as f64 / n_rot as f64);
            let divisor = divisors.as_ref().map_or(1.0, |divisors| divisors[0][pair]);
            let (sin, cos) = (pos as f64 * frequency / divisor).sin_cos();
            let (i, j) = match self.config.spec.rope_pairing {
                RopePairing::Adjacent => (2 * pair, 2 * pair + 1),
                RopePairing::HalfSplit => (pair, pair + n_rot / 2),
            };
            (head[i], head[j]) = (head[i] * cos - head[j] * sin, head[i] * sin + head[j] * cos);
        }
        Ok(())
    }

    fn add(&self, hidden: &mut Rows, block: Rows, post_norm: &str) -> Result<(), ModelError> {
        let block = match self.config.spec.post_norms {
            PostNorms::None => block,
            PostNorms::Both => rms_norm(&block, &self.vector(post_norm)?, self.config),
        };
        for (hidden, x) in hidden.iter_mut().flatten().zip(block.iter().flatten()) {
            *hidden += x;
        }
        Ok(())
    }

    fn linear(&self, part: &str, x: &Rows) -> Result<Rows, ModelError> {
        let name = format!("blk.{}.{part}.weight", self.layer_idx);
        let weight = self.file.matrix(&name)?.ok_or_else(|| missing(name))?;
        let mut out = product(&weight, x);
        if let Some(bias) = self.vector_if_there(&format!("{part}.bias"))? {
            for row in &mut out {
                row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
            }
        }
        Ok(out)
    }

    fn vector(&self, part: &str) -> Result<Vec<f64>, ModelError> {
        self.file.vector(&format!("blk.{}.{part}", self.layer_idx))
    }

    fn vector_if_there(&self, part: &str) -> Result<Option<Vec<f64>>, ModelError> {
        let rows = self.file.matrix(&format!("blk.{}.{part}", self.layer_idx))?;
        Ok(rows.map(|mut rows| rows.remove(0)))
    }
}

/// Reads tensors whole.
pub(crate) struct File<'a> {
    gguf: &'a Gguf,
    cpu: Cpu,
}

impl<'a> File<'a> {
    pub(crate) fn new(gguf: &'a Gguf) -> Self {
        Self { gguf, cpu: Cpu::new(Isa::Portable, 1) }
    }

    pub(crate) fn matrix(&self, name: &str) -> Result<Option<Rows>, ModelError> {
        let Some(tensor) = self.gguf.tensor(name) else { return Ok(None) };
        let matrix = pack_matrix(self.gguf, &self.cpu, &Arena::with_capacity(0), tensor)?;
        let mut row = vec![0.0; tensor.n_cols()];
        let rows = (0..tensor.n_rows()).map(|row_idx| {
            matrix.dequantize_row(row_idx, &mut row);
            row.iter().map(|&x| f64::from(x)).collect()
        });
        Ok(Some(rows.collect()))
    }

    pub(crate) fn vector(&self, name: &str) -> Result<Vec<f64>, ModelError> {
        let mut rows = self.matrix(name)?.ok_or_else(|| missing(name.to_owned()))?;
        Ok(rows.remove(0))
    }
}

pub(crate) fn missing(tensor: String) -> ModelError {
    ModelError::MissingTensor { tensor, expected: Vec::new() }
}

/// Cuts each row in heads: `[n_tokens][n_heads][head_dim]`.
pub(crate) fn heads(rows: &Rows, head_dim: usize) -> Vec<Rows> {
    rows.iter().map(|row| row.chunks(head_dim).map(<[f64]>::to_vec).collect()).collect()
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "reference: operands differ in length");
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn product(weight: &Rows, x: &Rows) -> Rows {
    x.iter().map(|x| weight.iter().map(|row| dot(row, x)).collect()).collect()
}

fn rms_norm(x: &Rows, weight: &[f64], config: &Config) -> Rows {
    let norm = |row: &Vec<f64>| {
        let mean_square = dot(row, row) / row.len() as f64;
        let scale = 1.0 / (mean_square + f64::from(config.rms_eps)).sqrt();
        row.iter().zip(weight).map(|(x, weight)| x * scale * weight).collect()
    };
    x.iter().map(norm).collect()
}
