//! The engine on the real default model: what a caller sees, from opening to the last event.

use freehold_engine::{
    CacheScope, Done, Engine, EngineError, EngineOptions, Event, FinishReason, Request, Sampling,
    Speculation, TokenInfo,
};
use serde_json::{Map, json};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// One engine for all tests of this file, as a server has; they run against each other.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let options = EngineOptions {
            n_ctx: Some(512),
            kv_cache_bytes: Some(64 << 20),
            ..EngineOptions::default()
        };
        Engine::open(&testkit::smollm2(), &options).expect("the default model opens")
    })
}

fn chat(text: &str) -> Vec<u32> {
    let messages = json!([{"role": "user", "content": text}]);
    engine().chat_prompt(&messages, None, &Map::new()).expect("the template renders a question")
}

/// The text, the token ids and the end of a generation.
fn collect(events: impl Iterator<Item = Event>) -> (String, Vec<u32>, Done) {
    let (mut all_text, mut ids, mut end) = (String::new(), Vec::new(), None);
    for event in events {
        match event {
            Event::Text { text, tokens } => {
                all_text.push_str(&text);
                ids.extend(tokens.into_iter().map(|token| token.id));
            }
            Event::Done(done) => assert_eq!(end.replace(done), None, "a second `Done`"),
            other => panic!("nobody asked for {other:?}"),
        }
    }
    (all_text, ids, end.expect("the events end with `Done`"))
}

fn run(request: &Request) -> (String, Vec<u32>, Done) {
    collect(engine().generate(request.clone()).expect("the request is good"))
}

fn greedy(text: &str, max_tokens: u32) -> Request {
    Request { prompt: chat(text), max_tokens: Some(max_tokens), ..Request::default() }
}

fn warm(text: &str, max_tokens: u32, seed: u64) -> Request {
    let sampling = Sampling {
        temperature: 0.9,
        top_p: 0.95,
        repetition_penalty: 1.1,
        seed: Some(seed),
        ..Sampling::default()
    };
    Request { sampling, ..greedy(text, max_tokens) }
}

#[test]
fn answers_a_question() {
    let (text, ids, done) = run(&greedy("What is the capital of France? Answer briefly.", 64));
    assert!(text.contains("Paris"), "{text:?}");
    assert_eq!(done.reason, FinishReason::Stop);
    assert_eq!(done.n_generated as usize, ids.len() + 1, "the end token counts, but has no text");
    assert_eq!(engine().tokenizer().decode(&ids), text);
    assert!(done.time_to_first_token >= done.prefill && done.prefill > Duration::ZERO);
    let info = engine().info();
    assert_eq!((info.architecture.as_str(), info.n_ctx), ("llama", 512));
    assert_eq!(info.n_threads, std::thread::available_parallelism().map_or(1, |n| n.get()));
}

#[test]
fn every_request_gets_the_same_alone_or_with_others() {
    let long = "Tell me about rivers, lakes, seas and all other waters. ".repeat(25);
    let requests = [
        greedy("Write one sentence about the sea.", 24),
        warm("Write a very short story about a fox.", 40, 11),
        warm(&long, 16, 12),
        Request { stop: vec![" the".into()], ..warm("Why is the sky blue?", 40, 13) },
    ];
    assert!(requests[2].prompt.len() > 256, "one prompt takes more than a slice of a step");
    let alone: Vec<_> = requests.iter().map(run).collect();
    let together = requests.clone().map(|request| engine().generate(request).unwrap());
    for (generation, (text, ids, done)) in together.into_iter().zip(alone) {
        let (text_beside, ids_beside, done_beside) = collect(generation);
        assert_eq!((text_beside, ids_beside), (text, ids));
        assert_eq!(done_beside.reason, done.reason);
    }
}

/// Tokens with their log-probabilities, and the end.
fn tokens_of(events: impl Iterator<Item = Event>) -> (Vec<TokenInfo>, Done) {
    let (mut all, mut end) = (Vec::new(), None);
    for event in events {
        match event {
            Event::Text { tokens, .. } => all.extend(tokens),
            Event::Done(done) => end = Some(done),
            other => panic!("nobody asked for {other:?}"),
        }
    }
    (all, end.expect("the events end with `Done`"))
}

