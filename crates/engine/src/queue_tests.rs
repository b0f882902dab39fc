//! The queue's bounds and what it says about them.

use super::*;

fn submission(n_prompt: usize, max_tokens: Option<u32>) -> Submission {
    Submission {
        request: Request { prompt: vec![1; n_prompt], max_tokens, ..Request::default() },
        seed: 0,
        listener: Listener::new(|_| {}),
        cancelled: Arc::default(),
        submitted_at: Instant::now(),
    }
}

#[test]
fn the_queue_is_bounded_by_tokens() {
    let queue = Queue::new(1000);
    // Alone, any request may wait.
    queue.push(submission(5000, None)).unwrap();
    queue.set_speed(200.0);
    let message = queue.push(submission(100, Some(50))).expect_err("it is full").to_string();
    assert_eq!(
        message,
        "1 requests of 5512 tokens are waiting and this one has 150, at most 1000 tokens in 1024 \
         requests may; it would be number 2 in the queue, and at 200 tokens/s there is room in \
         about 28 s"
    );
    let mut arrived = Vec::new();
    queue.take_arrived(&mut arrived);
    assert_eq!((arrived.len(), queue.n_waiting()), (1, 1));
    assert!(queue.push(submission(1, Some(1))).is_err(), "handed over is not seated");
    queue.no_longer_waits(arrived[0].n_tokens());
    (0..4).for_each(|_| queue.push(submission(200, Some(50))).unwrap());
    assert!(queue.push(submission(1, Some(1))).is_err());
}

#[test]
fn the_queue_is_bounded_by_requests() {
    let queue = Queue::new(usize::MAX);
    (0..MAX_WAITING).for_each(|_| queue.push(submission(1, Some(1))).unwrap());
    match queue.push(submission(1, Some(1))) {
        Err(EngineError::Overloaded { n_waiting: MAX_WAITING, retry_after, .. }) => {
            assert_eq!(retry_after, RETRY_AFTER[0]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(queue.stop("the end").len(), MAX_WAITING);
    assert!(queue.is_stopped() && queue.n_waiting() == 0);
}

#[test]
fn requests_that_come_together_are_taken_or_refused_together() {
    let queue = Queue::new(1000);
    let flight = |n: usize| (0..n).map(|_| submission(900, None)).collect::<Vec<_>>();
    // They do not stand in each other's way.
    queue.push_all(flight(3)).unwrap();
    assert_eq!(queue.n_waiting(), 3);
    assert!(queue.push_all(flight(2)).is_err());
    assert_eq!(queue.n_waiting(), 3);
    assert!(Queue::new(usize::MAX).push_all(flight(MAX_WAITING + 1)).is_err());
}
