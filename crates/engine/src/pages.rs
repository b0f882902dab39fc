//! Which KV pages are free, used or kept: reference counts and the prefix cache.
//!
//! Pages are numbers here; what is in them is the business of `kernels::KvPool`. A page is *free*,
//! *used* by one or more sequences, or *cached*: used by none and found again by its tokens. At
//! every moment `n_free + n_cached + n_used` are all pages.
//!
//! A full page can be published under its [`Prefix`] and its 64 tokens. The prefix names the page
//! before it by a number given only once, so a chain of pages stands for all tokens up to its end.
//! Lookups compare prefix and tokens, hence a collision of hashes can at worst cost time; the hash
//! has a random key (SipHash), so nobody can search for collisions either. When two sequences
//! compute the same page, the second takes the first's: the bits are the same. So whoever uses a
//! page also uses those before it, and giving pages back last to first makes the least recently
//! used page always one that no cached page hangs on.

use crate::page_file::PageKey;
use crate::request::CacheScope;
use kernels::PAGE_LEN;
use std::hash::{BuildHasher, RandomState};

/// No page: the end of a list.
const NONE: u32 = u32::MAX;

/// What comes before a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Prefix {
    /// Nothing: the first page of a scope.
    Start(CacheScope),
    /// The page that was published under this number.
    After(u64),
}

/// One page's place in the lists.
#[derive(Debug, Clone, Copy)]
struct Page {
    /// Sequences that use it.
    n_users: u32,
    /// What precedes it, and its own number, once it is published.
    entry: Option<(Prefix, u64)>,
    /// The next page of the same bucket.
    next_in_bucket: u32,
    /// Neighbours among the cached pages: used longer ago, and later.
    older: u32,
    newer: u32,
}

/// What a page is called outside the process, of those that may be kept there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) scope: CacheScope,
    /// The key of the page before it.
    pub(crate) before: PageKey,
    pub(crate) key: PageKey,
}

/// Whether a page is kept outside the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    Yes,
    No,
}

/// Hands out page numbers below `n_pages`, takes them back and finds them again.
#[derive(Debug)]
pub(crate) struct PagePool {
    pages: Box<[Page]>,
    /// Of the published pages, `[n_pages, 64]`.
    tokens: Box<[u32]>,
    /// First page of each bucket; a power of two.
    buckets: Box<[u32]>,
    hasher: RandomState,
    /// The free pages, a stack: what was used last is reused first, while it is in cache.
    free: Vec<u32>,
    n_cached: usize,
    oldest: u32,
    newest: u32,
    /// Number of the next page to be published.
    next_number: u64,
    /// Of the published pages that have one.
    names: Box<[Option<Name>]>,
    /// Which named pages were not handed over to be kept, and how many they are.
    is_unsaved: Box<[bool]>,
    n_unsaved: usize,
    /// Unsaved pages that had to make room, with their names. What is in them is lost with the next
    /// pass.
    evicted: Vec<(u32, Name)>,
}

impl PagePool {
    /// All pages free.
    pub(crate) fn new(n_pages: u32) -> Self {
        let page = Page { n_users: 0, entry: None, next_in_bucket: NONE, older: NONE, newer: NONE };
        let n_all = n_pages as usize;
        Self {
            pages: vec![page; n_all].into(),
            tokens: vec![0; n_all * PAGE_LEN].into(),
            buckets: vec![NONE; n_all.next_power_of_two()].into(),
            hasher: RandomState::new(),
            free: (0..n_pages).rev().collect(),
            n_cached: 0,
            oldest: NONE,
            newest: NONE,
            next_number: 0,
            names: vec![None; n_all].into(),
            is_unsaved: vec![false; n_all].into(),
            n_unsaved: 0,
            evicted: Vec::new(),
        }
    }

    /// Pages that a sequence could take now: the free and the cached ones.
    pub(crate) fn n_available(&self) -> usize {
        self.free.len() + self.n_cached
    }

