//! Writes a model with random weights in the exact shapes, vocabulary size and type mix of a
//! published one. Speed does not depend on the values, so programs can be compared on it.
//!
//! `cargo run --release -p freehold-gguf --example random_model -- FOLDER [NAME...]`
//!
//! The scales of the blocks are such that a matrix roughly keeps the length of a vector: all
//! values stay finite through every layer. The vocabulary is made up, but complete with merges.

#![allow(clippy::print_stdout)] // an example is a small program

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use gguf::write::Writer;
use gguf::{Strings, TensorType};

/// The shape of a published model. The types follow llama.cpp's rules for the kind of file.
struct Shape {
    name: &'static str,
    architecture: &'static str,
    pretokenizer: &'static str,
    /// `general.file_type`.
    file_type: u32,
    n_ctx: u32,
    n_layers: usize,
    n_embd: usize,
    n_ff: usize,
    n_heads: usize,
    n_kv_heads: usize,
    n_vocab: usize,
    rope_base: f32,
    rms_eps: f32,
    embedding: TensorType,
    /// `None` where the head is the embedding.
    head: Option<TensorType>,
    matrices: TensorType,
    /// What half of the `attn_v` and `ffn_down` matrices have, those that matter most.
    some_values_and_downs: TensorType,
}

const QWEN_1_5B: Shape = Shape {
    name: "qwen2.5-1.5b-q4_k_m",
    architecture: "qwen2",
    pretokenizer: "qwen2",
    file_type: 15,
    n_ctx: 32_768,
    n_layers: 28,
    n_embd: 1536,
    n_ff: 8960,
    n_heads: 12,
    n_kv_heads: 2,
    n_vocab: 151_936,
    rope_base: 1e6,
    rms_eps: 1e-6,
    embedding: TensorType::Q4_K,
    head: Some(TensorType::Q6_K),
    matrices: TensorType::Q4_K,
    some_values_and_downs: TensorType::Q6_K,
};

const LLAMA_1B_Q4_0: Shape = Shape {
    name: "llama-3.2-1b-q4_0",
    architecture: "llama",
    pretokenizer: "llama-bpe",
    file_type: 2,
    n_ctx: 131_072,
    n_layers: 16,
    n_embd: 2048,
    n_ff: 8192,
    n_heads: 32,
    n_kv_heads: 8,
    n_vocab: 128_256,
    rope_base: 5e5,
    rms_eps: 1e-5,
    embedding: TensorType::Q6_K,
    head: None,
    matrices: TensorType::Q4_0,
    some_values_and_downs: TensorType::Q4_0,
};

const LLAMA_1B_Q8_0: Shape = Shape {
    name: "llama-3.2-1b-q8_0",
    file_type: 7,
    embedding: TensorType::Q8_0,
    matrices: TensorType::Q8_0,
    some_values_and_downs: TensorType::Q8_0,
    ..LLAMA_1B_Q4_0
};

