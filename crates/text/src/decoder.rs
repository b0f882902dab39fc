//! Token ids to text as they come, never splitting a character.
//!
//! Tokens are bytes and a character may be spread over several, so its first bytes wait here
//! until the rest has come. The pieces together are what decoding all tokens at once gives.

use crate::Tokenizer;

/// Turns a stream of token ids into text that is always whole characters.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    /// The beginning of a character: at most three bytes between calls.
    pending: Vec<u8>,
    /// Whether a space that comes next is the tokenizer's and not the text's.
    is_start: bool,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text.
    pub fn new() -> Self {
        Self { pending: Vec::new(), is_start: true }
    }

    /// A decoder for the tokens that follow `prompt`: what a generation needs, so that its first
    /// word keeps its space where it continues a sentence and loses it behind a special token.
    pub fn after(tokenizer: &Tokenizer, prompt: &[u32]) -> Self {
        let is_start = prompt.last().is_none_or(|&id| tokenizer.piece(id, true).1);
        Self { pending: Vec::new(), is_start }
    }

    /// A decoder for a text that is exactly its tokens' bytes, as a constraint sees it.
    pub fn verbatim() -> Self {
        Self { pending: Vec::new(), is_start: false }
    }

    /// Appends the characters that are complete with this token. Control tokens and ids outside
    /// of the vocabulary have no text; bytes that are not UTF-8 become U+FFFD.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        let (bytes, is_start) = tokenizer.piece(id, self.is_start);
        self.is_start = is_start;
        self.push_bytes(bytes, out);
    }

    /// Appends U+FFFD for a character that was begun and never completed.
    pub fn finish(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.pending).is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn push_bytes(&mut self, bytes: &[u8], out: &mut String) {
        if self.pending.is_empty() {
            let n_whole = push_whole(bytes, out);
            self.pending.extend_from_slice(&bytes[n_whole..]);
        } else {
            self.pending.extend_from_slice(bytes);
            let n_whole = push_whole(&self.pending, out);
            self.pending.drain(..n_whole);
        }
    }
}

impl Default for StreamDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends what is whole characters or can be none; returns how many bytes that was.
fn push_whole(bytes: &[u8], out: &mut String) -> usize {
    let mut n_whole = 0;
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        n_whole += chunk.valid().len();
        let invalid = chunk.invalid();
        let is_last = n_whole + invalid.len() == bytes.len();
        if invalid.is_empty() || (is_last && may_go_on(invalid)) {
            break;
        }
        out.push(char::REPLACEMENT_CHARACTER);
        n_whole += invalid.len();
    }
    n_whole
}

/// Whether more bytes could make a character of these.
fn may_go_on(invalid: &[u8]) -> bool {
    std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes in every way of cutting them in two and one by one.
    fn check(bytes: &[u8], expected: &str) {
        let cuts = (0..=bytes.len()).map(|cut| {
            let (left, right) = bytes.split_at(cut);
            vec![left, right]
        });
        for parts in cuts.chain([bytes.chunks(1).collect()]) {
            let mut decoder = StreamDecoder::new();
            let mut out = String::new();
            for part in parts {
                decoder.push_bytes(part, &mut out);
                assert!(decoder.pending.len() < 4);
            }
            decoder.finish(&mut out);
            assert_eq!(out, expected, "{bytes:x?}");
            assert_eq!(out, String::from_utf8_lossy(bytes), "{bytes:x?}");
        }
    }

    #[test]
    fn characters_come_whole() {
        check("aé日𝄞z".as_bytes(), "aé日𝄞z");
        check("👨‍👩‍👧".as_bytes(), "👨‍👩‍👧");
        check(b"", "");
    }

    #[test]
    fn what_is_no_character_is_replaced() {
        check(b"a\xffb", "a\u{fffd}b");
        check(b"\xe6\x97", "\u{fffd}");
        check(b"\xe6\x97a", "\u{fffd}a");
        check(b"\xf0\x9f\xf0\x9f\x98\x80", "\u{fffd}😀");
        check(b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}");
        check(b"\xc0\x80\x80", "\u{fffd}\u{fffd}\u{fffd}");
    }
}
