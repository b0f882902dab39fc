//! Environment variables that look like settings and are none.

use std::ffi::OsString;

use super::{CONFIG, PREFIX, Settings, variable_of};

/// Variables that are no settings and mean something all the same, without what all begin with.
const OTHERS: [&str; 7] =
    ["BENCH", "HOME", "ISA", "KIT", "OFFLINE", "REGISTRY_LOGIN", "WRITE_ATTACKS"];
/// What those of tests begin with.
const TEST: &str = "TEST_";
/// Longest name that is compared with others, in bytes; those of settings have 40 at most.
const N_NAME_BYTES: usize = 64;
/// Letters that a name may differ in from the one that was meant.
const N_TYPOS: usize = 2;

/// One line for each variable of the environment that is called as those of `settings` are, and
/// that nobody reads. Never its value.
pub(crate) fn unknown_variables(settings: &Settings) -> Vec<String> {
    unknown(settings, std::env::vars_os().map(|(name, _)| name))
}

fn unknown(settings: &Settings, variables: impl Iterator<Item = OsString>) -> Vec<String> {
    let others = OTHERS.iter().map(|name| format!("{PREFIX}{name}"));
    let known: Vec<String> =
        settings.names().map(|name| variable_of(&name)).chain([variable_of(CONFIG)]).collect();
    let known: Vec<String> = known.into_iter().chain(others).collect();
    let is_ours = |name: &String| {
        let rest = name.strip_prefix(PREFIX);
        rest.is_some_and(|rest| !rest.starts_with(TEST)) && !known.contains(name)
    };
    let line = |name: String| {
        let near = known.iter().filter(|_| name.len() <= N_NAME_BYTES);
        let meant = near.map(|known| (n_changes(&name, known), known)).min();
        let meant = meant.filter(|(n, _)| *n <= N_TYPOS);
        let hint = meant.map(|(_, known)| format!(", did you mean {known}?")).unwrap_or_default();
        let shown: String = name.chars().take(60).collect();
        format!("{shown}: no setting has this variable{hint}")
    };
    let mut lines: Vec<String> = variables
        .map(|name| name.to_string_lossy().into_owned())
        .filter(is_ours)
        .map(line)
        .collect();
    lines.sort_unstable();
    lines
}

/// Letters to be changed, put in, left out or swapped with the next until one is the other
/// (Damerau 1964, in the form that touches no letter twice).
fn n_changes(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let is_other = usize::from(one[i - 1] != other[j - 1]);
                    let changed = rows[i - 1][j - 1] + is_other;
                    let least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    let is_swap =
                        i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                    if is_swap { least.min(rows[i - 2][j - 2] + 1) } else { least }
                }
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::serve::Serve;

    #[test]
    fn misspelt_variables_are_told_with_what_was_meant() {
        let check = |name: &str, expected: Option<&str>| {
            let found = unknown(&Settings::of::<Serve>(), [OsString::from(name)].into_iter());
            let line = |hint| format!("{name}: no setting has this variable{hint}");
            let expected = expected.map(line);
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{name}");
        };
        for known in ["FREEHOLD_LISTEN", "FREEHOLD_CONFIG", "FREEHOLD_OFFLINE", "FREEHOLD_TEST_X"] {
            check(known, None);
        }
        check("PATH", None);
        check("FREEHOLD_LISTN", Some(", did you mean FREEHOLD_LISTEN?"));
        check("FREEHOLD_OFLFINE", Some(", did you mean FREEHOLD_OFFLINE?"));
        check("FREEHOLD_KEEP-RESPONSES", Some(", did you mean FREEHOLD_KEEP_RESPONSES?"));
        check("FREEHOLD_SOMETHING_ELSE", Some(""));
    }

    #[test]
    fn changes_are_counted() {
        let check = |one: &str, other: &str, n| assert_eq!(n_changes(one, other), n, "{one}");
        check("", "", 0);
        check("ab", "ab", 0);
        check("", "ab", 2);
        check("abc", "acb", 1);
        check("abc", "xbcd", 2);
        check("listen", "lsiten", 1);
    }
}
