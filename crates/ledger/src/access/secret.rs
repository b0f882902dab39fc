//! The text of a key: `fh_ID_SECRET`, of which only the hash is kept.
//!
//! A secret has 256 random bits, so that its plain SHA-256 tells nobody anything: there is no list
//! of likely ones to try.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::LedgerError;

/// What a key looks like, for messages.
pub const KEY_FORM: &str = "fh_ID_SECRET";

const PREFIX: &str = "fh_";
const ID_CHARS: usize = 10;
/// Of 32 bytes in base64url (RFC 4648, section 5) without padding.
const SECRET_CHARS: usize = 43;
const ID_ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The whole text of a key, to be shown once.
pub struct Secret(String);

impl Secret {
    /// A new one for the key of this id.
    ///
    /// # Errors
    /// [`LedgerError::NoRandom`].
    pub fn draw(id: &str) -> Result<Self, LedgerError> {
        let secret = BASE64_URL_SAFE_NO_PAD.encode(random::<32>()?);
        Ok(Self(format!("{PREFIX}{id}_{secret}")))
    }

    /// An id for a new key.
    ///
    /// # Errors
    /// [`LedgerError::NoRandom`].
    pub fn draw_id() -> Result<String, LedgerError> {
        // That some are likelier by one in five thousand does not matter: an id is no secret.
        let number = u64::from_be_bytes(random::<8>()?);
        let digits = (0..ID_CHARS as u32).map(|place| number / 36_u64.pow(place) % 36);
        Ok(digits.map(|idx| char::from(ID_ALPHABET[idx as usize])).collect())
    }

    /// The text.
    pub fn shown(&self) -> &str {
        &self.0
    }

    /// The hash by which it is known.
    pub fn hash(&self) -> [u8; 32] {
        Self::hash_of(&self.0)
    }

    /// The hash of a text that may be one.
    pub fn hash_of(text: &str) -> [u8; 32] {
        let hash = digest(&SHA256, text.as_bytes());
        hash.as_ref().try_into().expect("FIPS 180-4: a SHA-256 has 32 bytes")
    }
}

/// Without the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({PREFIX}{}_…)", id_of(&self.0).unwrap_or_default())
    }
}

/// The id in the text of a key; `None` where it has not the form of one.
pub fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let has_form = secret.len() == SECRET_CHARS && secret.bytes().all(is_of_it);
    (is_id(id) && has_form).then_some(id)
}

/// Whether a text is the id of a key.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|byte| ID_ALPHABET.contains(&byte))
}

/// Random bytes of the system's.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], LedgerError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| LedgerError::NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_form_and_are_not_told() {
        let id = Secret::draw_id().unwrap();
        let (one, other) = (Secret::draw(&id).unwrap(), Secret::draw(&id).unwrap());
        assert_eq!(id_of(one.shown()), Some(&*id));
        assert_ne!(one.shown(), other.shown());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), Secret::hash_of(one.shown()));
        assert!(!format!("{one:?}").contains(&one.shown()[14..]), "{one:?}");
        assert_ne!(Secret::draw_id().unwrap(), id);
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        let secret = "A".repeat(43);
        assert_eq!(id_of(&format!("fh_abcdefghi0_{secret}")), Some("abcdefghi0"));
        let (short, long) = ("A".repeat(42), "A".repeat(44));
        for bad in [
            String::new(),
            "none".to_owned(),
            "sk-1234".to_owned(),
            format!("fh_abcdefghi_{secret}"),
            format!("fh_ABCDEFGHI0_{secret}"),
            format!("fh_abcdefghi0_{short}"),
            format!("fh_abcdefghi0_{long}"),
            format!("fh_abcdefghi0_{short}="),
            format!("fh_abcdefghi0_{short}ä"),
            format!(" fh_abcdefghi0_{secret}"),
            format!("xfh_abcdefghi0_{secret}"),
        ] {
            assert_eq!(id_of(&bad), None, "{bad}");
        }
    }
}
