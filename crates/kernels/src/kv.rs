//! Keys and values of past positions, in pages.
//!
//! A page holds 64 positions of every layer and head. Within a page, each layer and kv head has its
//! keys as `[head_dim][64]` (positions are lanes when scores are computed) followed by its values
//! as `[64][head_dim]` (elements are lanes when values are summed). Which page belongs to which
//! sequence is the caller's business: a sequence brings its page table.

use crate::Cpu;
use crate::cpu::SendPtr;
use crate::isa::{Kernel, LANES, Simd};
use std::ops::Range;

/// Positions of a page.
pub const PAGE_LEN: usize = 64;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvFormat {
    /// As binary16.
    #[default]
    F16,
    /// As 8-bit integers with one `f32` scale per position and head: little more than half the
    /// memory, and an error of up to 1/254 of a head's largest value.
    Q8,
}

impl KvFormat {
    /// Every format.
    pub const ALL: [KvFormat; 2] = [KvFormat::F16, KvFormat::Q8];

    /// The name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            KvFormat::F16 => "f16",
            KvFormat::Q8 => "q8",
        }
    }
}

/// What a position's keys and values consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers that keep keys and values.
    pub n_layers: usize,
    /// Heads of keys and values in a layer.
    pub n_kv_heads: usize,
    /// Elements of a head; a multiple of 16.
    pub head_dim: usize,
    /// How they are kept.
    pub format: KvFormat,
}

impl KvShape {
    /// Bytes of one page: 64 positions of all layers.
    pub fn page_bytes(&self) -> usize {
        let n_heads = self.n_layers * self.n_kv_heads;
        n_heads
            * match self.format {
                KvFormat::F16 => self.head_len() * size_of::<u16>(),
                KvFormat::Q8 => self.head_len() + N_SCALES * size_of::<f32>(),
            }
    }

    /// Values of one layer and head of a page.
    fn head_len(&self) -> usize {
        2 * PAGE_LEN * self.head_dim
    }
}

/// Scales of one layer and head of a page: of the keys' positions, then of the values'.
const N_SCALES: usize = 2 * PAGE_LEN;

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
    data: Data,
}

enum Data {
    F16(Vec<u16>),
    Q8 { codes: Vec<u8>, scales: Vec<f32> },
}

/// Keys `[head_dim][64]` and values `[64][head_dim]` of one page, layer and head.
pub(crate) enum HeadPage<'a> {
    F16 {
        keys: &'a [[u16; LANES]],
        values: &'a [[u16; LANES]],
    },
    /// Signed codes, and a scale for each position.
    Q8 {
        keys: &'a [[u8; LANES]],
        values: &'a [[u8; LANES]],
        key_scales: &'a [f32],
        value_scales: &'a [f32],
    },
}

impl KvPool {
    /// Room for `n_pages` pages; memory is touched as pages are first written.
    ///
    /// # Panics
    /// If `head_dim` is not a multiple of 16 or the size overflows: the caller plans memory first.
    pub fn new(shape: KvShape, n_pages: usize) -> Self {
        assert!(shape.head_dim.is_multiple_of(LANES), "head_dim {}", shape.head_dim);
        let n_heads = (shape.n_layers * shape.n_kv_heads).checked_mul(n_pages);
        let len = |head_len| {
            n_heads.and_then(|n| n.checked_mul(head_len)).expect("the caller planned the memory")
        };
        let data = match shape.format {
            KvFormat::F16 => Data::F16(vec![0; len(shape.head_len())]),
            KvFormat::Q8 => {
                Data::Q8 { codes: vec![0; len(shape.head_len())], scales: vec![0.0; len(N_SCALES)] }
            }
        };
        Self { shape, n_pages, data }
    }

    /// The shape given to `new`.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Pages in all.
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Appends what a page holds: codes of 16 bits, or codes of 8 and then the scales,
    /// little-endian; [`KvShape::page_bytes`] in all.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn page_to_bytes(&self, page: u32, out: &mut Vec<u8>) {
        match &self.data {
            Data::F16(data) => {
                let values = &data[self.page_range(page, self.shape.head_len())];
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Data::Q8 { codes, scales } => {
                out.extend_from_slice(&codes[self.page_range(page, self.shape.head_len())]);
                let scales = &scales[self.page_range(page, N_SCALES)];
                out.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
            }
        }
    }

