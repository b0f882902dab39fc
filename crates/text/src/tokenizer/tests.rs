//! The tokenizers on vocabularies made here: hostile ones above all.

use super::*;
use gguf::write::Writer;
use gguf::{Array, Gguf, Value};
use proptest::prelude::*;

/// Metadata to change before a tokenizer is built from them.
type Entries = Vec<(&'static str, Value)>;

fn strings(texts: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::Array(Array::Strings(texts.into_iter().map(Into::into).collect()))
}

fn build(entries: &Entries) -> Result<Tokenizer, TokenizerError> {
    let mut writer = Writer::new();
    for (key, value) in entries {
        writer.metadata(key, value.clone());
    }
    let bytes = writer.finish().expect("small metadata are writable");
    Tokenizer::from_gguf(Gguf::from_bytes(bytes).expect("what we wrote is readable").metadata())
}

fn set(mut entries: Entries, key: &'static str, value: Value) -> Entries {
    entries.retain(|(other, _)| *other != key);
    entries.push((key, value));
    entries
}

/// All bytes, three merges, a control token, a user-defined one.
fn bpe() -> Entries {
    let mut tokens: Vec<String> = (0..=255).map(|b| byte_level::char_of(b).to_string()).collect();
    tokens.extend(["aa", "aaa", "Ġa", "<|im_end|>", "<think>", "[PAD261]"].map(String::from));
    let types = [vec![1; 259], vec![3, 4, 4]].concat();
    vec![
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", strings(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
        ("tokenizer.ggml.merges", strings(["a a", "aa a", "Ġ a"])),
        ("tokenizer.ggml.eos_token_id", Value::U32(259)),
    ]
}

/// A few letters, all bytes, a control and a user-defined token.
fn spm() -> Entries {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let texts = ["▁", "a", "b", "ab", "▁a", "▁ab", "▁▁", "</i>", "<", "<s", "s", ">", "aé"];
    tokens.extend(texts.map(String::from));
    let mut types = [vec![2, 3, 3], vec![6; 256], vec![1; 13]].concat();
    types[265] = 4;
    types[266] = 4;
    let mut scores: Vec<f32> = (0..272u16).map(|id| -f32::from(id)).collect();
    scores[1] = 100.0;
    vec![
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", strings(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
        ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ]
}

fn wordpiece() -> Entries {
    let tokens = ["[UNK]", "[CLS]", "[SEP]", "▁un", "able", "▁a", "▁!", "▁é", "▁", "▁日"];
    let types = vec![2, 3, 3, 1, 1, 1, 1, 1, 1, 1];
    vec![
        ("tokenizer.ggml.model", Value::String("bert".into())),
        ("tokenizer.ggml.tokens", strings(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
        ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
        ("tokenizer.ggml.cls_token_id", Value::U32(1)),
        ("tokenizer.ggml.seperator_token_id", Value::U32(2)),
    ]
}

#[track_caller]
fn check(entries: &Entries, text: &str, special: Special, expected: &[&str]) {
    let tokenizer = build(entries).unwrap();
    let ids = tokenizer.encode(text, special);
    let texts: Vec<&str> = ids.iter().map(|&id| tokenizer.token_text(id)).collect();
    assert_eq!(texts, expected, "{text:?}");
}

#[track_caller]
fn check_refused(entries: &Entries, needles: &[&str]) {
    let message = build(entries).err().expect("this must be refused").to_string();
    for needle in needles {
        assert!(message.contains(needle), "{message:?} lacks {needle:?}");
    }
}

#[test]
fn control_tokens_are_parsed_only_on_demand() {
    check(&bpe(), "a<|im_end|>", Special::Parse, &["a", "<|im_end|>"]);
    let plain = build(&bpe()).unwrap().encode("a<|im_end|>", Special::Plain);
    assert_eq!(plain.len(), 11);
    check(&bpe(), "a<think>a", Special::Plain, &["a", "<think>", "a"]);
    // Rows that a converter filled up are no text's tokens.
    assert_eq!(build(&bpe()).unwrap().encode("[PAD261]", Special::Parse).len(), 8);
    // Merging must not lead to `<s>`, however good its score.
    check(&spm(), "<s>", Special::Plain, &["▁", "<s", ">"]);
    check(&spm(), "<s>", Special::Parse, &["<s>"]);
    check(&spm(), "a</i>a", Special::Plain, &["▁a", "</i>", "▁a"]);
}

#[test]
fn spm_merges_and_falls_back_to_bytes() {
    check(&spm(), "ab ab", Special::Plain, &["▁ab", "▁ab"]);
    check(&spm(), "é", Special::Plain, &["▁", "<0xC3>", "<0xA9>"]);
    check(&spm(), "", Special::Plain, &[]);
    // User-defined tokens with escaped spaces are found in the text as it is.
    check(&spm(), "a  b", Special::Plain, &["▁a", "▁▁", "▁", "b"]);
    let no_prefix = set(spm(), "tokenizer.ggml.add_space_prefix", Value::Bool(false));
    check(&no_prefix, "ab", Special::Plain, &["ab"]);
}

#[test]
fn wordpiece_takes_the_longest_piece_or_nothing() {
    check(&wordpiece(), "Unable a!", Special::Plain, &["▁un", "able", "▁a", "▁!"]);
    check(&wordpiece(), "unablex x", Special::Plain, &["[UNK]", "[UNK]"]);
    check(&wordpiece(), "á\u{b}日a\u{0}", Special::Plain, &["▁a", "▁日", "▁a"]);
    let long = "a".repeat(101);
    check(&wordpiece(), &long, Special::Plain, &["[UNK]"]);
    let tokenizer = build(&wordpiece()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert!(tokenizer.adds_bos() && tokenizer.adds_eos());
    assert_eq!(tokenizer.decode(&tokenizer.encode("unable a", Special::Plain)), "unable a");
}

#[test]
fn phi3_marks_swallow_white_space() {
    let named = set(spm(), "general.architecture", Value::String("phi3".into()));
    check(&named, "a</s> \n ab", Special::Parse, &["▁a", "</s>", "▁ab"]);
    check(&named, "<s> a", Special::Parse, &["<s>", "▁", "▁a"]);
}

#[test]
fn unknown_names_are_refused_with_the_known() {
    let model = set(bpe(), "tokenizer.ggml.model", Value::String("t5".into()));
    check_refused(&model, &["\"t5\"", "gpt2, llama, bert"]);
    let pre = set(bpe(), "tokenizer.ggml.pre", Value::String("my\npre".into()));
    check_refused(&pre, &["\"my\\npre\"", "qwen2", "smollm", "llama-bpe"]);
    let missing = set(bpe(), "tokenizer.ggml.pre", Value::String("x".into()));
    let missing = missing.into_iter().filter(|(key, _)| *key != "tokenizer.ggml.pre").collect();
    check_refused(&missing, &["tokenizer.ggml.pre: missing", "default"]);
}

#[test]
fn hostile_vocabularies_are_refused() {
    let tokens = |texts: &[&str]| strings(texts.iter().copied());
    let cases: [(Entries, &'static str, Value, &[&str]); 14] = [
        (spm(), "tokenizer.ggml.tokens", tokens(&[]), &["0 tokens"]),
        (spm(), "tokenizer.ggml.tokens", tokens(&["a"]), &["token_type: 272", "expected 1"]),
        (spm(), "tokenizer.ggml.tokens", Value::U32(1), &["tokenizer.ggml.tokens", "u32"]),
        (spm(), "tokenizer.ggml.scores", Value::Array(Array::F32(vec![])), &["scores: 0", "272"]),
        (
            spm(),
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(vec![f32::NAN; 272])),
            &["scores[0]", "NaN"],
        ),
        (
            spm(),
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vec![7; 272])),
            &["token_type[0]: 7", "0 to 6"],
        ),
        (
            spm(),
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vec![6; 272])),
            &["tokens[0]: \"<unk>\"", "a byte"],
        ),
        (spm(), "tokenizer.ggml.bos_token_id", Value::U32(272), &["bos", "272", "below 272"]),
        (spm(), "tokenizer.ggml.eot_token_id", Value::U32(999), &["eot", "999"]),
        (spm(), "tokenizer.ggml.unknown_token_id", Value::U32(u32::MAX), &["unknown"]),
        (bpe(), "tokenizer.ggml.merges", tokens(&["a a", "ab"]), &["merges[1]: \"ab\""]),
        (bpe(), "tokenizer.ggml.merges", tokens(&["a zz"]), &["merges[0]", "\"zz\""]),
        (bpe(), "tokenizer.ggml.merges", tokens(&["b b"]), &["\"bb\" to be a token"]),
        (bpe(), "tokenizer.ggml.merges", tokens(&["a "]), &["merges[0]: \"a \""]),
    ];
    for (entries, key, value, needles) in cases {
        check_refused(&set(entries, key, value), needles);
    }
    let twice = vec![
        ("tokenizer.ggml.model", Value::String("bert".into())),
        ("tokenizer.ggml.tokens", tokens(&["x", "", "", "x"])),
    ];
    check_refused(&twice, &["tokens[3]: \"x\"", "token 0 has it"]);
}

