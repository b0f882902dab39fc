//! The vocabulary: the text, kind and bytes of each token, and the way from a text to its token.
//!
//! Texts stay packed in one buffer and the index holds ids only, so that 262,144 tokens are
//! ready in a few milliseconds. Its hash is keyed by chance: a file cannot aim for collisions.

use std::hash::BuildHasher;
use std::hint::black_box;

use gguf::{Metadata, Strings};

use super::byte_level;
use super::error::{TokenizerError, quoted};
use super::keyed_hash::KeyedHash;

/// Far above any vocabulary, and leaves room to double in `u32`.
const N_TOKENS_MAX: usize = 1 << 30;

/// Texts whose slots are fetched together: more than the loads that a core has under way.
const N_TOGETHER: usize = 32;

/// No token: an empty slot of the index.
const EMPTY: u32 = u32::MAX;

/// The sign that SentencePiece writes for a space.
pub(super) const SPACE_SIGN: char = '\u{2581}';

/// What a token is, as `tokenizer.ggml.token_type` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of text, made by merging.
    Normal,
    /// Stands for what the vocabulary lacks.
    Unknown,
    /// Steers the model; has no text.
    Control,
    /// A text that is always one token, found before merging.
    UserDefined,
    /// Never made.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

/// How the texts of a vocabulary write bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// GPT-2's: each byte is one printable character.
    ByteLevel,
    /// SentencePiece's and, as converters write it, WordPiece's: spaces are U+2581.
    SpaceSign,
}

/// All tokens of a model.
pub(super) struct Vocab {
    texts: Strings,
    kinds: Vec<Kind>,
    bytes: Vec<u8>,
    byte_ends: Vec<u32>,
    /// Half of the hash and the id: most texts that are no token are told by the first.
    slots: Box<[(u32, u32)]>,
    hasher: KeyedHash,
    n_text_bytes_max: usize,
}

impl Vocab {
    /// Reads and checks the tokens of a file.
    pub(super) fn new(metadata: &Metadata, spelling: Spelling) -> Result<Self, TokenizerError> {
        let texts = metadata.require_strings("tokenizer.ggml.tokens")?.clone();
        if texts.is_empty() || texts.len() > N_TOKENS_MAX {
            return Err(TokenizerError::VocabSize { found: texts.len(), max: N_TOKENS_MAX });
        }
        let kinds = read_kinds(metadata, texts.len())?;
        let n_text_bytes_max = texts.iter().map(str::len).max().unwrap_or(0);
        let n_slots = (2 * texts.len()).next_power_of_two();
        let mut vocab = Self {
            texts,
            kinds,
            bytes: Vec::new(),
            byte_ends: Vec::new(),
            slots: vec![(0, EMPTY); n_slots].into_boxed_slice(),
            hasher: KeyedHash::default(),
            n_text_bytes_max,
        };
        vocab.index()?;
        vocab.spell(spelling)?;
        Ok(vocab)
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// All ids.
    pub(super) fn ids(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.len()).expect("the size was checked when it was read")
    }