    /// Fills a page with what [`KvPool::page_to_bytes`] gave for a pool of the same shape.
    ///
    /// # Panics
    /// If there is no such page, or `bytes` are not [`KvShape::page_bytes`].
    pub fn page_from_bytes(&mut self, page: u32, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.shape.page_bytes(), "page_from_bytes: length");
        let range = self.page_range(page, self.shape.head_len());
        let scales_range = self.page_range(page, N_SCALES);
        match &mut self.data {
            Data::F16(data) => {
                for (value, bytes) in data[range].iter_mut().zip(bytes.as_chunks().0) {
                    *value = u16::from_le_bytes(*bytes);
                }
            }
            Data::Q8 { codes, scales } => {
                let (codes_bytes, scales_bytes) = bytes.split_at(range.len());
                codes[range].copy_from_slice(codes_bytes);
                for (scale, bytes) in
                    scales[scales_range].iter_mut().zip(scales_bytes.as_chunks().0)
                {
                    *scale = f32::from_le_bytes(*bytes);
                }
            }
        }
    }

    /// Where a page lies among values of which each layer and head has `head_len`.
    fn page_range(&self, page: u32, head_len: usize) -> Range<usize> {
        assert!((page as usize) < self.n_pages, "page {page} of {}", self.n_pages);
        let page_len = self.shape.n_layers * self.shape.n_kv_heads * head_len;
        page as usize * page_len..(page as usize + 1) * page_len
    }

    /// Makes all that is kept not a number, as far as the format can.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self) {
        match &mut self.data {
            Data::F16(data) => data.fill(0x7e00),
            Data::Q8 { codes, scales } => {
                codes.fill(0x80);
                scales.fill(f32::NAN);
            }
        }
    }

    /// Which of all layers' heads of all pages it is.
    fn head_idx(&self, page: u32, layer: usize, kv_head: usize) -> usize {
        (page as usize * self.shape.n_layers + layer) * self.shape.n_kv_heads + kv_head
    }

    pub(crate) fn head(&self, page: u32, layer: usize, kv_head: usize) -> HeadPage<'_> {
        let (head, len) = (self.head_idx(page, layer, kv_head), self.shape.head_len());
        let middle = len / 2 / LANES;
        match &self.data {
            Data::F16(data) => {
                let (keys, values) = data[head * len..][..len].as_chunks().0.split_at(middle);
                HeadPage::F16 { keys, values }
            }
            Data::Q8 { codes, scales } => {
                let (keys, values) = codes[head * len..][..len].as_chunks().0.split_at(middle);
                let scales = &scales[head * N_SCALES..][..N_SCALES];
                let (key_scales, value_scales) = scales.split_at(PAGE_LEN);
                HeadPage::Q8 { keys, values, key_scales, value_scales }
            }
        }
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
        let base = Base::of(&mut kv.data);
        let kv = &*kv;
        let write_head = |kv_head: usize| {
            for (token, row) in rows.iter().enumerate() {
                let page = row.pages[row.pos as usize / PAGE_LEN];
                let head = kv.head_idx(page, layer, kv_head);
                let at = (token * n_kv_heads + kv_head) * head_dim;
                let (k, v) = (&k[at..at + head_dim], &v[at..at + head_dim]);
                let position = row.pos as usize % PAGE_LEN;
                // SAFETY: the page and layer were checked, so the head is inside `data`, which is
                // borrowed mutably by this call; another task has another head.
                let head = unsafe { base.head(head, kv.shape.head_len()) };
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

/// Where the pages lie, for threads that write to different heads.
#[derive(Clone, Copy)]
enum Base {
    F16(SendPtr<u16>),
    Q8 { codes: SendPtr<u8>, scales: SendPtr<f32> },
}

impl Base {
    fn of(data: &mut Data) -> Self {
        match data {
            Data::F16(data) => Self::F16(SendPtr(data.as_mut_ptr())),
            Data::Q8 { codes, scales } => Self::Q8 {
                codes: SendPtr(codes.as_mut_ptr()),
                scales: SendPtr(scales.as_mut_ptr()),
            },
        }
    }

    /// One head of a page.
    ///
    /// # Safety
    /// The head must be inside the pool, and nobody else may use it while the result lives.
    unsafe fn head<'a>(self, head: usize, len: usize) -> HeadPageMut<'a> {
        // SAFETY: the caller's promise; the pool has `len` values and `N_SCALES` scales a head.
        unsafe {
            match self {
                Self::F16(data) => HeadPageMut::F16(std::slice::from_raw_parts_mut(
                    data.get().add(head * len),
                    len,
                )),
                Self::Q8 { codes, scales } => HeadPageMut::Q8 {
                    codes: std::slice::from_raw_parts_mut(codes.get().add(head * len), len),
                    scales: std::slice::from_raw_parts_mut(
                        scales.get().add(head * N_SCALES),
                        N_SCALES,
                    ),
                },
            }
        }
    }
}

/// Keys and values of one page, layer and head.
enum HeadPageMut<'a> {
    F16(&'a mut [u16]),
    Q8 { codes: &'a mut [u8], scales: &'a mut [f32] },
}

struct WritePosition<'a> {
    head: HeadPageMut<'a>,
    position: usize,
    k: &'a [f32],
    v: &'a [f32],
}

impl Kernel for WritePosition<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { head, position, k, v } = self;
        match head {
            HeadPageMut::F16(data) => {
                let (keys, values) = data.split_at_mut(PAGE_LEN * k.len());
                let round = |x: &[f32; LANES]| {
                    let mut out = [0u16; LANES];
                    simd.store_f16(in_range(simd, x), &mut out);
                    out
                };
                write_key(keys, position, k, round);
                write_value(values, position, v, round);
            }
            HeadPageMut::Q8 { codes, scales } => {
                let (keys, values) = codes.split_at_mut(PAGE_LEN * k.len());
                let (k_scale, v_scale) = (q8_scale(simd, k), q8_scale(simd, v));
                write_key(keys, position, k, |x| q8_codes(simd, x, k_scale));
                write_value(values, position, v, |x| q8_codes(simd, x, v_scale));
                scales[position] = k_scale;
                scales[PAGE_LEN + position] = v_scale;
            }
        }
    }
}

