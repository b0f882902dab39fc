//! How long an answer is.

use crate::expect::{Check, Kind, Seen};

/// `length = { min_chars, max_chars, min_words, max_words, min_tokens, max_tokens }`: characters
/// and words of the text, and tokens sampled.
pub(super) const LENGTH: Kind = Kind {
    name: "length",
    read: |fields| {
        let names =
            ["min_chars", "max_chars", "min_words", "max_words", "min_tokens", "max_tokens"];
        let [a, b, c, d, e, f] = fields.bounds("length", names)?;
        for (at, [min, max]) in [[a, b], [c, d], [e, f]].into_iter().enumerate() {
            if min.zip(max).is_some_and(|(min, max)| min > max) {
                let problem = format!("{} is above {}", names[2 * at], names[2 * at + 1]);
                return Err(fields.wrong("length", problem));
            }
        }
        Ok(Box::new(Length { chars: [a, b], words: [c, d], tokens: [e, f] }))
    },
};

#[derive(Debug)]
struct Length {
    chars: [Option<u64>; 2],
    words: [Option<u64>; 2],
    tokens: [Option<u64>; 2],
}

impl Check for Length {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let text = seen.answer.text.trim();
        let counts = [
            ("characters", text.chars().count() as u64, self.chars),
            ("words", text.split_whitespace().count() as u64, self.words),
            ("tokens", seen.answer.n_generated, self.tokens),
        ];
        for (what, n, [min, max]) in counts {
            if let Some(min) = min.filter(|&min| n < min) {
                return Err(format!("has {n} {what}, expected at least {min}"));
            }
            if let Some(max) = max.filter(|&max| n > max) {
                return Err(format!("has {n} {what}, expected at most {max}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::answer::Answer;
    use crate::expect::testing::*;
    use serde_json::json;

    #[test]
    fn lengths_are_counted() {
        let length = |bounds| json!({"length": bounds});
        check(length(json!({"min_chars": 2, "max_chars": 2})), " äb ", None);
        check(length(json!({"max_chars": 1})), "äb", Some("has 2 characters, expected at most 1"));
        check(length(json!({"min_words": 3})), "a b", Some("has 2 words, expected at least 3"));
        let answer = Answer { n_generated: 9, ..Answer::default() };
        check_answer(length(json!({"max_tokens": 8})), &answer, Some("has 9 tokens"));
        check_refused(length(json!({})), "length: empty, expected some of min_chars");
        check_refused(length(json!({"min_words": 2, "max_words": 1})), "min_words is above");
        check_refused(length(json!({"max": 1})), "unknown field \"max\"");
        check_refused(length(json!(5)), "length: 5, expected a table");
    }
}
