//! The books: what one transaction does to limits, counters, reservations and usage.
//!
//! A counter is never more than a sum that is kept: of the usage of its limit and time, and of what
//! is reserved there. It is made when it is first asked for, of the rows, and from then on every
//! row that is written or deleted changes it in the same transaction. So it does not matter when a
//! limit was set, nor who else writes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::LedgerError;
use crate::account_rows::{Counter, DayOf, DaySums, stored};
use crate::limit::{Limit, Per, Then};
use crate::rows::Rows;
use crate::usage::Usage;

/// How often an instance with reservations says that it lives, and how long others wait for that
/// before they settle for it. One that was only held up corrects what they wrote.
const BEAT: Duration = Duration::from_secs(1);
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// Reservations of the dead that are settled in one transaction.
const N_SETTLED: i64 = 256;

/// Limits, as all handles see them.
pub(crate) type Limits = Arc<[Limit]>;

/// Where a limit stands: how much of it is used and reserved in the time that is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: Limit,
    /// What was used, in the unit of its [`What`](crate::What).
    pub used: u64,
    /// What requests at work may take beside that.
    pub reserved: u64,
    /// When it is renewed, in microseconds since 1970 (UTC); `None`: when requests end.
    pub renews_at_us: Option<i64>,
}

impl Standing {
    pub(crate) fn new(limit: &Limit, at_us: i64, counter: Counter) -> Self {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Self {
            limit: limit.clone(),
            used: count(counter.used),
            reserved: count(counter.reserved),
            renews_at_us: limit.per.map(|per| per.window(at_us).end),
        }
    }

    /// Whether a request that may take `most` fits once nothing of the limit is used, with an
    /// answer of `n_least` tokens at least.
    pub fn can_ever_fit(&self, most: &Usage, n_least: u64) -> bool {
        self.limit.room(self.limit.amount, most, n_least).is_some()
    }

    /// All of it; amounts as they are told, times in microseconds since 1970 (UTC).
    pub fn to_json(&self) -> Value {
        let what = self.limit.what;
        let amount = |n: u64| what.told(n).parse::<Value>().unwrap_or_default();
        let mut json = self.limit.to_json();
        json["used"] = amount(self.used);
        json["reserved"] = amount(self.reserved);
        json["left"] = amount(self.left());
        json["renews_at_us"] = self.renews_at_us.into();
        json
    }

    /// What is left of it.
    pub fn left(&self) -> u64 {
        self.limit.amount.saturating_sub(self.used).saturating_sub(self.reserved)
    }
}

/// What became of a request's wish to be taken.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is, and its answers may have so many tokens together.
    Taken { n_answer: u64, standings: Vec<Standing> },
    /// It does not fit this limit.
    Reached(Box<Standing>),
}

/// Whether the same may have been written before, by a transaction whose end nobody told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    First,
    Again,
}

/// What is known beside the database, as of the last transaction.
#[derive(Debug)]
pub(crate) struct Books {
    /// Of this process; random.
    pub(crate) instance: i64,
    limits: Limits,
    /// How often they were changed by then.
    n_changes: Option<i64>,
    /// When this instance last said that it lives.
    beaten: Option<Instant>,
    /// The beat of each other instance, and since when it has been that.
    seen: HashMap<i64, (i64, Instant)>,
    /// When the others were last looked at; `None`: nobody keeps accounts here.
    looked: Option<Instant>,
}

impl Books {
    pub(crate) fn new(instance: i64) -> Self {
        Self {
            instance,
            limits: Arc::default(),
            n_changes: None,
            beaten: None,
            seen: HashMap::new(),
            looked: None,
        }
    }

    /// Whether there are others, as far as was looked.
    pub(crate) fn has_others(&self) -> bool {
        self.seen.keys().any(|instance| *instance != self.instance)
    }

    /// From now on looks after the others.
    pub(crate) fn watch(&mut self) {
        let now = Instant::now();
        self.looked.get_or_insert_with(|| now.checked_sub(BEAT).unwrap_or(now));
    }