#[test]
fn ids_outside_of_the_vocabulary_have_no_text() {
    let tokenizer = build(&spm()).unwrap();
    assert_eq!(tokenizer.decode(&[260, u32::MAX, 272, 261]), "ab");
    assert_eq!(tokenizer.token_text(272), "");
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert!(!tokenizer.is_control(272) && !tokenizer.is_end_of_generation(272));
}

#[test]
fn endings_are_found_by_key_and_by_text() {
    let tokenizer = build(&bpe()).unwrap();
    assert!(tokenizer.is_end_of_generation(259) && !tokenizer.is_end_of_generation(260));
    let eot = set(bpe(), "tokenizer.ggml.eot_token_id", Value::U32(7));
    assert!(build(&eot).unwrap().is_end_of_generation(7));
    // As normal text it is corrected: nothing else is written so.
    let types = Value::Array(Array::I32(vec![1; 262]));
    let untyped = build(&set(bpe(), "tokenizer.ggml.token_type", types)).unwrap();
    assert!(untyped.is_control(259) && untyped.is_end_of_generation(259));
    // `</s>` is an end as a control token only.
    assert!(build(&spm()).unwrap().is_end_of_generation(2));
    let mut html = set(spm(), "tokenizer.ggml.eos_token_id", Value::U32(1));
    if let (_, Value::Array(Array::I32(types))) = &mut html[2] {
        types[2] = 4;
    }
    assert!(build(&html).is_ok_and(|tokenizer| !tokenizer.is_end_of_generation(2)));
}

