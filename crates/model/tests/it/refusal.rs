//! Files that must be refused, each with a message that names place, value and expectation.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

use crate::support::Tiny;
use freehold_model::Model;
use gguf::{TensorType, Value};
use kernels::{Cpu, Isa};
use std::error::Error;
use std::sync::Arc;

/// Planning and loading must refuse alike, with a message that holds `expected`.
fn check(expected: &str, architecture: &'static str, spoil: impl FnOnce(&mut Tiny)) {
    let mut tiny = Tiny::new(architecture);
    spoil(&mut tiny);
    let gguf = tiny.build();
    let cpu = Arc::new(Cpu::new(Isa::Portable, 1));
    let errors = [Model::plan(&gguf).err(), Model::load(&gguf, cpu).err()];
    for error in errors {
        let error = error.unwrap_or_else(|| panic!("accepted, expected: {expected}"));
        let mut message = error.to_string();
        if let Some(source) = error.source() {
            message = format!("{message}: {source}");
        }
        assert!(message.contains(expected), "got: {message}\nexpected: {expected}");
    }
}

#[test]
fn unknown_architecture() {
    let expected = r#"architecture "mamba" is not known; known are llama, qwen2, qwen3, gemma3"#;
    check(expected, "llama", |tiny| {
        tiny.set("general.architecture", Value::String("mamba".into()));
    });
}

#[test]
fn numbers_out_of_bounds() {
    let cases: &[(&str, Value, &str)] = &[
        ("block_count", Value::U32(1_000_000_000), "1000000000, expected 1 to 1024"),
        ("block_count", Value::U32(0), "0, expected 1 to 1024"),
        ("embedding_length", Value::U64(u64::MAX), "18446744073709551615, expected 1 to 65536"),
        ("feed_forward_length", Value::U32(0), "0, expected 1 to"),
        ("context_length", Value::U32(0), "0, expected 1 to"),
        ("attention.head_count", Value::U32(0), "0, expected 1 to"),
        ("attention.head_count_kv", Value::U32(3), "3, expected a divisor of the 4 heads"),
        ("attention.key_length", Value::U32(0), "0, expected a multiple of 16 up to 1024"),
        ("attention.key_length", Value::U32(24), "24, expected a multiple of 16 up to 1024"),
        ("attention.key_length", Value::U32(1 << 20), "1048576, expected a multiple of 16"),
        ("attention.value_length", Value::U32(18), "18, expected 16, as the keys have"),
        ("rope.dimension_count", Value::U32(18), "18, expected a multiple of 2 up to 16"),
        ("rope.dimension_count", Value::U32(3), "3, expected a multiple of 2"),
        ("rope.freq_base", Value::F32(f32::NAN), "NaN, expected above 1 and at most"),
        ("rope.freq_base", Value::F32(-1.0), "-1, expected above 1"),
        ("attention.layer_norm_rms_epsilon", Value::F32(f32::NAN), "NaN, expected above 0"),
        ("attention.layer_norm_rms_epsilon", Value::F32(f32::INFINITY), "inf, expected above 0"),
        ("attention.layer_norm_rms_epsilon", Value::F32(-1.0), "-1, expected above 0"),
        ("attention.sliding_window", Value::U32(16), "16, expected none, or at least"),
        ("final_logit_softcapping", Value::F32(-30.0), "-30, expected above 0"),
        ("attention.scale", Value::F32(f32::NAN), "NaN, expected above 0"),
        ("rope.scaling.factor", Value::F32(-4.0), "-4, expected above 0"),
    ];
    for (key, value, expected) in cases {
        let expected = format!("metadata key \"llama.{key}\": {expected}");
        check(&expected, "llama", |tiny| tiny.set(key, value.clone()));
    }
}

#[test]
fn maths_that_the_pass_does_not_do() {
    let cases: &[(&str, Value, &str)] = &[
        ("expert_count", Value::U32(8), "8, expected none or 0"),
        ("logit_scale", Value::F32(0.25), "0.25, expected none or 1"),
        ("attention.clamp_kqv", Value::F32(8.0), "8, expected none or 0"),
        ("attention.causal", Value::Bool(false), "false, expected true"),
    ];
    for (key, value, expected) in cases {
        let expected = format!("metadata key \"qwen2.{key}\": {expected}");
        check(&expected, "qwen2", |tiny| tiny.set(key, value.clone()));
    }
    check(
        r#"metadata key "llama.rope.scaling.type": "longrope", expected none, linear or yarn"#,
        "llama",
        |tiny| {
            tiny.set("rope.scaling.type", Value::String("longrope".into()));
            tiny.set("rope.scaling.factor", Value::F32(4.0));
        },
    );
}

