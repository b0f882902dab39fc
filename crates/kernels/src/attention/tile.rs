//! A tile of attention: consecutive tokens of one sequence times heads that share a kv head.
//!
//! The rows of a tile are its tokens, each with its heads. A page's keys are turned into `f32` once
//! for all of them; scores are then a matrix product of blocks of up to six rows with the page's 64
//! positions, and after the softmax the weights are multiplied with the values in the same way. A
//! block leaves out the pages that none of its rows sees. A position that only some rows see has
//! weight 0 for the others: that changes no bit but the sign of a zero, which [`Merge`] settles.

use std::ops::Range;

use super::{AttentionSpec, SEGMENT_LEN};
use crate::elementwise::{exp, soft_cap};
use crate::isa::{Kernel, LANES, Simd};
use crate::kv::{HeadPage, KvFormat, KvPool, PAGE_LEN, Query};

/// Rows of a block at most: six rows of four vectors take 24 of 32 registers, and six rows of one
/// vector take 12 of 16 registers of half the width.
const BLOCK_ROWS: usize = 6;
/// Vectors beside each other in a panel, where registers are many.
const WIDE_PANEL: usize = 4;

/// A tile's work on some segments. What comes out lies at the start of `scratch`: each row's state
/// after these segments.
pub(super) struct Tile<'a> {
    pub(super) kv: &'a KvPool,
    pub(super) layer: usize,
    pub(super) kv_head: usize,
    pub(super) spec: &'a AttentionSpec,
    /// Of one sequence, in ascending order.
    pub(super) rows: &'a [Query<'a>],
    /// Of the group of `kv_head`.
    pub(super) heads: Range<usize>,
    /// Of these rows, all heads.
    pub(super) q: &'a [f32],
    pub(super) segments: Range<usize>,
    /// Of [`scratch_len`].
    pub(super) scratch: &'a mut [f32],
}

/// Length of a row's state: the weighted sum of values, the largest score, the sum of weights.
pub(super) fn state_len(head_dim: usize) -> usize {
    head_dim + LANES
}

/// What a tile of `n_rows` (tokens times heads) needs.
pub(super) fn scratch_len(n_rows: usize, head_dim: usize) -> usize {
    lens(n_rows, head_dim).iter().sum()
}

fn lens(n_rows: usize, head_dim: usize) -> [usize; 5] {
    let states = n_rows * state_len(head_dim);
    [states, states, n_rows * head_dim, n_rows * SEGMENT_LEN, PAGE_LEN * head_dim]
}

/// The scratch, cut.
struct Buffers<'s> {
    /// After all segments so far, `[n_rows, state_len]`.
    merged: &'s mut [f32],
    /// Of the current segment, `[n_rows, state_len]`.
    states: &'s mut [f32],
    /// Queries by blocks, each `[head_dim, rows of the block]`.
    q: &'s mut [f32],
    /// Scores of the current segment, then weights.
    weights: &'s mut [[f32; SEGMENT_LEN]],
    /// One page's keys or values as `f32`, in panels.
    panels: &'s mut [[f32; LANES]],
}

impl<'s> Buffers<'s> {
    fn cut(scratch: &'s mut [f32], n_rows: usize, head_dim: usize) -> Self {
        let mut rest = scratch;
        let [merged, states, q, weights, panels] = lens(n_rows, head_dim).map(|len| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            head
        });
        let (weights, panels) = (weights.as_chunks_mut().0, panels.as_chunks_mut().0);
        Self { merged, states, q, weights, panels }
    }
}

/// Calls a function compiled for each number of rows of a block.
macro_rules! by_rows {
    ($n:expr, $f:ident::<$S:ident>$args:tt) => {
        match $n {
            1 => $f::<$S, 1>$args,
            2 => $f::<$S, 2>$args,
            3 => $f::<$S, 3>$args,
            4 => $f::<$S, 4>$args,
            5 => $f::<$S, 5>$args,
            _ => $f::<$S, BLOCK_ROWS>$args,
        }
    };
}

impl Kernel for Tile<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let head_dim = self.head_dim();
        let n_rows = self.n_rows();
        let mut b = Buffers::cut(std::mem::take(&mut self.scratch), n_rows, head_dim);
        self.pack_queries(b.q);
        for segment in self.segments.clone() {
            self.find_scores(simd, segment, &mut b);
            self.find_weights(simd, segment, &mut b);
            self.add_values(simd, segment, &mut b);
            self.merge(simd, segment, &mut b);
        }
    }
}

