//! Limits, counters, reservations and usage in the database: how they are read and written.

use std::ops::Range;

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::LedgerError;
use crate::limit::{LIMITS_MAX, Limit, Per, Then, What};
use crate::rows::Rows;
use crate::usage::{Usage, UsageRow};

/// Instances that are looked at: more servers than share one ledger.
const INSTANCES_MAX: i64 = 1024;

/// The columns of a reservation, which are those of usage too, in the order of [`read_usage`].
const RESERVED: &str = "id, at_us, key, project, person, alias, model, route, label, upstream, \
                        n_prompt, n_answer, money_micro, energy_mj";
/// Those that usage has beside them.
const SPENT: &str = "n_cached, queue_us, first_us, total_us, outcome, energy_source, receipt";

/// What is used and reserved of a limit in one of its times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) used: i64,
    pub(crate) reserved: i64,
}

/// What each day's sums tell apart: its beginning, key, project, model and upstream.
pub(crate) type DayOf = (i64, String, String, String, String);
/// Requests, tokens of prompts, of them cached, of answers, money and energy.
pub(crate) type DaySums = [i64; 6];

impl Rows<'_> {
    /// How often limits were changed.
    pub(crate) async fn n_limit_changes(&mut self) -> Result<i64, LedgerError> {
        let one = sqlx::query("SELECT n_changes FROM ledger_books WHERE one = 1");
        let row = one.fetch_one(&mut *self.connection).await;
        self.told(row.and_then(|row| row.try_get(0)))
    }

    /// All limits, by their ids.
    pub(crate) async fn limits(&mut self) -> Result<Vec<Limit>, LedgerError> {
        let all = "SELECT substr(key, 1, 257), substr(project, 1, 257), substr(model, 1, 257), \
             substr(what, 1, 65), substr(per, 1, 65), amount, substr(action, 1, 300) \
             FROM ledger_limits ORDER BY id LIMIT 1001";
        let rows = sqlx::query(all).fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        let corrupt =
            |reason| LedgerError::Corrupt { place: self.place.shown().to_owned(), reason };
        if rows.len() > LIMITS_MAX {
            return Err(corrupt(format!("more than {LIMITS_MAX} limits")));
        }
        rows.iter().map(|row| read_limit(row).map_err(corrupt)).collect()
    }

    /// Writes a limit in the place of the one that it replaces.
    pub(crate) async fn put_limit(&mut self, limit: &Limit) -> Result<(), LedgerError> {
        let put = "INSERT INTO ledger_limits (id, key, project, model, what, per, amount, action) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, action = excluded.action";
        let put = sqlx::query(put)
            .bind(limit.id())
            .bind(&limit.key)
            .bind(&limit.project)
            .bind(&limit.model)
            .bind(limit.what.name())
            .bind(limit.per.map_or("", Per::name))
            .bind(stored(limit.amount))
            .bind(limit.then.text());
        let done = put.execute(&mut *self.connection).await;
        self.told(done)?;
        self.count_limit_change().await
    }

    /// Deletes a limit and its counters.
    pub(crate) async fn delete_limit(&mut self, id: &str) -> Result<(), LedgerError> {
        for delete in [
            "DELETE FROM ledger_limits WHERE id = $1",
            "DELETE FROM ledger_counters WHERE limit_id = $1",
        ] {
            let done = sqlx::query(delete).bind(id).execute(&mut *self.connection).await;
            self.told(done)?;
        }
        self.count_limit_change().await
    }

    async fn count_limit_change(&mut self) -> Result<(), LedgerError> {
        let count = sqlx::query("UPDATE ledger_books SET n_changes = n_changes + 1 WHERE one = 1");
        let done = count.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// Changes something, so that the end of the transaction reaches the disk.
    pub(crate) async fn touch(&mut self) -> Result<(), LedgerError> {
        let touch = sqlx::query("UPDATE ledger_books SET n_syncs = n_syncs + 1 WHERE one = 1");
        let done = touch.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// The counter of a limit as it stands there.
    pub(crate) async fn counter(
        &mut self,
        limit: &str,
        window_us: i64,
    ) -> Result<Option<Counter>, LedgerError> {
        let one = "SELECT used, reserved FROM ledger_counters \
             WHERE limit_id = $1 AND window_us = $2";
        let one = sqlx::query(one).bind(limit).bind(window_us);
        let row = one.fetch_optional(&mut *self.connection).await;
        let row = self.told(row)?;
        let read = |row: AnyRow| Ok(Counter { used: row.try_get(0)?, reserved: row.try_get(1)? });
        self.told(row.map(read).transpose())
    }

    pub(crate) async fn put_counter(
        &mut self,
        limit: &str,
        window_us: i64,
        counter: Counter,
    ) -> Result<(), LedgerError> {
        let put = "INSERT INTO ledger_counters (limit_id, window_us, used, reserved) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (limit_id, window_us) \
             DO UPDATE SET used = excluded.used, reserved = excluded.reserved";
        let put = sqlx::query(put).bind(limit).bind(window_us);
        let put = put.bind(counter.used).bind(counter.reserved);
        let done = put.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// Deletes the counters of times before, of which nothing is reserved any more.
    pub(crate) async fn prune_counters(
        &mut self,
        limit: &str,
        before_us: i64,
    ) -> Result<(), LedgerError> {
        let prune = "DELETE FROM ledger_counters \
             WHERE limit_id = $1 AND window_us < $2 AND reserved = 0";
        let prune = sqlx::query(prune).bind(limit).bind(before_us);
        let done = prune.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// What a counter is made of: the sums over the rows of its limit and window. Whole days are
    /// taken from each day's sums.
    pub(crate) async fn sum(&mut self, limit: &Limit, at_us: i64) -> Result<Counter, LedgerError> {
        let window = limit.window(at_us);
        let today = Per::Day.window(at_us).start.clamp(window.start, window.end);
        let (days, rows) = (window.start..today, today..window.end);
        let used = match limit.what {
            What::Concurrent => 0,
            what => {
                let over_days = format!(
                    "SELECT CAST(coalesce(sum({}), 0) AS BIGINT) FROM ledger_usage_days \
                     WHERE day_us >= $1 AND day_us < $2 AND {OF_LIMIT}",
                    match what {
                        What::Requests => "n_requests",
                        what => column(what),
                    }
                );
                let over_rows = format!(
                    "SELECT CAST(coalesce(sum({}), 0) AS BIGINT) FROM ledger_usage \
                     WHERE at_us >= $1 AND at_us < $2 AND {OF_LIMIT}",
                    column(what)
                );
                self.sum_of(over_days, limit, days).await?
                    + self.sum_of(over_rows, limit, rows).await?
            }
        };
        let reserved = format!(
            "SELECT CAST(coalesce(sum({}), 0) AS BIGINT) FROM ledger_reservations \
             WHERE at_us >= $1 AND at_us < $2 AND {OF_LIMIT}",
            column(limit.what)
        );
        let reserved = self.sum_of(reserved, limit, window).await?;
        Ok(Counter { used, reserved })
    }

    async fn sum_of(
        &mut self,
        sum: String,
        limit: &Limit,
        range: Range<i64>,
    ) -> Result<i64, LedgerError> {
        if range.is_empty() {
            return Ok(0);
        }
        let sum = sqlx::query(AssertSqlSafe(sum)).bind(range.start).bind(range.end);
        let sum = sum.bind(&limit.key).bind(&limit.project).bind(&limit.model);
        let row = sum.fetch_one(&mut *self.connection).await;
        self.told(row.and_then(|row| row.try_get(0)))
    }

    /// Writes what a request may take at most; whether that stood there before.
    pub(crate) async fn insert_reservation(
        &mut self,
        by: (i64, i64),
        most: &Usage,
    ) -> Result<bool, LedgerError> {
        let insert = format!(
            "INSERT INTO ledger_reservations (instance, n, {RESERVED}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
             ON CONFLICT (instance, n) DO NOTHING"
        );
        let insert = sqlx::query(AssertSqlSafe(insert)).bind(by.0).bind(by.1);
        let done = bind_reserved(insert, most).execute(&mut *self.connection).await;
        Ok(self.told(done)?.rows_affected() == 0)
    }

    /// What is reserved under this number.
    pub(crate) async fn reservation(
        &mut self,
        by: (i64, i64),
    ) -> Result<Option<Usage>, LedgerError> {
        let one =
            format!("SELECT {RESERVED} FROM ledger_reservations WHERE instance = $1 AND n = $2");
        self.one_usage(one, by).await
    }

    /// Deletes a reservation, and returns what it was.
    pub(crate) async fn take_reservation(
        &mut self,
        by: (i64, i64),
    ) -> Result<Option<Usage>, LedgerError> {
        let take = format!(
            "DELETE FROM ledger_reservations WHERE instance = $1 AND n = $2 RETURNING {RESERVED}"
        );
        self.one_usage(take, by).await
    }

    /// Some numbers of an instance under which something is reserved.
    pub(crate) async fn reservations_of(
        &mut self,
        instance: i64,
        limit: i64,
    ) -> Result<Vec<i64>, LedgerError> {
        let some = "SELECT n FROM ledger_reservations WHERE instance = $1 ORDER BY n LIMIT $2";
        let rows = sqlx::query(some).bind(instance).bind(limit);
        let rows = rows.fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        self.told(rows.iter().map(|row| row.try_get(0)).collect())
    }

    /// Writes what a request took; whether a row of this number stood there before.
    pub(crate) async fn insert_usage(
        &mut self,
        by: (i64, i64),
        usage: &Usage,
    ) -> Result<bool, LedgerError> {
        let insert = format!(
            "INSERT INTO ledger_usage (instance, n, {RESERVED}, {SPENT}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
             $17, $18, $19, $20, $21, $22, $23) ON CONFLICT (instance, n) DO NOTHING"
        );
        let insert = sqlx::query(AssertSqlSafe(insert)).bind(by.0).bind(by.1);
        let insert = bind_reserved(insert, usage)
            .bind(stored(usage.n_cached))
            .bind(stored(usage.queue_us))
            .bind(stored(usage.first_us))
            .bind(stored(usage.total_us))
            .bind(&usage.outcome)
            .bind(&usage.energy_source)
            .bind(&usage.receipt);
        let done = insert.execute(&mut *self.connection).await;
        Ok(self.told(done)?.rows_affected() == 0)
    }

    /// Deletes the row of a request that was given up as lost, and returns what it was.
    pub(crate) async fn take_lost(&mut self, by: (i64, i64)) -> Result<Option<Usage>, LedgerError> {
        let take = format!(
            "DELETE FROM ledger_usage WHERE instance = $1 AND n = $2 AND outcome = '{}' \
             RETURNING {RESERVED}",
            Usage::LOST
        );
        self.one_usage(take, by).await
    }

    async fn one_usage(
        &mut self,
        sql: String,
        by: (i64, i64),
    ) -> Result<Option<Usage>, LedgerError> {
        let one = sqlx::query(AssertSqlSafe(sql)).bind(by.0).bind(by.1);
        let row = one.fetch_optional(&mut *self.connection).await;
        let row = self.told(row)?;
        self.told(row.map(|row| read_reserved(&row, 0)).transpose())
    }

    /// Usage behind the number `after`, at most `limit` rows.
    pub(crate) async fn usage_after(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<UsageRow>, LedgerError> {
        let page = format!(
            "SELECT {RESERVED}, {SPENT}, seq FROM ledger_usage \
             WHERE seq > $1 ORDER BY seq LIMIT $2"
        );
        let page = sqlx::query(AssertSqlSafe(page)).bind(after).bind(limit);
        let rows = page.fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        self.told(rows.iter().map(read_usage).collect())
    }

    /// Usage of a person up to a time and behind the number `after`, at most `limit` rows.
    pub(crate) async fn usage_of_person(
        &mut self,
        person: &str,
        until_us: i64,
        (after, limit): (i64, i64),
    ) -> Result<Vec<UsageRow>, LedgerError> {
        let page = format!(
            "SELECT {RESERVED}, {SPENT}, seq FROM ledger_usage \
             WHERE person = $1 AND person <> '' AND at_us <= $2 AND seq > $3 \
             ORDER BY seq LIMIT $4"
        );
        let page = sqlx::query(AssertSqlSafe(page)).bind(person).bind(until_us);
        let page = page.bind(after).bind(limit);
        let rows = page.fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        self.told(rows.iter().map(read_usage).collect())
    }

    /// Takes the name of a person out of a row of usage.
    pub(crate) async fn forget_person_of(&mut self, seq: i64) -> Result<(), LedgerError> {
        let forget = sqlx::query("UPDATE ledger_usage SET person = '' WHERE seq = $1").bind(seq);
        let done = forget.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// Adds to the sums of a day.
    pub(crate) async fn add_to_day(
        &mut self,
        of: &DayOf,
        sums: &DaySums,
    ) -> Result<(), LedgerError> {
        let add = "INSERT INTO ledger_usage_days (day_us, key, project, model, upstream, \
             n_requests, n_prompt, n_cached, n_answer, money_micro, energy_mj) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (day_us, key, project, model, upstream) DO UPDATE SET \
             n_requests = ledger_usage_days.n_requests + excluded.n_requests, \
             n_prompt = ledger_usage_days.n_prompt + excluded.n_prompt, \
             n_cached = ledger_usage_days.n_cached + excluded.n_cached, \
             n_answer = ledger_usage_days.n_answer + excluded.n_answer, \
             money_micro = ledger_usage_days.money_micro + excluded.money_micro, \
             energy_mj = ledger_usage_days.energy_mj + excluded.energy_mj";
        let (day_us, key, project, model, upstream) = of;
        let mut add = sqlx::query(add).bind(day_us).bind(key).bind(project);
        add = add.bind(model).bind(upstream);
        for sum in sums {
            add = add.bind(sum);
        }
        let done = add.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// Says that an instance lives.
    pub(crate) async fn beat(&mut self, instance: i64) -> Result<(), LedgerError> {
        let beat = "INSERT INTO ledger_instances (id, beat) VALUES ($1, 1) \
             ON CONFLICT (id) DO UPDATE SET beat = ledger_instances.beat + 1";
        let done = sqlx::query(beat).bind(instance).execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// The instances and their beats.
    pub(crate) async fn instances(&mut self) -> Result<Vec<(i64, i64)>, LedgerError> {
        let all = "SELECT id, beat FROM ledger_instances ORDER BY id LIMIT $1";
        let rows = sqlx::query(all).bind(INSTANCES_MAX).fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        let read = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
        self.told(rows.iter().map(read).collect())
    }

    pub(crate) async fn delete_instance(&mut self, instance: i64) -> Result<(), LedgerError> {
        let delete = sqlx::query("DELETE FROM ledger_instances WHERE id = $1").bind(instance);
        let done = delete.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }
}

/// Rows of a limit's key, project and model, which are bound from the third value on.
const OF_LIMIT: &str = "($3 = '' OR key = $3) AND ($4 = '' OR project = $4) \
                        AND ($5 = '' OR model = $5)";

/// What of a row, or of a day's sums, a limit counts.
fn column(what: What) -> &'static str {
    match what {
        What::Requests | What::Concurrent => "1",
        What::Tokens => "n_prompt + n_answer",
        What::TokensIn => "n_prompt",
        What::TokensOut => "n_answer",
        What::Money => "money_micro",
        What::Energy => "energy_mj",
    }
}

/// Counts are bounded when they are taken, so they fit.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

fn bind_reserved<'q>(query: Query<'q>, usage: &Usage) -> Query<'q> {
    query
        .bind(&usage.id)
        .bind(usage.at_us)
        .bind(&usage.key)
        .bind(&usage.project)
        .bind(&usage.person)
        .bind(&usage.alias)
        .bind(&usage.model)
        .bind(&usage.route)
        .bind(&usage.label)
        .bind(&usage.upstream)
        .bind(stored(usage.n_prompt))
        .bind(stored(usage.n_answer))
        .bind(stored(usage.money_micro))
        .bind(stored(usage.energy_mj))
}

/// Reads the columns of [`RESERVED`] from the place `at` on.
fn read_reserved(row: &AnyRow, at: usize) -> sqlx::Result<Usage> {
    Ok(Usage {
        id: row.try_get(at)?,
        at_us: row.try_get(at + 1)?,
        key: row.try_get(at + 2)?,
        project: row.try_get(at + 3)?,
        person: row.try_get(at + 4)?,
        alias: row.try_get(at + 5)?,
        model: row.try_get(at + 6)?,
        route: row.try_get(at + 7)?,
        label: row.try_get(at + 8)?,
        upstream: row.try_get(at + 9)?,
        n_prompt: read(row.try_get(at + 10)?),
        n_answer: read(row.try_get(at + 11)?),
        money_micro: read(row.try_get(at + 12)?),
        energy_mj: read(row.try_get(at + 13)?),
        ..Usage::default()
    })
}

/// Reads the columns of [`RESERVED`] and [`SPENT`], and the number behind them.
fn read_usage(row: &AnyRow) -> sqlx::Result<UsageRow> {
    let usage = Usage {
        n_cached: read(row.try_get(14)?),
        queue_us: read(row.try_get(15)?),
        first_us: read(row.try_get(16)?),
        total_us: read(row.try_get(17)?),
        outcome: row.try_get(18)?,
        energy_source: row.try_get(19)?,
        receipt: row.try_get(20)?,
        ..read_reserved(row, 0)?
    };
    Ok(UsageRow { seq: row.try_get(21)?, usage })
}

fn read_limit(row: &AnyRow) -> Result<Limit, String> {
    let text = |column: usize| row.try_get::<String, _>(column).map_err(|error| error.to_string());
    let unknown = |what: &str, value: &str| format!("a limit's {what} {value:?} is not known");
    let (what, per, then) = (text(3)?, text(4)?, text(6)?);
    let limit = Limit {
        key: text(0)?,
        project: text(1)?,
        model: text(2)?,
        what: What::of_name(&what).ok_or_else(|| unknown("what", &what))?,
        amount: read(row.try_get(5).map_err(|error| error.to_string())?),
        per: match &*per {
            "" => None,
            per => Some(Per::of_name(per).ok_or_else(|| unknown("per", per))?),
        },
        then: Then::read(&then).map_err(|error| error.to_string())?,
    };
    limit.check().map_err(|error| error.to_string())?;
    Ok(limit)
}
