//! GPT-2's spelling of bytes as printable characters.
//!
//! Printable bytes of Latin-1 are themselves; the others, in order, are U+0100 and up. So a
//! space is `Ġ` and a line feed `Ċ` (Radford et al. 2019, `bytes_to_unicode` of its code).

/// The first character that stands for a byte which is not printable.
const FIRST_SUBSTITUTE: u32 = 0x100;

/// Whether a byte is spelled as the character of the same number.
const fn is_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The bytes that are not themselves, in order.
const SUBSTITUTED: [u8; 68] = {
    let mut bytes = [0; 68];
    let mut n_found = 0;
    let mut byte = 0;
    while byte < 256 {
        if !is_itself(byte as u8) {
            bytes[n_found] = byte as u8;
            n_found += 1;
        }
        byte += 1;
    }
    assert!(n_found == bytes.len());
    bytes
};

/// The character of each byte.
const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut n_substitutes = 0;
    let mut byte = 0;
    while byte < 256 {
        chars[byte] = if is_itself(byte as u8) {
            byte as u8 as char
        } else {
            n_substitutes += 1;
            match char::from_u32(FIRST_SUBSTITUTE + n_substitutes - 1) {
                Some(c) => c,
                None => panic!("the substitutes are no surrogates"),
            }
        };
        byte += 1;
    }
    chars
};

/// The character that stands for a byte.
pub(super) fn char_of(byte: u8) -> char {
    CHARS[byte as usize]
}

/// The byte that a character stands for.
fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..FIRST_SUBSTITUTE => {
            let byte = u8::try_from(code).ok()?;
            is_itself(byte).then_some(byte)
        }
        code => SUBSTITUTED.get((code - FIRST_SUBSTITUTE) as usize).copied(),
    }
}

/// Appends the bytes that `text` spells; a text that is no spelling stands for itself.
pub(super) fn decode(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in text.chars() {
        let Some(byte) = byte_of(c) else {
            out.truncate(start);
            out.extend_from_slice(text.as_bytes());
            return;
        };
        out.push(byte);
    }
}

/// Appends the spelling of `bytes`.
pub(super) fn encode(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().map(|&byte| char_of(byte)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_spelled_and_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        encode(&bytes, &mut text);
        assert_eq!(text.chars().count(), 256);
        let mut read = Vec::new();
        decode(&text, &mut read);
        assert_eq!(read, bytes);
    }

    #[test]
    fn known_characters() {
        assert_eq!(char_of(b' '), 'Ġ');
        assert_eq!(char_of(b'\n'), 'Ċ');
        assert_eq!(char_of(0xad), 'Ń');
        assert_eq!(char_of(b'a'), 'a');
    }

    #[test]
    fn what_is_no_spelling_stands_for_itself() {
        let mut out = b"x".to_vec();
        decode("a\u{4e00}", &mut out);
        assert_eq!(out, "xa\u{4e00}".as_bytes());
    }
}
