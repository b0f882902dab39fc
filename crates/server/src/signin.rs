//! People sign in with an issuer of OpenID Connect: the authorization code flow with PKCE (OpenID
//! Connect Core 1.0; RFC 7636, S256). The browser goes to the issuer, and this server asks it two
//! things, what a code is worth and with which keys it signs, by the broker, each a departure.
//!
//! Endpoints stand in the settings: what an issuer publishes of itself cannot have anything sent
//! elsewhere.

mod exchange;
mod flow;
mod jwks;
mod token;

pub(crate) use exchange::{Desk, note_end};
pub use exchange::{KEYS_UPSTREAM, TOKEN_UPSTREAM};

use crate::access::Role;
use axum::http::Uri;
use jwks::Jwks;
use std::net::IpAddr;
use std::time::Duration;
use token::{Claims, Expected};

/// Where an issuer sends people back to, behind the address of this server.
pub const CALLBACK: &str = "/login/callback";
/// Cookies where browsers come by TLS, of this host alone and of no subdomain's making, and where
/// they come from this machine without: the session's, and that of a sign-in on its way.
const COOKIES: [(&str, &str); 2] =
    [("__Host-freehold", "__Host-freehold-login"), ("freehold", "freehold-login")];
/// Longest text of the settings, and most rules.
const TEXT_BYTES_MAX: usize = 1024;
const RULES_MAX: usize = 256;
/// Longest session.
const LASTS_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads an ID token with the keys that an issuer publishes, and returns whom it names. It is to be
/// of this issuer for this client, with this nonce, at this time in Unix seconds.
///
/// # Errors
/// Why it is none, in words that have nothing of it.
pub fn read_id_token(
    token: &str,
    keys: &[u8],
    (issuer, client_id, nonce): (&str, &str, &str),
    now_s: i64,
) -> Result<String, String> {
    let keys = Jwks::read(keys)?;
    let expected = Expected { issuer, client_id, nonce, now_s };
    let claims = token::verify(token, &keys, &expected).map_err(|untrue| untrue.to_string())?;
    Ok(claims.subject)
}

/// With whom people sign in, and what they are then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The issuer, as its tokens name it.
    pub issuer: String,
    /// This server, as the issuer names it.
    pub client_id: String,
    /// Whether the broker shows a secret beside it.
    pub has_secret: bool,
    /// Where browsers go to sign in.
    pub authorize_url: String,
    /// Where they come back to: this server's own address, and [`CALLBACK`].
    pub redirect_url: String,
    /// What is asked for, `openid` among it, with spaces between.
    pub scopes: String,
    /// Whose role is which; the first that fits counts.
    pub roles: Vec<RoleRule>,
    /// The role of all others; `None`: they are refused.
    pub default_role: Option<Role>,
    /// How long they stay signed in.
    pub lasts: Duration,
}

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRule {
    /// A claim of the ID token that is this text, or a list that has it.
    pub claim: String,
    /// The text.
    pub value: String,
    /// The role.
    pub role: Role,
}

impl SignIn {
    /// Finds what is out of bounds.
    ///
    /// # Errors
    /// The field, and its value and what was expected.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |field, value: &str, expected: &str| {
            let value: String = value.chars().take(120).collect();
            Err((field, format!("{value:?}: expected {expected}")))
        };
        for (field, text) in [
            ("issuer", &self.issuer),
            ("client-id", &self.client_id),
            ("authorize-url", &self.authorize_url),
            ("redirect-url", &self.redirect_url),
            ("scopes", &self.scopes),
        ] {
            if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control)
            {
                return wrong(field, text, "1 to 1024 bytes of text");
            }
        }
        const SAFE: &str = "https://…, or http:// on this machine";
        if !is_safe(&self.authorize_url) || self.authorize_url.contains('#') {
            return wrong("authorize-url", &self.authorize_url, SAFE);
        }
        let own: Option<Uri> = self.redirect_url.parse().ok();
        let is_own = own.is_some_and(|url| url.path() == CALLBACK && url.query().is_none());
        if !is_own || !is_safe(&self.redirect_url) || self.redirect_url.contains('#') {
            let expected = format!("this server's address and {CALLBACK}: {SAFE}");
            return wrong("redirect-url", &self.redirect_url, &expected);
        }
        if !self.scopes.split(' ').any(|scope| scope == "openid") {
            return wrong("scopes", &self.scopes, "\"openid\" among them");
        }
        if self.roles.len() > RULES_MAX {
            return wrong("role", &self.roles.len().to_string(), "256 at most");
        }
        if self.roles.is_empty() && self.default_role.is_none() {
            return Err(("role", "none, so nobody could sign in: expected one".to_owned()));
        }
        if self.lasts.is_zero() || self.lasts > LASTS_MAX {
            let seconds = format!("{}s", self.lasts.as_secs());
            return wrong("session", &seconds, "more than nothing, and 30 days at most");
        }
        Ok(())
    }

    /// The cookies of sessions, and of sign-ins on their way.
    pub(crate) fn cookies(&self) -> (&'static str, &'static str) {
        COOKIES[usize::from(!self.is_by_tls())]
    }

    /// Whether browsers come by TLS.
    pub(crate) fn is_by_tls(&self) -> bool {
        self.redirect_url.starts_with("https://")
    }

    /// What somebody is to this server; `None`: nobody.
    fn role(&self, claims: &Claims) -> Option<Role> {
        let rule = self.roles.iter().find(|rule| claims.has(&rule.claim, &rule.value));
        rule.map(|rule| rule.role).or(self.default_role)
    }
}

