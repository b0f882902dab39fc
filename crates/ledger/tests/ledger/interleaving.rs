//! Any order of what can happen to the books, held against a plain model of them: lists that are
//! summed up anew each time.

use freehold_ledger::{Ledger, Limit, Per, Reader, Reservation, Reserved, Usage, UsageQuery, What};
use proptest::prelude::*;

use crate::accounts::AT;
use crate::site::{Site, other_key};

/// What happens next.
#[derive(Debug, Clone)]
enum Act {
    Set {
        subject: usize,
        what: usize,
        per: usize,
        amount: u64,
    },
    Remove {
        nth: usize,
    },
    /// By one of two servers.
    Reserve {
        server: usize,
        usage: Usage,
        n_least: u64,
    },
    Settle {
        nth: usize,
        n_prompt: u64,
        n_answer: u64,
    },
    Release {
        nth: usize,
    },
    Record {
        server: usize,
        usage: Usage,
    },
}

const SUBJECTS: [&str; 5] = ["all", "key:a", "key:b,model:m", "project:p", "model:n"];

fn any_usage() -> impl Strategy<Value = Usage> {
    let names = (0..2usize, 0..2usize, 0..2usize);
    // Around the end of a day.
    let times = prop::sample::select(vec![0, 59, 70_000, 86_399, 86_400, 86_461]);
    (names, times, 0..30u64, 0..30u64, 0..3u64).prop_map(
        |(names, second, n_prompt, n_answer, more)| Usage {
            key: ["a", "b"][names.0].to_owned(),
            project: ["p", "q"][names.1].to_owned(),
            model: ["m", "n"][names.2].to_owned(),
            at_us: Per::Day.window(AT).start + second * 1_000_000,
            n_prompt,
            n_answer,
            money_micro: more,
            energy_mj: more,
            ..Usage::default()
        },
    )
}

fn any_act() -> impl Strategy<Value = Act> {
    let set = (0..SUBJECTS.len(), 0..What::ALL.len(), 0..Per::ALL.len(), 0..150u64);
    prop_oneof![
        2 => set.prop_map(|(subject, what, per, amount)| Act::Set { subject, what, per, amount }),
        1 => any::<usize>().prop_map(|nth| Act::Remove { nth }),
        8 => (0..2usize, any_usage(), 0..30u64)
            .prop_map(|(server, usage, n_least)| Act::Reserve { server, usage, n_least }),
        4 => (any::<usize>(), 0..30u64, 0..30u64)
            .prop_map(|(nth, n_prompt, n_answer)| Act::Settle { nth, n_prompt, n_answer }),
        1 => any::<usize>().prop_map(|nth| Act::Release { nth }),
        1 => (0..2usize, any_usage()).prop_map(|(server, usage)| Act::Record { server, usage }),
    ]
}

/// The plain model.
#[derive(Default)]
struct Model {
    limits: Vec<Limit>,
    at_work: Vec<Usage>,
    rows: Vec<Usage>,
}

impl Model {
    fn count(what: What, usage: &Usage) -> u64 {
        match what {
            What::Requests | What::Concurrent => 1,
            What::Tokens => usage.n_prompt + usage.n_answer,
            What::TokensIn => usage.n_prompt,
            What::TokensOut => usage.n_answer,
            What::Money => usage.money_micro,
            What::Energy => usage.energy_mj,
        }
    }

    /// What is left of a limit for a request.
    fn left(&self, limit: &Limit, at_us: i64) -> u64 {
        let is_of = |usage: &&Usage| {
            limit.concerns(&usage.key, &usage.project, &usage.model)
                && limit.per.is_none_or(|per| per.window(at_us).contains(&usage.at_us))
        };
        let sum = |usages: &[Usage]| -> u64 {
            usages.iter().filter(is_of).map(|usage| Self::count(limit.what, usage)).sum()
        };
        let used = if limit.what == What::Concurrent { 0 } else { sum(&self.rows) };
        limit.amount.saturating_sub(used).saturating_sub(sum(&self.at_work))
    }

