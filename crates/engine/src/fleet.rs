//! Several models under one budget of memory: opened when they are first asked for, closed when
//! nobody uses them.
//!
//! A [`Fleet`] holds names and how to open what they stand for. [`Fleet::get`] gives an open
//! model, and opens it first where need be; a request to one that is open never waits for the
//! opening of another. Where memory is short, the model that was used least recently makes room;
//! one that answers, or is pinned, never does. What still does not fit is refused with the
//! arithmetic.
//!
//! Those that are busy at once take turns at the cores, step by step ([`Cores`]).
//!
//! The fleet has no thread of its own: [`Fleet::close_idle`] is to be called now and then.

use crate::cores::Cores;
use crate::error::{EngineError, MemoryShortage};
use crate::host;
use crate::opened::Opened;
use crate::options::EngineOptions;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Opens a model within the memory that the options allow.
pub type Opener = Arc<dyn Fn(&EngineOptions) -> Result<Opened, EngineError> + Send + Sync>;

/// How a model is opened, and how long it stays.
#[derive(Clone)]
pub struct FleetModel {
    /// Opens it, on the thread of whoever asks first.
    pub open: Opener,
    /// What it is opened with. The fleet adds to `promised_bytes`, lowers `memory_limit_bytes`
    /// to what is left of its own budget, and has all its models share `cores`, where they say
    /// nothing else.
    pub options: EngineOptions,
    /// When it is closed.
    pub keep: Keep,
}

/// How long an open model stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until it is removed or replaced.
    Pinned,
    /// Until it was not used for so long, or others need its memory.
    Idle(Duration),
}

impl FleetModel {
    /// The GGUF file at `path`.
    pub fn file(path: PathBuf, options: EngineOptions, keep: Keep) -> Self {
        let open = Arc::new(move |options: &EngineOptions| Opened::open(&path, options));
        Self { open, options, keep }
    }
}

/// Why a model of a fleet is not to be had.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// No model has this name.
    #[error("no model is named {name:?}")]
    UnknownName {
        /// The name asked for.
        name: String,
    },
    /// It does not fit beside those that stay.
    #[error("{name}: {shortage}{}", say_kept(kept))]
    NoRoom {
        /// The model asked for.
        name: String,
        /// What it needs, and what there is.
        shortage: MemoryShortage,
        /// The open models that cannot make room, and why.
        kept: Vec<(String, Kept)>,
    },
    /// It could not be opened. Shared by all who waited for it.
    #[error("{name}: {error}")]
    NotOpened {
        /// The model asked for.
        name: String,
        /// What went wrong.
        error: Arc<EngineError>,
    },
}

/// Why an open model makes no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is to stay.
    Pinned,
    /// Somebody uses it now.
    InUse,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "it is pinned",
            Self::InUse => "it is in use",
        })
    }
}

fn say_kept(kept: &[(String, Kept)]) -> String {
    let say = |(name, why): &(String, Kept)| format!("; {name} stays: {why}");
    kept.iter().map(say).collect()
}

/// What a fleet says of one model.
#[derive(Debug, Clone)]
pub struct FleetStatus {
    /// Its name.
    pub name: String,
    /// Whether it is here.
    pub state: FleetState,
    /// When it is closed.
    pub keep: Keep,
    /// How often it was opened.
    pub n_opened: u64,
}

/// Whether a model is in memory.
#[derive(Debug, Clone)]
pub enum FleetState {
    /// It is not.
    Closed,
    /// Somebody asked for it, and it will be.
    Opening,
    /// It is.
    Open {
        /// The model as it was opened.
        model: Opened,
        /// How long nobody has used it; zero while somebody does.
        idle: Duration,
    },
}

/// Models by name, in the order in which they were added. Cheap to clone.
#[derive(Clone, Default)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: Mutex<Vec<Entry>>,
    /// Woken when an opening has ended.
    opened: Condvar,
    /// Held while memory is counted, taken or given back: one model after the other, since each is
    /// measured against what those before have left.
    loading: Mutex<()>,
    budget_bytes: Option<u64>,
    cores: Cores,
}

