//! How to open a model, and what an open one says about itself.

use crate::check::invalid;
use crate::cores::{Cores, Member};
use crate::draft::StepCost;
use crate::error::EngineError;
use crate::host;
use crate::prefix_store::PrefixStore;
use crate::recommended::Recommended;
use std::time::Duration;

/// Most sequences that may run at once: bounds the pass's logits, `[n_sequences, n_vocab]`.
pub const MAX_SEQUENCES: usize = 256;
/// Most threads that may compute: what the kernels' pool holds.
pub const MAX_THREADS: usize = kernels::N_THREADS_MAX;
/// Context of each sequence where nobody says otherwise and the model knows more: long contexts
/// take memory that most people never use.
pub const DEFAULT_N_CTX: u32 = 8192;

/// How to open a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads that compute, 1 to [`MAX_THREADS`]. `None`: the cores this process may use
    /// (affinity and cgroup quota respected).
    pub n_threads: Option<usize>,
    /// The cores that it takes turns at with the other models that were opened with them. `None`:
    /// it computes when it likes.
    pub cores: Option<Cores>,
    /// Instruction set. `None`: `FREEHOLD_ISA`, else the best that this CPU has.
    pub isa: Option<kernels::Isa>,
    /// Positions of the context of each sequence, 2 to what the model was trained with. `None`:
    /// the smaller of that and [`DEFAULT_N_CTX`].
    pub n_ctx: Option<u32>,
    /// Most sequences that run at once, 1 to [`MAX_SEQUENCES`]. Each takes pages of the KV cache as
    /// it grows, so a seat costs little.
    pub max_sequences: usize,
    /// Tokens that may wait for a seat, prompts and expected answers together, at least 1; a single
    /// request may wait whatever its size. `None`: 32 contexts.
    pub max_waiting_tokens: Option<usize>,
    /// Whether tokens are guessed in advance. Changes speed, never a result.
    pub speculation: Speculation,
    /// Bytes for the KV cache of all sequences together, and of what is kept of those before. At
    /// least one full context and at most `max_sequences` of them are made. `None`: a quarter of
    /// the available memory, or what the weights leave of it if that is less.
    pub kv_cache_bytes: Option<u64>,
    /// How the KV cache keeps keys and values: [`KvFormat::Q8`](kernels::KvFormat::Q8) takes
    /// little more than half the memory and is a little less exact.
    pub kv_format: kernels::KvFormat,
    /// Memory this engine may take in all. `None`: what the system and the cgroup have available.
    /// `Some(u64::MAX)` switches the check off.
    pub memory_limit_bytes: Option<u64>,
    /// Memory promised to others and not taken yet, such as the untouched caches of engines
    /// opened before ([`ModelInfo::promised_bytes`]): the system still counts it as available,
    /// this engine does not. No part of `memory_limit_bytes`, which is this engine's alone.
    pub promised_bytes: u64,
    /// Where the prefix cache is kept over restarts; `None`: it is not.
    pub prefix_store: Option<PrefixStore>,
    /// What tells the model's files from all others, such as their SHA-256, where that is known:
    /// with a `prefix_store` it saves reading them once more.
    pub model_digest: Option<String>,
    /// Whether the files are hashed while they are loaded where `model_digest` does not say what
    /// they are, for [`ModelInfo::digest`]. Costs one core about half as long as loading takes.
    pub is_hashed: bool,
}

/// Whether tokens are guessed in advance, to be checked several in one pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speculation {
    /// From what the sequence itself holds (prompt lookup; Saxena 2023), where it is likely to
    /// pay: texts that repeat themselves or the prompt, few sequences at once, vector arithmetic.
    #[default]
    PromptLookup,
    /// Never.
    Off,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            n_threads: None,
            cores: None,
            isa: None,
            n_ctx: None,
            max_sequences: 32,
            max_waiting_tokens: None,
            speculation: Speculation::default(),
            kv_cache_bytes: None,
            kv_format: kernels::KvFormat::F16,
            memory_limit_bytes: None,
            promised_bytes: 0,
            prefix_store: None,
            model_digest: None,
            is_hashed: false,
        }
    }
}

