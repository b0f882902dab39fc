//! Answers that are kept for a while where the operator wants that: in memory, for the client that
//! got them, within a bound of bytes and until nobody has asked for them for a time.
//!
//! One answer holds what was new in its request and what came of it, and names the one that it
//! continues. What is in them only their dialect knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What an answer takes beside its texts: the entries of two maps and the allocations.
const ENTRY_BYTES: usize = 512;

/// An answer as it is kept. Texts, not trees: those are many times as large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: String,
    /// The answer that it continues.
    pub(crate) previous: Option<String>,
    /// What was new in its request, and what the model made of it: JSON arrays.
    pub(crate) input: String,
    pub(crate) output: String,
    /// The body that answered.
    pub(crate) body: String,
}

impl Kept {
    /// Bytes of its part of a conversation.
    pub(crate) fn turn_bytes(&self) -> usize {
        self.input.len() + self.output.len()
    }

    fn n_bytes(&self) -> usize {
        let ids = 2 * self.id.len() + self.previous.as_ref().map_or(0, String::len);
        self.turn_bytes() + self.body.len() + ids + ENTRY_BYTES
    }
}

/// Why a conversation cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoHistory {
    /// The answer of this id is not there (any more).
    Gone(String),
    /// Its turns have so many bytes.
    TooLong(usize),
}

/// All answers that are kept.
pub(crate) struct KeptAnswers {
    /// How long one stays that nobody asks for; `None`: none is kept.
    lasts: Option<Duration>,
    n_bytes_max: usize,
    shelves: Mutex<HashMap<u64, Shelf>>,
}

/// Those of one client.
#[derive(Default)]
struct Shelf {
    n_bytes: usize,
    by_id: HashMap<String, Entry>,
}

struct Entry {
    kept: Arc<Kept>,
    used: Instant,
}

impl KeptAnswers {
    /// Keeps answers for `lasts` behind their last use, in at most `n_bytes_max`.
    pub(crate) fn new(lasts: Option<Duration>, n_bytes_max: usize) -> Self {
        Self { lasts, n_bytes_max, shelves: Mutex::default() }
    }

    /// Whether any is.
    pub(crate) fn keeps(&self) -> bool {
        self.lasts.is_some()
    }

    /// Those of `client`, as they are at `now`.
    pub(crate) fn of(&self, client: u64, now: Instant) -> Own<'_> {
        Own { all: self, client, now }
    }

    /// Forgets what nobody has asked for in time.
    pub(crate) fn sweep(&self, now: Instant) {
        if !self.keeps() {
            return;
        }
        self.lock().retain(|_, shelf| {
            let over = shelf.by_id.iter().filter(|(_, entry)| self.is_over(entry, now));
            let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
            for id in over {
                shelf.remove(&id);
            }
            !shelf.by_id.is_empty()
        });
    }

    fn is_over(&self, entry: &Entry, now: Instant) -> bool {
        self.lasts.is_none_or(|lasts| now.saturating_duration_since(entry.used) >= lasts)
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn remove(&mut self, id: &str) -> bool {
        let removed = self.by_id.remove(id);
        self.n_bytes -= removed.as_ref().map_or(0, |entry| entry.kept.n_bytes());
        removed.is_some()
    }
}

/// The answers of one client; nobody else can tell them from those that never were.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    all: &'a KeptAnswers,
    client: u64,
    now: Instant,
}

