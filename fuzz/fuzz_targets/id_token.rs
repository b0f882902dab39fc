//! Any bytes as the keys that an issuer publishes and, on the last line, an ID token: read, or
//! refused in words that have nothing of the token; and none that our issuer has not signed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::read_id_token;

/// The keys of an issuer that signs nothing here (RFC 8037, appendix A.2).
const OURS: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// Issuer, client and nonce.
const EXPECTED: (&str, &str, &str) = ("https://i.example", "us", "n-1");
const NOW_S: i64 = 1_000_000;
/// Shortest part of a token that no message has by chance: a word as long as this is in none, while
/// the fuzzer finds their words with the spaces between them.
const N_TOLD_BYTES: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().rposition(|byte| *byte == b'\n');
    let (theirs, token) = at.map_or((&b""[..], bytes), |at| (&bytes[..at], &bytes[at + 1..]));
    let token = String::from_utf8_lossy(token);
    for keys in [theirs, OURS] {
        match read_id_token(&token, keys, EXPECTED, NOW_S) {
            Ok(subject) => {
                assert!(keys == theirs, "nobody has signed it");
                assert!((1..=255).contains(&subject.len()));
                let other = format!("{token}=");
                assert!(read_id_token(&other, keys, EXPECTED, NOW_S).is_err(), "it has two texts");
            }
            Err(message) => {
                assert!(message.len() < 256, "{} bytes: {message:.200}", message.len());
                let mut parts = token.split(['.', ' ']).filter(|part| part.len() >= N_TOLD_BYTES);
                assert!(!parts.any(|part| message.contains(part)), "{message}");
            }
        }
    }
});
