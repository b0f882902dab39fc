//! The hash of vocabulary and merges: folded multiplication under keys drawn by chance.
//!
//! Encoding is mostly looking up: with the standard library's hash it takes about a third longer
//! (4 MB of text, five vocabularies). This one is not made to resist someone who can watch it;
//! its keys never leave the process, and a file is written before they are drawn.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers under the same keys.
#[derive(Clone)]
pub(super) struct KeyedHash {
    seed: u64,
    key: u64,
}

/// One value being hashed.
pub(super) struct KeyedHasher {
    state: u64,
    key: u64,
}

impl Default for KeyedHash {
    fn default() -> Self {
        let random = RandomState::new();
        // An odd key is never zero, and zero would make all hashes equal.
        Self { seed: random.hash_one(0), key: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { state: self.seed, key: self.key }
    }
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        // The length sets a text apart from the same one with zeros behind it.
        self.write_u64(last_word(rest) ^ (bytes.len() as u64) << 56);
    }

    /// What follows a text in a longer key; here texts are the whole key.
    fn write_u8(&mut self, _: u8) {}

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.key);
        self.state = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        // Once more, so that the last word reaches all bits.
        let product = u128::from(self.state) * u128::from(self.key.rotate_left(32));
        (product as u64) ^ (product >> 64) as u64
    }
}

/// Up to seven bytes in one word, a word of their own for each number of them. Loads of fixed
/// length: copying into a buffer and reading that makes the processor wait for its own stores.
fn last_word(rest: &[u8]) -> u64 {
    let n = rest.len();
    if let (Some(head), Some(tail)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let (head, tail) = (u32::from_le_bytes(*head), u32::from_le_bytes(*tail));
        return u64::from(head) | u64::from(tail) << (8 * (n - 4));
    }
    match rest {
        [] => 0,
        rest => u64::from(rest[0]) | u64::from(rest[n / 2]) << 8 | u64::from(rest[n - 1]) << 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_byte_of_the_last_word_is_lost() {
        for n in 0..8 {
            let bytes = [1u8, 2, 3, 4, 5, 6, 7];
            let word = last_word(&bytes[..n]);
            for idx in 0..n {
                let mut changed = bytes;
                changed[idx] ^= 0x80;
                assert_ne!(last_word(&changed[..n]), word, "byte {idx} of {n}");
            }
        }
        assert_eq!(last_word(&[1, 2, 3, 4, 5, 6, 7]), 0x0007_0605_0403_0201);
    }

    #[test]
    fn hashes_spread() {
        let hash = KeyedHash::default();
        let low = |key: &str| hash.hash_one(key) & 0xffff;
        let texts: HashSet<u64> = (0..20_000).map(|n| low(&format!("token{n}"))).collect();
        let pairs: HashSet<u64> = (0..20_000u64).map(|n| hash.hash_one(n << 32) & 0xffff).collect();
        // 20,000 balls into 65,536 bins hit about 17,200 of them.
        assert!(texts.len() > 16_500, "{}", texts.len());
        assert!(pairs.len() > 16_500, "{}", pairs.len());
        assert_ne!(hash.hash_one("a"), hash.hash_one("a\0"));
        assert_ne!(hash.hash_one(""), KeyedHash::default().hash_one(""));
    }
}
