//! Requests and the owner's limits: each is held against them before its answer, and written down
//! behind it. The ledger counts; what becomes of a request that does not fit is decided here.

mod rates;
pub(crate) mod wire;

pub(crate) use rates::{NAMES, rates};

use crate::access::Who;
use crate::app::Arrival;
use crate::dialects::rfc3339;
use crate::energy::EnergySource;
use crate::errors::ServerError;
use crate::listen::told;
use crate::receipts::{Receipts, unwritable};
use ledger::{Ledger, LedgerError, Reservation, Reserved, Standing, Then, Usage, What};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};

/// How long a request without a deadline waits for room at a limit.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How often it looks whether other servers have made some.
const LOOK: Duration = Duration::from_millis(500);
/// When a request may come again that finds as many at work as may be.
const RETRY_AT_WORK: Duration = Duration::from_secs(1);

/// How long whoever measures waits for the ledger.
const GAUGES_WAIT: Duration = Duration::from_secs(2);

/// The accounts of a server.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    ledger: Ledger,
    /// Told when a request has ended.
    freed: Arc<Notify>,
    /// By limit and by what became of them: requests that did not fit.
    reached: Arc<Mutex<BTreeMap<(String, &'static str), u64>>>,
    /// How limits of money stood when they were last looked at.
    money: Arc<Mutex<Vec<Standing>>>,
}

/// What a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// The name that it asked for, if it asked for one.
    pub(crate) asked: Option<&'a str>,
    /// The model that is to answer.
    pub(crate) model: &'a str,
    /// Where it goes, if it leaves this machine.
    pub(crate) there: Option<There<'a>>,
    /// Tokens of its prompts.
    pub(crate) n_prompt: u64,
    /// Tokens of all its answers at most, and how many they must be allowed to have.
    pub(crate) n_answer: u64,
    pub(crate) n_least: u64,
    pub(crate) deadline: Option<Instant>,
    /// Whether another model may answer.
    pub(crate) may_change: bool,
}

/// What is known of a request that leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct There<'a> {
    pub(crate) upstream: &'a str,
    pub(crate) label: &'static str,
    /// What it may cost at most, in millionths of the owner's currency, where prices say.
    pub(crate) money_micro: u64,
}

/// What became of a wish to be taken.
pub(crate) enum Taken {
    Account(Box<Account>),
    /// The model of this name is to answer.
    Instead(String),
}

/// A request that was taken. What was reserved for it is given back where it is dropped without
/// being [settled](Self::settle): nothing was computed.
pub(crate) struct Account {
    ledger: Ledger,
    /// What it may take.
    most: Usage,
    /// Where a limit concerns it.
    reservation: Option<Reservation>,
    /// Last, so that whoever is told finds it free.
    _freed: Freed,
}

/// What a request took.
pub(crate) struct Spent {
    pub(crate) n_prompt: u64,
    pub(crate) n_cached: u64,
    pub(crate) n_answer: u64,
    pub(crate) queue: Duration,
    pub(crate) first: Duration,
    pub(crate) total: Duration,
    /// Millionths of the owner's currency, where an upstream asks for some and prices say how much.
    pub(crate) money_micro: Option<u64>,
    /// Of energy, in thousandths of a joule, where that is known.
    pub(crate) energy: Option<(u64, EnergySource)>,
    pub(crate) outcome: &'static str,
    /// What the rules said of it, where there were any to ask.
    pub(crate) label: Option<&'static str>,
    /// The id of its receipt.
    pub(crate) receipt: String,
}

