//! Causal attention over paged keys and values (grouped-query; Ainslie et al. 2023).
//!
//! Each query walks its pages in order with an online softmax (Milakov and Gimelshein 2018), so
//! prefill and decode do exactly the same operations for a position: the definition is per query
//! and per page, and neither the batch nor the way a prompt was cut can change a bit. Lanes are
//! positions while scores are computed and head elements while values are summed.
//!
//! ```text
//! per page:  s_j = scale · Σ_i fma(q_i, k_ij)            i ascending; soft cap; masked lanes -inf
//!            m' = max(m, max s);  c = exp(m - m');  p_j = exp(s_j - m')
//!            l = fma(l, c, Σ p);  o_d = o_d · c, then fma(p_j, v_jd, o_d) for visible j ascending
//! at last:   o_d / l
//! ```

use crate::Cpu;
use crate::elementwise::{exp, soft_cap};
use crate::isa::{Kernel, LANES, Simd};
use crate::kv::{KvPool, PAGE_LEN, Query};

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

impl Cpu {
    /// Attends from each of `rows` to its sequence's positions up to its own, which must have been
    /// written.
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
        let group_len = spec.n_heads / n_kv_heads * head_dim;
        self.for_each_chunk(out, group_len, |idx, out| {
            let (row, kv_head) = (&rows[idx / n_kv_heads], idx % n_kv_heads);
            let q = &q[idx * group_len..][..group_len];
            self.isa().dispatch(Group { kv, layer, kv_head, spec, row, q, out });
        });
    }
}

/// The query heads that share one kv head, for one token.
struct Group<'a> {
    kv: &'a KvPool,
    layer: usize,
    kv_head: usize,
    spec: &'a AttentionSpec,
    row: &'a Query<'a>,
    q: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Group<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let head_dim = self.kv.shape().head_dim;
        let n_heads = self.q.len() / head_dim;
        let mut head = 0;
        while S::WIDE && n_heads - head >= 4 {
            self.heads::<S, 4>(simd, head);
            head += 4;
        }
        while S::WIDE && n_heads - head >= 3 {
            self.heads::<S, 3>(simd, head);
            head += 3;
        }
        while n_heads - head >= 2 {
            self.heads::<S, 2>(simd, head);
            head += 2;
        }
        if head < n_heads {
            self.heads::<S, 1>(simd, head);
        }
    }
}

impl Group<'_> {
    /// `H` heads together: keys and values are loaded once for all of them.
    #[inline(always)]
    fn heads<S: Simd, const H: usize>(&mut self, simd: S, head: usize) {
        let head_dim = self.kv.shape().head_dim;
        let q = &self.q[head * head_dim..][..H * head_dim];
        let out = &mut self.out[head * head_dim..][..H * head_dim];
        out.fill(0.0);
        let (mut max, mut sum) = ([f32::NEG_INFINITY; H], [0.0f32; H]);
        let pos = self.row.pos as usize;
        let first = self.spec.window.map_or(0, |window| (pos + 1).saturating_sub(window as usize));
        for page_idx in first / PAGE_LEN..=pos / PAGE_LEN {
            let page_pos = page_idx * PAGE_LEN;
            let visible = first.saturating_sub(page_pos)..(pos + 1 - page_pos).min(PAGE_LEN);
            let page = self.row.pages[page_idx];
            let (keys, values) = self.kv.head(page, self.layer, self.kv_head);
            let mut scores = scores::<S, H>(simd, q, keys, self.spec);
            let mut keep = [0.0; H];
            for h in 0..H {
                scores[h][..visible.start].fill(f32::NEG_INFINITY);
                scores[h][visible.end..].fill(f32::NEG_INFINITY);
                keep[h] = softmax(simd, &mut scores[h], &mut max[h], &mut sum[h]);
            }
            add_values::<S, H>(
                simd,
                &scores,
                keep,
                &values[visible.start * head_dim..],
                visible,
                out,
            );
        }
        for (out, sum) in out.chunks_exact_mut(head_dim).zip(sum) {
            let divisor = simd.splat(sum);
            for out in out.as_chunks_mut().0 {
                simd.store(simd.div(simd.load(out), divisor), out);
            }
        }
    }
}

