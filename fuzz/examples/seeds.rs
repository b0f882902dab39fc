//! Writes the tokenizers that the target `tokenizer` starts from into `seeds/tokenizer/`: one small
//! vocabulary of each kind. The files are in the tree; run this after a change here. Also checks
//! that the templates to start from are templates.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`

use std::error::Error;
use std::path::Path;

use gguf::write::Writer;
use gguf::{Array, Gguf, Strings, Value};
use text::{ChatTemplate, Special, Tokenizer};

const TEXT: &str = "Hello world, 123 <|end|> été 字 👍";

/// What `tokenizer.ggml.token_type` calls them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

fn strings<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Value {
    Value::Array(Array::Strings(strings.into_iter().collect::<Strings>()))
}

/// The printable character that byte-level BPE writes for a byte (GPT-2's table).
fn printable(byte: u8) -> char {
    let stays = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if stays(byte) {
        return char::from(byte);
    }
    let n_moved_before = (0..byte).filter(|&other| !stays(other)).count() as u32;
    char::from_u32(0x100 + n_moved_before).expect("U+0100 to U+0143 are characters")
}

fn bpe(pre: &str) -> Vec<u8> {
    let mut tokens: Vec<String> = (0..=255).map(|byte| printable(byte).to_string()).collect();
    tokens.extend(["ll", "llo", "Ġw", "<|end|>"].map(str::to_owned));
    let mut types = vec![NORMAL; tokens.len()];
    types[259] = CONTROL;
    let mut writer = Writer::new();
    writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", pre)
        .metadata("tokenizer.ggml.tokens", strings(&tokens))
        .metadata("tokenizer.ggml.token_type", types)
        .metadata("tokenizer.ggml.merges", strings(["l l", "ll o", "Ġ w"]))
        .metadata("tokenizer.ggml.eos_token_id", 259_u32)
        .metadata("fuzz.text", TEXT);
    writer.finish().expect("the seed keeps to the format")
}

fn spm() -> Vec<u8> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let mut types = vec![UNKNOWN, CONTROL, CONTROL];
    for byte in 0..=255_u8 {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(BYTE);
    }
    for piece in ["▁", "l", "o", "ll", "llo", "▁w", "é", "H", "e"] {
        tokens.push(piece.to_owned());
        types.push(NORMAL);
    }
    let scores: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let mut writer = Writer::new();
    writer
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", strings(&tokens))
        .metadata("tokenizer.ggml.scores", scores)
        .metadata("tokenizer.ggml.token_type", types)
        .metadata("tokenizer.ggml.bos_token_id", 1_u32)
        .metadata("tokenizer.ggml.eos_token_id", 2_u32)
        .metadata("tokenizer.ggml.add_space_prefix", true)
        .metadata("fuzz.text", TEXT);
    writer.finish().expect("the seed keeps to the format")
}

fn wordpiece() -> Vec<u8> {
    let tokens = ["[UNK]", "[CLS]", "[SEP]", "▁hello", "▁wor", "ld", "▁,", "▁1", "23", "▁字"];
    let mut types = vec![NORMAL; tokens.len()];
    types[0] = UNKNOWN;
    types[1..3].fill(CONTROL);
    let mut writer = Writer::new();
    writer
        .metadata("tokenizer.ggml.model", "bert")
        .metadata("tokenizer.ggml.tokens", strings(tokens))
        .metadata("tokenizer.ggml.token_type", types)
        .metadata("tokenizer.ggml.unknown_token_id", 0_u32)
        .metadata("tokenizer.ggml.cls_token_id", 1_u32)
        .metadata("tokenizer.ggml.seperator_token_id", 2_u32)
        .metadata("fuzz.text", TEXT);
    writer.finish().expect("the seed keeps to the format")
}

/// Writes a tokenizer, which must be one: a seed that is refused leads nowhere.
fn write(dir: &Path, name: &str, bytes: Vec<u8>) -> Result<(), Box<dyn Error>> {
    let file = Gguf::from_bytes(bytes.clone())?;
    let tokenizer = Tokenizer::from_gguf(file.metadata())?;
    let ids = tokenizer.encode("Hello world", Special::Plain);
    assert!(!ids.is_empty(), "{name} encodes to nothing");
    Ok(std::fs::write(dir.join(name), bytes)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let dir = seeds.join("tokenizer");
    std::fs::create_dir_all(&dir)?;
    for pre in ["gpt-2", "llama-bpe", "qwen2", "deepseek-llm"] {
        write(&dir, &format!("bpe-{pre}.gguf"), bpe(pre))?;
    }
    write(&dir, "spm.gguf", spm())?;
    write(&dir, "wordpiece.gguf", wordpiece())?;
    for entry in std::fs::read_dir(seeds.join("template"))? {
        let path = entry?.path();
        ChatTemplate::new(&std::fs::read_to_string(&path)?)
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