fn main() -> Result<(), Box<dyn Error>> {
    let shapes = [QWEN_1_5B, LLAMA_1B_Q4_0, LLAMA_1B_Q8_0];
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next().map(PathBuf::from) else {
        println!("usage: random_model FOLDER [NAME...]");
        return Ok(());
    };
    let names: Vec<String> = args.collect();
    for shape in shapes {
        if names.is_empty() || names.iter().any(|name| name == shape.name) {
            let path = folder.join(format!("{}.gguf", shape.name));
            let mut out = BufWriter::new(File::create(&path)?);
            model(&shape).write_to(&mut out)?;
            out.flush()?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

fn model(shape: &Shape) -> Writer<'static> {
    let mut writer = Writer::new();
    describe(shape, &mut writer);
    vocabulary(shape, &mut writer);
    let mut weights = Weights { writer, random: 0x9e37_79b9_7f4a_7c15 };
    let &Shape { n_vocab, n_embd, n_ff, matrices, .. } = shape;
    let head_dim = n_embd / shape.n_heads;
    let n_kv = shape.n_kv_heads * head_dim;
    weights.matrix("token_embd.weight", [n_vocab, n_embd], shape.embedding);
    weights.floats("output_norm.weight", &vec![1.0; n_embd]);
    if let Some(ty) = shape.head {
        weights.matrix("output.weight", [n_vocab, n_embd], ty);
    }
    if shape.architecture == "llama" {
        weights.floats("rope_freqs.weight", &rope_divisors(head_dim, shape.rope_base));
    }
    for layer_idx in 0..shape.n_layers {
        let name = |suffix: &str| format!("blk.{layer_idx}.{suffix}");
        let matters = use_more_bits(layer_idx, shape.n_layers);
        let value_or_down = if matters { shape.some_values_and_downs } else { matrices };
        weights.floats(&name("attn_norm.weight"), &vec![1.0; n_embd]);
        weights.floats(&name("ffn_norm.weight"), &vec![1.0; n_embd]);
        weights.matrix(&name("attn_q.weight"), [n_embd, n_embd], matrices);
        weights.matrix(&name("attn_k.weight"), [n_kv, n_embd], matrices);
        weights.matrix(&name("attn_v.weight"), [n_kv, n_embd], value_or_down);
        weights.matrix(&name("attn_output.weight"), [n_embd, n_embd], matrices);
        weights.matrix(&name("ffn_gate.weight"), [n_ff, n_embd], matrices);
        weights.matrix(&name("ffn_up.weight"), [n_ff, n_embd], matrices);
        weights.matrix(&name("ffn_down.weight"), [n_embd, n_ff], value_or_down);
        if shape.architecture == "qwen2" {
            for (of, len) in [("q", n_embd), ("k", n_kv), ("v", n_kv)] {
                weights.floats(&name(&format!("attn_{of}.bias")), &vec![0.01; len]);
            }
        }
    }
    weights.writer
}

/// llama.cpp's rule for the mixed K files.
fn use_more_bits(layer_idx: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    layer_idx < eighth || layer_idx >= 7 * n_layers / 8 || (layer_idx - eighth) % 3 == 2
}

/// What Llama 3.1 and later divide rope's frequencies by.
fn rope_divisors(head_dim: usize, base: f32) -> Vec<f32> {
    let divisor = |pair: usize| {
        let n_turns = 8192.0 * base.powf(-2.0 * pair as f32 / head_dim as f32) / 6.283_185_5;
        let share_kept = ((n_turns - 1.0) / 3.0).clamp(0.0, 1.0);
        1.0 / (share_kept + (1.0 - share_kept) / 32.0)
    };
    (0..head_dim / 2).map(divisor).collect()
}

fn describe(shape: &Shape, writer: &mut Writer<'_>) {
    let key = |suffix: &str| format!("{}.{suffix}", shape.architecture);
    writer
        .metadata("general.architecture", shape.architecture)
        .metadata("general.name", format!("random weights, {}", shape.name))
        .metadata("general.file_type", shape.file_type)
        .metadata("general.quantization_version", 2_u32)
        .metadata(&key("context_length"), shape.n_ctx)
        .metadata(&key("block_count"), shape.n_layers as u32)
        .metadata(&key("embedding_length"), shape.n_embd as u32)
        .metadata(&key("feed_forward_length"), shape.n_ff as u32)
        .metadata(&key("attention.head_count"), shape.n_heads as u32)
        .metadata(&key("attention.head_count_kv"), shape.n_kv_heads as u32)
        .metadata(&key("attention.layer_norm_rms_epsilon"), shape.rms_eps)
        .metadata(&key("rope.dimension_count"), (shape.n_embd / shape.n_heads) as u32)
        .metadata(&key("rope.freq_base"), shape.rope_base)
        .metadata(&key("vocab_size"), shape.n_vocab as u32);
}

/// A byte-level vocabulary: all bytes, then all pairs of bytes, then triples as far as there is
/// room; each longer token is the merge of a shorter one and a byte. The last two are special.
fn vocabulary(shape: &Shape, writer: &mut Writer<'_>) {
    const N_SPECIAL: usize = 2;
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    // GPT-2's spelling: bytes that are not printable are U+0100 and up.
    let is_itself = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut substitutes = (0x100..).filter_map(char::from_u32);
    let mut spelled = |byte| match is_itself(byte) {
        true => Some(char::from(byte)),
        false => substitutes.next(),
    };
    let mut tokens: Vec<String> = (0..=255).filter_map(&mut spelled).map(String::from).collect();
    let mut merges = Vec::new();
    for nth in 0..shape.n_vocab - tokens.len() - N_SPECIAL {
        let (left, byte) = (&tokens[nth / 256], &tokens[nth % 256]);
        merges.push(format!("{left} {byte}"));
        tokens.push(format!("{left}{byte}"));
    }
    let mut types = vec![NORMAL; tokens.len()];
    tokens.extend(["<|begin|>".to_owned(), "<|end|>".to_owned()]);
    types.extend([CONTROL; N_SPECIAL]);
    writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", shape.pretokenizer)
        .metadata("tokenizer.ggml.tokens", Strings::from_iter(tokens))
        .metadata("tokenizer.ggml.token_type", types)
        .metadata("tokenizer.ggml.merges", Strings::from_iter(merges))
        .metadata("tokenizer.ggml.bos_token_id", shape.n_vocab as u32 - 2)
        .metadata("tokenizer.ggml.eos_token_id", shape.n_vocab as u32 - 1)
        .metadata("tokenizer.ggml.add_bos_token", shape.architecture == "llama");
}

/// Makes tensors up.
struct Weights {
    writer: Writer<'static>,
    random: u64,
}

impl Weights {
    fn floats(&mut self, name: &str, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.writer.tensor(name, &[values.len()], TensorType::F32, bytes);
    }

    /// A matrix of random codes, with elements of a standard deviation of `1 / sqrt(n_cols)`.
    fn matrix(&mut self, name: &str, shape: [usize; 2], ty: TensorType) {
        let [n_rows, n_cols] = shape;
        let n_blocks = n_rows * n_cols / ty.block_len();
        let mut bytes = vec![0; (n_blocks * ty.block_bytes()).next_multiple_of(8)];
        for eight in bytes.chunks_exact_mut(8) {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            eight.copy_from_slice(&self.random.to_le_bytes());
        }
        bytes.truncate(n_blocks * ty.block_bytes());
        let unit = 1.0 / (n_cols as f32).sqrt();
        // The divisor is the deviation of a block's elements when its scale is 1.
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            match ty {
                TensorType::Q4_0 => block[..2].copy_from_slice(&f16(unit / 4.6)),
                TensorType::Q8_0 => {
                    block[..2].copy_from_slice(&f16(unit / 74.0));
                    // No quantiser writes -128, and kernels may rely on it.
                    block[2..].iter_mut().for_each(|code| *code += u8::from(*code == 0x80));
                }
                // A minimum is 7.5 scales, so that the elements' mean is 0.
                TensorType::Q4_K => {
                    block[..2].copy_from_slice(&f16(unit / 257.0));
                    block[2..4].copy_from_slice(&f16(unit / 257.0 * 7.5));
                }
                TensorType::Q6_K => block[208..].copy_from_slice(&f16(unit / 1369.0)),
                _ => unreachable!("no shape above has another type"),
            }
        }
        self.writer.tensor(name, &shape, ty, bytes);
    }
}

/// A small positive number as the bytes of a half-precision one, rounded down.
fn f16(x: f32) -> [u8; 2] {
    const SMALLEST_NORMAL: f32 = 1.0 / 16_384.0;
    const SUBNORMALS_PER_ONE: f32 = 16_777_216.0;
    let bits = if x < SMALLEST_NORMAL {
        (x * SUBNORMALS_PER_ONE) as u16
    } else {
        ((x.to_bits() - (112 << 23)) >> 13) as u16
    };
    bits.to_le_bytes()
}