/// Scores of `H` queries with the 64 positions of a page.
#[inline(always)]
fn scores<S: Simd, const H: usize>(
    simd: S,
    q: &[f32],
    keys: &[u16],
    spec: &AttentionSpec,
) -> [[f32; PAGE_LEN]; H] {
    let head_dim = q.len() / H;
    let mut acc = [[simd.splat(0.0); PAGE_LEN / LANES]; H];
    for (i, keys) in keys.as_chunks::<PAGE_LEN>().0.iter().enumerate() {
        let keys = keys.as_chunks::<LANES>().0;
        for v in 0..PAGE_LEN / LANES {
            let k = simd.load_f16(&keys[v]);
            for h in 0..H {
                acc[h][v] = simd.fma(simd.splat(q[h * head_dim + i]), k, acc[h][v]);
            }
        }
    }
    let mut scores = [[0.0; PAGE_LEN]; H];
    for (scores, acc) in scores.iter_mut().zip(acc) {
        for (scores, acc) in scores.as_chunks_mut().0.iter_mut().zip(acc) {
            let mut s = simd.mul(acc, simd.splat(spec.scale));
            if let Some(cap) = spec.soft_cap {
                s = soft_cap(simd, s, cap);
            }
            simd.store(s, scores);
        }
    }
    scores
}

/// Turns scores into weights relative to the new maximum; returns by what the earlier sums shrink.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32; PAGE_LEN], max: &mut f32, sum: &mut f32) -> f32 {
    let vectors = scores.as_chunks_mut::<LANES>().0;
    let mut page_max = simd.load(&vectors[0]);
    for vector in &vectors[1..] {
        page_max = simd.max(page_max, simd.load(vector));
    }
    let page_max = simd.max_lane(page_max);
    let new_max = if page_max > *max { page_max } else { *max };
    let mut keep = [0.0; LANES];
    simd.store(exp(simd, simd.splat(*max - new_max)), &mut keep);
    let mut page_sum = simd.splat(0.0);
    for vector in vectors {
        let p = exp(simd, simd.sub(simd.load(vector), simd.splat(new_max)));
        page_sum = simd.add(page_sum, p);
        simd.store(p, vector);
    }
    *sum = sum.mul_add(keep[0], simd.sum(page_sum));
    *max = new_max;
    keep[0]
}

/// `out = out · keep + Σ p · value` over the visible positions; `values` begins at the first.
#[inline(always)]
fn add_values<S: Simd, const H: usize>(
    simd: S,
    weights: &[[f32; PAGE_LEN]; H],
    keep: [f32; H],
    values: &[u16],
    visible: std::ops::Range<usize>,
    out: &mut [f32],
) {
    let head_dim = out.len() / H;
    let mut at = 0;
    while head_dim - at >= 4 * LANES {
        add_columns::<S, H, 4>(simd, weights, keep, values, visible.clone(), out, at);
        at += 4 * LANES;
    }
    while at < head_dim {
        add_columns::<S, H, 1>(simd, weights, keep, values, visible.clone(), out, at);
        at += LANES;
    }
}

