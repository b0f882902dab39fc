//! all-MiniLM-L6-v2 as the catalogue has it, against the vectors that sentence-transformers makes
//! of the publisher's files (`minilm/reference.py`).
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

use crate::support::{assert_same_bits, nmse};
use freehold_model::{Encoder, EncoderScratch, reference};
use gguf::Gguf;
use kernels::{Cpu, Isa};
use std::path::Path;
use std::sync::Arc;
use text::{Special, Tokenizer};

const N_EMBD: usize = 384;

/// A text with its token ids and its vector.
struct Case {
    text: String,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/minilm");
    let texts = std::fs::read(folder.join("texts.json")).unwrap();
    let texts: Vec<serde_json::Value> = serde_json::from_slice(&texts).unwrap();
    let floats = std::fs::read(folder.join("vectors.f32")).unwrap();
    let floats: Vec<f32> = floats.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
    assert_eq!(floats.len(), texts.len() * N_EMBD);
    let case = |(text, vector): (&serde_json::Value, &[f32])| Case {
        text: text["text"].as_str().unwrap().to_owned(),
        ids: serde_json::from_value(text["ids"].clone()).unwrap(),
        vector: vector.to_vec(),
    };
    let cases: Vec<Case> = texts.iter().zip(floats.chunks(N_EMBD)).map(case).collect();
    assert!(cases.len() >= 30 && cases.iter().any(|case| case.ids.len() > 256));
    cases
}

fn open(gguf: &Gguf, isa: Isa, n_threads: usize) -> Encoder {
    Encoder::load(gguf, Arc::new(Cpu::new(isa, n_threads))).unwrap()
}

/// Of two vectors of length 1.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn check(path: &Path, least: f64) {
    let gguf = Gguf::open(path).unwrap();
    let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
    let encoder = open(&gguf, Isa::detect(), 2);
    let mut scratch = EncoderScratch::new();
    let mut worst = (f64::INFINITY, String::new());
    for Case { text, ids, vector } in cases() {
        let mut found = tokenizer.encode(&text, Special::Plain);
        found.insert(0, tokenizer.bos().unwrap());
        found.push(tokenizer.eos().unwrap());
        assert_eq!(found, ids, "{text:?}");
        let cosine = cosine(encoder.encode(&[&ids], &mut scratch), &vector);
        if cosine < worst.0 {
            worst = (cosine, text);
        }
    }
    println!("{}: cosine at least {:.7}, of {:.60?}", path.display(), worst.0, worst.1);
    assert!(worst.0 >= least, "cosine {} of {:?}, expected {least}", worst.0, worst.1);
}

#[test]
fn f16_vectors_are_those_of_sentence_transformers() {
    check(&testkit::minilm_f16(), 0.9999);
}

#[test]
fn q8_0_vectors_are_near_those_of_sentence_transformers() {
    check(&testkit::minilm_q8_0(), 0.999);
}

/// Over the weights as the file has them, the vectors are exact in both formats.
#[test]
fn what_q8_0_loses_is_in_its_weights() {
    for path in [testkit::minilm_f16(), testkit::minilm_q8_0()] {
        let gguf = Gguf::open(&path).unwrap();
        let ids = &cases()[8].ids;
        let exact = reference::embedding(&gguf, ids).unwrap();
        let found =
            open(&gguf, Isa::detect(), 2).encode(&[ids], &mut EncoderScratch::new()).to_vec();
        let error = nmse(&found, &exact);
        println!("{}: nmse {error:.1e}", path.display());
        assert!(error < 1e-6, "{}: nmse {error:.1e}", path.display());
    }
}

#[test]
fn company_threads_and_instruction_sets_change_no_bit() {
    for path in [testkit::minilm_f16(), testkit::minilm_q8_0()] {
        let gguf = Gguf::open(&path).unwrap();
        let cases = cases();
        // Short ones and one over a page: the portable definition is slow.
        let mut texts: Vec<&[u32]> = cases.iter().take(6).map(|case| &case.ids[..]).collect();
        texts.push(&cases.iter().find(|case| case.ids.len() > 64).unwrap().ids);
        let first = open(&gguf, Isa::detect(), 1);
        let mut scratch = EncoderScratch::new();
        let alone = texts.iter().map(|text| first.encode(&[text], &mut scratch).to_vec());
        let alone: Vec<f32> = alone.collect::<Vec<_>>().concat();
        for isa in Isa::available() {
            for n_threads in [1, 2, 3] {
                let together = open(&gguf, isa, n_threads).encode(&texts, &mut scratch).to_vec();
                assert_same_bits(&together, &alone, &format!("{isa:?}, {n_threads} threads"));
            }
        }
    }
}
