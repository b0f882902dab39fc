//! Memory for weights: zeroed, in huge pages where the system has them, never moved.
//!
//! Decoding reads every weight once a token, so what it costs to find a page counts: a huge page is
//! one translation for 512 small ones, and the prefetcher does not stop every 4 KiB. Huge pages are
//! taken whole, so matrices share one mapping instead of rounding each up to 2 MiB.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::MmapMut;

/// Alignment of a piece: one cache line, which is also one packed k-group.
const ALIGN: usize = 64;
/// A huge page of x86-64 and, with pages of 4 KiB, of AArch64.
const HUGE_PAGE: usize = 2 << 20;

/// Memory that packed matrices share: untouched, it costs nothing, and it is given back when the
/// last matrix in it is dropped.
pub struct Arena {
    chunk: Arc<Chunk>,
    /// Bytes handed out.
    used: AtomicUsize,
}

impl Arena {
    /// Room for matrices of `n_bytes` in all. What does not fit gets memory of its own, so an
    /// estimate is enough.
    pub fn with_capacity(n_bytes: usize) -> Self {
        Self { chunk: Arc::new(Chunk::new(n_bytes)), used: AtomicUsize::new(0) }
    }

    /// `len` zeroed bytes that nobody else has.
    pub(crate) fn take(&self, len: usize) -> Piece {
        let rounded = len.next_multiple_of(ALIGN);
        let add = |used: usize| used.checked_add(rounded).filter(|end| *end <= self.chunk.len);
        // Relaxed: the counter only keeps pieces apart; their memory is handed on by the caller.
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(start) => Piece { chunk: Arc::clone(&self.chunk), start, len },
            Err(_) => Piece { chunk: Arc::new(Chunk::new(len)), start: 0, len },
        }
    }
}

/// One anonymous mapping.
struct Chunk {
    /// Its first byte: on a huge page where there is at least one, else on a page.
    base: NonNull<u8>,
    len: usize,
    /// Owns what `base` points to; `None` where `len` is 0.
    _map: Option<MmapMut>,
}

// SAFETY: plain bytes; `Piece` keeps writers apart.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(len: usize) -> Self {
        if len == 0 {
            return Self { base: NonNull::dangling(), len, _map: None };
        }
        // The slack for alignment stays untouched, so it takes address space and no memory.
        let slack = if len < HUGE_PAGE { 0 } else { HUGE_PAGE };
        let map = len.checked_add(slack).and_then(|n_bytes| MmapMut::map_anon(n_bytes).ok());
        let Some(mut map) = map else {
            let layout = Layout::from_size_align(len, ALIGN);
            handle_alloc_error(layout.unwrap_or(Layout::new::<[u8; ALIGN]>()))
        };
        let start = if slack == 0 { 0 } else { map.as_ptr().align_offset(HUGE_PAGE) };
        #[cfg(target_os = "linux")]
        if slack > 0 {
            // A wish: a system without huge pages gives small ones.
            let _ = map.advise_range(memmap2::Advice::HugePage, start, len);
        }
        let base = NonNull::from(&mut map[start..start + len]).cast();
        Self { base, len, _map: Some(map) }
    }
}

/// Bytes in an arena that this value alone may use.
pub(crate) struct Piece {
    chunk: Arc<Chunk>,
    start: usize,
    len: usize,
}

impl Deref for Piece {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start..start + len` lies in the chunk, whose bytes are initialised (to zero by
        // the system) and live as long as `self`; no other piece has any of them, so only a
        // mutable borrow of `self` could write them.
        unsafe { std::slice::from_raw_parts(self.chunk.base.as_ptr().add(self.start), self.len) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(self.chunk.base.as_ptr().add(self.start), self.len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_aligned_and_apart_whether_they_fit_or_not() {
        for capacity in [0, 1000, 3 * HUGE_PAGE] {
            let arena = Arena::with_capacity(capacity);
            let mut pieces: Vec<Piece> =
                [0, 1, 64, 65, HUGE_PAGE + 1, 500].iter().map(|len| arena.take(*len)).collect();
            for (idx, piece) in pieces.iter_mut().enumerate() {
                assert!(piece.iter().all(|byte| *byte == 0));
                assert!(piece.is_empty() || piece.as_ptr().align_offset(ALIGN) == 0);
                piece.fill(idx as u8 + 1);
            }
            drop(arena);
            for (idx, piece) in pieces.iter().enumerate() {
                assert!(piece.iter().all(|byte| *byte == idx as u8 + 1));
            }
        }
    }

    #[test]
    fn matrices_of_one_arena_lie_side_by_side_from_a_huge_page_on() {
        let arena = Arena::with_capacity(HUGE_PAGE);
        let (first, second) = (arena.take(100), arena.take(100));
        assert_eq!(first.as_ptr() as usize % HUGE_PAGE, 0);
        assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 128);
    }
}
