//! Any JSON as a schema, any text as a regular expression or a grammar: compiled, or refused with
//! an error. What was compiled is followed for some tokens, and never leads to a panic.

#![no_main]

use std::sync::{Arc, LazyLock};

use gguf::write::Writer;
use gguf::{Array, Gguf, Strings, Value};
use libfuzzer_sys::fuzz_target;
use text::{Constraints, Grammar, Tokenizer};

/// Tokens that are followed.
const N_STEPS: usize = 30;

/// All bytes, and an end.
static CONSTRAINTS: LazyLock<Constraints> = LazyLock::new(|| {
    let tokens: Strings = ["<unk>".to_owned(), "</s>".to_owned()]
        .into_iter()
        .chain((0..=255).map(|byte| format!("<0x{byte:02X}>")))
        .collect();
    let types = [vec![2, 3], vec![6; 256]].concat();
    let scores = vec![0.0; tokens.len()];
    let mut writer = Writer::new();
    writer
        .metadata("tokenizer.ggml.model", Value::String("llama".into()))
        .metadata("tokenizer.ggml.tokens", Value::Array(Array::Strings(tokens)))
        .metadata("tokenizer.ggml.token_type", Value::Array(Array::I32(types)))
        .metadata("tokenizer.ggml.scores", Value::Array(Array::F32(scores)))
        .metadata("tokenizer.ggml.add_space_prefix", Value::Bool(false))
        .metadata("tokenizer.ggml.eos_token_id", Value::U32(1));
    let file = writer.finish().expect("small metadata are writable");
    let file = Gguf::from_bytes(file).expect("what we wrote is readable");
    let tokenizer = Tokenizer::from_gguf(file.metadata()).expect("all that it needs is there");
    Constraints::new(Arc::new(tokenizer)).expect("the vocabulary is small")
});

fuzz_target!(|source: &str| {
    let grammars = [
        serde_json::from_str(source).ok().map(Grammar::JsonSchema),
        Some(Grammar::Regex(source.to_owned())),
        Some(Grammar::Lark(source.to_owned())),
        Some(Grammar::Choice(source.split('\n').map(str::to_owned).collect())),
    ];
    for grammar in grammars.into_iter().flatten() {
        let Ok(constraint) = CONSTRAINTS.compile(&grammar) else { continue };
        let mut matcher = constraint.matcher();
        for step in 0..N_STEPS {
            let Ok(mask) = matcher.mask() else { break };
            let n_allowed = (2..258).filter(|&id| mask.allows(id)).count();
            if matcher.is_complete() || n_allowed == 0 {
                assert!(mask.allows(1), "nothing may follow, not even the end");
                break;
            }
            let pick = source.as_bytes().get(step).copied().unwrap_or(0) as usize % n_allowed;
            let id = (2..258).filter(|&id| mask.allows(id)).nth(pick).expect("fewer are allowed");
            if matcher.accept(id).is_err() {
                break;
            }
        }
    }
});
