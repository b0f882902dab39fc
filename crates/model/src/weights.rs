//! Which tensors a model has, checked against its dimensions, then packed.
//!
//! One structure serves twice: over directory entries it is the checked layout of a file, from
//! which sizes are known before anything is allocated; over packed matrices it is the model.

use crate::arch::PostNorms;
use crate::{Config, ModelError};
use gguf::{Gguf, TensorInfo};
use kernels::{Arena, Cpu, Format, Matrix};
use std::collections::HashSet;

/// Packed matrices are strips of this many rows, the last one padded.
const STRIP_ROWS: usize = 16;

/// A checked file: directory entries in the places that the model gives them.
pub(crate) type Layout<'g> = Weights<&'g TensorInfo, &'g TensorInfo>;

/// A layer and a linear map as the pass uses them.
pub(crate) type PackedLayer = Layer<Matrix, Vec<f32>>;
pub(crate) type PackedLinear = Linear<Matrix, Vec<f32>>;

/// All weights, over matrices `M` and vectors `V`.
pub(crate) struct Weights<M, V> {
    /// `[n_vocab, n_embd]`; also the output matrix where the file has no other.
    pub(crate) token_embd: M,
    /// `[n_vocab, n_embd]`.
    pub(crate) output: Option<M>,
    /// `[n_embd]`.
    pub(crate) output_norm: V,
    /// Divisors of rope's frequencies, `[n_rot / 2]`.
    pub(crate) rope_divisors: Option<V>,
    pub(crate) layers: Vec<Layer<M, V>>,
}

/// One decoder layer.
pub(crate) struct Layer<M, V> {
    pub(crate) attn_norm: V,
    pub(crate) q: Linear<M, V>,
    pub(crate) k: Linear<M, V>,
    pub(crate) v: Linear<M, V>,
    /// Norms over each head, `[head_dim]`.
    pub(crate) q_norm: Option<V>,
    pub(crate) k_norm: Option<V>,
    pub(crate) attn_output: Linear<M, V>,
    pub(crate) attn_post_norm: Option<V>,
    pub(crate) ffn_norm: V,
    pub(crate) gate: Linear<M, V>,
    pub(crate) up: Linear<M, V>,
    pub(crate) down: Linear<M, V>,
    pub(crate) ffn_post_norm: Option<V>,
}

/// A matrix `[n_rows, n_cols]` with its bias `[n_rows]`, if it has one.
pub(crate) struct Linear<M, V> {
    pub(crate) weight: M,
    pub(crate) bias: Option<V>,
}

impl<'g> Layout<'g> {
    /// Finds and checks every tensor of the file.
    ///
    /// # Errors
    /// Names the first tensor that is missing, misshapen, of an unsupported type or of no use.
    pub(crate) fn check(gguf: &'g Gguf, config: &Config) -> Result<Self, ModelError> {
        let mut shelf = Shelf::new(gguf);
        let (n_vocab, n_embd) = (config.n_vocab, config.n_embd);
        let layout = Self {
            token_embd: shelf.take("token_embd.weight", &[n_vocab, n_embd])?,
            output: shelf.take_if_there("output.weight", &[n_vocab, n_embd])?,
            output_norm: shelf.take("output_norm.weight", &[n_embd])?,
            rope_divisors: shelf.take_if_there("rope_freqs.weight", &[config.n_rot / 2])?,
            layers: (0..config.n_layers)
                .map(|layer_idx| shelf.take_layer(layer_idx, config))
                .collect::<Result<_, _>>()?,
        };
        shelf.refuse_rest(config.architecture)?;
        Ok(layout)
    }

    /// Bytes that the weights will take when packed.
    pub(crate) fn packed_bytes(&self) -> u64 {
        self.n_bytes(&|tensor| packed_bytes(tensor), &|tensor| 4 * tensor.n_elements() as u64)
    }

