//! Any bytes as a form that sends a file, and as the lines of a batch: understood, or refused by a
//! message that can be shown; a form has the same parts however it arrives.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::dialects::{multipart, openai};

fuzz_target!(|body: &[u8]| {
    let whole = multipart::read_all(body, "xyz", usize::MAX);
    for n_bytes in [1, 7] {
        assert_eq!(multipart::read_all(body, "xyz", n_bytes), whole);
    }
    let problems = openai::check_batch(body).err().unwrap_or_default();
    for message in whole.err().into_iter().chain(problems) {
        // A field or value is quoted in part, however long it is.
        assert!(message.len() < 4096, "{} bytes: {message:.200}", message.len());
    }
});
