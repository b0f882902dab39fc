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
use crate::request::CacheScope;
use kernels::PAGE_LEN;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Pages on their way to a file or from one: what hides the disk's time, and few enough for the
/// memory that an engine keeps in reserve.
const N_BUFFERED: usize = 3;
/// The file whose bytes make scopes and names that nobody can guess without it.
const SECRET: &str = "secret";
const SECRET_LEN: usize = 32;
/// The file that one process at a time has locked.
const LOCK: &str = "lock";

/// A folder of KV pages that outlasts the process. Cheap to clone; when the last clone is gone,
/// everything that was handed over is in its file.
#[derive(Clone)]
pub struct PrefixStore {
    inner: Arc<Inner>,
}

struct Inner {
    files: Arc<Files>,
    secret: Vec<u8>,
    /// `None` once the store is going.
    queues: Option<(SyncSender<Save>, Sender<Load>)>,
    threads: Vec<JoinHandle<()>>,
    _lock: File,
}

/// What the threads of a store share with it.
struct Files {
    folder: PathBuf,
    max_bytes: u64,
    index: Mutex<Index>,
    on_warning: Box<dyn Fn(&str) + Send + Sync>,
}

/// A page to write.
pub(crate) struct Save {
    pub(crate) key: PageKey,
    pub(crate) header: Vec<u8>,
    pub(crate) page: Vec<u8>,
}

/// Pages to read, one after the other as long as they are there.
struct Load {
    origin: Origin,
    scope: CacheScope,
    before: PageKey,
    /// Of whole pages.
    tokens: Vec<u32>,
    pages: SyncSender<Vec<u8>>,
}

