//! SentencePiece's byte-pair encoding: of all neighbours whose joined text is a token, the pair
//! with the best score is joined first, until no pair is left (Kudo and Richardson 2018).
//!
//! There are no words: a text is one chain of characters, so pairs wait in a heap. Characters
//! that are no token fall back to bytes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use gguf::Metadata;

use super::error::TokenizerError;
use super::vocab::{Kind, SPACE_SIGN, Vocab};

/// "No symbol": the end of a chain.
const NONE: u32 = u32::MAX;

/// What this kind of tokenizer needs beside the vocabulary.
pub(super) struct Spm {
    scores: Vec<f32>,
    byte_ids: [Option<u32>; 256],
    unknown: Option<u32>,
    /// Whether a space is put before the text, so that its first word is like every other.
    pub(super) adds_space_prefix: bool,
}

/// A run of characters joined so far. The chain is by index into one vector.
struct Symbol {
    start: u32,
    /// 0 once it was joined to its left neighbour.
    len: u32,
    prev: u32,
    next: u32,
}

/// Two neighbours that may be joined.
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    /// Of both together: tells a pair that was overtaken by another joining.
    len: u32,
}

impl Spm {
    /// Reads scores, byte tokens and the unknown token.
    pub(super) fn new(metadata: &Metadata, vocab: &Vocab) -> Result<Self, TokenizerError> {
        const KEY: &str = "tokenizer.ggml.scores";
        let scores: Vec<f32> = match metadata.f32s(KEY)? {
            // Adding 0 turns -0 into 0: the order of scores tells them apart.
            Some(scores) => scores.iter().map(|score| score + 0.0).collect(),
            None => return Err(TokenizerError::Length { key: KEY, found: 0, expected: vocab.len() }),
        };
        if scores.len() != vocab.len() {
            let (found, expected) = (scores.len(), vocab.len());
            return Err(TokenizerError::Length { key: KEY, found, expected });
        }
        if let Some((id, _)) = (0..).zip(&scores).find(|(_, score)| score.is_nan()) {
            let (found, expected) = ("NaN".into(), "a number".into());
            return Err(TokenizerError::Token { key: KEY, id, found, expected });
        }
        let mut byte_ids = [None; 256];
        for id in vocab.ids().filter(|&id| vocab.kind(id) == Some(Kind::Byte)) {
            byte_ids[vocab.bytes(id)[0] as usize] = Some(id);
        }
        let named = super::token_id(metadata, "tokenizer.ggml.unknown_token_id", vocab.len())?;
        let unknown = named.or_else(|| vocab.ids().find(|&id| vocab.kind(id) == Some(Kind::Unknown)));
        let adds_space_prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        Ok(Self { scores, byte_ids, unknown, adds_space_prefix })
    }

    /// Appends the tokens of `text`, which is not empty. `is_start` says that it stands at the
    /// beginning or behind a special token, where the space prefix belongs.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, is_start: bool, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 4);
        if is_start && self.adds_space_prefix {
            escaped.push(SPACE_SIGN);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE_SIGN } else { c }));
        let symbols = self.merge(vocab, &escaped);
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let piece = &escaped[symbol.start as usize..(symbol.start + symbol.len) as usize];
            match vocab.find_mergeable(piece) {
                Some(id) => ids.push(id),
                None => ids.extend(
                    piece.bytes().filter_map(|byte| self.byte_ids[byte as usize].or(self.unknown)),
                ),
            }
        }
    }

    /// The characters of `text`, joined as far as they can be.
    fn merge(&self, vocab: &Vocab, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for ((start, c), idx) in text.char_indices().zip(0u32..) {
            let start = u32::try_from(start).expect("segments are bounded far below 4 GiB");
            let (len, prev) = (c.len_utf8() as u32, idx.checked_sub(1).unwrap_or(NONE));
            symbols.push(Symbol { start, len, prev, next: idx + 1 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let n_symbols = symbols.len() as u32;
        let mut pairs: BinaryHeap<Pair> = (0..n_symbols.saturating_sub(1))
            .filter_map(|left| self.pair(vocab, text, &symbols, left, left + 1))
            .collect();
        while let Some(Pair { left, right, len, .. }) = pairs.pop() {
            let (l, r) = (&symbols[left as usize], &symbols[right as usize]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            let (prev, next) = (l.prev, r.next);
            symbols[right as usize].len = 0;
            symbols[left as usize].len = len;
            symbols[left as usize].next = next;
            if next != NONE {
                symbols[next as usize].prev = left;
            }
            pairs.extend(self.pair(vocab, text, &symbols, prev, left));
            pairs.extend(self.pair(vocab, text, &symbols, left, next));
        }
        symbols
    }

    /// The pair of two neighbours, if their joined text is a token.
    fn pair(
        &self,
        vocab: &Vocab,
        text: &str,
        symbols: &[Symbol],
        left: u32,
        right: u32,
    ) -> Option<Pair> {
        if left == NONE || right == NONE {
            return None;
        }
        let start = symbols[left as usize].start as usize;
        let len = symbols[left as usize].len + symbols[right as usize].len;
        let id = vocab.find_mergeable(&text[start..start + len as usize])?;
        Some(Pair { score: self.scores[id as usize], left, right, len })
    }
}

/// The best score is the greatest; of equal ones the leftmost.
impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}
