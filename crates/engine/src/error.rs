//! Everything that opening an engine or handing it a request can answer with.

use std::time::Duration;

/// Why an engine could not open or would not take a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The file is no GGUF, or a damaged one.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// The file's model is not one this program can run.
    #[error(transparent)]
    Model(#[from] model::ModelError),
    /// The file's tokenizer is missing or unknown.
    #[error(transparent)]
    Tokenizer(#[from] text::TokenizerError),
    /// The file's chat template is broken, or refused these messages.
    #[error(transparent)]
    Template(#[from] text::TemplateError),
    /// The instruction set asked for is unknown or this machine lacks it.
    #[error(transparent)]
    Isa(#[from] kernels::IsaError),
    /// The model has no chat template: it completes text, it does not chat.
    #[error("the model has no chat template: it completes text, expected a chat (instruct) model")]
    NoChatTemplate,
    /// The model does not fit into the memory this process may use. Boxed: it is large.
    #[error("{0}")]
    NotEnoughMemory(Box<MemoryShortage>),
    /// The prompt does not leave room for one token.
    #[error(
        "prompt of {n_prompt} tokens does not fit: the context is {n_ctx} tokens and must also \
         hold at least one generated token"
    )]
    ContextOverflow {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// A text to embed is longer than the model's context.
    #[error(
        "text {text_idx} has {n_tokens} tokens, expected at most the {n_ctx} of the model's context"
    )]
    TextTooLong {
        /// Which one, counted from 0.
        text_idx: usize,
        /// Its tokens.
        n_tokens: usize,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// A model's weights lead to no numbers.
    #[error("the vector of text {text_idx} holds what is no number: the model file is of no use")]
    NoNumbers {
        /// Which one, counted from 0.
        text_idx: usize,
    },
    /// A field of the request or of the options has no usable value.
    #[error("{field}: {value}, expected {expected}")]
    Invalid {
        /// The field, as named in [`Request`](crate::Request), [`Sampling`](crate::Sampling) or
        /// [`EngineOptions`](crate::EngineOptions).
        field: &'static str,
        /// What it held.
        value: String,
        /// What it may hold.
        expected: String,
    },
    /// The constraint cannot be compiled.
    #[error(transparent)]
    Constraint(#[from] text::ConstraintError),
    /// Too much waits already; try again later.
    #[error(
        "{n_waiting} requests of {n_tokens_waiting} tokens are waiting and this one has \
         {n_tokens}, at most {max_tokens_waiting} tokens in {max_waiting} requests may; it would \
         be number {place} in the queue, and at {tokens_per_second:.0} tokens/s there is room in \
         about {seconds} s",
        max_waiting = crate::MAX_WAITING,
        place = .n_waiting + 1,
        seconds = .retry_after.as_secs()
    )]
    Overloaded {
        /// Requests waiting now.
        n_waiting: usize,
        /// Their tokens: prompts, and what is expected of the answers.
        n_tokens_waiting: usize,
        /// Tokens of the request refused.
        n_tokens: usize,
        /// The queue's bound, [`EngineOptions::max_waiting_tokens`](crate::EngineOptions).
        max_tokens_waiting: usize,
        /// What the engine worked on lately.
        tokens_per_second: f32,
        /// When there should be room.
        retry_after: Duration,
    },
    /// What the same client has waiting takes longer than the request may.
    #[error(
        "the request must end within {} ms, but the {n_waiting} requests of {n_tokens_waiting} \
         tokens that its client has waiting take about {} ms at {tokens_per_second:.0} tokens/s; \
         it would be number {} of the client",
        .left.as_millis(), .wait.as_millis(), .n_waiting + 1
    )]
    DeadlineOutOfReach {
        /// Requests of the client that wait, and their tokens: they come first.
        n_waiting: usize,
        /// See `n_waiting`.
        n_tokens_waiting: usize,
        /// What the engine worked on lately.
        tokens_per_second: f32,
        /// How long it takes at least until the request's turn, as far as that can be known.
        wait: Duration,
        /// How long there is until the deadline.
        left: Duration,
    },
    /// The engine has ended and takes nothing more.
    #[error("the engine has stopped: {reason}")]
    Stopped {
        /// Why it ended.
        reason: String,
    },
    /// Whoever opens the models of a [`Fleet`](crate::Fleet) would not open this one.
    #[error("{0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A [`PrivateFolder`](crate::PrivateFolder) cannot be used.
    #[error("{}: {problem}", path.display())]
    PrivateFolder {
        /// The folder, or the file in it.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system would not give the engine its thread.
    #[error("cannot start the engine thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// The arithmetic of a model that does not fit: the parts needed against what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryShortage {
    /// What would be needed.
    pub need: MemoryNeed,
    /// What this engine may still use, in bytes: what is promised to others is taken off.
    pub available_bytes: u64,
    /// What was taken off: [`EngineOptions::promised_bytes`](crate::EngineOptions).
    pub promised_bytes: u64,
    /// What sets that bound, e.g. "MemAvailable" or "cgroup memory limit".
    pub limited_by: &'static str,
}

/// What running a model takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The weights as packed for the kernels.
    pub weight_bytes: u64,
    /// The KV cache: all its pages.
    pub kv_bytes: u64,
    /// Intermediate results of one step.
    pub scratch_bytes: u64,
    /// Kept free for everything else.
    pub reserve_bytes: u64,
}

impl MemoryNeed {
    /// The sum of the parts; saturates.
    pub fn total_bytes(&self) -> u64 {
        self.weight_bytes
            .saturating_add(self.kv_bytes)
            .saturating_add(self.scratch_bytes)
            .saturating_add(self.reserve_bytes)
    }
}

impl std::fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |n_bytes: u64| n_bytes.div_ceil(1 << 20);
        write!(
            f,
            "not enough memory: {} MiB needed (weights {} + kv cache {} + scratch {} + reserve \
             {}), {} MiB available ({}",
            mib(self.need.total_bytes()),
            mib(self.need.weight_bytes),
            mib(self.need.kv_bytes),
            mib(self.need.scratch_bytes),
            mib(self.need.reserve_bytes),
            self.available_bytes >> 20,
            self.limited_by,
        )?;
        if self.promised_bytes > 0 {
            write!(f, " less {} MiB promised to other models", mib(self.promised_bytes))?;
        }
        f.write_str(")")
    }
}
