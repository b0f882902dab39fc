//! What can be wrong with the tokenizer of a model file.
//!
//! Token texts come from the file and may be anything: messages quote them escaped and cut.

/// Why no tokenizer can be built from a model file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The metadata lack a key or hold it with another type.
    #[error(transparent)]
    Metadata(#[from] gguf::Error),
    /// The kind of tokenizer is none of ours.
    #[error("tokenizer.ggml.model: {found}, expected one of {known}")]
    UnknownModel {
        /// The name in the file, quoted.
        found: String,
        /// The names that are known.
        known: String,
    },
    /// The rule by which text is cut into words is not known. Guessing one would give a model
    /// other tokens than it was trained on, and nobody would notice.
    #[error("tokenizer.ggml.pre: {found}, expected one of {known}")]
    UnknownPre {
        /// The name in the file, quoted, or "missing".
        found: String,
        /// The names that are known.
        known: String,
    },
    /// There are no tokens, or more than ids can count.
    #[error("tokenizer.ggml.tokens: {found} tokens, expected 1 to {max}")]
    VocabSize {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// An array that goes with the tokens has another length.
    #[error("{key}: {found} entries, expected {expected}, one for each token")]
    Length {
        /// The metadata key.
        key: &'static str,
        /// How many entries it has.
        found: usize,
        /// How many tokens there are.
        expected: usize,
    },
    /// A token id outside of the vocabulary.
    #[error("{key}: token {found}, expected an id below {n_vocab}")]
    TokenId {
        /// The metadata key.
        key: &'static str,
        /// The id in the file.
        found: u32,
        /// The number of tokens.
        n_vocab: usize,
    },
    /// A token that cannot be.
    #[error("{key}[{id}]: {found}, expected {expected}")]
    Token {
        /// The metadata key.
        key: &'static str,
        /// The token.
        id: u32,
        /// What the file says, quoted.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// A merge that cannot be.
    #[error("tokenizer.ggml.merges[{idx}]: {found}, expected {expected}")]
    Merge {
        /// Which merge.
        idx: usize,
        /// What the file says, quoted.
        found: String,
        /// What it should say.
        expected: String,
    },
}

/// A text of the file for a message: escaped, and cut after 60 characters.
pub(super) fn quoted(text: &str) -> String {
    const N_CHARS_MAX: usize = 60;
    match text.char_indices().nth(N_CHARS_MAX) {
        Some((end, _)) => format!("{:?} and {} bytes more", &text[..end], text.len() - end),
        None => format!("{text:?}"),
    }
}
