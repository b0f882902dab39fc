//! The step loop under a seeded simulator: arrivals, cancels, too few pages, broken passes.
//!
//! The simulated pass keeps the tokens themselves in its pages and derives the logits from all
//! that it reads back through a page table. So a page that two sequences write, a position left
//! out, a guess taken for a token or a row given to the wrong sequence changes what comes out.

use super::*;
use crate::answer::Listener;
use crate::philox::uniform;
use crate::queue::Submission;
use crate::request::{
    CacheScope, Done, Dry, Event, Mirostat, Priority, Request, Sampling, TokenInfo,
};
use gguf::{Gguf, write::Writer};
use kernels::{Isa, KvFormat, KvShape};
use model::LogitsFor;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use text::{Constraint, Constraints, Grammar};

const N_VOCAB: usize = 257;
/// A row is longer than the vocabulary, as padded embeddings make it.
const N_LOGITS: usize = 260;
const END: u32 = 256;
/// A token in a batch at which the simulated pass panics; one after which its logits are NaN.
const PANICS: u32 = 254;
const NO_NUMBER: u32 = 255;

/// Bytes as tokens, written as GPT-2 writes them, and an end.
fn tokenizer() -> Arc<Tokenizer> {
    let is_plain = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256u32;
    let letters = (0..=255u8).map(|byte| match byte {
        byte if is_plain(&byte) => char::from(byte),
        _ => char::from_u32((next, next += 1).0).unwrap(),
    });
    let tokens = letters.map(String::from).chain(["<|im_end|>".to_string()]);
    let mut writer = Writer::new();
    writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", tokens.collect::<gguf::Strings>())
        .metadata("tokenizer.ggml.token_type", [vec![1i32; 256], vec![3]].concat())
        .metadata("tokenizer.ggml.merges", std::iter::empty::<&str>().collect::<gguf::Strings>())
        .metadata("tokenizer.ggml.eos_token_id", END);
    let gguf = Gguf::from_bytes(writer.finish().unwrap()).unwrap();
    Arc::new(Tokenizer::from_gguf(gguf.metadata()).unwrap())
}

/// What the store is told of the simulated pages, which are smaller.
const SHAPE: KvShape = KvShape { n_layers: 1, n_kv_heads: 1, head_dim: 16, format: KvFormat::F16 };

/// The simulated pass.
struct Simulated {
    /// The token at each position of each page.
    slots: Vec<u32>,
    logits: Vec<f32>,
    /// Of the last pass.
    n_rows: usize,
    /// What each of them takes.
    row_time: Duration,
}

impl Simulated {
    /// What a pass takes.
    fn pass_time(&self) -> Duration {
        Duration::from_micros(4000) + self.row_time * self.n_rows as u32
    }
}

