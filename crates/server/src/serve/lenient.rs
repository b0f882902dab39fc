//! Whether a client has asked for fields that nobody knows to be told, not refused: products send
//! what their vendor's newest model takes, and some cannot be told to leave it out.

use crate::access::Who;
use crate::dialects::declared::Unknown;
use crate::errors::BadRequest;
use axum::http::HeaderMap;

/// The header that asks for it.
pub(crate) const HEADER: &str = "x-freehold-lenient";

/// What becomes of fields that a route does not know, on routes that refuse them unless asked, by
/// the header or, where there is none, by what the owner said of the key.
pub(super) fn of(headers: &HeaderMap, who: &Who) -> Result<Unknown, BadRequest> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        let is_lenient = who.defaults.lenient;
        return Ok(if is_lenient { Unknown::Ignored } else { Unknown::Refused });
    };
    match value.as_bytes().trim_ascii() {
        b"true" if values.next().is_none() => Ok(Unknown::Ignored),
        b"false" if values.next().is_none() => Ok(Unknown::Refused),
        _ => {
            let shown = crate::dialects::fields::short(&String::from_utf8_lossy(value.as_bytes()));
            Err(BadRequest::field(HEADER, &format!("{shown:?}: expected \"true\" or \"false\"")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn one_word_is_taken() {
        let check = |values: &[&'static str], expected: Result<Unknown, &str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_static(value));
            }
            let found = of(&headers, &Who::owner()).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{values:?}");
        };
        check(&[], Ok(Unknown::Refused));
        check(&["true"], Ok(Unknown::Ignored));
        check(&["false"], Ok(Unknown::Refused));
        let problem = "x-freehold-lenient: \"yes\": expected \"true\" or \"false\"";
        check(&["yes"], Err(problem));
        let twice = "x-freehold-lenient: \"true\": expected \"true\" or \"false\"";
        check(&["true", "false"], Err(twice));
    }
}
