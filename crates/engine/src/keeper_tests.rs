//! Pages over restarts, under the simulator: what comes back must be what would be computed.

use super::*;
use crate::keeper::{Keeper, Kept};
use crate::page_file::Origin;
use crate::prefix_store::PrefixStore;
use crate::private_folder::temporary_folder;
use std::fs;
use std::path::{Path, PathBuf};

/// A worker that keeps pages in `folder`, as after a start of the program.
fn start(folder: &Path, model: u8, limits: Limits) -> Worker<Simulated> {
    let store = PrefixStore::open(folder, 1 << 20, |_| {}).unwrap();
    let origin = Origin { model: [model; 32], shape: SHAPE };
    new_worker(limits).keeping(Some(Keeper::new(store, origin)))
}

/// Runs one request; returns how many tokens were not computed.
fn reused(worker: &mut Worker<Simulated>, request: &Request) -> u32 {
    let client = submit(&worker.queue, request);
    run_all(worker, std::slice::from_ref(&client));
    check_against_alone(request, &client);
    outcome(&client.events).2.unwrap().n_reused
}

#[test]
fn a_prompt_is_found_again_after_a_restart() {
    let folder = temporary_folder();
    let long = request(&prompt_of(200, 9));
    let with = |cache| Request { cache, ..long.clone() };
    let mut worker = start(folder.path(), 1, LIMITS);
    assert_eq!(reused(&mut worker, &with(CacheScope::Lasting(5))), 0);
    worker.save_all();
    drop(worker);

    let mut worker = start(folder.path(), 1, LIMITS);
    for other in [CacheScope::Lasting(6), CacheScope::Key(5), CacheScope::Shared, CacheScope::Off] {
        assert_eq!(reused(&mut worker, &with(other)), 0, "{other:?}");
    }
    assert_eq!(reused(&mut worker, &with(CacheScope::Lasting(5))), 192);
    // From now on it is in memory.
    assert_eq!(reused(&mut worker, &with(CacheScope::Lasting(5))), 192);
    let longer = Request { prompt: prompt_of(500, 9), ..with(CacheScope::Lasting(5)) };
    assert_eq!(reused(&mut worker, &longer), 192);
    // Nothing of a scope that ends with the process is kept.
    worker.save_all();
    drop(worker);
    let mut worker = start(folder.path(), 1, LIMITS);
    assert_eq!(reused(&mut worker, &with(CacheScope::Key(5))), 0);
    assert_eq!(reused(&mut worker, &with(CacheScope::Shared)), 192);
    assert_eq!(reused(&mut worker, &longer), 448);
    drop(worker);
    assert_eq!(reused(&mut start(folder.path(), 2, LIMITS), &longer), 0, "another model");
}

#[test]
fn pages_are_kept_when_there_is_nothing_to_do_and_when_they_make_room() {
    let folder = temporary_folder();
    let n_files = || fs::read_dir(folder.path()).unwrap().count() - 2;
    let mut worker = start(folder.path(), 1, LIMITS);
    reused(&mut worker, &request(&prompt_of(200, 9)));
    assert_eq!(save_idle(&mut worker), 3);
    drop(worker);
    assert_eq!(n_files(), 3);
    // Other prompts take all of the 17 pages; the store may be behind with some of them.
    let mut worker = start(folder.path(), 1, LIMITS);
    for first in 0..8 {
        let prompt: Vec<u32> = std::iter::once(first).chain(prompt_of(400, 1)).collect();
        reused(&mut worker, &request(&prompt));
    }
    drop(worker);
    assert!(n_files() > 3, "only what was there before");
}

/// Hands over what an engine without work does; returns how many pages.
fn save_idle(worker: &mut Worker<Simulated>) -> usize {
    let mut n_kept = 0;
    loop {
        match worker.save_one() {
            Kept::Nothing => return n_kept,
            Kept::Page => n_kept += 1,
            Kept::Busy => std::thread::yield_now(),
        }
    }
}

/// A worker whose folder holds three pages.
fn start_small(folder: &Path) -> Worker<Simulated> {
    let origin = Origin { model: [1; 32], shape: SHAPE };
    let store = PrefixStore::open(folder, 3 * origin.file_len(), |_| {}).unwrap();
    new_worker(LIMITS).keeping(Some(Keeper::new(store, origin)))
}

#[test]
fn a_prompt_is_kept_from_its_beginning_and_goes_from_its_end() {
    let folder = temporary_folder();
    let of = |n_tokens, scope| Request {
        cache: CacheScope::Lasting(scope),
        ..request(&prompt_of(n_tokens, 9))
    };
    let (long, short) = (of(400, 1), of(65, 2));
    // Cut short after two pages.
    let mut worker = start(folder.path(), 1, LIMITS);
    reused(&mut worker, &long);
    assert_eq!((worker.save_one(), worker.save_one()), (Kept::Page, Kept::Page));
    drop(worker);
    let mut worker = start_small(folder.path());
    assert_eq!(reused(&mut worker, &long), 128);
    // Where the budget is less than the prompt, its beginning is kept, and its end makes room.
    save_idle(&mut worker);
    drop(worker);
    let mut worker = start_small(folder.path());
    assert_eq!(reused(&mut worker, &long), 192);
    save_idle(&mut worker);
    drop(worker);
    let mut worker = start_small(folder.path());
    reused(&mut worker, &short);
    save_idle(&mut worker);
    drop(worker);
    assert_eq!(reused(&mut start_small(folder.path()), &long), 128);
}

