//! The tokens between which a model fills in what is missing in the middle of a text
//! (Bavarian et al. 2022, "Efficient training of language models to fill in the middle").
//!
//! Files name them by keys; many name none, and have them by their texts alone, which are those
//! that llama.cpp looks for.

use gguf::Metadata;

/// The keys of each token, the newer first.
const KEYS: [[&str; 2]; 3] = [
    ["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"],
    ["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"],
    ["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"],
];

/// The texts that models have them by.
const TEXTS: [[&str; 3]; 6] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
];

/// The three tokens of a model that fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillIn {
    /// Before what stands before.
    pub prefix: u32,
    /// Before what stands behind.
    pub suffix: u32,
    /// Before what is to be filled in.
    pub middle: u32,
}

impl FillIn {
    /// Those of a file; `None` where it has not all three, or where one is said to be another.
    pub fn of(metadata: &Metadata) -> Option<Self> {
        let tokens = metadata.strings("tokenizer.ggml.tokens").ok().flatten()?;
        Self::by_key(metadata, tokens.len()).or_else(|| Self::by_text(tokens))
    }

    fn by_key(metadata: &Metadata, n_tokens: usize) -> Option<Self> {
        let id = |keys: [&str; 2]| {
            let found = keys.into_iter().find_map(|key| metadata.u32(key).ok().flatten());
            found.filter(|id| (*id as usize) < n_tokens)
        };
        let [prefix, suffix, middle] = KEYS;
        Self::new(id(prefix)?, id(suffix)?, id(middle)?)
    }

    fn by_text(tokens: &gguf::Strings) -> Option<Self> {
        let mut found = [[None; 3]; TEXTS.len()];
        for (id, token) in (0_u32..).zip(tokens.iter()) {
            // Few tokens begin so.
            if !token.starts_with(['<', '▁']) {
                continue;
            }
            for (texts, ids) in TEXTS.iter().zip(&mut found) {
                for (_, place) in texts.iter().zip(ids).filter(|(text, _)| **text == token) {
                    *place = place.or(Some(id));
                }
            }
        }
        found.into_iter().find_map(|[prefix, suffix, middle]| Self::new(prefix?, suffix?, middle?))
    }

    fn new(prefix: u32, suffix: u32, middle: u32) -> Option<Self> {
        let are_three = prefix != suffix && suffix != middle && middle != prefix;
        are_three.then_some(Self { prefix, suffix, middle })
    }

    /// A prompt that asks for what stands between two texts: what is before, what is behind, and
    /// then the model's word.
    pub fn prompt(self, before: &[u32], behind: &[u32]) -> Vec<u32> {
        [&[self.prefix], before, &[self.suffix], behind, &[self.middle]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gguf::{Gguf, write::Writer};

    fn of(tokens: &[&str], keys: &[(&str, u32)]) -> Option<FillIn> {
        let mut writer = Writer::new();
        let tokens: gguf::Strings = tokens.iter().copied().collect();
        writer.metadata("tokenizer.ggml.tokens", tokens);
        for (key, id) in keys {
            writer.metadata(&format!("tokenizer.ggml.{key}_token_id"), *id);
        }
        let file = Gguf::from_bytes(writer.finish().unwrap()).unwrap();
        FillIn::of(file.metadata())
    }

    #[test]
    fn the_three_tokens_are_found_by_key_or_by_text_and_all_or_none() {
        let some = |prefix, suffix, middle| Some(FillIn { prefix, suffix, middle });
        let words = ["a", "b", "c", "d"];
        assert_eq!(of(&words, &[("fim_pre", 1), ("fim_suf", 2), ("fim_mid", 3)]), some(1, 2, 3));
        assert_eq!(of(&words, &[("prefix", 3), ("fim_suf", 2), ("middle", 0)]), some(3, 2, 0));
        let texts = ["a", "<|fim_middle|>", "<|fim_prefix|>", "<fim_prefix>", "<|fim_suffix|>"];
        assert_eq!(of(&texts, &[]), some(2, 4, 1));
        // The file's word goes before the texts.
        assert_eq!(of(&texts, &[("fim_pre", 0), ("fim_suf", 1), ("fim_mid", 2)]), some(0, 1, 2));
        let none = |tokens: &[&str], keys: &[(&str, u32)]| {
            assert_eq!(of(tokens, keys), None, "{tokens:?} {keys:?}");
        };
        none(&words, &[("fim_pre", 1), ("fim_suf", 2)]);
        none(&words, &[("fim_pre", 1), ("fim_suf", 2), ("fim_mid", 4)]);
        none(&words, &[("fim_pre", 1), ("fim_suf", 1), ("fim_mid", 3)]);
        none(&["<|fim_prefix|>", "<fim_suffix>", "<|fim_middle|>"], &[]);
        none(&[], &[]);
    }

    #[test]
    fn a_prompt_ends_where_the_middle_begins() {
        let marks = FillIn { prefix: 7, suffix: 8, middle: 9 };
        assert_eq!(marks.prompt(&[1, 2], &[3]), [7, 1, 2, 8, 3, 9]);
        assert_eq!(marks.prompt(&[], &[]), [7, 8, 9]);
    }
}
