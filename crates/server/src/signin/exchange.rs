//! The flow itself: where a browser is sent, what its code is worth, and who somebody is then.
//! Each sign-in, refusal and sign-out is an entry of the ledger, without anything of a token.

use super::flow::{Begun, Flows};
use super::jwks::{Jwks, SET_BYTES_MAX, place_of};
use super::token::{self, Claims, Expected, Untrue};
use super::{SignIn, form, value_of};
use crate::access::{Person, Role, Who, number_of};
use crate::app::{App, Arrival, random_hex};
use crate::departures::{Leaving, Left};
use crate::errors::{BadRequest, ServerError};
use crate::receipts::{Receipts, unwritable};
use crate::upstream;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use broker::{Outgoing, sha256};
use ledger::{Entry, Kind, Secret};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The names by which the broker knows the issuer's endpoints.
pub const TOKEN_UPSTREAM: &str = "oidc-token";
/// As above.
pub const KEYS_UPSTREAM: &str = "oidc-keys";

/// How long an answer of the issuer's may take.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Largest one.
const ANSWER_BYTES_MAX: usize = SET_BYTES_MAX;
/// For how long keys are taken without looking again, and the pause between two looks: anybody can
/// bring a token with a key that nobody knows.
const KEYS_LAST: Duration = Duration::from_secs(3600);
const KEYS_PAUSE: Duration = Duration::from_secs(30);
/// Sign-ins that may come back at once, and the pause in which there is one more: each asks the
/// issuer and writes in the ledger, and whoever wants to can begin one.
const N_TURNS: u32 = 30;
const TURN_PAUSE: Duration = Duration::from_secs(2);
/// Longest code.
const CODE_BYTES_MAX: usize = 4096;
/// Characters of somebody's name that are the issuer's.
const NAME_CHARS: usize = 58;

/// Where people sign in.
pub(crate) struct Desk {
    pub(crate) config: SignIn,
    flows: Flows,
    keys: tokio::sync::Mutex<Option<Known>>,
    turns: Mutex<(u32, Instant)>,
}

/// The issuer's keys.
struct Known {
    keys: Arc<Jwks>,
    since: Instant,
}

/// Somebody has signed in.
pub(crate) struct SignedIn {
    pub(crate) cookie: Secret,
    /// The id of the session, and its end in microseconds since 1970.
    session: String,
    expires: i64,
    name: String,
    role: Role,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

impl Desk {
    pub(crate) fn new(config: SignIn) -> Result<Self, ServerError> {
        let problem = |(field, problem): (&str, String)| {
            ServerError::Config(format!("oidc-{field}: {problem}"))
        };
        config.check().map_err(problem)?;
        let flows = Flows::new().ok_or_else(no_random)?;
        let turns = Mutex::new((N_TURNS, Instant::now()));
        Ok(Self { config, flows, keys: tokio::sync::Mutex::default(), turns })
    }

    /// Where a browser goes to sign in, and the cookie with which it comes back.
    pub(crate) fn begin(&self, now_us: i64) -> Result<(String, String), ServerError> {
        let begun = self.flows.begin(now_us / 1_000_000).ok_or_else(no_random)?;
        let Begun { cookie, state, nonce, challenge } = begun;
        let config = &self.config;
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &config.client_id),
            ("redirect_uri", &config.redirect_url),
            ("scope", &config.scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let with = if config.authorize_url.contains('?') { '&' } else { '?' };
        Ok((format!("{}{with}{query}", config.authorize_url), cookie))
    }

    /// Signs in whoever comes back with this query and this cookie, or says why not; both are in
    /// the ledger then.
    pub(crate) async fn end(
        &self,
        app: &App,
        arrival: &Arrival,
        (query, cookie): (&str, Option<&str>),
    ) -> Result<SignedIn, ServerError> {
        self.take_turn()?;
        let mut name = None;
        let ended = self.ended(app, arrival, (query, cookie), &mut name).await;
        let receipts = receipts(app)?;
        let (issuer, at) = (&self.config.issuer, arrival.at_us);
        let (principal, body) = match &ended {
            Ok(of) => {
                let principal = format!("person:{}:{}", of.name, of.session);
                let expires = of.expires / 1_000_000;
                let body = json!({
                    "act": "sign_in", "issuer": issuer, "name": of.name, "session": of.session,
                    "role": of.role.name(), "expires_at": expires,
                });
                (principal, body)
            }
            Err(error) => {
                let body = json!({
                    "act": "sign_in.refused", "issuer": issuer, "name": name,
                    "why": error.to_string(),
                });
                (arrival.who.name.clone(), body)
            }
        };
        let written = note(receipts, at, principal, &body).await;
        match (ended, written) {
            (Ok(of), Err(error)) => {
                app.access.sessions.close(&of.session);
                Err(error)
            }
            (ended, _) => ended,
        }
    }

