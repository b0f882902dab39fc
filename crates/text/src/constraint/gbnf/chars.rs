//! Sets of characters, as ranges.

/// All characters.
const ALL: [(u32, u32); 2] = [(0, 0xD7FF), (0xE000, 0x0010_FFFF)];

/// Characters as ranges that rise and do not touch; surrogates are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CharSet(Vec<(u32, u32)>);

impl CharSet {
    /// The characters of these ranges, ends included.
    pub(super) fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut set = Self(ranges.into_iter().collect());
        set.tidy();
        set.intersection(&Self(ALL.to_vec()))
    }

    /// One character.
    pub(super) fn of(c: char) -> Self {
        Self(vec![(c.into(), c.into())])
    }

    /// All of them.
    pub(super) fn all() -> Self {
        Self(ALL.to_vec())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        if !other.is_empty() {
            self.0.extend_from_slice(&other.0);
            self.tidy();
        }
    }

    /// The characters that are not in it.
    pub(super) fn complement(&self) -> Self {
        let ends = self.0.iter().map(|&(_, last)| last + 1);
        let starts = std::iter::once(0).chain(ends);
        let next = self.0.iter().map(|&(first, _)| first).chain([0x0011_0000]);
        let gaps = starts.zip(next).filter(|(start, next)| start < next);
        Self::new(gaps.map(|(start, next)| (start, next - 1)))
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Whether a character of each begins with the same byte in UTF-8.
    pub(super) fn meets_in_first_byte(&self, other: &Self) -> bool {
        let first_byte = |c: u32| match c {
            0..0x80 => c,
            0x80..0x800 => 0xC0 | c >> 6,
            0x800..0x1_0000 => 0xE0 | c >> 12,
            _ => 0xF0 | c >> 18,
        };
        // It never falls where characters rise.
        let bytes = |set: &Self| {
            let all = set.0.iter().map(|&(first, last)| (first_byte(first), first_byte(last)));
            Self::new(all)
        };
        bytes(self).meets(&bytes(other))
    }

    /// Its ranges, ends included.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// How many ranges it has.
    pub(super) fn n_ranges(&self) -> usize {
        self.0.len()
    }

    fn intersection(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut common = Vec::new();
        while let (Some(&&(a_first, a_last)), Some(&&(b_first, b_last))) = (a.peek(), b.peek()) {
            let (first, last) = (a_first.max(b_first), a_last.min(b_last));
            if first <= last {
                common.push((first, last));
            }
            if a_last < b_last {
                a.next()
            } else {
                b.next()
            };
        }
        Self(common)
    }

    /// As a class of a regular expression.
    pub(super) fn class(&self) -> String {
        let range = |&(first, last): &(u32, u32)| format!("\\x{{{first:x}}}-\\x{{{last:x}}}");
        format!("[{}]", self.0.iter().map(range).collect::<String>())
    }

    fn tidy(&mut self) {
        self.0.sort_unstable();
        let mut tidy: Vec<(u32, u32)> = Vec::with_capacity(self.0.len());
        for &(first, last) in &self.0 {
            match tidy.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => tidy.push((first, last)),
            }
        }
        self.0 = tidy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_ranges() {
        let check = |ranges: &[(u32, u32)], expected: &[(u32, u32)], without: &[(u32, u32)]| {
            let set = CharSet::new(ranges.iter().copied());
            assert_eq!(set.0, expected);
            assert_eq!(set.complement().0, without);
            assert_eq!(set.complement().complement(), set);
            assert!(!set.meets(&set.complement()));
        };
        check(&[], &[], &ALL);
        check(&[(5, 9), (1, 2), (3, 4), (8, 20)], &[(1, 20)], &[(0, 0), (21, 0xD7FF), ALL[1]]);
        check(&[(0, 0x0011_FFFF)], &ALL, &[]);
        check(&[(0xD800, 0xDFFF)], &[], &ALL);
        check(
            &[(0, 0xD7FF), (0xE001, 0x0010_FFFF)],
            &[ALL[0], (0xE001, ALL[1].1)],
            &[(0xE000, 0xE000)],
        );
        let (a, b) = (CharSet::new([(1, 3), (7, 9)]), CharSet::new([(4, 6), (9, 12)]));
        assert_eq!(a.intersection(&b).0, [(9, 9)]);
        let [e_acute, e_grave, b] = ['é', 'è', 'b'].map(CharSet::of);
        assert!(e_acute.meets_in_first_byte(&e_grave) && !e_acute.meets(&e_grave));
        assert!(!e_acute.meets_in_first_byte(&b));
        assert!(CharSet::of('語').meets_in_first_byte(&CharSet::new([(0x8000, 0x8FFF)])));
        assert_eq!(CharSet::of('a').class(), "[\\x{61}-\\x{61}]");
    }
}
