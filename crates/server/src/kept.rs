//! Answers that are kept for a while where the operator wants that: in memory, for the client that
//! got them, within a bound of bytes and until nobody has asked for them for a time.
//!
//! One answer holds what was new in its request and what came of it, and names the one that it
//! continues. A conversation is used, over and given up as a whole: an answer without those that it
//! continues could not be gone on with. What is in them only their dialect knows.

use policy::Label;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What an answer takes beside its texts where it is the only one of its client: entries of six
/// maps, most of which have room for more, and the allocations.
const ENTRY_BYTES: usize = 1536;

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
    /// Whether it has ended well: then it can be continued.
    pub(crate) is_whole: bool,
}

impl Kept {
    /// Bytes of its part of a conversation.
    pub(crate) fn turn_bytes(&self) -> usize {
        self.input.len() + self.output.len()
    }

    /// Bytes that it takes.
    pub(crate) fn n_bytes(&self) -> usize {
        let ids = 3 * self.id.len() + self.previous.as_ref().map_or(0, String::len);
        self.turn_bytes() + self.body.len() + ids + ENTRY_BYTES
    }
}

/// The answer of this id is not there (any more), without which a conversation is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone(pub(crate) String);

/// All answers that are kept.
pub(crate) struct KeptAnswers {
    /// How long one stays that nobody asks for; `None`: none is kept.
    lasts: Option<Duration>,
    n_bytes_max: usize,
    shelves: Mutex<Shelves>,
}

/// Those of all clients.
#[derive(Default)]
struct Shelves {
    n_bytes: usize,
    by_client: HashMap<u64, Shelf>,
    /// Bytes and client of each shelf.
    by_size: BTreeSet<(usize, u64)>,
    /// Numbers conversations and their uses.
    n_uses: u64,
}

/// Those of one client.
#[derive(Default)]
struct Shelf {
    n_bytes: usize,
    by_id: HashMap<String, Entry>,
    conversations: HashMap<u64, Conversation>,
    /// The conversations by the numbers of their last uses.
    by_use: BTreeMap<u64, u64>,
}

struct Entry {
    kept: Arc<Kept>,
    conversation: u64,
    /// Of the request that it answers: what continues it is no less sensitive.
    label: Label,
}

/// Answers that continue the same one.
struct Conversation {
    ids: HashSet<String>,
    used: Instant,
    use_idx: u64,
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
        Own { all: self, client, now, seen: None }
    }

    /// Forgets what nobody has asked for in time.
    pub(crate) fn sweep(&self, now: Instant) {
        if !self.keeps() {
            return;
        }
        let mut over = Vec::new();
        let mut shelves = self.lock();
        let clients: Vec<u64> = shelves.by_client.keys().copied().collect();
        for client in clients {
            shelves.change(client, |shelf, _| {
                while let Some(used) = shelf.oldest().map(|(_, used)| used) {
                    if !self.is_over(used, now) {
                        break;
                    }
                    over.append(&mut shelf.give_up());
                }
            });
        }
        drop(shelves);
        // The texts go when nobody waits for the lock.
        drop(over);
    }

    /// Forgets all of a client, and returns how many there were.
    pub(crate) fn forget(&self, client: u64) -> usize {
        let mut given_up = Vec::new();
        self.lock().change(client, |shelf, _| {
            while !shelf.by_use.is_empty() {
                given_up.append(&mut shelf.give_up());
            }
        });
        given_up.len()
    }

    fn is_over(&self, used: Instant, now: Instant) -> bool {
        self.lasts.is_none_or(|lasts| now.saturating_duration_since(used) >= lasts)
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    /// Changes the shelf of `client`, with a number that no use has had; the sums follow.
    fn change<T>(&mut self, client: u64, work: impl FnOnce(&mut Shelf, u64) -> T) -> T {
        self.n_uses += 1;
        let shelf = self.by_client.entry(client).or_default();
        let before = shelf.n_bytes;
        let done = work(shelf, self.n_uses);
        let (after, is_empty) = (shelf.n_bytes, shelf.by_id.is_empty());
        self.n_bytes = self.n_bytes + after - before;
        if is_empty {
            self.by_client.remove(&client);
        }
        if is_empty || before != after {
            self.by_size.remove(&(before, client));
        }
        if !is_empty {
            self.by_size.insert((after, client));
        }
        done
    }
}

