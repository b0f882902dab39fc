//! A loaded model: its dimensions, its packed weights and the threads that run it.

use crate::rope::Rope;
use crate::weights::{Layout, Weights};
use crate::{Config, ModelError, Plan};
use gguf::Gguf;
use kernels::{Cpu, KvShape, Matrix, Precision};
use std::sync::Arc;

/// A loaded model. Shared by reference; all state of a pass is in its arguments.
pub struct Model {
    pub(crate) config: Config,
    pub(crate) weights: Weights<Matrix, Vec<f32>>,
    /// Of the layers that see everything.
    pub(crate) rope: Rope,
    /// Of the windowed layers, where there are such.
    pub(crate) rope_windowed: Option<Rope>,
    pub(crate) cpu: Arc<Cpu>,
}

impl Model {
    /// Checks `gguf` against its architecture and packs its weights for `cpu`.
    ///
    /// # Errors
    /// Names the first key or tensor that is missing, out of bounds or not supported.
    pub fn load(gguf: &Gguf, cpu: Arc<Cpu>) -> Result<Self, ModelError> {
        let config = Config::from_gguf(gguf)?;
        let weights = Layout::check(gguf, &config)?.pack(gguf, &cpu)?;
        Ok(Self {
            rope: Rope::new(&config.rope, weights.rope_divisors.as_deref()),
            rope_windowed: config.windows.as_ref().map(|windows| Rope::new(&windows.rope, None)),
            config,
            weights,
            cpu,
        })
    }

    /// What [`Model::load`] would take, with all its checks and without its allocations.
    ///
    /// # Errors
    /// As [`Model::load`], but for what only packing finds.
    pub fn plan(gguf: &Gguf) -> Result<Plan, ModelError> {
        Plan::new(gguf)
    }

    /// The model's dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes that the packed weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.n_bytes(&|matrix| matrix.n_bytes() as u64, &|vector| 4 * vector.len() as u64)
    }

    /// Bytes of weights that a pass reads: all of them, but for the embedding where the output has
    /// a matrix of its own.
    pub fn bytes_per_pass(&self) -> u64 {
        let embedding = self.weights.output.as_ref().map(|_| self.weights.token_embd.n_bytes());
        self.weight_bytes() - embedding.unwrap_or(0) as u64
    }

    /// The shape of the kv cache that [`Model::forward`] writes.
    pub fn kv_shape(&self) -> KvShape {
        self.config.kv_shape()
    }

    /// How exactly activations meet the weights of this model.
    pub(crate) fn precision(&self) -> Precision {
        self.config.precision()
    }

    /// The instruction set and threads that run this model.
    pub fn cpu(&self) -> &Arc<Cpu> {
        &self.cpu
    }
}