    /// The token as the file writes it; empty outside of the vocabulary.
    pub(super) fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).unwrap_or("")
    }

    /// What the token is; `None` outside of the vocabulary.
    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// Corrects what a file says a token is.
    pub(super) fn set_kind(&mut self, id: u32, kind: Kind) {
        self.kinds[id as usize] = kind;
    }

    /// The bytes that the token stands for; empty outside of the vocabulary.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let idx = id as usize;
        let Some(&end) = self.byte_ends.get(idx) else { return &[] };
        let start = if idx == 0 { 0 } else { self.byte_ends[idx - 1] };
        &self.bytes[start as usize..end as usize]
    }

    /// The length of the longest text.
    pub(super) fn n_text_bytes_max(&self) -> usize {
        self.n_text_bytes_max
    }

    /// The token that the file writes so, whatever its kind.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        if text.is_empty() || text.len() > self.n_text_bytes_max {
            return None;
        }
        self.find_hashed(text, self.hasher.hash_one(text))
    }

    /// As [`Vocab::find`], for many texts: merges of 150,000 lines are read in half the time.
    pub(super) fn find_all<const N: usize>(&self, texts: &[&str; N]) -> [Option<u32>; N] {
        let hashes = texts.map(|text| self.hasher.hash_one(text));
        self.fetch(&hashes);
        std::array::from_fn(|idx| self.find_hashed(texts[idx], hashes[idx]))
    }

    fn find_hashed(&self, text: &str, hash: u64) -> Option<u32> {
        let (_, id) = self.slots[self.slot(text, hash)];
        (id != EMPTY).then_some(id)
    }

    /// The token that merging may make from this text: no control token can be written, and no
    /// byte or unknown token either.
    pub(super) fn find_mergeable(&self, text: &str) -> Option<u32> {
        self.find(text).filter(|&id| self.is_mergeable(id))
    }

    /// As [`Vocab::find_mergeable`], and no user-defined token: SentencePiece finds those before
    /// merging and only there.
    pub(super) fn find_normal(&self, text: &str) -> Option<u32> {
        self.find(text).filter(|&id| self.kind(id) == Some(Kind::Normal))
    }

    /// Whether merging may make this token.
    pub(super) fn is_mergeable(&self, id: u32) -> bool {
        matches!(self.kind(id), Some(Kind::Normal | Kind::UserDefined))
    }

    /// Whether this is one of the rows that converters fill up with `[PAD…]`: the publisher's
    /// tokenizer has no such token, so no text may become it.
    pub(super) fn is_filler(&self, id: u32) -> bool {
        let number = self.text(id).strip_prefix("[PAD").and_then(|rest| rest.strip_suffix(']'));
        number.is_some_and(|number| number.parse() == Ok(id))
    }

    /// Where `text` stands in the index, or the empty slot where it would.
    fn slot(&self, text: &str, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        // Half of the slots are empty, so this ends.
        loop {
            let (other_tag, id) = self.slots[slot];
            if id == EMPTY || (other_tag == tag(hash) && self.text(id) == text) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Loads the slots where the search for `hashes` begins. The index is larger than the nearer
    /// caches: loaded together they wait for memory once, one by one each waits for itself.
    fn fetch(&self, hashes: &[u64]) {
        let mask = self.slots.len() - 1;
        for &hash in hashes {
            black_box(self.slots[hash as usize & mask]);
        }
    }

    fn index(&mut self) -> Result<(), TokenizerError> {
        for first in self.ids().step_by(N_TOGETHER) {
            let hashes: [u64; N_TOGETHER] =
                std::array::from_fn(|idx| self.hasher.hash_one(self.text(first + idx as u32)));
            self.fetch(&hashes);
            for (id, hash) in (first..self.ids().end).zip(hashes) {
                self.insert(id, hash)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, id: u32, hash: u64) -> Result<(), TokenizerError> {
        let text = self.text(id);
        // An empty text is no text's token; converters write it for rows without one.
        if text.is_empty() {
            return Ok(());
        }
        let slot = self.slot(text, hash);
        let (_, other) = self.slots[slot];
        if other != EMPTY {
            return Err(TokenizerError::Token {
                key: "tokenizer.ggml.tokens",
                id,
                found: quoted(text),
                expected: format!("a text of its own: token {other} has it"),
            });
        }
        self.slots[slot] = (tag(hash), id);
        Ok(())
    }

    /// Fills in the bytes of all tokens.
    fn spell(&mut self, spelling: Spelling) -> Result<(), TokenizerError> {
        // No spelling is shorter than what it spells.
        self.bytes.reserve(self.texts.iter().map(str::len).sum());
        self.byte_ends.reserve(self.texts.len());
        for id in self.ids() {
            let text = self.texts.get(id as usize).expect("the id is one of the vocabulary's");
            match (self.kinds[id as usize], spelling) {
                (Kind::Byte, _) => {
                    self.bytes.push(parse_byte(text).ok_or_else(|| TokenizerError::Token {
                        key: "tokenizer.ggml.tokens",
                        id,
                        found: quoted(text),
                        expected: "a byte, written like \"<0x0A>\"".into(),
                    })?)
                }
                (Kind::Normal | Kind::Unused, Spelling::ByteLevel) => {
                    byte_level::decode(text, &mut self.bytes);
                }
                (Kind::Normal | Kind::UserDefined | Kind::Unused, Spelling::SpaceSign) => {
                    push_unescaped(text, &mut self.bytes);
                }
                _ => self.bytes.extend_from_slice(text.as_bytes()),
            }
            let end = u32::try_from(self.bytes.len());
            self.byte_ends.push(end.map_err(|_| TokenizerError::Token {
                key: "tokenizer.ggml.tokens",
                id,
                found: format!("{} bytes of text so far", self.bytes.len()),
                expected: "less than 4 GiB".into(),
            })?);
        }
        Ok(())
    }
}

/// The half of a hash that a slot keeps; the other half says where it stands.
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn read_kinds(metadata: &Metadata, n_tokens: usize) -> Result<Vec<Kind>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(types) = metadata.i32s(KEY)? else { return Ok(vec![Kind::Normal; n_tokens]) };
    if types.len() != n_tokens {
        return Err(TokenizerError::Length { key: KEY, found: types.len(), expected: n_tokens });
    }
    let kind = |(id, number): (u32, &i32)| match number {
        1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        0 | 5 => Ok(Kind::Unused),
        6 => Ok(Kind::Byte),
        other => Err(TokenizerError::Token {
            key: KEY,
            id,
            found: other.to_string(),
            expected: "0 to 6".into(),
        }),
    };
    (0..).zip(types.iter()).map(kind).collect()
}

/// Reads `<0x0A>`.
fn parse_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    // `from_str_radix` would also take a sign.
    let is_hex = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Appends `text` with U+2581 turned into spaces.
fn push_unescaped(text: &str, out: &mut Vec<u8>) {
    let mut pieces = text.split(SPACE_SIGN);
    out.extend_from_slice(pieces.next().unwrap_or("").as_bytes());
    for piece in pieces {
        out.push(b' ');
        out.extend_from_slice(piece.as_bytes());
    }
}
