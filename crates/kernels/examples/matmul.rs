//! Speed of matrix products by themselves: G products a second, by shape, format and tokens.
//! `matmul [THREADS] [FORMAT] [TOKENS]`.

#![allow(clippy::print_stdout)]

use freehold_kernels::{Activations, Cpu, Format, Isa, Needs, OutMode, Precision, Product};
use std::time::Instant;

fn main() {
    let isa = Isa::from_env().expect("an instruction set");
    let mut args = std::env::args().skip(1);
    let n_threads = args.next().map_or(1, |n| n.parse().expect("threads"));
    let name = args.next();
    let formats = Format::ALL.into_iter().filter(|f| f.is_quantised());
    let formats = formats.filter(|f| name.as_deref().is_none_or(|name| name == f.name()));
    let n_tokens: usize = args.next().map_or(512, |n| n.parse().expect("tokens"));
    let cpu = Cpu::new(isa, n_threads);
    println!("{} x{n_threads}, {n_tokens} tokens; 8 and 16 bits", isa.name());
    for format in formats {
        print!("{:8}", format.name());
        // Gate and down of a 1.5B model, of one with 135M, and more than any cache holds.
        for (n_rows, n_cols) in [(8960, 1536_usize), (1536, 8960), (1536, 576), (151_936, 1536)] {
            if !n_cols.is_multiple_of(format.block_len()) {
                continue;
            }
            let n_blocks = n_rows * n_cols / format.block_len();
            let mut bytes = vec![0x11; n_blocks * format.block_bytes()];
            bytes.iter_mut().enumerate().for_each(|(i, b)| *b = (i * 7 % 61) as u8);
            let weight = cpu.pack(format, n_rows, n_cols, &bytes).expect("a matrix");
            let mut x = Activations::new();
            let mut out = vec![0.0; n_rows * n_tokens];
            print!("   {n_rows}x{n_cols}");
            for precision in [Precision::Bits8, Precision::Bits16] {
                let values = x.set(n_tokens, n_cols).iter_mut().enumerate();
                values.for_each(|(i, x)| *x = (i * 37 % 101) as f32 - 50.3);
                cpu.quantise(&mut x, Needs::of(&[&weight], precision));
                let mut best = f64::MAX;
                for _ in 0..5 {
                    let began = Instant::now();
                    let product = Product { weight: &weight, out: &mut out, mode: OutMode::Store };
                    cpu.matmul(&x, &mut [product]);
                    best = best.min(began.elapsed().as_secs_f64());
                }
                print!(" {:6.1}", 1e-9 * (n_rows * n_cols * n_tokens) as f64 / best);
            }
        }
        println!();
    }
}