struct Entry {
    name: String,
    model: FleetModel,
    state: State,
    /// Counts openings and replacements: whoever opened a model that was replaced meanwhile leaves
    /// the entry alone.
    turn: u64,
    /// How the opening of the turn before this one failed, for those who waited for it.
    failure: Option<(u64, FleetError)>,
    n_opened: u64,
    /// How long it is kept instead, since somebody asked; forgotten when it is opened anew.
    asked: Option<Duration>,
}

enum State {
    Closed,
    Opening,
    Open { opened: Opened, used_at: Instant },
}

impl Fleet {
    /// A fleet without models. Together they take at most `budget_bytes` (weights, KV caches and
    /// scratch as planned); `None`: what the system and the cgroup have available.
    pub fn new(budget_bytes: Option<u64>) -> Self {
        Self { inner: Arc::new(Inner { budget_bytes, ..Inner::default() }) }
    }

    /// Adds a model, or replaces the one of this name: who asks from now on gets the new one,
    /// while answers that run go on with the old one, which closes behind the last of them. Until
    /// then both are in memory, and the budget counts the new one only.
    pub fn set(&self, name: &str, model: FleetModel) {
        let mut entries = self.entries();
        match entries.iter_mut().find(|entry| entry.name == name) {
            None => entries.push(Entry {
                name: name.to_owned(),
                model,
                state: State::Closed,
                turn: 0,
                failure: None,
                n_opened: 0,
                asked: None,
            }),
            Some(entry) => {
                entry.model = model;
                entry.asked = None;
                entry.turn += 1;
                let old = std::mem::replace(&mut entry.state, State::Closed);
                drop(entries);
                self.inner.opened.notify_all();
                self.give_back([old]);
            }
        }
    }

    /// Takes a model out; as with [`Fleet::set`], answers that run go on. `false` where there was
    /// none.
    pub fn remove(&self, name: &str) -> bool {
        let mut entries = self.entries();
        let Some(entry_idx) = entries.iter().position(|entry| entry.name == name) else {
            return false;
        };
        let entry = entries.remove(entry_idx);
        drop(entries);
        self.inner.opened.notify_all();
        self.give_back([entry.state]);
        true
    }

    /// Gives the model `from`, as it is, the name `to`; one that had it is replaced as by
    /// [`Fleet::set`], without a moment in which neither is there, and returned. Waits for nobody.
    /// `None` where there is no `from`.
    pub fn rename(&self, from: &str, to: &str) -> Option<Replaced> {
        let mut entries = self.entries();
        let position = |entries: &[Entry], name| entries.iter().position(|of| of.name == name);
        let from_idx = position(&entries, from)?;
        if from == to {
            return Some(Replaced { fleet: self.clone(), old: None });
        }
        let mut entry = entries.remove(from_idx);
        entry.name = to.to_owned();
        // Whoever is opening it under the other name will not find it any more.
        if matches!(entry.state, State::Opening) {
            entry.state = State::Closed;
        }
        let old = match position(&entries, to) {
            None => {
                entries.push(entry);
                None
            }
            Some(to_idx) => {
                // Whoever opens or waits for the one before finds another turn.
                entry.turn = entry.turn.max(entries[to_idx].turn) + 1;
                entry.n_opened += entries[to_idx].n_opened;
                Some(std::mem::replace(&mut entries[to_idx], entry).state)
            }
        };
        drop(entries);
        self.inner.opened.notify_all();
        Some(Replaced { fleet: self.clone(), old })
    }

    /// A model that is open; `None` where [`Fleet::get`] would have to open it.
    pub fn get_open(&self, name: &str) -> Option<Opened> {
        self.entries().iter_mut().find(|entry| entry.name == name)?.take_open()
    }

