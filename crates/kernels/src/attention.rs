//! Causal attention over paged keys and values (grouped-query; Ainslie et al. 2023).
//!
//! The definition is per query: its positions are cut into fixed segments of [`SEGMENT_LEN`], each
//! segment is a softmax of its own, and the segments are merged in ascending order (Milakov and
//! Gimelshein 2018). Nothing in it knows the batch, so prefill and decode give the same bits
//! however a prompt was cut, and segments may run on different threads.
//!
//! ```text
//! per segment:  s_j = scale · Σ_i fma(q_i, k_ij)        i ascending; soft cap; j visible
//!               m = max s;  p_j = exp(s_j - m)
//!               l = Σ p_j                               16 lanes, j ascending; then a fixed tree
//!               o_d = Σ_j fma(p_j, v_jd)                j ascending
//! merge:        m' = max(m₁, m₂);  c₁ = exp(m₁ - m');  c₂ = exp(m₂ - m')
//!               l = fma(l₁, c₁, l₂ · c₂);  o_d = fma(o₁_d, c₁, o₂_d · c₂)
//! at last:      o_d / l + 0
//! ```
//!
//! With 8-bit keys and values, k and v are the codes; the factor of s_j is scale · (scale of key
//! j), and p_j, after the sum, is multiplied with the scale of value j.
//!
//! The work is cut into tiles ([`tile`]): consecutive tokens of a sequence times the heads that
//! share a kv head. This file finds the tiles and hands them to the threads.

mod tile;

use std::cell::RefCell;
use std::ops::Range;

use crate::Cpu;
use crate::cpu::SendPtr;
use crate::kv::{KvPool, PAGE_LEN, Query};
use tile::{Merge, Tile, scratch_len, state_len};

/// Positions that form one softmax. Short enough that one sequence keeps several threads busy, long
/// enough that merging is below one percent of the arithmetic.
const SEGMENT_LEN: usize = 4 * PAGE_LEN;

/// Queries of a tile: so many that turning a page into `f32` for them costs a few percent.
const TILE_ROWS: usize = 96;

/// How a layer attends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads; a multiple of the kv heads, consecutive ones share a kv head.
    pub n_heads: usize,
    /// Factor on the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// `cap · tanh(score / cap)` where a model has it.
    pub soft_cap: Option<f32>,
    /// Sliding window: a query at `pos` sees `pos - window + 1 ..= pos`.
    pub window: Option<u32>,
}

impl AttentionSpec {
    /// Positions that a query at `pos` sees.
    fn visible(&self, pos: u32) -> Range<usize> {
        let end = pos as usize + 1;
        self.window.map_or(0, |window| end.saturating_sub(window as usize))..end
    }

    /// Segments of which a query at `pos` sees something.
    fn segments(&self, pos: u32) -> Range<usize> {
        let visible = self.visible(pos);
        visible.start / SEGMENT_LEN..visible.end.div_ceil(SEGMENT_LEN)
    }
}

/// Buffers of the calling thread, kept so that nothing is allocated per token.
#[derive(Default)]
struct Plan {
    /// Rows of the batch that form a tile.
    tiles: Vec<Range<usize>>,
    /// One state for each row, head and segment, where segments are worked on apart.
    states: Vec<f32>,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
    static SCRATCH: RefCell<Vec<f32>> = RefCell::default();
}

