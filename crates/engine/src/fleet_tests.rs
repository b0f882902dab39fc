//! The fleet with the real default model.

use super::*;
use crate::engine::Engine;
use crate::philox::uniform;
use crate::request::{Event, FinishReason, Request};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

const RESERVE_BYTES: u64 = 128 << 20;

fn options() -> EngineOptions {
    EngineOptions {
        n_threads: Some(1),
        n_ctx: Some(64),
        max_sequences: 2,
        kv_cache_bytes: Some(0),
        ..EngineOptions::default()
    }
}

/// The default model, and how often it was opened.
fn model(keep: Keep) -> (FleetModel, Arc<AtomicUsize>) {
    let n_opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_opened);
    let open = Arc::new(move |options: &EngineOptions| {
        let engine = Engine::open(&testkit::smollm2(), options)?;
        count.fetch_add(1, Ordering::SeqCst);
        Ok(engine.into())
    });
    (FleetModel { open, options: options(), keep }, n_opened)
}

const LONG: Keep = Keep::Idle(Duration::from_secs(3600));

/// A fleet with room for so many of the default model.
fn fleet(n_models: u64, names: &[(&str, Keep)]) -> (Fleet, Vec<Arc<AtomicUsize>>) {
    let one = Engine::open(&testkit::smollm2(), &options()).unwrap().info().planned_bytes();
    let fleet = Fleet::new(Some(n_models * one + RESERVE_BYTES));
    let add = |&(name, keep): &(&str, Keep)| {
        let (model, n_opened) = model(keep);
        fleet.set(name, model);
        n_opened
    };
    let counts = names.iter().map(add).collect();
    (fleet, counts)
}

fn open_names(fleet: &Fleet) -> Vec<String> {
    let is_open = |status: &FleetStatus| matches!(status.state, FleetState::Open { .. });
    fleet.status().into_iter().filter(is_open).map(|status| status.name).collect()
}

fn request(engine: &Engine, max_tokens: u32) -> Request {
    let prompt = engine.text_prompt("Once upon a time");
    Request { prompt, max_tokens: Some(max_tokens), ignore_eos: true, ..Request::default() }
}

#[test]
fn a_model_is_opened_once_for_all_who_ask() {
    let (fleet, counts) = fleet(1, &[("a", LONG)]);
    assert!(fleet.get_open("a").is_none());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(fleet.get("a").unwrap().info().n_ctx, 64));
        }
    });
    assert_eq!(counts[0].load(Ordering::SeqCst), 1);
    assert!(fleet.get_open("a").is_some());
    let unknown = fleet.get("b").unwrap_err().to_string();
    assert_eq!(unknown, r#"no model is named "b""#);
}

#[test]
fn a_model_is_kept_as_long_as_somebody_asks_until_it_is_closed() {
    let (fleet, _) = fleet(2, &[("a", LONG), ("pinned", Keep::Pinned)]);
    let kept =
        |name: &str| fleet.status().into_iter().find(|status| status.name == name).unwrap().keep;
    assert!(!fleet.keep("a", Duration::ZERO), "it is not open");
    let held = fleet.get("a").unwrap();
    drop(fleet.get("pinned").unwrap());
    assert!(!fleet.keep("pinned", Duration::ZERO) && !fleet.keep("nobody", Duration::ZERO));
    assert!(fleet.keep("a", Duration::MAX));
    assert!(matches!(fleet.own_keep("a"), Some(Keep::Idle(own)) if own < Duration::MAX));
    assert_eq!((fleet.own_keep("pinned"), fleet.own_keep("nobody")), (Some(Keep::Pinned), None));
    assert_eq!((kept("a"), kept("pinned")), (Keep::Idle(Duration::MAX), Keep::Pinned));
    assert!(fleet.keep("a", Duration::ZERO));
    assert_eq!(fleet.close_idle(), Vec::<String>::new(), "it is in use");
    drop(held);
    assert_eq!(fleet.close_idle(), ["a"]);
    drop(fleet.get("a").unwrap());
    assert_eq!(kept("a"), LONG);
    assert_eq!(open_names(&fleet), ["a", "pinned"]);
}

