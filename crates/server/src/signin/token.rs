//! ID tokens: whether the issuer has signed one, for us, now, and as the answer to our question
//! (OpenID Connect Core 1.0, section 3.1.3.7; JSON Web Signatures, RFC 7515). Pure: no clock, no
//! network. No message has anything of a token in it.

use super::jwks::{Algorithm, Jwks, place_of};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token: some have hundreds of groups.
pub(super) const TOKEN_BYTES_MAX: usize = 64 << 10;
/// How far the issuer's clock may be from ours, and how old a token that was just asked for is at
/// most, in seconds.
const SKEW_S: i64 = 60;
const AGE_MAX_S: i64 = 600;
/// Longest name of somebody (section 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// What a token must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// Unix seconds.
    pub(super) now_s: i64,
}

/// Why a token is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrue {
    /// Newer keys of the issuer's may have it.
    #[error("the issuer lists no key of its name and algorithm")]
    UnknownKey,
    #[error("{0}")]
    Wrong(String),
}

/// What a token says of somebody.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims {
    /// The name that the issuer never gives to somebody else.
    pub(super) subject: String,
    all: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Claims {
    /// Whether a claim is this text, or a list that has it. An address counts where the issuer has
    /// verified it.
    pub(super) fn has(&self, claim: &str, value: &str) -> bool {
        let is_it = |of: &Value| of.as_str() == Some(value);
        if claim == "email" && !self.has_verified_email() {
            return false;
        }
        match self.all.get(claim) {
            Some(Value::Array(list)) => list.iter().any(is_it),
            Some(one) => is_it(one),
            None => false,
        }
    }

    /// The address, where the issuer has verified it.
    pub(super) fn email(&self) -> Option<&str> {
        self.all.get("email")?.as_str().filter(|_| self.has_verified_email())
    }

    fn has_verified_email(&self) -> bool {
        self.all.get("email_verified") == Some(&Value::Bool(true))
    }
}

/// What a token says, once it is known to be one.
///
/// # Errors
/// Why it is none.
pub(super) fn verify(token: &str, keys: &Jwks, expected: &Expected<'_>) -> Result<Claims, Untrue> {
    let wrong = |what: &str| Untrue::Wrong(what.to_owned());
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Untrue::Wrong(format!("{} bytes: too long", token.len())));
    }
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(wrong("expected three parts with dots between them"));
    };
    let decoded =
        |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| wrong("expected base64url"));
    let header: Header = serde_json::from_slice(&decoded(header)?)
        .map_err(|error| Untrue::Wrong(format!("its header: {}", place_of(&error))))?;
    let names = || Algorithm::NAMES.map(|(name, _)| name).join(", ");
    let algorithm = Algorithm::of_name(&header.alg)
        .ok_or_else(|| Untrue::Wrong(format!("alg: expected one of {}", names())))?;
    if header.crit.is_some() {
        return Err(wrong("crit: expected no extension"));
    }
    let message = &token.as_bytes()[..token.len() - signature.len() - 1];
    match keys.verify((algorithm, header.kid.as_deref()), message, &decoded(signature)?) {
        None => return Err(Untrue::UnknownKey),
        Some(false) => return Err(wrong("its signature is none of the issuer's")),
        Some(true) => {}
    }
    let claims: Map<String, Value> = serde_json::from_slice(&decoded(payload)?)
        .map_err(|error| Untrue::Wrong(format!("its claims: {}", place_of(&error))))?;
    check(claims, expected).map_err(|what| Untrue::Wrong(what.to_owned()))
}

/// Holds claims to what they must be.
fn check(claims: Map<String, Value>, expected: &Expected<'_>) -> Result<Claims, &'static str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err("iss: expected the issuer of the settings");
    }
    let us = Some(expected.client_id);
    let is_for_us = match claims.get("aud") {
        Some(Value::String(one)) => Some(one.as_str()) == us,
        // For others too: then it says for whom it was asked.
        Some(Value::Array(list)) => {
            let has_us = list.iter().any(|one| one.as_str() == us);
            has_us && (list.len() == 1 || text("azp") == us)
        }
        _ => false,
    };
    if !is_for_us {
        return Err("aud: expected this server's client id, with others only beside azp");
    }
    if claims.contains_key("azp") && text("azp") != us {
        return Err("azp: expected this server's client id");
    }
    // Some write times with fractions.
    let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(|time| time as i64);
    let now = expected.now_s;
    match time("exp") {
        Some(exp) if exp.saturating_add(SKEW_S) > now => {}
        _ => return Err("exp: expected a time to come"),
    }
    match time("iat") {
        Some(iat) if (now - AGE_MAX_S..=now + SKEW_S).contains(&iat) => {}
        _ => return Err("iat: expected a time just now"),
    }
    if claims.contains_key("nbf") && time("nbf").is_none_or(|nbf| nbf > now + SKEW_S) {
        return Err("nbf: expected a time that has come");
    }
    if text("nonce") != Some(expected.nonce) {
        return Err("nonce: expected that of the sign-in");
    }
    let subject = text("sub").unwrap_or_default().to_owned();
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
        return Err("sub: expected 1 to 255 bytes");
    }
    Ok(Claims { subject, all: claims })
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
