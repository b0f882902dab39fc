//! The forward pass against its naive twin, and against itself in every split and company.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

use crate::support::{
    N_VOCAB, Tiny, assert_same_bits, kv_for, load, logits_in_chunks, nmse, tokens,
};
use freehold_model::{LogitsFor, Model, Scratch, Slice, known_architectures, reference};
use gguf::Value;
use kernels::{KvFormat, KvPool, PAGE_LEN};

/// The f16 kv cache alone makes an error of about 1e-7; a wrong term makes one of 1e-3 and more.
const NMSE_MAX: f64 = 1e-6;

/// Longer than a page and than gemma3's window.
const N_TOKENS: usize = PAGE_LEN + 9;

fn check_against_reference(tiny: &Tiny, what: &str) {
    let gguf = tiny.build();
    let tokens = tokens(N_TOKENS, N_VOCAB);
    let expected = reference::logits(&gguf, &tokens).unwrap().concat();
    let got = logits_in_chunks(&load(&gguf), &tokens, tokens.len());
    let error = nmse(&got, &expected);
    println!("{what}: nmse {error:.1e}");
    assert!(error <= NMSE_MAX, "{what}: nmse {error:.1e}");
}

#[test]
fn every_architecture_agrees_with_the_reference() {
    for architecture in known_architectures() {
        check_against_reference(&Tiny::new(architecture), architecture);
    }
}

#[test]
fn what_the_file_adds_is_used() {
    for architecture in known_architectures() {
        let mut tiny = Tiny::new(architecture);
        tiny.remove_tensor("output.weight");
        check_against_reference(&tiny, &format!("{architecture}, tied"));

        let mut tiny = Tiny::new(architecture);
        for (part, len) in [("attn_output", 64), ("ffn_gate", 96), ("ffn_up", 96), ("ffn_down", 64)]
        {
            tiny.bias(&format!("blk.1.{part}.bias"), len);
        }
        check_against_reference(&tiny, &format!("{architecture}, more biases"));

        let mut tiny = Tiny::new(architecture);
        tiny.set("rope.dimension_count", Value::U32(12));
        tiny.vector("rope_freqs.weight", &[6], 4.0, 3.0);
        check_against_reference(&tiny, &format!("{architecture}, partial rope with divisors"));

        let mut tiny = Tiny::new(architecture);
        tiny.set("attn_logit_softcapping", Value::F32(1.5));
        tiny.set("final_logit_softcapping", Value::F32(2.5));
        tiny.set("attention.scale", Value::F32(0.4));
        check_against_reference(&tiny, &format!("{architecture}, soft caps"));
    }
}

#[test]
fn linear_rope_scaling_divides_positions() {
    // Divisors of the same size say the same thing by another door.
    let mut by_key = Tiny::new("llama");
    by_key.set("rope.scaling.type", Value::String("linear".into()));
    by_key.set("rope.scaling.factor", Value::F32(4.0));
    let mut by_tensor = Tiny::new("llama");
    by_tensor.vector("rope_freqs.weight", &[8], 4.0, 0.0);
    let tokens = tokens(20, N_VOCAB);
    let [by_key, by_tensor] =
        [by_key, by_tensor].map(|tiny| logits_in_chunks(&load(&tiny.build()), &tokens, 20));
    assert_same_bits(&by_key, &by_tensor, "linear scaling");
}

#[test]
fn gemma3_sees_through_its_windows() {
    let tokens = tokens(40, N_VOCAB);
    let last = |window: u32| {
        let mut tiny = Tiny::new("gemma3");
        tiny.set("attention.sliding_window", Value::U32(window));
        let logits = logits_in_chunks(&load(&tiny.build()), &tokens, 40);
        logits[39 * N_VOCAB..].to_vec()
    };
    assert_ne!(last(8), last(9));
    assert_same_bits(&last(40), &last(200), "windows that cut nothing off");
}

#[test]
fn chunks_change_no_bit() {
    for architecture in known_architectures() {
        let model = load(&Tiny::new(architecture).build());
        let tokens = tokens(N_TOKENS, N_VOCAB);
        let whole = logits_in_chunks(&model, &tokens, tokens.len());
        for chunk_len in [1, 2, 7, 64] {
            let chunked = logits_in_chunks(&model, &tokens, chunk_len);
            assert_same_bits(&chunked, &whole, &format!("{architecture}, chunks of {chunk_len}"));
        }
    }
}

