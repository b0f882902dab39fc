//! Speed of attention by itself: prefill in GFLOP/s, decode in GB/s of keys and values.

#![allow(clippy::print_stdout)]

use freehold_kernels::{AttentionSpec, Cpu, Isa, KvFormat, KvPool, KvShape, PAGE_LEN, Query};
use std::time::Instant;

fn values(len: usize) -> Vec<f32> {
    let mut x = 1u32;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn main() {
    let isa = Isa::from_env().expect("an instruction set");
    let n_threads = std::env::args().nth(1).map_or(1, |n| n.parse().expect("threads"));
    let cpu = Cpu::new(isa, n_threads);
    let format = KvFormat::ALL
        .into_iter()
        .find(|format| std::env::args().nth(2).as_deref() == Some(format.name()));
    let format = format.unwrap_or_default();
    println!("{} x{n_threads} {}", isa.name(), format.name());
    for (name, n_heads, n_kv_heads, head_dim) in [
        ("Llama-3.2-1B", 32, 8, 64),
        ("smollm2-135m", 9, 3, 64),
        ("Qwen2.5-1.5B", 12, 2, 128),
        ("gemma3-270m", 4, 1, 256),
        ("8 of one", 8, 1, 128),
        ("no groups", 8, 8, 128),
    ] {
        let n_layers = 8;
        let shape = KvShape { n_layers, n_kv_heads, head_dim, format };
        let spec = AttentionSpec { n_heads, scale: 0.1, soft_cap: None, window: None };
        let depth = 2048;
        let mut kv = KvPool::new(shape, depth / PAGE_LEN + 1);
        let pages: Vec<u32> = (0..(depth / PAGE_LEN + 1) as u32).collect();
        let rows: Vec<Query<'_>> =
            (0..=depth as u32).map(|pos| Query { pos, pages: &pages }).collect();
        let k = values((depth + 1) * n_kv_heads * head_dim);
        for layer in 0..n_layers {
            cpu.kv_write(&mut kv, layer, &rows, &k, &k);
        }
        let q = values(depth * n_heads * head_dim);
        let mut out = vec![0.0; q.len()];
        print!("{name:14}");
        for n in [512, 2048] {
            let n_flop = 2 * n * (n + 1) * n_heads * head_dim;
            let n_values = n * n_heads * head_dim;
            let seconds = best(|layer| {
                cpu.attention(
                    &kv,
                    layer % n_layers,
                    &spec,
                    &rows[..n],
                    &q[..n_values],
                    &mut out[..n_values],
                );
            });
            print!("  prefill {n}: {:6.1} GFLOP/s", n_flop as f64 / seconds / 1e9);
        }
        let n_values = n_heads * head_dim;
        let seconds = best(|layer| {
            let rows = &rows[depth..];
            cpu.attention(&kv, layer % n_layers, &spec, rows, &q[..n_values], &mut out[..n_values]);
        });
        let n_bytes = shape.page_bytes() / n_layers * (depth + 1) / PAGE_LEN;
        println!("  decode at {depth}: {:5.1} GB/s", n_bytes as f64 / seconds / 1e9);
    }
}

/// Seconds of the best of some runs.
fn best(mut run: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    let mut best = f64::MAX;
    let mut n = 0;
    while start.elapsed().as_secs_f64() < 0.6 || n < 3 {
        let start = Instant::now();
        run(n);
        best = best.min(start.elapsed().as_secs_f64());
        n += 1;
    }
    best
}
