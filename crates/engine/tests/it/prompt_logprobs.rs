//! Log-probabilities of prompts on the real default model, against the pass that gives every row.

use freehold_engine::{
    Engine, EngineError, EngineOptions, Event, FinishReason, Request, Speculation, TokenInfo,
};
use gguf::Gguf;
use kernels::{Cpu, Isa, KvPool};
use model::{LogitsFor, Model, Scratch, Slice};
use std::sync::Arc;

const N_TOP: usize = 3;

fn open(max_sequences: usize, kv_cache_bytes: u64) -> Engine {
    let options = EngineOptions {
        n_ctx: Some(512),
        max_sequences,
        kv_cache_bytes: Some(kv_cache_bytes),
        speculation: Speculation::Off,
        ..EngineOptions::default()
    };
    Engine::open(&testkit::smollm2(), &options).expect("the default model opens")
}

/// Rows of logits behind each token, all from one pass over `tokens`.
fn all_logits(tokens: &[u32]) -> Vec<Vec<f32>> {
    let gguf = Gguf::open(&testkit::smollm2()).expect("the default model is a GGUF file");
    let cpu = Arc::new(Cpu::new(Isa::from_env().expect("a known instruction set"), 2));
    let model = Model::load(&gguf, cpu).expect("the default model loads");
    let mut kv = KvPool::new(model.kv_shape(), 8);
    let pages: Vec<u32> = (0..8).collect();
    let slice = Slice { tokens, start_pos: 0, pages: &pages, logits: LogitsFor::All };
    let mut scratch = Scratch::new();
    let logits = model.forward(&[slice], &mut kv, &mut scratch);
    logits.chunks_exact(model.config().n_vocab).map(<[f32]>::to_vec).collect()
}

/// The prompt's tokens as reported, the answer's ids, and how it ended.
fn run(engine: &Engine, request: &Request) -> (Vec<TokenInfo>, Vec<u32>, FinishReason) {
    let (mut prompt, mut ids, mut end) = (Vec::new(), Vec::new(), None);
    for event in engine.generate(request.clone()).expect("the request is good") {
        match event {
            Event::Prompt { tokens } => {
                assert!(ids.is_empty(), "the prompt comes first");
                prompt.extend(tokens);
            }
            Event::Text { tokens, .. } => ids.extend(tokens.iter().map(|token| token.id)),
            Event::Part { part, .. } => panic!("nobody asked for {part:?}"),
            Event::Done(done) => end = Some(done.reason),
        }
    }
    (prompt, ids, end.expect("the events end with `Done`"))
}

fn check(found: &[TokenInfo], tokens: &[u32], logits: &[Vec<f32>]) {
    assert_eq!(found.iter().map(|token| token.id).collect::<Vec<_>>(), tokens);
    assert_eq!((found[0].logprob, found[0].top.len()), (None, 0));
    for (token, row) in found[1..].iter().zip(logits) {
        let max = row.iter().fold(f32::MIN, |max, &logit| max.max(logit));
        let sum: f64 = row.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        let expected = |id: u32| f64::from(row[id as usize] - max) - sum.ln();
        let is_near = |id: u32, found: f32| (f64::from(found) - expected(id)).abs() < 1e-4;
        assert!(is_near(token.id, token.logprob.expect("all but the first have one")), "{token:?}");
        assert_eq!(token.top.len(), N_TOP);
        let mut all: Vec<u32> = (0..row.len() as u32).collect();
        all.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
        for (&(id, logprob), expected) in token.top.iter().zip(all) {
            assert!(id == expected && is_near(id, logprob), "{token:?}, expected {expected}");
        }
    }
}

#[test]
fn prompts_are_scored_as_by_the_pass_that_gives_every_row() {
    let engine = open(4, 64 << 20);
    let text = "It was the best of times, it was the worst of times, it was the age of wisdom. ";
    let long = engine.text_prompt(&text.repeat(11));
    assert!((200..256).contains(&long.len()), "{} tokens", long.len());
    let logits = all_logits(&long);
    for n_tokens in [1, 2, 63, 64, 65, 129, long.len()] {
        let prompt = &long[..n_tokens];
        for max_tokens in [0, 2] {
            let request = Request {
                prompt: prompt.to_vec(),
                max_tokens: Some(max_tokens),
                ignore_eos: true,
                prompt_logprobs: Some(N_TOP as u32),
                ..Request::default()
            };
            let (found, ids, end) = run(&engine, &request);
            check(&found, prompt, &logits);
            assert_eq!((ids.len(), end), (max_tokens as usize, FinishReason::Length));
            let unscored = Request { prompt_logprobs: None, ..request };
            assert_eq!(run(&engine, &unscored).1, ids);
        }
    }
}

#[test]
fn scoring_goes_beside_others_and_over_interruptions() {
    // Pages for little more than one context, so that some must give way.
    let engine = open(4, 1);
    let text = "Many hands make light work, and too many cooks spoil the broth. ";
    let prompts: Vec<Vec<u32>> =
        (0..4usize).map(|i| engine.text_prompt(&format!("{i} {}", text.repeat(6 + i)))).collect();
    let answers = prompts.iter().enumerate().map(|(i, prompt)| {
        let request = Request {
            prompt: prompt.clone(),
            max_tokens: Some(150),
            ignore_eos: true,
            prompt_logprobs: (i % 2 == 1).then_some(N_TOP as u32),
            ..Request::default()
        };
        engine.generate(request).expect("the request is good")
    });
    let answers: Vec<_> = answers.collect();
    let mut n_preempted = 0;
    for (i, events) in answers.into_iter().enumerate() {
        let mut found = Vec::new();
        for event in events {
            match event {
                Event::Prompt { tokens } => found.extend(tokens),
                Event::Done(done) => n_preempted += done.n_preempted,
                _ => {}
            }
        }
        match i % 2 {
            1 => check(&found, &prompts[i], &all_logits(&prompts[i])),
            _ => assert_eq!(found, []),
        }
    }
    assert!(n_preempted > 0, "nobody was interrupted");
}

#[test]
fn a_prompt_alone_may_fill_the_context() {
    let engine = open(1, 1);
    let request = |n_tokens: usize, max_tokens| Request {
        prompt: vec![100; n_tokens],
        max_tokens: Some(max_tokens),
        prompt_logprobs: Some(0),
        ..Request::default()
    };
    let (found, ids, end) = run(&engine, &request(512, 0));
    assert_eq!((found.len(), ids.len(), end), (512, 0, FinishReason::Length));
    for (n_tokens, max_tokens) in [(513, 0), (512, 1)] {
        let refused = engine.generate(request(n_tokens, max_tokens)).err();
        assert!(matches!(refused, Some(EngineError::ContextOverflow { n_ctx: 512, .. })));
    }
    let many = Request { prompt_logprobs: Some(21), ..request(2, 0) };
    let refused = engine.generate(many).err();
    assert!(
        matches!(refused, Some(EngineError::Invalid { field: "prompt_logprobs", .. })),
        "{refused:?}"
    );
}
