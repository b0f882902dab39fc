//! What the tests of constraints and of tools share: vocabularies, and a walk through the masks.

use freehold_text::{Constraint, Special, Tokenizer};
use gguf::write::Writer;
use gguf::{Array, Gguf, Value as Meta};
use serde_json::Value;
use std::sync::Arc;

/// All bytes, and pieces of JSON and of words across the borders of its parts.
pub(crate) fn small() -> Arc<Tokenizer> {
    with_control(&["<think>"])
}

/// The same with these control tokens, the first of which has the id 3.
pub(crate) fn with_control(control: &[&str]) -> Arc<Tokenizer> {
    with_marks(control, 3, false)
}

/// The same with marks of this type of GGUF's, and maybe with a space before a text.
pub(crate) fn with_marks(control: &[&str], kind: i32, adds_space: bool) -> Arc<Tokenizer> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend(control.iter().map(|name| (*name).to_owned()));
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let pieces = [
        "{\"", "\":", "\",", "\"}", "\"]", "}]", "]}", "},", "],", "[{", "[\"", "[]", "{}", "▁\"",
        "\":▁\"", "\",▁\"", ",▁\"", "true", "false", "null", "12", "00", "2024", "-0", ".5", "e1",
        "the", "▁the", "name", "id", "type", "ab", "aa", "AB", "\\n", "\\u", "\\\"", "▁▁", "\n",
        "é", "▁", "日本", "😀", "@a", ".com", "://", "T12:", ":00Z", "kind", "\"a", "a\"", "x_",
        "1.2",
    ];
    tokens.extend(pieces.map(String::from));
    let n_pieces = pieces.len();
    let mut types = vec![2, 3, 3];
    types.extend(vec![kind; control.len()]);
    types.extend([6; 256]);
    types.extend(vec![1; n_pieces]);
    let scores = vec![0.0; tokens.len()];
    let mut writer = Writer::new();
    for (key, value) in [
        ("tokenizer.ggml.model", Meta::String("llama".into())),
        ("tokenizer.ggml.tokens", Meta::Array(Array::Strings(tokens.into_iter().collect()))),
        ("tokenizer.ggml.token_type", Meta::Array(Array::I32(types))),
        ("tokenizer.ggml.scores", Meta::Array(Array::F32(scores))),
        ("tokenizer.ggml.add_space_prefix", Meta::Bool(adds_space)),
        ("tokenizer.ggml.eos_token_id", Meta::U32(2)),
    ] {
        writer.metadata(key, value);
    }
    let file = Gguf::from_bytes(writer.finish().unwrap()).unwrap();
    Arc::new(Tokenizer::from_gguf(file.metadata()).unwrap())
}

pub(crate) fn real() -> Arc<Tokenizer> {
    let file = Gguf::open(&testkit::smollm2()).unwrap();
    Arc::new(Tokenizer::from_gguf(file.metadata()).unwrap())
}

/// Numbers without end (xorshift, Marsaglia 2003).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }
}

/// A random answer under the constraint. Behind the first tokens it looks for the end.
pub(crate) fn walk(constraint: &Constraint, tokenizer: &Tokenizer, seed: u64) -> String {
    walk_from(constraint, tokenizer, &[], "", seed)
}

/// The same, of an answer that begins with these tokens, and where `mark` ends what has no other
/// end.
pub(crate) fn walk_from(
    constraint: &Constraint,
    tokenizer: &Tokenizer,
    begin: &[u32],
    mark: &str,
    seed: u64,
) -> String {
    const N_FREE: usize = 60;
    const N_MOST: usize = 4000;
    let mut random = Random(seed * 2 + 1);
    random.below(1);
    let mut matcher = constraint.matcher();
    let (mut bytes, mut n_marked) = (Vec::new(), 0);
    // A mark that is a token is chosen as one.
    let [whole, spelled] = match tokenizer.encode(mark.trim(), Special::Parse).len() {
        1 => [mark.trim(), ""],
        _ => ["", mark],
    };
    for &id in begin {
        matcher.accept(id).unwrap();
        bytes.extend_from_slice(tokenizer.token_bytes(id));
    }
    for n_tokens in 0..N_MOST {
        if matcher.is_complete() {
            break;
        }
        let mask = matcher.mask().unwrap();
        let ends = constraint.ends().iter().all(|&end| mask.allows(end));
        assert_eq!(ends, matcher.may_end(), "an end is allowed exactly where it may be");
        let ids = (0..tokenizer.n_vocab() as u32).filter(|&id| mask.allows(id));
        let ids: Vec<u32> = ids.filter(|id| !constraint.ends().contains(id)).collect();
        if ends && (ids.is_empty() || n_tokens > N_FREE || random.below(3) == 0) {
            break;
        }
        let closing = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id);
            let is_mark = !whole.is_empty() && bytes == whole.as_bytes();
            is_mark || tokenizer.is_control(*id) || matches!(bytes, b"\"" | b"}" | b"]")
        };
        let short = |id: &u32| tokenizer.token_bytes(*id).len() == 1;
        let find = |which: &dyn Fn(&u32) -> bool| -> Vec<u32> {
            ids.iter().copied().filter(which).collect()
        };
        let found = match n_tokens > N_FREE || random.below(4) == 0 {
            true if random.below(2) == 0 => [find(&short), ids.clone(), Vec::new()],
            true => [find(&closing), find(&short), ids.clone()],
            false => [ids.clone(), Vec::new(), Vec::new()],
        };
        let among = found.iter().find(|ids| !ids.is_empty()).expect("a mask is never empty");
        let next = spelled.as_bytes().get(n_marked..=n_marked).filter(|_| n_tokens > N_FREE);
        let next = ids.iter().find(|&&id| next.is_some_and(|b| tokenizer.token_bytes(id) == b));
        n_marked = if next.is_some() { n_marked + 1 } else { 0 };
        let id = next.copied().unwrap_or_else(|| among[random.below(among.len())]);
        matcher.accept(id).unwrap();
        bytes.extend_from_slice(tokenizer.token_bytes(id));
        assert!(n_tokens + 1 < N_MOST, "no end: {:?}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).expect("an answer under a constraint is text")
}

/// The schemas by name.
pub(crate) fn schemas() -> Vec<(String, Value)> {
    let parse = |(name, text): (String, String)| (name, serde_json::from_str(&text).unwrap());
    testkit::schemas().into_iter().map(parse).collect()
}
