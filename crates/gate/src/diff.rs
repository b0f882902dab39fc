//! What differs between two texts, word by word (Myers 1986, "An O(ND) Difference Algorithm and Its
//! Variations", the greedy one).

/// Most differences that are looked for; with more the texts have little in common, and each is
/// shown as a whole. The trace takes the square of it in numbers: 8 MB.
const DIFFERENCES_MAX: usize = 1000;

/// Words of one text in a row that are all in the other too, or all not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    pub(crate) text: &'a str,
    /// Whether the other text has it in this place.
    pub(crate) is_common: bool,
}

/// Both texts as runs: what is common is in both the same.
pub(crate) fn diff<'a>(old: &'a str, new: &'a str) -> [Vec<Run<'a>>; 2] {
    let [a, b] = [words(old), words(new)];
    let common = without_lone_spaces(&a, common_words(&a, &b));
    [
        runs(old, &a, common.iter().map(|pair| pair.0)),
        runs(new, &b, common.iter().map(|pair| pair.1)),
    ]
}

/// Words, and the white space between them.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_space = first.is_whitespace();
        let end = rest.find(|c: char| c.is_whitespace() != is_space).unwrap_or(rest.len());
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    words
}

/// The same without white space between words that differ: sentences are easier to read than words.
fn without_lone_spaces(a: &[&str], common: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let is_kept = |(at, &(x, y)): (usize, &(usize, usize))| {
        let follows = at > 0 && common[at - 1] == (x.wrapping_sub(1), y.wrapping_sub(1));
        let is_followed = common.get(at + 1) == Some(&(x + 1, y + 1));
        !a[x].trim().is_empty() || follows || is_followed
    };
    common.iter().enumerate().filter(|pair| is_kept(*pair)).map(|(_, pair)| *pair).collect()
}

/// Indices of the words that both have in common, in order.
fn common_words(a: &[&str], b: &[&str]) -> Vec<(usize, usize)> {
    let n_begin = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a_rest, b_rest) = (&a[n_begin..], &b[n_begin..]);
    let ends = a_rest.iter().rev().zip(b_rest.iter().rev());
    let n_end = ends.take_while(|(a, b)| a == b).count();
    let a_middle = &a_rest[..a_rest.len() - n_end];
    let b_middle = &b_rest[..b_rest.len() - n_end];
    let middle = shortest_edit(a_middle, b_middle).unwrap_or_default();
    let begin = (0..n_begin).map(|at| (at, at));
    let middle = middle.into_iter().map(|(x, y)| (n_begin + x, n_begin + y));
    let end = (1..=n_end).rev().map(|back| (a.len() - back, b.len() - back));
    begin.chain(middle).chain(end).collect()
}

/// The matches of a shortest edit script; `None` where that is longer than [`DIFFERENCES_MAX`].
fn shortest_edit(a: &[&str], b: &[&str]) -> Option<Vec<(usize, usize)>> {
    let (n, m) = (a.len() as isize, b.len() as isize);
    let max = (a.len() + b.len()).min(DIFFERENCES_MAX) as isize;
    // Furthest x on each diagonal k = x - y, at k + max + 1.
    let mut furthest = vec![0_isize; 2 * max as usize + 3];
    let mut trace = Vec::new();
    for d in 0..=max {
        let at = |k: isize| (k + max + 1) as usize;
        trace.push(furthest[at(-d - 1)..=at(d + 1)].to_vec());
        for k in (-d..=d).step_by(2) {
            let is_down = k == -d || (k != d && furthest[at(k - 1)] < furthest[at(k + 1)]);
            let mut x = if is_down { furthest[at(k + 1)] } else { furthest[at(k - 1)] + 1 };
            while x < n && x - k < m && x - k >= 0 && a[x as usize] == b[(x - k) as usize] {
                x += 1;
            }
            furthest[at(k)] = x;
            if x >= n && x - k >= m {
                return Some(walk_back(&trace, n, m));
            }
        }
    }
    None
}

