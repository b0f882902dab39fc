//! Any bytes as the body of a request: it is understood, or refused by a message that can be shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::Limits;
use server::dialects::ollama::{
    check_model_requests, parse_chat, parse_embed, parse_embeddings, parse_generate,
};

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    let read = [
        parse_chat(body, &limits).map(|_| ()),
        parse_generate(body, &limits).map(|_| ()),
        parse_embed(body, &limits).map(|_| ()),
        parse_embeddings(body, &limits).map(|_| ()),
    ];
    for error in read.into_iter().chain(check_model_requests(body)).filter_map(Result::err) {
        let message = format!("{error:?}");
        // A field or value is quoted in part, however long it is.
        assert!(message.len() < 4096, "{} bytes: {message:.200}", message.len());
    }
});