/// Pages of a segment that hold some of `seen`.
fn pages(seen: &Range<usize>) -> Range<usize> {
    seen.start / PAGE_LEN..seen.end.div_ceil(PAGE_LEN)
}

/// What of `seen`, a part of a segment, lies in its page `page`; positions within the page.
fn in_page(seen: &Range<usize>, page: usize) -> Range<usize> {
    let within = |at: usize| at.saturating_sub(page * PAGE_LEN).min(PAGE_LEN);
    within(seen.start)..within(seen.end)
}

impl Tile<'_> {
    fn head_dim(&self) -> usize {
        self.kv.shape().head_dim
    }

    fn n_rows(&self) -> usize {
        self.rows.len() * self.heads.len()
    }

    /// Rows of all blocks but perhaps the last: as even as can be.
    fn block_len(&self) -> usize {
        self.n_rows().div_ceil(self.n_rows().div_ceil(BLOCK_ROWS))
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (n_rows, block_len) = (self.n_rows(), self.block_len());
        (0..n_rows).step_by(block_len).map(move |at| at..(at + block_len).min(n_rows))
    }

    fn pos(&self, row: usize) -> u32 {
        self.rows[row / self.heads.len()].pos
    }

    /// What of a segment at least one of `rows` sees; positions within the segment.
    fn seen(&self, rows: Range<usize>, segment: usize) -> Range<usize> {
        let start = self.spec.visible(self.pos(rows.start)).start;
        let end = self.spec.visible(self.pos(rows.end - 1)).end;
        let within = |pos: usize| pos.saturating_sub(segment * SEGMENT_LEN).min(SEGMENT_LEN);
        within(start)..within(end)
    }

    fn pack_queries(&self, packed: &mut [f32]) {
        let (head_dim, n_heads) = (self.head_dim(), self.heads.len());
        for rows in self.blocks() {
            let block = &mut packed[rows.start * head_dim..rows.end * head_dim];
            for (r, row) in rows.clone().enumerate() {
                let (token, head) = (row / n_heads, self.heads.start + row % n_heads);
                let q = &self.q[(token * self.spec.n_heads + head) * head_dim..][..head_dim];
                for (out, q) in block.chunks_exact_mut(rows.len()).zip(q) {
                    out[r] = *q;
                }
            }
        }
    }

    /// Scores of all rows with what they see of a segment, page by page.
    #[inline(always)]
    fn find_scores<S: Simd>(&self, simd: S, segment: usize, b: &mut Buffers<'_>) {
        let head_dim = self.head_dim();
        for page in pages(&self.seen(0..self.n_rows(), segment)) {
            let factors = self.load_keys(simd, segment, page, b.panels);
            for block in self.blocks() {
                if in_page(&self.seen(block.clone(), segment), page).is_empty() {
                    continue;
                }
                let work = BlockScores {
                    q: &b.q[block.start * head_dim..block.end * head_dim],
                    panels: b.panels,
                    factors: &factors,
                    soft_cap: self.spec.soft_cap,
                    at: page * PAGE_LEN,
                    scores: &mut b.weights[block.clone()],
                };
                by_rows!(block.len(), block_scores::<S>(simd, work));
            }
        }
    }

    #[inline(always)]
    fn find_weights<S: Simd>(&self, simd: S, segment: usize, b: &mut Buffers<'_>) {
        let head_dim = self.head_dim();
        let scales = self.value_scales(segment, &self.seen(0..self.n_rows(), segment));
        b.states.fill(0.0);
        for block in self.blocks() {
            let seen = self.seen(block.clone(), segment);
            for row in block {
                let state = &mut b.states[row * state_len(head_dim)..][head_dim..];
                let row_seen = self.seen(row..row + 1, segment);
                let weights = &mut b.weights[row];
                softmax(simd, weights, &seen, &row_seen, scales.as_ref(), state);
            }
        }
    }

    /// Adds the weighted values of a segment to the states, page by page.
    #[inline(always)]
    fn add_values<S: Simd>(&self, simd: S, segment: usize, b: &mut Buffers<'_>) {
        let head_dim = self.head_dim();
        let seen = self.seen(0..self.n_rows(), segment);
        for page in pages(&seen) {
            self.load_values(simd, segment, page, &in_page(&seen, page), b.panels);
            for block in self.blocks() {
                let seen = in_page(&self.seen(block.clone(), segment), page);
                if seen.is_empty() {
                    continue;
                }
                let work = BlockValues {
                    head_dim,
                    weights: &b.weights[block.clone()],
                    at: page * PAGE_LEN,
                    seen,
                    panels: b.panels,
                    states: &mut b.states[block.start * state_len(head_dim)..],
                };
                by_rows!(block.len(), block_values::<S>(simd, work));
            }
        }
    }

    /// Keys and values of a page of a segment.
    fn page(&self, segment: usize, page: usize) -> HeadPage<'_> {
        let page = self.rows[0].pages[segment * (SEGMENT_LEN / PAGE_LEN) + page];
        self.kv.head(page, self.layer, self.kv_head)
    }

    /// Returns by what the products with the keys are to be multiplied.
    #[inline(always)]
    fn load_keys<S: Simd>(
        &self,
        simd: S,
        segment: usize,
        page: usize,
        panels: &mut [[f32; LANES]],
    ) -> [f32; PAGE_LEN] {
        let (n_vectors, rows) = (PAGE_LEN / LANES, 0..self.head_dim());
        let mut factors = [self.spec.scale; PAGE_LEN];
        match self.page(segment, page) {
            HeadPage::F16 { keys, .. } => {
                load_panels(simd, keys, n_vectors, rows, panels);
            }
            HeadPage::Q8 { keys, key_scales, .. } => {
                load_panels(simd, keys, n_vectors, rows, panels);
                factors.iter_mut().zip(key_scales).for_each(|(factor, scale)| *factor *= scale);
            }
        }
        factors
    }

    /// Only the positions that are `seen`: what lies at others was never written, or by a sequence
    /// that is gone, and 0 times it may be no number.
    #[inline(always)]
    fn load_values<S: Simd>(
        &self,
        simd: S,
        segment: usize,
        page: usize,
        seen: &Range<usize>,
        panels: &mut [[f32; LANES]],
    ) {
        let n_vectors = self.head_dim() / LANES;
        match self.page(segment, page) {
            HeadPage::F16 { values, .. } => {
                load_panels(simd, values, n_vectors, seen.clone(), panels);
            }
            HeadPage::Q8 { values, .. } => {
                load_panels(simd, values, n_vectors, seen.clone(), panels);
            }
        }
    }

    /// By what the weights of the positions that are `seen` are to be multiplied, where it is not
    /// by 1.
    fn value_scales(&self, segment: usize, seen: &Range<usize>) -> Option<[f32; SEGMENT_LEN]> {
        if self.kv.shape().format == KvFormat::F16 {
            return None;
        }
        let mut scales = [0.0; SEGMENT_LEN];
        for page in pages(seen) {
            if let HeadPage::Q8 { value_scales, .. } = self.page(segment, page) {
                let seen = in_page(seen, page);
                scales[page * PAGE_LEN..][seen.clone()].copy_from_slice(&value_scales[seen]);
            }
        }
        Some(scales)
    }

    /// Merges the segment into the rows that see some of it.
    #[inline(always)]
    fn merge<S: Simd>(&self, simd: S, segment: usize, b: &mut Buffers<'_>) {
        let head_dim = self.head_dim();
        let states = b.states.chunks_exact(state_len(head_dim));
        let merged = b.merged.chunks_exact_mut(state_len(head_dim));
        for (row, (state, merged)) in states.zip(merged).enumerate() {
            let seen = self.spec.segments(self.pos(row));
            if segment == seen.start || segment == self.segments.start {
                merged.copy_from_slice(state);
            } else if seen.contains(&segment) {
                merge(simd, merged, state);
            }
        }
    }
}