/// The matches on the way that the trace has taken to `(n, m)`.
fn walk_back(trace: &[Vec<isize>], n: isize, m: isize) -> Vec<(usize, usize)> {
    let (mut x, mut y) = (n, m);
    let mut matches = Vec::new();
    for (d, furthest) in trace.iter().enumerate().rev() {
        let d = d as isize;
        let at = |k: isize| (k + d + 1) as usize;
        let k = x - y;
        let is_down = k == -d || (k != d && furthest[at(k - 1)] < furthest[at(k + 1)]);
        let before_k = if is_down { k + 1 } else { k - 1 };
        let before_x = if d == 0 { 0 } else { furthest[at(before_k)] };
        let before_y = if d == 0 { 0 } else { before_x - before_k };
        while x > before_x && y > before_y {
            (x, y) = (x - 1, y - 1);
            matches.push((x as usize, y as usize));
        }
        (x, y) = (before_x, before_y);
    }
    matches.reverse();
    matches
}

/// The words of a text joined to runs.
fn runs<'a>(text: &'a str, words: &[&'a str], common: impl Iterator<Item = usize>) -> Vec<Run<'a>> {
    let mut is_common = vec![false; words.len()];
    common.for_each(|at| is_common[at] = true);
    let mut runs: Vec<Run<'_>> = Vec::new();
    let (mut start, mut at) = (0, 0);
    for (word_idx, word) in words.iter().enumerate() {
        at += word.len();
        if is_common.get(word_idx + 1) != Some(&is_common[word_idx]) {
            runs.push(Run { text: &text[start..at], is_common: is_common[word_idx] });
            start = at;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// With what the other text lacks in brackets.
    fn shown(runs: &[Run<'_>]) -> String {
        let run = |run: &Run<'_>| match run.is_common {
            true => run.text.to_owned(),
            false => format!("[{}]", run.text),
        };
        runs.iter().map(run).collect()
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: [&str; 2]) {
        let found = diff(old, new);
        assert_eq!(found.map(|runs| shown(&runs)), expected);
    }

    #[test]
    fn words_that_differ_are_found() {
        check("", "", ["", ""]);
        check("a b", "a b", ["a b", "a b"]);
        check("a b c", "a x c", ["a [b] c", "a [x] c"]);
        check("a", "", ["[a]", ""]);
        check("", "a b", ["", "[a b]"]);
        check("a b c d", "a x y d", ["a [b c] d", "a [x y] d"]);
        check("a b c a b b a", "c b a b a c", ["[a] b [c ]a b [b ]a", "[c] b a b a[ c]"]);
    }

    /// The length of the longest common subsequence, by its definition.
    fn longest(a: &[&str], b: &[&str]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (at, y) in b.iter().enumerate() {
                let here = row[at + 1];
                row[at + 1] = if x == y { diagonal + 1 } else { here.max(row[at]) };
                diagonal = here;
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_most_is_common(old in "[ab \n]{0,40}", new in "[abé ]{0,40}") {
            let [a, b] = [words(&old), words(&new)];
            prop_assert_eq!(common_words(&a, &b).len(), longest(&a, &b));
            let found = diff(&old, &new);
            for (runs, text) in found.iter().zip([&old, &new]) {
                let joined: String = runs.iter().map(|run| run.text).collect();
                prop_assert_eq!(&joined, text);
            }
            let common = found.map(|runs| {
                runs.iter().filter(|run| run.is_common).map(|run| run.text).collect::<String>()
            });
            prop_assert_eq!(&common[0], &common[1]);
        }
    }

    #[test]
    fn texts_without_anything_in_common_take_no_time() {
        let old: String = (0..20_000).map(|n| format!("a{n} ")).collect();
        let new: String = (0..20_000).map(|n| format!("b{n}\n")).collect();
        let found = diff(&old, &new);
        assert!(found.iter().all(|runs| runs.len() == 1 && !runs[0].is_common));
    }
}