    /// How long it is until the others are to be looked at; `None`: never.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.looked.map(|looked| BEAT.saturating_sub(looked.elapsed()))
    }

    /// Begins a transaction.
    pub(crate) async fn open(
        &self,
        rows: &mut Rows<'_>,
        attempt: Attempt,
    ) -> Result<Sheet, LedgerError> {
        let n_changes = rows.n_limit_changes().await?;
        let limits = match self.n_changes == Some(n_changes) {
            true => self.limits.clone(),
            false => rows.limits().await?.into(),
        };
        let needs_beat = self.beaten.is_none_or(|beaten| beaten.elapsed() >= BEAT);
        Ok(Sheet {
            attempt,
            instance: self.instance,
            limits,
            n_changes,
            counters: BTreeMap::new(),
            days: BTreeMap::new(),
            needs_beat,
            has_beaten: false,
            seen: None,
        })
    }

    /// The transaction of the sheet is on its way to the disk. Returns the limits as they are now.
    pub(crate) fn close(&mut self, sheet: Sheet) -> Limits {
        if sheet.has_beaten {
            self.beaten = Some(Instant::now());
        }
        if let Some(seen) = sheet.seen {
            self.seen = seen;
            self.looked = Some(Instant::now());
        }
        (self.limits, self.n_changes) = (sheet.limits, Some(sheet.n_changes));
        self.limits.clone()
    }
}

/// What one transaction has found and done.
#[derive(Debug)]
pub(crate) struct Sheet {
    attempt: Attempt,
    instance: i64,
    limits: Limits,
    n_changes: i64,
    /// By limit and time. What was not changed is not written.
    counters: BTreeMap<(String, i64), Kept>,
    days: BTreeMap<DayOf, DaySums>,
    needs_beat: bool,
    has_beaten: bool,
    /// The others, where they were looked at.
    seen: Option<HashMap<i64, (i64, Instant)>>,
}

/// A counter in a transaction.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// `None`: nobody has asked for it yet, so there is none.
    counter: Option<Counter>,
    is_changed: bool,
}

impl Sheet {
    /// Takes a request that may take `most`, if it fits all limits that concern it; its answer may
    /// be cut to `n_least` tokens for that.
    pub(crate) async fn reserve(
        &mut self,
        rows: &mut Rows<'_>,
        n: i64,
        most: &Usage,
        n_least: u64,
    ) -> Result<Verdict, LedgerError> {
        let limits = self.limits.clone();
        let concerned = || limits.iter().filter(|limit| limit.concerns_usage(most));
        let by = (self.instance, n);
        if self.attempt == Attempt::Again
            && let Some(before) = rows.reservation(by).await?
        {
            let standings = Vec::new();
            return Ok(Verdict::Taken { n_answer: before.n_answer, standings });
        }
        let (mut n_answer, mut reached) = (most.n_answer, None);
        for limit in concerned() {
            let counter = self.counter(rows, limit, most.at_us).await?;
            let standing = Standing::new(limit, most.at_us, counter);
            match limit.room(standing.left(), most, n_least) {
                Some(room) => n_answer = n_answer.min(room),
                None => reached = Some(worse(reached, standing)),
            }
        }
        if let Some(reached) = reached {
            return Ok(Verdict::Reached(Box::new(reached)));
        }
        if std::mem::take(&mut self.needs_beat) {
            rows.beat(self.instance).await?;
            self.has_beaten = true;
        }
        let most = Usage { n_answer, ..most.clone() };
        rows.insert_reservation(by, &most).await?;
        self.count(rows, &most, |limit, counter| {
            counter.reserved += stored(limit.what.held(&most));
        })
        .await?;
        let mut standings = Vec::new();
        for limit in concerned() {
            let counter = self.counter(rows, limit, most.at_us).await?;
            standings.push(Standing::new(limit, most.at_us, counter));
        }
        Ok(Verdict::Taken { n_answer, standings })
    }

    /// Writes what a request took, in the place of what was reserved for it.
    pub(crate) async fn settle(
        &mut self,
        rows: &mut Rows<'_>,
        by: (i64, i64),
        usage: &Usage,
    ) -> Result<(), LedgerError> {
        match rows.take_reservation(by).await? {
            Some(most) => self.unreserve(rows, &most).await?,
            // Somebody took this instance for dead.
            None => {
                if let Some(lost) = rows.take_lost(by).await? {
                    self.spend(rows, &lost, -1).await?;
                }
            }
        }
        self.record(rows, by, usage).await
    }

