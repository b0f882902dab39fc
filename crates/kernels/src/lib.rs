//! The maths of Freehold: quantised weights times activations, attention, norms, on CPUs.
//!
//! # The contract
//!
//! Every function here gives **the same bits** whatever the thread count, the batch around a token,
//! and the instruction set. It is kept by construction: *lanes are outputs*. An output element is
//! one lane with one fixed order of operations; nothing is summed across threads, and what is
//! summed across lanes uses a fixed tree. Changing any result bit is a new numerics version
//! ([`NUMERICS_VERSION`]).
//!
//! # How it is built
//!
//! - `isa.rs`: the vector operations and the instruction sets that have them. A kernel is written
//!   once, over those operations, and compiled for each.
//! - `format.rs`, `formats/`: what each weight format says of itself. `planes.rs`, `matrix.rs`: how
//!   weights are packed. `matmul.rs`: the products. Formats and instruction sets add up, they do
//!   not multiply: nobody writes a kernel for a pair.
//! - `activations.rs`, `elementwise.rs`, `rope.rs`, `kv.rs`, `attention.rs`: everything else of a
//!   transformer.
//! - `arena.rs`, `heap.rs`: memory.
//! - `pool.rs`: the threads. `reference.rs`: the slow twin that defines matrix products.
//!   `limits.rs`: what the machine can do at best.
//!
//! ```
//! use freehold_kernels::{Activations, Cpu, Format, Isa, Needs, OutMode, Precision, Product};
//!
//! let cpu = Cpu::new(Isa::detect(), 2);
//! // A 2 × 2 matrix of f32, as a GGUF file holds it.
//! let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|w| w.to_le_bytes()).collect();
//! let weight = cpu.pack(Format::F32, 2, 2, &bytes)?;
//! let mut x = Activations::new();
//! x.set(1, 2).copy_from_slice(&[10.0, 1.0]);
//! let precision = Precision::Bits8;
//! cpu.quantise(&mut x, Needs::of(&[&weight], precision));
//! let mut out = [0.0; 2];
//! let (weight, mode) = (&weight, OutMode::Store);
//! cpu.matmul(&x, &mut [Product { weight, out: &mut out, mode }]);
//! assert_eq!(out, [12.0, 34.0]);
//! # Ok::<(), freehold_kernels::PackError>(())
//! ```

// Lanes, tokens and strips are indices into several arrays at once; iterators would hide that.
#![allow(clippy::needless_range_loop)]

mod activations;
mod arena;
mod attention;
mod cpu;
mod elementwise;
#[macro_use]
mod format;
mod formats;
mod heap;
mod isa;
mod kv;
mod limits;
mod matmul;
mod matrix;
mod planes;
mod pool;
#[cfg(test)]
mod reference;
mod rope;
#[cfg(test)]
mod test_data;

pub use activations::{Activations, Needs, Precision};
pub use arena::Arena;
pub use attention::AttentionSpec;
pub use cpu::Cpu;
pub use format::Format;
pub use heap::give_freed_memory_back;
pub use isa::{ISA_VARIABLE, Isa, IsaError};
pub use kv::{KvFormat, KvPool, KvShape, PAGE_LEN, Query};
pub use matmul::{OutMode, Product, STRIP_ROWS};
pub use matrix::{Matrix, PackError};
pub use pool::N_THREADS_MAX;
pub use rope::{HeadShape, RopePairing};

/// Version of the arithmetic: two builds with the same number give the same bits.
pub const NUMERICS_VERSION: u32 = 2;