impl Cpu {
    /// Attends from each of `rows` to its sequence's positions up to the row's, which must have
    /// been written. An encoder, whose tokens all see each other, gives all rows of a text the
    /// position of its last.
    ///
    /// `q` and `out` are `[n_tokens, n_heads, head_dim]`.
    ///
    /// # Panics
    /// If the lengths do not fit, `n_heads` is not a multiple of the kv heads, the window is 0, or
    /// a page table does not cover its position.
    pub fn attention(
        &self,
        kv: &KvPool,
        layer: usize,
        spec: &AttentionSpec,
        rows: &[Query<'_>],
        q: &[f32],
        out: &mut [f32],
    ) {
        let (n_kv_heads, head_dim) = (kv.shape().n_kv_heads, kv.shape().head_dim);
        assert!(spec.n_heads.is_multiple_of(n_kv_heads), "attention: heads of a group");
        assert!(spec.window != Some(0), "attention: a window of no positions");
        assert_eq!(q.len(), rows.len() * spec.n_heads * head_dim, "attention: length of queries");
        assert_eq!(out.len(), q.len(), "attention: length of output");
        kv.check(layer, rows);
        if !rows.is_empty() {
            let job = Job { cpu: self, kv, layer, spec, rows, q };
            PLAN.with_borrow_mut(|plan| job.run(plan, out));
        }
    }
}

/// Most values that segments wait in to be merged, 8 MiB: many rows with long contexts are tasks
/// enough without being split.
const STATES_LEN_MAX: usize = 2 << 20;

/// One layer's attention for a batch.
struct Job<'a> {
    cpu: &'a Cpu,
    kv: &'a KvPool,
    layer: usize,
    spec: &'a AttentionSpec,
    rows: &'a [Query<'a>],
    q: &'a [f32],
}