    /// Tokens of the answer that it may have, if it is taken.
    fn may(&self, usage: &Usage, n_least: u64) -> Option<u64> {
        let n_least = n_least.min(usage.n_answer);
        let mut n_answer = usage.n_answer;
        for limit in &self.limits {
            if !limit.concerns(&usage.key, &usage.project, &usage.model) {
                continue;
            }
            let left = self.left(limit, usage.at_us);
            match limit.what {
                What::Tokens => n_answer = n_answer.min(left.checked_sub(usage.n_prompt)?),
                What::TokensOut => n_answer = n_answer.min(left),
                What::Energy if left < usage.energy_mj.max(1) => return None,
                what if left < Self::count(what, usage) => return None,
                _ => {}
            }
        }
        (n_answer >= n_least).then_some(n_answer)
    }
}

async fn play(acts: Vec<Act>) {
    let site = Site::sqlite();
    let servers = [site.open().await, Ledger::open(&site.url, other_key()).await.unwrap()];
    let mut model = Model::default();
    let mut open: Vec<Reservation> = Vec::new();
    for act in acts {
        match act {
            Act::Set { subject, what, per, amount } => {
                let what = What::ALL[what];
                let per = (what != What::Concurrent).then_some(Per::ALL[per]);
                let limit = Limit::new(SUBJECTS[subject], what, amount, per).unwrap();
                servers[0].set_limit(limit.clone(), "owner").await.unwrap();
                model.limits.retain(|other| other.id() != limit.id());
                model.limits.push(limit);
            }
            Act::Remove { nth } if !model.limits.is_empty() => {
                let limit = model.limits.remove(nth % model.limits.len());
                assert!(servers[1].remove_limit(&limit.id(), "owner").await.unwrap());
            }
            Act::Reserve { server, usage, n_least } => {
                let found = servers[server].reserve(usage.clone(), n_least).await.unwrap();
                let expected = model.may(&usage, n_least);
                match found {
                    Reserved::Taken(reservation) => {
                        assert_eq!(Some(reservation.most().n_answer), expected, "{usage:?}");
                        model.at_work.push(reservation.most().clone());
                        open.push(reservation);
                    }
                    Reserved::Reached(standing) => {
                        assert_eq!(expected, None, "{usage:?} {standing:?}");
                        assert_eq!(standing.left(), model.left(&standing.limit, usage.at_us));
                    }
                }
            }
            Act::Settle { nth, n_prompt, n_answer } if !open.is_empty() => {
                let nth = nth % open.len();
                let usage = Usage { n_prompt, n_answer, ..model.at_work.remove(nth) };
                open.remove(nth).settle(usage.clone());
                model.rows.push(usage);
            }
            Act::Release { nth } if !open.is_empty() => {
                let nth = nth % open.len();
                model.at_work.remove(nth);
                drop(open.remove(nth));
            }
            Act::Record { server, usage } => {
                servers[server].record(usage.clone()).unwrap();
                model.rows.push(usage);
            }
            Act::Remove { .. } | Act::Settle { .. } | Act::Release { .. } => {}
        }
        // What nobody waits for reaches the other server when it is written.
        for server in &servers {
            server.flush().await.unwrap();
        }
    }
    check_end(&site, &model).await;
    drop(open);
    for server in servers {
        server.close().await.unwrap();
    }
    let reader = Reader::open(&site.url).await.unwrap();
    assert_eq!(reader.check_counters(AT).await.unwrap(), None);
}

/// Counters and sums are those of the model.
async fn check_end(site: &Site, model: &Model) {
    let reader = Reader::open(&site.url).await.unwrap();
    for second in [0, 59, 70_000, 86_399, 86_400, 86_461] {
        let at_us = Per::Day.window(AT).start + second * 1_000_000;
        assert_eq!(reader.check_counters(at_us).await.unwrap(), None);
    }
    let sums = reader.usage(&UsageQuery::all()).await.unwrap();
    let sum = |of: fn(&Usage) -> u64| model.rows.iter().map(of).sum::<u64>();
    assert_eq!(sums[0].n_requests, model.rows.len() as u64);
    assert_eq!(sums[0].n_prompt, sum(|usage| usage.n_prompt));
    assert_eq!(sums[0].n_answer, sum(|usage| usage.n_answer));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn books_are_what_a_plain_model_says(acts in prop::collection::vec(any_act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(acts));
    }
}