#[test]
fn company_changes_no_bit() {
    for architecture in known_architectures() {
        check_company(&load(&Tiny::new(architecture).build()), architecture);
    }
}

/// Three sequences, in pages that lie crosswise, at different positions of one batch.
fn check_company(model: &Model, architecture: &str) {
    let tokens = tokens(200, N_VOCAB);
    let sequences = [&tokens[..80], &tokens[80..150], &tokens[150..200]];
    let pages: [&[u32]; 3] = [&[4, 1], &[0, 3], &[2]];
    let alone = sequences.map(|sequence| logits_in_chunks(model, sequence, sequence.len()));

    let mut kv = KvPool::new(model.kv_shape(), 5);
    let mut scratch = Scratch::new();
    let mut together = [const { Vec::new() }; 3];
    let mut n_fed = [0; 3];
    for round in 0.. {
        // Prefill slices and single tokens meet, each in its turn.
        let n_next: [usize; 3] =
            std::array::from_fn(|i| [1, 9, 30][(i + round) % 3].min(sequences[i].len() - n_fed[i]));
        if n_next == [0; 3] {
            break;
        }
        let batch: [_; 3] = std::array::from_fn(|i| Slice {
            tokens: &sequences[i][n_fed[i]..][..n_next[i]],
            start_pos: n_fed[i] as u32,
            pages: pages[i],
            logits: LogitsFor::All,
        });
        let mut logits = model.forward(&batch, &mut kv, &mut scratch);
        for i in 0..3 {
            let (own, rest) = logits.split_at(n_next[i] * N_VOCAB);
            together[i].extend_from_slice(own);
            logits = rest;
            n_fed[i] += n_next[i];
        }
    }
    for i in 0..3 {
        assert_same_bits(&together[i], &alone[i], &format!("{architecture}, sequence {i}"));
    }
}

#[test]
fn logits_come_for_the_tokens_asked() {
    let model = load(&Tiny::new("llama").build());
    let tokens = tokens(10, N_VOCAB);
    let all = logits_in_chunks(&model, &tokens, 10);
    let row = |pos: usize| &all[pos * N_VOCAB..][..N_VOCAB];
    let (mut kv, pages) = kv_for(&model, 10);
    let mut other_pages = pages.clone();
    other_pages[0] = 1;
    let mut kv_two = KvPool::new(model.kv_shape(), 2);
    let slice = |pages, logits| Slice { tokens: &tokens, start_pos: 0, pages, logits };
    let mut scratch = Scratch::new();

    let none = model.forward(&[slice(&pages, LogitsFor::None)], &mut kv, &mut scratch);
    assert!(none.is_empty());
    let last = model.forward(&[slice(&pages, LogitsFor::Last)], &mut kv, &mut scratch);
    assert_same_bits(last, row(9), "last");
    let batch = [slice(&pages, LogitsFor::None), slice(&other_pages, LogitsFor::Last)];
    let mixed = model.forward(&batch, &mut kv_two, &mut scratch);
    assert_same_bits(mixed, row(9), "none and last");
    let batch = [slice(&pages, LogitsFor::Last), slice(&other_pages, LogitsFor::All)];
    let mixed = model.forward(&batch, &mut kv_two, &mut scratch);
    assert_same_bits(mixed, &[row(9), &all[..]].concat(), "last and all");
    assert!(model.forward(&[], &mut kv_two, &mut scratch).is_empty());
    for first in [0, 3, 9, 10, 12] {
        let from = model.forward(&[slice(&pages, LogitsFor::From(first))], &mut kv, &mut scratch);
        assert_same_bits(from, &all[(first * N_VOCAB).min(all.len())..], "from");
    }
}

#[test]
#[should_panic(expected = "token 50 of 50")]
fn a_token_beyond_the_vocabulary_is_a_bug_of_the_caller() {
    let model = load(&Tiny::new("llama").build());
    logits_in_chunks(&model, &[50], 1);
}

#[test]
fn the_plan_says_what_loading_takes() {
    for architecture in known_architectures() {
        let gguf = Tiny::new(architecture).build();
        let plan = Model::plan(&gguf).unwrap();
        let model = load(&gguf);
        assert_eq!(plan.weight_bytes, model.weight_bytes());
        assert_eq!(plan.kv_page_bytes(KvFormat::F16), model.kv_shape().page_bytes() as u64);
        assert!(plan.scratch_bytes(2, 1) > plan.scratch_bytes(1, 1));
    }
}
