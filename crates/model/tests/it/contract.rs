//! The numerics contract on the real default model: the same tokens give the same bits, whatever
//! the threads, the split of the prompt, the instruction set and the company in the batch.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

use crate::support::{N_VOCAB, Tiny, assert_same_bits, logits_in_chunks, nmse, tokens};
use freehold_model::{LogitsFor, LogitsOf, Model, Scratch, Slice, reference};
use gguf::Gguf;
use kernels::{Cpu, Isa, KvPool, Precision};
use std::sync::Arc;

/// More than a page and than the longest chunk, so that every chunk length has a border.
const N_TOKENS: usize = 80;

/// The portable definition is slow; a prefix of the tokens has the same logits.
const N_TOKENS_PORTABLE: usize = 8;

fn open(gguf: &Gguf, isa: Isa, n_threads: usize) -> Model {
    Model::load(gguf, Arc::new(Cpu::new(isa, n_threads))).unwrap()
}

#[test]
fn threads_chunks_and_instruction_sets_change_no_bit() {
    let gguf = Gguf::open(&testkit::smollm2()).unwrap();
    let model = open(&gguf, Isa::detect(), 1);
    let n_vocab = model.config().n_vocab;
    let all = tokens(N_TOKENS, n_vocab);
    let expected = logits_in_chunks(&model, &all, N_TOKENS);
    for isa in Isa::available() {
        let n_tokens = if isa == Isa::Portable { N_TOKENS_PORTABLE } else { N_TOKENS };
        for n_threads in [1, 2, 3] {
            let model = open(&gguf, isa, n_threads);
            for chunk_len in [1, 7, 64, n_tokens] {
                let got = logits_in_chunks(&model, &all[..n_tokens], chunk_len);
                let what = format!("{isa:?}, {n_threads} threads, chunks of {chunk_len}");
                assert_same_bits(&got, &expected[..n_tokens * n_vocab], &what);
            }
        }
    }
}

/// Wide models compute with 8 bits an activation. The context has a second segment of attention.
#[test]
fn a_wide_model_keeps_the_contract_and_stays_near_the_reference() {
    let gguf = Tiny::wide().build();
    let model = open(&gguf, Isa::detect(), 1);
    assert_eq!(model.config().precision(), Precision::Bits8);
    let all = tokens(300, N_VOCAB);
    let expected = logits_in_chunks(&model, &all, all.len());
    for isa in Isa::available() {
        for (n_threads, chunk_len) in [(1, 300), (2, 64), (3, 7), (2, 1)] {
            let got = logits_in_chunks(&open(&gguf, isa, n_threads), &all, chunk_len);
            let what = format!("{isa:?}, {n_threads} threads, chunks of {chunk_len}");
            assert_same_bits(&got, &expected, &what);
        }
    }
    let exact = reference::logits(&gguf, &all).unwrap().concat();
    let error = nmse(&expected, &exact);
    println!("8 bits an activation: nmse {error:.1e}");
    assert!(error < 1e-3, "nmse {error:.1e}");
}

#[test]
fn company_changes_no_bit() {
    let gguf = Gguf::open(&testkit::smollm2()).unwrap();
    let model = open(&gguf, Isa::detect(), 2);
    let n_vocab = model.config().n_vocab;
    let all = tokens(3 * 40, n_vocab);
    let sequences: Vec<&[u32]> = all.chunks(40).collect();
    let pages = [[2], [0], [1]];
    let mut kv = KvPool::new(model.kv_shape(), 3);
    let mut scratch = Scratch::new();
    let mut together = vec![Vec::new(); 3];
    // A prompt of 31 tokens for all at once, then one token at a time for each, in one batch.
    for (start, len) in [(0, 31)].into_iter().chain((31..40).map(|start| (start, 1))) {
        let batch: [_; 3] = std::array::from_fn(|i| Slice {
            tokens: &sequences[i][start..start + len],
            start_pos: start as u32,
            pages: &pages[i],
            logits: LogitsFor::All,
        });
        let logits = model.forward(&batch, &mut kv, &mut scratch);
        for (own, logits) in together.iter_mut().zip(logits.chunks(len * n_vocab)) {
            own.extend_from_slice(logits);
        }
    }
    for (sequence_idx, (sequence, together)) in sequences.iter().zip(together).enumerate() {
        let alone = logits_in_chunks(&model, sequence, sequence.len());
        assert_same_bits(&together, &alone, &format!("sequence {sequence_idx} of three"));
    }
}