    /// Gives back what was reserved for a request of which nothing was computed.
    pub(crate) async fn release(
        &mut self,
        rows: &mut Rows<'_>,
        by: (i64, i64),
    ) -> Result<(), LedgerError> {
        if let Some(most) = rows.take_reservation(by).await? {
            return self.unreserve(rows, &most).await;
        }
        match rows.take_lost(by).await? {
            Some(lost) => self.spend(rows, &lost, -1).await,
            None => Ok(()),
        }
    }

    /// Writes what a request took that had nothing reserved, once.
    pub(crate) async fn record(
        &mut self,
        rows: &mut Rows<'_>,
        by: (i64, i64),
        usage: &Usage,
    ) -> Result<(), LedgerError> {
        if rows.insert_usage(by, usage).await? {
            return Ok(());
        }
        self.spend(rows, usage, 1).await
    }

    /// Sets a limit, in the place of the one that it replaces.
    pub(crate) async fn set_limit(
        &mut self,
        rows: &mut Rows<'_>,
        limit: &Limit,
    ) -> Result<(), LedgerError> {
        rows.put_limit(limit).await?;
        self.read_limits(rows).await
    }

    /// Removes a limit.
    pub(crate) async fn remove_limit(
        &mut self,
        rows: &mut Rows<'_>,
        id: &str,
    ) -> Result<(), LedgerError> {
        rows.delete_limit(id).await?;
        self.counters.retain(|(limit, _), _| limit != id);
        self.read_limits(rows).await
    }

    /// Who writes it.
    pub(crate) fn instance(&self) -> i64 {
        self.instance
    }

    /// How many limits there are.
    pub(crate) fn n_limits(&self) -> usize {
        self.limits.len()
    }

    /// Whether there is a limit of this id.
    pub(crate) fn has_limit(&self, id: &str) -> bool {
        self.limits.iter().any(|limit| limit.id() == id)
    }

    async fn read_limits(&mut self, rows: &mut Rows<'_>) -> Result<(), LedgerError> {
        self.limits = rows.limits().await?.into();
        self.n_changes = rows.n_limit_changes().await?;
        Ok(())
    }

    /// Says that this instance lives, where it has something reserved, and settles for others that
    /// have not said so for long.
    pub(crate) async fn look(
        &mut self,
        rows: &mut Rows<'_>,
        books: &Books,
    ) -> Result<(), LedgerError> {
        if self.needs_beat && !rows.reservations_of(self.instance, 1).await?.is_empty() {
            rows.beat(self.instance).await?;
            (self.needs_beat, self.has_beaten) = (false, true);
        }
        let mut seen = HashMap::new();
        for (instance, beat) in rows.instances().await? {
            let since = match books.seen.get(&instance) {
                Some((before, since)) if *before == beat => *since,
                _ => Instant::now(),
            };
            let is_dead = instance != self.instance && since.elapsed() > DEAD_AFTER;
            if !is_dead || !self.give_up(rows, instance).await? {
                seen.insert(instance, (beat, since));
            }
        }
        self.seen = Some(seen);
        Ok(())
    }

    /// Settles what an instance has reserved as if it had taken all of it; whether that was all.
    pub(crate) async fn give_up(
        &mut self,
        rows: &mut Rows<'_>,
        instance: i64,
    ) -> Result<bool, LedgerError> {
        let numbers = rows.reservations_of(instance, N_SETTLED).await?;
        for n in &numbers {
            let by = (instance, *n);
            let Some(most) = rows.take_reservation(by).await? else { continue };
            self.unreserve(rows, &most).await?;
            let usage = Usage { outcome: Usage::LOST.to_owned(), ..most };
            self.record(rows, by, &usage).await?;
        }
        let is_all = numbers.len() < usize::try_from(N_SETTLED).unwrap_or(usize::MAX);
        if is_all {
            rows.delete_instance(instance).await?;
        }
        if !numbers.is_empty() {
            let n = numbers.len();
            tracing::warn!("{n} requests of a server that is gone count as all they might take");
        }
        Ok(is_all)
    }

