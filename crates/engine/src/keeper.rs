//! Between the engine and the [`PrefixStore`]: which pages go to it, and when they come back.
//!
//! A page is handed over when the engine has nothing else to do, when it must make room, and at the
//! end. A sequence that gets a seat, and of whose prompt the store knows more than the pool, is
//! held while the pages come in, a few before each step, as if another sequence computed them; what
//! the store does not have, or has no more, is computed.

use crate::page_file::{Origin, PageKey};
use crate::pages::Name;
use crate::prefix_store::{PrefixStore, Save};
use crate::request::CacheScope;
use crate::worker::{Forward, Worker};
use kernels::PAGE_LEN;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// Pages that one sequence takes in before a step: copying them takes less than a pass over them.
const N_PER_STEP: usize = 4;
/// How long the engine waits for the disk before it looks for other work.
const PATIENCE: Duration = Duration::from_millis(10);

/// The store, and what the pages of this engine depend on.
pub(crate) struct Keeper {
    pub(crate) store: PrefixStore,
    pub(crate) origin: Origin,
}

/// Pages of a sequence on their way from the store.
pub(crate) struct Incoming {
    pages: Receiver<Vec<u8>>,
    /// One that was waited for.
    next: Option<Vec<u8>>,
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
    /// What the first page of a scope comes after; `None` where its pages are not kept.
    pub(crate) fn start(&self, scope: CacheScope) -> Option<PageKey> {
        self.store.start(&self.origin, scope)
    }
}

impl<F: Forward> Worker<F> {
    /// Lets a sequence that waits for no other have what the store knows of its prompt.
    pub(crate) fn begin_restore(&mut self, seq_idx: usize) {
        let Some(keeper) = &self.keeper else { return };
        let sequence = &mut self.running[seq_idx];
        let Some((scope, before, tokens)) = sequence.to_restore() else { return };
        if keeper.store.has(before.next(&tokens[..PAGE_LEN])) {
            let pages = keeper.store.load(&keeper.origin, scope, before, tokens.to_vec());
            sequence.set_incoming(Some(Incoming { pages, next: None }));
        }
    }

    /// Takes in the pages that have come.
    pub(crate) fn take_restored(&mut self) {
        for seq_idx in 0..self.running.len() {
            for _ in 0..N_PER_STEP {
                let Some(incoming) = self.running[seq_idx].incoming() else { break };
                let came = incoming.next.take().map_or_else(|| incoming.pages.try_recv(), Ok);
                let is_over = match came {
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => true,
                    Ok(bytes) => !self.adopt(seq_idx, &bytes),
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
            if let Some(save) = self.to_save(page, name)
                && let Some(keeper) = &self.keeper
            {
                let _ = keeper.store.try_save(save);
            }
        }
    }

    /// Hands over one page that is not kept yet. The first page of a prompt comes after those that
    /// hang on it, so that it counts as the last used.
    pub(crate) fn save_one(&mut self) -> Kept {
        let (Some(keeper), Some((page, name))) = (&self.keeper, self.pages.oldest_unsaved()) else {
            return Kept::Nothing;
        };
        let save = self.to_save(page, name);
        match save.map_or(Ok(()), |save| keeper.store.try_save(save)) {
            Err(_) => Kept::Busy,
            Ok(()) => {
                self.pages.set_saved(page);
                Kept::Page
            }
        }
    }

    /// Hands over all that is not kept yet, as much of what was used last as the store can hold.
    pub(crate) fn save_all(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let all: Vec<(u32, Name)> = self.pages.cached_from_oldest().collect();
        let n_most = keeper.store.max_bytes() / keeper.origin.file_len();
        let n_too_many = all.len().saturating_sub(usize::try_from(n_most).unwrap_or(usize::MAX));
        for &(page, name) in &all[n_too_many..] {
            match self.to_save(page, name) {
                Some(save) => keeper.store.save(save),
                None => keeper.store.touch(name.key),
            }
        }
    }

    /// A page as it is handed over; `None` where its file is there.
    fn to_save(&self, page: u32, name: Name) -> Option<Save> {
        let Keeper { store, origin } = self.keeper.as_ref()?;
        if store.has(name.key) {
            return None;
        }
        let mut bytes = Vec::with_capacity(origin.shape.page_bytes());
        self.forward.page_to_bytes(page, &mut bytes);
        let header = origin.header(name.scope, name.before, self.pages.tokens_of(page));
        Some(Save { key: name.key, header, page: bytes })
    }
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
