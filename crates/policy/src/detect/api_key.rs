//! Keys and tokens of services, by how they begin.

use super::candidate::{Candidate, Found, SURE, entropy};
use super::{Group, Kind};

/// Beginnings that services chose so that their keys can be found (GitHub's and GitLab's
/// documentation of their tokens; AWS, IAM identifiers; Slack, Google, Stripe, npm, PyPI, Hugging
/// Face, SendGrid, DigitalOcean, Telegram, OpenAI and those that have its form).
pub(super) const API_KEY: Kind = Kind {
    name: "api_key",
    group: Group::Secret,
    patterns: &[
        r"(?-u:\b)sk-[A-Za-z0-9_-]{20,}",
        r"(?-u:\b)gh[pousr]_[A-Za-z0-9]{36,}",
        r"(?-u:\b)github_pat_[A-Za-z0-9_]{22,}",
        r"(?-u:\b)glpat-[A-Za-z0-9_-]{20,}",
        r"(?-u:\b)(?:AKIA|ASIA)[A-Z0-9]{16}(?-u:\b)",
        r"(?-u:\b)xox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"(?-u:\b)AIza[A-Za-z0-9_-]{35}",
        r"(?-u:\b)[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
        r"(?-u:\b)npm_[A-Za-z0-9]{36}",
        r"(?-u:\b)pypi-[A-Za-z0-9_-]{50,}",
        r"(?-u:\b)hf_[A-Za-z0-9]{30,}",
        r"(?-u:\b)SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}",
        r"(?-u:\b)do[opr]_v1_[a-f0-9]{64}",
        r"(?-u:\b)[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    ],
    words: &[],
    judge,
};

/// Bits per character from which on a key is not made up by hand: `xxxx` has none.
const ENTROPY_MIN: f32 = 3.0;
/// What stands in keys of manuals.
const PLACEHOLDERS: &[&str] = &["example", "xxxx", "your", "0000", "1234567890", "abcdefghij"];

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let text = candidate.as_str();
    let lower = text.to_ascii_lowercase();
    let is_placeholder = PLACEHOLDERS.iter().any(|placeholder| lower.contains(placeholder));
    // Behind the beginning, which is the same for all.
    let body = &text[4..];
    let has = |is: fn(&u8) -> bool| body.bytes().any(|byte| is(&byte));
    let n_kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit]
        .into_iter()
        .filter(|is| has(*is))
        .count();
    if is_placeholder || n_kinds < 2 || entropy(body) < ENTROPY_MIN {
        return None;
    }
    candidate.whole(SURE)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn keys_are_found() {
        // Put together here, so that no scanner takes them for real ones.
        for (start, end) in [
            ("sk-", "proj-Zk3Qp9Lw7Xv2Bn5Tr8Yc1Md4"),
            ("gh", "p_Zk3Qp9Lw7Xv2Bn5Tr8Yc1Md4Fg6Hj0Ks2La9"),
            ("AK", "IAQ3EGRZ7LXPWN5T2B"),
            ("xo", "xb-2384650192-Zk3Qp9Lw7Xv2"),
            ("hf", "_ZkQpLwXvBnTrYcMdFgHjKsLaPoIuYtRe"),
        ] {
            let key = format!("{start}{end}");
            check(&format!("key={key}."), &[&format!("api_key:{key}")]);
        }
    }

    #[test]
    fn placeholders_are_not() {
        for text in [
            "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-your-api-key-goes-here-please",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_000000000000000000000000000000000000",
            "task-sk-learn-pipeline",
            "hf_transfer",
        ] {
            check(text, &[]);
        }
    }
}