#[test]
fn what_is_used_stays_and_what_went_is_kept_again() {
    let folder = temporary_folder();
    let of = |scope| Request { cache: CacheScope::Lasting(scope), ..request(&prompt_of(65, 9)) };
    let mut worker = start_small(folder.path());
    // Found in memory, the first is the last used of the files too: the fourth takes the place of
    // the second.
    for scope in [1, 2, 3, 1, 4] {
        reused(&mut worker, &of(scope));
        save_idle(&mut worker);
    }
    drop(worker);
    let mut worker = start_small(folder.path());
    assert_eq!([1, 2, 3, 4].map(|scope| reused(&mut worker, &of(scope))), [64, 0, 64, 64]);
    // Another engine takes the files' place; what is in memory is kept again.
    let Keeper { store, origin, .. } = worker.keeper.as_ref().unwrap();
    let other = Keeper::new(store.clone(), origin.clone());
    save_idle(&mut worker);
    let mut other = new_worker(LIMITS).keeping(Some(other));
    for scope in 5..=7 {
        reused(&mut other, &of(scope));
        save_idle(&mut other);
    }
    let pass = Request { cache: CacheScope::Off, ..of(1) };
    let is_kept_again = (0..10_000).any(|_| {
        reused(&mut worker, &pass);
        save_idle(&mut worker) > 0
    });
    assert!(is_kept_again);
}

#[test]
fn who_waits_too_long_for_the_disk_computes() {
    let folder = temporary_folder();
    let long = request(&prompt_of(200, 9));
    let mut worker = start(folder.path(), 1, LIMITS);
    reused(&mut worker, &long);
    worker.save_all();
    drop(worker);
    let mut worker = start(folder.path(), 1, LIMITS);
    // From now on it is known how long computing takes.
    let other = Request { cache: CacheScope::Off, ..request(&prompt_of(200, 1)) };
    reused(&mut worker, &other);
    // A disk that does not answer.
    let slots = worker.keeper.as_ref().unwrap().hold_slots();
    assert_eq!(reused(&mut worker, &long), 0);
    drop(slots);
}

#[test]
fn waits_are_as_long_as_computing_within_bounds() {
    use crate::keeper::longest_wait;
    for (n_tokens, speed, expected_ms) in
        [(1000, 200.0, 5000), (64, 1e9, 500), (64, 1e-9, 60_000), (64, 0.0, 10_000)]
    {
        assert_eq!(longest_wait(n_tokens, speed), Duration::from_millis(expected_ms));
    }
}

#[test]
fn any_load_gives_the_same_over_restarts_and_damage() {
    let folder = temporary_folder();
    let (mut n_reused, mut n_preempted, mut n_damaged) = (0, 0, 0);
    for case in 0..10u64 {
        let cost = [StepCost::NO_DRAFTS, StepCost::free(16)][case as usize % 2];
        let mut worker = start(folder.path(), 1, Limits { cost, ..LIMITS });
        let requests: Vec<Request> = (0..40)
            .map(|i| {
                let request = random_request(((case % 3) << 32) | i);
                let cache = match request.cache {
                    CacheScope::Key(key) => CacheScope::Lasting(key),
                    cache => cache,
                };
                Request { cache, ..request }
            })
            .collect();
        let clients: Vec<_> = requests.iter().map(|r| submit(&worker.queue, r)).collect();
        for client in clients.iter().skip(10).step_by(11) {
            worker.step();
            client.cancelled.store(true, Ordering::Relaxed);
        }
        for done in run_all(&mut worker, &clients) {
            n_reused += done.n_reused;
            n_preempted += done.n_preempted;
        }
        worker.pages.check();
        assert_eq!(worker.pages.n_uses(), 0);
        for (request, client) in requests.iter().zip(&clients) {
            check_against_alone(request, client);
        }
        worker.save_all();
        drop(worker);
        n_damaged += damage(folder.path(), case);
    }
    assert!(n_reused > 5_000 && n_preempted > 0, "{n_reused} reused, {n_preempted} put back");
    assert!(n_damaged > 10, "{n_damaged} files were damaged");
}

/// Flips a bit of some files and cuts others short.
fn damage(folder: &Path, case: u64) -> usize {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut pages: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "kvpage")).collect();
    pages.sort();
    let number = |i: usize, n: usize| (uniform(case, i as u64) * n as f64) as usize;
    let chosen: Vec<_> = pages.iter().enumerate().filter(|(i, _)| number(*i, 5) == 0).collect();
    for &(i, path) in &chosen {
        let mut bytes = fs::read(path).unwrap();
        match i % 2 {
            0 => bytes.truncate(number(1000 + i, bytes.len())),
            _ => {
                let place = number(1000 + i, bytes.len());
                bytes[place] ^= 1 << (i % 8);
            }
        }
        fs::write(path, bytes).unwrap();
    }
    chosen.len()
}

#[test]
fn a_held_sequence_can_be_cancelled_and_followed() {
    let folder = temporary_folder();
    let long = request(&prompt_of(600, 9));
    let mut worker = start(folder.path(), 1, LIMITS);
    assert_eq!(reused(&mut worker, &long), 0);
    worker.save_all();
    drop(worker);
    let mut worker = start(folder.path(), 1, LIMITS);
    let clients = [9, 10, 11].map(|last| submit(&worker.queue, &request(&prompt_of(600, last))));
    worker.step();
    clients[0].cancelled.store(true, Ordering::Relaxed);
    let ends = run_all(&mut worker, &clients);
    assert_eq!(ends[0].reason, FinishReason::Cancelled);
    assert_eq!((ends[1].n_reused, ends[2].n_reused), (576, 576));
    for (client, last) in clients[1..].iter().zip([10, 11]) {
        check_against_alone(&request(&prompt_of(600, last)), client);
    }
}