impl EngineOptions {
    /// Threads to compute with.
    pub(crate) fn resolve_n_threads(&self) -> Result<usize, EngineError> {
        let n_threads = self.n_threads.unwrap_or_else(|| host::n_cores().min(MAX_THREADS));
        in_range("n_threads", n_threads, 1, MAX_THREADS)
    }

    /// The model's place at the cores, where it computes with `n_threads`.
    pub(crate) fn join_cores(&self, n_threads: usize) -> Member {
        self.cores.as_ref().map_or(Member::alone(), |cores| cores.join(n_threads))
    }

    /// Most sequences at once.
    pub(crate) fn resolve_max_sequences(&self) -> Result<usize, EngineError> {
        in_range("max_sequences", self.max_sequences, 1, MAX_SEQUENCES)
    }

    /// Tokens that may wait, for a context of `n_ctx`.
    pub(crate) fn resolve_max_waiting_tokens(&self, n_ctx: usize) -> Result<usize, EngineError> {
        let max_tokens = self.max_waiting_tokens.unwrap_or(n_ctx.saturating_mul(32));
        in_range("max_waiting_tokens", max_tokens, 1, usize::MAX)
    }

    /// Instruction set to compute with.
    pub(crate) fn resolve_isa(&self) -> Result<kernels::Isa, EngineError> {
        let Some(isa) = self.isa else { return Ok(kernels::Isa::from_env()?) };
        let available = kernels::Isa::available();
        if available.contains(&isa) {
            return Ok(isa);
        }
        let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
        Err(invalid("isa", isa.name(), format!("what this machine has: {}", names.join(", "))))
    }

    /// What decides about drafts.
    pub(crate) fn step_cost(&self, isa: kernels::Isa) -> StepCost {
        match self.speculation {
            Speculation::PromptLookup => StepCost::of(isa),
            Speculation::Off => StepCost::NO_DRAFTS,
        }
    }

    /// Positions of the context, for a model trained with `n_ctx_train`.
    pub(crate) fn resolve_n_ctx(&self, n_ctx_train: usize) -> Result<usize, EngineError> {
        let n_ctx = match self.n_ctx {
            Some(n_ctx) => n_ctx as usize,
            None => n_ctx_train.min(DEFAULT_N_CTX as usize),
        };
        in_range("n_ctx", n_ctx, 2, n_ctx_train)
    }
}

fn in_range(
    field: &'static str,
    value: usize,
    min: usize,
    max: usize,
) -> Result<usize, EngineError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(invalid(field, value, format!("{min} to {max}")))
}

/// What an open engine runs.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `general.architecture` of the file.
    pub architecture: String,
    /// `general.name` of the file, where it has one.
    pub name: Option<String>,
    /// [`EngineOptions::model_digest`]; else, where [`EngineOptions::is_hashed`] asks for it, the
    /// SHA-256 of the bytes that were loaded, in hexadecimal digits, file after file.
    pub digest: Option<String>,
    /// Positions of the context of each sequence.
    pub n_ctx: u32,
    /// Positions of the context that the model was trained with.
    pub n_ctx_train: u32,
    /// Ids of the vocabulary.
    pub n_vocab: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Bytes of the packed weights.
    pub weight_bytes: u64,
    /// Bytes of the KV cache, all pages.
    pub kv_bytes: u64,
    /// How the KV cache keeps keys and values.
    pub kv_format: kernels::KvFormat,
    /// Bytes of the intermediate results of the largest step.
    pub scratch_bytes: u64,
    /// Most sequences that run at once.
    pub max_sequences: usize,
    /// Instruction set in use.
    pub isa: kernels::Isa,
    /// Threads that compute: those asked for, or fewer where the system gave no more.
    pub n_threads: usize,
    /// What the file recommends of how tokens are chosen. Nothing here follows that by itself:
    /// [`Recommended::over`] does, for whoever submits requests.
    pub recommended: Recommended,
    /// Time that opening took.
    pub load_time: Duration,
}

impl ModelInfo {
    /// Bytes that the model takes once everything is touched: weights, KV cache and scratch.
    pub fn planned_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.promised_bytes())
    }

    /// Bytes planned for and only taken as requests come: the system counts them as available
    /// until then. What the next engine beside this one wants to know.
    pub fn promised_bytes(&self) -> u64 {
        self.kv_bytes.saturating_add(self.scratch_bytes)
    }
}
