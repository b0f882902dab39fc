//! Reading accounts: sums over what requests took, how long they took, the rows themselves, and
//! where limits stand.

use std::collections::BTreeMap;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AssertSqlSafe, Connection as _, Row as _};

use crate::account_rows::Counter;
use crate::books::Standing;
use crate::limit::Per;
use crate::place::Place;
use crate::rows::Rows;
use crate::usage::{Times, UsageBy, UsageQuery, UsageRow, UsageSum, UsageTimes};
use crate::{LedgerError, Limit, Reader, now_us, schema};

/// Most sums of one question: a month's days of a few hundred keys.
const SUMS_MAX: i64 = 10_000;
/// Rows that are read at a time.
const PAGE_ROWS: i64 = 4096;

impl Reader {
    /// What requests took together, sorted by what they are told apart by; 10,000 sums at most. A
    /// time of whole days, told apart and chosen by day, key, project, model and upstream alone, is
    /// answered from each day's sums, anything else from the rows.
    ///
    /// # Errors
    /// A question with too many properties; what the database says.
    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, LedgerError> {
        check(query)?;
        let table = if is_of_days(query, now_us()) { Table::Days } else { Table::Rows };
        let sum = |sums: &str, column: &str| {
            format!("CAST(coalesce(sum({sums}), 0) AS BIGINT) AS sum_{column}")
        };
        let counts = ["n_prompt", "n_cached", "n_answer", "money_micro", "energy_mj"];
        let mut columns = texts(query, table);
        columns.push(sum(if table == Table::Days { "n_requests" } else { "1" }, "n_requests"));
        columns.extend(counts.map(|count| sum(count, count)));
        let order: Vec<String> = (1..=query.by.len()).map(|n| n.to_string()).collect();
        let order = match &*order.join(", ") {
            "" => String::new(),
            order => format!("GROUP BY {order} ORDER BY {order}"),
        };
        let sql = format!(
            "SELECT {} FROM {} WHERE {} {order} LIMIT {SUMS_MAX}",
            columns.join(", "),
            table.name(),
            conditions(query, table)
        );
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let rows = Rows { place: &self.place, connection: &mut connection };
        let found = bound(sql, query).fetch_all(&mut *rows.connection).await;
        let found = rows.told(found)?;
        let sums = found.iter().map(|row| read_sum(row, query.by.len()));
        rows.told(sums.collect())
    }

    /// How long requests took, sorted by what they are told apart by.
    ///
    /// # Errors
    /// As [`usage`](Self::usage).
    pub async fn usage_times(&self, query: &UsageQuery) -> Result<Vec<UsageTimes>, LedgerError> {
        check(query)?;
        let sql = times_sql(&self.place, query);
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let rows = Rows { place: &self.place, connection: &mut connection };
        let mut times: BTreeMap<Vec<String>, [Times; 2]> = BTreeMap::new();
        let mut after = (query.from_us.saturating_sub(1), i64::MAX);
        loop {
            let page = bound(sql.clone(), query).bind(after.0).bind(after.1);
            let page = page.fetch_one(&mut *rows.connection).await;
            let page = rows.told(page.and_then(|page| read_times(&page)))?;
            let n_rows = page.len() as i64;
            after = page.iter().map(|(_, _, place)| *place).max().unwrap_or(after);
            for (of, [first, total], _) in page {
                if times.len() as i64 >= SUMS_MAX && !times.contains_key(&of) {
                    continue;
                }
                let [firsts, totals] = times.entry(of).or_default();
                if first > 0 {
                    firsts.add(first.unsigned_abs());
                }
                totals.add(total.unsigned_abs());
            }
            if n_rows < PAGE_ROWS {
                break;
            }
        }
        let told = |(of, [firsts, totals]): (Vec<String>, [Times; 2])| UsageTimes {
            of,
            first_us: firsts.percentiles(),
            total_us: totals.percentiles(),
        };
        Ok(times.into_iter().map(told).collect())
    }

