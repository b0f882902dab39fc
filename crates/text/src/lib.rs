//! Tokenizers from GGUF metadata, streaming detokenizer, chat templates.
//!
//! Knows what a text is to a model: its token ids, its template. Knows no weights and no HTTP.
#![forbid(unsafe_code)]

mod decoder;
mod template;
mod tokenizer;

pub use decoder::StreamDecoder;
pub use template::{ChatInput, ChatTemplate, TemplateError, render_case};
pub use tokenizer::{Special, Tokenizer, TokenizerError};
