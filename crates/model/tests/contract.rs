//! The numerics contract on the real default model: the same tokens give the same bits, whatever
//! the threads, the split of the prompt, the instruction set and the company in the batch.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test reports by panics and figures

mod support;

use freehold_model::{LogitsFor, Model, Scratch, Slice};
use gguf::Gguf;
use kernels::{Cpu, Isa, KvPool};
use std::sync::Arc;
use support::{assert_same_bits, logits_in_chunks, tokens};

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
