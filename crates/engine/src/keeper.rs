//! Between the engine and the [`PrefixStore`]: which pages go to it, and when they come back.
//!
//! A page is handed over when the engine has nothing else to do, when it must make room, and at the
//! end. What was used last goes first, so that a page comes after those before it and a prompt that
//! is kept in part is kept from its beginning; afterwards the store is told the order of use, in
//! which the end of a prompt is older than its beginning. A page that makes room goes as it comes,
//! before those before it, since these are still here.
//!
//! A sequence that gets a seat, and of whose prompt the store knows more than the pool, is held
//! while the pages come in, a few before each step, as if another sequence computed them; what the
//! store does not have, or has no more, or does not give within the time that it takes
//! to compute it, is computed.

use crate::page_file::{Origin, PageKey};
use crate::pages::Name;
use crate::prefix_store::{Loaded, PrefixStore, Save};
use crate::request::CacheScope;
use crate::slots::{Slot, Slots};
use crate::worker::{Forward, Worker};
use kernels::{KvShape, PAGE_LEN};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// Pages that one sequence takes in before a step: copying them takes less than a pass over them.
const N_PER_STEP: usize = 4;
/// How long the engine waits for the disk before it looks for other work.
const PATIENCE: Duration = Duration::from_millis(10);

/// Least and most time that a sequence waits for all its pages: the disk must have a chance where
/// computing takes no time, and a disk that hangs must not be noticed.
const MIN_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The same where nobody knows yet how long computing takes.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// How long an engine that ends hands over what is not kept yet.
const LAST_SAVES: Duration = Duration::from_secs(10);
/// Pages that are on their way to a file, and from one: what hides the disk's time.
const N_BUFFERED: usize = 3;

/// The store, and what the pages of this engine depend on.
pub(crate) struct Keeper {
    pub(crate) store: PrefixStore,
    pub(crate) origin: Origin,
    to_store: Slots,
    from_store: Slots,
    round: Round,
}

/// How far an engine without work is.
#[derive(Clone, Copy)]
enum Round {
    /// There was work since the last round.
    First,
    /// Pages are handed over.
    Saving,
    /// All that can be kept is, and the store knows the order of use.
    Over,
}

/// Pages of a sequence on their way from the store.
pub(crate) struct Incoming {
    pages: Receiver<Loaded>,
    /// One that was waited for.
    next: Option<Loaded>,
    /// When the rest is computed.
    end: Instant,
}

/// What an engine without work did for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// There is nothing to do.
    Nothing,
    /// A page was handed over.
    Page,
    /// The store has enough to do.
    Busy,
}

impl Keeper {
    pub(crate) fn new(store: PrefixStore, origin: Origin) -> Self {
        let [to_store, from_store] = [(); 2].map(|()| Slots::new(N_BUFFERED));
        Self { store, origin, to_store, from_store, round: Round::First }
    }

    /// Most bytes that pages of this engine take outside its cache.
    pub(crate) fn buffer_bytes(shape: KvShape) -> u64 {
        let origin = Origin { model: [0; 32], shape };
        2 * N_BUFFERED as u64 * origin.file_len()
    }

    /// What the first page of a scope comes after; `None` where its pages are not kept.
    pub(crate) fn start(&self, scope: CacheScope) -> Option<PageKey> {
        self.store.start(&self.origin, scope)
    }

    /// Notes that the cache is not as it was.
    pub(crate) fn begin_round(&mut self) {
        self.round = Round::First;
    }

    /// As if the disk did not answer, until they are dropped.
    #[cfg(test)]
    pub(crate) fn hold_slots(&self) -> [Slot; N_BUFFERED] {
        [(); N_BUFFERED].map(|()| self.from_store.try_take().expect("nobody has them"))
    }

    /// Pages that the store can hold.
    fn n_most(&self) -> usize {
        let n_most = self.store.max_bytes() / self.origin.file_len();
        usize::try_from(n_most).unwrap_or(usize::MAX)
    }
}

impl<F: Forward> Worker<F> {
    /// Lets a sequence that waits for no other have what the store knows of its prompt.
    pub(crate) fn begin_restore(&mut self, seq_idx: usize) {
        let Some(Keeper { store, origin, from_store, .. }) = &self.keeper else { return };
        let sequence = &mut self.running[seq_idx];
        let Some((scope, before, tokens)) = sequence.to_restore() else { return };
        if store.has(before.next(&tokens[..PAGE_LEN])) {
            let end = Instant::now() + longest_wait(tokens.len(), self.speed.tokens_per_second());
            let pages = store.load(origin, scope, before, tokens.to_vec(), from_store);
            sequence.set_incoming(Some(Incoming { pages, next: None, end }));
        }
    }

    /// Takes in the pages that have come.
    pub(crate) fn take_restored(&mut self) {
        for seq_idx in 0..self.running.len() {
            for _ in 0..N_PER_STEP {
                let Some(incoming) = self.running[seq_idx].incoming() else { break };
                let came = incoming.next.take().map_or_else(|| incoming.pages.try_recv(), Ok);
                let is_over = match came {
                    Err(TryRecvError::Empty) if Instant::now() < incoming.end => break,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => true,
                    Ok(loaded) => !self.adopt(seq_idx, &loaded.page),
                };
                if is_over {
                    self.running[seq_idx].set_incoming(None);
                }
            }
        }
    }

