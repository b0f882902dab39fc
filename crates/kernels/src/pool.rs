//! The worker pool: one fork and join costs about a microsecond while the workers are awake.
//!
//! A job is a number of tasks; whoever is free takes the next one from a counter, so a thread that
//! the system has put aside delays nothing but the task it holds. The caller works too. It opens a
//! *gate* for the job; workers enter through it, and when the tasks run out the caller closes it
//! and waits only for those inside. A worker that never woke up is not waited for: that is what
//! keeps the pool usable beside busy neighbours.
//!
//! What would still cost is a worker put aside in the middle of a task. So a worker offers its core
//! to others of its own accord, every millisecond, between tasks and outside the gate: alone on the
//! core it comes back at once, and where a neighbour wants it the worker is away while nobody waits
//! for it. And a caller that must wait sleeps after a bound, which leaves its core to that worker.
//!
//! Idle workers spin briefly, then park, and use no CPU; with more threads than cores, they park
//! at once.
//!
//! Results cannot depend on who ran what: a task's work is fixed by its index. `model.rs` takes the
//! protocol through every order of events.

#[cfg(all(loom, test))]
mod model;
mod sync;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::thread::available_parallelism;
use std::time::Duration;

use sync::{
    Arc, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Builder, Condvar, JoinHandle, Mutex,
    Ordering, Since, Thread, UnsafeCell, fence, park, yield_now,
};

/// How long an idle worker stays awake for the next job, and a caller for the last worker.
const SPIN: Duration = Duration::from_micros(50);
/// How long a worker works before it offers its core to others: less than a time slice.
const SHIFT: Duration = Duration::from_millis(1);
/// Most threads of one pool: beyond it the machine is not what this layout was made for.
pub const N_THREADS_MAX: usize = 256;

type Task<'a> = &'a (dyn Fn(usize) + Sync);

/// Threads that run the tasks of one job at a time.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// One job at a time; a second caller waits here.
    turn: Mutex<()>,
}

