//! Tiny models with seeded random weights, and ways to run a model that tests share.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its part; a panic is the report

use freehold_model::{LogitsFor, Model, Scratch, Slice};
use gguf::{Gguf, TensorType, Value, write::Writer};
use kernels::{Cpu, Isa, KvPool, PAGE_LEN};
use std::sync::Arc;

/// The parts of a tiny model's file, to be changed before it is built.
pub(crate) struct Tiny {
    pub(crate) architecture: &'static str,
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<(String, Vec<usize>, TensorType, Vec<u8>)>,
    seed: u64,
}

pub(crate) const N_VOCAB: usize = 50;
pub(crate) const N_EMBD: usize = 64;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const N_FF: usize = 96;

impl Tiny {
    /// A model as published files of the architecture are, with untied output.
    pub(crate) fn new(architecture: &'static str) -> Self {
        // Seven layers of gemma3 hold six windowed ones and one that sees everything.
        let n_layers = if architecture == "gemma3" { 7 } else { 2 };
        // Where the family sets the head apart from n_embd / n_heads, so do we.
        let head_dim = if matches!(architecture, "qwen3" | "gemma3") { 48 } else { 16 };
        let mut tiny = Self {
            architecture,
            metadata: vec![("general.architecture".into(), Value::String(architecture.into()))],
            tensors: Vec::new(),
            seed: 1,
        };
        for (key, value) in [
            ("block_count", n_layers),
            ("context_length", 256),
            ("embedding_length", N_EMBD),
            ("feed_forward_length", N_FF),
            ("attention.head_count", N_HEADS),
            ("attention.head_count_kv", N_KV_HEADS),
            ("attention.key_length", head_dim),
            ("attention.value_length", head_dim),
        ] {
            tiny.set(key, Value::U32(value as u32));
        }
        tiny.set("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        tiny.set("rope.freq_base", Value::F32(500_000.0));
        if architecture == "gemma3" {
            tiny.set("attention.sliding_window", Value::U32(8));
        }
        tiny.matrix("token_embd.weight", N_VOCAB, N_EMBD);
        tiny.matrix("output.weight", N_VOCAB, N_EMBD);
        tiny.norm("output_norm.weight", N_EMBD);
        for layer_idx in 0..n_layers {
            tiny.layer(layer_idx, head_dim);
        }
        tiny
    }

    /// One layer of the llama architecture, wide enough for 8 bits an activation, in Q8_0.
    pub(crate) fn wide() -> Self {
        const N_EMBD: usize = 1024;
        let mut tiny = Self::new("llama");
        tiny.tensors.clear();
        for (key, value) in
            [("block_count", 1), ("context_length", 512), ("embedding_length", N_EMBD as u32)]
        {
            tiny.set(key, Value::U32(value));
        }
        let (q_dim, kv_dim) = (N_HEADS * 16, N_KV_HEADS * 16);
        for (name, n_rows, n_cols) in [
            ("token_embd", N_VOCAB, N_EMBD),
            ("blk.0.attn_q", q_dim, N_EMBD),
            ("blk.0.attn_k", kv_dim, N_EMBD),
            ("blk.0.attn_v", kv_dim, N_EMBD),
            ("blk.0.attn_output", N_EMBD, q_dim),
            ("blk.0.ffn_gate", N_FF, N_EMBD),
            ("blk.0.ffn_up", N_FF, N_EMBD),
            ("blk.0.ffn_down", N_EMBD, N_FF),
        ] {
            let mut bytes = Vec::new();
            for _ in 0..n_rows * n_cols / 32 {
                // The scale, 2^-11 as binary16, then the codes.
                bytes.extend([0x00, 0x10]);
                bytes.extend((0..32).map(|_| (tiny.random() * 127.0) as i8 as u8));
            }
            let shape = vec![n_rows, n_cols];
            tiny.tensors.push((format!("{name}.weight"), shape, TensorType::Q8_0, bytes));
        }
        for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
            tiny.norm(&format!("{name}.weight"), N_EMBD);
        }
        tiny
    }

