//! Byte-level byte-pair encoding: a word's bytes become tokens, and of all neighbours that have
//! a merge the one of lowest rank is merged first (Sennrich et al. 2016; Radford et al. 2019).
//!
//! Words are short, so they are merged by scanning for the lowest rank; the rare long one (a
//! long run of one letter, say) uses a heap, which gives the same tokens without the square.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use gguf::Metadata;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::byte_level;
use super::error::{TokenizerError, quoted};
use super::keyed_hash::KeyedHash;
use super::pretokenize::{self, Pretokenizer};
use super::vocab::Vocab;

/// Up to this many tokens scanning is faster than a heap.
const N_SCANNED_MAX: usize = 32;

/// Lines of merges whose three texts are looked up together.
const N_TOGETHER: usize = 16;

/// "No merge" and "no neighbour".
const NONE: u32 = u32::MAX;

/// What this kind of tokenizer needs beside the vocabulary.
pub(super) struct Bpe {
    merges: Merges,
    byte_ids: [Option<u32>; 256],
    pub(super) pretokenizer: &'static Pretokenizer,
}

/// By both neighbours, as [`pair`] packs them.
type Merges = HashMap<u64, Merge, KeyedHash>;

/// What two neighbours become.
#[derive(Clone, Copy)]
struct Merge {
    /// Lower is earlier.
    rank: u32,
    id: u32,
}

/// Memory that one call of `encode` uses for all its words.
#[derive(Default)]
struct Scratch {
    spelled: String,
    word: Vec<u32>,
    /// `ranks[i]` is the rank of the merge of `word[i]` and `word[i + 1]`.
    ranks: Vec<u32>,
    chain: Chain,
}

/// A long word: its tokens as a doubly linked list, and the merges that wait.
#[derive(Default)]
pub(super) struct Chain {
    prev: Vec<u32>,
    next: Vec<u32>,
    /// Rank, position of the left token, and both tokens: a waiting merge is void once one of
    /// them has changed.
    waiting: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

impl Bpe {
    /// Reads the pre-tokenizer's name and the merges.
    pub(super) fn new(metadata: &Metadata, vocab: &Vocab) -> Result<Self, TokenizerError> {
        let pretokenizer = pretokenize::find(metadata)?;
        let merges = read_merges(metadata, vocab)?;
        let mut byte_ids = [None; 256];
        for (byte, id) in (0..=255u8).zip(&mut byte_ids) {
            let mut buffer = [0; 4];
            *id = vocab.find_mergeable(byte_level::char_of(byte).encode_utf8(&mut buffer));
        }
        Ok(Self { merges, byte_ids, pretokenizer })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let mut scratch = Scratch::default();
        let mut encode_word = |word: &str| self.encode_word(vocab, word, &mut scratch, ids);
        if self.pretokenizer.composes && !is_nfc(text) {
            let composed: String = text.nfc().collect();
            self.pretokenizer.split(&composed, &mut encode_word);
        } else {
            self.pretokenizer.split(text, &mut encode_word);
        }
    }

    fn encode_word(&self, vocab: &Vocab, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        // No character is spelled shorter than it is, so a longer word is no token.
        if self.pretokenizer.takes_whole_words && text.len() <= vocab.n_text_bytes_max() {
            scratch.spelled.clear();
            byte_level::encode(text.as_bytes(), &mut scratch.spelled);
            if let Some(id) = vocab.find_mergeable(&scratch.spelled) {
                ids.push(id);
                return;
            }
        }
        // A byte without a token is dropped, as the publishers' tokenizers do.
        let Scratch { word, ranks, chain, .. } = scratch;
        word.clear();
        word.extend(text.bytes().filter_map(|byte| self.byte_ids[byte as usize]));
        if word.len() <= N_SCANNED_MAX {
            self.merge_by_scanning(word, ranks);
        } else {
            self.merge_by_heap(word, chain);
        }
        ids.extend_from_slice(word);
    }

    fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        self.merges.get(&pair(left, right)).copied()
    }

    fn rank(&self, word: &[u32], left_idx: usize) -> u32 {
        let both = word.get(left_idx).zip(word.get(left_idx + 1));
        both.and_then(|(&left, &right)| self.merge(left, right)).map_or(NONE, |merge| merge.rank)
    }

