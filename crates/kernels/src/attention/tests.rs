//! Attention against the paper, and against itself in other batches and instruction sets.

use super::*;
use crate::Isa;
use crate::isa::portable::{f16_to_f32, f32_to_f16};
use crate::kv::{KvFormat, KvShape};
use crate::test_data::random_values;

/// What a format keeps of a head's values.
fn kept(format: KvFormat, x: &[f32]) -> Vec<f64> {
    let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let keep = |x: &f32| match format {
        KvFormat::F16 => f64::from(f16_to_f32(f32_to_f16(*x))),
        KvFormat::Q8 => f64::from((x * (1.0 / scale)).round_ties_even()) * f64::from(scale),
    };
    x.iter().map(keep).collect()
}

/// Softmax attention as in the paper, in f64, over what the format keeps of keys and values.
fn plain(sequence: &Sequence, pos: usize) -> Vec<f64> {
    let Sequence { shape, spec, .. } = sequence;
    let (d, n_kv) = (shape.head_dim, shape.n_kv_heads);
    let first = spec.window.map_or(0, |window| (pos + 1).saturating_sub(window as usize));
    let q = sequence.q(pos..pos + 1);
    let mut out = Vec::new();
    for head in 0..spec.n_heads {
        let kv_head = head / (spec.n_heads / n_kv);
        let at = |j: usize| (j * n_kv + kv_head) * d;
        let score = |j: usize| {
            let k = kept(shape.format, &sequence.k[at(j)..at(j) + d]);
            let dot: f64 = (0..d).map(|i| f64::from(q[head * d + i]) * k[i]).sum();
            let s = dot * f64::from(spec.scale);
            spec.soft_cap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
        };
        let scores: Vec<f64> = (first..=pos).map(score).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let mut o = vec![0.0; d];
        for (s, j) in scores.iter().zip(first..) {
            let v = kept(shape.format, &sequence.v[at(j)..at(j) + d]);
            o.iter_mut().zip(v).for_each(|(o, v)| *o += (s - max).exp() * v);
        }
        out.extend(o.iter().map(|o| o / sum));
    }
    out
}

/// Keys, values and queries of a sequence, and the bits of its attention.
struct Sequence {
    shape: KvShape,
    spec: AttentionSpec,
    k: Vec<f32>,
    v: Vec<f32>,
    q: Vec<f32>,
    pages: Vec<u32>,
}

const LAYER: usize = 1;

impl Sequence {
    fn new(shape: KvShape, spec: AttentionSpec, n_positions: usize, seed: u32) -> Self {
        let kv_len = n_positions * shape.n_kv_heads * shape.head_dim;
        let q_len = n_positions * spec.n_heads * shape.head_dim;
        let n_pages = n_positions.div_ceil(PAGE_LEN) as u32;
        Self {
            shape,
            spec,
            k: random_values(kv_len, seed),
            v: random_values(kv_len, seed + 1),
            q: random_values(q_len, seed + 2),
            // In an odd order among others.
            pages: (0..n_pages).rev().map(|page| page * 2 + 1).collect(),
        }
    }

    fn pool(&self) -> KvPool {
        let mut kv = KvPool::new(self.shape, 2 * self.pages.len());
        // What an earlier owner left in a page must not matter.
        kv.spoil();
        kv
    }