    /// Two layers of an encoder, as published files are.
    pub(crate) fn bert() -> Self {
        let mut tiny = Self::new("bert");
        tiny.metadata.truncate(1);
        tiny.tensors.clear();
        for (key, value) in [
            ("block_count", 2),
            ("context_length", 320),
            ("embedding_length", N_EMBD),
            ("feed_forward_length", N_FF),
            ("attention.head_count", N_HEADS),
            ("pooling_type", 1),
        ] {
            tiny.set(key, Value::U32(value as u32));
        }
        tiny.set("attention.layer_norm_epsilon", Value::F32(1e-12));
        tiny.set("attention.causal", Value::Bool(false));
        for (name, n_rows) in [("token_embd", N_VOCAB), ("position_embd", 320), ("token_types", 2)]
        {
            tiny.matrix(&format!("{name}.weight"), n_rows, N_EMBD);
        }
        let layer_norm = |tiny: &mut Self, name: &str| {
            tiny.norm(&format!("{name}.weight"), N_EMBD);
            tiny.bias(&format!("{name}.bias"), N_EMBD);
        };
        layer_norm(&mut tiny, "token_embd_norm");
        for layer_idx in 0..2 {
            let name = |part: &str| format!("blk.{layer_idx}.{part}");
            for (part, n_rows, n_cols) in [
                ("attn_q", N_EMBD, N_EMBD),
                ("attn_k", N_EMBD, N_EMBD),
                ("attn_v", N_EMBD, N_EMBD),
                ("attn_output", N_EMBD, N_EMBD),
                ("ffn_up", N_FF, N_EMBD),
                ("ffn_down", N_EMBD, N_FF),
            ] {
                tiny.matrix(&name(&format!("{part}.weight")), n_rows, n_cols);
                tiny.bias(&name(&format!("{part}.bias")), n_rows);
            }
            layer_norm(&mut tiny, &name("attn_output_norm"));
            layer_norm(&mut tiny, &name("layer_output_norm"));
        }
        tiny
    }

    fn layer(&mut self, layer_idx: usize, head_dim: usize) {
        let name = |part: &str| format!("blk.{layer_idx}.{part}");
        let (q_dim, kv_dim) = (N_HEADS * head_dim, N_KV_HEADS * head_dim);
        for (part, n_rows, n_cols) in [
            ("attn_q", q_dim, N_EMBD),
            ("attn_k", kv_dim, N_EMBD),
            ("attn_v", kv_dim, N_EMBD),
            ("attn_output", N_EMBD, q_dim),
            ("ffn_gate", N_FF, N_EMBD),
            ("ffn_up", N_FF, N_EMBD),
            ("ffn_down", N_EMBD, N_FF),
        ] {
            self.matrix(&name(&format!("{part}.weight")), n_rows, n_cols);
        }
        self.norm(&name("attn_norm.weight"), N_EMBD);
        self.norm(&name("ffn_norm.weight"), N_EMBD);
        if self.architecture == "qwen2" {
            self.bias(&name("attn_q.bias"), q_dim);
            self.bias(&name("attn_k.bias"), kv_dim);
            self.bias(&name("attn_v.bias"), kv_dim);
        }
        if matches!(self.architecture, "qwen3" | "gemma3") {
            self.norm(&name("attn_q_norm.weight"), head_dim);
            self.norm(&name("attn_k_norm.weight"), head_dim);
        }
        if self.architecture == "gemma3" {
            self.norm(&name("post_attention_norm.weight"), N_EMBD);
            self.norm(&name("post_ffw_norm.weight"), N_EMBD);
        }
    }

