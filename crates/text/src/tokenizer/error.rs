//! What can be wrong with the tokenizer of a model file.

/// Why no tokenizer can be built from a model file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The metadata lack a key or hold it with another type.
    #[error(transparent)]
    Metadata(#[from] gguf::Error),
}
