//! Opens a file several times; prints what it holds and how long an opening takes.
//!
//! `cargo run --release -p freehold-gguf --example open -- MODEL.gguf`

#![allow(clippy::print_stdout)] // an example is a small program

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gguf::{Array, Error, Gguf, Value};

/// Enough for the fastest of them to be without disturbance.
const N_RUNS: usize = 20;

fn main() -> Result<(), Error> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        println!("usage: open MODEL.gguf");
        return Ok(());
    };
    let mut times: Vec<Duration> = Vec::with_capacity(N_RUNS);
    for _ in 0..N_RUNS {
        let start = Instant::now();
        let file = Gguf::open(&path)?;
        times.push(start.elapsed());
        drop(file);
    }
    times.sort_unstable();
    let file = Gguf::open(&path)?;
    println!(
        "{}: version {}, {} keys, {} tensors, {} bytes in {} part(s)",
        path.display(),
        file.version(),
        file.metadata().len(),
        file.tensors().len(),
        file.n_bytes(),
        file.files().len(),
    );
    for (key, value) in file.metadata().iter() {
        if let Value::Array(Array::Strings(strings)) = value {
            println!("{key}: {} strings, {} bytes", strings.len(), strings.n_bytes());
        }
    }
    let median = times[N_RUNS / 2];
    println!("opened in {:?} (median of {N_RUNS}; fastest {:?})", median, times[0]);
    Ok(())
}
