//! What one sign-in has between its beginning and its end: nothing here, and a cookie in the
//! browser. State, nonce and verifier are made of it with a key that this process has drawn, so
//! whoever begins many sign-ins takes no memory, and a browser can end only what it began.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// How long somebody has for it, in seconds.
pub(super) const LASTS_S: i64 = 600;
const RANDOM_BYTES: usize = 32;

/// Makes and knows them.
pub(super) struct Flows {
    key: hmac::Key,
}

/// One that begins.
pub(super) struct Begun {
    pub(super) cookie: String,
    pub(super) state: String,
    pub(super) nonce: String,
    /// Of the verifier (RFC 7636, S256).
    pub(super) challenge: String,
}

/// One that comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) nonce: String,
    pub(super) verifier: String,
}

impl Flows {
    /// `None`: the system gives no random bytes.
    pub(super) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(|key| Self { key })
    }

    /// Begins one at this time, in Unix seconds; `None` as above.
    pub(super) fn begin(&self, now_s: i64) -> Option<Begun> {
        let mut random = [0; RANDOM_BYTES];
        SystemRandom::new().fill(&mut random).ok()?;
        let cookie = format!("{}.{now_s}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let verifier = self.made("verifier", &cookie);
        Some(Begun {
            state: self.made("state", &cookie),
            nonce: self.made("nonce", &cookie),
            challenge: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref()),
            cookie,
        })
    }

    /// The one of this cookie, if this is its state and it is not over.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn back(&self, cookie: &str, state: &str, now_s: i64) -> Result<Back, &'static str> {
        const NOT_HERE: &str = "expected that of a sign-in that this browser has begun";
        let tag = BASE64_URL_SAFE_NO_PAD.decode(state).map_err(|_| NOT_HERE)?;
        // In the same time wherever they differ.
        let message = message("state", cookie);
        hmac::verify(&self.key, message.as_bytes(), &tag).map_err(|_| NOT_HERE)?;
        let begun = cookie.rsplit_once('.').and_then(|(_, time)| time.parse::<i64>().ok());
        let begun = begun.ok_or(NOT_HERE)?;
        if now_s.saturating_sub(begun) > LASTS_S {
            return Err("this sign-in was begun more than 10 minutes ago, expected a new one");
        }
        let (nonce, verifier) = (self.made("nonce", cookie), self.made("verifier", cookie));
        Ok(Back { nonce, verifier })
    }

    fn made(&self, what: &str, cookie: &str) -> String {
        BASE64_URL_SAFE_NO_PAD
            .encode(hmac::sign(&self.key, message(what, cookie).as_bytes()).as_ref())
    }
}

fn message(what: &str, cookie: &str) -> String {
    format!("{what}:{cookie}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_browser_that_began_one_ends_it_and_in_time() {
        let flows = Flows::new().unwrap();
        let (one, other) = (flows.begin(1000).unwrap(), flows.begin(1000).unwrap());
        assert!(one.state != other.state && one.nonce != other.nonce && one.state != one.nonce);
        let back = flows.back(&one.cookie, &one.state, 1000 + LASTS_S).unwrap();
        assert_eq!(back.nonce, one.nonce);
        let challenge = digest(&SHA256, back.verifier.as_bytes());
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(challenge.as_ref()), one.challenge);
        assert!((43..=128).contains(&back.verifier.len()));
        let check = |cookie: &str, state: &str, now_s, expected: &str| {
            let told = flows.back(cookie, state, now_s).unwrap_err();
            assert!(told.contains(expected), "{told}");
        };
        check(&one.cookie, &one.state, 1001 + LASTS_S, "10 minutes");
        check(&one.cookie, &other.state, 1000, "this browser has begun");
        check(&one.cookie, &one.nonce, 1000, "this browser has begun");
        check(&one.cookie, "", 1000, "this browser has begun");
        check("", &one.state, 1000, "this browser has begun");
        // Its time cannot be put off.
        let later = one.cookie.replace(".1000", ".9000");
        check(&later, &one.state, 9000, "this browser has begun");
        // Nor does another process know it.
        let elsewhere = Flows::new().unwrap();
        assert!(elsewhere.back(&one.cookie, &one.state, 1000).is_err());
    }
}