    /// The rows of usage behind the number `after` in their order, at most `limit`, which is 4096
    /// at most.
    ///
    /// # Errors
    /// What the database says.
    pub async fn usage_rows(&self, after: i64, limit: usize) -> Result<Vec<UsageRow>, LedgerError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(PAGE_ROWS);
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let mut rows = Rows { place: &self.place, connection: &mut connection };
        rows.usage_after(after, limit).await
    }

    /// How all limits stand at `at_us`, by their ids.
    ///
    /// # Errors
    /// What the database says.
    pub async fn standings(&self, at_us: i64) -> Result<Vec<Standing>, LedgerError> {
        let standing = |limit: &Limit, counter| Standing::new(limit, at_us, counter);
        let counters = self.counters(at_us).await?;
        Ok(counters
            .iter()
            .map(|(limit, kept, summed)| standing(limit, kept.unwrap_or(*summed)))
            .collect())
    }

    /// Whether each counter is the sum of the rows that it is of, as all stands at one moment; the
    /// id of the first that is not. For tests and for whoever doubts.
    ///
    /// # Errors
    /// What the database says.
    pub async fn check_counters(&self, at_us: i64) -> Result<Option<String>, LedgerError> {
        let counters = self.counters(at_us).await?;
        let is_wrong = |(_, kept, summed): &&(Limit, Option<Counter>, Counter)| {
            kept.is_some_and(|kept| kept != *summed)
        };
        Ok(counters.iter().find(is_wrong).map(|(limit, kept, summed)| {
            let kept = kept.unwrap_or_default();
            format!(
                "the counter of the limit {:?} says {} used and {} reserved, and its rows sum up to \
                 {} and {}",
                limit.id(),
                kept.used,
                kept.reserved,
                summed.used,
                summed.reserved
            )
        }))
    }

    /// All limits with the counter of `at_us` as it is kept, and summed up.
    async fn counters(
        &self,
        at_us: i64,
    ) -> Result<Vec<(Limit, Option<Counter>, Counter)>, LedgerError> {
        let place = &self.place;
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| place.error(&error))?;
        let transaction = connection.begin_with(place.begin_reading()).await;
        let mut transaction = transaction.map_err(|error| place.error(&error))?;
        let newest = schema::ALL.last().map_or(0, |last| last.version);
        if schema::version(place, &mut transaction, newest).await? < schema::WITH_ACCOUNTS {
            return Ok(Vec::new());
        }
        let mut rows = Rows { place, connection: &mut transaction };
        let mut counters = Vec::new();
        for limit in rows.limits().await? {
            let kept = rows.counter(&limit.id(), limit.window(at_us).start).await?;
            let summed = rows.sum(&limit, at_us).await?;
            counters.push((limit, kept, summed));
        }
        Ok(counters)
    }
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// Each day's sums.
    Days,
    /// A row for each request.
    Rows,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Days => "ledger_usage_days",
            Self::Rows => "ledger_usage",
        }
    }

    fn time(self) -> &'static str {
        match self {
            Self::Days => "day_us",
            Self::Rows => "at_us",
        }
    }

    /// A property, as a text.
    fn text(self, by: UsageBy) -> &'static str {
        match (by, self) {
            (UsageBy::Day, Self::Days) => "CAST(day_us AS TEXT)",
            (UsageBy::Day, Self::Rows) => "CAST(at_us - at_us % 86400000000 AS TEXT)",
            (by, _) => by.name(),
        }
    }
}

/// Whether each day's sums answer a question.
fn is_of_days(query: &UsageQuery, now_us: i64) -> bool {
    let is_whole = |at_us: i64| Per::Day.window(at_us).start == at_us;
    let is_begin = query.from_us <= 0 || is_whole(query.from_us);
    let is_end = query.until_us > now_us || is_whole(query.until_us);
    let by = query.by.iter().chain(query.only.iter().map(|(by, _)| by));
    is_begin && is_end && by.copied().all(UsageBy::is_in_days)
}

