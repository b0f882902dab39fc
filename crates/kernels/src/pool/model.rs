//! The pool's protocol under loom: every order of events within a bound on preemptions.
//!
//! loom replaces atomics, locks and parking, runs each scenario once for every distinguishable
//! schedule, and fails on a lost wake-up (all threads blocked), a data race on the job, or an
//! assertion. `just loom` runs it.

use super::*;

/// Runs `scenario` in every order with at most two forced switches away from a running thread:
/// enough for each pair of steps to meet in both orders, and few enough to finish in seconds.
fn check(scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(scenario);
}

fn run_and_count(pool: &Pool, n_tasks: usize) {
    let counts: Arc<Vec<AtomicUsize>> =
        Arc::new((0..n_tasks).map(|_| AtomicUsize::new(0)).collect());
    pool.run(n_tasks, &|idx| {
        counts[idx].fetch_add(1, Ordering::Relaxed);
    });
    // Plain reads: `run` has returned, so everything that tasks did must be visible.
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
}

#[test]
fn jobs_end_with_each_task_run_once_and_the_worker_is_woken_for_the_next() {
    check(|| {
        let pool = Pool::new(2);
        run_and_count(&pool, 2);
        run_and_count(&pool, 2);
    });
}

#[test]
fn two_workers_enter_and_leave() {
    check(|| {
        let pool = Pool::new(3);
        run_and_count(&pool, 2);
    });
}

#[test]
fn a_panic_passes_through_the_gate() {
    check(|| {
        let pool = Pool::new(2);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, &|idx| {
                if idx == 1 {
                    // Not `panic!`, whose hook would print in each of thousands of runs.
                    resume_unwind(Box::new("task one"));
                }
            });
        }));
        assert!(payload.is_err());
        run_and_count(&pool, 2);
    });
}
