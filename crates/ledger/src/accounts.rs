//! Accounts: requests are held against limits before their answers, and written down behind them.
//!
//! [`Ledger::reserve`] takes what a request may take at most, in one transaction with whoever else
//! asks at that moment; its [`Reservation`] is settled with what the request took. Where no limit
//! concerns a request there is nothing to wait for: [`Ledger::record`] only writes it down.

use serde_json::json;
use tokio::sync::oneshot;

use crate::books::{Limits, Standing, Verdict};
use crate::limit::{LIMITS_MAX, Limit};
use crate::turn::Urgency;
use crate::usage::Usage;
use crate::work::{Reply, Work};
use crate::{Entry, Kind, Ledger, LedgerError, now_us};

/// What the writer is handed of accounts.
pub(crate) enum Account {
    Reserve { n: i64, most: Box<Usage>, n_least: u64, reply: Reply<Verdict> },
    Settle(i64, Box<Usage>),
    Release(i64),
    Record(i64, Box<Usage>),
    Limits(Box<Change>, Reply<bool>),
    Watch,
}

/// A change of the limits, and the entry that says so.
pub(crate) enum Change {
    Set(Limit, Entry),
    Remove(String, Entry),
}

impl Account {
    /// How it stands to others in the queue.
    pub(crate) fn urgency(&self) -> Urgency {
        match self {
            Self::Reserve { .. } => Urgency::First,
            Self::Settle(..) | Self::Release(_) => Urgency::WithFirst,
            Self::Record(..) => Urgency::Later,
            Self::Limits(..) | Self::Watch => Urgency::InOrder,
        }
    }

    /// What it takes while it waits.
    pub(crate) fn n_bytes(&self) -> usize {
        let own = match self {
            Self::Reserve { most: usage, .. } | Self::Settle(_, usage) | Self::Record(_, usage) => {
                usage.n_bytes()
            }
            Self::Limits(..) | Self::Release(_) | Self::Watch => 0,
        };
        size_of::<Self>() + own
    }
}

/// What became of a request's wish to be taken.
#[derive(Debug)]
pub enum Reserved {
    /// It is.
    Taken(Reservation),
    /// It does not fit a limit, which stands as it says.
    Reached(Box<Standing>),
}

/// What a request may take, until it is settled. Dropped before that it is given back: nothing
/// was computed.
#[derive(Debug)]
pub struct Reservation {
    ledger: Ledger,
    n: i64,
    most: Box<Usage>,
    standings: Vec<Standing>,
    is_open: bool,
}

impl Reservation {
    /// What it may take at most. Its answers may have been cut to what was left.
    pub fn most(&self) -> &Usage {
        &self.most
    }

    /// How the limits stand that concern it, what it may take counted.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Writes what the request took, which nobody waits for. Time, key, project and model are those
    /// that were reserved.
    pub fn settle(mut self, mut usage: Usage) {
        let most = &mut self.most;
        usage.at_us = most.at_us;
        usage.key = std::mem::take(&mut most.key);
        usage.project = std::mem::take(&mut most.project);
        usage.model = std::mem::take(&mut most.model);
        usage.clean();
        self.is_open = false;
        self.ledger.hand_over(Account::Settle(self.n, Box::new(usage)));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_open {
            self.ledger.hand_over(Account::Release(self.n));
        }
    }
}

impl Ledger {
    /// The limits as they are now: those that this process has set at once, those of others within
    /// about a second, once [`watch`](Self::watch) was called.
    pub fn limits(&self) -> Limits {
        self.state.limits()
    }

    /// From now on notices within about a second what limits others set, and settles for servers
    /// that are gone what they had reserved: as if all of it had been taken.
    ///
    /// # Errors
    /// A ledger that is closed.
    pub fn watch(&self) -> Result<(), LedgerError> {
        self.submit_account(Account::Watch)
    }