    /// An open model. Opens it first where it is not open, on this thread; where another
    /// thread is opening it, waits for that.
    ///
    /// The model stays open as long as it, or a clone of it, is held.
    ///
    /// # Errors
    /// No such name, no room for it, or whatever its opening answered. A model whose opening
    /// failed is tried anew when it is next asked for.
    pub fn get(&self, name: &str) -> Result<Opened, FleetError> {
        let mut entries = self.entries();
        let mut waited_for = None;
        loop {
            let unknown = || FleetError::UnknownName { name: name.to_owned() };
            let entry = find(&mut entries, name).ok_or_else(unknown)?;
            if let Some(opened) = entry.take_open() {
                return Ok(opened);
            }
            if let State::Opening = entry.state {
                waited_for = Some(entry.turn);
                entries = unpoisoned(self.inner.opened.wait(entries));
                continue;
            }
            if let (Some(turn), Some((failed, error))) = (waited_for, &entry.failure)
                && turn == *failed
            {
                return Err(error.clone());
            }
            // One that has stopped gives its memory back first.
            let old = std::mem::replace(&mut entry.state, State::Opening);
            entry.turn += 1;
            entry.asked = None;
            let opening = Opening { fleet: self, name, turn: entry.turn };
            let model = entry.model.clone();
            drop(entries);
            // Until it is noted what the model takes.
            let _turn = unpoisoned(self.inner.loading.lock());
            drop(old);
            return opening.end(self.open(name, &model));
        }
    }

    /// Closes what was not used for as long as it is kept, and returns the names. To be called
    /// about once a second; between two calls a use is noticed only where it lasts.
    pub fn close_idle(&self) -> Vec<String> {
        let now = Instant::now();
        let mut names = Vec::new();
        let mut closed = Vec::new();
        for entry in &mut *self.entries() {
            let Some(idle) = entry.idle(now) else { continue };
            if entry.is_unused() && matches!(entry.keep(), Keep::Idle(kept) if idle >= kept) {
                names.push(entry.name.clone());
                closed.push(std::mem::replace(&mut entry.state, State::Closed));
            }
        }
        self.give_back(closed);
        names
    }

    /// Keeps a model so long after its last use, until it is closed the next time; zero closes it
    /// behind who uses it now. `false` where that changes nothing: it is pinned, or not open.
    pub fn keep(&self, name: &str, idle: Duration) -> bool {
        let mut entries = self.entries();
        let Some(entry) = find(&mut entries, name) else { return false };
        if entry.model.keep == Keep::Pinned || !matches!(entry.state, State::Open { .. }) {
            return false;
        }
        entry.asked = Some(idle);
        true
    }

    /// From now on a model is kept like this, and opened like this when it is opened next: one that
    /// is open stays as it is. `false` where there is none.
    pub fn renew(&self, name: &str, model: FleetModel) -> bool {
        let mut entries = self.entries();
        find(&mut entries, name).map(|entry| entry.model = model).is_some()
    }

    /// How long a model stays open where nobody asks for another time; `None`: no such model.
    pub fn own_keep(&self, name: &str) -> Option<Keep> {
        self.entries().iter().find(|entry| entry.name == name).map(|entry| entry.model.keep)
    }

    /// Closes a model that nobody uses, whatever it is kept for. `false` where it is in use or not
    /// open.
    pub fn close(&self, name: &str) -> bool {
        let mut entries = self.entries();
        let entry = find(&mut entries, name);
        let Some(entry) = entry.filter(|entry| entry.is_unused()) else { return false };
        let old = std::mem::replace(&mut entry.state, State::Closed);
        drop(entries);
        self.give_back([old]);
        true
    }

