//! Any bytes as what an upstream answers, of either kind, in one piece and as events: an answer, or
//! none for a reason that can be shown, and the same however the bytes are cut.

#![no_main]

use broker::UpstreamKind::{Anthropic, OpenAi};
use libfuzzer_sys::fuzz_target;
use server::read_answer;

/// What is answered: OpenAI's kind may have alternatives and log-probabilities.
const SEVERAL: &[u8] = br#"{"messages":[{"role":"user","content":"Hi"}],"n":2,"logprobs":true,
    "tools":[{"type":"function","function":{"name":"f"}}]}"#;
const ONE: &[u8] = br#"{"messages":[{"role":"user","content":"Hi"}],
    "tools":[{"type":"function","function":{"name":"f"}}]}"#;

fuzz_target!(|bytes: &[u8]| {
    for (kind, request) in [(OpenAi, SEVERAL), (OpenAi, ONE), (Anthropic, ONE)] {
        for is_streamed in [true, false] {
            let read = |pieces: &[&[u8]]| read_answer(request, kind, is_streamed, pieces);
            let whole = read(&[bytes]);
            for n_piece_bytes in [1, 2, 3, 7, 61] {
                let pieces: Vec<&[u8]> = bytes.chunks(n_piece_bytes).collect();
                assert_eq!(read(&pieces), whole, "{n_piece_bytes} bytes a piece");
            }
            if let Err(message) = whole {
                // A name is quoted in part, however long it is.
                assert!(message.len() < 1024, "{} bytes: {message:.200}", message.len());
            }
        }
    }
});