#[test]
fn missing_keys_and_wrong_types() {
    for key in ["block_count", "embedding_length", "attention.layer_norm_rms_epsilon"] {
        check(&format!("llama.{key}"), "llama", |tiny| tiny.remove_key(key));
    }
    check("gemma3.attention.sliding_window", "gemma3", |tiny| {
        tiny.remove_key("attention.sliding_window");
    });
    check("llama.block_count", "llama", |tiny| {
        tiny.set("block_count", Value::String("two".into()));
    });
}

#[test]
fn missing_tensors() {
    for (architecture, name, shape) in [
        ("llama", "blk.1.attn_q.weight", "[64, 64]"),
        ("llama", "blk.0.ffn_down.weight", "[64, 96]"),
        ("llama", "output_norm.weight", "[64]"),
        ("qwen2", "blk.1.attn_k.bias", "[32]"),
        ("qwen3", "blk.0.attn_q_norm.weight", "[48]"),
        ("gemma3", "blk.6.attn_k_norm.weight", "[48]"),
        ("gemma3", "blk.6.post_ffw_norm.weight", "[64]"),
    ] {
        let expected = format!("tensor {name:?} is missing, expected with shape {shape}");
        check(&expected, architecture, |tiny| tiny.remove_tensor(name));
    }
    check(r#"tensor "token_embd.weight" is missing"#, "llama", |tiny| {
        tiny.remove_tensor("token_embd.weight");
    });
}

#[test]
fn tensors_of_another_shape() {
    check(r#"tensor "blk.1.attn_q.weight": shape [32, 64], expected [64, 64]"#, "llama", |tiny| {
        tiny.remove_tensor("blk.1.attn_q.weight");
        tiny.vector("blk.1.attn_q.weight", &[32, 64], 0.0, 1.0);
    });
    check(r#"tensor "rope_freqs.weight": shape [4], expected [8]"#, "llama", |tiny| {
        tiny.vector("rope_freqs.weight", &[4], 1.0, 0.0);
    });
    check(r#"tensor "token_embd.weight": shape [64], expected [n_vocab, "#, "llama", |tiny| {
        tiny.remove_tensor("token_embd.weight");
        tiny.vector("token_embd.weight", &[64], 1.0, 0.0);
    });
}

#[test]
fn tensors_of_no_use() {
    let name = "blk.1.ffn_gate_inp.weight";
    check(
        r#"tensor "blk.1.ffn_gate_inp.weight" is not part of architecture "llama""#,
        "llama",
        |tiny| tiny.vector(name, &[8, 64], 0.0, 1.0),
    );
    // A post norm that this architecture would pass by in silence.
    check("is not part of architecture", "qwen3", |tiny| {
        tiny.norm("blk.0.post_ffw_norm.weight", 64);
    });
}

#[test]
fn unsupported_types() {
    for ty in [TensorType::IQ2_XXS, TensorType::I32] {
        let expected = format!(
            "tensor \"blk.0.ffn_up.weight\": type {} is not supported, expected one of F32, F16",
            ty.name()
        );
        check(&expected, "llama", |tiny| {
            // Rows of 256, so that the file itself is sound for types with large blocks.
            tiny.set("embedding_length", Value::U32(256));
            *tiny = widened(tiny);
            let name = "blk.0.ffn_up.weight";
            tiny.remove_tensor(name);
            let n_bytes = 96 * 256 / ty.block_len() * ty.block_bytes();
            tiny.tensors.push((name.into(), vec![96, 256], ty, vec![0; n_bytes]));
        });
    }
}

/// The model with 256 where it had 64 for the width of the residual stream, all zeros.
fn widened(tiny: &Tiny) -> Tiny {
    let mut wide = Tiny::new(tiny.architecture);
    wide.metadata.clone_from(&tiny.metadata);
    for (name, shape, _, bytes) in &mut wide.tensors {
        for (dim_idx, dim) in shape.iter_mut().enumerate() {
            // The queries are 64 wide as well, and stay so.
            let is_queries = name.contains("attn_q.weight") && dim_idx == 0
                || name.contains("attn_output") && dim_idx == 1;
            if *dim == 64 && !is_queries {
                *dim = 256;
            }
        }
        *bytes = vec![0; 4 * shape.iter().product::<usize>()];
    }
    wide
}
