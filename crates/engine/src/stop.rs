//! Stop strings over a stream of text: holds back what may become one, and finds the first.
//!
//! The stop string that counts is the one that is complete first; of several complete at the same
//! byte, the one that began first. So the outcome does not depend on how tokens cut the text.

/// Scans one answer. Text goes in as whole characters and comes out as whole characters, because
/// a stop string begins and ends at character borders.
#[derive(Debug)]
pub(crate) struct StopScanner {
    /// Longest first, so that the first to match at a byte is the one that began first.
    stops: Vec<String>,
    /// The end of the text so far that is the beginning of a stop string; not released yet.
    held: String,
}

impl StopScanner {
    /// A scanner for these stop strings, none of them empty.
    pub(crate) fn new(mut stops: Vec<String>) -> Self {
        stops.sort_by_key(|stop| std::cmp::Reverse(stop.len()));
        Self { stops, held: String::new() }
    }

    /// Takes more text, appends to `out` what can be released, and returns the stop string that
    /// is now complete, if any: then `out` ends right before it, and the scan is over.
    ///
    /// Costs `text.len()` times the stop strings' number, each a comparison that mostly fails at
    /// its first byte.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) -> Option<&str> {
        if self.stops.is_empty() {
            out.push_str(text);
            return None;
        }
        let n_seen = self.held.len();
        self.held.push_str(text);
        let bytes = self.held.as_bytes();
        for end in n_seen + 1..=bytes.len() {
            let complete = self.stops.iter().find(|stop| bytes[..end].ends_with(stop.as_bytes()));
            if let Some(stop) = complete {
                out.push_str(&self.held[..end - stop.len()]);
                self.held.clear();
                return Some(stop);
            }
        }
        let n_released = bytes.len() - self.n_held();
        out.extend(self.held.drain(..n_released));
        None
    }

    /// The end of the text: releases what was held back.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Length of the longest end of `held` that begins a stop string. It starts at a character
    /// border, since stop strings do and `held` holds whole characters.
    fn n_held(&self) -> usize {
        let bytes = self.held.as_bytes();
        let n_longest = self.stops.first().map_or(0, |stop| stop.len() - 1).min(bytes.len());
        (1..=n_longest)
            .rev()
            .find(|&n| {
                let end = &bytes[bytes.len() - n..];
                self.stops.iter().any(|stop| stop.as_bytes().starts_with(end))
            })
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: over the whole text at once, the first end at which a stop string is
    /// complete, and of those the longest.
    fn reference<'a>(text: &'a str, stops: &[&'a str]) -> (&'a str, Option<&'a str>) {
        for end in 1..=text.len() {
            let complete = stops.iter().filter(|s| text.as_bytes()[..end].ends_with(s.as_bytes()));
            if let Some(stop) = complete.max_by_key(|stop| stop.len()) {
                return (&text[..end - stop.len()], Some(stop));
            }
        }
        (text, None)
    }

    /// Every way to cut `text` between characters gives the reference's outcome, and nothing is
    /// released that may belong to a stop string, nor held back without need.
    fn check(text: &str, stops: &[&str]) {
        let expected = reference(text, stops);
        let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
        assert!(borders.len() < 16, "too many splits");
        for mask in 0..1u32 << borders.len() {
            let mut scanner = StopScanner::new(stops.iter().map(|s| s.to_string()).collect());
            let (mut out, mut found, mut start) = (String::new(), None, 0);
            let cuts = borders.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
            for end in cuts.map(|(_, &at)| at).chain([text.len()]) {
                found = scanner.push(&text[start..end], &mut out).map(str::to_string);
                if found.is_some() {
                    break;
                }
                let so_far = &text[..end];
                assert!(so_far.starts_with(out.as_str()));
                let needed = (0..=end).filter(|&at| so_far.is_char_boundary(at)).find(|&at| {
                    stops.iter().any(|s| s.starts_with(&so_far[at..]) && s.len() > end - at)
                        || at == end
                });
                assert_eq!(Some(out.len()), needed, "{text:?} {stops:?} mask {mask:b} at {end}");
                start = end;
            }
            scanner.finish(&mut out);
            assert_eq!((out.as_str(), found.as_deref()), expected, "{text:?} {stops:?} {mask:b}");
        }
    }

    #[test]
    fn every_split_gives_the_same_answer() {
        check("hello world", &[]);
        check("hello world", &["world"]);
        check("hello world", &["wort"]);
        check("hello", &["hello"]);
        check("say stop now", &["stop", "sto"]);
        check("xxabcdyy", &["abcd", "bc"]);
        check("xxabcdyy", &["bcd", "abcd", "cd"]);
        check("aaaaaab", &["aab"]);
        check("abababac", &["ababac", "abac"]);
        check("line one\n\nx", &["\n\n", "\nx"]);
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        // "é" and "è" share their first byte; so do the two emoji, with three.
        check("caféèé", &["èé"]);
        check("né", &["è"]);
        check("a😀😁b", &["😁b"]);
        check("a😀😀b", &["😁"]);
        check("日本語です", &["語", "本語で"]);
        check("\u{fffd}x", &["\u{fffd}"]);
    }

    #[test]
    fn all_small_texts_and_stops_agree() {
        let word = |mut n: usize, len: usize| -> String {
            (0..len).map(|_| (['a', 'é'][n % 2], n /= 2).0).collect()
        };
        for text_n in 0..64 {
            let text = word(text_n, 6);
            for a in 0..8 {
                for b in 0..4 {
                    check(&text, &[&word(a, 3), &word(b, 2)]);
                }
            }
        }
    }
}
