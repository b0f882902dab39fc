//! Files of requests, and batches of them, where the operator wants that: on disk, for the client
//! that sent them, over restarts, until they are deleted.
//!
//! Here is what there is and who may have it; what a batch goes through is in `record`, how it is
//! worked off in `run`, what its lines are in `input`, and the folder in `disk`. Nothing here knows
//! HTTP or the engine: how a line is answered is `serve`'s. Everything waits for the disk, so it is
//! called on threads that may.

mod disk;
pub(crate) mod input;
pub(crate) mod record;
pub(crate) mod run;
#[cfg(test)]
mod tests;

use crate::app::random_hex;
use crate::dialects::fields::short;
use crate::errors::{BadRequest, ServerError};
use disk::{Disk, Shelf, failed};
use engine::EngineError;
use record::{Ask, Batch, Purpose, StoredFile};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Most files, and most batches: each has a record in memory.
const N_RECORDS: usize = 10_000;
/// Most batches that are not over: each is at work on its own.
const N_UNFINISHED: usize = 64;
/// What part of everything one client leaves to others.
const OTHERS_PART: u64 = 4;
/// Seconds that a batch may take, which is what OpenAI's clients ask for.
pub(crate) const WINDOW_SECONDS: u64 = 24 * 3600;
/// When a request may come again that found no room.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Files and batches in a folder. Cheap to clone.
#[derive(Clone)]
pub struct Batches {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Disk,
    max_bytes: u64,
    state: Mutex<State>,
    /// Tells of each change of a batch's state.
    changed: watch::Sender<()>,
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("max_bytes", &self.shared.max_bytes).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, StoredFile>,
    batches: BTreeMap<String, Entry>,
}

struct Entry {
    batch: Batch,
    /// Bytes of what came of it so far, while it is not over.
    part_bytes: u64,
    /// Whether somebody works on it.
    is_at_work: bool,
}

impl State {
    /// Bytes of all files, those of one client or of all.
    fn n_bytes(&self, client: Option<u64>) -> u64 {
        let is_meant = |of: u64| client.is_none_or(|client| client == of);
        let files = self.files.values().filter(|file| is_meant(file.client));
        let parts = self.batches.values().filter(|entry| is_meant(entry.batch.client));
        files.map(|file| file.n_bytes).sum::<u64>() + parts.map(|of| of.part_bytes).sum::<u64>()
    }

    fn unfinished(&self) -> impl Iterator<Item = &Batch> {
        self.batches.values().map(|entry| &entry.batch).filter(|batch| !batch.is_over())
    }

    /// Whether any file of a batch is there.
    fn has_files(&self, batch: &Batch) -> bool {
        [&batch.input, &batch.output, &batch.errors].iter().any(|id| self.files.contains_key(*id))
    }
}

/// What there is to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchGauges {
    pub(crate) n_bytes: u64,
    pub(crate) n_unfinished: usize,
}

