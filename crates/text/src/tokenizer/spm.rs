//! SentencePiece's byte-pair encoding: of all neighbours whose joined text is a token, the pair
//! with the best score is joined first, until no pair is left (Kudo and Richardson 2018).
//!
//! A text is a chain of characters in which pairs wait in a heap. Characters that are no token
//! fall back to bytes. The method knows no words, but a chain may be cut before a space that no
//! token can span, and then its parts stay in the cache.

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
    /// The characters that stand before a space inside of a token, in order: often none.
    before_space: Vec<char>,
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

/// Memory that one call of `encode` uses for all its parts.
#[derive(Default)]
struct Scratch {
    symbols: Vec<Symbol>,
    waiting: BinaryHeap<Pair>,
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
            None => {
                return Err(TokenizerError::Length { key: KEY, found: 0, expected: vocab.len() });
            }
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
        let unknown =
            named.or_else(|| vocab.ids().find(|&id| vocab.kind(id) == Some(Kind::Unknown)));
        let adds_space_prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let before_space = find_before_space(vocab);
        Ok(Self { scores, byte_ids, unknown, before_space, adds_space_prefix })
    }

    /// Appends the tokens of `text`, which is not empty. `is_start` says that it stands at the
    /// beginning or behind a special token, where the space prefix belongs.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, is_start: bool, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 4);
        if is_start && self.adds_space_prefix {
            escaped.push(SPACE_SIGN);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE_SIGN } else { c }));
        let mut scratch = Scratch::default();
        let mut start = 0;
        let mut prev = SPACE_SIGN;
        for (at, c) in escaped.char_indices() {
            if c == SPACE_SIGN && prev != SPACE_SIGN && !self.may_span(prev) {
                self.encode_part(vocab, &escaped[start..at], &mut scratch, ids);
                start = at;
            }
            prev = c;
        }
        self.encode_part(vocab, &escaped[start..], &mut scratch, ids);
    }

    /// Whether a token may hold this character with a space behind it.
    fn may_span(&self, c: char) -> bool {
        self.before_space.binary_search(&c).is_ok()
    }

    fn encode_part(&self, vocab: &Vocab, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        self.merge(vocab, text, scratch);
        for symbol in scratch.symbols.iter().filter(|symbol| symbol.len > 0) {
            let piece = &text[symbol.start as usize..(symbol.start + symbol.len) as usize];
            match vocab.find_normal(piece) {
                Some(id) => ids.push(id),
                None => ids.extend(
                    piece.bytes().filter_map(|byte| self.byte_ids[byte as usize].or(self.unknown)),
                ),
            }
        }
    }

    /// Leaves the characters of `text`, joined as far as they can be, in `symbols`.
    fn merge(&self, vocab: &Vocab, text: &str, scratch: &mut Scratch) {
        let Scratch { symbols, waiting } = scratch;
        symbols.clear();
        for ((start, c), idx) in text.char_indices().zip(0u32..) {
            let start = u32::try_from(start).expect("segments are bounded far below 4 GiB");
            let (len, prev) = (c.len_utf8() as u32, idx.checked_sub(1).unwrap_or(NONE));
            symbols.push(Symbol { start, len, prev, next: idx + 1 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let n_symbols = symbols.len() as u32;
        let first = (1..n_symbols).filter_map(|idx| self.pair(vocab, text, symbols, idx - 1, idx));
        waiting.extend(first);
        while let Some(Pair { left, right, len, .. }) = waiting.pop() {
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
            waiting.extend(self.pair(vocab, text, symbols, prev, left));
            waiting.extend(self.pair(vocab, text, symbols, left, next));
        }
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
        let id = vocab.find_normal(&text[start..start + len as usize])?;
        Some(Pair { score: self.scores[id as usize], left, right, len })
    }
}

fn find_before_space(vocab: &Vocab) -> Vec<char> {
    let mut found = Vec::new();
    for id in vocab.ids().filter(|&id| vocab.kind(id) == Some(Kind::Normal)) {
        let text = vocab.text(id);
        let spaces = text.match_indices(SPACE_SIGN).map(|(at, _)| at);
        found.extend(spaces.filter_map(|at| text[..at].chars().next_back()));
    }
    found.sort_unstable();
    found.dedup();
    found
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