/// Requests whose answers repeat something, each of another kind.
fn repetitive_requests() -> Vec<Request> {
    let list = "Repeat this list: red apple, green pear, blue plum, red apple, green pear, ";
    let requests = [
        Request { logprobs: Some(2), ..greedy(list, 60) },
        Request { ignore_eos: true, ..greedy("Say it again and again: one two three", 90) },
        warm(list, 48, 21),
        Request { stop: vec!["plum".into(), "three t".into()], ..greedy(list, 60) },
        Request { max_tokens: Some(37), ignore_eos: true, ..warm("a b c a b c a b c a b", 37, 22) },
    ];
    let mut low = warm(list, 48, 23);
    low.sampling.repetition_penalty = 1.0;
    low.sampling.temperature = 0.3;
    low.logprobs = Some(0);
    requests.into_iter().chain([low]).collect()
}

#[test]
fn speculation_changes_no_answer() {
    let options = EngineOptions {
        n_ctx: Some(512),
        kv_cache_bytes: Some(64 << 20),
        speculation: Speculation::Off,
        ..EngineOptions::default()
    };
    let plain = Engine::open(&testkit::smollm2(), &options).unwrap();
    let mut n_accepted = 0;
    let expected: Vec<_> = repetitive_requests()
        .into_iter()
        .map(|request| tokens_of(plain.generate(request).unwrap()))
        .collect();
    let check = |found: (Vec<TokenInfo>, Done), expected: &(Vec<TokenInfo>, Done)| {
        assert_eq!(found.0, expected.0);
        assert_eq!(found.1.reason, expected.1.reason);
        assert_eq!(found.1.n_generated, expected.1.n_generated);
        assert_eq!(expected.1.n_drafted, 0);
        found.1.n_accepted
    };
    for (request, expected) in repetitive_requests().into_iter().zip(&expected) {
        n_accepted += check(tokens_of(engine().generate(request).unwrap()), expected);
    }
    let together = repetitive_requests().into_iter().map(|r| engine().generate(r).unwrap());
    for (generation, expected) in together.collect::<Vec<_>>().into_iter().zip(&expected) {
        check(tokens_of(generation), expected);
    }
    let has_drafts = engine().info().isa != kernels::Isa::Portable;
    assert!(!has_drafts || n_accepted > 50, "{n_accepted} guesses were right");
}

#[test]
fn pages_of_others_and_the_size_of_the_batch_change_no_answer() {
    let request =
        |i: u32| warm(&format!("Tell me the story number {i}."), 6 + i % 3, 30 + u64::from(i));
    let alone: Vec<_> = (0..16).map(|i| run(&request(i)).1).collect();
    for n_sequences in [2, 3, 5, 9, 16] {
        let together: Vec<_> =
            (0..n_sequences).map(|i| engine().generate(request(i)).unwrap()).collect();
        for (generation, alone) in together.into_iter().zip(&alone) {
            assert_eq!(&collect(generation).1, alone, "{n_sequences} sequences");
        }
    }
    // A cache of one context: every answer is made in the pages of the one before.
    let options = EngineOptions {
        n_ctx: Some(192),
        max_sequences: 1,
        kv_cache_bytes: Some(0),
        ..EngineOptions::default()
    };
    let narrow = Engine::open(&testkit::smollm2(), &options).unwrap();
    for i in [0, 1, 0, 2, 0] {
        let found = collect(narrow.generate(request(i)).unwrap());
        assert_eq!(&found.1, &alone[i as usize]);
        let filler = Request { prompt: vec![40 + i; 180], ..request(9) };
        collect(narrow.generate(filler).unwrap());
    }
}

