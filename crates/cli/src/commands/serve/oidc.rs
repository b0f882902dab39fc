//! With whom people sign in, as settings. What a browser sees of it the server has; what goes to
//! the issuer, and the secret, only the broker.

use std::path::PathBuf;
use std::time::Duration;

use broker::{KeySource, Upstream, UpstreamKind};
use server::access::Role;
use server::{KEYS_UPSTREAM, RoleRule, SignIn, TOKEN_UPSTREAM};

use super::{Serve, some_time};

/// What the issuer may take to begin an answer, in milliseconds: somebody waits in a browser.
const FIRST_BYTE_MS: u64 = 10_000;

/// What the owner says of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OidcArgs {
    /// Let people sign in with this issuer of OpenID Connect, as its tokens name it, such as
    /// https://login.example (docs/keys.md; default: nobody signs in)
    #[arg(long, value_name = "URL")]
    oidc_issuer: Option<String>,
    /// What the issuer calls this server
    #[arg(long, value_name = "ID")]
    oidc_client_id: Option<String>,
    /// Environment variable that has the client's secret
    #[arg(long, value_name = "VARIABLE")]
    oidc_secret_env: Option<String>,
    /// File that has the client's secret, alone, and which not everybody on this machine may read;
    /// only the broker reads it
    #[arg(long, value_name = "FILE")]
    oidc_secret_file: Option<PathBuf>,
    /// The issuer's authorization_endpoint, where browsers go
    #[arg(long, value_name = "URL")]
    oidc_authorize_url: Option<String>,
    /// The issuer's token_endpoint, which the broker asks what a code is worth
    #[arg(long, value_name = "URL")]
    oidc_token_url: Option<String>,
    /// The issuer's jwks_uri, where the broker reads its keys
    #[arg(long, value_name = "URL")]
    oidc_keys_url: Option<String>,
    /// Authorities that sign the issuer's certificates, in PEM, instead of this system's
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// Where the issuer sends browsers back to: this server's address and /login/callback
    #[arg(long, value_name = "URL")]
    oidc_redirect_url: Option<String>,
    /// What is asked for, with spaces between
    #[arg(long, value_name = "SCOPES", default_value = "openid profile email")]
    oidc_scopes: String,
    /// Give a role (owner, operator, auditor, user) to those whose claim is a value, or a list that
    /// has it, such as 'groups ops=operator' (may be repeated; the first that fits counts)
    #[arg(long, value_name = "CLAIM VALUE=ROLE", value_parser = rule)]
    oidc_role: Vec<RoleRule>,
    /// The role of all others whom the issuer signs in (default: they are refused)
    #[arg(long, value_name = "ROLE", value_parser = role)]
    oidc_default_role: Option<Role>,
    /// How long somebody stays signed in
    #[arg(long, value_name = "TIME", value_parser = some_time, default_value = "8h")]
    oidc_session: Duration,
}

