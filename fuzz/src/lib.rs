//! What the targets share: a tokenizer whose tokens are the bytes, and a walk under a constraint.

use std::sync::{Arc, LazyLock};

use gguf::write::Writer;
use gguf::{Array, Gguf, Strings, Value};
use text::{Constraints, Grammar, Tokenizer};

/// Tokens that are followed.
const N_STEPS: usize = 30;
/// The id of the end, and those of the bytes behind it.
const END: u32 = 1;
const BYTES: std::ops::Range<u32> = 2..258;

/// All bytes, and an end.
pub static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
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
        .metadata("tokenizer.ggml.eos_token_id", Value::U32(END));
    let file = writer.finish().expect("small metadata are writable");
    let file = Gguf::from_bytes(file).expect("what we wrote is readable");
    Arc::new(Tokenizer::from_gguf(file.metadata()).expect("all that it needs is there"))
});

static CONSTRAINTS: LazyLock<Constraints> = LazyLock::new(|| {
    Constraints::new(Arc::clone(&TOKENIZER)).expect("the vocabulary is small")
});

/// Compiles a grammar and, where that succeeds, follows it for some tokens, each picked by a byte.
///
/// # Panics
/// Where nothing may follow, not even the end: that is what the targets look for.
pub fn follow(grammar: &Grammar, picks: &[u8]) {
    let Ok(constraint) = CONSTRAINTS.compile(grammar) else { return };
    let mut matcher = constraint.matcher();
    for step in 0..N_STEPS {
        let forced = matcher.forced();
        let Ok(mask) = matcher.mask() else { break };
        if let [first, ..] = forced[..] {
            assert_eq!(mask.single(), Some(first), "what is forced is the only one allowed");
        }
        let n_allowed = BYTES.filter(|&id| mask.allows(id)).count();
        if matcher.is_complete() || n_allowed == 0 {
            assert!(mask.allows(END), "nothing may follow, not even the end");
            break;
        }
        let pick = picks.get(step).copied().unwrap_or(0) as usize % n_allowed;
        let id = BYTES.filter(|&id| mask.allows(id)).nth(pick).expect("fewer are allowed");
        if matcher.accept(id).is_err() {
            break;
        }
    }
}
