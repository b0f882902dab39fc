//! Writes a model anew: otherwise packed and bit-equal, or with fewer bits a weight.
//!
//! `cargo run --release -p freehold-gguf --example repack -- IN.gguf OUT.gguf BITS [NAME]`
//!
//! With 4 bits, the order of tensors and metadata and the alignment change and no value does. With
//! 1 to 3 the codes of Q4_1 blocks are rounded to as many bits as that, of all tensors or of those
//! with NAME in theirs: a coarser quantisation, in blocks that stay as long as they were.
//! `freehold test` is to pass the one and refuse the other.
#![allow(clippy::print_stdout)] // an example is a small program

use std::error::Error;
use std::path::Path;

use gguf::write::Writer;
use gguf::{Gguf, TensorType, Value};

/// Bits of a code of Q4_1.
const N_BITS: u32 = 4;
/// A Q4_1 block: scale and minimum in binary16, then 32 codes, two a byte.
const BLOCK_BYTES: usize = 20;
const HEAD_BYTES: usize = 4;
const ALIGNMENT_KEY: &str = "general.alignment";

/// Writes the model at `from` to `to`, coarser in the tensors with `name` in theirs.
pub fn repack(from: &Path, to: &Path, n_bits: u32, name: &str) -> Result<(), Box<dyn Error>> {
    if !(1..=N_BITS).contains(&n_bits) {
        return Err(format!("{n_bits} bits, expected 1 to {N_BITS}").into());
    }
    let file = Gguf::open(from)?;
    let mut writer = Writer::new();
    writer.metadata(ALIGNMENT_KEY, Value::U32(256));
    let entries: Vec<_> = file.metadata().iter().filter(|(key, _)| *key != ALIGNMENT_KEY).collect();
    for (key, value) in entries.into_iter().rev() {
        writer.metadata(key, value.clone());
    }
    let mut n_coarse = 0;
    for tensor in file.tensors().iter().rev() {
        let mut bytes = file.data(tensor).to_vec();
        if n_bits < N_BITS && tensor.ty == TensorType::Q4_1 && tensor.name.contains(name) {
            n_coarse += 1;
            bytes.chunks_exact_mut(BLOCK_BYTES).for_each(|block| coarsen(block, n_bits));
        }
        writer.tensor(&tensor.name, &tensor.shape, tensor.ty, bytes);
    }
    if n_bits < N_BITS && n_coarse == 0 {
        return Err(format!("no Q4_1 tensor with {name:?} in its name, expected some").into());
    }
    std::fs::write(to, writer.finish()?)?;
    Ok(())
}

/// Rounds the codes of a block to the nearest of `2^n_bits` levels from 0 to 15.
fn coarsen(block: &mut [u8], n_bits: u32) {
    let most = (1_u32 << n_bits) - 1;
    let code = |code: u8| {
        let level = (u32::from(code) * most + 7) / 15;
        ((level * 15 + most / 2) / most) as u8
    };
    for byte in &mut block[HEAD_BYTES..] {
        *byte = code(*byte & 15) | code(*byte >> 4) << 4;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, n_bits, name @ ..] = &args[..] else {
        return Err("expected IN.gguf OUT.gguf BITS [NAME]".into());
    };
    let name = name.first().map_or("", String::as_str);
    repack(Path::new(from), Path::new(to), n_bits.parse()?, name)?;
    println!("{to}: written");
    Ok(())
}
