//! The prefix cache on disk: a folder of KV pages that outlasts the process, within a budget.
//!
//! A [`PrefixStore`] is opened once and given to any number of engines
//! ([`EngineOptions::prefix_store`](crate::EngineOptions)). They hand it pages when they have
//! nothing else to do, when a page must make room, and when they end; they ask for pages when a
//! prompt begins as one that is kept. Files are read and written on two threads of the store, so
//! an engine never waits for the disk while somebody waits for the engine.
//!
//! Only what a request leaves under [`CacheScope::Shared`] or [`CacheScope::Lasting`] is written.
//! What is in the files is as private as the conversations are: the folder and its files are their
//! owner's alone. When the budget is used up, the files that were used least recently go.

use crate::error::EngineError;
use crate::page_file::{self, Origin, PageKey, Unusable};
use crate::private_folder::{PrivateFolder, SECRET_LEN, failed};
use crate::request::CacheScope;
use crate::slots::{Slot, Slots};
use kernels::PAGE_LEN;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How long the reading thread waits where every engine has all the pages that it has room for.
const LOAD_PAUSE: Duration = Duration::from_millis(1);
/// How long nothing is handed over before the order of use is written to the files.
const STAMP_PAUSE: Duration = Duration::from_secs(60);

/// A folder of KV pages that outlasts the process. Cheap to clone; when the last clone is gone,
/// everything that was handed over is in its file.
#[derive(Clone)]
pub struct PrefixStore {
    inner: Arc<Inner>,
}

struct Inner {
    files: Arc<Files>,
    private: PrivateFolder,
    /// `None` once the store is going.
    queues: Option<(Sender<Order>, Sender<Load>)>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of a store share with it.
struct Files {
    folder: PathBuf,
    max_bytes: u64,
    index: Mutex<Index>,
    on_warning: Box<dyn Fn(&str) + Send + Sync>,
}

/// What the writing thread is to do.
enum Order {
    Save(Save),
    /// Makes these the last used, in this order, of those that there are.
    Touch(Vec<PageKey>),
}

/// A page to write.
pub(crate) struct Save {
    pub(crate) key: PageKey,
    /// The page without whose file it is of no use; `None` where that does not matter.
    pub(crate) parent: Option<PageKey>,
    pub(crate) header: Vec<u8>,
    pub(crate) page: Vec<u8>,
    pub(crate) slot: Slot,
}

/// Pages to read, one after the other as long as they are there.
struct Load {
    origin: Origin,
    scope: CacheScope,
    before: PageKey,
    /// Of whole pages, and how many of these were sent.
    tokens: Vec<u32>,
    n_sent: usize,
    pages: Sender<Loaded>,
    slots: Slots,
}

/// A page that was read.
pub(crate) struct Loaded {
    pub(crate) page: Vec<u8>,
    _slot: Slot,
}

/// How a [`Load`] goes on.
#[derive(PartialEq, Eq)]
enum Step {
    Sent,
    NoSlot,
    Over,
}

impl PrefixStore {
    /// Opens the folder at `path`, and creates it where there is none. All files of it together
    /// take at most `max_bytes`. What an operator should know is told to `on_warning`, a line at a
    /// time: a file that cannot be believed, and why.
    ///
    /// # Errors
    /// [`EngineError::PrivateFolder`]: the folder cannot be made or read, it or its secret is not
    /// this user's alone, or another process uses it.
    pub fn open(
        path: &Path,
        max_bytes: u64,
        on_warning: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, EngineError> {
        let private = PrivateFolder::open(path)?;
        let index = Index::read(path).map_err(failed(path))?;
        let files = Arc::new(Files {
            folder: path.to_owned(),
            max_bytes,
            index: Mutex::new(index),
            on_warning: Box::new(on_warning),
        });
        files.make_room(0);
        let (orders, to_do) = channel();
        let (loads, to_load) = channel();
        let (saver, loader) = (Arc::clone(&files), Arc::clone(&files));
        let threads = vec![
            spawn("prefix-save", move || saver.obey(&to_do))?,
            spawn("prefix-load", move || loader.load_all(&to_load))?,
        ];
        let inner = Inner { files, private, queues: Some((orders, loads)), threads };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The scope of whoever is known by `name`: the same after a restart, as long as the folder is,
    /// and not to be guessed without it.
    pub fn scope(&self, name: &[u8]) -> CacheScope {
        CacheScope::Lasting(self.inner.private.number(name))
    }

    /// Bytes that the files take now.
    pub fn n_bytes(&self) -> u64 {
        self.inner.files.index().n_bytes
    }

    /// Most bytes that the files take.
    pub fn max_bytes(&self) -> u64 {
        self.inner.files.max_bytes
    }

    /// What the first page of a scope comes after.
    pub(crate) fn start(&self, origin: &Origin, scope: CacheScope) -> Option<PageKey> {
        origin.start(scope, self.inner.private.secret())
    }

    /// Whether there is a file for this page.
    pub(crate) fn has(&self, key: PageKey) -> bool {
        self.inner.files.index().files.contains_key(&key)
    }

    /// Makes the files of these pages the last used, in this order, once what was handed over
    /// before is written.
    pub(crate) fn touch(&self, keys: Vec<PageKey>) {
        self.order(Order::Touch(keys));
    }

    /// Hands a page over to be written.
    pub(crate) fn save(&self, save: Save) {
        self.order(Order::Save(save));
    }

    fn order(&self, order: Order) {
        if let Some((orders, _)) = &self.inner.queues {
            // A thread that is gone writes nothing more.
            let _ = orders.send(order);
        }
    }

    /// Begins to read the pages of `tokens`, which are whole pages, behind the page `before`. They
    /// come in order, as there are slots for them; the first that is not to be had is the end.
    pub(crate) fn load(
        &self,
        origin: &Origin,
        scope: CacheScope,
        before: PageKey,
        tokens: Vec<u32>,
        slots: &Slots,
    ) -> Receiver<Loaded> {
        let (pages, loaded) = channel();
        if let Some((_, loads)) = &self.inner.queues {
            let (origin, slots) = (origin.clone(), slots.clone());
            let load = Load { origin, scope, before, tokens, n_sent: 0, pages, slots };
            let _ = loads.send(load);
        }
        loaded
    }
}

impl fmt::Debug for PrefixStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Files { folder, max_bytes, .. } = &*self.inner.files;
        f.debug_struct("PrefixStore")
            .field("folder", folder)
            .field("max_bytes", max_bytes)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// Writes what was handed over.
    fn drop(&mut self) {
        self.queues = None;
        for thread in self.threads.drain(..) {
            // It ends with its queue; a panic of it costs no more than what it had in hand.
            let _ = thread.join();
        }
    }
}

impl Files {
    fn index(&self) -> MutexGuard<'_, Index> {
        // Nothing that can panic runs under the lock.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: PageKey) -> PathBuf {
        self.folder.join(key.file_name())
    }

