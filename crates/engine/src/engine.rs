//! The handle that callers hold: open a model, hand it requests, ask about it.

use crate::error::EngineError;
use crate::request::{Event, Request};
use std::path::Path;
use std::time::Duration;

/// Most requests that may wait for a seat; beyond it `submit` answers
/// [`EngineError::Overloaded`], because a longer queue only means answers nobody waits for.
pub const MAX_WAITING: usize = 256;

/// How to open a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads that compute. `None`: the cores this process may use (affinity, cgroup quota).
    pub n_threads: Option<usize>,
    /// Instruction set. `None`: `FREEHOLD_ISA`, else the best that this CPU has.
    pub isa: Option<kernels::Isa>,
    /// Positions of the context of each sequence. `None`: the smaller of the model's own and 8192.
    pub n_ctx: Option<u32>,
    /// Most sequences that run at once; at least 1, at most [`MAX_SEQUENCES`].
    pub max_sequences: usize,
    /// Bytes for the KV cache of all sequences together; at least one full context is always
    /// made. `None`: `max_sequences` full contexts, or a quarter of the available memory if that
    /// is less.
    pub kv_cache_bytes: Option<u64>,
    /// Memory this engine may take in all. `None`: what the system and the cgroup have available.
    /// `Some(u64::MAX)` switches the check off.
    pub memory_limit_bytes: Option<u64>,
}

/// Most sequences that may run at once: bounds the pass's logits, `[n_sequences, n_vocab]`.
pub const MAX_SEQUENCES: usize = 256;

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            n_threads: None,
            isa: None,
            n_ctx: None,
            max_sequences: 16,
            kv_cache_bytes: None,
            memory_limit_bytes: None,
        }
    }
}

/// What an open engine runs.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `general.architecture` of the file.
    pub architecture: String,
    /// `general.name` of the file, where it has one.
    pub name: Option<String>,
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
    /// Instruction set in use.
    pub isa: kernels::Isa,
    /// Threads that compute.
    pub n_threads: usize,
    /// Time that opening took.
    pub load_time: Duration,
}

/// A loaded model and the thread that runs it. Cheap to clone; dropping the last handle stops it.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Loads the model at `path` and starts its thread.
    ///
    /// # Errors
    /// A damaged or unsupported file, options out of range, or a model that does not fit into
    /// memory ([`EngineError::NotEnoughMemory`] says the arithmetic).
    #[allow(clippy::todo)]
    pub fn open(_path: &Path, _options: &EngineOptions) -> Result<Self, EngineError> {
        todo!()
    }

    /// The model's tokenizer.
    #[allow(clippy::todo)]
    pub fn tokenizer(&self) -> &text::Tokenizer {
        todo!()
    }

    /// The model's chat template; `None` for base models.
    #[allow(clippy::todo)]
    pub fn template(&self) -> Option<&text::ChatTemplate> {
        todo!()
    }

    /// What runs here.
    #[allow(clippy::todo)]
    pub fn info(&self) -> &ModelInfo {
        todo!()
    }

    /// Renders `messages` (a JSON array of chat messages) with the model's template, ready for an
    /// answer, and encodes the result. A BOS token is put in front where the model wants one and
    /// the template did not write it.
    ///
    /// # Errors
    /// [`EngineError::NoChatTemplate`] for base models, [`EngineError::Template`] when the
    /// template refuses the messages.
    #[allow(clippy::todo)]
    pub fn chat_prompt(
        &self,
        _messages: &serde_json::Value,
        _tools: Option<&serde_json::Value>,
        _kwargs: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Vec<u32>, EngineError> {
        todo!()
    }

    /// Takes a request; its events go to `on_event`, on the engine thread.
    ///
    /// `on_event` must not block: every other request waits for it. A channel without a bound is
    /// fine, since `max_tokens` and the context bound what one request can send. A panic in it
    /// ends its own request.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`], [`EngineError::Invalid`], [`EngineError::Overloaded`],
    /// [`EngineError::Stopped`]; then nothing runs and no event comes.
    #[allow(clippy::todo)]
    pub fn submit(
        &self,
        _request: Request,
        _on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<Handle, EngineError> {
        todo!()
    }

    /// As [`Engine::submit`], with the events as an iterator that ends after `Done`.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    #[allow(clippy::todo)]
    pub fn generate(&self, _request: Request) -> Result<Generation, EngineError> {
        todo!()
    }
}

/// A running request. Dropping it does not cancel.
#[derive(Debug, Clone)]
pub struct Handle {}

impl Handle {
    /// Ends the request within one step; its `Done` says `Cancelled`. Does nothing once it ended.
    pub fn cancel(&self) {}

    /// Number of this request, unique within its engine.
    pub fn id(&self) -> u64 {
        0
    }
}

/// The events of one request, in order. Dropping it cancels the request.
pub struct Generation {}

impl Generation {
    /// The request's handle, to cancel it from elsewhere.
    #[allow(clippy::todo)]
    pub fn handle(&self) -> &Handle {
        todo!()
    }
}

impl Iterator for Generation {
    type Item = Event;

    /// Waits for the next event; `None` after `Done`.
    fn next(&mut self) -> Option<Event> {
        None
    }
}
