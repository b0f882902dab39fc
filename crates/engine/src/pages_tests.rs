//! The pool against a plain list of what each page holds.

use super::*;
use crate::philox::uniform;

impl PagePool {
    /// Pages in all.
    pub(crate) fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// Uses of pages, each page counted once for each of its users.
    pub(crate) fn n_uses(&self) -> usize {
        self.pages.iter().map(|page| page.n_users as usize).sum()
    }

    /// Asserts that free, cached and used pages are all pages, each in one list only.
    pub(crate) fn check(&self) {
        let n_used = self.pages.iter().filter(|page| page.n_users > 0).count();
        let n_all = self.free.len() + self.n_cached + n_used;
        assert_eq!(n_all, self.n_pages(), "free, cached and used pages are not all pages");
        let mut idle = self.free.clone();
        let mut page = self.oldest;
        while page != NONE {
            assert!(self.pages[page as usize].entry.is_some(), "a cached page without tokens");
            idle.push(page);
            page = self.pages[page as usize].newer;
        }
        assert_eq!(idle.len(), self.free.len() + self.n_cached);
        assert!(idle.iter().all(|&page| self.pages[page as usize].n_users == 0));
        idle.sort_unstable();
        idle.dedup();
        assert_eq!(idle.len() + n_used, self.n_pages(), "a page is in two lists");
        // What a cached or used page hangs on is still there.
        let numbers: Vec<u64> =
            self.pages.iter().filter_map(|page| page.entry.map(|(_, number)| number)).collect();
        for (prefix, _) in self.pages.iter().filter_map(|page| page.entry) {
            assert!(!matches!(prefix, Prefix::After(number) if !numbers.contains(&number)));
        }
    }
}

const START: Prefix = Prefix::Start(CacheScope::Shared);

fn tokens(first: u32) -> Vec<u32> {
    (first..first + PAGE_LEN as u32).collect()
}

#[test]
fn what_was_published_is_found_until_its_page_is_needed() {
    let mut pool = PagePool::new(3);
    let a = pool.take().unwrap();
    let (a, after_a) = pool.publish(a, START, &tokens(1));
    let b = pool.take().unwrap();
    let (b, after_b) = pool.publish(b, after_a, &tokens(1));
    assert_eq!(pool.find(START, &tokens(1)), Some((a, after_a)));
    assert_eq!(pool.find(after_a, &tokens(1)), Some((b, after_b)));
    assert_eq!(pool.find(after_b, &tokens(1)), None);
    assert_eq!(pool.find(Prefix::Start(CacheScope::Key(7)), &tokens(1)), None);
    assert_eq!(pool.n_matching(START, &[1, 2, 9]), 2);
    assert_eq!(pool.n_matching(after_b, &[1]), 0);
    pool.release(b);
    pool.release(a);
    pool.check();
    assert_eq!(pool.n_available(), 3);
    // The free page first, then the end of the chain.
    assert!(![a, b].contains(&pool.take().unwrap()));
    assert_eq!(pool.take(), Some(b));
    assert_eq!(pool.find(after_a, &tokens(1)), None);
    assert_eq!(pool.find(START, &tokens(1)), Some((a, after_a)));
    pool.claim(a);
    assert_eq!(pool.take(), None);
    pool.check();
}

#[test]
fn a_page_computed_twice_is_kept_once() {
    let mut pool = PagePool::new(4);
    let first = pool.take().unwrap();
    let (first, after) = pool.publish(first, START, &tokens(5));
    let second = pool.take().unwrap();
    assert_eq!(pool.publish(second, START, &tokens(5)), (first, after));
    assert_eq!(pool.n_available(), 3);
    pool.release(first);
    assert_eq!(pool.n_available(), 3);
    pool.release(first);
    assert_eq!(pool.n_available(), 4);
    pool.check();
}

#[test]
#[should_panic(expected = "released but not used")]
fn releasing_twice_is_caught() {
    let mut pool = PagePool::new(1);
    let page = pool.take().unwrap();
    pool.release(page);
    pool.release(page);
}

/// Sequences of few distinct pages in few scopes, in a pool that is too small for all of them.
#[test]
fn random_use_keeps_the_sum_and_finds_only_what_is_meant() {
    let mut pool = PagePool::new(23);
    // What each page holds: its scope and all tokens up to its end, one number per page.
    let mut meaning: Vec<(u64, Vec<u32>)> = vec![(0, vec![]); 23];
    let mut held: Vec<Vec<u32>> = Vec::new();
    let mut n_hits = 0;
    for step in 0..8000u64 {
        let draw = |i: u64, n: usize| (uniform(9, step * 16 + i) * n as f64) as usize;
        if draw(0, 2) == 0 && !held.is_empty() {
            for page in held.swap_remove(draw(1, held.len())).into_iter().rev() {
                pool.release(page);
            }
        } else {
            let scope = draw(2, 2) as u64;
            let (mut prefix, mut path, mut pages) =
                (Prefix::Start(CacheScope::Key(scope)), vec![], vec![]);
            for i in 0..draw(3, 6) as u64 {
                let first = draw(4 + i, 3) as u32 * 100;
                path.push(first);
                if let Some((page, after)) = pool.find(prefix, &tokens(first)) {
                    assert_eq!(meaning[page as usize], (scope, path.clone()));
                    pool.claim(page);
                    pages.push(page);
                    (prefix, n_hits) = (after, n_hits + 1);
                    continue;
                }
                let Some(page) = pool.take() else { break };
                meaning[page as usize] = (scope, path.clone());
                let (page, after) = pool.publish(page, prefix, &tokens(first));
                pages.push(page);
                prefix = after;
            }
            held.push(pages);
        }
        pool.check();
    }
    assert!(n_hits > 4000, "{n_hits} hits");
}
