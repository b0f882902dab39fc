//! Fair shares, simulated: clients with requests of any size, and what each is given.

use super::*;
use crate::answer::Listener;
use crate::philox::uniform;
use crate::request::Request;
use std::sync::Arc;
use std::time::Instant;

fn submission(client: u64, priority: Priority, n_prompt: usize) -> Submission {
    Submission {
        request: Request { prompt: vec![1; n_prompt], client, priority, ..Request::default() },
        seed: 0,
        listener: Listener::new(|_| {}),
        cancelled: Arc::default(),
        submitted_at: Instant::now(),
    }
}

/// A seat at work: its account, its client, and the answer's tokens that are left.
struct Seat {
    account: usize,
    client: u64,
    n_left: u64,
}

/// Fills the seats and serves each a token; `n_served` by client is what was charged.
fn serve(
    waiting: &mut Waiting,
    seats: &mut Vec<Seat>,
    n_seats: usize,
    n_answer: impl Fn(u64) -> u64,
    n_served: &mut [u64],
) {
    while seats.len() < n_seats
        && let Some(entry) = waiting.pop()
    {
        let Work::New(submission) = entry.work else { panic!("nothing was put back") };
        let client = submission.request.client;
        let n_prompt = submission.request.prompt.len() as u64;
        waiting.charge(entry.account, n_prompt);
        n_served[client as usize] += n_prompt;
        seats.push(Seat { account: entry.account, client, n_left: n_answer(entry.ticket) });
    }
    for seat in &mut *seats {
        waiting.charge(seat.account, ANSWER_WEIGHT);
        n_served[seat.client as usize] += ANSWER_WEIGHT;
        seat.n_left -= 1;
    }
    seats.retain(|seat| {
        if seat.n_left == 0 {
            waiting.leave(seat.account);
        }
        seat.n_left > 0
    });
}

/// One client floods the queue with long requests, the others keep one or two short ones waiting:
/// what any two are given while both wait differs by less than the bound.
#[test]
fn who_waits_gets_an_equal_share_of_a_flooded_engine() {
    const N_SEATS: usize = 4;
    const N_PROMPT_MAX: usize = 300;
    const N_ANSWER_MAX: u64 = 100;
    let bound = 2 * N_SEATS as u64 * (N_PROMPT_MAX as u64 + ANSWER_WEIGHT * N_ANSWER_MAX);
    for case in 0..20 {
        let draw = |i: u64, n: u64| (uniform(case, i) * n as f64) as u64;
        let n_clients = 2 + draw(0, 4) as usize;
        let (mut waiting, mut seats) = (Waiting::default(), Vec::new());
        let mut n_served = vec![0; n_clients];
        let mut widest = 0;
        for step in 0..6000 {
            for client in 0..n_clients as u64 {
                let account = waiting.ledger.accounts.iter().find(|a| a.client == client);
                let n_waiting = account.map_or(0, |account| account.n_waiting);
                let n_wanted = if client == 0 { 40 } else { 2 };
                for i in n_waiting..n_wanted {
                    let n_prompt = match client {
                        0 => N_PROMPT_MAX,
                        _ => 1 + draw(step * 64 + client * 8 + i as u64, 80) as usize,
                    };
                    waiting.arrive(submission(client, Priority::Interactive, n_prompt));
                }
            }
            let n_answer = |ticket| 1 + draw(ticket, N_ANSWER_MAX);
            serve(&mut waiting, &mut seats, N_SEATS, n_answer, &mut n_served);
            let least = n_served.iter().min().unwrap();
            widest = widest.max(n_served.iter().max().unwrap() - least);
        }
        assert!(widest <= bound, "case {case}: {widest} apart, at most {bound}");
        let share = n_served.iter().min().unwrap() * n_clients as u64;
        assert!(share * 10 > n_served.iter().sum::<u64>() * 9, "case {case}: {n_served:?}");
    }
}