#[test]
fn an_opening_blocks_nobody_else() {
    let (fleet, _) = fleet(1, &[("here", LONG)]);
    let (tell, told) = channel::<()>();
    let told = Mutex::new(told);
    let open = Arc::new(move |_: &EngineOptions| {
        told.lock().unwrap().recv().unwrap();
        Err(EngineError::Refused("it was told to".into()))
    });
    fleet.set("slow", FleetModel { open, options: options(), keep: LONG });
    let here = fleet.get("here").unwrap().generator().unwrap();
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| fleet.get("slow"))).collect();
        while !matches!(fleet.status()[1].state, FleetState::Opening) {
            thread::yield_now();
        }
        let again = fleet.get("here").unwrap().generator().unwrap();
        assert!(again.generate(request(&here, 4)).unwrap().count() > 1);
        // One for those who waited; who comes later tries again.
        tell.send(()).unwrap();
        tell.send(()).unwrap();
        tell.send(()).unwrap();
        for waiter in waiters {
            let error = waiter.join().unwrap().unwrap_err().to_string();
            assert_eq!(error, "slow: it was told to");
        }
    });
}

#[test]
fn those_who_wait_share_a_failure_and_the_next_tries_again() {
    const N_ASKING: usize = 8;
    let (n_tried, n_asking) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (tried, asking) = (Arc::clone(&n_tried), Arc::clone(&n_asking));
    let open = Arc::new(move |_: &EngineOptions| {
        tried.fetch_add(1, Ordering::SeqCst);
        while asking.load(Ordering::SeqCst) < N_ASKING {
            thread::yield_now();
        }
        // They are about to wait; one that is late tries again.
        thread::sleep(Duration::from_millis(50));
        Err(EngineError::Refused("no".into()))
    });
    let fleet = Fleet::new(None);
    fleet.set("bad", FleetModel { open, options: options(), keep: LONG });
    let ask = || {
        n_asking.fetch_add(1, Ordering::SeqCst);
        assert_eq!(fleet.get("bad").unwrap_err().to_string(), "bad: no");
    };
    thread::scope(|scope| (0..N_ASKING).for_each(|_| drop(scope.spawn(ask))));
    let n_shared = N_ASKING - n_tried.load(Ordering::SeqCst);
    assert!(n_shared > 0, "{N_ASKING} tried one after the other");
    ask();
    assert_eq!(n_tried.load(Ordering::SeqCst), N_ASKING - n_shared + 1);
}

#[test]
fn a_panic_of_an_opener_keeps_nobody_waiting() {
    let fleet = Fleet::new(None);
    let open = Arc::new(|_: &EngineOptions| panic!("as the test wants it"));
    fleet.set("bad", FleetModel { open, options: options(), keep: LONG });
    for _ in 0..2 {
        assert!(thread::scope(|scope| scope.spawn(|| fleet.get("bad")).join()).is_err());
        assert!(matches!(fleet.status()[0].state, FleetState::Closed));
    }
}

#[test]
fn the_least_recently_used_makes_room_but_never_one_in_use_or_pinned() {
    let names = [("a", LONG), ("b", LONG), ("c", LONG), ("pinned", Keep::Pinned)];
    let (fleet, counts) = fleet(2, &names);
    drop(fleet.get("a").unwrap());
    drop(fleet.get("b").unwrap());
    drop(fleet.get("a").unwrap());
    drop(fleet.get("c").unwrap());
    assert_eq!(open_names(&fleet), ["a", "c"]);
    let a = fleet.get("a").unwrap();
    drop(fleet.get("pinned").unwrap());
    assert_eq!(open_names(&fleet), ["a", "pinned"]);
    let error = fleet.get("b").unwrap_err();
    assert!(matches!(&error, FleetError::NoRoom { kept, .. } if kept.len() == 2), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("b: not enough memory: "), "{text}");
    assert!(text.ends_with("; a stays: it is in use; pinned stays: it is pinned"), "{text}");
    assert!(!fleet.close("a"));
    drop(a);
    assert!(fleet.close("a") && !fleet.close("a"));
    drop(fleet.get("b").unwrap());
    assert_eq!(open_names(&fleet), ["b", "pinned"]);
    let n_opened: Vec<_> = counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    assert_eq!(n_opened, [1, 2, 1, 1]);
}

#[test]
fn what_cannot_fit_closes_nobody() {
    let (fleet, _) = fleet(2, &[("a", LONG), ("b", LONG)]);
    let (mut large, _) = model(LONG);
    large.options.kv_cache_bytes = Some(u64::MAX);
    large.options.n_ctx = Some(8192);
    large.options.max_sequences = 256;
    fleet.set("large", large);
    for name in ["a", "b"] {
        fleet.get(name).unwrap();
    }
    let error = fleet.get("large").unwrap_err();
    assert!(matches!(&error, FleetError::NoRoom { kept, .. } if kept.is_empty()), "{error}");
    assert_eq!(open_names(&fleet), ["a", "b"]);
}

