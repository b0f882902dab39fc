//! JSON web tokens.

use super::candidate::SURE;
use super::{Group, Kind};

/// Three parts in base64url, of which the first two are JSON objects, so begin with `eyJ`
/// (RFC 7519 section 3, RFC 7515 section 7.1).
pub(super) const JWT: Kind = Kind {
    name: "jwt",
    group: Group::Secret,
    patterns: &[r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"],
    words: &[],
    judge: |candidate| candidate.whole(SURE),
};

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn a_token_has_three_parts() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P";
        check(&format!("({token})"), &[&format!("jwt:{token}")]);
        check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0", &[]);
        check("eyJhbGciOiJIUzI1NiJ9", &[]);
    }
}