/// Writes a column of keys `[head_dim][64]`.
#[inline(always)]
fn write_key<T: Copy>(
    keys: &mut [T],
    position: usize,
    k: &[f32],
    round: impl Fn(&[f32; LANES]) -> [T; LANES],
) {
    let pieces = keys.chunks_exact_mut(LANES * PAGE_LEN);
    for (k, keys) in k.as_chunks().0.iter().zip(pieces) {
        for (k, keys) in round(k).into_iter().zip(keys.chunks_exact_mut(PAGE_LEN)) {
            keys[position] = k;
        }
    }
}

/// Writes a row of values `[64][head_dim]`.
#[inline(always)]
fn write_value<T: Copy>(
    values: &mut [T],
    position: usize,
    v: &[f32],
    round: impl Fn(&[f32; LANES]) -> [T; LANES],
) {
    let values = &mut values[position * v.len()..][..v.len()];
    for (v, values) in v.as_chunks().0.iter().zip(values.as_chunks_mut().0) {
        *values = round(v);
    }
}

/// Values as near as binary16 comes to them: attention gives later positions the weight 0, and 0
/// times infinity would be no number.
#[inline(always)]
fn in_range<S: Simd>(simd: S, x: &[f32; LANES]) -> S::F {
    const LARGEST: f32 = 65504.0;
    simd.max(simd.min(simd.load(x), simd.splat(LARGEST)), simd.splat(-LARGEST))
}

/// The scale with which the largest value becomes 127 or -127.
#[inline(always)]
fn q8_scale<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let mut largest = simd.splat(0.0);
    for x in x.as_chunks().0 {
        let x = in_range(simd, x);
        largest = simd.max(largest, simd.max(x, simd.sub(simd.splat(0.0), x)));
    }
    simd.max_lane(largest) / 127.0
}

#[inline(always)]
fn q8_codes<S: Simd>(simd: S, x: &[f32; LANES], scale: f32) -> [u8; LANES] {
    // All codes are 0 where the scale is too small to divide by.
    let factor = if scale < f32::MIN_POSITIVE { 0.0 } else { 1.0 / scale };
    let mut codes = [0; LANES];
    simd.store_i(simd.round(simd.mul(in_range(simd, x), simd.splat(factor))), &mut codes);
    codes.map(|code| code as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_moves_with_all_its_bits() {
        let cpu = Cpu::new(crate::Isa::available()[0], 1);
        for format in KvFormat::ALL {
            let shape = KvShape { n_layers: 2, n_kv_heads: 3, head_dim: 32, format };
            let mut kv = KvPool::new(shape, 3);
            let x: Vec<f32> = (0..96).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
            for pos in 0..PAGE_LEN as u32 {
                let rows = [Query { pos, pages: &[1] }];
                for layer in 0..2 {
                    let x: Vec<f32> = x.iter().map(|x| x * (pos + 1 + layer) as f32).collect();
                    cpu.kv_write(&mut kv, layer as usize, &rows, &x, &x);
                }
            }
            let bytes = |kv: &KvPool, page| {
                let mut out = Vec::new();
                kv.page_to_bytes(page, &mut out);
                out
            };
            let (before, held, after) = (bytes(&kv, 0), bytes(&kv, 1), bytes(&kv, 2));
            assert_eq!(held.len(), shape.page_bytes());
            assert!(held.iter().filter(|&&byte| byte != 0).count() > held.len() / 2);
            let mut other = KvPool::new(shape, 3);
            other.page_from_bytes(1, &held);
            assert_eq!([0, 1, 2].map(|page| bytes(&other, page)), [before, held, after]);
        }
    }
}