impl Batches {
    /// Opens the folder at `path`, and creates it where there is none. All files together take at
    /// most about `max_bytes`: uploads beyond that are refused, and no line of a batch is begun.
    /// What an operator should know is told to `warn`, a line at a time.
    ///
    /// # Errors
    /// [`EngineError::PrivateFolder`]: the folder cannot be made or read, it is not this user's
    /// alone, or another process uses it.
    pub fn open(path: &Path, max_bytes: u64, warn: impl Fn(&str)) -> Result<Self, EngineError> {
        let disk = Disk::open(path)?;
        let unreadable = |error: std::io::Error| EngineError::PrivateFolder {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let mut state = State::default();
        let mut unknown = Vec::new();
        for (id, batch) in disk.records::<Batch>(Shelf::Batches, &warn).map_err(unreadable)? {
            match batch.filter(|batch| batch.id == id) {
                Some(batch) => {
                    let entry = Entry { batch, part_bytes: 0, is_at_work: false };
                    state.batches.insert(id, entry);
                }
                None => unknown.push(id),
            }
        }
        let records = disk.records::<StoredFile>(Shelf::Files, &warn).map_err(unreadable)?;
        let recorded: HashSet<String> = records.iter().map(|(id, _)| id.clone()).collect();
        // What came of a batch that is not over waits for its record.
        let mut awaited: HashSet<String> =
            state.unfinished().flat_map(|of| [of.output.clone(), of.errors.clone()]).collect();
        // What came of a batch that cannot be read is left as it is, as its record is.
        for name in unknown.iter().filter_map(|id| id.strip_prefix("batch_")) {
            awaited.extend([format!("file-{name}-output"), format!("file-{name}-errors")]);
        }
        let mut there = HashSet::new();
        for (id, path) in disk.lines().map_err(unreadable)? {
            if awaited.contains(&id) || recorded.contains(&id) {
                there.insert(id);
            } else if disk.remove(&path).is_err() {
                warn(&format!("{}: not removed, though nobody can have it", path.display()));
            }
        }
        for (id, file) in records {
            match file.filter(|file| file.id == id) {
                Some(file) if there.contains(&id) => drop(state.files.insert(id, file)),
                Some(_) => warn(&format!("{id}.json: not used: its lines are gone")),
                None => {}
            }
        }
        // A stop may have come between the last of a batch's files and the batch.
        let is_kept = |of: &Batch| {
            [&of.input, &of.output, &of.errors].iter().any(|id| recorded.contains(*id))
        };
        let finished = state.batches.values().map(|entry| &entry.batch);
        let empty = finished.filter(|of| of.is_over() && !is_kept(of));
        let empty: Vec<String> = empty.map(|of| of.id.clone()).collect();
        for id in empty {
            if disk.forget(Shelf::Batches, &id).is_ok() {
                state.batches.remove(&id);
            }
        }
        let shared =
            Shared { disk, max_bytes, state: Mutex::new(state), changed: watch::channel(()).0 };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The number of whoever is known by `name`: the same after a restart.
    pub(crate) fn number(&self, name: &[u8]) -> u64 {
        self.shared.disk.number(name)
    }

    /// Tells of each change of a batch's state from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    pub(crate) fn gauges(&self) -> BatchGauges {
        let state = self.lock();
        BatchGauges { n_bytes: state.n_bytes(None), n_unfinished: state.unfinished().count() }
    }

    /// The files of a client, the oldest first.
    pub(crate) fn files(&self, client: u64) -> Vec<StoredFile> {
        let state = self.lock();
        let mut files: Vec<StoredFile> =
            state.files.values().filter(|file| file.client == client).cloned().collect();
        files.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        files
    }

    /// A file of a client's.
    pub(crate) fn file(&self, client: u64, id: &str) -> Result<StoredFile, ServerError> {
        let state = self.lock();
        let file = state.files.get(id).filter(|file| file.client == client);
        file.cloned().ok_or_else(|| no_such("file", id))
    }

    /// The bytes of a file of a client's, which stay readable when it is deleted.
    pub(crate) fn content(&self, client: u64, id: &str) -> Result<(StoredFile, File), ServerError> {
        let file = self.file(client, id)?;
        let path = self.shared.disk.lines_path(id);
        let content = File::open(&path).map_err(failed(&path, "not opened"))?;
        Ok((file, content))
    }

    /// Deletes a file. A batch is forgotten with the last of its files.
    pub(crate) fn remove_file(&self, client: u64, id: &str) -> Result<(), ServerError> {
        self.file(client, id)?;
        let mut state = self.lock();
        if let Some(batch) = state.unfinished().find(|batch| batch.input == id) {
            let what = format!("file {id:?}: {} is not over and reads it; cancel it", batch.id);
            return Err(ServerError::Conflict(what));
        }
        // Without its record a file is nobody's.
        self.shared.disk.forget(Shelf::Files, id)?;
        state.files.remove(id);
        self.shared.disk.remove(&self.shared.disk.lines_path(id))?;
        let is_of =
            |batch: &Batch| [&batch.input, &batch.output, &batch.errors].contains(&&id.into());
        let empty = state.batches.values().map(|entry| &entry.batch);
        let empty = empty.filter(|of| of.is_over() && is_of(of) && !state.has_files(of));
        let empty: Vec<String> = empty.map(|batch| batch.id.clone()).collect();
        for id in empty {
            self.shared.disk.forget(Shelf::Batches, &id)?;
            state.batches.remove(&id);
        }
        Ok(())
    }

    /// Begins a file that a client sends, of at most `n_max` bytes.
    pub(crate) fn upload(&self, client: u64, n_max: u64) -> Result<Upload, ServerError> {
        let state = self.lock();
        let n_own = state.files.values().filter(|file| file.client == client).count();
        self.ensure_few("files", state.files.len(), n_own)?;
        drop(state);
        let name = new_name();
        let id = format!("file-{name}");
        let file = Some(self.shared.disk.create_part(&id)?);
        Ok(Upload { batches: self.clone(), client, id, file, n_bytes: 0, n_max })
    }

    /// Refuses one more of what there are `n_all` of, of a client that has `n_own`.
    fn ensure_few(&self, what: &str, n_all: usize, n_own: usize) -> Result<(), ServerError> {
        let n_each = N_RECORDS - N_RECORDS / OTHERS_PART as usize;
        if n_all < N_RECORDS && n_own < n_each {
            return Ok(());
        }
        let what = format!(
            "there are {n_all} {what}, of this client {n_own}: at most {N_RECORDS}, of one client \
             {n_each}; delete some"
        );
        Err(ServerError::Overloaded { what, retry_after: RETRY_AFTER })
    }

    /// Refuses `n_bytes` more of a client's where there is no room for them.
    fn ensure_room(&self, state: &State, client: u64, n_bytes: u64) -> Result<(), ServerError> {
        let n_max = self.shared.max_bytes;
        let n_each = n_max - n_max / OTHERS_PART;
        let (n_all, n_own) = (state.n_bytes(None), state.n_bytes(Some(client)));
        if n_all.saturating_add(n_bytes) <= n_max && n_own.saturating_add(n_bytes) <= n_each {
            return Ok(());
        }
        let what = format!(
            "{n_bytes} bytes find no room: the files here take {n_all}, this client's {n_own}, at \
             most {n_max}, of one client {n_each}; delete some"
        );
        Err(ServerError::Overloaded { what, retry_after: RETRY_AFTER })
    }

    /// Whether there is room for what comes of a line of this client's; what is under way when it
    /// is used up is still written.
    pub(crate) fn has_room(&self, client: u64) -> bool {
        self.ensure_room(&self.lock(), client, 1).is_ok()
    }

    /// The batches of a client, the newest first.
    pub(crate) fn batches(&self, client: u64) -> Vec<Batch> {
        let state = self.lock();
        let own = state.batches.values().map(|entry| &entry.batch);
        let mut own: Vec<Batch> = own.filter(|batch| batch.client == client).cloned().collect();
        own.sort_by(|a, b| (b.times.created, &b.id).cmp(&(a.times.created, &a.id)));
        own
    }

    /// A batch of a client's.
    pub(crate) fn batch(&self, client: u64, id: &str) -> Result<Batch, ServerError> {
        let state = self.lock();
        let own = state.batches.get(id).filter(|entry| entry.batch.client == client);
        own.map(|entry| entry.batch.clone()).ok_or_else(|| no_such("batch", id))
    }

    /// Makes a batch, which waits for whoever works on it.
    pub(crate) fn create(&self, client: u64, ask: Ask) -> Result<Batch, ServerError> {
        let wrong = |problem: &str| {
            let problem = format!("{:?}: {problem}", short(&ask.input));
            ServerError::from(BadRequest::field("input_file_id", &problem))
        };
        match self.file(client, &ask.input) {
            Ok(file) if file.purpose == Purpose::Batch => {}
            Ok(_) => return Err(wrong("expected a file whose purpose is \"batch\"")),
            Err(_) => return Err(wrong("expected the id of a file of this client")),
        }
        let mut state = self.lock();
        let of_client = |batch: &&Batch| batch.client == client;
        let own = state.batches.values().map(|entry| &entry.batch).filter(of_client);
        self.ensure_few("batches", state.batches.len(), own.count())?;
        let (n_all, n_own) =
            (state.unfinished().count(), state.unfinished().filter(of_client).count());
        let n_each = N_UNFINISHED - N_UNFINISHED / OTHERS_PART as usize;
        if n_all >= N_UNFINISHED || n_own >= n_each {
            let what = format!(
                "{n_all} batches are not over, of this client {n_own}: at most {N_UNFINISHED}, of \
                 one client {n_each}"
            );
            return Err(ServerError::Overloaded { what, retry_after: RETRY_AFTER });
        }
        let batch = Batch::new(ask, client, &new_name(), now(), WINDOW_SECONDS);
        self.shared.disk.put(Shelf::Batches, &batch.id, &batch)?;
        let entry = Entry { batch: batch.clone(), part_bytes: 0, is_at_work: false };
        state.batches.insert(batch.id.clone(), entry);
        drop(state);
        self.shared.changed.send_replace(());
        Ok(batch)
    }

    /// Has a batch of a client's go no further; what came of it is kept.
    pub(crate) fn cancel(&self, client: u64, id: &str) -> Result<Batch, ServerError> {
        self.batch(client, id)?;
        let mut is_in_time = false;
        let batch = self.change(id, |batch| is_in_time = batch.cancel(now()))?;
        if is_in_time {
            return Ok(batch);
        }
        let status = crate::dialects::openai::batches::word(batch.status);
        Err(ServerError::Conflict(format!("batch {id:?} is {status}: too late to cancel it")))
    }

    /// Changes what is known of a batch, on disk first.
    fn change(&self, id: &str, work: impl FnOnce(&mut Batch)) -> Result<Batch, ServerError> {
        let mut state = self.lock();
        let entry = state.batches.get_mut(id).ok_or_else(|| no_such("batch", id))?;
        let mut batch = entry.batch.clone();
        work(&mut batch);
        if batch != entry.batch {
            self.shared.disk.put(Shelf::Batches, id, &batch)?;
            entry.batch = batch.clone();
            if batch.is_over() {
                entry.part_bytes = 0;
            }
        }
        drop(state);
        self.shared.changed.send_replace(());
        Ok(batch)
    }

    /// The batches that nobody works on and that are not over; the caller does from now on.
    pub(crate) fn take_waiting(&self) -> Vec<String> {
        let mut state = self.lock();
        let is_waiting = |entry: &&mut Entry| !entry.is_at_work && !entry.batch.is_over();
        let taken = state.batches.values_mut().filter(is_waiting).map(|entry| {
            entry.is_at_work = true;
            entry.batch.id.clone()
        });
        taken.collect()
    }

    /// A batch by its id alone, for whoever works on it.
    pub(crate) fn at_work(&self, id: &str) -> Result<Batch, ServerError> {
        let state = self.lock();
        state.batches.get(id).map(|of| of.batch.clone()).ok_or_else(|| no_such("batch", id))
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file on its way in. Dropped before it is complete, it was never there.
pub(crate) struct Upload {
    batches: Batches,
    client: u64,
    id: String,
    file: Option<File>,
    n_bytes: u64,
    n_max: u64,
}

impl Upload {
    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ServerError> {
        self.n_bytes += bytes.len() as u64;
        if self.n_bytes > self.n_max {
            return Err(ServerError::BodyTooLarge { limit: self.n_max as usize });
        }
        match &self.file {
            Some(file) => self.batches.shared.disk.append(&self.id, file, bytes),
            None => Ok(()),
        }
    }

    /// Gives the file its name.
    pub(crate) fn complete(mut self, name: String) -> Result<StoredFile, ServerError> {
        let batches = self.batches.clone();
        if let Some(file) = &self.file {
            // Nobody waits for the lock while a large file goes to the disk.
            file.sync_all()
                .map_err(failed(&batches.shared.disk.part_path(&self.id), "not written"))?;
        }
        let mut state = batches.lock();
        batches.ensure_room(&state, self.client, self.n_bytes)?;
        let file = StoredFile {
            id: self.id.clone(),
            client: self.client,
            purpose: Purpose::Batch,
            name,
            n_bytes: self.n_bytes,
            created_at: now(),
        };
        let disk = &batches.shared.disk;
        disk.name_part(&self.id)?;
        self.file = None;
        if let Err(error) = disk.put(Shelf::Files, &self.id, &file) {
            // Nobody could have it, nor delete it.
            let _ = disk.forget(Shelf::Files, &self.id);
            let _ = disk.remove(&disk.lines_path(&self.id));
            return Err(error);
        }
        state.files.insert(self.id.clone(), file.clone());
        Ok(file)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let disk = &self.batches.shared.disk;
            // What cannot be removed is, at the next start.
            let _ = disk.remove(&disk.part_path(&self.id));
        }
    }
}

fn no_such(what: &str, id: &str) -> ServerError {
    let id = short(id);
    let why = "deleted, never made, or another client's";
    ServerError::NotFound(format!("{what} {id:?} does not exist here: {why}"))
}

/// A name that sorts by when it was made, and that nobody can guess.
fn new_name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    format!("{nanos:016x}{}", &random_hex()[..16])
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
