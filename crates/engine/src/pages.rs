//! Which KV pages are free: a counted free list.
//!
//! Pages are numbers here; what is in them is the business of `kernels::KvPool`. Each page in use
//! has a count of its users, so that sequences with a common beginning can share pages. At every
//! moment `n_free + n_used == n_pages`.

/// Hands out page numbers below `n_pages` and takes them back.
#[derive(Debug)]
pub(crate) struct PageAllocator {
    /// Users of each page; 0 = free.
    n_users: Vec<u32>,
    /// The free pages, a stack: what was used last is reused first, while it is in cache.
    free: Vec<u32>,
}

impl PageAllocator {
    /// All pages free.
    pub(crate) fn new(n_pages: u32) -> Self {
        Self { n_users: vec![0; n_pages as usize], free: (0..n_pages).rev().collect() }
    }

    /// Pages in all.
    #[cfg(test)]
    pub(crate) fn n_pages(&self) -> usize {
        self.n_users.len()
    }

    /// Pages nobody uses.
    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Takes `n_pages`, each then with one user. `None`, and nothing taken,
    /// when fewer are free.
    pub(crate) fn take(&mut self, n_pages: usize) -> Option<Vec<u32>> {
        let n_left = self.free.len().checked_sub(n_pages)?;
        let pages = self.free.split_off(n_left);
        for &page in &pages {
            self.n_users[page as usize] = 1;
        }
        Some(pages)
    }

    /// Adds a user to a page in use.
    ///
    /// # Panics
    /// If the page is free: whoever shares it would read another sequence's entries later.
    #[cfg_attr(not(test), expect(dead_code, reason = "prefixes are shared by later work"))]
    pub(crate) fn share(&mut self, page: u32) {
        let n_users = &mut self.n_users[page as usize];
        assert!(*n_users > 0, "page {page} is free and cannot be shared");
        *n_users += 1;
    }

    /// Takes one user off each of the pages; those without users are free again.
    ///
    /// # Panics
    /// If a page is free already: it would be handed out twice.
    pub(crate) fn release(&mut self, pages: &[u32]) {
        for &page in pages {
            let n_users = &mut self.n_users[page as usize];
            assert!(*n_users > 0, "page {page} is released but free");
            *n_users -= 1;
            if *n_users == 0 {
                self.free.push(page);
            }
        }
    }

    /// Asserts that free and used pages are all pages, and each free page is listed once.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let n_used = self.n_users.iter().filter(|&&n_users| n_users > 0).count();
        assert_eq!(self.n_free() + n_used, self.n_pages(), "free and used pages are not all pages");
        let mut free = self.free.clone();
        free.sort_unstable();
        free.dedup();
        assert_eq!(free.len(), self.free.len(), "a page is listed as free twice");
        assert!(free.iter().all(|&page| self.n_users[page as usize] == 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_all_or_nothing() {
        let mut pages = PageAllocator::new(3);
        let two = pages.take(2).unwrap();
        assert_eq!(pages.take(2), None);
        assert_eq!(pages.n_free(), 1);
        pages.release(&two);
        assert_eq!(pages.take(3).map(|mut all| (all.sort_unstable(), all).1), Some(vec![0, 1, 2]));
        pages.check();
    }

    #[test]
    fn shared_pages_are_free_after_their_last_user() {
        let mut pages = PageAllocator::new(1);
        let one = pages.take(1).unwrap();
        pages.share(one[0]);
        pages.release(&one);
        assert_eq!(pages.n_free(), 0);
        pages.release(&one);
        assert_eq!(pages.n_free(), 1);
        pages.check();
    }

    #[test]
    #[should_panic(expected = "released but free")]
    fn releasing_twice_is_caught() {
        let mut pages = PageAllocator::new(1);
        let one = pages.take(1).unwrap();
        pages.release(&one);
        pages.release(&one);
    }

    #[test]
    fn random_use_keeps_the_sum() {
        let mut pages = PageAllocator::new(37);
        let mut held: Vec<Vec<u32>> = Vec::new();
        for step in 0..5000u64 {
            let draw = |n: u64| (crate::philox::uniform(3, step * 4 + n) * 16.0) as usize;
            match draw(0) {
                0..8 => held.extend(pages.take(draw(1))),
                8..12 if !held.is_empty() => {
                    let shared = held[draw(1) % held.len()].clone();
                    shared.iter().for_each(|&page| pages.share(page));
                    held.push(shared);
                }
                _ if !held.is_empty() => pages.release(&held.swap_remove(draw(1) % held.len())),
                _ => {}
            }
            pages.check();
        }
    }
}