    fn rows(&self, positions: Range<usize>) -> Vec<Query<'_>> {
        let (start, end) = (positions.start as u32, positions.end as u32);
        (start..end).map(|pos| Query { pos, pages: &self.pages }).collect()
    }

    fn write(&self, cpu: &Cpu, kv: &mut KvPool, positions: Range<usize>) {
        let len = self.shape.n_kv_heads * self.shape.head_dim;
        let range = positions.start * len..positions.end * len;
        let rows = self.rows(positions);
        cpu.kv_write(kv, LAYER, &rows, &self.k[range.clone()], &self.v[range]);
    }

    /// Queries of some positions.
    fn q(&self, positions: Range<usize>) -> &[f32] {
        let len = self.spec.n_heads * self.shape.head_dim;
        &self.q[positions.start * len..positions.end * len]
    }

    /// What some positions attend to, when they come in batches of `batch`.
    fn attend(&self, cpu: &Cpu, positions: Range<usize>, batch: usize) -> Vec<f32> {
        let mut kv = self.pool();
        self.write(cpu, &mut kv, 0..positions.start);
        let mut all = Vec::new();
        for start in positions.clone().step_by(batch) {
            let part = start..(start + batch).min(positions.end);
            self.write(cpu, &mut kv, part.clone());
            let (rows, q) = (self.rows(part.clone()), self.q(part));
            let mut out = vec![0.0; q.len()];
            cpu.attention(&kv, LAYER, &self.spec, &rows, q, &mut out);
            all.extend(out);
        }
        all
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn check(shape: KvShape, spec: AttentionSpec, positions: Range<usize>) {
    let sequence = Sequence::new(shape, spec, positions.end, 1);
    let mut first: Option<Vec<f32>> = None;
    for isa in Isa::available() {
        for (batch, n_threads) in [(positions.len(), 1), (positions.len(), 3), (7, 3), (1, 8)] {
            let out = sequence.attend(&Cpu::new(isa, n_threads), positions.clone(), batch);
            let expected = first.get_or_insert_with(|| out.clone());
            let name = isa.name();
            assert_eq!(bits(expected), bits(&out), "{name} in batches of {batch} {n_threads}");
        }
    }
    let out = first.unwrap();
    let q_len = spec.n_heads * shape.head_dim;
    for pos in [positions.start, positions.start + positions.len() / 2, positions.end - 1] {
        let exact = plain(&sequence, pos);
        for (found, exact) in out[(pos - positions.start) * q_len..].iter().zip(exact) {
            assert!((f64::from(*found) - exact).abs() < 1e-5, "position {pos}: {found} {exact}");
        }
    }
}

fn spec(n_heads: usize) -> AttentionSpec {
    AttentionSpec { n_heads, scale: 0.1, soft_cap: None, window: None }
}

fn shape(n_kv_heads: usize, head_dim: usize) -> KvShape {
    KvShape { n_layers: 2, n_kv_heads, head_dim, format: KvFormat::F16 }
}

fn q8(n_kv_heads: usize, head_dim: usize) -> KvShape {
    KvShape { format: KvFormat::Q8, ..shape(n_kv_heads, head_dim) }
}

#[test]
fn attention_equals_the_paper_and_is_the_same_in_any_batch_and_instruction_set() {
    check(shape(3, 64), spec(9), 0..150);
    check(shape(1, 256), spec(4), 0..70);
    check(shape(2, 32), spec(2), 0..130);
    check(shape(2, 80), spec(14), 0..65);
    check(shape(1, 16), spec(5), 0..1);
    check(shape(1, 128), spec(8), 240..275);
    check(shape(1, 128), spec(6), 60..70);
    check(shape(2, 64), AttentionSpec { soft_cap: Some(2.0), ..spec(4) }, 0..90);
}

#[test]
fn segments_merge_in_order_wherever_the_batch_begins() {
    check(shape(1, 64), spec(3), 250..300);
    check(shape(1, 64), spec(1), 1020..1030);
    check(shape(1, 16), spec(4), 2040..2055);
}

#[test]
fn eight_bits_equal_the_paper_over_the_values_kept() {
    check(q8(3, 64), spec(9), 0..130);
    check(q8(1, 80), spec(4), 250..265);
    check(q8(1, 256), AttentionSpec { window: Some(70), ..spec(2) }, 100..140);
}

#[test]
fn windows_begin_in_the_middle_of_pages_and_segments() {
    for (window, positions) in [(16, 0..200), (64, 0..200), (300, 250..330), (512, 1000..1040)] {
        check(shape(2, 16), AttentionSpec { window: Some(window), ..spec(4) }, positions);
    }
}

#[test]
fn sequences_in_one_batch_do_not_see_each_other() {
    let (shape, spec) = (shape(2, 32), spec(6));
    let lens = [300, 1, 65, 20];
    let taken = [260..300, 0..1, 64..65, 3..20];
    let mut sequences: Vec<Sequence> =
        (0..4).map(|idx| Sequence::new(shape, spec, lens[idx], idx as u32)).collect();
    let cpu = Cpu::new(Isa::detect(), 2);
    let alone: Vec<f32> = sequences
        .iter()
        .zip(&taken)
        .flat_map(|(sequence, taken)| sequence.attend(&cpu, taken.clone(), 1))
        .collect();
    let mut n_pages = 0;
    for sequence in &mut sequences {
        sequence.pages = (n_pages..n_pages + sequence.pages.len() as u32).collect();
        n_pages += sequence.pages.len() as u32;
    }
    let mut kv = KvPool::new(shape, n_pages as usize);
    let (mut rows, mut q) = (Vec::new(), Vec::new());
    for (sequence, taken) in sequences.iter().zip(taken) {
        sequence.write(&cpu, &mut kv, 0..taken.end);
        rows.extend(sequence.rows(taken.clone()));
        q.extend_from_slice(sequence.q(taken));
    }
    let mut out = vec![0.0; q.len()];
    cpu.attention(&kv, LAYER, &spec, &rows, &q, &mut out);
    assert_eq!(bits(&alone), bits(&out));
}

#[test]
fn what_does_not_fit_harms_no_earlier_position() {
    for shape in [shape(1, 16), q8(1, 16)] {
        let mut sequence = Sequence::new(shape, spec(2), 40, 1);
        for (at, x) in [(30, f32::NAN), (31, f32::INFINITY), (32, -1e9)] {
            sequence.v[at * 16 + 5] = x;
            sequence.k[at * 16 + 5] = x;
        }
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 2);
            let whole = sequence.attend(&cpu, 0..40, 40);
            assert_eq!(bits(&whole), bits(&sequence.attend(&cpu, 0..40, 1)));
            assert!(whole.iter().all(|x| x.is_finite()));
        }
    }
}

/// As an encoder attends: a row's position says how far it sees, and may be another's too.
#[test]
fn rows_at_one_position_see_the_same_and_each_what_it_would_alone() {
    for n_positions in [1, 40, 64, 130, 300] {
        let sequence = Sequence::new(shape(2, 32), spec(4), n_positions, 1);
        let q_len = 4 * 32;
        let last = sequence.rows(n_positions - 1..n_positions)[0];
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let cpu = Cpu::new(isa, 2);
            let mut kv = sequence.pool();
            sequence.write(&cpu, &mut kv, 0..n_positions);
            let attend = |rows: &[Query<'_>], q: &[f32]| {
                let mut out = vec![0.0; q.len()];
                cpu.attention(&kv, LAYER, &sequence.spec, rows, q, &mut out);
                out
            };
            let together = attend(&vec![last; n_positions], &sequence.q);
            let alone = sequence.q.chunks(q_len).flat_map(|q| attend(&[last], q));
            assert_eq!(bits(&together), bits(&alone.collect::<Vec<_>>()), "{}", isa.name());
            let expected = first.get_or_insert_with(|| together.clone());
            assert_eq!(bits(expected), bits(&together), "{}", isa.name());
        }
    }
}