/// A quiet client's request waits for what is at work, not for the queue of another.
#[test]
fn a_flood_does_not_delay_who_comes_now_and_then() {
    let (mut waiting, mut seats) = (Waiting::default(), Vec::new());
    let mut n_served = [0; 2];
    (0..500).for_each(|_| waiting.arrive(submission(0, Priority::Interactive, 100)));
    for _ in 0..10 {
        for _ in 0..377 {
            serve(&mut waiting, &mut seats, 2, |_| 50, &mut n_served);
        }
        waiting.arrive(submission(1, Priority::Interactive, 20));
        let (n_before, mut n_steps) = (n_served[1], 0);
        while n_served[1] == n_before {
            serve(&mut waiting, &mut seats, 2, |_| 50, &mut n_served);
            n_steps += 1;
        }
        assert!(n_steps <= 50, "{n_steps} steps until the next seat");
    }
}

#[test]
fn nobody_saves_up_turns_and_an_idle_ledger_is_empty() {
    let mut waiting = Waiting::default();
    (0..9).for_each(|_| waiting.arrive(submission(0, Priority::Interactive, 100)));
    let mut accounts = Vec::new();
    for _ in 0..5 {
        let entry = waiting.pop().unwrap();
        waiting.charge(entry.account, 100);
        accounts.push(entry.account);
    }
    waiting.arrive(submission(1, Priority::Interactive, 100));
    assert_eq!(waiting.ledger.accounts[1].n_served, 500);
    let over = waiting.take_over(|_| true);
    assert_eq!((over.len(), waiting.len()), (5, 0));
    accounts.into_iter().for_each(|account| waiting.leave(account));
    assert!(waiting.ledger.accounts.is_empty());
}

#[test]
fn a_batch_request_gets_its_turn_and_keeps_it() {
    let mut waiting = Waiting::default();
    (0..2).for_each(|_| waiting.arrive(submission(0, Priority::Batch, 1)));
    (0..30).for_each(|_| waiting.arrive(submission(0, Priority::Interactive, 1)));
    let order: Vec<_> =
        std::iter::from_fn(|| waiting.pop()).map(|e| (e.ticket, e.priority)).collect();
    assert_eq!(order.iter().position(|&(ticket, _)| ticket == 0), Some(8));
    assert_eq!(order.iter().position(|&(ticket, _)| ticket == 1), Some(17));
    assert!(order.iter().all(|&(_, priority)| priority == Priority::Interactive));
}

#[test]
fn accounts_without_influence_make_room() {
    let mut waiting = Waiting::default();
    waiting.arrive(submission(u64::MAX, Priority::Interactive, 1));
    for client in 0..10_000 {
        waiting.arrive(submission(client, Priority::Interactive, 1));
        let over = waiting.take_over(|entry| entry.ticket == client + 1);
        assert_eq!(over.len(), 1);
    }
    assert!(waiting.ledger.accounts.len() <= N_ACCOUNTS_KEPT);
}

#[test]
fn clients_that_come_once_leave_no_accounts_behind() {
    let mut waiting = Waiting::default();
    waiting.arrive(submission(u64::MAX, Priority::Interactive, 1));
    let stream = waiting.pop().unwrap();
    for client in 0..10_000 {
        waiting.arrive(submission(client, Priority::Interactive, 100));
        let entry = waiting.pop().unwrap();
        waiting.charge(entry.account, 100);
        waiting.charge(stream.account, ANSWER_WEIGHT);
        waiting.leave(entry.account);
        assert_eq!(waiting.ledger.accounts[stream.account].client, u64::MAX);
    }
    assert!(waiting.ledger.accounts.len() <= N_ACCOUNTS_KEPT);
    assert!(waiting.ledger.floor > 0);
}

#[test]
fn a_cancelled_batch_request_leaves_its_turn_to_nobody() {
    let mut waiting = Waiting::default();
    waiting.arrive(submission(0, Priority::Batch, 1));
    (0..10).for_each(|_| waiting.arrive(submission(0, Priority::Interactive, 1)));
    (0..PATIENCE).for_each(|_| drop(waiting.pop()));
    assert_eq!(waiting.take_over(|entry| entry.ticket == 0).len(), 1);
    waiting.arrive(submission(0, Priority::Batch, 1));
    assert_eq!(waiting.pop().map(|entry| entry.ticket), Some(9));
}
