//! Turns on real threads, and two real models that take them.

use super::*;
use crate::{Embedder, Engine, EngineOptions, Event, FinishReason, Fleet, FleetModel};
use crate::{Generation, Keep, Opened, Request};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

#[test]
fn turns_are_one_at_a_time_and_end_with_a_panic() {
    let cores = Cores::new(2);
    let n_inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for n_threads in [2, 3, 2] {
            let member = Arc::new(cores.join(n_threads));
            let n_inside = &n_inside;
            scope.spawn(move || {
                for step in 0..300 {
                    let panics = step % 100 == 99;
                    let step = || {
                        let _turn = member.take(Priority::Interactive).unwrap();
                        assert_eq!(n_inside.fetch_add(1, Ordering::SeqCst), 0);
                        assert_eq!(n_inside.fetch_sub(1, Ordering::SeqCst), 1);
                        assert!(!panics, "as the test wants it");
                    };
                    let ended = catch_unwind(AssertUnwindSafe(step));
                    assert_eq!(ended.is_err(), panics);
                }
                member.rest();
            });
        }
    });
    assert!(!cores.has_waiting());
}

#[test]
fn one_that_waits_can_be_let_go() {
    let cores = Cores::new(1);
    let [holder, waiter] = [(); 2].map(|()| Arc::new(cores.join(1)));
    let turn = holder.take(Priority::Interactive);
    thread::scope(|scope| {
        let waits = scope.spawn(|| waiter.take(Priority::Interactive).is_none());
        until(|| cores.has_waiting());
        waiter.retire();
        assert!(waits.join().unwrap());
    });
    drop(turn);
    assert!(waiter.take(Priority::Interactive).is_none());
    assert!(holder.take(Priority::Interactive).is_some_and(|turn| !turn.has_waited));
}

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

/// Longer than anything takes that is to happen, and long enough for what is not.
const LONG_ENOUGH: Duration = Duration::from_secs(60);
const A_WHILE: Duration = Duration::from_millis(200);

/// Cores at which another model has its turn, and how to open one beside it.
fn held() -> (Cores, Turn, EngineOptions) {
    let cores = Cores::new(2);
    let holder = Arc::new(cores.join(2));
    let turn = holder.take(Priority::Interactive).unwrap();
    let options = EngineOptions {
        n_ctx: Some(512),
        n_threads: Some(2),
        cores: Some(cores.clone()),
        ..EngineOptions::default()
    };
    (cores, turn, options)
}

fn submit(engine: &Engine, priority: Priority) -> Receiver<Event> {
    let (sender, events) = channel();
    let prompt = engine.text_prompt("Once upon a time");
    let request = Request { prompt, priority, max_tokens: Some(2), ..Request::default() };
    engine.submit(request, move |event| drop(sender.send(event))).unwrap();
    events
}

#[test]
fn no_token_comes_in_the_turn_of_another_model() {
    let (cores, turn, options) = held();
    let engine = Engine::open(&testkit::smollm2(), &options).unwrap();
    let events = submit(&engine, Priority::Interactive);
    until(|| cores.has_waiting());
    assert!(events.recv_timeout(A_WHILE).is_err(), "it did not wait");
    assert_eq!(engine.stats().n_steps, 0);
    drop(turn);
    assert!(events.recv_timeout(LONG_ENOUGH).is_ok());
}

#[test]
fn an_engine_that_waits_for_its_turn_can_be_dropped() {
    let (cores, turn, options) = held();
    let engine = Engine::open(&testkit::smollm2(), &options).unwrap();
    let events = submit(&engine, Priority::Interactive);
    until(|| cores.has_waiting());
    let (sender, dropped) = channel();
    thread::spawn(move || {
        drop(engine);
        sender.send(()).unwrap();
    });
    assert!(dropped.recv_timeout(LONG_ENOUGH).is_ok(), "it waits for the turn");
    let Ok(Event::Done(done)) = events.recv() else { panic!("no end") };
    assert!(matches!(done.reason, FinishReason::Failed(_)), "{done:?}");
    drop(turn);
}

#[test]
fn an_interactive_request_does_not_wait_as_the_batch_step_before_it() {
    let (cores, _turn, options) = held();
    let engine = Engine::open(&testkit::smollm2(), &options).unwrap();
    // The holder came first.
    let waits_with = || cores.inner.lock().waits_with(1);
    let _batch = submit(&engine, Priority::Batch);
    until(|| waits_with().is_some());
    assert_eq!(waits_with(), Some(Priority::Batch));
    let _interactive = submit(&engine, Priority::Interactive);
    assert_eq!(waits_with(), Some(Priority::Interactive));
}