/// Panels of a matrix of `n_vectors` vectors a row: as many wide ones as there are, then narrow
/// ones. Gives the first vector of each panel and how many it has.
#[inline(always)]
fn panel_widths<S: Simd>(n_vectors: usize) -> impl Iterator<Item = (usize, usize)> {
    let n_wide = if S::WIDE { n_vectors / WIDE_PANEL } else { 0 };
    let wide = (0..n_wide).map(|idx| (idx * WIDE_PANEL, WIDE_PANEL));
    wide.chain((n_wide * WIDE_PANEL..n_vectors).map(|at| (at, 1)))
}

/// An element of a page.
trait Element: Sized {
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::F;
}

impl Element for u16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::F {
        simd.load_f16(x)
    }
}

impl Element for u8 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::F {
        simd.to_f(simd.load_i8(x))
    }
}

/// Turns some rows of a matrix into `f32`. A panel lies after all rows of the panels before it.
#[inline(always)]
fn load_panels<S: Simd, T: Element>(
    simd: S,
    matrix: &[[T; LANES]],
    n_vectors: usize,
    rows: Range<usize>,
    panels: &mut [[f32; LANES]],
) {
    let n_rows = matrix.len() / n_vectors;
    for (at, width) in panel_widths::<S>(n_vectors) {
        let panel = &mut panels[at * n_rows..][..n_rows * width];
        for row in rows.clone() {
            let source = &matrix[row * n_vectors + at..][..width];
            for (source, out) in source.iter().zip(&mut panel[row * width..][..width]) {
                simd.store(T::load(simd, source), out);
            }
        }
    }
}