/// What there is to measure of a limit.
pub(crate) struct LimitGauges {
    pub(crate) id: String,
    pub(crate) amount: u64,
    pub(crate) standing: Standing,
    /// How often it was reached, by what became of the requests.
    pub(crate) n_reached: Vec<(&'static str, u64)>,
}

/// Says that there may be room, when it is dropped.
struct Freed(Arc<Notify>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl Accounts {
    /// Keeps accounts in the ledger of the receipts, and settles for servers that are gone.
    ///
    /// # Errors
    /// A ledger that is closed.
    pub(crate) fn of(receipts: &Receipts) -> Result<Self, ServerError> {
        let ledger = receipts.ledger().clone();
        ledger.watch().map_err(|error| unwritable(&error.to_string()))?;
        let (freed, reached, money) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { ledger, freed, reached, money })
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether any limit has another model answer.
    pub(crate) fn has_alias(&self) -> bool {
        self.ledger.limits().iter().any(|limit| matches!(limit.then, Then::Alias(_)))
    }

    /// Whether a limit of such a kind concerns requests of `who` that `model` answers.
    pub(crate) fn are_limited(&self, who: &Who, model: &str, is_such: fn(What) -> bool) -> bool {
        let project = who.project.as_deref().unwrap_or_default();
        let limits = self.ledger.limits();
        limits.iter().any(|limit| is_such(limit.what) && limit.concerns(&who.name, project, model))
    }

    /// Looks how the limits of money stand; where the ledger does not say, nothing is known.
    pub(crate) async fn look_at_money(&self) {
        let standings = tokio::time::timeout(GAUGES_WAIT, self.ledger.standings()).await;
        let mut standings = standings.ok().and_then(Result::ok).unwrap_or_default();
        standings.retain(|standing| standing.limit.what == What::Money);
        *self.money.lock().unwrap_or_else(PoisonError::into_inner) = standings;
    }

    /// What was left for requests of `who` when that was last looked at, in the owner's currency:
    /// the least of the limits of money that concern them, whatever model answers. `None`: none
    /// does, or nothing is known of them.
    pub(crate) fn money_left(&self, who: &Who) -> Option<f64> {
        let project = who.project.as_deref().unwrap_or_default();
        let money = self.money.lock().unwrap_or_else(PoisonError::into_inner);
        let own = money.iter().filter(|one| one.limit.concerns(&who.name, project, ""));
        own.map(Standing::left).min().map(|left_micro| left_micro as f64 / 1e6)
    }

    /// Takes a request that fits all limits that concern it, and waits for that where the one that
    /// it does not fit says so. Where none concerns it nothing is waited for. `over` says that the
    /// server goes down.
    ///
    /// # Errors
    /// [`ServerError::LimitReached`]; a ledger that cannot count: then nothing is answered.
    pub(crate) async fn take(
        &self,
        arrival: &Arrival,
        ask: &Ask<'_>,
        mut over: watch::Receiver<bool>,
    ) -> Result<Taken, ServerError> {
        let mut most = most(arrival, ask);
        let limits = self.ledger.limits();
        if !limits.iter().any(|limit| limit.concerns(&most.key, &most.project, &most.model)) {
            return Ok(self.account(most, None));
        }
        let until = ask.deadline.unwrap_or(arrival.started + WAIT_MAX);
        let mut has_waited = false;
        loop {
            // Before it is asked, so that no end in between is missed.
            let freed = self.freed.notified();
            most.at_us = now_us();
            let reserved = self.ledger.reserve(most.clone(), ask.n_least).await;
            let standing = match reserved.map_err(uncounted)? {
                Reserved::Taken(reservation) => {
                    most.n_answer = reservation.most().n_answer;
                    return Ok(self.account(most, Some(reservation)));
                }
                Reserved::Reached(standing) => standing,
            };
            let can_fit = standing.can_ever_fit(&most, ask.n_least);
            let wait = retry_after(&standing, most.at_us);
            match &standing.limit.then {
                Then::Alias(name) if ask.may_change => {
                    self.count(&standing, "redirected");
                    return Ok(Taken::Instead(name.clone()));
                }
                // What waits for the end of others is not known to be too late.
                Then::Queue if can_fit && Instant::now() + wait <= until => {
                    if !std::mem::replace(&mut has_waited, true) {
                        self.count(&standing, "queued");
                    }
                }
                Then::Queue | Then::Refuse | Then::Alias(_) => {
                    self.count(&standing, "refused");
                    let retry_after = can_fit.then_some(wait);
                    let what = reached(&standing, &most, ask.n_least);
                    return Err(ServerError::LimitReached { what, standing, retry_after });
                }
            }
            tokio::select! {
                biased;
                () = told(&mut over) => return Err(ServerError::ShuttingDown),
                () = freed => {}
                () = tokio::time::sleep(wait.min(LOOK)) => {}
            }
        }
    }

    /// How the limits stand, and how often each was reached; nothing where the ledger does not say.
    pub(crate) async fn gauges(&self) -> Vec<LimitGauges> {
        let standings = tokio::time::timeout(GAUGES_WAIT, self.ledger.standings()).await;
        let standings = standings.ok().and_then(Result::ok).unwrap_or_default();
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gauges = |standing: Standing| {
            let id = standing.limit.id();
            let of = reached.iter().filter(|((limit, _), _)| *limit == id);
            let n_reached = of.map(|((_, outcome), n)| (*outcome, *n)).collect();
            LimitGauges { id, amount: standing.limit.amount, standing, n_reached }
        };
        standings.into_iter().map(gauges).collect()
    }

    fn count(&self, standing: &Standing, outcome: &'static str) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        *reached.entry((standing.limit.id(), outcome)).or_default() += 1;
    }

    fn account(&self, most: Usage, reservation: Option<Reservation>) -> Taken {
        let (ledger, freed) = (self.ledger.clone(), Freed(Arc::clone(&self.freed)));
        Taken::Account(Box::new(Account { ledger, most, reservation, _freed: freed }))
    }
}

impl Account {
    /// Tokens that its answers may have together: fewer than it asked for where not more are left.
    pub(crate) fn n_answer(&self) -> u64 {
        self.most.n_answer
    }

    /// When it was taken, in microseconds since 1970 (UTC).
    pub(crate) fn at_us(&self) -> i64 {
        self.most.at_us
    }

    /// How the limits stand that concern it.
    pub(crate) fn standings(&self) -> &[Standing] {
        self.reservation.as_ref().map_or(&[], Reservation::standings)
    }

    /// Writes down what it took, which nobody waits for.
    pub(crate) fn settle(self, spent: Spent) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut usage = Usage {
            n_prompt: spent.n_prompt,
            n_cached: spent.n_cached,
            n_answer: spent.n_answer,
            queue_us: us(spent.queue),
            first_us: us(spent.first),
            total_us: us(spent.total),
            outcome: spent.outcome.to_owned(),
            receipt: spent.receipt,
            ..self.most
        };
        if usage.label.is_empty() {
            spent.label.unwrap_or_default().clone_into(&mut usage.label);
        }
        put_cost(&mut usage, spent.money_micro, spent.energy);
        match self.reservation {
            Some(reservation) => reservation.settle(usage),
            None => {
                if let Err(error) = self.ledger.record(usage) {
                    tracing::error!(%error, "what a request took is not written down");
                }
            }
        }
    }
}

/// Puts in what a request cost: the one place where money and energy come in. An answer of this
/// machine costs no money.
fn put_cost(usage: &mut Usage, money: Option<u64>, energy: Option<(u64, EnergySource)>) {
    usage.money_micro = money.unwrap_or(0);
    if let Some((energy_mj, source)) = energy {
        (usage.energy_mj, usage.energy_source) = (energy_mj, source.name().to_owned());
    }
}

/// What a request may take at most.
fn most(arrival: &Arrival, ask: &Ask<'_>) -> Usage {
    let who = &arrival.who;
    let alias = ask.asked.filter(|asked| *asked != ask.model).unwrap_or_default();
    Usage {
        id: arrival.id.clone(),
        at_us: arrival.at_us,
        key: who.name.clone(),
        project: who.project.clone().unwrap_or_default(),
        person: who.person.clone().unwrap_or_default(),
        alias: alias.to_owned(),
        model: ask.model.to_owned(),
        route: arrival.route.clone(),
        n_prompt: ask.n_prompt,
        n_answer: ask.n_answer,
        label: ask.there.map_or_else(String::new, |there| there.label.to_owned()),
        upstream: ask.there.map_or_else(String::new, |there| there.upstream.to_owned()),
        money_micro: ask.there.map_or(0, |there| there.money_micro),
        ..Usage::default()
    }
}

/// After how long there may be room at a limit.
fn retry_after(standing: &Standing, now_us: i64) -> Duration {
    let left = standing.renews_at_us.and_then(|at_us| u64::try_from(at_us - now_us).ok());
    left.map_or(RETRY_AT_WORK, Duration::from_micros)
}

/// What is said of a limit that a request does not fit.
fn reached(standing: &Standing, most: &Usage, n_least: u64) -> String {
    let Standing { limit, used, reserved, renews_at_us } = standing;
    let told = |amount: u64| limit.what.told(amount);
    let needed = match limit.what {
        What::Tokens => most.n_prompt.saturating_add(n_least),
        What::TokensIn => most.n_prompt,
        What::TokensOut => n_least,
        What::Requests | What::Concurrent => 1,
        What::Money => most.money_micro,
        What::Energy => most.energy_mj,
    };
    let unit = match limit.what {
        What::Money => " of the currency",
        What::Energy => " Wh",
        _ => "",
    };
    let amount = format!("{}{unit}", told(limit.amount));
    let mut text = format!("limit {:?}: of {amount} {} are used", limit.id(), told(*used));
    if *reserved > 0 {
        text += &format!(", {} held by requests at work", told(*reserved));
    }
    if needed > 0 {
        text += &format!(", and this request needs {}", told(needed));
    }
    match renews_at_us.map(|at_us| rfc3339(at_us.unsigned_abs() / 1_000_000)) {
        Some(at) => text += &format!("; it is renewed at {at}"),
        None => text += "; there is room when one of them ends",
    }
    text
}

/// What is told of a ledger that cannot be used. Paths and hosts stand in the log only.
pub(crate) fn uncounted(error: LedgerError) -> ServerError {
    tracing::error!(%error, "the ledger does not count");
    unwritable("it does not count what limits are about")
}

/// The time, in microseconds since 1970 (UTC).
pub(crate) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Limit, Per};

    #[test]
    fn a_limit_that_is_reached_is_told_with_its_numbers() {
        let check = |what: What,
                     per: Option<Per>,
                     amount: u64,
                     [used, reserved]: [u64; 2],
                     expected: &str| {
            let limit = Limit::new("key:anna", what, amount, per).unwrap();
            let renews_at_us = per.map(|_| 1_772_668_800_000_000);
            let standing = Standing { limit, used, reserved, renews_at_us };
            let most = Usage { n_prompt: 30, n_answer: 50, ..Usage::default() };
            assert_eq!(reached(&standing, &most, 20), expected);
        };
        check(
            What::Tokens,
            Some(Per::Day),
            120,
            [80, 15],
            "limit \"key:anna tokens/day\": of 120 80 are used, 15 held by requests at work, and \
             this request needs 50; it is renewed at 2026-03-05T00:00:00Z",
        );
        check(
            What::Concurrent,
            None,
            2,
            [0, 2],
            "limit \"key:anna concurrent\": of 2 0 are used, 2 held by requests at work, and this \
             request needs 1; there is room when one of them ends",
        );
        check(
            What::Energy,
            Some(Per::Month),
            3_600_000,
            [3_600_000, 0],
            "limit \"key:anna energy/month\": of 1 Wh 1 are used; it is renewed at \
             2026-03-05T00:00:00Z",
        );
    }

    #[test]
    fn it_is_renewed_when_its_time_is_over() {
        let limit = Limit::new("all", What::Requests, 1, Some(Per::Minute)).unwrap();
        let renews_at_us = Some(60_000_000);
        let standing = Standing { limit, used: 1, reserved: 0, renews_at_us };
        assert_eq!(retry_after(&standing, 59_000_000), Duration::from_secs(1));
        assert_eq!(retry_after(&standing, 61_000_000), RETRY_AT_WORK);
        let standing = Standing { renews_at_us: None, ..standing };
        assert_eq!(retry_after(&standing, 0), RETRY_AT_WORK);
    }
}
