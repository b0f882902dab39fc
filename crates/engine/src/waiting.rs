//! Who comes next: the requests that wait for a seat, and fair shares between clients.
//!
//! Interactive requests go before batch ones, but after [`PATIENCE`] of them in a row a waiting
//! batch request gets its turn and keeps it. Within a class the next one is of the client that was
//! served least (the virtual token counter of Sheng et al. 2024, "Fairness in Serving Large
//! Language Models"): a prompt token counts 1, an answer's token [`ANSWER_WEIGHT`], and a client
//! that comes back after a pause begins where the others are, so that nobody saves up turns.
//! Two clients that both wait all the time differ by at most twice the largest cost of what one of
//! them can have at work (their theorem 4.4): with `n` seats and requests of cost `c`, `2 n c`.
//! What was put back comes before what is new.

use crate::queue::Submission;
use crate::request::Priority;
use crate::sequence::Sequence;

/// Interactive requests in a row that a waiting batch request lets pass.
const PATIENCE: u32 = 8;
/// What an answer's token counts beside a prompt's: it takes a pass of its own.
pub(crate) const ANSWER_WEIGHT: u64 = 2;
/// Accounts beyond which idle ones are dropped.
const N_ACCOUNTS_KEPT: usize = 64;

/// One that waits.
pub(crate) struct Entry {
    /// In order of arrival; kept when a sequence is put back.
    pub(crate) ticket: u64,
    pub(crate) priority: Priority,
    /// The client's place in the ledger.
    pub(crate) account: usize,
    pub(crate) work: Work,
}

/// What there is to do.
pub(crate) enum Work {
    /// A request that never ran.
    New(Box<Submission>),
    /// A sequence that gave up its seat and its pages.
    Back(Box<Sequence>),
}

impl Entry {
    /// Tokens that must be in the cache of keys and values before the next one can be sampled.
    pub(crate) fn tokens(&self) -> &[u32] {
        match &self.work {
            Work::New(submission) => &submission.request.prompt,
            Work::Back(sequence) => sequence.known(),
        }
    }
}

/// The waiting requests.
#[derive(Default)]
pub(crate) struct Waiting {
    entries: Vec<Entry>,
    ledger: Ledger,
    next_ticket: u64,
    /// Interactive requests seated in a row while a batch request waited.
    n_passed: u32,
}

impl Waiting {
    /// Takes a request that arrived.
    pub(crate) fn arrive(&mut self, submission: Submission) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let account = self.ledger.enter(submission.request.client);
        let priority = submission.request.priority;
        self.entries.push(Entry {
            ticket,
            priority,
            account,
            work: Work::New(Box::new(submission)),
        });
    }

    /// Takes back a sequence that lost its seat.
    pub(crate) fn put_back(&mut self, sequence: Sequence) {
        let (ticket, priority, account) = (sequence.ticket, sequence.priority, sequence.account);
        self.ledger.accounts[account].n_waiting += 1;
        self.entries.push(Entry {
            ticket,
            priority,
            account,
            work: Work::Back(Box::new(sequence)),
        });
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The highest priority that waits.
    pub(crate) fn highest(&self) -> Option<Priority> {
        self.entries.iter().map(|entry| entry.priority).min()
    }

    /// Those that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Who comes next.
    pub(crate) fn next(&self) -> Option<&Entry> {
        self.first(|_| true)
    }

    /// The first of those who wait of which `is_meant` says so.
    pub(crate) fn first(&self, is_meant: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        self.idx_of(is_meant).map(|idx| &self.entries[idx])
    }

    /// Takes out who comes next.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        self.pop_first(|_| true)
    }

    /// Takes out whom [`Waiting::first`] finds.
    pub(crate) fn pop_first(&mut self, is_meant: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let idx = self.idx_of(is_meant)?;
        let mut entry = self.entries.swap_remove(idx);
        let has = |priority| self.entries.iter().any(|entry| entry.priority == priority);
        match entry.priority {
            Priority::Interactive if has(Priority::Batch) => self.n_passed += 1,
            Priority::Interactive => {}
            Priority::Batch => {
                if has(Priority::Interactive) {
                    // It waited long enough; nobody shall take this seat from it.
                    entry.priority = Priority::Interactive;
                }
                self.n_passed = 0;
            }
        }
        self.ledger.seat(entry.account);
        Some(entry)
    }

    /// Takes out every entry of which `is_over` says so.
    pub(crate) fn take_over(&mut self, mut is_over: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut over = Vec::new();
        let mut idx = 0;
        while let Some(entry) = self.entries.get(idx) {
            if is_over(entry) {
                let entry = self.entries.swap_remove(idx);
                self.ledger.accounts[entry.account].n_waiting -= 1;
                self.ledger.leave(entry.account);
                over.push(entry);
            } else {
                idx += 1;
            }
        }
        if !self.entries.iter().any(|entry| entry.priority == Priority::Batch) {
            // The next batch request has let nobody pass.
            self.n_passed = 0;
        }
        over
    }

    /// Counts what a client was given.
    pub(crate) fn charge(&mut self, account: usize, n_tokens: u64) {
        self.ledger.accounts[account].n_served += n_tokens;
    }

    /// Takes back what was counted and then not done.
    pub(crate) fn refund(&mut self, account: usize, n_tokens: u64) {
        let n_served = &mut self.ledger.accounts[account].n_served;
        *n_served = n_served.saturating_sub(n_tokens);
    }

    /// Notes that a seated request has ended.
    pub(crate) fn leave(&mut self, account: usize) {
        self.ledger.leave(account);
    }

    /// Counts anew after a panic, which may have lost a request, when nothing has a seat.
    pub(crate) fn recount(&mut self) {
        self.ledger.accounts.iter_mut().for_each(|a| (a.n_waiting, a.n_open) = (0, 0));
        for entry in &self.entries {
            let account = &mut self.ledger.accounts[entry.account];
            account.n_waiting += 1;
            account.n_open += 1;
        }
        self.ledger.clear_if_idle();
    }

    /// Clients that are known.
    #[cfg(test)]
    pub(crate) fn n_accounts(&self) -> usize {
        self.ledger.accounts.len()
    }

    fn idx_of(&self, is_meant: impl Fn(&Entry) -> bool) -> Option<usize> {
        let turn = |priority| (priority == Priority::Batch) != (self.n_passed >= PATIENCE);
        let key = |entry: &Entry| {
            let order = match entry.work {
                Work::Back(_) => (0, 0),
                Work::New(_) => (1, self.ledger.accounts[entry.account].n_served),
            };
            (turn(entry.priority), order, entry.ticket)
        };
        let meant = (0..self.entries.len()).filter(|&idx| is_meant(&self.entries[idx]));
        meant.min_by_key(|&idx| key(&self.entries[idx]))
    }
}