impl Forward for Simulated {
    fn forward(&mut self, batch: &[Slice<'_>]) {
        let mut written = HashSet::new();
        for slice in batch {
            let (start, end) =
                (slice.start_pos as usize, slice.start_pos as usize + slice.tokens.len());
            let pages = &slice.pages[start / PAGE_LEN..end.div_ceil(PAGE_LEN)];
            assert!(pages.iter().all(|page| written.insert(page)), "a page has two writers");
        }
        for slice in batch {
            let read = &slice.pages[..slice.start_pos as usize / PAGE_LEN];
            assert!(read.iter().all(|page| !written.contains(page)), "a shared page is written");
        }
        self.n_rows = batch.iter().map(|slice| slice.tokens.len()).sum();
        self.logits.clear();
        for slice in batch {
            let slot =
                |pos: usize| slice.pages[pos / PAGE_LEN] as usize * PAGE_LEN + pos % PAGE_LEN;
            let start = slice.start_pos as usize;
            for (i, &token) in slice.tokens.iter().enumerate() {
                assert_ne!(token, PANICS, "the pass met token {token}");
                self.slots[slot(start + i)] = token;
            }
            let n_rows = match slice.logits {
                LogitsFor::None => 0,
                LogitsFor::Last => 1,
                LogitsFor::All => slice.tokens.len(),
                LogitsFor::From(first) => slice.tokens.len() - first,
            };
            let end = start + slice.tokens.len();
            for end in end - n_rows + 1..=end {
                let tokens = (0..end).map(|pos| self.slots[slot(pos)]);
                self.logits.extend(logits_after(tokens));
            }
        }
    }

    fn logits(&mut self, of: LogitsOf<'_>) -> &[f32] {
        if let LogitsOf::Ids(ids) = of {
            // What nobody asked for must not decide anything.
            for (idx, logit) in self.logits.iter_mut().enumerate() {
                let is_wanted = ids.contains(&((idx % N_LOGITS) as u32));
                *logit = if is_wanted || logit.is_nan() { *logit } else { 1e9 };
            }
        }
        &self.logits
    }

    fn n_logits(&self) -> usize {
        N_LOGITS
    }

    fn page_to_bytes(&self, page: u32, out: &mut Vec<u8>) {
        let slots = &self.slots[page as usize * PAGE_LEN..][..PAGE_LEN];
        out.extend(slots.iter().flat_map(|slot| slot.to_le_bytes()));
        out.resize(SHAPE.page_bytes(), 0);
    }

    fn page_from_bytes(&mut self, page: u32, bytes: &[u8]) {
        let slots = &mut self.slots[page as usize * PAGE_LEN..][..PAGE_LEN];
        for (slot, bytes) in slots.iter_mut().zip(bytes.as_chunks().0) {
            *slot = u32::from_le_bytes(*bytes);
        }
    }

    fn reset(&mut self) {
        self.slots.fill(u32::MAX);
    }

    fn duration(&self, _began: Instant) -> Duration {
        self.pass_time()
    }
}

/// Drawn from all that came before, with a pull to go round in a circle, as texts that repeat
/// themselves do.
fn logits_after(tokens: impl Iterator<Item = u32>) -> impl Iterator<Item = f32> {
    let (hash, last) = tokens.fold((7u64, 0), |(hash, _), token| {
        let hash = (hash ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        (hash, token)
    });
    (0..N_LOGITS as u64).map(move |id| match id as usize {
        _ if last == NO_NUMBER => f32::NAN,
        // Beyond the vocabulary, where nobody may look.
        N_VOCAB.. => 1e9,
        // So that answers have some thirty tokens, and broken tokens come from prompts.
        id if id == END as usize => [0.0, 30.0][usize::from(hash % 32 == 0)],
        id if id >= PANICS as usize => -100.0,
        _ if id == pulled(last) => uniform(hash, id) as f32 * 12.0 + 11.0,
        _ => uniform(hash, id) as f32 * 12.0,
    })
}

/// Where the pull goes: six letters in a circle, and one that stays.
fn pulled(last: u32) -> u64 {
    97 + u64::from(last) % 7 * 3 % 7
}

type Events = Arc<Mutex<Vec<Event>>>;

/// One request of a simulation.
struct Client {
    events: Events,
    cancelled: Arc<AtomicBool>,
}

fn new_worker(limits: Limits) -> Worker<Simulated> {
    let slots = vec![u32::MAX; limits.n_pages as usize * PAGE_LEN];
    let row_time = Duration::from_micros(300);
    let simulated = Simulated { slots, logits: Vec::new(), n_rows: 0, row_time };
    Worker::new(Arc::new(Queue::new(limits.max_waiting_tokens)), tokenizer(), simulated, limits)
}

const LIMITS: Limits = Limits {
    n_ctx: 640,
    n_vocab: N_VOCAB,
    max_sequences: 5,
    max_waiting_tokens: usize::MAX,
    n_pages: 17,
    cost: StepCost::NO_DRAFTS,
};

fn submit(queue: &Queue, request: &Request) -> Client {
    let events = Events::default();
    let cancelled = Arc::new(AtomicBool::new(false));
    let sink = Arc::clone(&events);
    let pushed = queue.push(Submission {
        request: request.clone(),
        seed: request.sampling.seed.unwrap(),
        listener: Listener::new(move |event| sink.lock().unwrap().push(event)),
        cancelled: Arc::clone(&cancelled),
        submitted_at: Instant::now(),
    });
    pushed.unwrap();
    Client { events, cancelled }
}

/// A request drawn from `seed`: short or long, greedy or warm, with or without stop strings.
fn random_request(seed: u64) -> Request {
    let number = |i: u64, n: usize| (uniform(seed, i) * n as f64) as usize;
    let n_prompt = 1 + [number(0, 8), number(0, 600)][number(1, 2)];
    let own = (0..n_prompt as u64).map(|i| number(100 + i, PANICS as usize) as u32);
    // Some begin as others do.
    let n_common = [0, number(11, 500), 500][number(10, 3)].min(n_prompt);
    let common = (0..n_common as u32).map(|i| i * 7 % 250);
    Request {
        prompt: common.chain(own.skip(n_common)).collect(),
        cache: [CacheScope::Shared, CacheScope::Shared, CacheScope::Key(5), CacheScope::Off]
            [number(12, 4)],
        priority: [Priority::Interactive, Priority::Batch][number(13, 2)],
        client: number(14, 3) as u64,
        deadline: None,
        max_tokens: [None, Some(1 + number(2, 100) as u32)][number(3, 2)],
        sampling: Sampling {
            temperature: number(4, 2) as f32 * 0.8,
            top_p: [1.0, 0.9][number(5, 2)],
            frequency_penalty: [0.0, 0.5][number(6, 2)],
            mirostat: (number(11, 5) == 0).then_some(Mirostat { tau: 3.0, eta: 0.1 }),
            dry: (number(12, 4) == 0).then(some_dry),
            xtc_probability: [0.0, 0.5][number(13, 2)],
            seed: Some(seed),
            ..Sampling::default()
        },
        stop: [vec![], vec!["e".to_string(), "\u{fffd}\u{fffd}".to_string()]][number(7, 2)].clone(),
        ignore_eos: number(8, 4) == 0,
        logprobs: [None, Some(2)][number(9, 2)],
        prompt_logprobs: [None, None, None, Some(1)][number(15, 4)],
        constraint: match number(8, 8) {
            6 => Some(some_letters()),
            7 => Some(some_skeleton()),
            _ => None,
        },
        min_tokens: [0, 20][number(10, 2)],
        ..Request::default()
    }
}

fn some_dry() -> Dry {
    Dry { multiplier: 0.8, base: 1.75, allowed_length: 2, range: None, breakers: vec![98] }
}

/// Few letters, some of those to which the simulated pass is pulled.
fn some_letters() -> Constraint {
    static CONSTRAINT: OnceLock<Constraint> = OnceLock::new();
    CONSTRAINT.get_or_init(|| compile("[abceg]{3,40}")).clone()
}

/// Mostly forced, with choices of some letters and of two words in between.
fn some_skeleton() -> Constraint {
    static CONSTRAINT: OnceLock<Constraint> = OnceLock::new();
    let pattern = r#"(\{"name": "[abcd]{1,9}", "kind of thing": "(good|gone)"\}\n){3}"#;
    CONSTRAINT.get_or_init(|| compile(pattern)).clone()
}

fn compile(pattern: &str) -> Constraint {
    let constraints = Constraints::new(tokenizer()).unwrap();
    constraints.compile(&Grammar::Regex(pattern.to_owned())).unwrap()
}

/// What is forced costs a row of a step, not a step, and never another answer.
#[test]
fn forced_pieces_come_in_one_step() {
    let (mut n_generated, mut n_accepted) = (0, 0);
    for seed in 0..40 {
        let plain = random_request(seed);
        let request = Request {
            constraint: Some(some_skeleton()),
            ignore_eos: false,
            max_tokens: None,
            stop: vec![],
            min_tokens: 0,
            prompt: plain.prompt[..1].to_vec(),
            ..plain
        };
        let alone = run_alone(&request);
        assert_eq!(alone.0.matches("\"kind of thing\": \"go").count(), 3, "{}", alone.0);
        for cost in [StepCost::of(Isa::Avx2), StepCost::of(Isa::Avx512), StepCost::free(40)] {
            let (text, tokens, done) = run_with(&request, cost);
            assert_eq!((&text, &tokens, &done.reason), (&alone.0, &alone.1, &alone.2.reason));
            n_generated += done.n_generated;
            n_accepted += done.n_accepted;
        }
    }
    assert!(n_accepted * 4 > n_generated * 3, "{n_accepted} of {n_generated} tokens were guessed");
}

#[test]
fn answers_stay_within_their_constraint() {
    for case in 0..60 {
        let request = Request { constraint: Some(some_letters()), ..random_request(case) };
        let (text, _, done) = run_alone(&Request { ignore_eos: false, stop: vec![], ..request });
        let n_letters = text.chars().filter(|letter| "abceg".contains(*letter)).count();
        assert_eq!(n_letters, text.len(), "{text:?}");
        match done.reason {
            FinishReason::Stop => assert!((3..=40).contains(&n_letters), "{text:?}"),
            FinishReason::Length => assert!(n_letters <= 40, "{text:?}"),
            FinishReason::Failed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What a client got, tokens of the prompt that it asked about first, the `Done` apart.
fn outcome(events: &Events) -> (String, Vec<TokenInfo>, Option<Done>) {
    let events = events.lock().unwrap();
    let (mut all_text, mut all_tokens) = (String::new(), Vec::new());
    let mut done = None;
    for event in &*events {
        assert_eq!(done, None, "an event after `Done`: {event:?}");
        match event.clone() {
            Event::Text { text, tokens } => {
                all_text.push_str(&text);
                all_tokens.extend(tokens);
            }
            Event::Prompt { tokens } => {
                assert!(all_text.is_empty(), "the prompt comes first");
                all_tokens.extend(tokens);
            }
            Event::Part { part, .. } => panic!("nobody asked for {part:?}"),
            Event::Done(end) => done = Some(end),
        }
    }
    (all_text, all_tokens, done)
}

/// Runs one request with the engine to itself, without drafts.
fn run_alone(request: &Request) -> (String, Vec<TokenInfo>, Done) {
    run_with(request, StepCost::NO_DRAFTS)
}

fn run_with(request: &Request, cost: StepCost) -> (String, Vec<TokenInfo>, Done) {
    let mut worker = new_worker(Limits { max_sequences: 1, cost, ..LIMITS });
    let client = submit(&worker.queue, request);
    while !matches!(outcome(&client.events), (_, _, Some(_))) {
        worker.step();
    }
    let (text, tokens, done) = outcome(&client.events);
    (text, tokens, done.unwrap())
}

/// Counts over the cases of a simulation, to see that it tests what it should.
#[derive(Default)]
struct Seen {
    n_accepted: u32,
    n_reused: u32,
    n_preempted: u32,
    n_ended: usize,
}

#[test]
fn any_load_gives_each_request_what_it_gets_alone() {
    let mut seen = Seen::default();
    for case in 0..12u64 {
        let cost = [StepCost::NO_DRAFTS, StepCost::of(Isa::Avx512), StepCost::free(16)];
        let mut worker = new_worker(Limits { cost: cost[case as usize % 3], ..LIMITS });
        let number =
            |step: u64, i: u64, n: usize| (uniform(case, step * 8 + i) * n as f64) as usize;
        let mut clients: Vec<(Request, Client)> = Vec::new();
        for step in 0.. {
            if step < 60 && number(step, 0, 3) == 0 {
                for i in 0..=number(step, 1, 3) as u64 {
                    let request = random_request(case << 32 | step << 8 | i);
                    clients.push((request.clone(), submit(&worker.queue, &request)));
                }
            }
            if number(step, 2, 12) == 0 && !clients.is_empty() {
                let (_, client) = &clients[number(step, 3, clients.len())];
                client.cancelled.store(true, Ordering::Relaxed);
            }
            worker.step();
            check_step(&worker, &clients);
            let is_idle = worker.running.is_empty() && worker.waiting.is_empty();
            if step >= 60 && is_idle && worker.queue.n_waiting() == 0 {
                break;
            }
            assert!(step < 20_000, "the load does not end");
        }
        assert_eq!(worker.pages.n_available(), worker.pages.n_pages());
        for (request, client) in &clients {
            check_against_alone(request, client);
            let done = outcome(&client.events).2.expect("it was checked");
            seen.n_accepted += done.n_accepted;
            seen.n_reused += done.n_reused;
            seen.n_preempted += done.n_preempted;
            seen.n_ended += 1;
        }
    }
    let Seen { n_accepted, n_reused, n_preempted, n_ended } = seen;
    assert!(n_accepted > 200 && n_ended > 300, "{n_accepted} guesses right, {n_ended} requests");
    assert!(n_reused > 2000 && n_preempted > 20, "{n_reused} reused, {n_preempted} put back");
}

/// What holds after each step.
fn check_step(worker: &Worker<Simulated>, clients: &[(Request, Client)]) {
    assert!(worker.running.len() <= LIMITS.max_sequences);
    assert!(worker.running.is_empty() || !worker.shares.is_empty(), "a step without work");
    worker.pages.check();
    let n_held: usize = worker.running.iter().map(Sequence::n_pages).sum();
    assert_eq!(worker.pages.n_uses(), n_held, "uses that no sequence has");
    let n_open = worker.running.len() + worker.waiting.len();
    let n_ended = clients.iter().filter(|(_, c)| outcome(&c.events).2.is_some()).count();
    assert_eq!(n_open + n_ended, clients.len(), "a request was lost or doubled");
    for (_, client) in clients {
        let is_cancelled = client.cancelled.load(Ordering::Relaxed);
        assert!(!is_cancelled || outcome(&client.events).2.is_some(), "a late cancel");
    }
}

/// Runs until everybody has an answer; returns the answers' ends.
fn run_all(worker: &mut Worker<Simulated>, clients: &[Client]) -> Vec<Done> {
    for n_steps in 0.. {
        let ends: Vec<_> = clients.iter().filter_map(|c| outcome(&c.events).2).collect();
        if ends.len() == clients.len() {
            return ends;
        }
        assert!(n_steps < 5000, "the requests do not end");
        worker.step();
    }
    unreachable!("the loop has no end");
}

fn prompt_of(n_tokens: u32, last: u32) -> Vec<u32> {
    (1..n_tokens).map(|i| i % 250).chain([last]).collect()
}

#[test]
fn a_prompt_seen_before_is_read_again_from_its_last_page() {
    let mut worker = new_worker(LIMITS);
    let mut reused = |request: &Request| {
        let client = submit(&worker.queue, request);
        let done = run_all(&mut worker, &[client]).remove(0);
        (done.n_reused, done.n_matched)
    };
    let long = request(&prompt_of(200, 9));
    assert_eq!(reused(&long), (0, 0));
    assert_eq!(reused(&long), (192, 192));
    assert_eq!(reused(&request(&prompt_of(200, 10))), (192, 192));
    // At a page's end the last token is computed again all the same.
    assert_eq!(reused(&request(&prompt_of(192, 192))), (128, 192));
    // The prompts part ways within the third page.
    let mut other = long.clone();
    other.prompt[150] = 251;
    assert_eq!(reused(&other), (128, 150));
    for cache in [CacheScope::Key(1), CacheScope::Off, CacheScope::Key(2)] {
        assert_eq!(reused(&Request { cache, ..long.clone() }), (0, 0));
    }
    assert_eq!(reused(&Request { cache: CacheScope::Key(1), ..long.clone() }), (192, 192));
    assert_eq!(reused(&Request { cache: CacheScope::Off, ..long }), (0, 0));
}

#[test]
fn requests_that_come_together_read_their_common_prompt_once() {
    let mut worker = new_worker(LIMITS);
    let requests: Vec<_> = (0..4).map(|last| request(&prompt_of(330, last))).collect();
    let clients: Vec<_> = requests.iter().map(|r| submit(&worker.queue, r)).collect();
    let ends = run_all(&mut worker, &clients);
    let reused: Vec<_> = ends.iter().map(|done| done.n_reused).collect();
    assert_eq!(reused, [0, 320, 320, 320]);
    for (request, client) in requests.iter().zip(&clients) {
        check_against_alone(request, client);
    }
    // When the first goes away, the second reads it.
    let clients: Vec<_> = (0..3)
        .map(|last| Request { cache: CacheScope::Key(1), ..request(&prompt_of(600, last)) })
        .map(|request| submit(&worker.queue, &request))
        .collect();
    worker.step();
    clients[0].cancelled.store(true, Ordering::Relaxed);
    let ends = run_all(&mut worker, &clients);
    assert_eq!(ends[0].reason, FinishReason::Cancelled);
    assert!(ends[1].n_reused < 320 && ends[2].n_reused == 576, "{ends:?}");
}

#[test]
fn interactive_requests_take_the_seats_of_batch_ones_and_these_go_on_later() {
    let mut worker = new_worker(Limits { max_sequences: 1, ..LIMITS });
    let batch = Request { priority: Priority::Batch, ..request(&prompt_of(100, 3)) };
    let slow = submit(&worker.queue, &batch);
    (0..4).for_each(|_| worker.step());
    let quick = request(&[5, 6]);
    let fast = submit(&worker.queue, &quick);
    (0..9).for_each(|_| worker.step());
    assert!(outcome(&fast.events).2.is_some() && outcome(&slow.events).2.is_none());
    let ends = run_all(&mut worker, &[slow, fast]);
    assert_eq!((ends[0].n_preempted, ends[1].n_preempted), (1, 0));
    let slow = submit(&worker.queue, &batch);
    // However many come, a batch request has its turn, and then nobody interrupts it.
    let many: Vec<_> = (0..40).map(|_| submit(&worker.queue, &quick)).collect();
    run_all(&mut worker, std::slice::from_ref(&slow));
    let n_before = many.iter().filter(|client| outcome(&client.events).2.is_some()).count();
    assert_eq!(n_before, 8);
    check_against_alone(&batch, &slow);
}

#[test]
fn a_request_whose_time_is_over_ends() {
    let mut worker = new_worker(Limits { max_sequences: 1, ..LIMITS });
    let endless = Request { ignore_eos: true, max_tokens: None, ..request(&[1, 2]) };
    let now = Instant::now();
    let soon = Some(now + Duration::from_millis(20));
    let running = submit(&worker.queue, &Request { deadline: soon, ..endless.clone() });
    let waiting = submit(&worker.queue, &Request { deadline: soon, ..endless });
    worker.step();
    assert_eq!(outcome(&waiting.events).2, None);
    std::thread::sleep(Duration::from_millis(25));
    worker.step();
    assert_eq!(outcome(&waiting.events).2.map(|done| done.reason), Some(FinishReason::Expired));
    let done = outcome(&running.events).2.expect("its time is over");
    assert_eq!((done.reason, done.n_generated), (FinishReason::Expired, 1));
}

/// While a long prompt is read, streams keep their rhythm but for few steps that get a prompt done,
/// and short prompts do not wait for it.
#[test]
fn a_long_prompt_stretches_no_stream() {
    let mut worker = new_worker(Limits { n_ctx: 4096, n_pages: 200, ..LIMITS });
    let stream = Request { ignore_eos: true, max_tokens: Some(900), ..request(&[1, 2]) };
    let stream = submit(&worker.queue, &stream);
    (0..20).for_each(|_| worker.step());
    let undisturbed = worker.forward.duration(Instant::now());
    let long = submit(&worker.queue, &request(&prompt_of(3000, 1)));
    let (mut short, mut n_stretched) = (None, 0);
    for n_steps in 0.. {
        worker.step();
        let stretch = worker.forward.duration(Instant::now()).div_duration_f64(undisturbed);
        n_stretched += usize::from(n_steps >= 10 && stretch >= 2.3);
        assert!(n_stretched <= 1 + n_steps / 24, "{n_stretched} of {n_steps}, {stretch}");
        if n_steps == 20 {
            short = Some(submit(&worker.queue, &request(&prompt_of(50, 200))));
        }
        if n_steps == 40 {
            let short = short.take().expect("it was submitted");
            assert!(outcome(&short.events).2.is_some(), "a short prompt waits for a long one");
        }
        if outcome(&long.events).2.is_some() {
            break;
        }
        assert!(outcome(&stream.events).2.is_none(), "the prompt takes too long");
    }
}

#[test]
fn drafts_change_nothing_but_the_number_of_steps() {
    let (mut n_drafted, mut n_accepted) = (0, 0);
    for case in 0..400 {
        let request = random_request(case);
        let plain = run_alone(&request);
        for max_rows in [2, 5, 16] {
            let (text, tokens, done) = run_with(&request, StepCost::free(max_rows));
            assert_eq!((&text, &tokens), (&plain.0, &plain.1), "case {case}, {max_rows} rows");
            assert_eq!(done.reason, plain.2.reason, "case {case}, {max_rows} rows");
            assert_eq!(done.n_generated, plain.2.n_generated, "case {case}, {max_rows} rows");
            assert!(done.n_accepted <= done.n_drafted && done.n_accepted < done.n_generated);
            n_drafted += done.n_drafted;
            n_accepted += done.n_accepted;
        }
    }
    assert!(n_accepted > 4000 && n_drafted > n_accepted, "{n_accepted} of {n_drafted}");
}

/// Each length ends a draft at another place: at the bound, before it and behind it.
#[test]
fn a_draft_ends_where_the_answer_ends() {
    let circle = [97, 101, 99, 100, 103, 98].repeat(10);
    let endless = Request { ignore_eos: true, ..request(&circle) };
    for max_tokens in 1..40 {
        let request = Request { max_tokens: Some(max_tokens), ..endless.clone() };
        let (_, tokens, done) = run_with(&request, StepCost::free(8));
        assert_eq!(tokens, run_alone(&request).1);
        assert_eq!((done.reason, done.n_generated), (FinishReason::Length, max_tokens));
    }
    for n_prompt in 600..640 {
        let prompt = [97, 101, 99, 100, 103, 98].repeat(110)[..n_prompt].to_vec();
        let request = Request { prompt, max_tokens: None, ..endless.clone() };
        let (_, tokens, done) = run_with(&request, StepCost::free(8));
        assert_eq!(tokens, run_alone(&request).1);
        assert_eq!((done.reason, tokens.len()), (FinishReason::Length, 640 - n_prompt));
    }
}

/// The row behind a guess that breaks the pass's numbers must not be looked at.
#[test]
fn what_comes_behind_a_wrong_guess_does_not_count() {
    // What mostly follows a 3, so that the draft of the next step begins with what followed it.
    let next = pulled(3) as u32;
    let mut n_drafted = 0;
    for id in 0..PANICS {
        let request = request(&[2, 3, next, NO_NUMBER, 1, 1, id, 2, 3]);
        let (_, tokens, done) = run_with(&request, StepCost::free(8));
        let (_, tokens_alone, done_alone) = run_alone(&request);
        assert_eq!((tokens, done.reason), (tokens_alone, done_alone.reason));
        n_drafted += done.n_drafted;
    }
    assert!(n_drafted > 100, "{n_drafted}");
}

/// A request that ran to its end got exactly what it gets alone, a cancelled one the beginning.
fn check_against_alone(request: &Request, client: &Client) {
    let (text, tokens, done) = outcome(&client.events);
    let done = done.expect("every request ends");
    let (text_alone, tokens_alone, done_alone) = run_alone(request);
    if done.reason == FinishReason::Cancelled {
        let whole = tokens_alone.get(..tokens.len());
        assert_eq!(whole, Some(&tokens[..]), "the cancelled answer parts ways");
        return;
    }
    assert_eq!((text, tokens), (text_alone, tokens_alone));
    assert_eq!(done.reason, done_alone.reason);
    assert_eq!(done.n_prompt, request.prompt.len() as u32);
    assert_eq!(done.n_generated, done_alone.n_generated);
    assert_eq!(Some(done.seed), request.sampling.seed);
    let n_max = request.max_tokens.unwrap_or(u32::MAX).min(640 - done.n_prompt);
    match done.reason {
        FinishReason::Length => assert_eq!(done.n_generated, n_max),
        FinishReason::Stop => assert!(!request.ignore_eos),
        FinishReason::StopString(stop) => assert!(request.stop.contains(&stop)),
        other => panic!("{other:?}"),
    }
}

fn request(prompt: &[u32]) -> Request {
    let sampling = Sampling { seed: Some(1), ..Sampling::default() };
    Request { prompt: prompt.to_vec(), max_tokens: Some(9), sampling, ..Request::default() }
}

#[test]
fn generation_ends_where_the_context_ends() {
    for n_prompt in [1, 63, 64, 65, 639] {
        let request =
            Request { max_tokens: Some(u32::MAX), ignore_eos: true, ..request(&vec![5; n_prompt]) };
        let (_, tokens, done) = run_alone(&request);
        assert_eq!((done.reason, tokens.len()), (FinishReason::Length, 640 - n_prompt));
    }
}

#[test]
fn logits_that_are_no_numbers_fail_their_request_only() {
    let mut worker = new_worker(LIMITS);
    let good = submit(&worker.queue, &request(&[1, 2]));
    let bad = submit(&worker.queue, &request(&[1, NO_NUMBER]));
    for _ in 0..12 {
        worker.step();
    }
    let (_, _, done) = outcome(&bad.events);
    let text = "the model's logit of token 0 is NaN, expected a finite number";
    assert_eq!(done.map(|done| done.reason), Some(FinishReason::Failed(text.to_string())));
    check_against_alone(&request(&[1, 2]), &good);
}

#[test]
fn a_receiver_that_panics_ends_its_own_request_only() {
    let mut worker = new_worker(LIMITS);
    let good = submit(&worker.queue, &request(&[1, 2]));
    let n_calls = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&n_calls);
    let pushed = worker.queue.push(Submission {
        request: Request { ignore_eos: true, ..request(&[3]) },
        seed: 0,
        listener: Listener::new(move |_| {
            *counter.lock().unwrap() += 1;
            panic!("a receiver of the tests");
        }),
        cancelled: Arc::default(),
        submitted_at: Instant::now(),
    });
    pushed.unwrap();
    for _ in 0..12 {
        worker.step();
    }
    assert_eq!(worker.pages.n_available(), worker.pages.n_pages());
    assert_eq!(n_calls.lock().map(|n| *n).unwrap_or_else(|poisoned| *poisoned.into_inner()), 1);
    check_against_alone(&request(&[1, 2]), &good);
}

/// Waits for the `Done` of a client whose worker runs on its own thread.
fn wait_for_done(client: &Client) -> FinishReason {
    loop {
        if let (_, _, Some(done)) = outcome(&client.events) {
            return done.reason;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_in_the_pass_fails_what_ran_and_serves_what_comes() {
    let worker = new_worker(LIMITS);
    let queue = Arc::clone(&worker.queue);
    let thread = std::thread::spawn(move || worker.run());
    for _ in 0..2 * MAX_PANICS {
        let bad = submit(&queue, &request(&[PANICS]));
        let reason = wait_for_done(&bad);
        let FinishReason::Failed(message) = reason else { panic!("{reason:?}") };
        assert!(message.starts_with("internal error: "), "{message}");
        assert!(message.contains("the pass met token 254"), "{message}");
        let good = submit(&queue, &request(&[1, 2]));
        wait_for_done(&good);
        check_against_alone(&request(&[1, 2]), &good);
    }
    queue.close();
    thread.join().unwrap();
}

#[test]
fn a_pass_that_only_panics_stops_the_engine() {
    let worker = new_worker(LIMITS);
    let queue = Arc::clone(&worker.queue);
    // Queued before the thread starts, and more than have seats, so that no step goes well.
    let bad: Vec<_> = (0..20).map(|_| submit(&queue, &request(&[PANICS]))).collect();
    worker.run();
    let reasons: Vec<_> = bad.iter().map(wait_for_done).collect();
    assert!(reasons[0..15].iter().all(|reason| matches!(reason, FinishReason::Failed(text)
        if text.starts_with("internal error"))));
    assert!(reasons[15..].iter().all(|reason| matches!(reason, FinishReason::Failed(text)
        if text.starts_with("the engine has stopped: 3 steps in a row panicked"))));
    let refused = queue.push(Submission {
        request: request(&[1]),
        seed: 0,
        listener: Listener::new(|_| {}),
        cancelled: Arc::default(),
        submitted_at: Instant::now(),
    });
    assert!(queue.is_stopped());
    let message = refused.expect_err("the engine has stopped").to_string();
    assert!(message.starts_with("the engine has stopped: 3 steps"), "{message}");
}

#[test]
fn closing_fails_what_runs_and_what_waits() {
    let mut worker = new_worker(Limits { max_sequences: 1, ..LIMITS });
    let clients = [1, 2].map(|id| submit(&worker.queue, &request(&[id])));
    worker.step();
    worker.queue.close();
    worker.run();
    for client in &clients {
        let closed = FinishReason::Failed("the engine has stopped: it was closed".to_string());
        assert_eq!(wait_for_done(client), closed);
    }
}

#[test]
fn a_panic_while_seating_fails_the_request_and_closes_its_account() {
    let mut worker = new_worker(LIMITS);
    let mut bad = request(&[9999]);
    bad.sampling.repetition_penalty = 1.5;
    let clients = [submit(&worker.queue, &request(&[1, 2])), submit(&worker.queue, &bad)];
    let panic = catch_unwind(AssertUnwindSafe(|| worker.step())).expect_err("no such token");
    worker.recover(&panic_message(&*panic));
    for client in &clients {
        let reason = outcome(&client.events).2.expect("it has ended").reason;
        assert!(matches!(reason, FinishReason::Failed(_)), "{reason:?}");
    }
    assert_eq!(worker.waiting.n_accounts(), 0);
    let good = submit(&worker.queue, &request(&[1, 2]));
    run_all(&mut worker, std::slice::from_ref(&good));
    check_against_alone(&request(&[1, 2]), &good);
}

#[path = "keeper_tests.rs"]
mod keeper;

#[path = "fairness_tests.rs"]
mod fairness;

#[path = "turns_tests.rs"]
mod turns;