    /// Takes a request that may take `most`, if that fits all limits that concern it. Where not all
    /// of its answer does, it may have less, but not less than `n_least` tokens.
    ///
    /// Whoever has an answer to this is seen by all who ask later, also after a kill of this
    /// process. Not by those behind a loss of power: then the last tenth of a second is forgotten.
    ///
    /// # Errors
    /// A full queue, a writer that cannot write, what the database says. Then nothing is reserved.
    pub async fn reserve(&self, mut most: Usage, n_least: u64) -> Result<Reserved, LedgerError> {
        most.clean();
        self.check_open()?;
        let (n, most) = (self.state.next_n(), Box::new(most));
        let (reply, answer) = oneshot::channel();
        self.submit_account(Account::Reserve { n, most: most.clone(), n_least, reply })?;
        // From here on it may be reserved. Who goes away while waiting gives it back.
        let (ledger, standings) = (self.clone(), Vec::new());
        let mut reservation = Reservation { ledger, n, most, standings, is_open: true };
        match answer.await.unwrap_or_else(|_| Err(crate::ledger::ended()))? {
            Verdict::Taken { n_answer, standings } => {
                reservation.most.n_answer = n_answer;
                reservation.standings = standings;
                Ok(Reserved::Taken(reservation))
            }
            Verdict::Reached(standing) => {
                reservation.is_open = false;
                Ok(Reserved::Reached(standing))
            }
        }
    }

    /// Writes down what a request took for which nothing was reserved. Never waits.
    ///
    /// # Errors
    /// A full queue, or a ledger that is closed.
    pub fn record(&self, mut usage: Usage) -> Result<(), LedgerError> {
        usage.clean();
        self.submit_account(Account::Record(self.state.next_n(), Box::new(usage)))
    }

    /// Sets a limit for `principal`, in the place of one of the same id, and records that. What was
    /// used before in its time counts. Returns whether it replaced one.
    ///
    /// # Errors
    /// A limit that makes no sense, or one too many; as [`append_durable`](Self::append_durable).
    pub async fn set_limit(&self, limit: Limit, principal: &str) -> Result<bool, LedgerError> {
        limit.check()?;
        let audit = self.audit(principal, json!({"act": "limit set", "limit": limit.to_json()}))?;
        self.ask_account(|reply| Account::Limits(Box::new(Change::Set(limit, audit)), reply)).await
    }

    /// Removes the limit of this id for `principal`, and records that. Returns whether there was
    /// one.
    ///
    /// # Errors
    /// As [`append_durable`](Self::append_durable).
    pub async fn remove_limit(&self, id: &str, principal: &str) -> Result<bool, LedgerError> {
        let audit = self.audit(principal, json!({"act": "limit remove", "limit": id}))?;
        let change = Change::Remove(id.to_owned(), audit);
        self.ask_account(|reply| Account::Limits(Box::new(change), reply)).await
    }

    /// How all limits stand.
    ///
    /// # Errors
    /// What the database says.
    pub async fn standings(&self) -> Result<Vec<Standing>, LedgerError> {
        self.reader.standings(now_us()).await
    }

    fn audit(&self, principal: &str, body: serde_json::Value) -> Result<Entry, LedgerError> {
        let entry = Entry {
            kind: Kind::Audit,
            id: format!("limit-{:x}-{}", self.state.instance, self.state.next_n()),
            at: now_us(),
            principal: principal.to_owned(),
            body: body.to_string(),
        };
        entry.check()?;
        Ok(entry)
    }

    async fn ask_account(
        &self,
        account: impl FnOnce(Reply<bool>) -> Account,
    ) -> Result<bool, LedgerError> {
        self.check_open()?;
        let (reply, answer) = oneshot::channel();
        self.submit_account(account(reply))?;
        answer.await.unwrap_or_else(|_| Err(crate::ledger::ended()))
    }

    /// Hands over the end of what was reserved, which must not be lost; only a ledger that is
    /// closed takes none.
    fn hand_over(&self, account: Account) {
        if let Err(error) = self.enqueue_anyway(account.n_bytes(), Work::Account(account)) {
            tracing::error!("what a request took is not written down: {error}");
        }
    }

    fn submit_account(&self, account: Account) -> Result<(), LedgerError> {
        self.enqueue(account.n_bytes(), Work::Account(account))
    }
}

/// Refuses one limit too many.
pub(crate) fn check_room(n_limits: usize) -> Result<(), LedgerError> {
    if n_limits < LIMITS_MAX {
        return Ok(());
    }
    let (what, value) = ("limits", n_limits.to_string());
    Err(LedgerError::InvalidEntry { what, value, expected: "at most 1000" })
}
