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
    queue.no_longer_waits(&arrived[0]);
    (0..4).for_each(|_| queue.push(submission(200, Some(50))).unwrap());
    assert!(queue.push(submission(1, Some(1))).is_err());
}

#[test]
fn nobody_keeps_others_out_by_filling_the_queue() {
    let queue = Queue::new(1000);
    let of = |client: u64, n_prompt: usize| {
        let mut submission = submission(n_prompt, Some(1));
        submission.request.client = client;
        submission
    };
    (0..9).for_each(|_| queue.push(of(1, 100)).unwrap());
    assert!(queue.push(of(1, 100)).is_err());
    queue.push(of(2, 100)).unwrap();
    // With something waiting it is as the others.
    assert!(queue.push(of(2, 100)).is_err());
    queue.push(of(3, 900)).unwrap();
    assert!(queue.push(of(4, 900)).is_err(), "there is an end to it");
    let mut arrived = Vec::new();
    queue.take_arrived(&mut arrived);
    arrived.iter().for_each(|submission| queue.no_longer_waits(submission));
    assert_eq!(queue.n_waiting(), 0);
    assert!(queue.lock().by_client.is_empty());
}

#[test]
fn a_deadline_out_of_reach_is_refused_at_once() {
    let queue = Queue::new(usize::MAX);
    let within = |client: u64, priority, seconds: u64| {
        let mut submission = submission(100, Some(100));
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let Request { client: of, priority: as_, deadline: until, .. } = &mut submission.request;
        (*of, *as_, *until) = (client, priority, Some(deadline));
        submission
    };
    let interactive = |client, seconds| within(client, Priority::Interactive, seconds);
    let push = |submission| queue.push(submission).map_err(|error| error.to_string());
    // Nothing is known of the speed yet, but that is over which is over.
    (0..5).for_each(|_| push(interactive(1, 1)).unwrap());
    assert!(push(interactive(1, 0)).is_err() && push(interactive(2, 0)).is_err());
    queue.set_speed(50.0);
    // Five requests of 200 tokens, at 100 tokens/s at most.
    let message = push(interactive(1, 9)).unwrap_err();
    let expected = "5 requests of 1000 tokens that its client has waiting take about 10000 ms at \
                    50 tokens/s; it would be number 6 of the client";
    assert!(message.ends_with(expected), "{message}");
    push(interactive(1, 11)).unwrap();
    // Another client, or another class, does not wait for them.
    push(interactive(2, 1)).unwrap();
    push(within(1, Priority::Batch, 1)).unwrap();
    // However long it takes.
    queue.set_speed(0.5);
    assert!(push(interactive(1, 1100)).is_err());
    push(interactive(1, 1300)).unwrap();
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
    queue.push_all(flight(3), || {}).unwrap();
    assert_eq!(queue.n_waiting(), 3);
    assert!(queue.push_all(flight(2), || {}).is_err());
    assert_eq!(queue.n_waiting(), 3);
    assert!(Queue::new(usize::MAX).push_all(flight(MAX_WAITING + 1), || {}).is_err());
}