#[test]
fn idle_models_close_when_their_time_is_over() {
    let now = Keep::Idle(Duration::ZERO);
    let (fleet, _) = fleet(3, &[("now", now), ("later", LONG), ("pinned", Keep::Pinned)]);
    for name in ["now", "later", "pinned"] {
        fleet.get(name).unwrap();
    }
    let held = fleet.get("now").unwrap();
    assert!(fleet.close_idle().is_empty());
    drop(held);
    assert_eq!(fleet.close_idle(), ["now"]);
    assert_eq!(open_names(&fleet), ["later", "pinned"]);
}

#[test]
fn answers_go_on_with_the_model_that_was_replaced() {
    let (fleet, old_count) = fleet(2, &[("alias", LONG)]);
    let engine = fleet.get("alias").unwrap().generator().unwrap();
    let expected: Vec<Event> = engine.generate(request(&engine, 24)).unwrap().collect();
    let mut running = engine.generate(request(&engine, 24)).unwrap();
    let first = running.next().unwrap();
    drop(engine);
    let (new, new_count) = model(LONG);
    fleet.set("alias", new);
    fleet.get("alias").unwrap();
    let n_opened = [old_count[0].load(Ordering::SeqCst), new_count.load(Ordering::SeqCst)];
    assert_eq!(n_opened, [1, 1]);
    let text = |events: &[Event]| -> String {
        let text = |event: &Event| match event {
            Event::Text { text, .. } => text.clone(),
            Event::Prompt { .. } | Event::Part { .. } => panic!("nobody asked for parts"),
            Event::Done(done) => {
                assert_eq!(done.reason, FinishReason::Length);
                String::new()
            }
        };
        events.iter().map(text).collect()
    };
    let events: Vec<Event> = [first].into_iter().chain(running).collect();
    assert_eq!(text(&events), text(&expected));
    assert!(fleet.remove("alias") && !fleet.remove("alias"));
    assert!(fleet.get("alias").is_err());
}

#[test]
fn the_budget_holds_whatever_is_asked() {
    let names = ["a", "b", "c", "d"];
    let (fleet, _) = fleet(2, &names.map(|name| (name, LONG)));
    let mut held: Vec<(usize, Opened)> = Vec::new();
    for step in 0..40_u64 {
        let name_idx = (uniform(7, step) * names.len() as f64) as usize;
        match fleet.get(names[name_idx]) {
            Ok(engine) if step % 3 != 0 => held.push((name_idx, engine)),
            Ok(_) => {}
            // Only where two others are in use.
            Err(FleetError::NoRoom { kept, .. }) => {
                let mut in_use: Vec<usize> = held.iter().map(|(name_idx, _)| *name_idx).collect();
                in_use.sort_unstable();
                in_use.dedup();
                assert!(in_use.len() == 2 && kept.len() == 2 && !in_use.contains(&name_idx));
                held.remove(0);
            }
            Err(error) => panic!("{error}"),
        }
        let open = open_names(&fleet);
        assert!(open.len() <= 2, "{open:?}");
        assert!(held.iter().all(|(name_idx, _)| open.contains(&names[*name_idx].to_owned())));
    }
}

#[test]
fn a_model_that_is_renamed_stays_open_and_replaces_another() {
    let (fleet, counts) = fleet(3, &[("a", LONG), ("b", Keep::Pinned)]);
    let old = fleet.get("a").unwrap().generator().unwrap();
    let running = old.generate(request(&old, 24)).unwrap();
    drop((old, fleet.get("b").unwrap()));
    assert!(fleet.rename("b", "a").is_some() && fleet.rename("b", "a").is_none());
    assert!(fleet.rename("a", "a").is_some());
    assert!(fleet.get_open("a").is_some() && fleet.get("b").is_err());
    assert_eq!(fleet.own_keep("a"), Some(Keep::Pinned), "it is the other one");
    assert_eq!(counts[1].load(Ordering::SeqCst), 1, "not opened again");
    let ended = running.filter_map(|event| match event {
        Event::Done(done) => Some(done.reason),
        _ => None,
    });
    assert_eq!(ended.collect::<Vec<_>>(), [FinishReason::Length], "what ran goes on");
    let (new, new_count) = model(LONG);
    assert!(fleet.renew("a", new.clone()) && !fleet.renew("b", new));
    assert_eq!(fleet.own_keep("a"), Some(LONG));
    assert!(fleet.get_open("a").is_some(), "it stays open");
    assert_eq!(new_count.load(Ordering::SeqCst), 0);
    assert!(fleet.close("a") && fleet.get("a").is_ok());
    assert_eq!(new_count.load(Ordering::SeqCst), 1, "and is opened the new way");
}
