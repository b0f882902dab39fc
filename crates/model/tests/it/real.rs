//! Real models against exact references: divergence, best tokens, greedy continuations.
//!
//! The reference expanded the quantised weights to f32 and evaluated in f32; beside it stand the
//! figures that llama.cpp's own quantised path reaches, which are the bounds here.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

use crate::support::{arg_max, kv_for, load, log_sum_exp, logits_in_chunks};
use freehold_model::{LogitsFor, Model, Scratch, Slice};
use gguf::Gguf;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Greedy continuations are compared up to the first near-tie: two best logits closer than this.
const NEAR_TIE: f32 = 0.05;

fn reference(name: &str) -> Option<Value> {
    let path = testkit::kit()?.join(format!("real/{name}.json"));
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn open(path: &Path) -> Model {
    load(&Gguf::open(path).unwrap())
}

/// Gemma's terms must be accepted before it is fetched, so it may be missing.
fn gemma3() -> Option<PathBuf> {
    let path = testkit::gemma3();
    if path.is_none() {
        println!("skipped: gemma3-270m is not there");
    }
    path
}

fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Divergence of one position from the reference: over the reference's 32 best tokens,
/// `sum p (log p - log p_ours)`.
fn divergence(ours: &[f32], top: &[(usize, f64)], lse: f64) -> f64 {
    let our_lse = log_sum_exp(ours);
    top.iter()
        .map(|&(token, logit)| {
            let log_p = logit - lse;
            log_p.exp() * (log_p - (f64::from(ours[token]) - our_lse))
        })
        .sum()
}

fn check_divergence(model: &Model, reference: &Value, name: &str) {
    let (mut sum, mut max, mut n_same, mut n_positions) = (0.0, 0.0_f64, 0, 0);
    for prompt in reference["prompts"].as_array().unwrap() {
        let tokens = tokens(&prompt["ids"]);
        let tops: Vec<Vec<(usize, f64)>> = serde_json::from_value(prompt["top"].clone()).unwrap();
        let lses: Vec<f64> = serde_json::from_value(prompt["lse"].clone()).unwrap();
        let logits = logits_in_chunks(model, &tokens, tokens.len());
        for (pos, row) in logits.chunks(model.config().n_vocab).enumerate() {
            let divergence = divergence(row, &tops[pos], lses[pos]);
            sum += divergence;
            max = max.max(divergence);
            n_same += usize::from(arg_max(row) == tops[pos][0].0);
            n_positions += 1;
        }
    }
    let (mean, top1) = (sum / n_positions as f64, n_same as f64 / n_positions as f64);
    let theirs = |key: &str| reference["llama_cpp"][key].as_f64().unwrap();
    println!(
        "{name}: mean kl {mean:.6} (llama.cpp {}), largest {max:.4} ({}), top-1 {n_same} of \
         {n_positions}, {top1:.4} ({})",
        theirs("mean_kl"),
        theirs("max_kl"),
        theirs("top1")
    );
    assert!(mean <= theirs("mean_kl"), "{name}: mean kl {mean}");
    // The kit's shares have four digits.
    assert!(top1 + 0.00005 >= theirs("top1"), "{name}: top-1 agreement {top1}");
}

fn check_greedy(model: &Model, reference: &Value, name: &str) {
    let mut scratch = Scratch::new();
    let (mut n_compared, mut n_ties) = (0, 0);
    for prompt in reference["prompts"].as_array().unwrap() {
        let mut fed = tokens(&prompt["ids"]);
        let expected = tokens(&prompt["greedy"]);
        let (mut kv, pages) = kv_for(model, fed.len() + expected.len());
        let mut next = fed.clone();
        for (idx, &expected) in expected.iter().enumerate() {
            let slice = Slice {
                tokens: &next,
                start_pos: (fed.len() - next.len()) as u32,
                pages: &pages,
                logits: LogitsFor::Last,
            };
            let logits = model.forward(&[slice], &mut kv, &mut scratch);
            let best = arg_max(logits);
            let runner_up = logits.iter().enumerate().filter(|(token, _)| *token != best);
            let runner_up = runner_up.map(|(_, &x)| x).fold(f32::MIN, f32::max);
            if logits[best] - runner_up < NEAR_TIE {
                n_ties += 1;
                break;
            }
            let text = &prompt["text"];
            assert_eq!(best, expected as usize, "{name}: token {idx} after {text}");
            n_compared += 1;
            fed.push(expected);
            next = vec![expected];
        }
    }
    println!("{name}: {n_compared} greedy tokens agree, {n_ties} continuations end at a near-tie");
    assert!(n_compared > 0);
}

#[test]
fn smollm2_diverges_no_more_than_llama_cpp() {
    let Some(reference) = reference("smollm2-135m") else { return };
    check_divergence(&open(&testkit::smollm2()), &reference, "smollm2-135m");
}

#[test]
fn smollm2_continues_as_the_reference() {
    let Some(reference) = reference("smollm2-135m") else { return };
    check_greedy(&open(&testkit::smollm2()), &reference, "smollm2-135m");
}

#[test]
fn gemma3_diverges_no_more_than_llama_cpp() {
    let (Some(reference), Some(path)) = (reference("gemma3-270m"), gemma3()) else { return };
    check_divergence(&open(&path), &reference, "gemma3-270m");
}

#[test]
fn gemma3_continues_as_the_reference() {
    let (Some(reference), Some(path)) = (reference("gemma3-270m"), gemma3()) else { return };
    check_greedy(&open(&path), &reference, "gemma3-270m");
}