/// Logits of few ids have the bits that they have among all.
#[test]
fn few_logits_have_the_bits_of_all() {
    let gguf = Gguf::open(&testkit::smollm2()).unwrap();
    let model = open(&gguf, Isa::detect(), 2);
    let n_vocab = model.config().n_vocab;
    let all = logits_in_chunks(&model, &tokens(12, n_vocab), 12);
    let (mut kv, mut scratch) = (KvPool::new(model.kv_shape(), 1), Scratch::new());
    let last = n_vocab as u32 - 1;
    for (n_outputs, ids) in [
        (1, vec![]),
        (1, vec![0]),
        (1, vec![last, 5, 17, 4096, 5]),
        (3, (100..900).collect()),
        // So many that all are computed.
        (2, (0..=last).step_by(16).collect()),
    ] {
        let own = tokens(12, n_vocab);
        let logits = LogitsFor::From(12 - n_outputs);
        let slice = Slice { tokens: &own, start_pos: 0, pages: &[0], logits };
        model.forward_layers(&[slice], &mut kv, &mut scratch);
        let found = model.forward_output(LogitsOf::Ids(&ids), &mut scratch);
        assert_eq!(found.len(), n_outputs * n_vocab);
        let expected = &all[(12 - n_outputs) * n_vocab..];
        for (idx, (logit, expected)) in found.iter().zip(expected).enumerate() {
            let is_asked = ids.contains(&((idx % n_vocab) as u32));
            let is_same = logit.to_bits() == expected.to_bits();
            assert!(is_same || !is_asked && *logit == 0.0, "{idx}: {logit}, not {expected}");
        }
    }
}

/// Every size of a decode step, each sequence with its own token: what a step of many holds.
#[test]
fn any_number_of_sequences_changes_no_bit() {
    const LEN: usize = 5;
    let gguf = Gguf::open(&testkit::smollm2()).unwrap();
    let model = open(&gguf, Isa::detect(), 2);
    let n_vocab = model.config().n_vocab;
    let all = tokens(16 * LEN, n_vocab);
    let alone: Vec<_> = all.chunks(LEN).map(|own| logits_in_chunks(&model, own, LEN)).collect();
    let pages: [[u32; 1]; 16] = std::array::from_fn(|i| [15 - i as u32]);
    // One pool for all, so that each batch runs on pages that another has used.
    let (mut kv, mut scratch) = (KvPool::new(model.kv_shape(), 16), Scratch::new());
    for n_sequences in (1..=16).rev() {
        for (start, len) in [(0, LEN - 1), (LEN - 1, 1)] {
            let slices = all.chunks(LEN).zip(&pages).take(n_sequences).map(|(own, pages)| Slice {
                tokens: &own[start..start + len],
                start_pos: start as u32,
                pages,
                logits: LogitsFor::All,
            });
            let batch: Vec<_> = slices.collect();
            let logits = model.forward(&batch, &mut kv, &mut scratch).chunks(len * n_vocab);
            for (idx, (logits, alone)) in logits.zip(&alone).enumerate() {
                let expected = &alone[start * n_vocab..(start + len) * n_vocab];
                assert_same_bits(logits, expected, &format!("{idx} of {n_sequences}"));
            }
        }
    }
}

/// A guess that was wrong is overwritten: the cache of its position, and of those behind it, is of
/// no influence. Nor is what another sequence left in the pages.
#[test]
fn used_pages_and_wrong_guesses_change_no_bit() {
    const N_PROMPT: usize = 56;
    let gguf = Gguf::open(&testkit::smollm2()).unwrap();
    let model = open(&gguf, Isa::detect(), 2);
    let n_vocab = model.config().n_vocab;
    let all = tokens(N_TOKENS, n_vocab);
    let expected = logits_in_chunks(&model, &all, N_TOKENS);
    let (mut kv, mut scratch) = (KvPool::new(model.kv_shape(), 2), Scratch::new());
    let mut feed = |tokens: &[u32], start_pos: usize| {
        let pages = &[1, 0];
        let slice = Slice { tokens, start_pos: start_pos as u32, pages, logits: LogitsFor::All };
        model.forward(&[slice], &mut kv, &mut scratch).to_vec()
    };
    let other: Vec<u32> = all.iter().rev().copied().cycle().take(128).collect();
    feed(&other, 0);
    let logits = feed(&all[..N_PROMPT], 0);
    assert_same_bits(&logits, &expected[..N_PROMPT * n_vocab], "the prompt");
    for pos in N_PROMPT..N_TOKENS {
        let mut guessed = all[pos..].to_vec();
        // The token, some right guesses and some wrong ones, over the border of a page.
        guessed.resize(8.max(guessed.len()), 3);
        guessed.truncate(1 + pos % 8);
        let n_right = guessed.len().div_ceil(2).min(N_TOKENS - pos);
        guessed[n_right..].iter_mut().for_each(|token| *token = 11);
        let logits = feed(&guessed, pos);
        let expected = &expected[pos * n_vocab..(pos + n_right) * n_vocab];
        assert_same_bits(&logits[..n_right * n_vocab], expected, &format!("position {pos}"));
    }
}