/// `acc[r] += Σ_k a(k, r) · b_k`, `k` ascending.
#[inline(always)]
fn product<S: Simd, const R: usize, const V: usize>(
    simd: S,
    acc: &mut [[S::F; V]; R],
    a: impl Fn(usize, usize) -> f32,
    b: &[[f32; LANES]],
) {
    for (k, b) in b.as_chunks::<V>().0.iter().enumerate() {
        let mut vectors = [simd.splat(0.0); V];
        for v in 0..V {
            vectors[v] = simd.load(&b[v]);
        }
        for r in 0..R {
            let a = simd.splat(a(k, r));
            for v in 0..V {
                acc[r][v] = simd.fma(a, vectors[v], acc[r][v]);
            }
        }
    }
}

/// A block's rows times the keys of a page.
struct BlockScores<'a> {
    /// `[head_dim, rows]`.
    q: &'a [f32],
    panels: &'a [[f32; LANES]],
    factors: &'a [f32; PAGE_LEN],
    soft_cap: Option<f32>,
    /// Where the page begins in the segment.
    at: usize,
    scores: &'a mut [[f32; SEGMENT_LEN]],
}

#[inline(always)]
fn block_scores<S: Simd, const R: usize>(simd: S, mut work: BlockScores<'_>) {
    for (at, width) in panel_widths::<S>(PAGE_LEN / LANES) {
        if S::WIDE && width == WIDE_PANEL {
            panel_scores::<S, R, WIDE_PANEL>(simd, &mut work, at);
        } else {
            panel_scores::<S, R, 1>(simd, &mut work, at);
        }
    }
}

/// The panel that begins with vector `at`.
#[inline(always)]
fn panel_scores<S: Simd, const R: usize, const V: usize>(
    simd: S,
    work: &mut BlockScores<'_>,
    at: usize,
) {
    let head_dim = work.q.len() / R;
    let panel = &work.panels[at * head_dim..][..V * head_dim];
    let mut acc = [[simd.splat(0.0); V]; R];
    let q = &work.q.as_chunks::<R>().0[..head_dim];
    product::<S, R, V>(simd, &mut acc, |k, r| q[k][r], panel);
    let factors = work.factors[at * LANES..].as_chunks().0;
    for r in 0..R {
        let scores = work.scores[r][work.at + at * LANES..].as_chunks_mut().0;
        for v in 0..V {
            let mut s = simd.mul(acc[r][v], simd.load(&factors[v]));
            if let Some(cap) = work.soft_cap {
                s = soft_cap(simd, s, cap);
            }
            simd.store(s, &mut scores[v]);
        }
    }
}

/// A block's weights times the values of a page.
struct BlockValues<'a> {
    head_dim: usize,
    weights: &'a [[f32; SEGMENT_LEN]],
    /// Where the page begins in the segment.
    at: usize,
    /// What of the page the block sees.
    seen: Range<usize>,
    panels: &'a [[f32; LANES]],
    /// Begins with the block's first row.
    states: &'a mut [f32],
}

#[inline(always)]
fn block_values<S: Simd, const R: usize>(simd: S, mut work: BlockValues<'_>) {
    for (at, width) in panel_widths::<S>(work.head_dim / LANES) {
        if S::WIDE && width == WIDE_PANEL {
            panel_values::<S, R, WIDE_PANEL>(simd, &mut work, at);
        } else {
            panel_values::<S, R, 1>(simd, &mut work, at);
        }
    }
}