impl Job<'_> {
    fn run(&self, plan: &mut Plan, out: &mut [f32]) {
        let n_kv_heads = self.kv.shape().n_kv_heads;
        // So many tasks keep all threads busy to the end, though some are longer than others.
        let n_wanted = 4 * self.cpu.n_threads();
        let n_tokens = TILE_ROWS / self.group_len();
        let n_tokens = n_tokens.min((self.rows.len() * n_kv_heads).div_ceil(n_wanted)).max(1);
        find_tiles(self.rows, n_tokens, &mut plan.tiles);
        let n_most = self.n_most_segments(&plan.tiles);
        let n_states = self.rows.len() * self.spec.n_heads * n_most;
        let is_large = n_states * state_len(self.kv.shape().head_dim) > STATES_LEN_MAX;
        if self.cpu.n_threads() == 1 || plan.tiles.len() * n_kv_heads >= n_wanted || is_large {
            self.whole(&plan.tiles, out);
        } else {
            self.split(&plan.tiles, n_wanted, &mut plan.states, out);
        }
    }

    /// Query heads that share a kv head.
    fn group_len(&self) -> usize {
        self.spec.n_heads / self.kv.shape().n_kv_heads
    }

    /// Segments of which some row of a tile sees something.
    fn segments(&self, tile: &Range<usize>) -> Range<usize> {
        let (first, last) = (&self.rows[tile.start], &self.rows[tile.end - 1]);
        self.spec.segments(first.pos).start..self.spec.segments(last.pos).end
    }

    /// A task is a tile with all its segments.
    fn whole(&self, tiles: &[Range<usize>], out: &mut [f32]) {
        let (group_len, head_dim) = (self.group_len(), self.kv.shape().head_dim);
        let base = SendPtr(out.as_mut_ptr());
        self.cpu.run(tiles.len() * self.kv.shape().n_kv_heads, |idx| {
            // The last tiles see most, so they come first; a kv head's tiles follow each other,
            // because they read the same pages.
            let tile = &tiles[tiles.len() - 1 - idx % tiles.len()];
            let kv_head = idx / tiles.len();
            let heads = kv_head * group_len..(kv_head + 1) * group_len;
            self.tile(tile, heads, self.segments(tile), |row, states| {
                // SAFETY: inside `out`, which is borrowed mutably by this call; a row belongs to
                // one task only.
                let out = unsafe {
                    std::slice::from_raw_parts_mut(base.get().add(row * head_dim), head_dim)
                };
                self.cpu.isa().dispatch(Merge { states, out });
            });
        });
    }

    /// Segments of the tile that sees most.
    fn n_most_segments(&self, tiles: &[Range<usize>]) -> usize {
        tiles.iter().map(|tile| self.segments(tile).len()).max().unwrap_or(0)
    }

    /// A task is one segment of a tile, and of some of the group's heads where even those tasks
    /// would be few; a second job merges the segments.
    fn split(
        &self,
        tiles: &[Range<usize>],
        n_wanted: usize,
        states: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let (n_kv_heads, head_dim) = (self.kv.shape().n_kv_heads, self.kv.shape().head_dim);
        let state_len = state_len(head_dim);
        let n_segments = self.n_most_segments(tiles);
        let row_len = n_segments * state_len;
        states.resize(states.len().max(self.rows.len() * self.spec.n_heads * row_len), 0.0);
        let n_parts = n_wanted / (tiles.len() * n_kv_heads * n_segments);
        let part_len = self.group_len().div_ceil(n_parts.max(1));
        let n_parts = self.group_len().div_ceil(part_len);
        let base = SendPtr(states.as_mut_ptr());
        self.cpu.run(tiles.len() * n_kv_heads * n_parts * n_segments, |idx| {
            let (idx, segment) = (idx / n_segments, idx % n_segments);
            let (idx, part) = (idx / n_parts, idx % n_parts);
            let tile = &tiles[idx / n_kv_heads];
            let group = idx % n_kv_heads * self.group_len();
            let part_end = ((part + 1) * part_len).min(self.group_len());
            let heads = group + part * part_len..group + part_end;
            let Some(segment) = self.segments(tile).nth(segment) else { return };
            self.tile(tile, heads, segment..segment + 1, |row, state| {
                let seen = self.segments_of(row);
                if seen.contains(&segment) {
                    let at = row * row_len + (segment - seen.start) * state_len;
                    // SAFETY: inside `states`, which is borrowed mutably by this call; a row's
                    // segment belongs to one task only.
                    let slot =
                        unsafe { std::slice::from_raw_parts_mut(base.get().add(at), state_len) };
                    slot.copy_from_slice(state);
                }
            });
        });
        self.cpu.for_each_row(out, head_dim, n_segments, |row, out| {
            let len = self.segments_of(row).len() * state_len;
            // SAFETY: inside `states`, where the tasks have ended; a row is merged once.
            let states =
                unsafe { std::slice::from_raw_parts_mut(base.get().add(row * row_len), len) };
            self.cpu.isa().dispatch(Merge { states, out });
        });
    }

    /// Segments of which a row of `out` (a token's head) sees something.
    fn segments_of(&self, row: usize) -> Range<usize> {
        self.spec.segments(self.rows[row / self.spec.n_heads].pos)
    }

    /// Works on one tile, and gives `take` each of its rows (of `out`) and their state.
    fn tile(
        &self,
        tile: &Range<usize>,
        heads: Range<usize>,
        segments: Range<usize>,
        take: impl Fn(usize, &mut [f32]),
    ) {
        let head_dim = self.kv.shape().head_dim;
        let n_rows = tile.len() * heads.len();
        SCRATCH.with_borrow_mut(|scratch| {
            let len = scratch_len(n_rows, head_dim);
            scratch.resize(scratch.len().max(len), 0.0);
            self.cpu.isa().dispatch(Tile {
                kv: self.kv,
                layer: self.layer,
                kv_head: heads.start / self.group_len(),
                spec: self.spec,
                rows: &self.rows[tile.clone()],
                heads: heads.clone(),
                q: &self.q[tile.start * self.spec.n_heads * head_dim..],
                segments,
                scratch: &mut scratch[..len],
            });
            let states = scratch.chunks_exact_mut(state_len(head_dim)).take(n_rows);
            for (row, state) in states.enumerate() {
                let (token, head) = (tile.start + row / heads.len(), row % heads.len());
                take(token * self.spec.n_heads + heads.start + head, state);
            }
        });
    }
}

/// Cuts a batch into runs of at most `n_tokens` rows of one sequence, each at its predecessor's
/// position or the next.
fn find_tiles(rows: &[Query<'_>], n_tokens: usize, tiles: &mut Vec<Range<usize>>) {
    tiles.clear();
    let mut start = 0;
    for end in 1..=rows.len() {
        let goes_on = rows.get(end).is_some_and(|row| {
            let last = &rows[end - 1];
            row.pos.wrapping_sub(last.pos) <= 1 && std::ptr::eq(last.pages, row.pages)
        });
        if !goes_on || end - start == n_tokens {
            tiles.push(start..end);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests;