    async fn ended(
        &self,
        app: &App,
        arrival: &Arrival,
        (query, cookie): (&str, Option<&str>),
        name: &mut Option<String>,
    ) -> Result<SignedIn, ServerError> {
        let wrong = |param: &str, problem: &str| BadRequest::field(param, problem);
        let state = value_of(query, "state").unwrap_or_default();
        let now_s = arrival.at_us / 1_000_000;
        let back = self.flows.back(cookie.unwrap_or_default(), &state, now_s);
        let back = back.map_err(|problem| wrong("state", problem))?;
        if value_of(query, "iss").is_some_and(|iss| iss != self.config.issuer) {
            return Err(wrong("iss", "expected the issuer of the settings (RFC 9207)").into());
        }
        if query.split('&').any(|pair| pair.starts_with("error=")) {
            let error = value_of(query, "error").filter(|error| is_word(error));
            let error = error.as_deref().unwrap_or("an error");
            return Err(ServerError::Forbidden(format!("the issuer signs nobody in: {error}")));
        }
        let code = value_of(query, "code").filter(|code| code.len() <= CODE_BYTES_MAX);
        let code = code.ok_or_else(|| wrong("code", "expected that of the issuer"))?;
        let config = &self.config;
        let mut asked = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", config.redirect_url.as_str()),
            ("code_verifier", back.verifier.as_str()),
        ];
        if !config.has_secret {
            asked.push(("client_id", config.client_id.as_str()));
        }
        let answer = ask(app, arrival, TOKEN_UPSTREAM, form(&asked)).await?;
        let answer: TokenAnswer = serde_json::from_slice(&answer)
            .map_err(|error| untrue(&format!("its answer: {}", place_of(&error))))?;
        let (issuer, client_id) = (&*config.issuer, &*config.client_id);
        let expected = Expected { issuer, client_id, nonce: &back.nonce, now_s };
        let claims = self.claims(app, arrival, &answer.id_token, &expected).await?;
        self.let_in(app, arrival, &claims, name)
    }

    /// What an ID token says; keys are asked for anew where it names one that is not known.
    async fn claims(
        &self,
        app: &App,
        arrival: &Arrival,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Claims, ServerError> {
        let keys = self.keys(app, arrival, KEYS_LAST).await?;
        let mut found = token::verify(token, &keys, expected);
        if found == Err(Untrue::UnknownKey) {
            let keys = self.keys(app, arrival, KEYS_PAUSE).await?;
            found = token::verify(token, &keys, expected);
        }
        found.map_err(|error| untrue(&format!("its ID token: {error}")))
    }

    /// The issuer's keys, asked for anew where they are older than this.
    async fn keys(
        &self,
        app: &App,
        arrival: &Arrival,
        age_max: Duration,
    ) -> Result<Arc<Jwks>, ServerError> {
        // Who comes meanwhile waits, and has the same.
        let mut known = self.keys.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.since.elapsed() < age_max) {
            return Ok(Arc::clone(&known.keys));
        }
        let answer = ask(app, arrival, KEYS_UPSTREAM, String::new()).await?;
        let keys = Jwks::read(&answer).map_err(|why| untrue(&format!("its keys: {why}")))?;
        let keys = Arc::new(keys);
        *known = Some(Known { keys: Arc::clone(&keys), since: Instant::now() });
        Ok(keys)
    }

    /// Opens a session for somebody who has a role.
    fn let_in(
        &self,
        app: &App,
        arrival: &Arrival,
        claims: &Claims,
        told: &mut Option<String>,
    ) -> Result<SignedIn, ServerError> {
        let name = name_of(claims);
        *told = Some(name.clone());
        let role = self.config.role(claims).ok_or_else(|| {
            ServerError::Forbidden(format!(
                "{name:?} has signed in and has no role here: expected one of the owner's rules \
                 (oidc-role) to fit"
            ))
        })?;
        let whose = format!("{}\n{}", self.config.issuer, claims.subject);
        let person = Person { name: name.clone(), number: number_of("person", &whose), role };
        let lasts_us = i64::try_from(self.config.lasts.as_micros()).unwrap_or(i64::MAX);
        let expires = arrival.at_us.saturating_add(lasts_us);
        let opened = app.access.sessions.open(person, arrival.at_us, expires);
        let opened = opened.map_err(|_| no_random())?;
        let (session, cookie) = opened.ok_or_else(|| ServerError::Overloaded {
            what: "as many people have signed in as may".to_owned(),
            retry_after: Duration::from_secs(60),
        })?;
        Ok(SignedIn { cookie, session, expires, name, role })
    }