#[test]
fn spaces_at_starts_belong_to_the_tokenizer() {
    let tokenizer = build(&spm()).unwrap();
    for text in ["a", " a", "  a", "ab ab", " ", "é", " é"] {
        let ids = tokenizer.encode(text, Special::Plain);
        assert_eq!(tokenizer.decode(&ids), text, "{ids:?}");
    }
    let after = |prompt: &[u32]| {
        let mut out = String::new();
        StreamDecoder::after(&tokenizer, prompt).push(&tokenizer, 263, &mut out);
        out
    };
    assert_eq!(after(&[]), "a");
    assert_eq!(after(&[1]), "a");
    assert_eq!(after(&[1, 261]), " a");
}

#[test]
fn long_words_merge_as_short_ones() {
    let tokenizer = build(&bpe()).unwrap();
    let Algorithm::Bpe(bpe) = &tokenizer.algorithm else { panic!("the model is gpt2") };
    for n_letters in 0..100 {
        let word = vec![u32::from(b'a'); n_letters];
        assert!(n_letters == 0 || tokenizer.token_text(word[0]) == "a");
        let (mut scanned, mut heaped) = (word.clone(), word);
        bpe.merge_by_scanning(&mut scanned, &mut Vec::new());
        bpe.merge_by_heap(&mut heaped, &mut bpe::Chain::default());
        assert_eq!(scanned, heaped, "{n_letters}");
    }
}

#[test]
fn huge_texts_cost_linear_time() {
    // Quadratic merging would take minutes here.
    for entries in [bpe(), spm(), wordpiece()] {
        let tokenizer = build(&entries).unwrap();
        for text in ["a".repeat(1 << 20), "ab".repeat(1 << 19), " ".repeat(1 << 20)] {
            let ids = tokenizer.encode(&text, Special::Parse);
            assert!(!ids.is_empty() || text.starts_with(' '));
        }
    }
}

#[test]
fn segments_are_cut_between_characters() {
    let text = "é".repeat(N_SEGMENT_BYTES_MAX / 2 + 1) + "a";
    let text = format!("a{text}");
    let lengths: Vec<usize> = Segments(&text).map(str::len).collect();
    assert_eq!(lengths, [N_SEGMENT_BYTES_MAX - 1, 5]);
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "\\PC*|[ab \u{e9}<>/is]{0,40}") {
        for entries in [bpe(), spm()] {
            let tokenizer = build(&entries).unwrap();
            if text.contains(SPACE_SIGN) && matches!(tokenizer.algorithm, Algorithm::Spm(_)) {
                continue;
            }
            let ids = tokenizer.encode(&text, Special::Plain);
            prop_assert_eq!(tokenizer.decode(&ids), text.clone());
        }
    }

    #[test]
    fn any_ids_decode_as_they_stream(ids in prop::collection::vec(0..300u32, 0..50)) {
        for entries in [bpe(), spm(), wordpiece()] {
            let tokenizer = build(&entries).unwrap();
            let mut decoder = StreamDecoder::new();
            let mut text = String::new();
            for &id in &ids {
                decoder.push(&tokenizer, id, &mut text);
            }
            decoder.finish(&mut text);
            prop_assert_eq!(text, tokenizer.decode(&ids));
        }
    }
}
