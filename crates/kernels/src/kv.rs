//! Keys and values of past positions, in pages.
//!
//! A page holds 64 positions of every layer and head, as binary16. Within a page, each layer and
//! kv head has its keys as `[head_dim][64]` (positions are lanes when scores are computed) followed
//! by its values as `[64][head_dim]` (elements are lanes when values are summed). Which page
//! belongs to which sequence is the caller's business: a sequence brings its page table.

use crate::Cpu;
use crate::cpu::SendPtr;
use crate::isa::{Kernel, LANES, Simd};

/// Positions of a page.
pub const PAGE_LEN: usize = 64;

/// What a position's keys and values consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers that keep keys and values.
    pub n_layers: usize,
    /// Heads of keys and values in a layer.
    pub n_kv_heads: usize,
    /// Elements of a head; a multiple of 16.
    pub head_dim: usize,
}

impl KvShape {
    /// Bytes of one page: 64 positions of all layers.
    pub fn page_bytes(&self) -> usize {
        self.page_len() * size_of::<u16>()
    }

    /// Values of one page.
    fn page_len(&self) -> usize {
        self.n_layers * self.n_kv_heads * self.head_len()
    }

    /// Values of one layer and head of a page.
    fn head_len(&self) -> usize {
        2 * PAGE_LEN * self.head_dim
    }
}

/// One token of a batch, as attention sees it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Its position in its sequence.
    pub pos: u32,
    /// The page table of its sequence; covers at least `pos`.
    pub pages: &'a [u32],
}

/// The pages of all sequences.
pub struct KvPool {
    shape: KvShape,
    n_pages: usize,
    data: Vec<u16>,
}

impl KvPool {
    /// Room for `n_pages` pages; memory is touched as pages are first written.
    ///
    /// # Panics
    /// If `head_dim` is not a multiple of 16 or the size overflows: the caller plans memory first.
    pub fn new(shape: KvShape, n_pages: usize) -> Self {
        assert!(shape.head_dim.is_multiple_of(LANES), "head_dim {}", shape.head_dim);
        let len = shape.page_len().checked_mul(n_pages).expect("the caller planned the memory");
        Self { shape, n_pages, data: vec![0; len] }
    }

    /// The shape given to `new`.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Pages in all.
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    #[cfg(test)]
    pub(crate) fn fill(&mut self, bits: u16) {
        self.data.fill(bits);
    }

    fn start(&self, page: u32, layer: usize, kv_head: usize) -> usize {
        let shape = &self.shape;
        let head = (page as usize * shape.n_layers + layer) * shape.n_kv_heads + kv_head;
        head * shape.head_len()
    }

    /// Keys `[head_dim][64]` and values `[64][head_dim]` of one page, layer and head.
    pub(crate) fn head(&self, page: u32, layer: usize, kv_head: usize) -> (&[u16], &[u16]) {
        let start = self.start(page, layer, kv_head);
        let len = self.shape.head_len();
        self.data[start..start + len].split_at(len / 2)
    }

    pub(crate) fn check(&self, layer: usize, rows: &[Query<'_>]) {
        assert!(layer < self.shape.n_layers, "layer {layer} of {}", self.shape.n_layers);
        for row in rows {
            let n_needed = row.pos as usize / PAGE_LEN + 1;
            assert!(row.pages.len() >= n_needed, "position {} outside its page table", row.pos);
            for page in &row.pages[..n_needed] {
                assert!((*page as usize) < self.n_pages, "page {page} of {}", self.n_pages);
            }
        }
    }
}

impl Cpu {
    /// Stores the keys and values of a batch, one position for each of `rows`.
    ///
    /// `k` and `v` are `[n_tokens, n_kv_heads, head_dim]`. No two rows may be the same position of
    /// the same page.
    ///
    /// # Panics
    /// If the lengths do not fit or a page table does not cover its position.
    pub fn kv_write(
        &self,
        kv: &mut KvPool,
        layer: usize,
        rows: &[Query<'_>],
        k: &[f32],
        v: &[f32],
    ) {
        let KvShape { n_kv_heads, head_dim, .. } = kv.shape;
        assert_eq!(k.len(), rows.len() * n_kv_heads * head_dim, "kv_write: length of keys");
        assert_eq!(v.len(), k.len(), "kv_write: length of values");
        kv.check(layer, rows);
        let base = SendPtr(kv.data.as_mut_ptr());
        let kv = &*kv;
        let write_head = |kv_head: usize| {
            for (token, row) in rows.iter().enumerate() {
                let page = row.pages[row.pos as usize / PAGE_LEN];
                let start = kv.start(page, layer, kv_head);
                // SAFETY: the page and layer were checked, so the range is inside `data`, which is
                // borrowed mutably by this call; another task has another head, so another range.
                let head = unsafe {
                    std::slice::from_raw_parts_mut(base.get().add(start), kv.shape.head_len())
                };
                let at = (token * n_kv_heads + kv_head) * head_dim;
                let (k, v) = (&k[at..at + head_dim], &v[at..at + head_dim]);
                let position = row.pos as usize % PAGE_LEN;
                self.isa().dispatch(WritePosition { head, position, k, v });
            }
        };
        if rows.len() * head_dim < 512 {
            (0..n_kv_heads).for_each(write_head);
        } else {
            self.run(n_kv_heads, write_head);
        }
    }
}

struct WritePosition<'a> {
    head: &'a mut [u16],
    position: usize,
    k: &'a [f32],
    v: &'a [f32],
}

impl Kernel for WritePosition<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (keys, values) = self.head.split_at_mut(PAGE_LEN * self.k.len());
        let values = &mut values[self.position * self.v.len()..][..self.v.len()];
        for (v, out) in self.v.as_chunks().0.iter().zip(values.as_chunks_mut().0) {
            simd.store_f16(simd.load(v), out);
        }
        for (chunk_idx, k) in self.k.as_chunks().0.iter().enumerate() {
            let mut half = [0u16; LANES];
            simd.store_f16(simd.load(k), &mut half);
            for (i, half) in half.into_iter().enumerate() {
                keys[(chunk_idx * LANES + i) * PAGE_LEN + self.position] = half;
            }
        }
    }
}
