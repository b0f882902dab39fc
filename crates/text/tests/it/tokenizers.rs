//! The tokenizers against the conformance kit: published vocabularies and the ids that the
//! publishers' own tokenizers give, and the prompts of the real models.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

use std::fs;
use std::path::Path;

use freehold_text::{Special, Tokenizer};
use gguf::Gguf;
use serde_json::Value;

const NAMES: [&str; 7] =
    ["bert-bge", "deepseek-llm", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"];

fn load(path: &Path) -> Tokenizer {
    let gguf = Gguf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Tokenizer::from_gguf(gguf.metadata()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn ids_of(case: &Value) -> Vec<u32> {
    let ids = case["ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_u64().unwrap().try_into().unwrap()).collect()
}

#[test]
fn published_vocabularies_give_the_publishers_ids() {
    let Some(kit) = testkit::kit() else { return };
    let mut wrong = Vec::new();
    for name in NAMES {
        let tokenizer = load(&kit.join(format!("tokenizers/{name}.vocab.gguf")));
        let cases = read_json(&kit.join(format!("tokenizers/{name}.json")));
        let cases = cases.as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let (ids, expected) = (tokenizer.encode(text, Special::Plain), ids_of(case));
            if ids != expected {
                wrong
                    .push(format!("{name}: {text:?}\n  gives    {ids:?}\n  expected {expected:?}"));
            }
            // WordPiece forgets case, accents and spaces.
            if name != "bert-bge" {
                assert_eq!(tokenizer.decode(&expected), text, "{name}");
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn check_prompts(model: &Path, name: &str) {
    let Some(kit) = testkit::kit() else { return };
    let tokenizer = load(model);
    let cases = read_json(&kit.join(format!("real/{name}.json")));
    let prompts = cases["prompts"].as_array().unwrap();
    assert!(!prompts.is_empty());
    for prompt in prompts {
        let text = prompt["text"].as_str().unwrap();
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let ids = bos.into_iter().chain(tokenizer.encode(text, Special::Parse));
        assert_eq!(ids.collect::<Vec<_>>(), ids_of(prompt), "{name}: {text:?}");
    }
}

#[test]
fn smollm2_prompts() {
    let path = testkit::smollm2();
    check_prompts(&path, "smollm2-135m");
    let tokenizer = load(&path);
    assert!(!tokenizer.adds_bos());
    assert!([0, 2].into_iter().all(|id| tokenizer.is_end_of_generation(id)));
    assert!(!tokenizer.is_end_of_generation(1));
}

#[test]
fn gemma3_prompts() {
    let Some(path) = testkit::gemma3() else { return };
    check_prompts(&path, "gemma3-270m");
    let tokenizer = load(&path);
    let end_of_turn = tokenizer.encode("<end_of_turn>", Special::Parse);
    assert!(tokenizer.is_end_of_generation(end_of_turn[0]));
    // In this vocabulary `</s>` is HTML.
    let strike = tokenizer.encode("</s>", Special::Plain);
    assert!(strike.len() == 1 && !tokenizer.is_end_of_generation(strike[0]));
}
