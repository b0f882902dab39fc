//! Any bytes as the GGUF file of a tokenizer; then a text through it and back.
//!
//! The text is the file's own `fuzz.text`, so that the fuzzer can change it too.

#![no_main]

use gguf::Gguf;
use libfuzzer_sys::fuzz_target;
use text::{Special, StreamDecoder, Tokenizer};

/// Words, digits, white space, marks, several scripts, an emoji of several code points.
const SAMPLE: &str = "Hello  world's 1234\n\n\t<|im_start|></s> ÀÉ字の한 👩‍👧 \u{0}\u{200d}a\u{301}";

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Gguf::from_bytes(bytes.to_vec()) else { return };
    let Ok(tokenizer) = Tokenizer::from_gguf(file.metadata()) else { return };
    let n_vocab = tokenizer.n_vocab();
    for id in [tokenizer.bos(), tokenizer.eos()].into_iter().flatten() {
        assert!((id as usize) < n_vocab);
    }
    let own = file.metadata().str("fuzz.text").ok().flatten().unwrap_or_default();
    for text in [SAMPLE, own] {
        for special in [Special::Parse, Special::Plain] {
            let ids = tokenizer.encode(text, special);
            assert!(ids.iter().all(|&id| (id as usize) < n_vocab));
            let mut streamed = String::new();
            let mut decoder = StreamDecoder::new();
            for &id in &ids {
                decoder.push(&tokenizer, id, &mut streamed);
                let _ = (tokenizer.is_control(id), tokenizer.is_end_of_generation(id));
                let _ = (tokenizer.token_text(id), tokenizer.token_bytes(id));
            }
            decoder.finish(&mut streamed);
            assert_eq!(streamed, tokenizer.decode(&ids));
        }
    }
});