impl Serve {
    /// With whom people sign in.
    ///
    /// # Errors
    /// The setting, its value, and what was expected.
    pub(super) fn sign_in(&self) -> Result<Option<SignIn>, String> {
        let of = &self.oidc;
        let place = |name: &str| self.settings.place(&format!("oidc-{name}"));
        let others = [
            ("client-id", &of.oidc_client_id),
            ("authorize-url", &of.oidc_authorize_url),
            ("token-url", &of.oidc_token_url),
            ("keys-url", &of.oidc_keys_url),
            ("redirect-url", &of.oidc_redirect_url),
        ];
        let Some(issuer) = &of.oidc_issuer else {
            let given = others.iter().find(|(_, value)| value.is_some()).map(|(name, _)| *name);
            let given = given.or_else(|| of.oidc_secret_env.as_ref().map(|_| "secret-env"));
            let given = given.or_else(|| of.oidc_secret_file.as_ref().map(|_| "secret-file"));
            let given = given.or_else(|| of.oidc_ca_file.as_ref().map(|_| "ca-file"));
            let given = given.or_else(|| of.oidc_role.first().map(|_| "role"));
            let given = given.or_else(|| of.oidc_default_role.map(|_| "default-role"));
            let alone = |name: &str| format!("{}: expected --oidc-issuer beside it", place(name));
            return given.map_or(Ok(None), |name| Err(alone(name)));
        };
        let missing = others.iter().find(|(_, value)| value.is_none());
        if let Some((name, _)) = missing {
            return Err(format!("{}: expected --oidc-{name} beside it", place("issuer")));
        }
        if of.oidc_secret_env.is_some() && of.oidc_secret_file.is_some() {
            return Err(format!("{}: expected no --oidc-secret-file too", place("secret-env")));
        }
        if self.ledger.is_none() {
            let expected = "each sign-in is an entry of the ledger, expected one";
            return Err(format!("{}: {expected}", place("issuer")));
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let sign_in = SignIn {
            issuer: issuer.clone(),
            client_id: text(&of.oidc_client_id),
            has_secret: self.oidc_secret().is_some(),
            authorize_url: text(&of.oidc_authorize_url),
            redirect_url: text(&of.oidc_redirect_url),
            scopes: of.oidc_scopes.clone(),
            roles: of.oidc_role.clone(),
            default_role: of.oidc_default_role,
            lasts: of.oidc_session,
        };
        sign_in.check().map_err(|(name, problem)| format!("{}: {problem}", place(name)))?;
        for (name, upstream) in ["token-url", "keys-url"].into_iter().zip(self.issuer()) {
            upstream.check().map_err(|error| format!("{}: {error}", place(name)))?;
        }
        Ok(Some(sign_in))
    }

    fn oidc_secret(&self) -> Option<KeySource> {
        let of = &self.oidc;
        let env = of.oidc_secret_env.clone().map(KeySource::Env);
        env.or_else(|| of.oidc_secret_file.clone().map(KeySource::File))
    }

    /// The issuer's endpoints, as the broker is to know them; none where nobody signs in.
    pub(super) fn issuer(&self) -> Vec<Upstream> {
        let of = &self.oidc;
        let (Some(token), Some(keys)) = (&of.oidc_token_url, &of.oidc_keys_url) else {
            return Vec::new();
        };
        let upstream = |name, url: &String| {
            let mut upstream = Upstream::new(name, UpstreamKind::Oidc, vec![url.clone()]);
            upstream.ca_file.clone_from(&of.oidc_ca_file);
            upstream.first_byte_timeout_ms = FIRST_BYTE_MS;
            upstream
        };
        let mut of_tokens = upstream(TOKEN_UPSTREAM, token);
        // A code is taken once.
        of_tokens.retries = 0;
        of_tokens.key = self.oidc_secret();
        of_tokens.user = of.oidc_client_id.clone().unwrap_or_default();
        vec![of_tokens, upstream(KEYS_UPSTREAM, keys)]
    }
}

fn role(text: &str) -> Result<Role, String> {
    let names = || Role::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    Role::of_name(text).ok_or_else(|| format!("expected one of {}", names()))
}

/// Reads `CLAIM VALUE=ROLE`: claims have no spaces, roles no `=`.
fn rule(text: &str) -> Result<RoleRule, String> {
    let parts = text.rsplit_once('=').and_then(|(whose, role)| {
        let (claim, value) = whose.split_once(' ')?;
        (!claim.is_empty() && !value.is_empty()).then_some((claim, value, role))
    });
    let (claim, value, name) =
        parts.ok_or("expected CLAIM VALUE=ROLE, such as 'groups ops=operator'")?;
    Ok(RoleRule { claim: claim.to_owned(), value: value.to_owned(), role: role(name)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let check = |text: &str, expected: Option<(&str, &str, Role)>| {
            let found = rule(text).ok();
            let found = found.as_ref().map(|of| (&*of.claim, &*of.value, of.role));
            assert_eq!(found, expected, "{text}");
        };
        check("groups ops=operator", Some(("groups", "ops", Role::Operator)));
        check("https://a/b c=d e=user", Some(("https://a/b", "c=d e", Role::User)));
        for wrong in ["", "groups", "groups=user", "groups =user", " ops=user", "groups ops=king"] {
            check(wrong, None);
        }
    }
}