/// The panel that begins with vector `at`.
#[inline(always)]
fn panel_values<S: Simd, const R: usize, const V: usize>(
    simd: S,
    work: &mut BlockValues<'_>,
    at: usize,
) {
    let state_len = state_len(work.head_dim);
    let mut acc = [[simd.splat(0.0); V]; R];
    for r in 0..R {
        let columns = work.states[r * state_len + at * LANES..].as_chunks::<LANES>().0;
        for v in 0..V {
            acc[r][v] = simd.load(&columns[v]);
        }
    }
    let seen = work.at + work.seen.start..work.at + work.seen.end;
    let weights: [&[f32]; R] = std::array::from_fn(|r| &work.weights[r][seen.clone()]);
    let panel = &work.panels[at * PAGE_LEN..][work.seen.start * V..work.seen.end * V];
    product::<S, R, V>(simd, &mut acc, |k, r| weights[r][k], panel);
    for r in 0..R {
        let columns = work.states[r * state_len + at * LANES..].as_chunks_mut::<LANES>().0;
        for v in 0..V {
            simd.store(acc[r][v], &mut columns[v]);
        }
    }
}

/// Turns a row's scores into weights relative to the largest, times the values' scales. `seen` is
/// what its block sees; beyond what the row itself sees the weight is 0. The largest score and the
/// sum go to `state`.
#[inline(always)]
fn softmax<S: Simd>(
    simd: S,
    row: &mut [f32; SEGMENT_LEN],
    seen: &Range<usize>,
    row_seen: &Range<usize>,
    scales: Option<&[f32; SEGMENT_LEN]>,
    state: &mut [f32],
) {
    let vectors = seen.start / LANES..seen.end.div_ceil(LANES);
    let (start, end) = (vectors.start * LANES, vectors.end * LANES);
    if row_seen.is_empty() {
        row[start..end].fill(0.0);
        return;
    }
    row[start..row_seen.start].fill(f32::NEG_INFINITY);
    row[row_seen.end..end].fill(f32::NEG_INFINITY);
    let scales = scales.map(|scales| scales[start..end].as_chunks::<LANES>().0);
    let vectors = row[start..end].as_chunks_mut::<LANES>().0;
    let mut max = simd.splat(f32::NEG_INFINITY);
    for vector in &*vectors {
        max = simd.max(max, simd.load(vector));
    }
    let max = simd.max_lane(max);
    let mut sum = simd.splat(0.0);
    for (idx, vector) in vectors.iter_mut().enumerate() {
        let p = exp(simd, simd.sub(simd.load(vector), simd.splat(max)));
        sum = simd.add(sum, p);
        simd.store(scales.map_or(p, |scales| simd.mul(p, simd.load(&scales[idx]))), vector);
    }
    state[0] = max;
    state[1] = simd.sum(sum);
}

/// Merges a later segment's state into an earlier one's.
#[inline(always)]
fn merge<S: Simd>(simd: S, into: &mut [f32], state: &[f32]) {
    let head_dim = state.len() - LANES;
    let (max_1, max_2) = (into[head_dim], state[head_dim]);
    let max = if max_2 > max_1 { max_2 } else { max_1 };
    let keep_1 = exp(simd, simd.splat(max_1 - max));
    let keep_2 = exp(simd, simd.splat(max_2 - max));
    for (into, x) in into.as_chunks_mut().0.iter_mut().zip(state.as_chunks().0) {
        let later = simd.mul(simd.load(x), keep_2);
        simd.store(simd.fma(simd.load(into), keep_1, later), into);
    }
    // The loop took the sum along with the vector it lies in; the largest score is not a sum.
    into[head_dim] = max;
}

/// Merges the states of a row's segments, in order, and divides by the sum.
pub(super) struct Merge<'a> {
    /// `[n_segments, state_len]`; the first is overwritten.
    pub(super) states: &'a mut [f32],
    /// `[head_dim]`.
    pub(super) out: &'a mut [f32],
}

impl Kernel for Merge<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let head_dim = self.out.len();
        let (first, rest) = self.states.split_at_mut(state_len(head_dim));
        for state in rest.chunks_exact(state_len(head_dim)) {
            merge(simd, first, state);
        }
        let sum = simd.splat(first[head_dim + 1]);
        for (x, out) in first.as_chunks().0.iter().zip(self.out.as_chunks_mut().0) {
            // A weighted sum may be -0 or +0 depending on how many weights of 0 went into it.
            simd.store(simd.add(simd.div(simd.load(x), sum), simd.splat(0.0)), out);
        }
    }
}
