//! Hashes, keys and signatures as hexadecimal digits, as they stand in files and exports.

/// `bytes` as lower-case digits, two each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that `text` writes as exactly two digits each; `None` if it writes others.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |d: u8| char::from(d).to_digit(16);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes_and_nothing_else_is() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(from_hex("009FFf"), Some([0, 0x9f, 0xff]));
        for bad in ["", "0", "0011223", "00112g", "00 112", "+0+0+0", "ää9"] {
            assert_eq!(from_hex::<3>(bad), None, "{bad}");
        }
    }
}
