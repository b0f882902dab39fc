//! A tiny encoder's files, whole, changed and cut.

use super::*;
use serde_json::json;

const N_EMBD: usize = 32;

/// Files as sentence-transformers has them, of one layer.
fn tiny() -> Files {
    let config = json!({
        "model_type": "bert", "hidden_act": "gelu", "vocab_size": 7, "hidden_size": N_EMBD,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 16, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    });
    let read = Config::read(config.to_string().as_bytes()).unwrap();
    let unused = ("embeddings.position_ids".to_owned(), String::new(), vec![1], Kind::Float);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, _, shape, _) in tensors(&read).into_iter().chain([unused]) {
        let start = data.len();
        for idx in 0..shape.iter().product::<usize>() {
            data.extend(((idx as f32 * 0.37 + start as f32).sin()).to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let header = serde_json::to_string(&header).unwrap();
    let len = (header.len() as u64).to_le_bytes();
    Files {
        weights: [&len, header.as_bytes(), &data].concat(),
        config: config.to_string().into_bytes(),
        pooling: br#"{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}"#.to_vec(),
        vocab: "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nown\n##ing\n".into(),
        tokenizer: Some(br#"{"do_lower_case": true, "strip_accents": null}"#.to_vec()),
        readme: Some(b"---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny".to_vec()),
    }
}

#[test]
fn a_tiny_encoder_becomes_a_gguf_file_and_always_the_same() {
    let bytes = to_gguf(&tiny(), "tiny", ImportFormat::Q8_0).unwrap();
    assert_eq!(bytes, to_gguf(&tiny(), "tiny", ImportFormat::Q8_0).unwrap());
    let gguf = gguf::Gguf::from_bytes(bytes).unwrap();
    let metadata = gguf.metadata();
    for (key, expected) in [
        ("general.architecture", "bert"),
        ("general.name", "tiny"),
        ("general.license", "apache-2.0"),
        ("tokenizer.ggml.model", "bert"),
    ] {
        assert_eq!(metadata.require_str(key).unwrap(), expected);
    }
    for (key, expected) in [
        ("bert.block_count", 1),
        ("bert.context_length", 16),
        ("bert.pooling_type", 1),
        ("tokenizer.ggml.cls_token_id", 2),
        ("tokenizer.ggml.seperator_token_id", 3),
    ] {
        assert_eq!(metadata.require_u64(key).unwrap(), expected, "{key}");
    }
    let tokens: Vec<_> =
        metadata.require_strings("tokenizer.ggml.tokens").unwrap().iter().collect();
    assert_eq!(tokens, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u{2581}own", "ing"]);
    for (name, ty, shape) in [
        ("token_embd.weight", "Q8_0", &[7, N_EMBD][..]),
        ("position_embd.weight", "F32", &[16, N_EMBD]),
        ("token_types.weight", "F32", &[2, N_EMBD]),
        ("blk.0.ffn_down.weight", "Q8_0", &[N_EMBD, 64]),
        ("blk.0.ffn_up.bias", "F32", &[64]),
        ("blk.0.layer_output_norm.bias", "F32", &[N_EMBD]),
    ] {
        let tensor = gguf.tensor(name).unwrap();
        assert_eq!((tensor.ty.name(), &tensor.shape[..]), (ty, shape), "{name}");
    }
    assert_eq!(gguf.tensors().len(), 5 + 16);
    let f16 = gguf::Gguf::from_bytes(to_gguf(&tiny(), "tiny", ImportFormat::F16).unwrap()).unwrap();
    assert_eq!(f16.tensor("token_embd.weight").unwrap().ty.name(), "F16");
}

#[track_caller]
fn check(change: impl FnOnce(&mut Files), expected: &str) {
    let mut files = tiny();
    change(&mut files);
    let error = to_gguf(&files, "tiny", ImportFormat::F16).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

fn set(file: &mut Vec<u8>, key: &str, value: Json) {
    let mut json: Json = serde_json::from_slice(file).unwrap();
    json[key] = value;
    *file = json.to_string().into_bytes();
}

#[test]
fn what_would_change_the_vectors_is_refused() {
    check(|f| set(&mut f.config, "model_type", json!("roberta")), "\"roberta\", expected \"bert\"");
    check(|f| set(&mut f.config, "hidden_act", json!("relu")), "hidden_act: \"relu\"");
    check(
        |f| set(&mut f.config, "position_embedding_type", json!("relative_key")),
        "expected \"absolute\"",
    );
    check(|f| set(&mut f.config, "num_hidden_layers", json!(2)), "encoder.layer.1.");
    check(|f| set(&mut f.config, "num_hidden_layers", json!(1_u64 << 40)), "expected 1 to 1024");
    check(|f| set(&mut f.config, "hidden_size", json!(-3)), "hidden_size: -3, expected 1 to");
    check(|f| set(&mut f.config, "hidden_size", json!(u32::MAX)), "expected [7, 4294967295]");
    check(|f| set(&mut f.config, "layer_norm_eps", json!(null)), "layer_norm_eps: null");
    check(|f| f.config.truncate(9), "config.json: EOF");
    let max = json!(true);
    check(|f| set(&mut f.pooling, "pooling_mode_max_tokens", max), "expected mean_tokens or");
    check(|f| f.pooling = b"[]".to_vec(), "expected mean_tokens or cls_token alone");
    check(|f| f.vocab.extend(b"more\n"), "8 lines, expected the 7 of vocab_size");
    check(|f| f.vocab[2] = 0xff, "vocab.txt: invalid utf-8");
    check(|f| f.vocab[14] = b'x', "no [CLS]");
    let tokenizer = |f: &mut Files, key: &str, value: Json| {
        set(f.tokenizer.as_mut().unwrap(), key, value);
    };
    check(|f| tokenizer(f, "do_lower_case", json!(1)), "do_lower_case: 1, expected true or false");
    check(|f| tokenizer(f, "tokenize_chinese_chars", json!(false)), "expected true");
    // One byte of one name: a tensor is missing and another too many.
    let rename = |f: &mut Files| {
        let name = b"embeddings.position_ids";
        let at = f.weights.windows(name.len()).position(|bytes| bytes == name).unwrap();
        f.weights[at] = b'E';
    };
    check(rename, "\"Embeddings.position_ids\": expected no further tensors");
    check(|f| f.weights.truncate(f.weights.len() - 1), "safetensors: ");
    let nan = |f: &mut Files| {
        let end = f.weights.len() - 4;
        f.weights[end - 4..end].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    check(nan, "is NaN, expected at most");
}

#[test]
fn the_modules_say_where_the_pooling_is() {
    let check = |modules: Json, expected: Result<&str, &str>| {
        let found = pooling_folder(modules.to_string().as_bytes());
        match expected {
            Ok(folder) => assert_eq!(found.unwrap(), folder),
            Err(why) => assert!(found.unwrap_err().contains(why)),
        }
    };
    let module = |ty: &str, path: &str| json!({"type": ty, "path": path});
    let whole = module("sentence_transformers.models.Transformer", "");
    let pooling = |path: &str| module("sentence_transformers.models.Pooling", path);
    check(json!([whole, pooling("1_Pooling"), module("a.Normalize", "2")]), Ok("1_Pooling"));
    check(json!([whole]), Err("expected a Pooling module"));
    check(json!([whole, pooling("../x")]), Err("expected a Pooling module"));
    check(json!([whole, pooling("1"), module("a.Dense", "2")]), Err("module \"Dense\""));
    check(json!({}), Err("expected a Pooling module"));
}

#[test]
fn no_changed_byte_of_any_file_harms() {
    let whole = tiny();
    // A changed digit of a length or an offset lies in the first part of the weights.
    for at in 0..whole.weights.len().min(3000) {
        let mut files = tiny();
        files.weights[at] ^= 0x11;
        let _ = to_gguf(&files, "tiny", ImportFormat::Q8_0);
    }
    for at in 0..whole.config.len() {
        let mut files = tiny();
        files.config[at] ^= 0x01;
        let _ = to_gguf(&files, "tiny", ImportFormat::Q8_0);
    }
    for at in 0..whole.vocab.len() {
        let mut files = tiny();
        files.vocab[at] ^= 0x81;
        let _ = to_gguf(&files, "tiny", ImportFormat::Q8_0);
    }
}