impl PrefixStore {
    /// Opens the folder at `path`, and creates it where there is none. All files of it together
    /// take at most `max_bytes`. What an operator should know is told to `on_warning`, a line at a
    /// time: a file that cannot be believed, and why.
    ///
    /// # Errors
    /// [`EngineError::PrefixStore`]: the folder cannot be made or read, others may write to it or
    /// read its secret, or another process uses it.
    pub fn open(
        path: &Path,
        max_bytes: u64,
        on_warning: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, EngineError> {
        create_folder(path).map_err(failed(path))?;
        ensure_private(path, 0o022)?;
        let lock = take_lock(&path.join(LOCK))?;
        let secret = read_secret(&path.join(SECRET))?;
        let index = Index::read(path).map_err(failed(path))?;
        let files = Arc::new(Files {
            folder: path.to_owned(),
            max_bytes,
            index: Mutex::new(index),
            on_warning: Box::new(on_warning),
        });
        files.make_room(0);
        let (saves, to_save) = sync_channel(N_BUFFERED);
        let (loads, to_load) = channel();
        let (saver, loader) = (Arc::clone(&files), Arc::clone(&files));
        let threads = vec![
            spawn("prefix-save", move || saver.save_all(&to_save))?,
            spawn("prefix-load", move || loader.load_all(&to_load))?,
        ];
        let inner = Inner { files, secret, queues: Some((saves, loads)), threads, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The scope of whoever is known by `name`: the same after a restart, as long as the folder is,
    /// and not to be guessed without it.
    pub fn scope(&self, name: &[u8]) -> CacheScope {
        let hash = Sha256::new_with_prefix(&self.inner.secret).chain_update(name).finalize();
        let (number, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
        CacheScope::Lasting(u64::from_le_bytes(*number))
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
        origin.start(scope, &self.inner.secret)
    }

    /// Whether there is a file for this page.
    pub(crate) fn has(&self, key: PageKey) -> bool {
        self.inner.files.index().files.contains_key(&key)
    }

    /// Notes that the page's file is of use still.
    pub(crate) fn touch(&self, key: PageKey) {
        self.inner.files.touch(key);
    }

    /// Hands a page over to be written, where there is room for it now; gives it back where not.
    pub(crate) fn try_save(&self, save: Save) -> Result<(), Save> {
        let Some((saves, _)) = &self.inner.queues else { return Ok(()) };
        match saves.try_send(save) {
            Err(TrySendError::Full(save)) => Err(save),
            // A thread that is gone writes nothing more.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Hands a page over to be written, and waits until there is room for it.
    pub(crate) fn save(&self, save: Save) {
        if let Some((saves, _)) = &self.inner.queues {
            let _ = saves.send(save);
        }
    }

    /// Begins to read the pages of `tokens`, which are whole pages, behind the page `before`. They
    /// come in order; the first that is not to be had is the end.
    pub(crate) fn load(
        &self,
        origin: &Origin,
        scope: CacheScope,
        before: PageKey,
        tokens: Vec<u32>,
    ) -> Receiver<Vec<u8>> {
        let (pages, loaded) = sync_channel(N_BUFFERED);
        if let Some((_, loads)) = &self.inner.queues {
            let _ = loads.send(Load { origin: origin.clone(), scope, before, tokens, pages });
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

    /// Writes what is handed over, to the end of the queue.
    fn save_all(&self, saves: &Receiver<Save>) {
        let mut has_failed = false;
        for Save { key, header, page } in saves {
            let n_bytes = (header.len() + page.len() + SECRET_LEN) as u64;
            if self.index().files.contains_key(&key) || !self.make_room(n_bytes) {
                continue;
            }
            match page_file::write(&self.folder, key, &header, &page) {
                Ok(()) => {
                    self.index().insert(key, n_bytes);
                    has_failed = false;
                }
                // A full disk is told once, not with each page.
                Err(error) if !has_failed => {
                    self.warn(&self.path(key), &format!("not written: {error}"));
                    has_failed = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Removes files until there is room for `n_bytes` more. Returns `false` where the budget is
    /// less than that.
    fn make_room(&self, n_bytes: u64) -> bool {
        if n_bytes > self.max_bytes {
            return false;
        }
        while let Some(key) = self.index().pop_oldest_beyond(self.max_bytes - n_bytes) {
            self.remove(key);
        }
        true
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

    fn touch(&self, key: PageKey) {
        if self.index().touch(key) {
            // Where it fails the file only looks older than it is.
            let file = File::options().append(true).open(self.path(key));
            let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    /// Reads what is asked for, to the end of the queue.
    fn load_all(&self, loads: &Receiver<Load>) {
        for load in loads {
            let mut keys = Vec::new();
            let mut before = load.before;
            for tokens in load.tokens.chunks_exact(PAGE_LEN) {
                let key = before.next(tokens);
                let Some(page) = self.load(&load, key, before, tokens) else { break };
                // Whoever asked may have gone away.
                if load.pages.send(page).is_err() {
                    break;
                }
                keys.push(key);
                before = key;
            }
            // The first last: without it the others are of no use.
            keys.into_iter().rev().for_each(|key| self.touch(key));
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
        Ok(index)
    }

    fn insert(&mut self, key: PageKey, n_bytes: u64) {
        self.forget(key);
        self.files.insert(key, Entry { n_bytes, used: self.next_use });
        self.by_use.insert(self.next_use, key);
        self.next_use += 1;
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
    }

    /// Makes a file the last used. Returns whether there is one.
    fn touch(&mut self, key: PageKey) -> bool {
        let n_bytes = self.files.get(&key).map(|entry| entry.n_bytes);
        n_bytes.inspect(|&n_bytes| self.insert(key, n_bytes)).is_some()
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

fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Refuses what others may do with `path` that is in `forbidden`.
fn ensure_private(path: &Path, forbidden: u32) -> Result<(), EngineError> {
    #[cfg(unix)]
    {
        let metadata = fs::metadata(path).map_err(failed(path))?;
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777;
        if mode & forbidden != 0 {
            let expected = mode & !forbidden;
            return Err(problem(path, format!("mode {mode:03o}, expected {expected:03o}")));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, forbidden);
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, EngineError> {
    let lock = page_file::create_private(path).map_err(failed(path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(problem(path, "another process uses the folder".to_owned()))
        }
        Err(TryLockError::Error(error)) => Err(failed(path)(error)),
    }
}

/// Reads the folder's secret, and makes one where there is none.
fn read_secret(path: &Path) -> Result<Vec<u8>, EngineError> {
    let secret = match fs::read(path) {
        Ok(secret) => secret,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = new_secret();
            let mut file = page_file::create_private(path).map_err(failed(path))?;
            io::Write::write_all(&mut file, &secret).map_err(failed(path))?;
            secret
        }
        Err(error) => return Err(failed(path)(error)),
    };
    ensure_private(path, 0o077)?;
    if secret.len() != SECRET_LEN {
        let n_bytes = secret.len();
        return Err(problem(path, format!("{n_bytes} bytes, expected {SECRET_LEN}")));
    }
    Ok(secret)
}

/// Of the system's random source, from which the standard library keys its hash maps.
fn new_secret() -> Vec<u8> {
    let mut hash = Sha256::new();
    for _ in 0..SECRET_LEN {
        hash.update(RandomState::new().build_hasher().finish().to_le_bytes());
    }
    hash.finalize().to_vec()
}

fn problem(path: &Path, problem: String) -> EngineError {
    EngineError::PrefixStore { path: path.to_owned(), problem }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> EngineError {
    move |error| problem(path, error.to_string())
}

#[cfg(test)]
#[path = "prefix_store_tests.rs"]
mod tests;
