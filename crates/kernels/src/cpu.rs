//! [`Cpu`]: the instruction set in use and the worker pool; every kernel is a method of it.

use crate::isa::Isa;
use crate::pool::Pool;
use std::ops::Range;

/// What computes: an instruction set and a pool of threads. Shared by reference or `Arc`.
pub struct Cpu {
    isa: Isa,
    pool: Pool,
}

/// Work below this many values is done by the calling thread: waking another costs more.
const N_VALUES_ALONE: usize = 8192;

impl Cpu {
    /// Starts `n_threads - 1` workers (the caller is one more thread). An instruction set that this
    /// CPU lacks computes portably.
    pub fn new(isa: Isa, n_threads: usize) -> Self {
        let isa = if isa.is_available() { isa } else { Isa::Portable };
        Self { isa, pool: Pool::new(n_threads) }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that work on a job, the caller included.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// Runs `task(0)` to `task(n_tasks - 1)`, each once, in any order and at the same time.
    ///
    /// # Panics
    /// If a task panics. A task must not start another job on the same `Cpu`: it would wait for
    /// itself.
    pub fn run(&self, n_tasks: usize, task: impl Fn(usize) + Sync) {
        self.pool.run(n_tasks, &task);
    }

    /// Splits `data` into chunks of `chunk_len` (the last may be shorter) and runs
    /// `task(chunk_idx, chunk)` for each, over the threads.
    ///
    /// # Panics
    /// If `chunk_len` is 0 or a task panics.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk_len: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(chunk_len > 0, "for_each_chunk: chunks of no length");
        let len = data.len();
        let base = SendPtr(data.as_mut_ptr());
        self.run(len.div_ceil(chunk_len), |idx| {
            let start = idx * chunk_len;
            // SAFETY: chunks of different index do not overlap, each index runs once, and `data`
            // stays borrowed until all have ended.
            let chunk = unsafe {
                std::slice::from_raw_parts_mut(base.get().add(start), chunk_len.min(len - start))
            };
            task(idx, chunk);
        });
    }

    /// Runs `task(row_idx, row)` on each row of `row_len` elements, over the threads when there is
    /// enough work; an element stands for `n_values` numbers.
    pub(crate) fn for_each_row<T: Send>(
        &self,
        data: &mut [T],
        row_len: usize,
        n_values: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if data.len() * n_values < N_VALUES_ALONE {
            data.chunks_mut(row_len).enumerate().for_each(|(idx, row)| task(idx, row));
        } else {
            let n_rows = data.len().div_ceil(row_len);
            let rows = n_rows.div_ceil(self.n_threads() * 4).max(1);
            self.for_each_chunk(data, rows * row_len, |chunk_idx, chunk| {
                for (idx, row) in chunk.chunks_mut(row_len).enumerate() {
                    task(chunk_idx * rows + idx, row);
                }
            });
        }
    }
}

impl Cpu {
    /// Runs `task` on pieces of `0..n_rows`, over the threads when there is enough work; a row
    /// stands for `n_values` numbers.
    pub(crate) fn for_each_piece(
        &self,
        n_rows: usize,
        n_values: usize,
        task: impl Fn(Range<usize>) + Sync,
    ) {
        if n_rows * n_values < N_VALUES_ALONE {
            return task(0..n_rows);
        }
        let len = n_rows.div_ceil(self.n_threads() * 4).max(1);
        self.run(n_rows.div_ceil(len), |idx| task(idx * len..((idx + 1) * len).min(n_rows)));
    }
}

/// A pointer that may go to another thread; whoever uses it proves that this is sound.
pub(crate) struct SendPtr<T>(pub(crate) *mut T);

impl<T> SendPtr<T> {
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}
impl<T> Clone for SendPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SendPtr<T> {}
// SAFETY: a pointer by itself does nothing; see the type.
unsafe impl<T: Send> Send for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SendPtr<T> {}