/// Hit or miss, in a pool so small that sequences lose their pages: the same bits of the same
/// log-probabilities.
#[test]
fn the_cache_and_its_want_of_pages_change_no_answer() {
    let story = "Once there was a king who had three sons, and he loved all of them. ".repeat(9);
    let requests: Vec<_> = (0..4)
        .map(|i| {
            let mut request = warm(&format!("{story} Question {i}?"), 100, 70 + i);
            request.ignore_eos = true;
            request.logprobs = Some(3);
            if i % 2 == 1 {
                // Parts ways at the first token, so that it takes pages of its own.
                request.prompt.insert(0, 40 + i as u32);
            }
            request
        })
        .collect();
    let alone: Vec<_> = requests
        .iter()
        .map(|request| Request { cache: CacheScope::Off, ..request.clone() })
        .map(|request| tokens_of(engine().generate(request).unwrap()))
        .collect();
    assert!(alone.iter().all(|(_, done)| done.n_reused == 0));
    for format in kernels::KvFormat::ALL {
        let options = EngineOptions {
            n_ctx: Some(512),
            kv_cache_bytes: Some(0),
            kv_format: format,
            ..EngineOptions::default()
        };
        let narrow = Engine::open(&testkit::smollm2(), &options).unwrap();
        let off = |r: &Request| Request { cache: CacheScope::Off, ..r.clone() };
        let expected: Vec<_> = match format {
            kernels::KvFormat::F16 => alone.clone(),
            kernels::KvFormat::Q8 => requests
                .iter()
                .map(|request| tokens_of(narrow.generate(off(request)).unwrap()))
                .collect(),
        };
        let (mut n_reused, mut n_preempted) = (0, 0);
        let together: Vec<_> =
            requests.iter().map(|r| narrow.generate(r.clone()).unwrap()).collect();
        for (generation, expected) in together.into_iter().zip(&expected) {
            let (tokens, done) = tokens_of(generation);
            assert_eq!(tokens, expected.0);
            n_reused += done.n_reused;
            n_preempted += done.n_preempted;
        }
        // Finds what those before left.
        let (tokens, done) = tokens_of(narrow.generate(requests[0].clone()).unwrap());
        assert_eq!(tokens, expected[0].0);
        assert!(done.n_matched >= done.n_reused && done.n_reused < done.n_prompt);
        let is_tested = n_reused > 100 && n_preempted > 0;
        assert!(is_tested, "{n_reused} reused, {n_preempted} put back");
    }
}

#[test]
fn a_drawn_seed_is_reported_and_gives_the_same_answer_again() {
    let mut request = warm("Name an animal.", 24, 0);
    request.sampling.seed = None;
    let (text, ids, done) = run(&request);
    request.sampling.seed = Some(done.seed);
    let (text_again, ids_again, done_again) = run(&request);
    assert_eq!((text_again, ids_again, done_again.seed), (text, ids, done.seed));
}

#[test]
fn threads_do_not_change_the_answer() {
    let options = |n_threads| EngineOptions {
        n_threads: Some(n_threads),
        n_ctx: Some(256),
        max_sequences: 1,
        ..EngineOptions::default()
    };
    let request = warm("Describe the moon.", 24, 5);
    let (text, ids, _) = run(&request);
    for n_threads in [1, 3] {
        let other = Engine::open(&testkit::smollm2(), &options(n_threads)).unwrap();
        let found = collect(other.generate(request.clone()).unwrap());
        assert_eq!((&found.0, &found.1), (&text, &ids), "{n_threads} threads");
    }
}

#[test]
fn stop_strings_end_the_text_right_before_them() {
    let request = greedy("Count from one to ten in words.", 64);
    let (whole, _, _) = run(&request);
    // Every short piece of the answer as a stop string, over token borders and within tokens.
    let starts: Vec<usize> = whole.char_indices().map(|(at, _)| at).skip(3).take(24).collect();
    for start in starts.into_iter().step_by(5) {
        let stop: String = whole[start..].chars().take(5).collect();
        let found = run(&Request { stop: vec![stop.clone()], ..request.clone() });
        let expected = &whole[..whole.find(&stop).expect("it was cut out of the text")];
        assert_eq!((found.0.as_str(), found.2.reason), (expected, FinishReason::StopString(stop)));
    }
}

#[test]
fn generation_ends_at_max_tokens_and_at_the_end_of_the_context() {
    let (_, ids, done) = run(&Request { ignore_eos: true, ..greedy("Hi", 5) });
    assert_eq!((done.reason, done.n_generated, ids.len()), (FinishReason::Length, 5, 5));

    let request = Request {
        prompt: [chat("Hi"), vec![30; 470]].concat(),
        ignore_eos: true,
        max_tokens: Some(100_000),
        ..Request::default()
    };
    let (_, _, done) = run(&request);
    assert_eq!((done.reason, done.n_prompt + done.n_generated), (FinishReason::Length, 512));
}

