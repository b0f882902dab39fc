//! E-mail addresses.

use super::candidate::{Candidate, Found, SURE};
use super::{Group, Kind};

/// The form that addresses have in practice, a part of RFC 5322 section 3.4.1 and RFC 6531: no
/// quoted names, no addresses of machines.
pub(super) const EMAIL: Kind = Kind {
    name: "email",
    group: Group::Personal,
    patterns: &[concat!(
        r#"[^\s@<>()\[\]{},;:"'`|\\/=?&⟦⟧]+@"#,
        r#"(?:[^\s@<>()\[\]{},;:"'`|\\/=?&⟦⟧.!#%*+_]{1,63}\.){1,8}[A-Za-z]{2,24}"#
    )],
    words: &[],
    judge,
};

/// Endings of files that are no domains: `image@2x.png`.
const FILES: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "json", "html", "txt", "pdf",
    "zip", "gz", "lock", "yml", "yaml", "toml", "xml", "csv", "log", "jar", "whl", "tgz",
];

/// How far before an address the beginning of its URL may be, in bytes.
const URL_BYTES: usize = 100;

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let whole = candidate.as_str();
    let address = whole.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, domain) = address.split_once('@')?;
    let (labels, ending) = domain.rsplit_once('.')?;
    let is_file = FILES.contains(&ending.to_ascii_lowercase().as_str());
    let is_label = |label: &str| !label.starts_with('-') && !label.ends_with('-');
    let is_name = !name.is_empty() && !name.ends_with('.') && !name.contains("..");
    // What a repository is cloned from: git@host:owner/repository.
    let is_remote = name == "git" && candidate.after().starts_with(':');
    // What stands before the host in a URL is a password: scheme://user:password@host.
    let before = candidate.before();
    let before = &before[before.floor_char_boundary(before.len().saturating_sub(URL_BYTES))..];
    let is_url = before.ends_with(':')
        && before.rsplit(char::is_whitespace).next().is_some_and(|word| word.contains("://"));
    // The end of a longer one that was refused.
    let is_end = |c: char| c.is_alphanumeric() || "._-+%!#$*~^".contains(c);
    if before.ends_with(is_end)
        || is_file
        || is_remote
        || is_url
        || !is_name
        || !labels.split('.').all(is_label)
    {
        return None;
    }
    candidate.part(whole.len() - address.len()..whole.len(), SURE)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn addresses_are_found() {
        check("Mail ada@example.org.", &["email:ada@example.org"]);
        check("<a.b+c@mail.example.co.uk>,", &["email:a.b+c@mail.example.co.uk"]);
        check("jörg@bücher.example (jörg)", &["email:jörg@bücher.example"]);
        check("mailto:x_y@z.io?subject=a", &["email:x_y@z.io"]);
        check("a@b.de;c@d.fr", &["email:a@b.de", "email:c@d.fr"]);
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for text in [
            "logo@2x.png",
            "git@github.com:owner/repository.git",
            "@app.route('/x')",
            "pip install a@1.2.3",
            "a@b",
            "me @ example.org",
            "smtp://user:word@mail.example.org",
            "a..b@example.org.",
            "@media screen",
        ] {
            check(text, &[]);
        }
    }
}