    /// Sets a key of the architecture, adding it if it is not there.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        let key = match key.strip_prefix("general.") {
            Some(_) => key.to_owned(),
            None => format!("{}.{key}", self.architecture),
        };
        self.metadata.retain(|(other, _)| *other != key);
        self.metadata.push((key, value));
    }

    pub(crate) fn remove_key(&mut self, key: &str) {
        let key = format!("{}.{key}", self.architecture);
        self.metadata.retain(|(other, _)| *other != key);
    }

    pub(crate) fn remove_tensor(&mut self, name: &str) {
        self.tensors.retain(|(other, ..)| other != name);
    }

    /// Random values about `centre` with this spread, as f32.
    pub(crate) fn vector(&mut self, name: &str, shape: &[usize], centre: f32, spread: f32) {
        let n: usize = shape.iter().product();
        let values = (0..n).map(|_| centre + spread * self.random());
        let bytes = values.collect::<Vec<_>>().iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensors.push((name.to_owned(), shape.to_vec(), TensorType::F32, bytes));
    }

    pub(crate) fn bias(&mut self, name: &str, len: usize) {
        self.vector(name, &[len], 0.0, 0.5);
    }

    pub(crate) fn norm(&mut self, name: &str, len: usize) {
        self.vector(name, &[len], 1.0, 0.3);
    }

    fn matrix(&mut self, name: &str, n_rows: usize, n_cols: usize) {
        self.vector(name, &[n_rows, n_cols], 0.0, (3.0 / n_cols as f32).sqrt() * 1.5);
    }

    /// In [-1, 1), by splitmix64.
    fn random(&mut self) -> f32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn build(&self) -> Gguf {
        let mut writer = Writer::new();
        for (key, value) in &self.metadata {
            writer.metadata(key, value.clone());
        }
        for (name, shape, ty, bytes) in &self.tensors {
            writer.tensor(name, shape, *ty, bytes.as_slice());
        }
        Gguf::from_bytes(writer.finish().unwrap()).unwrap()
    }
}

/// Seeded tokens below `n_vocab`.
pub(crate) fn tokens(n_tokens: usize, n_vocab: usize) -> Vec<u32> {
    (0..n_tokens).map(|i| (i * i * 7 + i * 13 + 5) as u32 % n_vocab as u32).collect()
}

pub(crate) fn load(gguf: &Gguf) -> Model {
    Model::load(gguf, Arc::new(Cpu::new(Isa::detect(), 2))).unwrap()
}

/// A kv cache with pages for `n_tokens` positions of one sequence.
pub(crate) fn kv_for(model: &Model, n_tokens: usize) -> (KvPool, Vec<u32>) {
    let n_pages = n_tokens.div_ceil(PAGE_LEN);
    (KvPool::new(model.kv_shape(), n_pages), (0..n_pages as u32).collect())
}

/// Logits `[n_tokens, n_vocab]` of one sequence fed in chunks of `chunk_len`.
pub(crate) fn logits_in_chunks(model: &Model, tokens: &[u32], chunk_len: usize) -> Vec<f32> {
    let (mut kv, pages) = kv_for(model, tokens.len());
    let mut scratch = Scratch::new();
    let mut out = Vec::new();
    for (chunk_idx, chunk) in tokens.chunks(chunk_len).enumerate() {
        let slice = Slice {
            tokens: chunk,
            start_pos: (chunk_idx * chunk_len) as u32,
            pages: &pages,
            logits: LogitsFor::All,
        };
        out.extend_from_slice(model.forward(&[slice], &mut kv, &mut scratch));
    }
    out
}

/// Normalised mean squared error, `mean((a - b)^2) / mean(b^2)`, of `a` against the truth `b`.
pub(crate) fn nmse(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error: f64 = a.iter().zip(b).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    error / b.iter().map(|b| b * b).sum::<f64>()
}

/// Asserts equality bit for bit, and says where it first fails.
pub(crate) fn assert_same_bits(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    let n_different = got.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let first = got.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    if let Some(idx) = first {
        let (a, b) = (got[idx], expected[idx]);
        panic!("{what}: {n_different} of {} differ, first at {idx}: {a} and {b}", got.len());
    }
}

pub(crate) fn arg_max(row: &[f32]) -> usize {
    let mut best = 0;
    for (idx, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = idx;
        }
    }
    best
}

/// `log(sum(exp(x)))`, in f64.
pub(crate) fn log_sum_exp(row: &[f32]) -> f64 {
    let max = f64::from(row[arg_max(row)]);
    max + row.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln()
}
