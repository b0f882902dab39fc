//! Any bytes as a bundle: its index, its tar and its signature. What is no bundle is refused by a
//! short message; what nobody signed is never one.

#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use store::{BundleIndex, Silent};

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = BundleIndex::verify(Cursor::new(bytes), Path::new("bundle"), &Silent) {
        let message = error.to_string();
        assert!(message.len() < 20_000 && message.starts_with("bundle: "), "{message}");
    }
});