    /// Packs everything for `cpu`, and gives back the file's pages as it goes: at no time are both
    /// the file and the packed weights in memory.
    ///
    /// # Errors
    /// Names the tensor whose bytes the packer refuses.
    pub(crate) fn pack(
        self,
        gguf: &Gguf,
        cpu: &Cpu,
    ) -> Result<Weights<Matrix, Vec<f32>>, ModelError> {
        let arena = Arena::with_capacity(usize::try_from(self.packed_bytes()).unwrap_or(0));
        let matrix = |tensor: &TensorInfo| {
            let matrix = pack_matrix(gguf, cpu, &arena, tensor);
            gguf.release(tensor);
            matrix
        };
        let vector = |tensor: &TensorInfo| unpack_vector(gguf, cpu, tensor);
        Ok(Weights {
            token_embd: matrix(self.token_embd)?,
            output: self.output.map(matrix).transpose()?,
            output_norm: vector(self.output_norm)?,
            rope_divisors: self.rope_divisors.map(vector).transpose()?,
            layers: self
                .layers
                .into_iter()
                .map(|layer| layer.try_map(&matrix, &vector))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl<M, V> Weights<M, V> {
    /// The sum over all matrices and vectors.
    pub(crate) fn n_bytes(&self, matrix: &impl Fn(&M) -> u64, vector: &impl Fn(&V) -> u64) -> u64 {
        let vectors = [Some(&self.output_norm), self.rope_divisors.as_ref()];
        matrix(&self.token_embd)
            + self.output.as_ref().map_or(0, matrix)
            + vectors.into_iter().flatten().map(vector).sum::<u64>()
            + self.layers.iter().map(|layer| layer.n_bytes(matrix, vector)).sum::<u64>()
    }
}

impl<M, V> Layer<M, V> {
    fn n_bytes(&self, matrix: &impl Fn(&M) -> u64, vector: &impl Fn(&V) -> u64) -> u64 {
        let linears =
            [&self.q, &self.k, &self.v, &self.attn_output, &self.gate, &self.up, &self.down];
        let norms = [Some(&self.attn_norm), Some(&self.ffn_norm)];
        let more_norms = [&self.q_norm, &self.k_norm, &self.attn_post_norm, &self.ffn_post_norm];
        let biases = linears.map(|linear| linear.bias.as_ref());
        let vectors = norms.into_iter().chain(more_norms.map(Option::as_ref)).chain(biases);
        linears.map(|linear| matrix(&linear.weight)).iter().sum::<u64>()
            + vectors.flatten().map(vector).sum::<u64>()
    }
}

impl<M: Copy, V: Copy> Layer<M, V> {
    fn try_map<M2, V2>(
        &self,
        matrix: &impl Fn(M) -> Result<M2, ModelError>,
        vector: &impl Fn(V) -> Result<V2, ModelError>,
    ) -> Result<Layer<M2, V2>, ModelError> {
        let linear = |linear: &Linear<M, V>| {
            let bias = linear.bias.map(vector).transpose()?;
            Ok::<_, ModelError>(Linear { weight: matrix(linear.weight)?, bias })
        };
        Ok(Layer {
            attn_norm: vector(self.attn_norm)?,
            q: linear(&self.q)?,
            k: linear(&self.k)?,
            v: linear(&self.v)?,
            q_norm: self.q_norm.map(vector).transpose()?,
            k_norm: self.k_norm.map(vector).transpose()?,
            attn_output: linear(&self.attn_output)?,
            attn_post_norm: self.attn_post_norm.map(vector).transpose()?,
            ffn_norm: vector(self.ffn_norm)?,
            gate: linear(&self.gate)?,
            up: linear(&self.up)?,
            down: linear(&self.down)?,
            ffn_post_norm: self.ffn_post_norm.map(vector).transpose()?,
        })
    }
}

/// Bytes that a matrix takes when packed.
pub(crate) fn packed_bytes(tensor: &TensorInfo) -> u64 {
    let n_rows = tensor.n_rows().next_multiple_of(STRIP_ROWS);
    (n_rows * (tensor.n_cols() / tensor.ty.block_len() * tensor.ty.block_bytes())) as u64
}

/// Packs one checked matrix.
pub(crate) fn pack_matrix(
    gguf: &Gguf,
    cpu: &Cpu,
    arena: &Arena,
    tensor: &TensorInfo,
) -> Result<Matrix, ModelError> {
    let format = supported(tensor)?;
    cpu.pack_into(arena, format, tensor.n_rows(), tensor.n_cols(), gguf.data(tensor))
        .map_err(|source| ModelError::Pack { tensor: tensor.name.clone(), source })
}

/// Reads one checked vector of any supported type: a matrix of one row.
pub(crate) fn unpack_vector(
    gguf: &Gguf,
    cpu: &Cpu,
    tensor: &TensorInfo,
) -> Result<Vec<f32>, ModelError> {
    let mut out = vec![0.0; tensor.n_cols()];
    let arena = Arena::with_capacity(0);
    pack_matrix(gguf, cpu, &arena, tensor)?.dequantize_row(0, &mut out);
    Ok(out)
}

fn supported(tensor: &TensorInfo) -> Result<Format, ModelError> {
    Format::from_gguf_id(tensor.ty.id()).ok_or_else(|| ModelError::TensorType {
        tensor: tensor.name.clone(),
        ty: tensor.ty.name().to_owned(),
        supported: Format::ALL.iter().map(|format| format.name()).collect::<Vec<_>>().join(", "),
    })
}

/// The tensors of a file, and which of them were taken.
pub(crate) struct Shelf<'g> {
    gguf: &'g Gguf,
    used: HashSet<&'g str>,
}

impl<'g> Shelf<'g> {
    pub(crate) fn new(gguf: &'g Gguf) -> Self {
        Self { gguf, used: HashSet::new() }
    }

    /// The tensor `name`, which must be there with this shape.
    pub(crate) fn take(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<&'g TensorInfo, ModelError> {
        self.take_if_there(name, shape)?.ok_or_else(|| ModelError::MissingTensor {
            tensor: name.to_owned(),
            expected: shape.to_vec(),
        })
    }

    fn take_if_there(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<&'g TensorInfo>, ModelError> {
        let Some(tensor) = self.gguf.tensor(name) else { return Ok(None) };
        if tensor.shape != shape {
            return Err(ModelError::Shape {
                tensor: tensor.name.clone(),
                shape: tensor.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        supported(tensor)?;
        self.used.insert(&tensor.name);
        Ok(Some(tensor))
    }

    fn take_layer(
        &mut self,
        layer_idx: usize,
        config: &Config,
    ) -> Result<Layer<&'g TensorInfo, &'g TensorInfo>, ModelError> {
        let (n_embd, n_ff, head_dim) = (config.n_embd, config.n_ff, config.head_dim);
        let (q_dim, kv_dim) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
        let post_norms = config.spec.post_norms;
        let name = |part: &str| format!("blk.{layer_idx}.{part}");
        let mut linear = |part: &str, n_rows: usize, n_cols: usize| {
            let weight = self.take(&name(&format!("{part}.weight")), &[n_rows, n_cols])?;
            let bias = self.take_if_there(&name(&format!("{part}.bias")), &[n_rows])?;
            Ok::<_, ModelError>(Linear { weight, bias })
        };
        let layer_linears = (
            linear("attn_q", q_dim, n_embd)?,
            linear("attn_k", kv_dim, n_embd)?,
            linear("attn_v", kv_dim, n_embd)?,
            linear("attn_output", n_embd, q_dim)?,
            linear("ffn_gate", n_ff, n_embd)?,
            linear("ffn_up", n_ff, n_embd)?,
            linear("ffn_down", n_embd, n_ff)?,
        );
        let (q, k, v, attn_output, gate, up, down) = layer_linears;
        let mut post_norm = |part: &str| match post_norms {
            PostNorms::None => Ok(None),
            PostNorms::Both => self.take(&name(part), &[n_embd]).map(Some),
        };
        let layer = Layer {
            attn_post_norm: post_norm("post_attention_norm.weight")?,
            ffn_post_norm: post_norm("post_ffw_norm.weight")?,
            attn_norm: self.take(&name("attn_norm.weight"), &[n_embd])?,
            ffn_norm: self.take(&name("ffn_norm.weight"), &[n_embd])?,
            q_norm: self.take_if_there(&name("attn_q_norm.weight"), &[head_dim])?,
            k_norm: self.take_if_there(&name("attn_k_norm.weight"), &[head_dim])?,
            q,
            k,
            v,
            attn_output,
            gate,
            up,
            down,
        };
        for part in config.spec.required {
            if !self.used.contains(name(part).as_str()) {
                let expected = match part.split_once('.') {
                    Some(("attn_q", _)) => q_dim,
                    Some(("attn_k" | "attn_v", _)) => kv_dim,
                    _ => head_dim,
                };
                let expected = vec![expected];
                return Err(ModelError::MissingTensor { tensor: name(part), expected });
            }
        }
        Ok(layer)
    }

    /// A tensor that nobody took would change the answers if it were used.
    pub(crate) fn refuse_rest(&self, architecture: &'static str) -> Result<(), ModelError> {
        // Old converters stored rope's plain frequencies, which follow from the base.
        const REDUNDANT: [&str; 2] = [".attn_rot_embd.weight", ".attn.rotary_emb.inv_freq"];
        let rest = self.gguf.tensors().iter().find(|tensor| {
            !self.used.contains(tensor.name.as_str())
                && !REDUNDANT.iter().any(|suffix| tensor.name.ends_with(suffix))
        });
        match rest {
            None => Ok(()),
            Some(tensor) => {
                Err(ModelError::UnexpectedTensor { tensor: tensor.name.clone(), architecture })
            }
        }
    }
}