impl Shelf {
    /// The conversation that was not used for longest, and when that was.
    fn oldest(&self) -> Option<(u64, Instant)> {
        let (_, conversation) = self.by_use.first_key_value()?;
        Some((*conversation, self.conversations.get(conversation)?.used))
    }

    /// Takes that conversation away.
    fn give_up(&mut self) -> Vec<Arc<Kept>> {
        let Some((_, conversation)) = self.by_use.pop_first() else { return Vec::new() };
        let ids = self.conversations.remove(&conversation).map(|all| all.ids).unwrap_or_default();
        let entries = ids.iter().filter_map(|id| self.by_id.remove(id));
        let given_up: Vec<Arc<Kept>> = entries.map(|entry| entry.kept).collect();
        self.n_bytes -= given_up.iter().map(|kept| kept.n_bytes()).sum::<usize>();
        given_up
    }

    fn remove(&mut self, id: &str) -> Option<Arc<Kept>> {
        let Entry { kept, conversation, .. } = self.by_id.remove(id)?;
        self.n_bytes -= kept.n_bytes();
        let others = self.conversations.get_mut(&conversation)?;
        others.ids.remove(id);
        if others.ids.is_empty() {
            self.by_use.remove(&others.use_idx);
            self.conversations.remove(&conversation);
        }
        Some(kept)
    }

    /// Puts an answer into the conversation that it continues, which counts as used.
    fn put(&mut self, kept: Kept, label: Label, now: Instant, use_idx: u64) {
        self.n_bytes += kept.n_bytes();
        let previous = kept.previous.as_ref().and_then(|id| self.by_id.get(id));
        let conversation = previous.map_or(use_idx, |previous| previous.conversation);
        let new = || Conversation { ids: HashSet::new(), used: now, use_idx };
        self.conversations.entry(conversation).or_insert_with(new).ids.insert(kept.id.clone());
        let entry = |kept: Kept| Entry { kept: Arc::new(kept), conversation, label };
        self.by_id.insert(kept.id.clone(), entry(kept));
        self.touch(conversation, now, use_idx);
    }

    fn touch(&mut self, conversation: u64, now: Instant, use_idx: u64) {
        let Some(used) = self.conversations.get_mut(&conversation) else { return };
        self.by_use.remove(&used.use_idx);
        self.by_use.insert(use_idx, conversation);
        *used =
            Conversation { ids: std::mem::take(&mut used.ids), used: used.used.max(now), use_idx };
    }
}

/// The answers of one client; nobody else can tell them from those that never were.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    all: &'a KeptAnswers,
    client: u64,
    now: Instant,
    /// The most sensitive label of what was read, for whoever wants to know.
    seen: Option<&'a Cell<Option<Label>>>,
}

impl<'a> Own<'a> {
    /// The same; `seen` becomes the most sensitive label of what is read.
    pub(crate) fn watched(self, seen: &'a Cell<Option<Label>>) -> Self {
        Self { seen: Some(seen), ..self }
    }

    /// What `read` finds on the shelf from the answer of this id on, whose conversation counts as
    /// used.
    fn read<T>(&self, id: &str, read: impl FnOnce(&Shelf) -> T) -> Option<T> {
        let mut shelves = self.all.lock();
        let use_idx = shelves.n_uses + 1;
        let shelf = shelves.by_client.get_mut(&self.client)?;
        let Entry { conversation, label, .. } = *shelf.by_id.get(id)?;
        if self.all.is_over(shelf.conversations.get(&conversation)?.used, self.now) {
            return None;
        }
        shelf.touch(conversation, self.now, use_idx);
        self.seen.iter().for_each(|seen| seen.set(seen.get().max(Some(label))));
        let found = read(shelf);
        shelves.n_uses = use_idx;
        Some(found)
    }

    /// Keeps an answer, of a request with the most sensitive label.
    #[cfg(test)]
    pub(crate) fn put(&self, kept: Kept) {
        self.put_as(Label::Private, kept);
    }

