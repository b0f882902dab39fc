//! Passwords, tokens and keys, by the name that they are assigned to.

use super::candidate::{Candidate, Found, LIKELY, entropy};
use super::{Group, Kind};

/// `password = …`, `API_KEY: "…"`, `Authorization: Bearer …`, `scheme://user:password@host`
/// (RFC 3986 section 3.2.1); the value must look random, or be a password with letters and a digit.
pub(super) const ASSIGNED_SECRET: Kind = Kind {
    name: "assigned_secret",
    group: Group::Secret,
    patterns: &[
        concat!(
            r#"(?i)(?:api[_-]?key|access[_-]?key|secret|token|password|passwort|passwd|pwd|passphrase)"#,
            r#"[a-z_-]{0,20}["']?[ \t]{0,3}(?:=>|:=|[:=])[ \t]{0,3}["']?[^\s"'`,;<>(){}\[\]]{8,200}"#
        ),
        r"(?i)(?-u:\b)bearer [A-Za-z0-9._~+/=-]{20,500}",
        r"://[^\s/:@]{1,64}:[^\s/:@]{6,100}@",
    ],
    words: &[],
    judge,
};

/// Bits per character of what looks random, and of a password.
const ENTROPY_MIN: f32 = 3.0;
const PASSWORD_ENTROPY_MIN: f32 = 2.5;
/// Least length of what looks random.
const RANDOM_CHARS_MIN: usize = 16;
/// Letters that a value has: a day and a time have fewer.
const LETTERS_MIN: usize = 3;

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let text = candidate.as_str();
    let is_url = text.starts_with("://");
    // Of a URL the name is the scheme's end and the user.
    let skipped = if is_url { "://".len() } else { 0 };
    let at = skipped + text[skipped..].find([':', '=', ' '])?;
    let value = text[at..].trim_start_matches([':', '=', '>', '"', '\'', ' ', '\t']);
    let start = text.len() - value.len();
    let value = value.trim_end_matches(['.', ':', '!', '?', '@']);
    // In a query the next parameter follows.
    let value = match value.split_once('&') {
        Some((first, rest)) if rest.contains('=') => first,
        _ => value,
    };
    let n_letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let has_digit = value.bytes().any(|byte| byte.is_ascii_digit());
    let name = text[..at].to_ascii_lowercase();
    let is_password = is_url || name.contains("pass") || name.contains("pwd");
    // What a program or a shell puts there later.
    let is_variable = value.starts_with(['$', '%', '*', '/', '.']) || value.contains("://");
    let is_random = value.len() >= RANDOM_CHARS_MIN && entropy(value) >= ENTROPY_MIN;
    let is_password = is_password && value.len() >= 8 && entropy(value) >= PASSWORD_ENTROPY_MIN;
    if n_letters < LETTERS_MIN || !has_digit || is_variable || !(is_random || is_password) {
        return None;
    }
    candidate.part(start..start + value.len(), LIKELY)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn what_is_assigned_is_found() {
        check("password = hunter2hunter", &["assigned_secret:hunter2hunter"]);
        check("DB_PASSWORD: \"Tr0ub4dor\"", &["assigned_secret:Tr0ub4dor"]);
        check("api_key=9f2c7b1e4a8d3f60", &["assigned_secret:9f2c7b1e4a8d3f60"]);
        check(
            "Authorization: Bearer Zk3Qp9Lw7Xv2Bn5Tr8Yc1Md4",
            &["assigned_secret:Zk3Qp9Lw7Xv2Bn5Tr8Yc1Md4"],
        );
        check("amqp://app:k3Jd82hsKq@db/x", &["assigned_secret:k3Jd82hsKq"]);
        check("\"client_secret\": \"q8Zt1Wv5Yx2Ls7Nk\"", &["assigned_secret:q8Zt1Wv5Yx2Ls7Nk"]);
        // Behind a long one that is none.
        let query = concat!(
            "cb?token_url=https://login.example.org/oauth2/token/endpoint",
            "&client_secret=q8Zt1Wv5Yx2Ls7Nk",
        );
        check(query, &["assigned_secret:q8Zt1Wv5Yx2Ls7Nk"]);
    }

    #[test]
    fn what_is_none_is_not() {
        for text in [
            "max_tokens = 4096",
            "password: see the vault",
            "token = get_token()",
            "secret = ${SECRET_FROM_VAULT1}",
            "password = ********",
            "token: 2023-11-05T12:30:45Z",
            "the secret of 12345678 happy people",
            "tokenizer = \"bert-base-uncased\"",
            "token_url = https://example.org/oauth2/token",
        ] {
            check(text, &[]);
        }
    }
}
