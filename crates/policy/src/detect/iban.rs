//! Account numbers (IBAN).

use super::candidate::{Candidate, Found, SURE};
use super::{Group, Kind};
use crate::checksum::mod97;

/// Two letters of a country, two check digits (ISO/IEC 7064 MOD 97-10), as many characters as the
/// country has (ISO 13616, SWIFT's IBAN registry); together or in groups.
pub(super) const IBAN: Kind = Kind {
    name: "iban",
    group: Group::Personal,
    patterns: &[r"(?i-u)\b[A-Z]{2}[0-9]{2}(?:[ \-]?[A-Z0-9]){11,32}"],
    words: &[],
    judge,
};

/// Characters of a country's, in the registry's order.
#[rustfmt::skip]
const LENGTHS: &[(&str, usize)] = &[
    ("AD", 24), ("AE", 23), ("AL", 28), ("AT", 20), ("AZ", 28), ("BA", 20), ("BE", 16), ("BG", 22),
    ("BH", 22), ("BI", 27), ("BR", 29), ("BY", 28), ("CH", 21), ("CR", 22), ("CY", 28), ("CZ", 24),
    ("DE", 22), ("DJ", 27), ("DK", 18), ("DO", 28), ("EE", 20), ("EG", 29), ("ES", 24), ("FI", 18),
    ("FK", 18), ("FO", 18), ("FR", 27), ("GB", 22), ("GE", 22), ("GI", 23), ("GL", 18), ("GR", 27),
    ("GT", 28), ("HR", 21), ("HU", 28), ("IE", 22), ("IL", 23), ("IQ", 23), ("IS", 26), ("IT", 27),
    ("JO", 30), ("KW", 30), ("KZ", 20), ("LB", 28), ("LC", 32), ("LI", 21), ("LT", 20), ("LU", 20),
    ("LV", 21), ("LY", 25), ("MC", 27), ("MD", 24), ("ME", 22), ("MK", 19), ("MN", 20), ("MR", 27),
    ("MT", 31), ("MU", 30), ("NI", 28), ("NL", 18), ("NO", 15), ("OM", 23), ("PK", 24), ("PL", 28),
    ("PS", 29), ("PT", 25), ("QA", 29), ("RO", 24), ("RS", 22), ("RU", 33), ("SA", 24), ("SC", 31),
    ("SD", 18), ("SE", 24), ("SI", 19), ("SK", 24), ("SM", 27), ("SO", 23), ("ST", 25), ("SV", 28),
    ("TL", 23), ("TN", 24), ("TR", 26), ("UA", 29), ("VA", 22), ("VG", 24), ("XK", 20), ("YE", 30),
];

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let text = candidate.as_str();
    let country = text.get(..2)?.to_ascii_uppercase();
    let (_, n_chars) = LENGTHS.iter().find(|(name, _)| *name == country)?;
    let mut places = text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    let n_bytes = places.nth(n_chars - 1)?.0 + 1;
    let next = text[n_bytes..].chars().chain(candidate.after().chars()).next();
    if next.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let chars: Vec<u8> = text[..n_bytes].bytes().filter(u8::is_ascii_alphanumeric).collect();
    let digits = chars[4..].iter().chain(&chars[..4]).flat_map(|&byte| {
        let value = char::from(byte).to_digit(36).unwrap_or(0) as u8;
        // A letter is two digits, 10 to 35.
        [(value > 9).then_some(value / 10), Some(value % 10)].into_iter().flatten()
    });
    if mod97(digits) == 1 { candidate.first(n_bytes, SURE) } else { None }
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn accounts_are_found() {
        check("DE89370400440532013000", &["iban:DE89370400440532013000"]);
        check("GB29 NWBK 6016 1331 9268 19 and", &["iban:GB29 NWBK 6016 1331 9268 19"]);
        check("to NO93 8601 1117 947 or so", &["iban:NO93 8601 1117 947"]);
        check("fr1420041010050500013m02606,", &["iban:fr1420041010050500013m02606"]);
        check(
            "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
            &["iban:MT84 MALT 0110 0001 2345 MTLC AST0 01S"],
        );
    }

    #[test]
    fn others_are_not() {
        check("DE89370400440532013001", &[]);
        check("DE8937040044053201300", &[]);
        check("XX89370400440532013000", &[]);
        check("DE893704004405320130000", &[]);
    }
}
