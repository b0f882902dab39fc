//! The trace that a request is part of (<https://www.w3.org/TR/trace-context/>).

use crate::app::random_hex;
use axum::http::HeaderMap;

/// Digits of the id of a span.
const N_SPAN_DIGITS: usize = 16;

/// A trace, and the span of the client's that caused the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// 32 hexadecimal digits.
    pub(crate) trace: String,
    /// 16; `None`: the request begins the trace.
    pub(crate) parent: Option<String>,
    /// Whether whoever began it records it.
    pub(crate) is_sampled: bool,
}

impl Context {
    /// What a `traceparent` header names: version, trace, parent and flags, of which later versions
    /// may have more. Nothing is said where it is not one: that is no reason to refuse a request.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
        let mut part = |n_digits: usize| {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            parts.next().filter(|part| part.len() == n_digits && part.bytes().all(is_digit))
        };
        let (version, trace, parent, flags) = (part(2)?, part(32)?, part(N_SPAN_DIGITS)?, part(2)?);
        let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        let is_one = version != "ff" && !is_zero(trace) && !is_zero(parent);
        let is_sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
        let (trace, parent) = (trace.to_owned(), Some(parent.to_owned()));
        is_one.then_some(Self { trace, parent, is_sampled })
    }

    /// A trace that begins here.
    pub(crate) fn new() -> Self {
        Self { trace: random_hex(), parent: None, is_sampled: true }
    }
}

/// The id of one more span.
pub(super) fn span_id() -> String {
    let mut id = random_hex();
    id.truncate(N_SPAN_DIGITS);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_told_by_their_header() {
        let check = |header: &'static str, expected: Option<(&str, bool)>| {
            let headers = [("traceparent".parse().unwrap(), header.parse().unwrap())];
            let found = Context::of(&HeaderMap::from_iter(headers));
            let expected = expected.map(|(parent, is_sampled)| Context {
                trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
                parent: Some(parent.to_owned()),
                is_sampled,
            });
            assert_eq!(found, expected, "{header}");
        };
        let parent = "00f067aa0ba902b7";
        let sampled = Some((parent, true));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", sampled);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some((parent, false)));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more", sampled);
        check("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", None);
        check("", None);
        assert_eq!(Context::of(&HeaderMap::new()), None);
        assert_eq!((Context::new().trace.len(), span_id().len()), (32, 16));
    }
}