    fn warn(&self, path: &Path, problem: &str) {
        (self.on_warning)(&format!("{}: {problem}", path.display()));
    }

    /// Does what it is told, to the end of the queue.
    fn obey(&self, orders: &Receiver<Order>) {
        let mut has_failed = false;
        loop {
            match orders.recv_timeout(STAMP_PAUSE) {
                Ok(Order::Touch(keys)) => {
                    let mut index = self.index();
                    keys.into_iter().for_each(|key| index.touch(key));
                }
                Ok(Order::Save(save)) => self.save(save, &mut has_failed),
                Err(RecvTimeoutError::Timeout) => self.stamp(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.stamp();
    }

    fn save(&self, save: Save, has_failed: &mut bool) {
        let Save { key, parent, header, page, slot } = save;
        let n_bytes = (header.len() + page.len() + SECRET_LEN) as u64;
        let is_wanted = {
            let files = &self.index().files;
            !files.contains_key(&key) && parent.is_none_or(|parent| files.contains_key(&parent))
        };
        if !is_wanted || !self.make_room(n_bytes) {
            return;
        }
        let write = || page_file::write(&self.folder, key, &header, &page);
        match self.retry_with_room(write) {
            Ok(()) => {
                self.index().insert(key, n_bytes);
                *has_failed = false;
            }
            // A full disk is told once, not with each page.
            Err(error) => {
                if !std::mem::replace(has_failed, true) {
                    self.warn(&self.path(key), &format!("not written: {error}"));
                }
            }
        }
        // The next page may be copied now.
        drop(slot);
    }

    /// Writes, and where the disk is full once more without the file that was used least recently.
    fn retry_with_room(&self, mut write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let oldest = self.index().pop_oldest_beyond(0);
                self.remove(oldest.ok_or(error)?);
                write()
            }
            written => written,
        }
    }

    /// Writes the order of use to the files, for the next start: a file's time is that of its last
    /// use, and in the same order.
    fn stamp(&self) {
        let stale = self.index().take_stale();
        // Where it fails the file only looks older than it is.
        let set = |(key, time): (PageKey, SystemTime)| {
            File::options().append(true).open(self.path(key))?.set_modified(time)
        };
        stale.into_iter().for_each(|stale| drop(set(stale)));
    }

    /// Removes files until there is room for `n_bytes` more. Returns `false` where the budget is
    /// less than that.
    fn make_room(&self, n_bytes: u64) -> bool {
        if n_bytes > self.max_bytes {
            return false;
        }
        loop {
            // Nobody waits for the index while a file is removed.
            let oldest = self.index().pop_oldest_beyond(self.max_bytes - n_bytes);
            let Some(key) = oldest else { return true };
            self.remove(key);
        }
    }

    /// Removes a file that the index has no more.
    fn remove(&self, key: PageKey) {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.warn(&path, &format!("not removed: {error}"));
            }
            _ => {}
        }
    }

