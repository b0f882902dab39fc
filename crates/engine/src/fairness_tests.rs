//! What a greedy client can take from another one, under the simulator and its clock.
//!
//! A row takes a quarter of what a pass takes without any, as in models of this size on few cores:
//! then a step with many rows is much longer than one with few.

use super::*;

const GREEDY: u64 = 1;
const QUIET: u64 = 2;
/// What the 95th percentile of the quiet client's times may become at most, as a multiple of what
/// it is alone: between tokens and for a whole answer, and until the first token. Rows of the
/// greedy one make a step twice as long, its prefill that twice as long again.
const MOST_BETWEEN: f64 = 5.0;
const MOST_FIRST: f64 = 7.0;

/// The 95th percentiles of the quiet client's times: first token, between tokens, whole answer.
#[derive(Debug)]
struct Times {
    first: Duration,
    between: Duration,
    whole: Duration,
}

/// The load of the greedy client.
#[derive(Clone, Copy)]
struct Greed {
    n_requests: usize,
    n_prompt: usize,
    max_tokens: u32,
}

const SEATS: usize = 16;

fn request_of(client: u64, number: u64, n_prompt: usize, max_tokens: u32) -> Request {
    let token = |i: u64| (uniform(client << 32 | number, i) * 250.0) as u32;
    Request {
        client,
        cache: CacheScope::Key(client),
        prompt: (0..n_prompt as u64).map(token).collect(),
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        ..request(&[])
    }
}

/// A worker with a greedy client, which sends another request as soon as one has ended.
struct Beside {
    worker: Worker<Simulated>,
    clock: Duration,
    greed: Greed,
    greedy: Vec<Client>,
    n_sent: u64,
}

impl Beside {
    fn new(greed: Greed) -> Self {
        let mut worker = new_worker(Limits { max_sequences: SEATS, n_pages: 120, ..LIMITS });
        worker.forward.row_time = Duration::from_micros(1000);
        let (clock, greedy, n_sent) = (Duration::ZERO, Vec::new(), 0);
        let mut beside = Self { worker, clock, greed, greedy, n_sent };
        // Until the greedy client has all that it can get, and its streams are not in step.
        (0..300).for_each(|_| beside.step());
        beside
    }

    fn submit(&self, request: &Request) -> Client {
        submit(&self.worker.queue, request)
    }

    fn step(&mut self) {
        self.greedy.retain(|client| !has_ended(client));
        while self.greedy.len() < self.greed.n_requests {
            self.n_sent += 1;
            let Greed { n_prompt, max_tokens, .. } = self.greed;
            let request = request_of(GREEDY, self.n_sent, n_prompt, max_tokens);
            self.greedy.push(self.submit(&request));
        }
        self.worker.forward.n_rows = 0;
        self.worker.step();
        self.clock += self.worker.forward.pass_time();
    }
}

fn has_ended(client: &Client) -> bool {
    matches!(client.events.lock().unwrap().last(), Some(Event::Done(_)))
}

fn p95(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 95 / 100]
}

