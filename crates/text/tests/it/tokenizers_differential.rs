//! Our tokenizers against the `tokenizers` crate, which publishers use, over random texts.
//!
//! Each `tokenizer.json` is put together from the vocabulary of the conformance kit and the
//! publisher's own rules, so what is compared here are the rules and the merging: our splitters
//! written by hand against its regular expressions.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

use std::collections::HashMap;

use freehold_text::{Special, Tokenizer};
use gguf::{Gguf, Metadata};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

const N_TEXTS: u32 = 400;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const DEEPSEEK_V3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"##,
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Texts that press the borders of the rules: spaces, line ends, digits, apostrophes, marks,
/// capitals, scripts, and one of the `rare` characters now and then.
fn texts(rare: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-z]{1,8}",
        3 => "[A-Z][a-z]{0,4}[A-Z]?",
        4 => " {1,4}",
        2 => "[ \t\r\n]{1,5}",
        3 => "[0-9]{1,7}",
        2 => "'(s|t|re|ve|m|ll|d|S|T|RE|Ve|LL|x|ſ)",
        3 => "[!-/:-@\\[-`{-~]{1,4}",
        2 => "[äöüßéñøÿçÀÞıİſ]{1,3}",
        1 => "[\u{300}-\u{30f}\u{5b0}-\u{5b9}]{1,2}",
        1 => "[а-яА-Я]{1,5}",
        1 => "[一-龥]{1,3}|[ぁ-ん]{1,3}|[ァ-ヴ]{1,3}|[가-힣]{1,2}",
        1 => "[ا-ي]{1,4}|[अ-ह][ा-ौ]?|[ก-ฮ]{1,3}",
        1 => "[½²Ⅳ٣৪]|[\u{a0}\u{2003}\u{3000}\u{85}\u{200b}\u{200d}]|[！？。、‘’“”]",
        1 => "[😀-😎🇩🇪👨👩ªºǅʰ]{1,2}",
        1 => rare,
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Opens a vocabulary of the kit, `None` without the kit.
fn vocabulary(name: &str) -> Option<Gguf> {
    let path = testkit::kit()?.join(format!("tokenizers/{name}.vocab.gguf"));
    Some(Gguf::open(&path).unwrap())
}

/// The same metadata under another pre-tokenizer's name.
fn with_pre(metadata: &Metadata, pre: &str) -> Gguf {
    let mut writer = gguf::write::Writer::new();
    for (key, value) in metadata.iter() {
        if key == "tokenizer.ggml.pre" {
            writer.metadata(key, pre);
        } else {
            writer.metadata(key, value.clone());
        }
    }
    Gguf::from_bytes(writer.finish().unwrap()).unwrap()
}

fn tokens(metadata: &Metadata) -> Vec<&str> {
    metadata.require_strings("tokenizer.ggml.tokens").unwrap().iter().collect()
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn digits() -> Value {
    json!({"type": "Digits", "individual_digits": true})
}

fn build(model: Value, normalizer: Value, stages: Value, added: Value) -> tokenizers::Tokenizer {
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": stages, "post_processor": null,
        "decoder": null, "model": model,
    });
    tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&tokenizer).unwrap()).unwrap()
}

