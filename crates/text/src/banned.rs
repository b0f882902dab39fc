//! Texts that an answer must not contain, and for each answer so far the tokens that would complete
//! one of them.
//!
//! The token that completes a banned text is never chosen, so there is nothing to take back: what
//! was sent stays, and the choice is a function of the answer so far.

use crate::Tokenizer;
use std::fmt;
use std::sync::Arc;

/// Most texts that are banned at once.
pub const MAX_BANNED: usize = 64;
/// Longest of them in bytes.
pub const MAX_BANNED_BYTES: usize = 256;

/// Banned texts, with what a vocabulary has to do with them. Cheap to clone; equal are clones of
/// one.
#[derive(Clone)]
pub struct Banned(Arc<Parts>);

struct Parts {
    texts: Vec<String>,
    /// Tokens that contain a banned text whole.
    always: Vec<u32>,
    /// By text, then by how many of its bytes are there already less one: tokens that begin with
    /// all of the rest.
    completing: Vec<Vec<Vec<u32>>>,
    n_bytes_max: usize,
}

impl Banned {
    /// Looks `texts` up in the vocabulary: some milliseconds, not for the thread that generates.
    /// `None` where there are more than [`MAX_BANNED`], or one is empty or longer than
    /// [`MAX_BANNED_BYTES`].
    pub fn new(tokenizer: &Tokenizer, texts: &[String]) -> Option<Self> {
        let is_good = |text: &String| (1..=MAX_BANNED_BYTES).contains(&text.len());
        if texts.len() > MAX_BANNED || !texts.iter().all(is_good) {
            return None;
        }
        let mut parts = Parts {
            texts: texts.to_vec(),
            always: Vec::new(),
            completing: texts.iter().map(|text| vec![Vec::new(); text.len() - 1]).collect(),
            n_bytes_max: texts.iter().map(String::len).max().unwrap_or(0),
        };
        for id in 0..tokenizer.n_vocab() as u32 {
            // Of control tokens this is the name, which is no text.
            if !tokenizer.is_control(id) {
                parts.add(id, tokenizer.token_bytes(id));
            }
        }
        Some(Self(Arc::new(parts)))
    }

    /// The bytes of an answer's end that matter.
    pub fn n_bytes_max(&self) -> usize {
        self.0.n_bytes_max
    }

    /// Calls `forbid` for each token that would complete a banned text behind `tail`, the end of an
    /// answer without one; for some tokens more than once.
    pub fn forbid(&self, tail: &[u8], mut forbid: impl FnMut(u32)) {
        let Parts { texts, always, completing, .. } = &*self.0;
        always.iter().for_each(|&id| forbid(id));
        for (text, completing) in texts.iter().zip(completing) {
            for (n_less_one, ids) in completing.iter().enumerate() {
                if !ids.is_empty() && tail.ends_with(&text.as_bytes()[..=n_less_one]) {
                    ids.iter().for_each(|&id| forbid(id));
                }
            }
        }
    }
}

impl Parts {
    fn add(&mut self, id: u32, bytes: &[u8]) {
        let is_inside =
            |text: &String| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        if self.texts.iter().any(is_inside) {
            self.always.push(id);
            return;
        }
        for (text, completing) in self.texts.iter().zip(&mut self.completing) {
            // The rest is no longer than the token.
            let first = text.len().saturating_sub(bytes.len()).max(1);
            for n_there in first..text.len() {
                if bytes.starts_with(&text.as_bytes()[n_there..]) {
                    completing[n_there - 1].push(id);
                }
            }
        }
    }
}

impl PartialEq for Banned {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Banned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Banned").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokenizer: &Tokenizer, texts: &[&str], tail: &str) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let mut found = Vec::new();
        Banned::new(tokenizer, &texts).unwrap().forbid(tail.as_bytes(), |id| found.push(id));
        found.sort_unstable();
        found.dedup();
        let completes = |id: &u32| {
            let all = [tail.as_bytes(), tokenizer.token_bytes(*id)].concat();
            texts.iter().any(|text| all.windows(text.len()).any(|part| part == text.as_bytes()))
        };
        let ids = (0..tokenizer.n_vocab() as u32).filter(|&id| !tokenizer.is_control(id));
        let expected: Vec<u32> = ids.filter(completes).collect();
        assert_eq!(found, expected, "{texts:?} behind {tail:?}");
    }

    #[test]
    fn forbidden_is_what_would_complete_a_banned_text() {
        let file = gguf::Gguf::open(&testkit::smollm2()).unwrap();
        let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
        let texts = ["the cat", "aa", " is", "é", "I am an AI"];
        for tail in
            ["", "a", "the c", "the ca", "xthe cat", "\u{c3}", "th", " i", "I am an A", "aaa"]
        {
            if !texts.iter().any(|text| tail.contains(text)) {
                check(&tokenizer, &texts, tail);
            }
        }
        check(&tokenizer, &[], "a");
        check(&tokenizer, &["abab"], "xaba");
    }

    #[test]
    fn there_are_bounds() {
        let file = gguf::Gguf::open(&testkit::smollm2()).unwrap();
        let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
        assert!(Banned::new(&tokenizer, &[String::new()]).is_none());
        assert!(Banned::new(&tokenizer, &["a".repeat(257)]).is_none());
        assert!(Banned::new(&tokenizer, &vec!["a".to_owned(); 65]).is_none());
    }
}