/// `C` vectors of elements from `at` on.
#[inline(always)]
fn add_columns<S: Simd, const H: usize, const C: usize>(
    simd: S,
    weights: &[[f32; PAGE_LEN]; H],
    keep: [f32; H],
    values: &[u16],
    visible: std::ops::Range<usize>,
    out: &mut [f32],
    at: usize,
) {
    let head_dim = out.len() / H;
    let mut acc = [[simd.splat(0.0); C]; H];
    for h in 0..H {
        let columns = out[h * head_dim + at..].as_chunks::<LANES>().0;
        for c in 0..C {
            acc[h][c] = simd.mul(simd.load(&columns[c]), simd.splat(keep[h]));
        }
    }
    for (values, j) in values.chunks_exact(head_dim).zip(visible) {
        let columns = values[at..].as_chunks::<LANES>().0;
        for c in 0..C {
            let v = simd.load_f16(&columns[c]);
            for h in 0..H {
                acc[h][c] = simd.fma(simd.splat(weights[h][j]), v, acc[h][c]);
            }
        }
    }
    for h in 0..H {
        let columns = out[h * head_dim + at..].as_chunks_mut::<LANES>().0;
        for c in 0..C {
            simd.store(acc[h][c], &mut columns[c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::isa::portable::{f16_to_f32, f32_to_f16};
    use crate::kv::KvShape;
    use crate::test_data::random_values;

    /// Softmax attention as in the paper, in f64, over keys and values rounded to binary16.
    fn plain(
        spec: &AttentionSpec,
        shape: KvShape,
        pos: usize,
        q: &[f32],
        k: &[f32],
        v: &[f32],
    ) -> Vec<f64> {
        let (d, n_kv) = (shape.head_dim, shape.n_kv_heads);
        let rounded = |x: f32| f64::from(f16_to_f32(f32_to_f16(x)));
        let first = spec.window.map_or(0, |window| (pos + 1).saturating_sub(window as usize));
        let mut out = Vec::new();
        for head in 0..spec.n_heads {
            let kv_head = head / (spec.n_heads / n_kv);
            let at = |j: usize, i: usize| (j * n_kv + kv_head) * d + i;
            let scores: Vec<f64> = (first..=pos)
                .map(|j| {
                    let dot: f64 =
                        (0..d).map(|i| f64::from(q[head * d + i]) * rounded(k[at(j, i)])).sum();
                    let s = dot * f64::from(spec.scale);
                    spec.soft_cap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
                })
                .collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for i in 0..d {
                let weighted = scores.iter().zip(first..);
                let o: f64 = weighted.map(|(s, j)| (s - max).exp() * rounded(v[at(j, i)])).sum();
                out.push(o / sum);
            }
        }
        out
    }

    fn check(shape: KvShape, spec: AttentionSpec, n_positions: usize) {
        let row_len = shape.n_kv_heads * shape.head_dim;
        let k = random_values(n_positions * row_len, 1);
        let v = random_values(n_positions * row_len, 2);
        let q = random_values(n_positions * spec.n_heads * shape.head_dim, 3);
        let n_pages = n_positions.div_ceil(PAGE_LEN);
        // Pages in an odd order among others.
        let pages: Vec<u32> = (0..n_pages as u32).rev().map(|page| page * 2 + 1).collect();
        let rows: Vec<Query<'_>> =
            (0..n_positions as u32).map(|pos| Query { pos, pages: &pages }).collect();
        let layer = 1;
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            for batch in [n_positions, 7] {
                let cpu = Cpu::new(isa, 3);
                let mut kv = KvPool::new(shape, 2 * n_pages);
                // What an earlier owner left in a page must not matter.
                kv.fill(f32_to_f16(f32::NAN));
                let mut out = vec![0.0; q.len()];
                for start in (0..n_positions).step_by(batch) {
                    let end = (start + batch).min(n_positions);
                    let (rows, kv_range) = (&rows[start..end], start * row_len..end * row_len);
                    cpu.kv_write(&mut kv, layer, rows, &k[kv_range.clone()], &v[kv_range]);
                    let q_len = spec.n_heads * shape.head_dim;
                    let range = start * q_len..end * q_len;
                    cpu.attention(&kv, layer, &spec, rows, &q[range.clone()], &mut out[range]);
                }
                let expected = first.get_or_insert_with(|| out.clone());
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(expected), bits(&out), "{} in batches of {batch}", isa.name());
            }
        }
        let out = first.unwrap();
        let q_len = spec.n_heads * shape.head_dim;
        for pos in [0, n_positions / 3, n_positions / 2, n_positions - 1] {
            let exact = plain(&spec, shape, pos, &q[pos * q_len..][..q_len], &k, &v);
            for (found, exact) in out[pos * q_len..].iter().zip(exact) {
                assert!(
                    (f64::from(*found) - exact).abs() < 1e-5,
                    "position {pos}: {found} {exact}"
                );
            }
        }
    }

    #[test]
    fn attention_equals_the_paper_and_is_the_same_in_any_batch_and_instruction_set() {
        let spec = |n_heads| AttentionSpec { n_heads, scale: 0.1, soft_cap: None, window: None };
        let shape = |n_kv_heads, head_dim| KvShape { n_layers: 2, n_kv_heads, head_dim };
        check(shape(3, 64), spec(9), 150);
        check(shape(1, 256), spec(4), 70);
        check(shape(2, 32), spec(2), 130);
        check(shape(2, 80), spec(14), 65);
        check(shape(1, 16), spec(5), 1);
        check(shape(2, 64), AttentionSpec { window: Some(16), ..spec(4) }, 200);
        check(shape(2, 64), AttentionSpec { window: Some(64), ..spec(4) }, 200);
        check(shape(2, 64), AttentionSpec { soft_cap: Some(2.0), ..spec(4) }, 90);
    }
}
