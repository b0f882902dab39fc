//! Departures: that a request leaves is in the ledger before it does, and how it ended behind it.
//! Never any contents: names, numbers, and the hash of what left.

use crate::app::random_hex;
use crate::errors::ServerError;
use crate::receipts::{Receipts, unwritable};
use crate::upstream::{Counts, Priced, Ways};
use ledger::{Entry, Kind, LedgerError, Recorded};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What stands behind the id of a departure in that of its end.
const END: &str = ":end";
/// Characters of an id that are random.
const N_RANDOM: usize = 12;
/// Most departures of one list.
pub const LIST_MAX: usize = 100;
/// Longest id of one.
pub(crate) const ID_BYTES_MAX: usize = 64;

/// A request that is about to leave.
pub(crate) struct Leaving<'a> {
    /// When its request came, in microseconds since 1970.
    pub(crate) at_us: i64,
    /// Whose it is, as entries of the ledger name them.
    pub(crate) principal: String,
    /// The name of the key, and of its project.
    pub(crate) key: &'a str,
    pub(crate) project: Option<&'a str>,
    /// The request's id.
    pub(crate) request: &'a str,
    pub(crate) upstream: &'a str,
    /// As the upstream names it.
    pub(crate) model: &'a str,
    pub(crate) label: &'static str,
    pub(crate) rule: &'a str,
    /// Of the body that leaves.
    pub(crate) n_bytes: usize,
    pub(crate) sha256: String,
    /// How often something of a class was replaced.
    pub(crate) redacted: BTreeMap<&'static str, usize>,
    /// Tokens of the prompt, and the most that the answer may have, as far as is known.
    pub(crate) n_prompt: u64,
    pub(crate) n_answer_max: u64,
}

/// A request that left. Dropped without an end, it says that nobody waited for one.
pub(crate) struct Left {
    receipts: Receipts,
    ways: Arc<Ways>,
    id: String,
    at_us: i64,
    principal: String,
    upstream: String,
    model: String,
    sent: Instant,
    end: End,
}

/// How it ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    /// In one word.
    pub(crate) outcome: Option<&'static str>,
    /// The upstream's status, where it said one.
    pub(crate) status: Option<u16>,
    pub(crate) address: String,
    pub(crate) attempts: u32,
    pub(crate) counts: Counts,
    /// Whether the counts are what was sent and heard, as the upstream has not said (all of) its.
    pub(crate) is_estimate: bool,
}

