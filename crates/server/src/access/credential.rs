//! What a request brings to say who it is.
//!
//! A key may stand in `Authorization: Bearer` or in `x-api-key`; clients that must have one are
//! told to say "none", and that and nothing at all are no keys.

use axum::http::{HeaderMap, HeaderName, header};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The key in either header, that of `Authorization` first: for as long as none is checked.
pub(crate) fn any(headers: &HeaderMap) -> Option<&[u8]> {
    all(headers).next()
}

/// What a request brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'h> {
    None,
    /// All that is there is this one.
    One(&'h [u8]),
    /// Two that are not the same: whoever looks at the other one is being deceived.
    Several,
}

/// What a request brings, once keys are checked.
pub(super) fn of(headers: &HeaderMap) -> Credential<'_> {
    let mut all = all(headers);
    match all.next() {
        None => Credential::None,
        Some(one) if all.all(|other| other == one) => Credential::One(one),
        Some(_) => Credential::Several,
    }
}

fn all(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearers = headers.get_all(header::AUTHORIZATION).iter();
    let bearers = bearers.map(|value| without_scheme(value.as_bytes().trim_ascii()));
    let api_keys = headers.get_all(API_KEY).iter().map(|value| value.as_bytes().trim_ascii());
    let is_key = |key: &&[u8]| !key.is_empty() && !key.eq_ignore_ascii_case(b"none");
    bearers.chain(api_keys).filter(is_key)
}

/// The scheme's name has no case. The same key is the same client in either header.
fn without_scheme(value: &[u8]) -> &[u8] {
    match value.split_at_checked(b"Bearer".len()) {
        Some((scheme, key))
            if scheme.eq_ignore_ascii_case(b"Bearer")
                && key.first().is_none_or(u8::is_ascii_whitespace) =>
        {
            key.trim_ascii()
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[track_caller]
    fn check(values: &[(&'static str, &'static str)], expected: &Credential<'_>) {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, HeaderValue::from_static(value));
        }
        assert_eq!(&of(&headers), expected, "{values:?}");
    }

    #[test]
    fn one_key_is_read_from_either_header() {
        check(&[], &Credential::None);
        for none in ["", " ", "Bearer", "bearer  ", "Bearer none", "NONE"] {
            check(&[("authorization", none)], &Credential::None);
            check(&[("authorization", none), ("x-api-key", "k")], &Credential::One(b"k"));
        }
        let one = Credential::One(b"k");
        check(&[("authorization", "Bearer k")], &one);
        check(&[("authorization", "bEARER  k ")], &one);
        check(&[("authorization", "k")], &one);
        check(&[("x-api-key", "k")], &one);
        check(&[("authorization", "Bearer k"), ("x-api-key", "k")], &one);
        check(&[("authorization", "Basic azpr")], &Credential::One(b"Basic azpr"));
        for other in ["l", "Basic azpr"] {
            check(&[("authorization", "Bearer k"), ("x-api-key", other)], &Credential::Several);
            check(&[("x-api-key", "k"), ("x-api-key", other)], &Credential::Several);
        }
        check(&[("authorization", "Bearer k"), ("authorization", "l")], &Credential::Several);
    }
}
