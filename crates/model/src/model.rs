//! A loaded model: its dimensions, its packed weights and the threads that run it.

use crate::{Config, ModelError, Plan};
use kernels::{Cpu, KvShape};
use std::sync::Arc;

/// A loaded model. Shared by reference; all state of a pass is in its arguments.
pub struct Model {
    pub(crate) config: Config,
    pub(crate) cpu: Arc<Cpu>,
}

impl Model {
    /// Checks `gguf` against its architecture and packs its weights for `cpu`.
    ///
    /// # Errors
    /// Names the first key or tensor that is missing, out of bounds or not supported.
    pub fn load(gguf: &gguf::Gguf, cpu: Arc<Cpu>) -> Result<Self, ModelError> {
        let _ = (gguf, cpu);
        todo!()
    }

    /// What [`Model::load`] would take, with all its checks and without its allocations.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn plan(gguf: &gguf::Gguf) -> Result<Plan, ModelError> {
        Plan::new(gguf)
    }

    /// The model's dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes that the packed weights take.
    pub fn weight_bytes(&self) -> u64 {
        todo!()
    }

    /// The shape of the kv cache that [`Model::forward`] writes.
    pub fn kv_shape(&self) -> KvShape {
        self.config.kv_shape()
    }

    /// The instruction set and threads that run this model.
    pub fn cpu(&self) -> &Arc<Cpu> {
        &self.cpu
    }
}