    /// What there is, in the order in which it was added.
    pub fn status(&self) -> Vec<FleetStatus> {
        let now = Instant::now();
        let status = |entry: &mut Entry| {
            let idle = entry.idle(now).unwrap_or_default();
            let state = match &entry.state {
                State::Closed => FleetState::Closed,
                State::Opening => FleetState::Opening,
                State::Open { opened, .. } => FleetState::Open { model: opened.clone(), idle },
            };
            let (name, keep) = (entry.name.clone(), entry.keep());
            FleetStatus { name, state, keep, n_opened: entry.n_opened }
        };
        self.entries().iter_mut().map(status).collect()
    }

    /// Opens a model within what is left of the memory; closes unused ones until it fits, and none
    /// where all of them would not do. `loading` is held.
    fn open(&self, name: &str, model: &FleetModel) -> Result<Opened, FleetError> {
        loop {
            let error = match (model.open)(&self.bounded(&model.options)) {
                Ok(opened) => return Ok(opened),
                Err(EngineError::NotEnoughMemory(shortage)) => shortage,
                Err(error) => {
                    let (name, error) = (name.to_owned(), Arc::new(error));
                    return Err(FleetError::NotOpened { name, error });
                }
            };
            let lacking = error.need.total_bytes().saturating_sub(error.available_bytes);
            match self.take_least_used(lacking) {
                Some(unused) => drop(unused),
                None => {
                    let (name, kept) = (name.to_owned(), self.kept());
                    return Err(FleetError::NoRoom { name, shortage: *error, kept });
                }
            }
        }
    }

    /// `options` with what the open models take counted in.
    fn bounded(&self, options: &EngineOptions) -> EngineOptions {
        let planned_bytes =
            self.entries().iter().map(Entry::planned_bytes).fold(0, u64::saturating_add);
        // The system knows what is touched already.
        let untouched = planned_bytes.saturating_sub(host::anonymous_bytes().unwrap_or(0));
        let promised_bytes = options.promised_bytes.saturating_add(untouched);
        let system = host::available_memory().map_or(u64::MAX, |memory| memory.n_bytes);
        let left = self.inner.budget_bytes.map(|budget| budget.saturating_sub(planned_bytes));
        // A budget is a promise to take no more, not that so much is there.
        let left = left.filter(|left| *left <= system.saturating_sub(promised_bytes));
        let memory_limit_bytes = [options.memory_limit_bytes, left].into_iter().flatten().min();
        let cores = Some(options.cores.as_ref().unwrap_or(&self.inner.cores).clone());
        EngineOptions { promised_bytes, memory_limit_bytes, cores, ..options.clone() }
    }

    /// The open model that was used least recently and may be closed; `None` where all such models
    /// together do not hold `lacking` bytes.
    fn take_least_used(&self, lacking: u64) -> Option<State> {
        let now = Instant::now();
        let mut entries = self.entries();
        let may_go = |entry: &&Entry| entry.model.keep != Keep::Pinned && entry.is_unused();
        let to_gain = entries.iter().filter(may_go).map(Entry::planned_bytes);
        if to_gain.fold(0, u64::saturating_add) < lacking {
            return None;
        }
        let candidates = entries.iter_mut().filter_map(|entry| {
            let may_go = entry.model.keep != Keep::Pinned && entry.is_unused();
            may_go.then_some((entry.idle(now), entry))
        });
        let (_, entry) = candidates.max_by_key(|(idle, _)| *idle)?;
        Some(std::mem::replace(&mut entry.state, State::Closed))
    }

    /// The open models that cannot make room.
    fn kept(&self) -> Vec<(String, Kept)> {
        let kept = |entry: &Entry| match (&entry.state, entry.model.keep) {
            (State::Open { .. }, Keep::Pinned) => Some((entry.name.clone(), Kept::Pinned)),
            (State::Open { .. }, Keep::Idle(_)) if !entry.is_unused() => {
                Some((entry.name.clone(), Kept::InUse))
            }
            _ => None,
        };
        self.entries().iter().filter_map(kept).collect()
    }

