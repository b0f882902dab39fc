//! Numbers as people read them.

/// `n` with a comma between groups of three digits: `98,362,432`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `n_bytes` in the largest binary unit that leaves at least one whole: `93.8 MiB`.
pub(crate) fn bytes(n_bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n_bytes < 1024 {
        return format!("{n_bytes} B");
    }
    let mut value = n_bytes as f64 / 1024.0;
    let mut unit_idx = 0;
    while value >= 1024.0 && unit_idx + 1 < UNITS.len() {
        value /= 1024.0;
        unit_idx += 1;
    }
    format!("{value:.1} {}", UNITS[unit_idx])
}

/// Reads a size as [`bytes`] writes it, or shorter: `512M`, `16GiB`, `1.5 GiB`, plain bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let n_digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(n_digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        "t" | "tib" => Some(40),
        _ => None,
    };
    let value = digits.parse::<f64>().ok().zip(shift);
    let value = value.map(|(value, shift)| value * f64::from(1_u32 << 10).powi(shift / 10));
    match value {
        // Saturates; a size beyond the address space is as good as none.
        Some(value) if value.is_finite() => Ok(value as u64),
        _ => Err("expected a size such as 512MiB or 16GiB".to_owned()),
    }
}

/// Tokens per second, 0 when nothing was measured.
pub(crate) fn rate(n_tokens: u32, seconds: f64) -> f64 {
    if seconds > 0.0 { f64::from(n_tokens) / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(98_362_432), "98,362,432");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(98_362_432), "93.8 MiB");
        assert_eq!(bytes(5 << 40), "5.0 TiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        for n_bytes in [1023, 93 << 20, 5 << 40] {
            assert_eq!(parse_bytes(&bytes(n_bytes)), Ok(n_bytes));
        }
        assert_eq!(parse_bytes("1.5g"), Ok(3 << 29));
        for text in ["", "GiB", "1.2.3", "16GB", "-1", "1e3", "nan"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(rate(10, 0.0), 0.0);
        assert_eq!(rate(10, 2.0), 5.0);
    }
}