    /// The definition: merges the leftmost pair of the lowest rank until there is none.
    pub(super) fn merge_by_scanning(&self, word: &mut Vec<u32>, ranks: &mut Vec<u32>) {
        ranks.clear();
        ranks.extend((0..word.len()).map(|idx| self.rank(word, idx)));
        loop {
            let lowest = ranks.iter().enumerate().min_by_key(|&(_, rank)| rank);
            let Some((idx, &rank)) = lowest.filter(|&(_, &rank)| rank != NONE) else { return };
            let merge = self.merge(word[idx], word[idx + 1]).expect("a pair with a rank merges");
            debug_assert_eq!(merge.rank, rank);
            word[idx] = merge.id;
            word.remove(idx + 1);
            ranks.remove(idx + 1);
            ranks[idx] = self.rank(word, idx);
            if idx > 0 {
                ranks[idx - 1] = self.rank(word, idx - 1);
            }
        }
    }

    /// As [`Bpe::merge_by_scanning`], in `n log n`.
    pub(super) fn merge_by_heap(&self, word: &mut Vec<u32>, chain: &mut Chain) {
        let n_tokens = u32::try_from(word.len()).expect("segments are bounded far below 4 GiB");
        let Chain { prev, next, waiting } = chain;
        prev.clear();
        prev.extend((0..n_tokens).map(|idx| idx.checked_sub(1).unwrap_or(NONE)));
        next.clear();
        next.extend((1..n_tokens).chain([NONE]));
        waiting.clear();
        let wait = |word: &[u32], left_idx: u32, right_idx: u32| {
            let (left, right) = (word[left_idx as usize], word[right_idx as usize]);
            self.merge(left, right).map(|merge| Reverse((merge.rank, left_idx, left, right)))
        };
        waiting.extend((1..n_tokens).filter_map(|idx| wait(word, idx - 1, idx)));
        while let Some(Reverse((_, left_idx, left, right))) = waiting.pop() {
            let right_idx = next[left_idx as usize];
            let is_void = right_idx == NONE
                || word[left_idx as usize] != left
                || word[right_idx as usize] != right;
            let Some(merge) = self.merge(left, right).filter(|_| !is_void) else { continue };
            word[left_idx as usize] = merge.id;
            word[right_idx as usize] = NONE;
            let after = next[right_idx as usize];
            next[left_idx as usize] = after;
            if after != NONE {
                prev[after as usize] = left_idx;
                waiting.extend(wait(word, left_idx, after));
            }
            let before = prev[left_idx as usize];
            if before != NONE {
                waiting.extend(wait(word, before, left_idx));
            }
        }
        word.retain(|&id| id != NONE);
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

fn read_merges(metadata: &Metadata, vocab: &Vocab) -> Result<Merges, TokenizerError> {
    let lines = metadata.require_strings("tokenizer.ggml.merges")?;
    let mut merges = Merges::with_capacity_and_hasher(lines.len(), KeyedHash::default());
    let mut joined = String::new();
    for first in (0..lines.len()).step_by(N_TOGETHER) {
        // What is no line leaves its texts empty.
        let halves: [(&str, &str); N_TOGETHER] =
            std::array::from_fn(|idx| lines.get(first + idx).and_then(halves).unwrap_or_default());
        joined.clear();
        for (left, right) in halves {
            joined.push_str(left);
            joined.push_str(right);
        }
        let mut texts = [""; 3 * N_TOGETHER];
        let mut rest = joined.as_str();
        for (texts, (left, right)) in texts.as_chunks_mut().0.iter_mut().zip(halves) {
            let (both, behind) = rest.split_at(left.len() + right.len());
            *texts = [left, right, both];
            rest = behind;
        }
        let ids = vocab.find_all(&texts);
        let found = texts.as_chunks::<3>().0.iter().zip(ids.as_chunks::<3>().0);
        for (idx, (texts, ids)) in (first..lines.len()).zip(found) {
            let wrong = |expected: String| {
                let found = quoted(lines.get(idx).unwrap_or_default());
                TokenizerError::Merge { idx, found, expected }
            };
            if texts[0].is_empty() {
                return Err(wrong("two tokens with a space between them".into()));
            }
            let id = |at: usize| {
                ids[at].ok_or_else(|| wrong(format!("{} to be a token", quoted(texts[at]))))
            };
            let (left, right, id) = (id(0)?, id(1)?, id(2)?);
            let rank = u32::try_from(idx).map_err(|_| wrong("fewer than 2^32 merges".into()))?;
            // What must not be written must not be merged together either.
            if [left, right, id].iter().all(|&id| vocab.is_mergeable(id)) {
                merges.entry(pair(left, right)).or_insert(Merge { rank, id });
            }
        }
    }
    Ok(merges)
}

/// The two texts of a line of merges.
fn halves(line: &str) -> Option<(&str, &str)> {
    // The first character may be a space itself. No other character holds the byte of one.
    let border = line.bytes().skip(1).position(|byte| byte == b' ')? + 1;
    Some((&line[..border], &line[border + 1..])).filter(|(_, right)| !right.is_empty())
}