struct Worker {
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

struct Shared {
    /// `OPEN` while a job may be entered; above it the job's number; below it how often it was
    /// entered.
    gate: AtomicU64,
    /// How often the current job was left.
    n_left: AtomicU32,
    next_task: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    parked: Vec<AtomicBool>,
    /// The caller sleeps until everyone has left: it says so in the flag, then waits for the bell.
    caller_sleeps: AtomicBool,
    bedside: Mutex<()>,
    bell: Condvar,
    /// How long to spin: not at all where threads have to share cores.
    spin: Duration,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    /// Lives as long as the call of `run` that made it, which outlasts every worker inside.
    task: *const (dyn Fn(usize) + Sync),
    n_tasks: usize,
}

// SAFETY: `job` is written only while the gate is closed and nobody is inside, and read only by
// those who entered through the gate afterwards.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in it is used only while its owner waits in `run`.
unsafe impl Send for Shared {}

/// How a thread left a job.
enum Tasks {
    RanOut,
    MayBeLeft,
}

/// Set while a job can be entered.
const OPEN: u64 = 1 << 16;
/// Entries are counted below this.
const N_ENTERED: u64 = OPEN - 1;
/// The job's number is counted from here.
const NUMBER: u64 = OPEN << 1;

impl Pool {
    pub(crate) fn new(n_threads: usize) -> Self {
        let n_workers = n_threads.clamp(1, N_THREADS_MAX) - 1;
        let n_cores = available_parallelism().map_or(1, |n| n.get());
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            n_left: AtomicU32::new(0),
            next_task: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            parked: (0..n_workers).map(|_| AtomicBool::new(false)).collect(),
            caller_sleeps: AtomicBool::new(false),
            bedside: Mutex::new(()),
            bell: Condvar::new(),
            spin: if n_workers < n_cores { SPIN } else { Duration::ZERO },
            stop: AtomicBool::new(false),
        });
        // A system that refuses a thread gives a smaller pool, not a failure.
        let workers = (0..n_workers)
            .map_while(|idx| {
                let shared = Arc::clone(&shared);
                let name = format!("freehold-worker-{idx}");
                let work = move || shared.work(idx);
                let handle = Builder::new().name(name).spawn(work).ok()?;
                Some(Worker { thread: handle.thread().clone(), handle: Some(handle) })
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    pub(crate) fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` to `task(n_tasks - 1)`, each once, in any order and at the same time.
    ///
    /// # Panics
    /// If a task panics, after all others have ended. A task must not call `run` of the same pool.
    pub(crate) fn run(&self, n_tasks: usize, task: Task<'_>) {
        if n_tasks <= 1 || self.workers.is_empty() {
            (0..n_tasks).for_each(task);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The pointer is used by workers that enter the gate
        // below, and this call returns only after they have left.
        let task: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(task) };
        let job = Job { task, n_tasks };
        // SAFETY: the gate is closed and nobody is inside (the previous call waited for that), and
        // `turn` keeps other callers out.
        shared.job.with_mut(|place| unsafe { *place = Some(job) });
        shared.next_task.store(0, Ordering::Relaxed);
        shared.n_left.store(0, Ordering::Relaxed);
        let number = shared.gate.load(Ordering::Relaxed) & !(NUMBER - 1);
        shared.gate.store(number.wrapping_add(NUMBER) | OPEN, Ordering::Release);
        // Pairs with the worker that announces to park and then looks at the gate again.
        fence(Ordering::SeqCst);
        for (worker, parked) in self.workers.iter().zip(&shared.parked) {
            if parked.load(Ordering::Relaxed) {
                worker.thread.unpark();
            }
        }
        shared.take_tasks(job, || false);
        let n_entered = shared.gate.fetch_and(!OPEN, Ordering::AcqRel) & N_ENTERED;
        shared.await_leaving(n_entered as u32);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Before a panic goes on, which would poison the lock.
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// Works until the tasks run out, or `is_over` says so after one of them.
    fn take_tasks(&self, job: Job, is_over: impl Fn() -> bool) -> Tasks {
        // SAFETY: the owner of the task waits until everyone inside has left.
        let task = unsafe { &*job.task };
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let idx = self.next_task.fetch_add(1, Ordering::Relaxed);
                if idx >= job.n_tasks {
                    return Tasks::RanOut;
                }
                task(idx);
                if is_over() {
                    return Tasks::MayBeLeft;
                }
            }
        }));
        result.unwrap_or_else(|panic| {
            self.next_task.store(job.n_tasks, Ordering::Relaxed);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match &*first {
                None => *first = Some(panic),
                // Dropping it could panic once more, out here where nobody catches it.
                Some(_) => std::mem::forget(panic),
            }
            Tasks::RanOut
        })
    }

    /// Waits until the job was left as often as it was entered.
    fn await_leaving(&self, n_entered: u32) {
        let since = Since::now();
        while self.n_left.load(Ordering::Acquire) != n_entered {
            if since.spin(self.spin) {
                continue;
            }
            let mut bedside = self.bedside.lock().unwrap_or_else(PoisonError::into_inner);
            // The fences here and in `leave`: either we see that the last one has left, or it sees
            // that we sleep; and it rings only when it gets the lock, that is, once we wait.
            self.caller_sleeps.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            while self.n_left.load(Ordering::Acquire) != n_entered {
                bedside = self.bell.wait(bedside).unwrap_or_else(PoisonError::into_inner);
            }
            self.caller_sleeps.store(false, Ordering::Relaxed);
        }
    }

    fn leave(&self) {
        self.n_left.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.caller_sleeps.load(Ordering::Relaxed) {
            drop(self.bedside.lock());
            self.bell.notify_one();
        }
    }

    fn work(&self, idx: usize) {
        let mut seen = 0;
        let (mut idle, mut shift) = (Since::now(), Since::now());
        while !self.stop.load(Ordering::Acquire) {
            if let Some(number) = self.enter(seen) {
                // SAFETY: entering the gate synchronises with the caller, which wrote the job
                // before opening it and leaves it alone until we have left.
                let job = self.job.with(|job| unsafe { *job });
                let job = job.expect("a job is set before its gate opens");
                if let Tasks::RanOut = self.take_tasks(job, || shift.is_over(SHIFT)) {
                    seen = number;
                }
                self.leave();
                if shift.is_over(SHIFT) {
                    yield_now();
                    shift = Since::now();
                }
                idle = Since::now();
            } else if !idle.spin(self.spin) {
                self.park(idx, seen);
                (idle, shift) = (Since::now(), Since::now());
            }
        }
    }

    fn park(&self, idx: usize, seen: u64) {
        self.parked[idx].store(true, Ordering::Relaxed);
        // Looked at again after the announcement: either we see the new job or the caller sees
        // that we are parked.
        fence(Ordering::SeqCst);
        if !self.is_new(self.gate.load(Ordering::Relaxed), seen)
            && !self.stop.load(Ordering::Relaxed)
        {
            park();
        }
        self.parked[idx].store(false, Ordering::Relaxed);
    }

    fn is_new(&self, gate: u64, seen: u64) -> bool {
        gate & OPEN != 0 && gate & !(NUMBER - 1) != seen
    }

    /// Enters the job that is open, unless it is the one `seen` already; returns its number.
    fn enter(&self, seen: u64) -> Option<u64> {
        let mut gate = self.gate.load(Ordering::Relaxed);
        // A full count is a job that was entered and left tens of thousands of times, once a shift:
        // one more entry would change the flag above, so the rest is for those inside.
        while self.is_new(gate, seen) && gate & N_ENTERED != N_ENTERED {
            let entered = self.gate.compare_exchange_weak(
                gate,
                gate + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match entered {
                Ok(_) => return Some(gate & !(NUMBER - 1)),
                Err(now) => gate = now,
            }
        }
        None
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Whoever parks after this finds the wake-up waiting.
        self.shared.stop.store(true, Ordering::Release);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker catches the panics of its tasks, so there is nothing to report here.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for n_threads in [1, 2, 3, 8] {
            let pool = Pool::new(n_threads);
            for n_tasks in (0..40).chain([1000]) {
                let counts: Vec<AtomicU32> = (0..n_tasks).map(|_| AtomicU32::new(0)).collect();
                pool.run(n_tasks, &|idx| {
                    counts[idx].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_with_pauses_neither_hang_nor_lose_tasks() {
        let pool = Pool::new(4);
        let total = AtomicUsize::new(0);
        for job in 0..20_000 {
            pool.run(5, &|_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
            // Lets workers park now and then, which is where a wake-up could be lost.
            if job % 2000 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        assert_eq!(total.into_inner(), 100_000);
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.run(7, &|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 14_000);
    }

    /// Panics when dropped, as a payload may.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("dropped");
            }
        }
    }

    #[test]
    fn several_payloads_that_panic_when_dropped_do_no_harm() {
        let pool = Pool::new(3);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, &|_| std::panic::panic_any(Bomb));
        }));
        std::mem::forget(payload);
        let n = AtomicUsize::new(0);
        pool.run(10, &|_| {
            n.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(n.into_inner(), 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = Pool::new(3);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(10, &|idx| assert!(idx != 5, "task five"));
        }));
        assert!(result.is_err());
        let n = AtomicUsize::new(0);
        pool.run(10, &|_| {
            n.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(n.into_inner(), 10);
    }
}
