//! Perplexity of real models on the kit's text, against the exact figure.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

use crate::support::{kv_for, load, log_sum_exp};
use freehold_model::{LogitsFor, Scratch, Slice};
use gguf::Gguf;
use serde_json::Value;
use std::path::Path;
use text::{Special, Tokenizer};

/// How far from the exact perplexity the kit lets ours be.
const RELATIVE_ERROR_MAX: f64 = 0.005;

fn check(kit: &Path, path: &Path, name: &str) {
    let read = |file: &str| std::fs::read_to_string(kit.join("real").join(file)).unwrap();
    let reference: Value = serde_json::from_str(&read(&format!("{name}.json"))).unwrap();
    let number = |key: &str| reference["eval"][key].as_u64().unwrap() as usize;
    let (n_ctx, n_chunks) = (number("n_ctx"), number("n_chunks"));
    let exact = reference["eval"]["ppl_exact"].as_f64().unwrap();

    let gguf = Gguf::open(path).unwrap();
    let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut tokens = Vec::from_iter(bos);
    tokens.extend(tokenizer.encode(&read("eval.txt"), Special::Plain));

    let model = load(&gguf);
    let n_vocab = model.config().n_vocab;
    let (mut kv, pages) = kv_for(&model, n_ctx);
    let mut scratch = Scratch::new();
    let (mut loss, mut n_scored) = (0.0, 0);
    for window in tokens.chunks_exact(n_ctx).take(n_chunks) {
        let mut window = window.to_vec();
        if let Some(bos) = bos {
            window[0] = bos;
        }
        let half = n_ctx / 2;
        let slice = |tokens, start_pos, logits| Slice { tokens, start_pos, pages: &pages, logits };
        model.forward(&[slice(&window[..half], 0, LogitsFor::None)], &mut kv, &mut scratch);
        let scored = slice(&window[half..n_ctx - 1], half as u32, LogitsFor::All);
        let logits = model.forward(&[scored], &mut kv, &mut scratch);
        for (row, &next) in logits.chunks(n_vocab).zip(&window[half + 1..]) {
            loss += log_sum_exp(row) - f64::from(row[next as usize]);
            n_scored += 1;
        }
    }
    assert_eq!(n_scored, n_chunks * (n_ctx / 2 - 1), "{name}: the text is too short");
    let perplexity = (loss / n_scored as f64).exp();
    let theirs = reference["eval"]["ppl_llama_cpp"].as_f64().unwrap();
    let error = perplexity / exact - 1.0;
    println!(
        "{name}: perplexity {perplexity:.4}, exact {exact} ({:+.3} %), llama.cpp {theirs} \
         ({:+.3} %)",
        100.0 * error,
        100.0 * (theirs / exact - 1.0)
    );
    assert!(error.abs() <= RELATIVE_ERROR_MAX, "{name}: perplexity {perplexity}, exact {exact}");
}

#[test]
fn slow_smollm2_has_the_exact_perplexity() {
    let Some(kit) = testkit::kit() else { return };
    check(&kit, &testkit::smollm2(), "smollm2-135m");
}

#[test]
#[ignore = "takes minutes for its 262,144 logits a position: run with --ignored"]
fn slow_gemma3_has_the_exact_perplexity() {
    let (Some(kit), Some(path)) = (testkit::kit(), testkit::gemma3()) else { return };
    check(&kit, &path, "gemma3-270m");
}