impl Own<'_> {
    /// The answer of this id, which is marked as used.
    fn find(&self, shelf: Option<&mut Shelf>, id: &str) -> Option<Arc<Kept>> {
        let entry = shelf?.by_id.get_mut(id)?;
        if self.all.is_over(entry, self.now) {
            return None;
        }
        entry.used = self.now;
        Some(entry.kept.clone())
    }

    /// Keeps an answer. Where room lacks, the client that has most gives up what it has not used
    /// for longest.
    pub(crate) fn put(&self, kept: Kept) {
        let n_bytes = kept.n_bytes();
        if !self.all.keeps() || n_bytes > self.all.n_bytes_max {
            return;
        }
        let mut shelves = self.all.lock();
        let used: usize = shelves.values().map(|shelf| shelf.n_bytes).sum();
        let mut n_lacking = (used + n_bytes).saturating_sub(self.all.n_bytes_max);
        while n_lacking > 0 {
            let Some(most) = shelves.values_mut().max_by_key(|shelf| shelf.n_bytes) else { break };
            let oldest = most.by_id.values().min_by_key(|entry| entry.used);
            let Some(oldest) = oldest.map(|entry| entry.kept.clone()) else { break };
            most.remove(&oldest.id);
            n_lacking = n_lacking.saturating_sub(oldest.n_bytes());
        }
        let shelf = shelves.entry(self.client).or_default();
        shelf.n_bytes += n_bytes;
        let entry = Entry { kept: Arc::new(kept), used: self.now };
        shelf.by_id.insert(entry.kept.id.clone(), entry);
    }

    /// The answer of this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Kept>> {
        self.find(self.all.lock().get_mut(&self.client), id)
    }

    /// The answer of this id and all that it continues, the first of them first. They may have
    /// `n_bytes_max` together.
    pub(crate) fn history(
        &self,
        id: &str,
        n_bytes_max: usize,
    ) -> Result<Vec<Arc<Kept>>, NoHistory> {
        let mut shelves = self.all.lock();
        let mut turns: Vec<Arc<Kept>> = Vec::new();
        let mut n_bytes = 0;
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            let shelf = shelves.get_mut(&self.client);
            let turn = self.find(shelf, &id).ok_or(NoHistory::Gone(id))?;
            n_bytes += turn.turn_bytes();
            next = turn.previous.clone();
            turns.push(turn);
        }
        // Only here, so that the whole conversation counts as used.
        if n_bytes > n_bytes_max {
            return Err(NoHistory::TooLong(n_bytes));
        }
        turns.reverse();
        Ok(turns)
    }

    /// Forgets the answer of this id; whether it was there.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut shelves = self.all.lock();
        let Some(shelf) = shelves.get_mut(&self.client) else { return false };
        let is_there = shelf.by_id.get(id).is_some_and(|e| !self.all.is_over(e, self.now));
        shelf.remove(id) && is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn answer(id: &str, previous: Option<&str>, n_bytes: usize) -> Kept {
        Kept {
            id: id.to_owned(),
            previous: previous.map(str::to_owned),
            input: "i".repeat(n_bytes),
            output: String::new(),
            body: String::new(),
        }
    }

    fn ids(all: &KeptAnswers, client: u64, now: Instant) -> String {
        let own = all.of(client, now);
        ["a", "b", "c", "d"].into_iter().filter(|id| own.get(id).is_some()).collect()
    }

    #[test]
    fn each_client_has_its_own_and_none_where_none_is_kept() {
        let now = Instant::now();
        let all = KeptAnswers::new(Some(HOUR), 1 << 20);
        all.of(1, now).put(answer("a", None, 1));
        assert_eq!((ids(&all, 1, now), ids(&all, 2, now)), ("a".to_owned(), String::new()));
        assert!(!all.of(2, now).remove("a"));
        assert!(all.of(1, now).remove("a") && !all.of(1, now).remove("a"));
        assert_eq!(ids(&all, 1, now), "");
        let none = KeptAnswers::new(None, 1 << 20);
        none.of(1, now).put(answer("a", None, 1));
        assert_eq!(ids(&none, 1, now), "");
    }

    #[test]
    fn time_counts_from_the_last_use() {
        let begin = Instant::now();
        let all = KeptAnswers::new(Some(HOUR), 1 << 20);
        all.of(1, begin).put(answer("a", None, 1));
        all.of(1, begin).put(answer("b", Some("a"), 1));
        all.of(1, begin).put(answer("c", None, 1));
        let later = begin + HOUR / 2;
        let turns = all.of(1, later).history("b", 100).unwrap();
        assert_eq!(turns.iter().map(|turn| &*turn.id).collect::<Vec<&str>>(), ["a", "b"]);
        // Also before it was swept out.
        assert!(all.of(1, begin + HOUR).get("c").is_none());
        assert!(!all.of(1, begin + HOUR).remove("c"));
        all.sweep(begin + HOUR);
        assert_eq!(ids(&all, 1, later), "ab");
        all.sweep(later + HOUR);
        assert!(all.lock().is_empty());
    }

    #[test]
    fn a_conversation_is_whole_or_not_there() {
        let now = Instant::now();
        let all = KeptAnswers::new(Some(HOUR), 1 << 20);
        let own = all.of(1, now);
        own.put(answer("a", None, 10));
        own.put(answer("b", Some("a"), 10));
        own.put(answer("c", Some("b"), 10));
        assert_eq!(own.history("c", 30).map(|turns| turns.len()), Ok(3));
        assert_eq!(own.history("c", 29), Err(NoHistory::TooLong(30)));
        let gone = |id: &str| Err(NoHistory::Gone(id.to_owned()));
        assert_eq!(all.of(2, now).history("c", 100), gone("c"));
        own.remove("a");
        assert_eq!(own.history("c", 100), gone("a"));
        assert_eq!(own.history("x", 100), gone("x"));
    }

    #[test]
    fn who_has_most_gives_up_what_it_has_not_used_for_longest() {
        let begin = Instant::now();
        let n_each = answer("a", None, 1000).n_bytes();
        let all = KeptAnswers::new(Some(HOUR), 4 * n_each);
        let at = |n: u32| begin + Duration::from_secs(n.into());
        for (n, id) in ["a", "b", "c"].into_iter().enumerate() {
            all.of(1, at(n as u32)).put(answer(id, None, 1000));
        }
        all.of(2, begin).put(answer("a", None, 1000));
        assert!(all.of(1, at(4)).get("a").is_some());
        all.of(2, at(5)).put(answer("b", None, 1000));
        let found = (ids(&all, 1, at(6)), ids(&all, 2, at(6)));
        assert_eq!(found, ("ac".to_owned(), "ab".to_owned()));
        let n_bytes: usize = all.lock().values().map(|shelf| shelf.n_bytes).sum();
        assert_eq!(n_bytes, 4 * n_each);
        // What is larger than all the room takes nobody's.
        all.of(3, at(7)).put(answer("d", None, 5 * n_each));
        assert_eq!((ids(&all, 1, at(8)), ids(&all, 3, at(8))), ("ac".to_owned(), String::new()));
    }
}
