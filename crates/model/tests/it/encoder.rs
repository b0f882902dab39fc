//! The encoder against its naive twin, and against itself in every company, on any number of
//! threads and instruction set.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

use crate::support::{N_VOCAB, Tiny, assert_same_bits, tokens};
use freehold_model::{Encoder, EncoderScratch, Pooling, is_encoder, reference};
use gguf::{Gguf, Value};
use kernels::{Cpu, Isa};
use std::sync::Arc;

/// The f16 keys and values alone make an error of about 1e-7; a wrong term one of 1e-3 and more.
const NMSE_MAX: f64 = 1e-6;

fn open(gguf: &Gguf, isa: Isa, n_threads: usize) -> Encoder {
    Encoder::load(gguf, Arc::new(Cpu::new(isa, n_threads))).unwrap()
}

fn detected(gguf: &Gguf) -> Encoder {
    open(gguf, Isa::detect(), 2)
}

/// Texts of every kind of length, one over a page and one over a segment of attention.
fn texts() -> Vec<Vec<u32>> {
    [1, 2, 63, 64, 65, 7, 300, 1, 17].iter().map(|&n| tokens(n, N_VOCAB)).collect()
}

fn encode(encoder: &Encoder, texts: &[&[u32]]) -> Vec<f32> {
    encoder.encode(texts, &mut EncoderScratch::new()).to_vec()
}

fn cls() -> Tiny {
    let mut tiny = Tiny::bert();
    tiny.set("pooling_type", Value::U32(2));
    tiny
}

#[test]
fn vectors_agree_with_the_reference() {
    for (tiny, pooling) in [(Tiny::bert(), Pooling::Mean), (cls(), Pooling::Cls)] {
        let gguf = tiny.build();
        assert!(is_encoder(&gguf));
        let encoder = detected(&gguf);
        assert_eq!(encoder.config().pooling, pooling);
        for text in texts() {
            let expected = reference::embedding(&gguf, &text).unwrap();
            let error = crate::support::nmse(&encode(&encoder, &[&text]), &expected);
            assert!(error <= NMSE_MAX, "{pooling:?}, {} tokens: nmse {error:.1e}", text.len());
        }
    }
}

#[test]
fn company_threads_and_instruction_sets_change_no_bit() {
    let gguf = Tiny::bert().build();
    let texts = texts();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let first = open(&gguf, Isa::detect(), 1);
    let alone: Vec<f32> = texts.iter().flat_map(|text| encode(&first, &[text])).collect();
    for isa in Isa::available() {
        for n_threads in [1, 2, 3] {
            let encoder = open(&gguf, isa, n_threads);
            // One scratch for all, so that a batch finds what another left.
            let mut scratch = EncoderScratch::new();
            for n_texts in [1, 2, texts.len()] {
                let chunks =
                    texts.chunks(n_texts).map(|c| encoder.encode(c, &mut scratch).to_vec());
                let together: Vec<f32> = chunks.collect::<Vec<_>>().concat();
                let what = format!("{isa:?}, {n_threads} threads, {n_texts} together");
                assert_same_bits(&together, &alone, &what);
            }
        }
    }
}

#[test]
fn no_texts_have_no_vectors_and_each_has_length_one() {
    let encoder = detected(&Tiny::bert().build());
    assert!(encode(&encoder, &[]).is_empty());
    let vector = encode(&encoder, &[&[3, 4, 5]]);
    let length: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
}

#[test]
fn a_plan_knows_the_size_of_the_weights() {
    let gguf = Tiny::bert().build();
    let plan = Encoder::plan(&gguf).unwrap();
    assert_eq!(plan.weight_bytes, detected(&gguf).weight_bytes());
    assert!(plan.scratch_bytes(100, 3) > plan.scratch_bytes(50, 3));
    // Keys and values of 64 positions, f16.
    assert_eq!(plan.kv_page_bytes(), 2 * 64 * 64 * 2);
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut Tiny), expected: &str) {
    let mut tiny = Tiny::bert();
    change(&mut tiny);
    let error = Encoder::plan(&tiny.build()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_is_no_such_encoder_is_refused_by_name() {
    check_refused(|t| t.set("pooling_type", Value::U32(4)), "4, expected 1 (mean) or 2 (CLS)");
    check_refused(|t| t.remove_key("pooling_type"), "absent, expected 1 (mean) or 2 (CLS)");
    check_refused(|t| t.set("attention.causal", Value::Bool(true)), "expected false");
    check_refused(|t| t.set("attention.head_count", Value::U32(3)), "embedding_length 64");
    check_refused(|t| t.set("attention.head_count", Value::U32(8)), "multiple of 16");
    check_refused(|t| t.set("attention.head_count_kv", Value::U32(2)), "as the queries have");
    check_refused(|t| t.set("context_length", Value::U32(7)), "[320, 64], expected [7, 64]");
    check_refused(|t| t.set("attention.layer_norm_epsilon", Value::F32(f32::NAN)), "NaN");
    check_refused(|t| t.remove_tensor("blk.1.ffn_up.bias"), "\"blk.1.ffn_up.bias\" is missing");
    check_refused(|t| t.norm("cls.weight", 64), "tensor \"cls.weight\" is not part");
    let error = Encoder::plan(&Tiny::new("llama").build()).unwrap_err().to_string();
    assert_eq!(error, "architecture \"llama\" makes no embeddings here; expected one of bert");
    let error = freehold_model::Model::plan(&Tiny::bert().build()).unwrap_err().to_string();
    let expected = "architecture \"bert\" makes embeddings and writes no text; expected one of ";
    assert!(error.starts_with(expected), "{error}");
}
