//! Any bytes as frames between a server and its broker: the same whatever the pieces, and what was
//! read is written as it was.

#![no_main]

use broker::frame::{Decoder, Frame, FrameError, PAYLOAD_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fn decode(bytes: &[u8], n_piece_bytes: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(n_piece_bytes.max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|bytes: &[u8]| {
    let (frames, error) = decode(bytes, bytes.len());
    for n_piece_bytes in [1, 13, 64] {
        assert_eq!(decode(bytes, n_piece_bytes), (frames.clone(), error.clone()));
    }
    let mut again = Vec::new();
    for frame in &frames {
        assert!(frame.payload.len() <= PAYLOAD_BYTES_MAX);
        frame.encode(&mut again).expect("what was read is within bounds");
    }
    assert!(bytes.starts_with(&again));
});
