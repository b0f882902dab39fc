//! Token ids to text as they come, never splitting a character.

use crate::Tokenizer;

/// Turns a stream of token ids into text that is always whole characters.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    _private: (),
}

#[allow(clippy::todo)]
impl StreamDecoder {
    /// A decoder at the beginning of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder for the tokens that follow `prompt`: what a generation needs, so that a first
    /// word keeps its leading space where it continues a sentence and loses it after a chat mark.
    pub fn after(tokenizer: &Tokenizer, prompt: &[u32]) -> Self {
        let _ = (tokenizer, prompt);
        todo!()
    }

    /// Appends the characters that are complete with this token.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        let _ = (tokenizer, id, out);
        todo!()
    }

    /// Appends U+FFFD for a character that was begun and never completed.
    pub fn finish(&mut self, out: &mut String) {
        let _ = out;
        todo!()
    }
}