/// A byte-level BPE tokenizer as its publisher would write it.
fn byte_level(
    metadata: &Metadata,
    normalizer: Value,
    mut stages: Vec<Value>,
    takes_whole_words: bool,
) -> tokenizers::Tokenizer {
    let tokens = tokens(metadata);
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    let vocab: HashMap<&str, usize> = tokens.iter().copied().zip(0..).collect();
    let merges: Vec<&str> =
        metadata.require_strings("tokenizer.ggml.merges").unwrap().iter().collect();
    let is_added = |id: usize| types[id] == 4 && !tokens[id].starts_with("[PAD");
    let added: Vec<Value> = (0..tokens.len())
        .filter(|&id| is_added(id))
        .map(|id| {
            json!({"id": id, "content": tokens[id], "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": false})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": false});
    stages.push(byte_level);
    let model = json!({"type": "BPE", "vocab": vocab, "merges": merges,
        "ignore_merges": takes_whole_words, "byte_fallback": false, "fuse_unk": false});
    build(model, normalizer, json!({"type": "Sequence", "pretokenizers": stages}), json!(added))
}

fn compare(name: &str, metadata: &Metadata, theirs: &tokenizers::Tokenizer) {
    compare_texts(name, metadata, theirs, texts("\\PC"));
}

/// With a normalizer: the crate's tables of combining classes are those of Unicode 9, ours are
/// newer and put marks in order that it does not know.
fn compare_nfc(name: &str, metadata: &Metadata, theirs: &tokenizers::Tokenizer) {
    compare_texts(name, metadata, theirs, texts(r"[\PC&&\p{age=9.0}]"));
}

fn compare_texts(
    name: &str,
    metadata: &Metadata,
    theirs: &tokenizers::Tokenizer,
    texts: impl Strategy<Value = String>,
) {
    let ours = Tokenizer::from_gguf(metadata).unwrap();
    let config = Config { failure_persistence: None, ..Config::with_cases(N_TEXTS) };
    let result = TestRunner::new(config).run(&texts, |text| {
        let expected = theirs.encode(text.as_str(), false).unwrap();
        let ids = ours.encode(&text, Special::Plain);
        prop_assert_eq!(&ids[..], expected.get_ids(), "{}: {:?}", name, text);
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Those that lose nothing: Qwen's composes characters, BERT's folds them.
#[test]
fn texts_come_back_from_published_vocabularies() {
    for name in ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "deepseek-llm"] {
        let Some(gguf) = vocabulary(name) else { return };
        let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
        let config = Config { failure_persistence: None, ..Config::with_cases(N_TEXTS) };
        let result = TestRunner::new(config).run(&texts("\\PC"), |text| {
            // SentencePiece cannot tell its sign for a space from a space.
            let text = text.replace('\u{2581}', " ");
            let ids = tokenizer.encode(&text, Special::Parse);
            prop_assert_eq!(tokenizer.decode(&ids), text);
            Ok(())
        });
        result.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn gpt2_and_starcoder_rules() {
    let Some(gguf) = vocabulary("gpt-2") else { return };
    let metadata = gguf.metadata();
    compare("gpt-2", metadata, &byte_level(metadata, Value::Null, vec![split(GPT2)], false));
    let smollm = with_pre(metadata, "smollm");
    let theirs = byte_level(metadata, Value::Null, vec![digits(), split(GPT2)], false);
    compare("smollm", smollm.metadata(), &theirs);
    let olmo = with_pre(metadata, "olmo");
    let theirs = byte_level(metadata, json!({"type": "NFC"}), vec![split(GPT2)], false);
    compare_nfc("olmo", olmo.metadata(), &theirs);
}

#[test]
fn llama3_rule_and_whole_words() {
    let Some(gguf) = vocabulary("llama-bpe") else { return };
    let metadata = gguf.metadata();
    compare("llama-bpe", metadata, &byte_level(metadata, Value::Null, vec![split(LLAMA3)], true));
}

#[test]
fn qwen_rules() {
    let Some(gguf) = vocabulary("qwen2") else { return };
    let (metadata, nfc) = (gguf.metadata(), json!({"type": "NFC"}));
    compare_nfc("qwen2", metadata, &byte_level(metadata, nfc.clone(), vec![split(QWEN2)], false));
    let qwen35 = with_pre(metadata, "qwen35");
    let theirs = byte_level(metadata, nfc, vec![split(QWEN35)], false);
    compare_nfc("qwen35", qwen35.metadata(), &theirs);
}

#[test]
fn capitalised_words() {
    let Some(gguf) = vocabulary("gpt-2") else { return };
    let metadata = gguf.metadata();
    let o200k = with_pre(metadata, "gpt-4o");
    let theirs = byte_level(metadata, Value::Null, vec![split(O200K)], false);
    compare("gpt-4o", o200k.metadata(), &theirs);
    let tekken = with_pre(metadata, "tekken");
    let theirs = byte_level(metadata, Value::Null, vec![split(TEKKEN)], true);
    compare("tekken", tekken.metadata(), &theirs);
}

#[test]
fn deepseek_rules() {
    let Some(gguf) = vocabulary("deepseek-llm") else { return };
    let metadata = gguf.metadata();
    let cjk = "[一-龥ࠀ-一가-\u{d7ff}]+";
    let stages = vec![
        split("[\r\n]"),
        split(&format!(r"\s?[{}]+", alphabet())),
        split("\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+"),
        split(r"\s+$"),
        split(cjk),
        digits(),
    ];
    compare("deepseek-llm", metadata, &byte_level(metadata, Value::Null, stages, false));
    let coder = with_pre(metadata, "deepseek-coder");
    let stages =
        vec![split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(cjk), digits()];
    compare("deepseek-coder", coder.metadata(), &byte_level(metadata, Value::Null, stages, false));
    let v3 = with_pre(metadata, "deepseek-v3");
    let stages = vec![split(r"\p{N}{1,3}"), split("[一-龥\u{3040}-ゟ゠-ヿ]+"), split(DEEPSEEK_V3)];
    compare("deepseek-v3", v3.metadata(), &byte_level(metadata, Value::Null, stages, false));
}

/// The letters of DeepSeek-LLM's expression, as it writes them.
fn alphabet() -> String {
    concat!(
        "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿ\u{1c4}-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ",
        "Ḁ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\u{1f5f}-\u{1f7d}ᾀ-ᾴᾶ-ᾼ\u{1fbe}ῂ-ῄῆ-ῌῐ-\u{1fd3}ῖ-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼ",
        "ℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ",
        "ﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
    )
    .to_owned()
}

/// Llama 2's `tokenizer.json`: merges made from the pieces and their scores, as the publisher's
/// converter makes them.
#[test]
fn sentencepiece_merging() {
    let Some(gguf) = vocabulary("llama-spm") else { return };
    let metadata = gguf.metadata();
    let tokens = tokens(metadata);
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    let scores = metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap();
    let vocab: HashMap<&str, usize> = tokens.iter().copied().zip(0..).collect();
    let is_piece = |text: &str| vocab.get(text).is_some_and(|&id| types[id] == 1);
    let mut merges: Vec<(f32, [&str; 2])> = Vec::new();
    for (&token, &score) in tokens.iter().zip(scores.iter()).filter(|(token, _)| is_piece(token)) {
        let borders = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let both = borders.filter(|(left, right)| is_piece(left) && is_piece(right));
        merges.extend(both.map(|(left, right)| (score, [left, right])));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges: Vec<[&str; 2]> = merges.into_iter().map(|(_, merge)| merge).collect();
    let model = json!({"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": "<unk>",
        "byte_fallback": true, "fuse_unk": true});
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]});
    compare("llama-spm", metadata, &build(model, normalizer, Value::Null, json!([])));
}

#[test]
fn bert_cleaning_and_pieces() {
    let Some(gguf) = vocabulary("bert-bge") else { return };
    let metadata = gguf.metadata();
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    // Back to BERT's own spelling.
    let spelled = |(id, token): (usize, &&str)| match token.strip_prefix('▁') {
        Some(begin) => (begin.to_owned(), id),
        None if types[id] == 3 || (token.starts_with('[') && token.ends_with(']')) => {
            ((*token).to_owned(), id)
        }
        None => (format!("##{token}"), id),
    };
    let vocab: HashMap<String, usize> = tokens(metadata).iter().enumerate().map(spelled).collect();
    let model = json!({"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]",
        "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
    let normalizer = json!({"type": "BertNormalizer", "clean_text": true,
        "handle_chinese_chars": true, "strip_accents": null, "lowercase": true});
    let stages = json!({"type": "BertPreTokenizer"});
    let theirs = build(model, normalizer, stages, json!([]));
    // No rare characters: its tables for BERT's cleaning are those of Unicode 8, ours are newer.
    compare_texts("bert-bge", metadata, &theirs, texts("[a-z]"));
}
