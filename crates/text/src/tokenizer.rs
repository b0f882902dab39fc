//! Text to token ids and back, as the publisher of a model does it, from GGUF metadata alone.

mod error;

use gguf::Metadata;

pub use error::TokenizerError;

/// Whether control tokens written out in a text stand for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `<|im_start|>` in the text becomes that control token: for rendered chat templates.
    Parse,
    /// Control tokens cannot be written: for text that comes from outside.
    Plain,
}

/// A model's tokenizer.
pub struct Tokenizer {
    _private: (),
}

#[allow(clippy::todo)]
impl Tokenizer {
    /// Builds the tokenizer that a model file describes.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let _ = metadata;
        todo!()
    }

    /// The tokens of `text`, without BOS and EOS.
    pub fn encode(&self, text: &str, special: Special) -> Vec<u32> {
        let _ = (text, special);
        todo!()
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD, control tokens nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let _ = ids;
        todo!()
    }

    /// How many tokens the vocabulary has.
    pub fn n_vocab(&self) -> usize {
        todo!()
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        todo!()
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        todo!()
    }

    /// Whether the model expects BOS before its input.
    pub fn adds_bos(&self) -> bool {
        todo!()
    }

    /// Whether the model expects EOS after its input.
    pub fn adds_eos(&self) -> bool {
        todo!()
    }

    /// Whether generation is over once this token was sampled.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        let _ = id;
        todo!()
    }

    /// Whether the token steers the model and has no text.
    pub fn is_control(&self, id: u32) -> bool {
        let _ = id;
        todo!()
    }

    /// The token as the vocabulary writes it; empty for ids outside of it.
    pub fn token_text(&self, id: u32) -> &str {
        let _ = id;
        todo!()
    }

    /// The bytes that the token stands for; empty for ids outside of the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let _ = id;
        todo!()
    }
}
