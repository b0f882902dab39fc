//! Puts values back where an answer has their pseudonyms, however the answer is cut.

use crate::redact::{Pseudonyms, pseudonym_end};

/// How a value is written into an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// As it is.
    None,
    /// As a part of a JSON string (RFC 8259 section 7), such as the arguments of a call.
    Json,
}

/// Restores one answer, piece by piece. It holds back what may be the beginning of a pseudonym, so
/// less than the longest has.
#[derive(Debug)]
pub struct Restorer<'a> {
    pseudonyms: &'a Pseudonyms,
    escape: Escape,
    held: String,
}

impl<'a> Restorer<'a> {
    /// Of an answer to what was redacted with `pseudonyms`.
    pub fn new(pseudonyms: &'a Pseudonyms, escape: Escape) -> Self {
        Self { pseudonyms, escape, held: String::new() }
    }

    /// Takes the next piece of the answer, and returns what is certain of it.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let mut restored = String::with_capacity(self.held.len());
        let mut rest = self.held.as_str();
        while let Some(at) = rest.find('⟦') {
            restored.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = pseudonym_end(rest);
            match end.and_then(|end| Some((end, self.pseudonyms.value(&rest[..end])?))) {
                Some((end, value)) => {
                    write(&mut restored, value, self.escape);
                    rest = &rest[end..];
                }
                None if self.pseudonyms.begins(rest) => {
                    self.held = rest.to_owned();
                    return restored;
                }
                None => {
                    restored.push('⟦');
                    rest = &rest['⟦'.len_utf8()..];
                }
            }
        }
        restored.push_str(rest);
        self.held.clear();
        restored
    }

    /// Ends the answer: returns what was held back.
    pub fn finish(self) -> String {
        self.held
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

fn write(text: &mut String, value: &str, escape: Escape) {
    if escape == Escape::None {
        text.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            c if c < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::{Detector, Settings};

    fn of(text: &str) -> (Pseudonyms, String) {
        let mut pseudonyms = Pseudonyms::new();
        let settings = Settings { names: vec!["Ada".to_owned()], ..Settings::default() };
        let redacted = pseudonyms.redact(&Detector::new(&settings), text).unwrap();
        (pseudonyms, redacted.text)
    }

    /// Restores `pieces`, holding back less than a pseudonym.
    fn restored<'a>(pseudonyms: &Pseudonyms, pieces: impl IntoIterator<Item = &'a str>) -> String {
        let mut restorer = Restorer::new(pseudonyms, Escape::None);
        let mut whole = String::new();
        for piece in pieces {
            whole.push_str(&restorer.push(piece));
            assert!(restorer.held() == 0 || restorer.held() < pseudonyms.longest());
        }
        whole + &restorer.finish()
    }

    #[test]
    fn every_cut_gives_the_same() {
        let text = "Ada <a@x.org> and ⟦EMAIL_1⟧, ⟦ada⟧; ⟦NAME_ b@x.org⟧ ⟦";
        let (pseudonyms, redacted) = of(text);
        assert_eq!(pseudonyms.longest(), "⟦LITERAL_1⟧".len());
        let cuts: Vec<usize> = redacted.char_indices().map(|(at, _)| at).collect();
        for &first in &cuts {
            for &second in cuts.iter().filter(|&&second| second >= first) {
                let pieces = [&redacted[..first], &redacted[first..second], &redacted[second..]];
                assert_eq!(restored(&pseudonyms, pieces), text, "cut at {first} and {second}");
            }
        }
        let chars: Vec<String> = redacted.chars().map(String::from).collect();
        assert_eq!(restored(&pseudonyms, chars.iter().map(String::as_str)), text);
    }

    #[test]
    fn what_was_not_allotted_stays() {
        let (pseudonyms, _) = of("a@x.org");
        for answer in ["⟦EMAIL_2⟧", "⟦EMAIL_1", "⟦⟦", "⟦EMAIL_1 ⟧", "EMAIL_1", "⟧⟦"]
        {
            assert_eq!(restored(&pseudonyms, [answer]), answer);
        }
        assert_eq!(restored(&pseudonyms, ["⟦EMAIL_⟦EMAIL_1⟧"]), "⟦EMAIL_a@x.org");
    }

    #[test]
    fn a_value_in_json_stays_in_its_string() {
        let mut pseudonyms = Pseudonyms::new();
        let settings = Settings { names: vec!["a\"\\\n\u{1}b".to_owned()], ..Settings::default() };
        let text = "a\"\\\n\u{1}b";
        let redacted = pseudonyms.redact(&Detector::new(&settings), text).unwrap();
        assert_eq!(redacted.text, "⟦NAME_1⟧");
        let mut restorer = Restorer::new(&pseudonyms, Escape::Json);
        assert_eq!(restorer.push("\"⟦NAME_1⟧\""), "\"a\\\"\\\\\\n\\u0001b\"");
    }

    proptest! {
        /// Whatever a text is made of, and however its redacted form is cut, it comes back.
        #[test]
        fn a_redacted_text_comes_back(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "a@x.org", "Ada", "⟦", "⟧", "EMAIL_1", "⟦EMAIL_1⟧", "⟦LITERAL_1⟧", " ", "_", "1",
                    "4111 1111 1111 1111", "x", "é", "\n", "NAME",
                ]),
                0..20,
            ),
            cuts in prop::collection::vec(0_usize..400, 0..6),
        ) {
            let text = parts.concat();
            let (pseudonyms, redacted) = of(&text);
            let mut cuts: Vec<usize> =
                cuts.into_iter().map(|at| redacted.floor_char_boundary(at)).collect();
            cuts.extend([0, redacted.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &redacted[cut[0]..cut[1]]).collect();
            prop_assert_eq!(restored(&pseudonyms, pieces), text);
        }
    }
}
