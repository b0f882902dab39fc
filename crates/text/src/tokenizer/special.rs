//! Tokens that are found in a text before anything else: control and user-defined ones.
//!
//! The leftmost match wins, and of those the longest, as in the publishers' tokenizers.

use super::error::{TokenizerError, quoted};

/// The longest text that may be matched this way. Real ones stay below 100 bytes; without a
/// bound a text of near-matches could cost its length times this.
const N_MARK_BYTES_MAX: usize = 1024;

/// A set of texts and their tokens.
pub(super) struct Marks {
    /// In order of the text.
    texts: Vec<(Box<[u8]>, u32)>,
    /// For each first byte, its range in `texts`.
    first: Box<[(u32, u32); 256]>,
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Span<'a> {
    /// Ordinary text, never empty.
    Text(&'a str),
    /// A token found in it.
    Mark(u32),
}

impl Marks {
    /// The set of `(text, id)`; of equal texts the first counts.
    pub(super) fn new(marks: impl Iterator<Item = (String, u32)>) -> Result<Self, TokenizerError> {
        let mut texts = Vec::new();
        for (text, id) in marks {
            if text.len() > N_MARK_BYTES_MAX {
                return Err(TokenizerError::Token {
                    key: "tokenizer.ggml.tokens",
                    id,
                    found: quoted(&text),
                    expected: format!("at most {N_MARK_BYTES_MAX} bytes in a special token"),
                });
            }
            if !text.is_empty() {
                texts.push((text.into_bytes().into_boxed_slice(), id));
            }
        }
        texts.sort();
        texts.dedup_by(|later, earlier| later.0 == earlier.0);
        let mut first = Box::new([(0, 0); 256]);
        for (idx, (text, _)) in (0u32..).zip(&texts) {
            let range = &mut first[text[0] as usize];
            if range.1 == 0 {
                range.0 = idx;
            }
            range.1 = idx + 1;
        }
        Ok(Self { texts, first })
    }

    /// Cuts `text` at the marks in it.
    pub(super) fn spans<'a>(&'a self, text: &'a str) -> Spans<'a> {
        Spans { marks: self, rest: text, mark: None }
    }

    /// The longest mark at the start of `bytes`: its length and id.
    fn longest_at(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let (lo, hi) = self.first[*bytes.first()? as usize];
        // The marks that agree with `bytes` so far; each round one byte more.
        let mut range = &self.texts[lo as usize..hi as usize];
        let mut longest = None;
        for depth in 1.. {
            match range.first() {
                Some((text, id)) if text.len() == depth => {
                    longest = Some((depth, *id));
                    range = &range[1..];
                }
                _ => {}
            }
            let Some(&next) = bytes.get(depth) else { break };
            range = &range[range.partition_point(|(text, _)| text[depth] < next)..];
            range = &range[..range.partition_point(|(text, _)| text[depth] == next)];
            if range.is_empty() {
                break;
            }
        }
        longest
    }
}

/// The pieces of a text, in order.
pub(super) struct Spans<'a> {
    marks: &'a Marks,
    rest: &'a str,
    /// Found behind the text that was given out last.
    mark: Option<u32>,
}

impl Spans<'_> {
    /// Drops white space from what is not given out yet.
    pub(super) fn trim_start(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

impl<'a> Iterator for Spans<'a> {
    type Item = Span<'a>;

    fn next(&mut self) -> Option<Span<'a>> {
        if let Some(id) = self.mark.take() {
            return Some(Span::Mark(id));
        }
        let bytes = self.rest.as_bytes();
        for start in 0..bytes.len() {
            if self.marks.first[bytes[start] as usize].1 == 0 {
                continue;
            }
            let Some((len, id)) = self.marks.longest_at(&bytes[start..]) else { continue };
            // A mark is whole characters, so where its bytes are found is a character's border.
            let text = &self.rest[..start];
            self.rest = &self.rest[start + len..];
            if text.is_empty() {
                return Some(Span::Mark(id));
            }
            self.mark = Some(id);
            return Some(Span::Text(text));
        }
        let text = std::mem::take(&mut self.rest);
        (!text.is_empty()).then_some(Span::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(marks: &[&str], text: &str, expected: &[&str]) {
        let numbered = marks.iter().map(|&mark| mark.to_owned()).zip(0..);
        let set = Marks::new(numbered).unwrap();
        let found: Vec<&str> = set
            .spans(text)
            .map(|span| match span {
                Span::Text(text) => text,
                Span::Mark(id) => marks[id as usize],
            })
            .collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn leftmost_then_longest() {
        check(&["ab", "abc", "bcd", "d"], "xabcdab", &["x", "abc", "d", "ab"]);
        check(&["<a>", "<ab>"], "<<ab><a<a>", &["<", "<ab>", "<a", "<a>"]);
    }

    #[test]
    fn edges() {
        check(&["é"], "éé", &["é", "é"]);
        check(&["é"], "", &[]);
        check(&[], "abc", &["abc"]);
        check(&["aaa"], "aa", &["aa"]);
        check(&["a", "aaa"], "aa", &["a", "a"]);
        check(&["x", ""], "yx", &["y", "x"]);
    }

    #[test]
    fn near_matches_cost_linear_time() {
        let mark = format!("{}b", "a".repeat(N_MARK_BYTES_MAX - 1));
        let text = "a".repeat(1 << 18);
        check(&[&mark], &text, &[&text]);
    }

    #[test]
    fn endless_marks_are_refused() {
        let mark = "a".repeat(N_MARK_BYTES_MAX + 1);
        let error = Marks::new([(mark, 7)].into_iter()).err().unwrap().to_string();
        assert!(error.contains("[7]") && error.contains("1024"), "{error}");
    }
}
