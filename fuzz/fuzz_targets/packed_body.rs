//! Any bytes as a body that says it is packed with zstd: unpacked within its bound, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::unpack_zstd;

const N_BYTES_MAX: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    match unpack_zstd(bytes, N_BYTES_MAX) {
        Ok(unpacked) => assert!(unpacked.len() <= N_BYTES_MAX),
        Err(error) => assert!(error.to_string().len() < 512, "{error}"),
    }
});