impl Left {
    /// Writes down that a request leaves, and returns when that is on disk.
    ///
    /// # Errors
    /// It cannot be: then nothing may leave.
    pub(crate) async fn record(
        receipts: &Receipts,
        ways: &Arc<Ways>,
        leaving: &Leaving<'_>,
    ) -> Result<Self, ServerError> {
        let Leaving { at_us, upstream, model, .. } = *leaving;
        // Ids in the order of time: that is how they are listed.
        let id = format!("dep_{at_us:016x}{}", &random_hex()[..N_RANDOM]);
        let priced = Priced {
            upstream,
            model,
            n_prompt: leaving.n_prompt,
            n_cached: 0,
            n_answer: leaving.n_answer_max,
        };
        let body = json!({
            "request": leaving.request,
            "key": leaving.key,
            "project": leaving.project,
            "upstream": upstream,
            "model": model,
            "label": leaving.label,
            "rule": leaving.rule,
            "n_bytes": leaving.n_bytes,
            "sha256": leaving.sha256,
            "redacted": leaving.redacted,
            "estimate": ways.cost(&priced, at_us),
        });
        let entry = Entry {
            kind: Kind::Departure,
            id: id.clone(),
            at: at_us,
            principal: leaving.principal.clone(),
            body: body.to_string(),
        };
        let written = receipts.ledger().append_durable(entry).await;
        written.map_err(|error| {
            tracing::error!(%error, "a departure was not recorded, and nothing left");
            unwritable("a departure cannot be recorded")
        })?;
        Ok(Self {
            receipts: receipts.clone(),
            ways: ways.clone(),
            id,
            at_us,
            principal: leaving.principal.clone(),
            upstream: upstream.to_owned(),
            model: model.to_owned(),
            sent: Instant::now(),
            end: End::default(),
        })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What is known of its end so far.
    pub(crate) fn end(&mut self) -> &mut End {
        &mut self.end
    }

    /// What it costs for so many tokens, in millionths of the owner's currency; `None` where no
    /// price is listed.
    pub(crate) fn cost_micro(&self, counts: Counts) -> Option<i64> {
        self.cost(counts).map(|(micro, _)| micro)
    }

    fn cost(&self, counts: Counts) -> Option<(i64, String)> {
        let priced = Priced {
            upstream: &self.upstream,
            model: &self.model,
            n_prompt: counts.n_prompt,
            n_cached: counts.n_cached,
            n_answer: counts.n_generated,
        };
        self.ways.elsewhere.prices.as_ref()?.cost(&priced, self.at_us)
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let End { outcome, status, address, attempts, counts, is_estimate } = &self.end;
        let sent_us = i64::try_from(self.sent.elapsed().as_micros()).unwrap_or(i64::MAX);
        let body = json!({
            "outcome": outcome.unwrap_or("cancelled"),
            "status": status,
            "address": address,
            "attempts": attempts,
            "n_prompt": counts.n_prompt,
            "n_cached": counts.n_cached,
            "n_answer": counts.n_generated,
            "estimated": is_estimate,
            "cost": self.cost(*counts).map(money),
            "total_us": sent_us,
        });
        let entry = Entry {
            kind: Kind::Departure,
            id: format!("{}{END}", self.id),
            at: self.at_us.saturating_add(sent_us),
            principal: self.principal.clone(),
            body: body.to_string(),
        };
        // That it left is written, and what there is to say of its end is in the log too.
        if let Err(error) = self.receipts.ledger().append(entry) {
            tracing::error!(id = %self.id, %error, "the end of a departure is not in the ledger");
        }
    }
}

impl Ways {
    /// A cost as it is written down, where a price is listed.
    fn cost(&self, priced: &Priced<'_>, at_us: i64) -> Option<Value> {
        self.elsewhere.prices.as_ref()?.cost(priced, at_us).map(money)
    }
}

fn money((micro, currency): (i64, String)) -> Value {
    json!({"micro": micro, "currency": currency})
}

/// Entries of departures, newest first, as they are listed: each with its id, its time and how it
/// ended, which is null where nothing says so. Returned beside them, the id behind which the list
/// goes on; `None` where `is_all`.
pub fn list(entries: Vec<Recorded>, is_all: bool) -> (Vec<Value>, Option<String>) {
    let mut listed: Vec<Value> = Vec::new();
    let mut end = None;
    let mut last = None;
    for Recorded { entry, .. } in entries {
        let body: Value = serde_json::from_str(&entry.body).unwrap_or(Value::Null);
        if let Some(id) = entry.id.strip_suffix(END) {
            end = Some((id.to_owned(), body));
            continue;
        }
        let own = end.take().filter(|(id, _)| *id == entry.id).map(|(_, body)| body);
        let mut one = Map::new();
        one.insert("id".to_owned(), entry.id.clone().into());
        one.insert("at_us".to_owned(), entry.at.into());
        one.insert("principal".to_owned(), entry.principal.into());
        // Of an erased one there is no more.
        one.extend(body.as_object().cloned().unwrap_or_default());
        one.insert("end".to_owned(), own.unwrap_or(Value::Null));
        listed.push(Value::Object(one));
        last = Some(entry.id);
        if listed.len() == LIST_MAX {
            return (listed, last);
        }
    }
    (listed, last.filter(|_| !is_all))
}

impl Receipts {
    /// Departures whose ids come before `before`, newest first, and where the list goes on.
    pub(crate) async fn departures(
        &self,
        before: Option<&str>,
    ) -> Result<(Vec<Value>, Option<String>), ServerError> {
        let failed = |error: LedgerError| {
            tracing::error!(%error, "the ledger cannot be read");
            unwritable("it cannot be read")
        };
        // Some may be on their way.
        self.ledger().flush().await.map_err(failed)?;
        let n_rows = 2 * LIST_MAX;
        let entries = self.ledger().before(Kind::Departure, before, n_rows).await;
        let entries = entries.map_err(failed)?;
        let is_all = entries.len() < n_rows;
        Ok(list(entries, is_all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(id: &str, body: &str) -> Recorded {
        let entry = Entry {
            kind: Kind::Departure,
            id: id.to_owned(),
            at: 7,
            principal: "p".to_owned(),
            body: body.to_owned(),
        };
        Recorded { seq: 1, entry, hash: [0; 32], previous: [0; 32] }
    }

    #[test]
    fn a_departure_is_listed_with_its_end() {
        let entries = vec![
            recorded("dep_3", r#"{"upstream":"c"}"#),
            recorded("dep_2:end", r#"{"outcome":"done"}"#),
            recorded("dep_2", r#"{"upstream":"b"}"#),
            recorded("dep_1:end", r#"{"outcome":"failed"}"#),
        ];
        let (listed, next) = list(entries.clone(), false);
        let expected = json!([
            {"id": "dep_3", "at_us": 7, "principal": "p", "upstream": "c", "end": null},
            {"id": "dep_2", "at_us": 7, "principal": "p", "upstream": "b",
             "end": {"outcome": "done"}},
        ]);
        assert_eq!(Value::from(listed), expected);
        // The departure whose end is here stands on the next page, whose first row that end is.
        assert_eq!(next.as_deref(), Some("dep_2"));
        assert_eq!(list(entries, true).1, None);
    }
}