fn check(query: &UsageQuery) -> Result<(), LedgerError> {
    for (what, n) in [("by", query.by.len()), ("only", query.only.len())] {
        if n > UsageQuery::BY_MAX {
            let (value, expected) = (n.to_string(), "at most 4 properties");
            return Err(LedgerError::InvalidEntry { what, value, expected });
        }
    }
    match query.only.iter().find(|(_, value)| value.contains('\0')) {
        Some((by, value)) => {
            let (what, value) = (by.name(), value.chars().take(60).collect());
            let expected = "a text without control characters";
            Err(LedgerError::InvalidEntry { what, value, expected })
        }
        None => Ok(()),
    }
}

fn texts(query: &UsageQuery, table: Table) -> Vec<String> {
    let text = |(by_idx, by): (usize, &UsageBy)| format!("{} AS by_{by_idx}", table.text(*by));
    query.by.iter().enumerate().map(text).collect()
}

/// Time and values are bound in this order: from, until, and what rows are chosen by.
fn conditions(query: &UsageQuery, table: Table) -> String {
    let time = table.time();
    let mut conditions = format!("{time} >= $1 AND {time} < $2");
    for (only_idx, (by, _)) in query.only.iter().enumerate() {
        conditions += &format!(" AND {} = ${}", table.text(*by), only_idx + 3);
    }
    conditions
}

fn bound<'q>(sql: String, query: &UsageQuery) -> sqlx::query::Query<'q, Any, AnyArguments> {
    let mut sql = sqlx::query(AssertSqlSafe(sql)).bind(query.from_us).bind(query.until_us);
    for (_, value) in &query.only {
        sql = sql.bind(value);
    }
    sql
}

fn read_sum(row: &AnyRow, n_by: usize) -> sqlx::Result<UsageSum> {
    let count = |column: usize| -> sqlx::Result<u64> {
        Ok(u64::try_from(row.try_get::<i64, _>(n_by + column)?).unwrap_or(0))
    };
    Ok(UsageSum {
        of: (0..n_by).map(|column| row.try_get(column)).collect::<sqlx::Result<_>>()?,
        n_requests: count(0)?,
        n_prompt: count(1)?,
        n_cached: count(2)?,
        n_answer: count(3)?,
        money_micro: count(4)?,
        energy_mj: count(5)?,
    })
}

/// Whose they are, the times of first token and end, and where the row stands.
type ReadTimes = (Vec<String>, [i64; 2], (i64, i64));

/// Behind a place, which is bound last, a page of [`ReadTimes`] as one text of JSON: eighty
/// thousand rows that are read one by one take longer than all else.
fn times_sql(place: &Place, query: &UsageQuery) -> String {
    let mut columns = texts(query, Table::Rows);
    columns.extend(["first_us", "total_us", "at_us", "seq"].map(str::to_owned));
    let (at, seq) = (query.only.len() + 3, query.only.len() + 4);
    let page = format!(
        "SELECT {} FROM ledger_usage WHERE {} AND (at_us > ${at} OR (at_us = ${at} AND seq > \
         ${seq})) ORDER BY at_us, seq LIMIT {PAGE_ROWS}",
        columns.join(", "),
        conditions(query, Table::Rows),
    );
    let by: Vec<String> = (0..query.by.len()).map(|by_idx| format!("by_{by_idx}")).collect();
    let parts = [
        place.json_array(&by.join(", ")),
        place.json_array("first_us, total_us"),
        place.json_array("at_us, seq"),
    ];
    let row = place.json_array(&parts.join(", "));
    format!("SELECT {} FROM ({page}) AS page", place.json_of_all(&row))
}

fn read_times(page: &AnyRow) -> sqlx::Result<Vec<ReadTimes>> {
    let told: Option<String> = page.try_get(0)?;
    let read = serde_json::from_str(told.as_deref().unwrap_or("[]"));
    read.map_err(|error| sqlx::Error::Decode(error.into()))
}
