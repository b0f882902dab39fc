//! Base64 as signatures, keys and logins have it (RFC 4648).

/// Reads base64 with padding (section 4), with or without a line's end behind it.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.trim_end().as_bytes();
    let n_padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    if !bytes.len().is_multiple_of(4) || n_padding > 2 {
        return None;
    }
    let (mut out, mut bits, mut n_bits) = (Vec::new(), 0_u32, 0);
    for byte in &bytes[..bytes.len() - n_padding] {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            // Eight bits.
            out.push((bits >> n_bits & 0xff) as u8);
        }
    }
    Some(out)
}

/// Writes base64 with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for idx in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * idx) & 63) as usize];
            out.push(if idx > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_the_standard_says_and_nothing_else_is() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==\n", "foob"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
            assert_eq!(encode(bytes.as_bytes()), text.trim_end());
        }
        assert_eq!(decode("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        for bad in ["Z", "Zg", "Zg=", "Z===", "=Zg=", "Zm-_", "Zm 9"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