#[test]
fn prompts_that_do_not_fit_are_refused_with_both_numbers() {
    let request = Request { prompt: vec![30; 600], ..Request::default() };
    match engine().generate(request) {
        Err(EngineError::ContextOverflow { n_prompt: 600, n_ctx: 512 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancelling_ends_a_request_soon() {
    let request = Request { ignore_eos: true, ..greedy("Tell me a long story.", 400) };
    let mut generation = engine().generate(request).unwrap();
    assert!(matches!(generation.next(), Some(Event::Text { .. })));
    generation.handle().cancel();
    let (_, _, done) = collect(generation);
    assert_eq!(done.reason, FinishReason::Cancelled);
    assert!(done.n_generated < 200, "{done:?}");
}

#[test]
fn dropping_a_generation_frees_its_seat() {
    let options = EngineOptions { max_sequences: 1, n_ctx: Some(2048), ..EngineOptions::default() };
    let one_seat = Engine::open(&testkit::smollm2(), &options).unwrap();
    let endless = Request { ignore_eos: true, max_tokens: None, ..greedy("Hi", 1) };
    let began = Instant::now();
    let mut first = one_seat.generate(endless.clone()).unwrap();
    assert!(matches!(first.next(), Some(Event::Text { .. })));
    let second = one_seat.generate(greedy("Say hello.", 4)).unwrap();
    drop(first);
    // The engine lives on in its generation.
    drop(one_seat);
    let (_, _, done) = collect(second);
    assert_eq!(done.n_generated, 4);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn log_probabilities_come_with_their_tokens() {
    let request = Request { logprobs: Some(3), ..greedy("What is two plus two?", 8) };
    let mut n_tokens = 0;
    for event in engine().generate(request).unwrap() {
        let Event::Text { tokens, .. } = event else { continue };
        for token in tokens {
            n_tokens += 1;
            let logprob = token.logprob.expect("they were asked for");
            assert!(logprob <= 0.0 && logprob.is_finite());
            // Greedy takes the likeliest.
            assert_eq!(token.top.first(), Some(&(token.id, logprob)));
            assert_eq!(token.top.len(), 3);
            assert!(token.top.is_sorted_by(|a, b| a.1 >= b.1));
        }
    }
    assert!(n_tokens > 0);
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_it_is_loaded() {
    let options = EngineOptions { memory_limit_bytes: Some(100 << 20), ..EngineOptions::default() };
    let error = Engine::open(&testkit::smollm2(), &options).expect_err("100 MiB are too few");
    let EngineError::NotEnoughMemory(shortage) = &error else { panic!("{error:?}") };
    assert_eq!(shortage.available_bytes, 100 << 20);
    assert_eq!(shortage.need.weight_bytes, engine().info().weight_bytes);
    assert!(shortage.need.kv_bytes > 0 && shortage.need.scratch_bytes > 0, "{shortage:?}");
}

#[test]
fn options_out_of_range_are_refused() {
    let check = |options: EngineOptions, expected: &str| {
        let error = Engine::open(&testkit::smollm2(), &options).expect_err(expected);
        assert!(error.to_string().starts_with(expected), "{error}");
    };
    let default = EngineOptions::default;
    check(EngineOptions { n_threads: Some(0), ..default() }, "n_threads: 0, expected 1 to 256");
    check(EngineOptions { n_ctx: Some(1), ..default() }, "n_ctx: 1, expected 2 to ");
    check(EngineOptions { n_ctx: Some(u32::MAX), ..default() }, "n_ctx: 4294967295, expected 2 to");
    check(
        EngineOptions { max_sequences: 257, ..default() },
        "max_sequences: 257, expected 1 to 256",
    );
}

#[test]
fn base_models_complete_text_and_do_not_chat() {
    let Some(path) = testkit::gemma3() else {
        println!("skipped: no gemma3 here (set FREEHOLD_TEST_GEMMA to fetch it)");
        return;
    };
    let options = EngineOptions { n_ctx: Some(128), max_sequences: 1, ..EngineOptions::default() };
    let gemma = Engine::open(&path, &options).unwrap();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    match gemma.chat_prompt(&messages, None, &Map::new()) {
        Err(EngineError::NoChatTemplate) => {}
        other => panic!("{other:?}"),
    }
    let prompt = gemma.text_prompt("In 1969, the first humans landed on");
    assert_eq!(prompt.first().copied(), gemma.tokenizer().bos(), "gemma wants its BOS");
    let request = Request { prompt, max_tokens: Some(4), ..Request::default() };
    let (text, _, _) = collect(gemma.generate(request).unwrap());
    assert!(text.contains("the moon"), "{text:?}");
}