    /// Reads what is asked for, a page of each in turn, to the end of the queue.
    fn load_all(&self, loads: &Receiver<Load>) {
        let mut active = VecDeque::new();
        loop {
            if active.is_empty() {
                let Ok(load) = loads.recv() else { return };
                active.push_back(load);
            }
            loop {
                match loads.try_recv() {
                    Ok(load) => active.push_back(load),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let mut is_stuck = true;
            for _ in 0..active.len() {
                let Some(mut load) = active.pop_front() else { break };
                let step = self.load_next(&mut load);
                is_stuck &= step == Step::NoSlot;
                if step != Step::Over {
                    active.push_back(load);
                }
            }
            if is_stuck {
                match loads.recv_timeout(LOAD_PAUSE) {
                    Ok(load) => active.push_back(load),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Reads the next page of one.
    fn load_next(&self, load: &mut Load) -> Step {
        let tokens = &load.tokens[load.n_sent * PAGE_LEN..];
        let Some((tokens, _)) = tokens.split_at_checked(PAGE_LEN) else { return Step::Over };
        let Some(slot) = load.slots.try_take() else { return Step::NoSlot };
        let key = load.before.next(tokens);
        let Some(page) = self.load(load, key, load.before, tokens) else { return Step::Over };
        load.n_sent += 1;
        load.before = key;
        match load.pages.send(Loaded { page, _slot: slot }) {
            Ok(()) => Step::Sent,
            // Whoever asked has gone away.
            Err(_) => Step::Over,
        }
    }

    fn load(&self, load: &Load, key: PageKey, before: PageKey, tokens: &[u32]) -> Option<Vec<u8>> {
        if !self.index().files.contains_key(&key) {
            return None;
        }
        let header = load.origin.header(load.scope, before, tokens);
        match page_file::read(&self.folder, key, &header, load.origin.file_len()) {
            Ok(page) => Some(page),
            Err(unusable) => {
                self.index().forget(key);
                if let Unusable::Bad(reason) = unusable {
                    self.warn(&self.path(key), &format!("not used, removed: {reason}"));
                    self.remove(key);
                }
                None
            }
        }
    }
}

/// Which files there are, in the order of their use.
#[derive(Default)]
struct Index {
    files: HashMap<PageKey, Entry>,
    by_use: BTreeMap<u64, PageKey>,
    n_bytes: u64,
    next_use: u64,
    /// The first use that the files' times do not tell of.
    first_stale: u64,
}

struct Entry {
    n_bytes: u64,
    used: u64,
}

impl Index {
    /// Looks through a folder. What bears no name of ours is left alone; what an earlier process
    /// did not finish is removed.
    fn read(folder: &Path) -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if page_file::is_partial(name) {
                // It is in nobody's way, and tried again at the next start.
                let _ = fs::remove_file(entry.path());
            } else if let Some(key) = PageKey::of_file_name(name) {
                let metadata = entry.metadata()?;
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((modified, key, metadata.len()));
            }
        }
        found.sort_unstable_by_key(|(modified, ..)| *modified);
        let mut index = Self::default();
        found.into_iter().for_each(|(_, key, n_bytes)| index.insert(key, n_bytes));
        index.first_stale = index.next_use;
        Ok(index)
    }

    fn insert(&mut self, key: PageKey, n_bytes: u64) {
        self.forget(key);
        self.files.insert(key, Entry { n_bytes, used: self.next_use });
        self.by_use.insert(self.next_use, key);
        self.next_use += 1;
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
    }

    /// Makes a file the last used, if there is one.
    fn touch(&mut self, key: PageKey) {
        if let Some(entry) = self.files.get(&key) {
            self.insert(key, entry.n_bytes);
        }
    }

    /// The files that were used since the last call, and times in the order of their use.
    fn take_stale(&mut self) -> Vec<(PageKey, SystemTime)> {
        let first = std::mem::replace(&mut self.first_stale, self.next_use);
        let keys: Vec<PageKey> = self.by_use.range(first..).map(|(_, key)| *key).collect();
        let now = SystemTime::now();
        let before = |n_after: usize| now - Duration::from_micros(n_after as u64);
        let n_stale = keys.len();
        keys.into_iter().enumerate().map(|(i, key)| (key, before(n_stale - i))).collect()
    }

    fn forget(&mut self, key: PageKey) {
        if let Some(entry) = self.files.remove(&key) {
            self.by_use.remove(&entry.used);
            self.n_bytes = self.n_bytes.saturating_sub(entry.n_bytes);
        }
    }

    /// Takes out the file that was used least recently, where all take more than `max_bytes`.
    fn pop_oldest_beyond(&mut self, max_bytes: u64) -> Option<PageKey> {
        let (_, key) = self.by_use.first_key_value().filter(|_| self.n_bytes > max_bytes)?;
        let key = *key;
        self.forget(key);
        Some(key)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, EngineError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(EngineError::Thread)
}

#[cfg(test)]
#[path = "prefix_store_tests.rs"]
mod tests;