/// What each client was given.
#[derive(Default)]
struct Ledger {
    accounts: Vec<Account>,
    /// Where the client that was last seated stood: an account below it counts as if at it.
    floor: u64,
}

struct Account {
    client: u64,
    n_served: u64,
    n_waiting: usize,
    /// Requests that wait or run; with none the place may go to another client.
    n_open: usize,
}

impl Ledger {
    /// Opens a request of `client` and returns the place of its account.
    fn enter(&mut self, client: u64) -> usize {
        let found = self.accounts.iter().position(|account| account.client == client);
        let account_idx = found.unwrap_or_else(|| self.open(client));
        let least = self.accounts.iter().filter(|a| a.n_waiting > 0).map(|a| a.n_served).min();
        let floor = least.unwrap_or(self.floor);
        let account = &mut self.accounts[account_idx];
        if account.n_waiting == 0 {
            account.n_served = account.n_served.max(floor);
        }
        account.n_waiting += 1;
        account.n_open += 1;
        account_idx
    }

    /// Finds a place for the account of a new client. Where there are many, it is that of the idle
    /// one that was served least, and nobody begins below that from then on: so whoever had it
    /// gains nothing by coming back.
    fn open(&mut self, client: u64) -> usize {
        let new = Account { client, n_served: 0, n_waiting: 0, n_open: 0 };
        if self.accounts.len() >= N_ACCOUNTS_KEPT {
            let idle = self.accounts.iter_mut().enumerate().filter(|(_, a)| a.n_open == 0);
            if let Some((account_idx, account)) = idle.min_by_key(|(_, a)| a.n_served) {
                self.floor = self.floor.max(account.n_served);
                *account = new;
                return account_idx;
            }
        }
        self.accounts.push(new);
        self.accounts.len() - 1
    }

    fn seat(&mut self, account_idx: usize) {
        let account = &mut self.accounts[account_idx];
        account.n_waiting -= 1;
        self.floor = self.floor.max(account.n_served);
    }

    fn leave(&mut self, account_idx: usize) {
        self.accounts[account_idx].n_open -= 1;
        self.clear_if_idle();
    }

    /// With nobody left, nothing is owed to anybody.
    fn clear_if_idle(&mut self) {
        if self.accounts.iter().all(|account| account.n_open == 0) {
            self.accounts.clear();
            self.floor = 0;
        }
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