/// Whether nobody between can read or change what goes there.
fn is_safe(url: &str) -> bool {
    let Some(uri) = url.parse::<Uri>().ok().filter(|_| url.is_ascii()) else { return false };
    let Some(authority) = uri.authority().filter(|of| !of.as_str().contains('@')) else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_here,
        _ => false,
    }
}

/// The bytes of a form, or of a query: names and values, of texts that may have anything in them.
fn form(pairs: &[(&str, &str)]) -> String {
    let escaped = |text: &str| -> String {
        let one = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        };
        text.bytes().map(one).collect()
    };
    let pair = |(name, value): &(&str, &str)| format!("{}={}", escaped(name), escaped(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// A value of a query; `None` where it is not there, there twice, or no text.
fn value_of(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(of, _)| *of == name).map(|(_, value)| value);
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        match byte {
            b'%' => bytes.push((digit()? << 4 | digit()?) as u8),
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in() -> SignIn {
        SignIn {
            issuer: "https://i.example".to_owned(),
            client_id: "us".to_owned(),
            has_secret: true,
            authorize_url: "https://i.example/authorize?a=b".to_owned(),
            redirect_url: "https://box.example/login/callback".to_owned(),
            scopes: "openid email".to_owned(),
            roles: Vec::new(),
            default_role: Some(Role::User),
            lasts: Duration::from_secs(60),
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_told() {
        let check = |change: fn(&mut SignIn), expected: &str| {
            let mut changed = sign_in();
            change(&mut changed);
            let told = match changed.check() {
                Ok(()) => "ok".to_owned(),
                Err((field, problem)) => format!("{field}: {problem}"),
            };
            assert!(told.contains(expected), "{told}");
        };
        check(|_| {}, "ok");
        check(|of| of.issuer.clear(), "issuer: \"\": expected 1 to 1024");
        check(|of| of.authorize_url = "http://i.example/a".to_owned(), "authorize-url: ");
        check(|of| of.authorize_url = "https://a@i.example/a".to_owned(), "authorize-url: ");
        check(|of| of.redirect_url = "https://box.example/".to_owned(), "redirect-url: ");
        check(
            |of| of.redirect_url = "http://box.example/login/callback".to_owned(),
            "redirect-url",
        );
        check(|of| of.redirect_url = "http://localhost:1/login/callback".to_owned(), "ok");
        check(|of| of.redirect_url = "http://[::1]:1/login/callback".to_owned(), "ok");
        check(|of| of.scopes = "email".to_owned(), "scopes: \"email\": expected \"openid\"");
        check(|of| of.default_role = None, "role: none, so nobody");
        check(|of| of.lasts = Duration::ZERO, "session: \"0s\"");
        assert_eq!(sign_in().cookies().0, "__Host-freehold");
    }

    #[test]
    fn forms_are_written_and_queries_are_read() {
        assert_eq!(form(&[("a", "b c&="), ("d", "é")]), "a=b%20c%26%3D&d=%C3%A9");
        let query = "a=b+c%26&d=&e=%C3%A9&f=1&f=2&g=%F&h=%FF";
        let check = |name, expected: Option<&str>| {
            assert_eq!(value_of(query, name).as_deref(), expected, "{name}");
        };
        check("a", Some("b c&"));
        check("d", Some(""));
        check("e", Some("é"));
        for none in ["f", "g", "h", "i", ""] {
            check(none, None);
        }
    }
}
