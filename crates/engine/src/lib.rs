//! Sequences, sampler, the step loop and its events: the embeddable library.
//!
//! [`Engine::open`] loads a GGUF file and starts one thread; [`Engine::submit`] hands it a
//! [`Request`] and a callback for its [`Event`]s, [`Engine::generate`] gives them as an iterator.
//! Token ids and text go through here, never JSON or HTTP, and nothing is async.
#![forbid(unsafe_code)]

mod engine;
mod error;
mod request;

pub use engine::{Engine, EngineOptions, Generation, Handle, MAX_SEQUENCES, MAX_WAITING, ModelInfo};
pub use error::{EngineError, MemoryNeed, MemoryShortage};
pub use request::{
    Done, Event, FinishReason, MAX_LOGIT_BIAS, MAX_LOGPROBS, MAX_STOP_BYTES, MAX_STOP_STRINGS,
    Request, Sampling, TokenInfo,
};