    /// Keeps an answer, of a request with this label. Where room lacks, the client that has most
    /// gives up the conversation that it has not used for longest.
    pub(crate) fn put_as(&self, label: Label, kept: Kept) {
        let n_bytes = kept.n_bytes();
        if !self.all.keeps() || n_bytes > self.all.n_bytes_max {
            return;
        }
        let mut given_up = Vec::new();
        let mut shelves = self.all.lock();
        while shelves.n_bytes + n_bytes > self.all.n_bytes_max {
            let Some((_, most)) = shelves.by_size.last().copied() else { break };
            given_up.append(&mut shelves.change(most, |shelf, _| shelf.give_up()));
        }
        shelves.change(self.client, |shelf, use_idx| {
            given_up.extend(shelf.remove(&kept.id));
            shelf.put(kept, label, self.now, use_idx);
        });
        drop(shelves);
        // The texts go when nobody waits for the lock.
        drop(given_up);
    }

    /// The answer of this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Kept>> {
        self.read(id, |shelf| shelf.by_id.get(id).map(|entry| entry.kept.clone()))?
    }

    /// The answer of this id and all that it continues, the first of them first.
    pub(crate) fn history(&self, id: &str) -> Result<Vec<Arc<Kept>>, Gone> {
        let turns = self.read(id, |shelf| {
            let mut turns: Vec<Arc<Kept>> = Vec::new();
            let mut next = Some(id.to_owned());
            while let Some(id) = next {
                let turn = shelf.by_id.get(&id).ok_or(Gone(id))?.kept.clone();
                next = turn.previous.clone();
                turns.push(turn);
            }
            turns.reverse();
            Ok(turns)
        });
        turns.unwrap_or_else(|| Err(Gone(id.to_owned())))
    }

    /// Forgets the answer of this id; whether it was there.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let is_there = self.read(id, |_| ()).is_some();
        let removed = match is_there {
            true => self.all.lock().change(self.client, |shelf, _| shelf.remove(id)),
            // What is over is swept out.
            false => None,
        };
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_continues_an_answer_is_no_less_sensitive() {
        let (all, now) = (KeptAnswers::new(Some(HOUR), 1 << 20), Instant::now());
        all.of(1, now).put_as(Label::Internal, answer("a", None, 1));
        all.of(1, now).put_as(Label::Public, answer("b", None, 1));
        let seen = Cell::new(None);
        let own = all.of(1, now).watched(&seen);
        assert!(own.get("none").is_none() && seen.get().is_none());
        own.history("b").unwrap();
        assert_eq!(seen.get(), Some(Label::Public));
        own.history("a").unwrap();
        own.get("b").unwrap();
        assert_eq!(seen.get(), Some(Label::Internal));
    }

    fn answer(id: &str, previous: Option<&str>, n_bytes: usize) -> Kept {
        Kept {
            id: id.to_owned(),
            previous: previous.map(str::to_owned),
            input: "i".repeat(n_bytes),
            output: String::new(),
            body: String::new(),
            is_whole: true,
        }
    }

    fn ids(all: &KeptAnswers, client: u64, now: Instant) -> String {
        let own = all.of(client, now);
        ["a", "b", "c", "d", "e"].into_iter().filter(|id| own.get(id).is_some()).collect()
    }

    /// The sums and orders say what is there.
    fn check(all: &KeptAnswers) {
        let shelves = all.lock();
        let sum = |shelf: &Shelf| -> usize {
            shelf.by_id.values().map(|entry| entry.kept.n_bytes()).sum()
        };
        for (client, shelf) in &shelves.by_client {
            assert_eq!(shelf.n_bytes, sum(shelf));
            assert!(shelves.by_size.contains(&(shelf.n_bytes, *client)));
            let n_ids: usize = shelf.conversations.values().map(|all| all.ids.len()).sum();
            assert_eq!(n_ids, shelf.by_id.len());
            assert_eq!(shelf.by_use.len(), shelf.conversations.len());
            for (use_idx, conversation) in &shelf.by_use {
                assert_eq!(shelf.conversations[conversation].use_idx, *use_idx);
            }
        }
        assert_eq!(shelves.by_size.len(), shelves.by_client.len());
        assert_eq!(shelves.n_bytes, shelves.by_client.values().map(sum).sum::<usize>());
        assert!(shelves.n_bytes <= all.n_bytes_max);
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
        check(&all);
        for (client, id, previous) in [(1, "a", None), (1, "b", Some("a")), (1, "c", None)] {
            all.of(client, now).put(answer(id, previous, 1));
        }
        all.of(2, now).put(answer("d", None, 1));
        assert_eq!((all.forget(1), all.forget(1)), (3, 0));
        assert_eq!((ids(&all, 1, now), ids(&all, 2, now)), (String::new(), "d".to_owned()));
        check(&all);
        let none = KeptAnswers::new(None, 1 << 20);
        none.of(1, now).put(answer("a", None, 1));
        assert_eq!(ids(&none, 1, now), "");
    }

    #[test]
    fn time_counts_from_the_last_use_of_a_conversation() {
        let begin = Instant::now();
        let all = KeptAnswers::new(Some(HOUR), 1 << 20);
        all.of(1, begin).put(answer("a", None, 1));
        all.of(1, begin).put(answer("b", Some("a"), 1));
        all.of(1, begin).put(answer("c", None, 1));
        let later = begin + HOUR / 2;
        assert!(all.of(1, later).get("b").is_some());
        // Also before it was swept out.
        assert!(all.of(1, begin + HOUR).get("c").is_none());
        assert!(!all.of(1, begin + HOUR).remove("c"));
        all.sweep(begin + HOUR);
        check(&all);
        let turns = all.of(1, later).history("b").unwrap();
        assert_eq!(turns.iter().map(|turn| &*turn.id).collect::<Vec<&str>>(), ["a", "b"]);
        assert_eq!(ids(&all, 1, later), "ab");
        all.sweep(later + HOUR);
        assert!(all.lock().by_client.is_empty());
        check(&all);
    }

    #[test]
    fn a_conversation_is_whole_or_not_there() {
        let now = Instant::now();
        let all = KeptAnswers::new(Some(HOUR), 1 << 20);
        let own = all.of(1, now);
        own.put(answer("a", None, 10));
        own.put(answer("b", Some("a"), 10));
        own.put(answer("c", Some("b"), 10));
        assert_eq!(own.history("c").map(|turns| turns.len()), Ok(3));
        let gone = |id: &str| Err(Gone(id.to_owned()));
        assert_eq!(all.of(2, now).history("c"), gone("c"));
        own.remove("a");
        assert_eq!(own.history("c"), gone("a"));
        assert_eq!(own.history("x"), gone("x"));
        check(&all);
    }

    #[test]
    fn who_has_most_gives_up_the_conversation_it_has_not_used_for_longest() {
        let now = Instant::now();
        let n_each = answer("a", Some("b"), 1000).n_bytes();
        let all = KeptAnswers::new(Some(HOUR), 5 * n_each);
        let own = all.of(1, now);
        // All at one time, so that only the order of the uses tells them apart.
        own.put(answer("a", None, 1000));
        own.put(answer("b", None, 1000));
        own.put(answer("c", Some("a"), 1000));
        own.put(answer("d", None, 1000));
        all.of(2, now).put(answer("a", None, 1000));
        check(&all);
        // The first of all was used again as a part of its conversation.
        all.of(2, now).put(answer("b", None, 1000));
        let found = (ids(&all, 2, now), ids(&all, 1, now));
        assert_eq!(found, ("ab".to_owned(), "acd".to_owned()));
        check(&all);
        assert!(own.get("d").is_some());
        // And is given up as a whole.
        all.of(2, now).put(answer("c", None, 1000));
        let found = (ids(&all, 2, now), ids(&all, 1, now));
        assert_eq!(found, ("abc".to_owned(), "d".to_owned()));
        check(&all);
        // What is larger than all the room takes nobody's.
        all.of(3, now).put(answer("d", None, 5 * n_each));
        assert_eq!((ids(&all, 1, now), ids(&all, 3, now)), ("d".to_owned(), String::new()));
        // What comes again takes the place of what it was.
        own.put(answer("d", None, 10));
        assert_eq!(own.get("d").map(|kept| kept.input.len()), Some(10));
        check(&all);
    }
}
