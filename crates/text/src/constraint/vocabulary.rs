//! A tokenizer as the grammar's parser wants it: a trie of the tokens' bytes.
//!
//! Tokens that have no text of their own stand behind a byte that no text has, so that only a
//! grammar that names them meets them.

use crate::tokenizer::Tokenizer;
use crate::{Special, tokenizer::TokenText};
use llguidance::toktrie::{INVALID_TOKEN, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use std::sync::Arc;

/// Bytes of the longest token that may be chosen; the trie bounds its depth.
const TOKEN_BYTES_MAX: usize = 512;
/// Most tokens: the trie has 24 bits for an id.
const TOKENS_MAX: usize = 1 << 23;

pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Vocabulary {
    pub(super) fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, String> {
        let n_tokens = tokenizer.n_vocab();
        if n_tokens > TOKENS_MAX {
            return Err(format!("{n_tokens} tokens, expected at most {TOKENS_MAX}"));
        }
        let ids = 0..n_tokens as u32;
        let words: Vec<Vec<u8>> = ids.map(|id| word(&tokenizer, id)).collect();
        let ends = tokenizer.ends();
        let first_end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(n_tokens as u32, first_end), &words);
        if ends.len() > 1 {
            trie = trie.with_eos_tokens(ends);
        }
        Ok(Self { tokenizer, trie })
    }
}

/// The bytes by which the trie knows a token; none for those that are never chosen.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let bytes = match tokenizer.text_of(id) {
        TokenText::Own(bytes) if !bytes.contains(&MARKER) => bytes.to_vec(),
        TokenText::Name(name) => [&[MARKER], name].concat(),
        TokenText::Own(_) | TokenText::None => Vec::new(),
    };
    if bytes.len() > TOKEN_BYTES_MAX { Vec::new() } else { bytes }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| self.tokenizer.encode(text, Special::Plain);
        let ids = self.trie.tokenize_with_greedy_fallback(bytes, encode);
        // A tokenizer that normalises would have the parser force another text.
        if self.trie.decode_raw(&ids) == bytes { ids } else { self.trie.greedy_tokenize(bytes) }
    }

    fn tokenize_is_canonical(&self) -> bool {
        !self.tokenizer.adds_space()
    }
}
