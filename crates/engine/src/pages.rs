//! Which KV pages are free: a free list that knows what is on it.
//!
//! Pages are numbers here; what is in them is the business of `kernels::KvPool`. Each page in use
//! belongs to one sequence. At every moment `n_free + n_used == n_pages`.

/// Hands out page numbers below `n_pages` and takes them back.
#[derive(Debug)]
pub(crate) struct PageAllocator {
    /// Whether each page is handed out; what catches a page that is released twice.
    in_use: Vec<bool>,
    /// The free pages, a stack: what was used last is reused first, while it is in cache.
    free: Vec<u32>,
}

impl PageAllocator {
    /// All pages free.
    pub(crate) fn new(n_pages: u32) -> Self {
        Self { in_use: vec![false; n_pages as usize], free: (0..n_pages).rev().collect() }
    }

    /// Pages in all.
    #[cfg(test)]
    pub(crate) fn n_pages(&self) -> usize {
        self.in_use.len()
    }

    /// Pages nobody uses.
    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Takes `n_pages`. `None`, and nothing taken, when fewer are free.
    pub(crate) fn take(&mut self, n_pages: usize) -> Option<Vec<u32>> {
        let n_left = self.free.len().checked_sub(n_pages)?;
        let pages = self.free.split_off(n_left);
        for &page in &pages {
            self.in_use[page as usize] = true;
        }
        Some(pages)
    }

    /// Gives pages back.
    ///
    /// # Panics
    /// If a page is free already: it would be handed out twice.
    pub(crate) fn release(&mut self, pages: &[u32]) {
        for &page in pages {
            let in_use = &mut self.in_use[page as usize];
            assert!(*in_use, "page {page} is released but free");
            *in_use = false;
            self.free.push(page);
        }
    }

    /// Asserts that free and used pages are all pages, and each free page is listed once.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let n_used = self.in_use.iter().filter(|&&in_use| in_use).count();
        assert_eq!(self.n_free() + n_used, self.n_pages(), "free and used pages are not all pages");
        let mut free = self.free.clone();
        free.sort_unstable();
        free.dedup();
        assert_eq!(free.len(), self.free.len(), "a page is listed as free twice");
        assert!(free.iter().all(|&page| !self.in_use[page as usize]));
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
                _ if !held.is_empty() => pages.release(&held.swap_remove(draw(1) % held.len())),
                _ => {}
            }
            pages.check();
        }
    }
}
