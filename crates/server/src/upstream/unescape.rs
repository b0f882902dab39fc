//! The brackets of pseudonyms where a text of JSON has them escaped, `\u27e6` for `⟦`: whoever
//! restores looks for the character.

/// Reads a text of JSON piece by piece, and writes those two characters as they are.
#[derive(Debug, Default)]
pub(super) struct Unescape {
    /// An escape that has begun.
    held: String,
}

impl Unescape {
    /// Characters of `\u27e6`.
    const LEN: usize = 6;

    /// Takes the next piece, and returns what is certain of it.
    pub(super) fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            if self.held.is_empty() && c != '\\' {
                out.push(c);
                continue;
            }
            self.held.push(c);
            let is_over = match self.held.chars().count() {
                1 => false,
                2 => c != 'u',
                Self::LEN => true,
                _ => !c.is_ascii_hexdigit(),
            };
            if is_over {
                out.push_str(&self.end());
            }
        }
        out
    }

    /// What was held back.
    pub(super) fn end(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        match held.strip_prefix("\\u").map(str::to_ascii_lowercase).as_deref() {
            Some("27e6") => "⟦".to_owned(),
            Some("27e7") => "⟧".to_owned(),
            _ => held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        for cut in (0..=text.len()).filter(|&cut| text.is_char_boundary(cut)) {
            let mut unescape = Unescape::default();
            let (begin, rest) = text.split_at(cut);
            let found = unescape.push(begin) + &unescape.push(rest) + &unescape.end();
            assert_eq!(found, expected, "{text} cut at {cut}");
        }
    }

    #[test]
    fn only_the_brackets_are_written_otherwise() {
        check(r#"{"a":"\u27e6EMAIL_1\u27E7"}"#, r#"{"a":"⟦EMAIL_1⟧"}"#);
        check(r"\u27e8 \u00e9 \n \\u27e6 \\\u27e7", r"\u27e8 \u00e9 \n \\u27e6 \\⟧");
        check(r"é\u27", r"é\u27");
        check(r"\", r"\");
    }
}
