//! A step beside another model's turn, under the simulator.

use super::*;
use crate::cores::Cores;
use std::thread;

const WAIT: Duration = Duration::from_millis(30);

#[test]
fn a_step_that_waited_reads_less_and_its_wait_counts() {
    let cores = Cores::new(1);
    let [own, other] = [(); 2].map(|()| Arc::new(cores.join(1)));
    let mut worker = new_worker(LIMITS).at(own);
    let client = submit(&worker.queue, &request(&prompt_of(300, 3)));
    let turn = other.take(Priority::Interactive);
    thread::scope(|scope| {
        let stepping = scope.spawn(|| worker.step());
        while !cores.has_waiting() {
            thread::yield_now();
        }
        thread::sleep(WAIT);
        assert!(!stepping.is_finished(), "it did not wait");
        drop(turn);
        stepping.join().unwrap();
    });
    assert_eq!(worker.forward.n_rows, 64);
    let seconds = (worker.forward.pass_time() + WAIT).as_secs_f64();
    let speed = worker.speed.tokens_per_second();
    assert!(speed > 0.0 && speed <= 64.0 / seconds, "{speed}");
    // Where nobody else is there it takes what it can get, and what the pass takes.
    drop(other);
    let before = worker.speed.tokens_per_second();
    worker.step();
    assert_eq!(worker.forward.n_rows, 300 - 64);
    assert!(worker.speed.tokens_per_second() > before);
    run_all(&mut worker, &[client]);
}
