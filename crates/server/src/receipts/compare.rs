//! A receipt held against that of the same request, asked once more.

use super::signed::add_leaves;
use super::{Receipt, ReceiptChoice};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What differs from run to run, is somebody's name for the same, or the owner's rules. The lock
/// counts where the second run was held to one.
const PASSED_OVER: [&str; 7] =
    ["version", "id", "time.", "engine.build", "model.name", "model.lock", "route."];
/// What is told of a choice's tokens together.
const OF_TOKENS: [&str; 3] = [".n_tokens", ".sha256", ".trace"];

/// One thing in which the second run was another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its path in the receipt; `choices[0].tokens` stands for all that is said of these.
    pub field: String,
    /// What the receipt says, as JSON.
    pub expected: String,
    /// What came of the second run.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, expected, found } = self;
        write!(f, "{field}: expected {expected}, found {found}")
    }
}

/// In what `again` is not bit-equal to `receipt`: nothing, where it is.
pub fn compare(receipt: &Receipt, again: &Receipt) -> Vec<Difference> {
    let (expected, found) = (leaves(receipt), leaves(again));
    let paths: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let of = |leaves: &BTreeMap<String, String>, path: &str| {
        leaves.get(path).map_or_else(|| "nothing".to_owned(), String::clone)
    };
    let mut differences: Vec<Difference> = paths
        .into_iter()
        .filter(|path| is_compared(path, again) && expected.get(*path) != found.get(*path))
        .map(|path| {
            let (expected, found) = (of(&expected, path), of(&found, path));
            Difference { field: path.clone(), expected, found }
        })
        .collect();
    let choices = receipt.choices.iter().zip(&again.choices).enumerate();
    differences.extend(choices.filter_map(|(idx, (old, new))| tokens(idx, old, new)));
    differences
}

fn leaves(receipt: &Receipt) -> BTreeMap<String, String> {
    let text = serde_json::to_string(receipt).expect("texts and numbers are JSON");
    let document = serde_json::from_str(&text).expect("what was written is JSON");
    let mut leaves = BTreeMap::new();
    add_leaves("", &document, &mut leaves);
    leaves
}

fn is_compared(path: &str, again: &Receipt) -> bool {
    let is_of_tokens =
        path.starts_with("choices[") && OF_TOKENS.iter().any(|end| path.ends_with(end));
    match path {
        "model.lock" => again.model.lock.is_some(),
        _ => !is_of_tokens && !PASSED_OVER.iter().any(|begin| path.starts_with(begin)),
    }
}

/// How the tokens of a choice differ, and where first.
fn tokens(choice_idx: usize, old: &ReceiptChoice, new: &ReceiptChoice) -> Option<Difference> {
    let all = |of: &ReceiptChoice| (of.n_tokens, of.sha256.clone(), of.trace.clone());
    if all(old) == all(new) {
        return None;
    }
    let told = |of: &ReceiptChoice| {
        format!("{} tokens (sha256 {})", of.n_tokens, of.sha256.get(..12).unwrap_or(&of.sha256))
    };
    let place = match first_difference(old, new) {
        Some(n) => format!("token {n} is the first that differs"),
        None => "the trace does not tell the first that differs".to_owned(),
    };
    let field = format!("choices[{choice_idx}].tokens");
    Some(Difference { field, expected: told(old), found: format!("{}: {place}", told(new)) })
}

/// The first token that differs, counted from 1, as far as the traces tell.
fn first_difference(old: &ReceiptChoice, new: &ReceiptChoice) -> Option<usize> {
    let (old, new) = (old.trace.as_bytes(), new.trace.as_bytes());
    let mut pairs = old.chunks(2).zip(new.chunks(2));
    let first = pairs.position(|(old, new)| old != new);
    // One may be the beginning of the other.
    first.or((old.len() != new.len()).then(|| old.len().min(new.len()) / 2)).map(|idx| idx + 1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::receipt;
    use super::*;

    fn check(change: impl Fn(&mut Receipt), expected: &[&str]) {
        let mut again = receipt();
        again.id = "another".to_owned();
        again.time.unix_us += 1;
        change(&mut again);
        let found: Vec<String> =
            compare(&receipt(), &again).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_derived_anew_is_compared_and_named() {
        check(|_| {}, &[]);
        check(|again| again.model.lock = None, &[]);
        let lock = |again: &mut Receipt| again.model.lock = Some("another".to_owned());
        check(lock, &["model.lock: expected \"10ck\", found \"another\""]);
        check(
            |again| again.parameters.temperature = 0.5,
            &["parameters.temperature: expected 0.8, found 0.5"],
        );
        check(|again| again.engine.numerics = 9, &["engine.numerics: expected 1, found 9"]);
        let fewer = |again: &mut Receipt| drop(again.adapted.pop());
        let expected = [
            "adapted[0]: expected \"tools-prompt\", found nothing",
            "adapted[]: expected 1, found 0",
        ];
        check(fewer, &expected);
    }

    #[test]
    fn the_first_token_that_differs_is_told() {
        let with = |tokens: &[u32], place: &str| {
            let found = ReceiptChoice::new(7, "stop", tokens, 2);
            let told = format!("{} tokens (sha256 {}): {place}", tokens.len(), &found.sha256[..12]);
            let old = receipt().choices[0].clone();
            let old = format!("3 tokens (sha256 {})", &old.sha256[..12]);
            let line = format!("choices[0].tokens: expected {old}, found {told}");
            check(|again| again.choices[0] = found.clone(), &[&line]);
        };
        with(&[1, 2, 4], "token 3 is the first that differs");
        with(&[2, 2, 3], "token 1 is the first that differs");
        with(&[1, 2], "token 3 is the first that differs");
        with(&[1, 2, 3, 4], "token 4 is the first that differs");
    }
}