#[test]
fn an_embedder_waits_for_its_turn_and_then_takes_less() {
    let (cores, turn, options) = held();
    let embedder = Embedder::open(&testkit::minilm_q8_0(), &options).unwrap();
    let texts = vec![embedder.tokens(&"word ".repeat(98)); 10];
    let n_batches = AtomicUsize::new(0);
    let embed = || {
        let go_on = || n_batches.fetch_add(1, Ordering::SeqCst) < usize::MAX;
        embedder.embed_while(&texts, Priority::Interactive, go_on).unwrap()
    };
    thread::scope(|scope| {
        let embedding = scope.spawn(embed);
        until(|| cores.has_waiting());
        thread::sleep(A_WHILE);
        assert_eq!(n_batches.load(Ordering::SeqCst), 0, "it did not wait");
        drop(turn);
        let found = embedding.join().unwrap();
        // Two texts in the turn that it had to wait for, and the others in one.
        assert_eq!(n_batches.swap(0, Ordering::SeqCst), 2);
        assert_eq!(embed(), found);
        assert_eq!(n_batches.load(Ordering::SeqCst), 1);
    });
}

const LONG: Keep = Keep::Idle(Duration::from_secs(3600));

/// Two of the default model and an encoder, each with as many threads as there are cores.
fn fleet() -> Fleet {
    let options = EngineOptions {
        n_ctx: Some(512),
        max_sequences: 2,
        kv_cache_bytes: Some(0),
        ..EngineOptions::default()
    };
    let fleet = Fleet::new(None);
    let paths = [testkit::smollm2(), testkit::smollm2(), testkit::minilm_q8_0()];
    for (name, path) in ["a", "b", "vectors"].into_iter().zip(paths) {
        fleet.set(name, FleetModel::file(path, options.clone(), LONG));
    }
    fleet
}

fn generate(fleet: &Fleet, name: &str, max_tokens: u32) -> Generation {
    let engine = fleet.get(name).unwrap().generator().unwrap();
    let prompt = engine.text_prompt("Once upon a time");
    let request = Request { prompt, max_tokens: Some(max_tokens), ..Request::default() };
    engine.generate(Request { ignore_eos: true, ..request }).unwrap()
}

fn text(events: impl Iterator<Item = Event>) -> String {
    let text = |event| match event {
        Event::Text { text, .. } => text,
        Event::Prompt { .. } | Event::Part { .. } => panic!("nobody asked for parts"),
        Event::Done(done) => {
            assert_eq!(done.reason, FinishReason::Length);
            String::new()
        }
    };
    events.map(text).collect()
}

#[test]
fn models_that_are_busy_at_once_answer_as_alone() {
    let fleet = fleet();
    let embedder = fleet.get("vectors").unwrap().embedder().unwrap();
    let texts: Vec<Vec<u32>> =
        (0..40).map(|idx| embedder.tokens(&format!("text {idx} of some words"))).collect();
    let expected = text(generate(&fleet, "a", 40));
    let vectors = embedder.embed(&texts).unwrap();
    let n_busy = AtomicUsize::new(3);
    let stays_busy = |work: &dyn Fn()| {
        work();
        n_busy.fetch_sub(1, Ordering::SeqCst);
        // Beside each other to the end.
        while n_busy.load(Ordering::SeqCst) > 0 {
            work();
        }
    };
    thread::scope(|scope| {
        for name in ["a", "b"] {
            let (fleet, expected, stays_busy) = (&fleet, &expected, &stays_busy);
            scope.spawn(move || {
                stays_busy(&|| assert_eq!(text(generate(fleet, name, 40)), *expected));
            });
        }
        stays_busy(&|| assert_eq!(embedder.embed(&texts).unwrap(), vectors));
    });
}

#[test]
fn a_model_that_is_cancelled_or_unloaded_holds_up_nobody() {
    let fleet = fleet();
    let expected = text(generate(&fleet, "b", 60));
    for round in 0..3 {
        let mut running = generate(&fleet, "a", 400);
        let other = generate(&fleet, "b", 60);
        // Both are in the middle of it.
        assert!(running.next().is_some());
        match round {
            0 => drop(running),
            1 => {
                running.handle().cancel();
                let Some(Event::Done(done)) = running.by_ref().last() else { panic!("no end") };
                assert_eq!(done.reason, FinishReason::Cancelled);
            }
            _ => {
                assert!(fleet.remove("a"));
                let engine: Option<Opened> = fleet.get_open("a");
                assert!(engine.is_none());
                // The last that held it.
                drop(running);
            }
        }
        assert_eq!(text(other), expected, "round {round}");
    }
}