    fn take_turn(&self) -> Result<(), ServerError> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = &mut *turns;
        let more = since.elapsed().as_secs() / TURN_PAUSE.as_secs();
        if more > 0 {
            *left = left.saturating_add(u32::try_from(more).unwrap_or(N_TURNS)).min(N_TURNS);
            *since = Instant::now();
        }
        *left = left.checked_sub(1).ok_or_else(|| ServerError::Overloaded {
            what: "many sign in at once".to_owned(),
            retry_after: TURN_PAUSE,
        })?;
        Ok(())
    }
}

/// Writes down that somebody's session was ended, and by whom.
pub(crate) async fn note_end(app: &App, arrival: &Arrival, session: &str, of: &Who) {
    let body = json!({"act": "sign_out", "name": of.name, "session": session});
    let Ok(receipts) = receipts(app) else { return };
    // It is ended all the same; why it is not written is in the log.
    let _ = note(receipts, arrival.at_us, arrival.who.principal(), &body).await;
}

async fn note(
    receipts: &Receipts,
    at: i64,
    principal: String,
    body: &Value,
) -> Result<(), ServerError> {
    let id = format!("signin_{at:016x}{}", &random_hex()[..12]);
    let entry = Entry { kind: Kind::Audit, id, at, principal, body: body.to_string() };
    let written = receipts.ledger().append_durable(entry).await;
    written.map(drop).map_err(|error| {
        tracing::error!(%error, "a sign-in or its end was not recorded");
        unwritable("a sign-in cannot be recorded")
    })
}

fn receipts(app: &App) -> Result<&Receipts, ServerError> {
    let none = || ServerError::NotImplemented("nobody signs in without a ledger".to_owned());
    app.receipts.as_ref().ok_or_else(none)
}

/// Asks the issuer, by the broker, with a departure; a form, or nothing.
async fn ask(
    app: &App,
    arrival: &Arrival,
    upstream: &'static str,
    body: String,
) -> Result<Vec<u8>, ServerError> {
    let none = || ServerError::Failed("there is no broker to reach the issuer by".to_owned());
    let broker = app.broker.as_ref().ok_or_else(none)?;
    let leaving = Leaving {
        at_us: arrival.at_us,
        principal: arrival.who.principal(),
        key: &arrival.who.name,
        project: None,
        request: &arrival.id,
        upstream,
        model: "",
        label: "private",
        rule: "oidc",
        n_bytes: body.len(),
        sha256: sha256(body.as_bytes()),
        redacted: BTreeMap::new(),
        n_prompt: 0,
        n_answer_max: 0,
    };
    let mut left = Left::record(receipts(app)?, &app.ways.get(), &leaving).await?;
    let outgoing = Outgoing {
        departure: left.id().to_owned(),
        upstream: upstream.to_owned(),
        path: "",
        headers: Vec::new(),
        body: body.into(),
        deadline: Instant::now() + ANSWER_TIME,
        affinity: None,
    };
    let read = async {
        let mut incoming = broker.send(outgoing).await?;
        let end = left.end();
        end.status = Some(incoming.status);
        end.address = std::mem::take(&mut incoming.address);
        end.attempts = incoming.attempts;
        let mut bytes = Vec::new();
        while let Some(piece) = incoming.body.chunk().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    };
    let read: Result<Option<Vec<u8>>, broker::BrokerError> = read.await;
    let failed = |error: broker::BrokerError| {
        // What it says of a code or a client is the owner's to read, and has no token in it.
        tracing::warn!(%error, "the issuer of sign-ins gave no answer");
        upstream::failure(upstream, &error, |_| String::new())
    };
    let answer = read.map_err(failed).and_then(|bytes| {
        bytes.ok_or_else(|| untrue(&format!("more than {ANSWER_BYTES_MAX} bytes")))
    });
    left.end().outcome = Some(answer.as_ref().map_or_else(ServerError::word, |_| "done"));
    answer
}

/// What the issuer says is not what it must be.
fn untrue(what: &str) -> ServerError {
    ServerError::Forbidden(format!("the issuer's word is not taken: {what}"))
}

fn no_random() -> ServerError {
    ServerError::Failed("the system gives no random bytes".to_owned())
}

/// A word of OAuth's for an error (RFC 6749, section 4.1.2.1).
fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// By which somebody stands in lists and records, as a key's name would: the address, where the
/// issuer has verified it, else the issuer's own name. One that keys cannot have has its hash.
fn name_of(claims: &Claims) -> String {
    let said = claims.email().unwrap_or(&claims.subject);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    if said.chars().all(is_plain) && said.len() <= NAME_CHARS {
        return format!("oidc.{said}");
    }
    let hash = digest(&SHA256, said.as_bytes());
    format!("oidc.{}", BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..15]))
}
