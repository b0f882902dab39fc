//! Which tensors an encoder has, as converters name them, checked and packed.

use super::EncoderConfig;
use crate::ModelError;
use crate::weights::{Linear, Shelf, pack_matrix, packed_bytes};
use gguf::{Gguf, TensorInfo};
use kernels::{Arena, Cpu, Matrix};

/// All weights, over matrices `M` and lists of floats `V`.
pub(super) struct Weights<M, V> {
    /// `[n_vocab, n_embd]`.
    pub(super) token_embd: M,
    /// `[n_ctx, n_embd]`.
    pub(super) position_embd: V,
    /// `[n_token_types, n_embd]`; a text alone is of type 0.
    pub(super) token_types: V,
    pub(super) embd_norm: Norm<V>,
    pub(super) layers: Vec<Layer<M, V>>,
}

/// One encoder layer.
pub(super) struct Layer<M, V> {
    pub(super) q: Linear<M, V>,
    pub(super) k: Linear<M, V>,
    pub(super) v: Linear<M, V>,
    pub(super) attn_output: Linear<M, V>,
    pub(super) attn_norm: Norm<V>,
    pub(super) up: Linear<M, V>,
    pub(super) down: Linear<M, V>,
    pub(super) ffn_norm: Norm<V>,
}

/// A layer norm: weight and bias, `[n_embd]` each.
pub(super) struct Norm<V> {
    pub(super) weight: V,
    pub(super) bias: V,
}

pub(super) type Packed = Weights<Matrix, Vec<f32>>;
pub(super) type PackedLayer = Layer<Matrix, Vec<f32>>;

/// Checks every tensor of the file; returns the bytes that they will take when packed.
///
/// # Errors
/// Names the first tensor that is missing, misshapen, of an unsupported type or of no use.
pub(super) fn check(gguf: &Gguf, config: &EncoderConfig) -> Result<u64, ModelError> {
    let n_bytes = std::cell::Cell::new(0_u64);
    let add = |more: u64| {
        n_bytes.set(n_bytes.get().saturating_add(more));
        Ok(())
    };
    let vector = |tensor: &TensorInfo| add(4 * tensor.n_elements() as u64);
    let make = Make { matrix: &|tensor| add(packed_bytes(tensor)), vector: &vector };
    take_all(gguf, config, &make)?;
    Ok(n_bytes.get())
}

/// Packs every tensor for `cpu`, and gives back the file's pages as it goes.
///
/// # Errors
/// As [`check`], which comes first.
pub(super) fn pack(gguf: &Gguf, config: &EncoderConfig, cpu: &Cpu) -> Result<Packed, ModelError> {
    let n_bytes = check(gguf, config)?;
    let arena = Arena::with_capacity(usize::try_from(n_bytes).unwrap_or(0));
    let matrix = |tensor: &TensorInfo| {
        let matrix = pack_matrix(gguf, cpu, &arena, tensor);
        gguf.release(tensor);
        matrix
    };
    let vector = |tensor: &TensorInfo| unpack(gguf, cpu, tensor);
    take_all(gguf, config, &Make { matrix: &matrix, vector: &vector })
}

/// All values of a checked tensor, in row order.
fn unpack(gguf: &Gguf, cpu: &Cpu, tensor: &TensorInfo) -> Result<Vec<f32>, ModelError> {
    let matrix = pack_matrix(gguf, cpu, &Arena::with_capacity(0), tensor)?;
    let mut out = vec![0.0; tensor.n_elements()];
    for (row_idx, row) in out.chunks_exact_mut(tensor.n_cols()).enumerate() {
        matrix.dequantize_row(row_idx, row);
    }
    Ok(out)
}

/// What becomes of a tensor that was found.
struct Make<'f, 'g, M, V> {
    matrix: &'f dyn Fn(&'g TensorInfo) -> Result<M, ModelError>,
    vector: &'f dyn Fn(&'g TensorInfo) -> Result<V, ModelError>,
}

fn take_all<'g, M, V>(
    gguf: &'g Gguf,
    config: &EncoderConfig,
    make: &Make<'_, 'g, M, V>,
) -> Result<Weights<M, V>, ModelError> {
    const TYPES: &str = "token_types.weight";
    let mut tensors = Tensors { shelf: Shelf::new(gguf), make };
    let &EncoderConfig { n_embd, n_ff, .. } = config;
    let n_types = gguf.tensor(TYPES).and_then(|tensor| tensor.shape.first().copied());
    let weights = Weights {
        token_embd: tensors.matrix("token_embd.weight", &[config.n_vocab, n_embd])?,
        position_embd: tensors.vector("position_embd.weight", &[config.n_ctx, n_embd])?,
        token_types: tensors.vector(TYPES, &[n_types.unwrap_or(1), n_embd])?,
        embd_norm: tensors.norm("token_embd_norm", n_embd)?,
        layers: (0..config.n_layers)
            .map(|layer_idx| {
                let name = |part: &str| format!("blk.{layer_idx}.{part}");
                Ok::<_, ModelError>(Layer {
                    q: tensors.linear(&name("attn_q"), n_embd, n_embd)?,
                    k: tensors.linear(&name("attn_k"), n_embd, n_embd)?,
                    v: tensors.linear(&name("attn_v"), n_embd, n_embd)?,
                    attn_output: tensors.linear(&name("attn_output"), n_embd, n_embd)?,
                    attn_norm: tensors.norm(&name("attn_output_norm"), n_embd)?,
                    up: tensors.linear(&name("ffn_up"), n_ff, n_embd)?,
                    down: tensors.linear(&name("ffn_down"), n_embd, n_ff)?,
                    ffn_norm: tensors.norm(&name("layer_output_norm"), n_embd)?,
                })
            })
            .collect::<Result<_, _>>()?,
    };
    tensors.shelf.refuse_rest(config.architecture)?;
    Ok(weights)
}

/// The tensors of a file, each made into what is wanted when it is taken.
struct Tensors<'s, 'f, 'g, M, V> {
    shelf: Shelf<'g>,
    make: &'s Make<'f, 'g, M, V>,
}

impl<M, V> Tensors<'_, '_, '_, M, V> {
    fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<M, ModelError> {
        (self.make.matrix)(self.shelf.take(name, shape)?)
    }

    fn vector(&mut self, name: &str, shape: &[usize]) -> Result<V, ModelError> {
        (self.make.vector)(self.shelf.take(name, shape)?)
    }

    fn linear(
        &mut self,
        name: &str,
        n_rows: usize,
        n_cols: usize,
    ) -> Result<Linear<M, V>, ModelError> {
        let weight = self.matrix(&format!("{name}.weight"), &[n_rows, n_cols])?;
        let bias = Some(self.vector(&format!("{name}.bias"), &[n_rows])?);
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, name: &str, len: usize) -> Result<Norm<V>, ModelError> {
        let weight = self.vector(&format!("{name}.weight"), &[len])?;
        Ok(Norm { weight, bias: self.vector(&format!("{name}.bias"), &[len])? })
    }
}
