//! Any bytes as the body of a request: it is understood, or refused by a message that can be shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::Limits;
use server::dialects::openai::{parse_chat, parse_completion, parse_embedding};
use server::dialects::rerank;

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    for error in [
        parse_chat(body, &limits).err(),
        parse_completion(body, &limits).err(),
        parse_embedding(body, &limits).err(),
        rerank::parse(body, &limits).err(),
    ] {
        let Some(error) = error else { continue };
        let message = format!("{error:?}");
        // A field or value is quoted in part, however long it is.
        assert!(message.len() < 4096, "{} bytes: {message:.200}", message.len());
    }
});
