//! Any bytes as the body of a request for a response: it is understood, or refused by a message
//! that can be shown. A server that keeps responses understands what one does that keeps none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::Limits;
use server::dialects::openai::parse_response;
use std::time::Duration;

fuzz_target!(|body: &[u8]| {
    let none = Limits::default();
    let keeping = Limits { keep_responses: Some(Duration::from_secs(60)), ..Limits::default() };
    let [plain, kept] = [parse_response(body, &none), parse_response(body, &keeping)];
    if let Ok(plain) = &plain {
        let kept = kept.as_ref().expect("what needs nothing kept is understood everywhere");
        assert_eq!(kept.call, plain.call);
    }
    for error in [plain.err(), kept.err()].into_iter().flatten() {
        let message = format!("{error:?}");
        // A field or value is quoted in part, however long it is.
        assert!(message.len() < 4096, "{} bytes: {message:.200}", message.len());
    }
});
