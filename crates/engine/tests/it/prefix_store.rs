//! Prompts kept over restarts, on the real default model: the same answers, bit for bit.

use freehold_engine::{
    CacheScope, Engine, EngineOptions, Event, PrefixStore, Request, Sampling, Speculation,
};
use kernels::{KvFormat, KvShape};
use std::path::Path;

fn open(format: KvFormat, store: Option<PrefixStore>) -> Engine {
    let options = EngineOptions {
        n_ctx: Some(1024),
        kv_cache_bytes: Some(64 << 20),
        kv_format: format,
        speculation: Speculation::Off,
        prefix_store: store,
        ..EngineOptions::default()
    };
    Engine::open(&testkit::smollm2(), &options).expect("the default model opens")
}

fn store(folder: &Path) -> PrefixStore {
    PrefixStore::open(&folder.join("cache"), 1 << 30, |line| panic!("{line}"))
        .expect("the folder can be used")
}

/// Every token with the bits of its log-probability, and how many tokens were not computed.
fn run(engine: &Engine, request: &Request) -> (Vec<(u32, u32)>, u32) {
    let (mut all, mut n_reused) = (Vec::new(), 0);
    for event in engine.generate(request.clone()).expect("the request is good") {
        match event {
            Event::Text { tokens, .. } => all.extend(
                tokens
                    .into_iter()
                    .map(|token| (token.id, token.logprob.expect("it was asked for").to_bits())),
            ),
            Event::Done(done) => n_reused = done.n_reused,
            other => panic!("nobody asked for {other:?}"),
        }
    }
    (all, n_reused)
}

#[test]
fn an_answer_after_a_restart_has_the_bits_of_one_computed_cold() {
    let text = "The river rose in the night and took the bridge with it. ".repeat(40);
    for format in KvFormat::ALL {
        let cold = open(format, None);
        let request = |more: &str, max_tokens| Request {
            prompt: cold.text_prompt(&format!("{text}{more}")),
            max_tokens: Some(max_tokens),
            sampling: Sampling { temperature: 0.7, seed: Some(3), ..Sampling::default() },
            logprobs: Some(0),
            ignore_eos: true,
            cache: CacheScope::Lasting(1),
            ..Request::default()
        };
        let (first, next) = (request("", 80), request(" Then", 24));
        let (expected, n_reused) = run(&cold, &next);
        assert_eq!((expected.len(), n_reused), (24, 0));

        let folder = tempfile::tempdir().expect("a temporary folder");
        // The pages of the answer are kept too; that ends within a page.
        let (answer, _) = run(&open(format, Some(store(folder.path()))), &first);
        let n_pages = (first.prompt.len() + answer.len() - 1) / 64;
        let engine = open(format, Some(store(folder.path())));
        let (found, n_reused) = run(&engine, &next);
        assert_eq!(found, expected, "{}", format.name());
        assert_eq!(n_reused as usize, (first.prompt.len() - 1) / 64 * 64);
        assert!(n_reused > 400);
        // The conversation goes on where it ended.
        let mut longer = first.clone();
        longer.prompt.extend(answer.iter().map(|(id, _)| id));
        let (found, n_reused) = run(&engine, &longer);
        assert_eq!(n_reused as usize, n_pages * 64);
        assert_eq!(found, run(&cold, &longer).0);
        drop(engine);
        // Pages on their way are part of the plan: three out, three in.
        let engine = open(format, Some(store(folder.path())));
        let more = engine.info().scratch_bytes - cold.info().scratch_bytes;
        let page_bytes = KvShape { n_layers: 30, n_kv_heads: 3, head_dim: 64, format }.page_bytes();
        assert!(more / 6 > page_bytes as u64 && more / 6 < page_bytes as u64 + 1024, "{more}");
        drop(engine);
        // Another form of the cache finds nothing there, and keeps its own beside it.
        let other = KvFormat::ALL.into_iter().find(|&other| other != format);
        let engine = open(other.expect("there are two"), Some(store(folder.path())));
        assert_eq!(run(&engine, &next).1, 0);
    }
}