    /// Makes a page that came the sequence's own. Returns whether more are of use.
    fn adopt(&mut self, seq_idx: usize, bytes: &[u8]) -> bool {
        let Some(page) = self.pages.take() else { return false };
        // The page that made room for it is in there still.
        self.save_evicted();
        self.forward.page_from_bytes(page, bytes);
        let sequence = &mut self.running[seq_idx];
        let n_before = sequence.n_reused();
        let goes_on = sequence.adopt(page, &mut self.pages);
        self.waiting.refund(sequence.account, u64::from(sequence.n_reused() - n_before));
        goes_on
    }

    /// Waits a little for a page, where every sequence waits for one.
    pub(crate) fn wait_for_restored(&mut self) {
        if let Some(incoming) = self.running.iter_mut().find_map(|sequence| sequence.incoming())
            && incoming.next.is_none()
        {
            match incoming.pages.recv_timeout(PATIENCE) {
                Ok(page) => incoming.next = Some(page),
                // The next step sees the end.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Hands over what has to make room, before it is overwritten. Where the store is behind, it
    /// is lost: those who wait for the engine do not wait for the disk.
    pub(crate) fn save_evicted(&mut self) {
        for (page, name) in self.pages.take_evicted() {
            let Some(keeper) = &self.keeper else { return };
            if !keeper.store.has(name.key)
                && let Some(slot) = keeper.to_store.try_take()
            {
                keeper.store.save(Save { parent: None, ..self.to_save(keeper, page, name, slot) });
            }
        }
    }

    /// Hands over one page that is not kept yet, of those that the store can hold. After the last
    /// it tells the order of use.
    pub(crate) fn save_one(&mut self) -> Kept {
        let Some(keeper) = &self.keeper else { return Kept::Nothing };
        let n_most = keeper.n_most();
        if matches!(keeper.round, Round::First) {
            // Files may have gone since their pages were handed over.
            self.pages.set_unsaved(n_most, |name| !keeper.store.has(name.key));
        }
        let mut round = Round::Saving;
        let kept = match (self.pages.newest_unsaved(n_most), keeper.to_store.try_take()) {
            (Some((page, name)), Some(slot)) => {
                if !keeper.store.has(name.key) {
                    keeper.store.save(self.to_save(keeper, page, name, slot));
                }
                self.pages.set_saved(page);
                Kept::Page
            }
            (Some(_), None) => Kept::Busy,
            (None, _) => {
                if !matches!(keeper.round, Round::Over) {
                    keeper.store.touch(self.pages.keys_from_oldest());
                }
                round = Round::Over;
                Kept::Nothing
            }
        };
        if let Some(keeper) = &mut self.keeper {
            keeper.round = round;
        }
        kept
    }

    /// Hands over all that is not kept yet, as much of what was used last as the store can hold and
    /// takes in time.
    pub(crate) fn save_all(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let end = Instant::now() + LAST_SAVES;
        for (page, name) in self.pages.cached_from_newest().take(keeper.n_most()) {
            if keeper.store.has(name.key) {
                continue;
            }
            let Some(slot) = keeper.to_store.take_until(end) else { break };
            keeper.store.save(self.to_save(keeper, page, name, slot));
        }
        keeper.store.touch(self.pages.keys_from_oldest());
    }

    /// A page as it is handed over.
    fn to_save(&self, keeper: &Keeper, page: u32, name: Name, slot: Slot) -> Save {
        let Name { scope, before, key } = name;
        let mut bytes = Vec::with_capacity(keeper.origin.shape.page_bytes());
        self.forward.page_to_bytes(page, &mut bytes);
        let header = keeper.origin.header(scope, before, self.pages.tokens_of(page));
        let parent = Some(before).filter(|_| keeper.start(scope) != Some(before));
        Save { key, parent, header, page: bytes, slot }
    }
}

/// How long a sequence waits for `n_tokens` from the store: as long as computing them would take.
pub(crate) fn longest_wait(n_tokens: usize, tokens_per_second: f64) -> Duration {
    if tokens_per_second <= 0.0 {
        return FIRST_WAIT;
    }
    let seconds = n_tokens as f64 / tokens_per_second;
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or(MAX_WAIT);
    wait.clamp(MIN_WAIT, MAX_WAIT)
}

/// What the pages of a sequence are called.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Naming {
    /// The key of the last page that it shares with the cache, and what the first one comes after;
    /// `None` where they have none.
    pub(crate) key: Option<PageKey>,
    pub(crate) start: Option<PageKey>,
}

impl Naming {
    /// Moves on past a page, and gives its name.
    pub(crate) fn pass(&mut self, scope: CacheScope, tokens: &[u32]) -> Option<Name> {
        let before = self.key?;
        let key = before.next(tokens);
        self.key = Some(key);
        Some(Name { scope, before, key })
    }

    /// Goes back to before the first page.
    pub(crate) fn restart(&mut self) {
        self.key = self.start;
    }
}