    /// Pages with nothing in them, and those that nobody holds but that may be found again.
    pub(crate) fn n_free_and_cached(&self) -> (usize, usize) {
        (self.free.len(), self.n_cached)
    }

    /// Takes a page to write: a free one, else the cached one that was not used for the longest
    /// time. `None` when all are used.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let page = match self.free.pop() {
            Some(page) => page,
            None if self.oldest == NONE => return None,
            None => self.forget_oldest(),
        };
        self.pages[page as usize].n_users = 1;
        Some(page)
    }

    /// The page of these tokens after this prefix, and the prefix that it makes. Nobody's use of
    /// it changes.
    pub(crate) fn find(&self, prefix: Prefix, tokens: &[u32]) -> Option<(u32, Prefix)> {
        let mut page = self.buckets[self.bucket(prefix, tokens)];
        while page != NONE {
            if let Some((before, number)) = self.pages[page as usize].entry
                && before == prefix
                && self.tokens_of(page) == tokens
            {
                return Some((page, Prefix::After(number)));
            }
            page = self.pages[page as usize].next_in_bucket;
        }
        None
    }

    /// The most leading tokens of `tokens` that any page after this prefix has.
    pub(crate) fn n_matching(&self, prefix: Prefix, tokens: &[u32]) -> usize {
        let pages = (0u32..).zip(&self.pages);
        let after =
            pages.filter(|(_, page)| page.entry.is_some_and(|(before, _)| before == prefix));
        after.map(|(page, _)| n_common(self.tokens_of(page), tokens)).max().unwrap_or(0)
    }

    /// Whether any sequence uses `page`.
    pub(crate) fn is_used(&self, page: u32) -> bool {
        self.pages[page as usize].n_users > 0
    }

    /// Whether several sequences use `page`.
    pub(crate) fn is_shared(&self, page: u32) -> bool {
        self.pages[page as usize].n_users > 1
    }

    /// Adds a use of a page that [`PagePool::find`] found.
    pub(crate) fn claim(&mut self, page: u32) {
        if self.pages[page as usize].n_users == 0 {
            self.unlink(page);
        }
        self.pages[page as usize].n_users += 1;
    }

    /// Makes a used, full page one that can be found. Returns the page to use instead of it, which
    /// is another one where the same was published before, and the prefix that it makes.
    pub(crate) fn publish(&mut self, page: u32, prefix: Prefix, tokens: &[u32]) -> (u32, Prefix) {
        if let Some((earlier, after)) = self.find(prefix, tokens) {
            self.claim(earlier);
            self.release(page);
            return (earlier, after);
        }
        let number = self.next_number;
        self.next_number += 1;
        let bucket = self.bucket(prefix, tokens);
        self.tokens[page as usize * PAGE_LEN..][..PAGE_LEN].copy_from_slice(tokens);
        let entry = &mut self.pages[page as usize];
        entry.entry = Some((prefix, number));
        entry.next_in_bucket = std::mem::replace(&mut self.buckets[bucket], page);
        (page, Prefix::After(number))
    }

    /// Gives a published page its name.
    pub(crate) fn set_name(&mut self, page: u32, name: Name, saved: Saved) {
        let old = self.names[page as usize].replace(name);
        if old != Some(name) && saved == Saved::No {
            self.is_unsaved[page as usize] = true;
            self.n_unsaved += 1;
        }
    }

    /// The tokens of a published page.
    pub(crate) fn tokens_of(&self, page: u32) -> &[u32] {
        &self.tokens[page as usize * PAGE_LEN..][..PAGE_LEN]
    }

    /// Takes the list of unsaved pages that had to make room since the last call.
    pub(crate) fn take_evicted(&mut self) -> Vec<(u32, Name)> {
        std::mem::take(&mut self.evicted)
    }

    /// Of the `n_most` named pages that nobody uses and that were used last, the last unsaved one.
    /// Those before it are not among what comes later.
    pub(crate) fn newest_unsaved(&self, n_most: usize) -> Option<(u32, Name)> {
        let mut cached = self.cached_from_newest().take(n_most).filter(|_| self.n_unsaved > 0);
        cached.find(|&(page, _)| self.is_unsaved[page as usize])
    }

    /// Makes those of these pages unsaved of which it `is_so`.
    pub(crate) fn set_unsaved(&mut self, n_most: usize, is_so: impl Fn(&Name) -> bool) {
        let cached = self.cached_from_newest().take(n_most).filter(|(_, name)| is_so(name));
        let unsaved: Vec<u32> = cached.map(|(page, _)| page).collect();
        for page in unsaved {
            let was_unsaved = std::mem::replace(&mut self.is_unsaved[page as usize], true);
            self.n_unsaved += usize::from(!was_unsaved);
        }
    }

    /// Notes that a page was handed over to be kept.
    pub(crate) fn set_saved(&mut self, page: u32) {
        self.n_unsaved -= usize::from(std::mem::take(&mut self.is_unsaved[page as usize]));
    }

    /// The named pages that nobody uses, the one first that was used last.
    pub(crate) fn cached_from_newest(&self) -> impl Iterator<Item = (u32, Name)> {
        let some = |page: u32| (page != NONE).then_some(page);
        let pages = std::iter::successors(some(self.newest), move |&page| {
            some(self.pages[page as usize].older)
        });
        pages.filter_map(|page| Some((page, self.names[page as usize]?)))
    }

    /// What these are called, the one first that was used least recently.
    pub(crate) fn keys_from_oldest(&self) -> Vec<PageKey> {
        let mut keys: Vec<PageKey> = self.cached_from_newest().map(|(_, name)| name.key).collect();
        keys.reverse();
        keys
    }

    /// Ends one use of a page. The pages of a sequence are released last to first.
    ///
    /// # Panics
    /// If nobody uses the page: it would be handed out twice.
    pub(crate) fn release(&mut self, page: u32) {
        let released = &mut self.pages[page as usize];
        assert!(released.n_users > 0, "page {page} is released but not used");
        released.n_users -= 1;
        if released.n_users > 0 {
            return;
        }
        if released.entry.is_none() {
            self.free.push(page);
            return;
        }
        released.older = self.newest;
        released.newer = NONE;
        match self.newest {
            NONE => self.oldest = page,
            newest => self.pages[newest as usize].newer = page,
        }
        self.newest = page;
        self.n_cached += 1;
    }

    /// Takes the least recently used page out of the cache.
    fn forget_oldest(&mut self) -> u32 {
        let page = self.oldest;
        self.unlink(page);
        if let Some(name) = self.names[page as usize].take()
            && self.is_unsaved[page as usize]
        {
            self.set_saved(page);
            self.evicted.push((page, name));
        }
        let entry = self.pages[page as usize].entry.take();
        let (prefix, _) = entry.expect("a cached page is a published one");
        let bucket = self.bucket(prefix, self.tokens_of(page));
        let next = std::mem::replace(&mut self.pages[page as usize].next_in_bucket, NONE);
        if self.buckets[bucket] == page {
            self.buckets[bucket] = next;
            return page;
        }
        let mut before = self.buckets[bucket];
        while self.pages[before as usize].next_in_bucket != page {
            before = self.pages[before as usize].next_in_bucket;
        }
        self.pages[before as usize].next_in_bucket = next;
        page
    }

    /// Takes a page out of the list of those that nobody uses.
    fn unlink(&mut self, page: u32) {
        let Page { older, newer, .. } = self.pages[page as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.pages[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.pages[newer as usize].older = older,
        }
        self.n_cached -= 1;
    }

    fn bucket(&self, prefix: Prefix, tokens: &[u32]) -> usize {
        self.hasher.hash_one((prefix, tokens)) as usize & (self.buckets.len() - 1)
    }
}

/// How many leading tokens agree.
pub(crate) fn n_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
