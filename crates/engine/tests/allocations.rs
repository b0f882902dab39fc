//! What decoding allocates: nothing but the event that the receiver gets, which owns its text and
//! its tokens. A test binary of its own, because it counts for the whole process.

use freehold_engine::{Engine, EngineOptions, Event, Request, Sampling, Speculation};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The text and the list of tokens.
const N_PER_EVENT: usize = 2;

fn n_allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Allocations from the event that ends the answer's first half to the last, and the events
/// between.
fn count(engine: &Engine, request: Request) -> (usize, usize) {
    const N_EVENTS_MAX: usize = 1024;
    let counts: Arc<[AtomicUsize; N_EVENTS_MAX]> =
        Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
    let (done, is_done) = mpsc::channel();
    let (sink, mut n_events) = (Arc::clone(&counts), 0);
    let on_event = move |event| match event {
        Event::Text { .. } => {
            sink[n_events].store(n_allocations(), Ordering::Relaxed);
            n_events += 1;
        }
        Event::Done(_) => done.send(n_events).expect("the test waits"),
        other => panic!("nobody asked for {other:?}"),
    };
    engine.submit(request, on_event).expect("the request is good");
    let n_events = is_done.recv().expect("the engine ends every request");
    let at = |idx: usize| counts[idx].load(Ordering::Relaxed);
    let middle = n_events / 2;
    // What happens on the way from one event to the next makes the next.
    (at(n_events - 1) - at(middle), n_events - 1 - middle)
}

#[test]
fn decoding_allocates_the_events_alone() {
    let sampled = Sampling { temperature: 0.8, top_p: 0.9, seed: Some(3), ..Sampling::default() };
    let top_k = Sampling { top_k: 40, min_p: 0.05, ..sampled.clone() };
    let penalty = Sampling { repetition_penalty: 1.1, ..top_k.clone() };
    for speculation in [Speculation::Off, Speculation::PromptLookup] {
        let options = EngineOptions {
            n_ctx: Some(512),
            max_sequences: 1,
            speculation,
            ..EngineOptions::default()
        };
        let engine = Engine::open(&testkit::smollm2(), &options).expect("the model opens");
        for sampling in [Sampling::default(), sampled.clone(), top_k.clone(), penalty.clone()] {
            let request = Request {
                prompt: engine.text_prompt("one two three four five six one two three four five"),
                max_tokens: Some(96),
                sampling: sampling.clone(),
                ignore_eos: true,
                ..Request::default()
            };
            // Once for the buffers to grow to what this answer needs.
            count(&engine, request.clone());
            let (n_found, n_events) = count(&engine, request);
            assert!(n_events > 20, "{n_events} events");
            let n_expected = n_events * N_PER_EVENT;
            // The penalties' list of distinct tokens may grow once in that time.
            let n_most = n_expected + usize::from(sampling.repetition_penalty != 1.0);
            assert!(
                (n_expected..=n_most).contains(&n_found),
                "{n_found} allocations for {n_events} events, {speculation:?}, {sampling:?}"
            );
        }
    }
}
