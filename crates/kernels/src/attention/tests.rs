//! Attention against the paper, and against itself in other batches and instruction sets.

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
            assert!((f64::from(*found) - exact).abs() < 1e-5, "position {pos}: {found} {exact}");
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
