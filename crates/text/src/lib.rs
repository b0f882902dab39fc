//! Tokenizers from GGUF metadata, streaming detokenizer, chat templates, output constraints, tool
//! calls.
//!
//! Knows what a text is to a model: its token ids, its template, which tokens may come next.
//! Knows no weights and no HTTP.
#![forbid(unsafe_code)]

mod banned;
mod constraint;
mod decoder;
mod template;
mod tokenizer;
mod tools;

pub use banned::{Banned, MAX_BANNED, MAX_BANNED_BYTES};
pub use constraint::{Constraint, ConstraintError, Constraints, Grammar, Mask, Matcher};
pub use decoder::StreamDecoder;
pub use template::{ChatInput, ChatTemplate, TemplateError, render_case};
pub use tokenizer::{FillIn, Special, Tokenizer, TokenizerError};
pub use tools::{
    CallGrammar, Calls, Channels, MAX_TOOLS, Mark, Part, Preamble, Splitter, Tool, ToolChoice,
    ToolFormat, reasoning,
};