    /// Writes what was changed.
    pub(crate) async fn write(&mut self, rows: &mut Rows<'_>) -> Result<(), LedgerError> {
        for ((limit, window_us), kept) in &self.counters {
            if let (Some(counter), true) = (kept.counter, kept.is_changed) {
                rows.put_counter(limit, *window_us, counter).await?;
            }
        }
        for (of, sums) in &self.days {
            rows.add_to_day(of, sums).await?;
        }
        Ok(())
    }

    async fn unreserve(&mut self, rows: &mut Rows<'_>, most: &Usage) -> Result<(), LedgerError> {
        let change = |limit: &Limit, counter: &mut Counter| {
            counter.reserved -= stored(limit.what.held(most));
        };
        self.count(rows, most, change).await
    }

    /// Counts a row that was written (1) or deleted (-1).
    async fn spend(
        &mut self,
        rows: &mut Rows<'_>,
        usage: &Usage,
        sign: i64,
    ) -> Result<(), LedgerError> {
        let day_us = Per::Day.window(usage.at_us).start;
        let texts = [&usage.key, &usage.project, &usage.model, &usage.upstream];
        let [key, project, model, upstream] = texts.map(Clone::clone);
        let sums = self.days.entry((day_us, key, project, model, upstream)).or_default();
        let counts =
            [1, usage.n_prompt, usage.n_cached, usage.n_answer, usage.money_micro, usage.energy_mj];
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += sign * stored(count);
        }
        let change = |limit: &Limit, counter: &mut Counter| {
            counter.used += sign * stored(limit.what.used(usage));
        };
        self.count(rows, usage, change).await
    }

    /// Changes the counters that there are of the request's time and limits.
    async fn count(
        &mut self,
        rows: &mut Rows<'_>,
        usage: &Usage,
        change: impl Fn(&Limit, &mut Counter),
    ) -> Result<(), LedgerError> {
        let limits = self.limits.clone();
        for limit in limits.iter().filter(|limit| limit.concerns_usage(usage)) {
            let kept = self.kept(rows, limit, usage.at_us).await?;
            if let Some(counter) = &mut kept.counter {
                change(limit, counter);
                kept.is_changed = true;
            }
        }
        Ok(())
    }

    async fn kept(
        &mut self,
        rows: &mut Rows<'_>,
        limit: &Limit,
        at_us: i64,
    ) -> Result<&mut Kept, LedgerError> {
        let window_us = limit.window(at_us).start;
        match self.counters.entry((limit.id(), window_us)) {
            Entry::Occupied(kept) => Ok(kept.into_mut()),
            Entry::Vacant(place) => {
                let counter = rows.counter(&place.key().0, window_us).await?;
                Ok(place.insert(Kept { counter, is_changed: false }))
            }
        }
    }

    /// The counter, which is made where there is none.
    async fn counter(
        &mut self,
        rows: &mut Rows<'_>,
        limit: &Limit,
        at_us: i64,
    ) -> Result<Counter, LedgerError> {
        if let Some(counter) = self.kept(rows, limit, at_us).await?.counter {
            return Ok(counter);
        }
        // The sums of this day that are not written yet would be missed.
        for (of, sums) in std::mem::take(&mut self.days) {
            rows.add_to_day(&of, &sums).await?;
        }
        let counter = rows.sum(limit, at_us).await?;
        rows.prune_counters(&limit.id(), limit.window(at_us).start).await?;
        let kept = self.kept(rows, limit, at_us).await?;
        *kept = Kept { counter: Some(counter), is_changed: true };
        Ok(counter)
    }
}

/// Of two limits that were reached, the one by which it goes: what is refused is not queued, what
/// is queued goes to no other model, and the longest wait counts.
fn worse(before: Option<Standing>, other: Standing) -> Standing {
    let rank = |standing: &Standing| {
        let then = match standing.limit.then {
            Then::Refuse => 2,
            Then::Queue => 1,
            Then::Alias(_) => 0,
        };
        (then, standing.renews_at_us)
    };
    match before {
        Some(before) if rank(&before) >= rank(&other) => before,
        _ => other,
    }
}
