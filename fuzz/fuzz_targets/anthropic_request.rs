//! Any bytes as the body of a request: it is understood, or refused by a message that can be shown.
//! What is counted is what would be answered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::Limits;
use server::dialects::anthropic::{parse_count, parse_messages};

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    let [answered, counted] = [parse_messages(body, &limits), parse_count(body, &limits)];
    if let Ok(answered) = &answered {
        let counted = counted.as_ref().expect("a request that is answered is counted too");
        assert_eq!(counted.call.prompts, answered.call.prompts);
    }
    for error in [answered.err(), counted.err()].into_iter().flatten() {
        let message = format!("{error:?}");
        // A field or value is quoted in part, however long it is.
        assert!(message.len() < 4096, "{} bytes: {message:.200}", message.len());
    }
});