/// Runs the quiet client's requests one after the other.
fn quiet_beside(greed: Greed) -> Times {
    let mut beside = Beside::new(greed);
    let (mut first, mut between, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..30 {
        let client = beside.submit(&request_of(QUIET, number, 60, 40));
        let sent = beside.clock;
        let (mut n_tokens, mut last) = (0, sent);
        loop {
            beside.step();
            let (_, tokens, done) = outcome(&client.events);
            if tokens.len() > n_tokens {
                let times = if n_tokens == 0 { &mut first } else { &mut between };
                times.push(beside.clock - last);
                (n_tokens, last) = (tokens.len(), beside.clock);
            }
            if done.is_some() {
                break;
            }
            let waited = beside.clock - sent;
            assert!(waited < Duration::from_secs(600), "the quiet client starves");
        }
        whole.push(beside.clock - sent);
    }
    Times { first: p95(first), between: p95(between), whole: p95(whole) }
}

/// The 95th percentile of the time until the quiet client has the one token of a question that it
/// asks beside an answer that it is getting.
fn question_beside(greed: Greed) -> Duration {
    let mut beside = Beside::new(greed);
    let mut times = Vec::new();
    let mut stream: Option<Client> = None;
    for number in 0..30 {
        let mut asked: Option<(Client, Duration)> = None;
        let began = beside.clock;
        loop {
            let stream = match stream.take().filter(|stream| !has_ended(stream)) {
                Some(running) => stream.insert(running),
                None => stream.insert(beside.submit(&request_of(QUIET, 1000 + number, 9, 600))),
            };
            let is_running = !outcome(&stream.events).1.is_empty();
            if asked.is_none() && is_running {
                let client = beside.submit(&request_of(QUIET, number, 60, 1));
                asked = Some((client, beside.clock));
            }
            beside.step();
            match &asked {
                Some((client, sent)) if has_ended(client) => {
                    times.push(beside.clock - *sent);
                    break;
                }
                _ => {}
            }
            let waited = beside.clock - began;
            assert!(waited < Duration::from_secs(600), "the quiet client starves");
        }
    }
    p95(times)
}

/// Neither who has prompts of some length only nor who never gets a second token comes before it.
/// Beside prompts of 500 tokens it takes 16 times as long as alone: a stream that keeps its rhythm
/// leaves small slices, and half of them are another's.
#[test]
fn a_short_question_does_not_wait_for_who_generates_nothing() {
    let alone = question_beside(Greed { n_requests: 0, n_prompt: 1, max_tokens: 1 });
    let loads = [[59, 1], [250, 1]];
    let mut found = Vec::new();
    for [n_prompt, max_tokens] in loads {
        let greed = Greed { n_requests: 60, n_prompt: n_prompt as usize, max_tokens };
        let ratio = question_beside(greed).as_secs_f64() / alone.as_secs_f64();
        found.push((n_prompt, ratio));
    }
    assert!(found.iter().all(|(_, ratio)| *ratio <= MOST_FIRST), "{found:?} times {alone:?}");
}

#[test]
fn a_greedy_client_moves_the_times_of_another_within_a_bound() {
    let none = Greed { n_requests: 0, n_prompt: 1, max_tokens: 1 };
    let alone = quiet_beside(none);
    let loads = [
        // As many streams as there are seats but one; more than there are seats, with long answers
        // and with short ones; long prompts; nothing but prompts.
        Greed { n_requests: SEATS - 1, n_prompt: 100, max_tokens: 300 },
        Greed { n_requests: 60, n_prompt: 30, max_tokens: 500 },
        Greed { n_requests: 60, n_prompt: 30, max_tokens: 4 },
        Greed { n_requests: 60, n_prompt: 500, max_tokens: 100 },
        Greed { n_requests: 60, n_prompt: 59, max_tokens: 1 },
    ];
    let ratio = |beside: Duration, alone: Duration| beside.as_secs_f64() / alone.as_secs_f64();
    let (mut found, mut is_kept) = (Vec::new(), true);
    for greed in loads {
        let beside = quiet_beside(greed);
        let first = ratio(beside.first, alone.first);
        let between = ratio(beside.between, alone.between);
        let whole = ratio(beside.whole, alone.whole);
        is_kept &= first <= MOST_FIRST && between <= MOST_BETWEEN && whole <= MOST_BETWEEN;
        let Greed { n_requests, n_prompt, max_tokens } = greed;
        let load = format!("{n_requests} requests of {n_prompt} + {max_tokens} tokens");
        found.push(format!("{load}: {first:.2}, {between:.2}, {whole:.2}"));
    }
    assert!(is_kept, "first token, between tokens, whole answer: {found:#?}");
}

/// One that was put back gets its pages again, however many come that would need few of them.
#[test]
fn small_requests_do_not_keep_out_who_was_put_back() {
    let mut worker = new_worker(Limits { n_pages: 10, ..LIMITS });
    let _first = submit(&worker.queue, &request_of(1, 0, 50, 100));
    (0..3).for_each(|_| worker.step());
    let put_back = submit(&worker.queue, &request_of(2, 0, 500, 60));
    let is_done = |client: &Client| outcome(&client.events).2.is_some();
    let mut small: Vec<Client> = Vec::new();
    for n_steps in 0u64.. {
        assert!(n_steps < 4000, "it starves");
        // Always three, of clients that were never seen before and that do not end together: beside
        // one of them it has no room.
        small.retain(|client| !is_done(client));
        while n_steps > 30 && small.len() < 3 {
            let client = 100 + 3 * n_steps + small.len() as u64;
            let max_tokens = 10 + (client * 7 % 40) as u32;
            small.push(submit(&worker.queue, &request_of(client, 0, 70, max_tokens)));
        }
        worker.step();
        if is_done(&put_back) {
            break;
        }
    }
    let done = outcome(&put_back.events).2.expect("it is done");
    assert!(done.n_preempted > 0, "pages were not short");
}