    /// Drops what was closed while nobody counts memory. Where nobody else holds a model, its
    /// memory is free when this returns.
    fn give_back(&self, closed: impl IntoIterator<Item = State>) {
        let mut closed = closed.into_iter().filter(|s| matches!(s, State::Open { .. })).peekable();
        if closed.peek().is_some() {
            let _turn = unpoisoned(self.inner.loading.lock());
            closed.for_each(drop);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        unpoisoned(self.inner.entries.lock())
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries().iter().map(|entry| &entry.name)).finish()
    }
}

impl Entry {
    /// The model, if it is open and runs. One that has stopped is to be opened anew.
    fn take_open(&mut self) -> Option<Opened> {
        let State::Open { opened, used_at } = &mut self.state else { return None };
        if opened.is_stopped() {
            return None;
        }
        *used_at = Instant::now();
        Some(opened.clone())
    }

    /// When it is closed.
    fn keep(&self) -> Keep {
        match (self.model.keep, self.asked) {
            (Keep::Idle(_), Some(asked)) => Keep::Idle(asked),
            (keep, _) => keep,
        }
    }

    /// What it takes where it is open.
    fn planned_bytes(&self) -> u64 {
        match &self.state {
            State::Open { opened, .. } => opened.info().planned_bytes(),
            State::Closed | State::Opening => 0,
        }
    }

    /// Whether it is open and nobody else holds it. Nobody can begin to but through the fleet,
    /// whose lock the caller holds.
    fn is_unused(&self) -> bool {
        matches!(&self.state, State::Open { opened, .. } if !opened.is_shared())
    }

    /// How long it has not been used, where it is open; zero, and noted, where it is in use.
    fn idle(&mut self, now: Instant) -> Option<Duration> {
        let is_unused = self.is_unused();
        let State::Open { used_at, .. } = &mut self.state else { return None };
        if !is_unused {
            *used_at = now;
        }
        Some(now.saturating_duration_since(*used_at))
    }
}

/// What was replaced, if something was. Dropped, it gives its memory back, for which it may wait
/// until a model is opened.
#[must_use]
pub struct Replaced {
    fleet: Fleet,
    old: Option<State>,
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Some(old) = self.old.take() {
            self.fleet.give_back([old]);
        }
    }
}

/// An opening that has begun; whatever happens to it, those who wait for it are told.
struct Opening<'a> {
    fleet: &'a Fleet,
    name: &'a str,
    turn: u64,
}

impl Opening<'_> {
    fn end(self, result: Result<Opened, FleetError>) -> Result<Opened, FleetError> {
        if let Some(entry) = self.entry(&mut self.fleet.entries()) {
            match &result {
                Ok(opened) => {
                    let (opened, used_at) = (opened.clone(), Instant::now());
                    entry.state = State::Open { opened, used_at };
                    entry.failure = None;
                    entry.n_opened += 1;
                }
                Err(error) => entry.failure = Some((self.turn, error.clone())),
            }
        }
        result
    }

    /// The entry, unless it was replaced or removed meanwhile.
    fn entry<'a>(&self, entries: &'a mut [Entry]) -> Option<&'a mut Entry> {
        find(entries, self.name).filter(|entry| entry.turn == self.turn)
    }
}

impl Drop for Opening<'_> {
    /// After a failure, or a panic of the opener.
    fn drop(&mut self) {
        if let Some(entry) = self.entry(&mut self.fleet.entries())
            && let State::Opening = entry.state
        {
            entry.state = State::Closed;
        }
        self.fleet.inner.opened.notify_all();
    }
}

fn find<'a>(entries: &'a mut [Entry], name: &str) -> Option<&'a mut Entry> {
    entries.iter_mut().find(|entry| entry.name == name)
}

/// No invariant is broken half-way under these locks, so a panic elsewhere does not matter.
fn unpoisoned<T>(locked: Result<T, PoisonError<T>>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
