//! One request: its name, when it came, and who asks.

use super::{Peer, is_loopback};
use crate::access::Who;
use crate::accounts;
use crate::dialects::Family;
use crate::errors::BadRequest;
use crate::receipts::Receipt;
use crate::serve::limited::Limited;
use crate::traces;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method};
use engine::{CacheScope, DateTime, Priority, local_time};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Longest request id that is taken over from a client.
const N_ID_CHARS: usize = 128;

/// The name of the route of requests that have none.
const NO_ROUTE: &str = "none";

/// One request's name and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// From the client where it sent a sane one.
    pub(crate) id: String,
    /// As it is declared, not as it was asked for; [`NO_ROUTE`] where there is none.
    pub(crate) route: String,
    /// `None`: it did not come by HTTP.
    pub(crate) method: Option<&'static str>,
    /// Where the connection arrived.
    pub(crate) local: Option<SocketAddr>,
    /// The trace that it is part of.
    pub(crate) trace: Option<traces::Context>,
    pub(crate) started: Instant,
    /// The same in microseconds since 1970, and as a clock on the wall shows it.
    pub(crate) at_us: i64,
    pub(crate) now: DateTime,
    /// The seeds of its choices, of a request that is asked once more, and what limits made of it.
    pub(crate) seeds: Option<Arc<[u64]>>,
    pub(crate) limited: Option<Arc<Limited>>,
    /// Who asks.
    pub(crate) who: Arc<Who>,
    /// The number of whoever asks: who gets fair shares of the engine.
    pub(crate) principal: u64,
    /// With whom it shares the prefix cache.
    pub(crate) cache: CacheScope,
    /// Whether it came from this machine.
    pub(crate) is_local: bool,
    /// Whether its sender has consented to it being kept as a case.
    pub(crate) is_recorded: bool,
    /// The highest that it can have.
    pub(crate) priority: Priority,
    /// In whose shape it is refused where no route of a family's has taken it.
    pub(super) family: Family,
}

/// What a request is called: as its client says, where that is sane, else anew.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        let is_sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        (1..=N_ID_CHARS).contains(&id.len()) && id.bytes().all(is_sane)
    };
    // OpenAI's name for it, and Anthropic's.
    let header = |name| headers.get(name).and_then(|id: &HeaderValue| id.to_str().ok());
    let given = header("x-request-id").or_else(|| header("request-id")).filter(sane);
    given.map_or_else(|| format!("req_{}", random_hex()), str::to_owned)
}

/// The address at which a connection arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local(pub(crate) SocketAddr);

impl Arrival {
    pub(super) fn new(request: &Request, who: Arc<Who>, principal: u64, cache: CacheScope) -> Self {
        let headers = request.headers();
        let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str);
        Self {
            id: request_id(headers),
            route: route.to_owned(),
            method: Some(word(request.method())),
            local: request.extensions().get::<Local>().map(|Local(address)| *address),
            trace: traces::Context::of(headers),
            started: Instant::now(),
            at_us: accounts::now_us(),
            now: local_time(),
            seeds: None,
            limited: None,
            who,
            principal,
            cache,
            is_local: is_loopback(request.extensions().get::<Peer>().copied()),
            is_recorded: false,
            priority: Priority::Interactive,
            family: Family::of(request.uri().path(), headers),
        }
    }

    /// The same request once more.
    pub(crate) fn again(&self) -> Self {
        let started = Instant::now();
        Self { started, at_us: accounts::now_us(), now: local_time(), ..self.clone() }
    }

    /// See [`App::line`].
    pub(super) fn of_line(
        id: String,
        route: &'static str,
        who: Arc<Who>,
        cache: CacheScope,
        client: u64,
    ) -> Self {
        Self {
            id,
            route: route.to_owned(),
            method: None,
            local: None,
            trace: None,
            started: Instant::now(),
            at_us: accounts::now_us(),
            now: local_time(),
            seeds: None,
            limited: None,
            who,
            principal: client,
            cache,
            is_local: false,
            is_recorded: false,
            priority: Priority::Batch,
            family: Family::OpenAi,
        }
    }

    /// A request of this process's own.
    pub(crate) fn in_process() -> Self {
        let who = Arc::new(Who::owner());
        Self::new(&Request::new(Body::empty()), who, 0, CacheScope::Shared)
    }

    /// The request of a receipt once more, by this process: at the same time by the same clock.
    ///
    /// # Errors
    /// A time that is none.
    pub(crate) fn of_receipt(receipt: &Receipt) -> Result<Self, BadRequest> {
        let local = &receipt.time.local;
        let wrong = |_| BadRequest::field("time.local", &format!("{local:?}: expected a time"));
        Ok(Self {
            route: receipt.request.route.clone(),
            now: local.parse().map_err(wrong)?,
            seeds: Some(receipt.choices.iter().map(|choice| choice.seed).collect()),
            limited: Limited::of(&receipt.adapted, receipt.parameters.max_tokens),
            ..Self::in_process()
        })
    }

    /// The random part of the answer's id. Not the request's: a client may send one twice.
    pub(crate) fn answer_id(&self) -> String {
        random_hex()
    }

    /// When the answer began: Unix seconds, and nanoseconds beside them.
    pub(crate) fn unix_time(&self) -> (u64, u32) {
        unix_time()
    }
}

/// A method's name, if it is one of those that there are.
pub(super) fn word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

pub(super) fn unix_seconds() -> u64 {
    unix_time().0
}

pub(super) fn unix_time() -> (u64, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs(), now.subsec_nanos())
}

/// 32 hexadecimal digits that do not come twice. Names, not secrets: the standard library's
/// hasher is keyed at random for each process and differs with each instance.
pub(crate) fn random_hex() -> String {
    let hash = || RandomState::new().hash_one(SystemTime::now());
    format!("{:016x}{:016x}", hash(), hash())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn only_sane_request_ids_are_taken_over() {
        let check = |id: &str, taken: bool| {
            for name in ["x-request-id", "request-id"] {
                let request = Request::builder().header(name, id).body(Body::empty()).unwrap();
                let who = Arc::new(Who::owner());
                let arrival = Arrival::new(&request, who, 0, CacheScope::Off);
                assert_eq!(arrival.id == id, taken, "{name}: {id}");
            }
        };
        check("trace-1.2:a/b_C", true);
        check("", false);
        check("two words", false);
        check("<script>", false);
        check(&"a".repeat(N_ID_CHARS), true);
        check(&"a".repeat(N_ID_CHARS + 1), false);
    }

    #[test]
    fn random_names_differ() {
        let names: HashSet<String> = (0..1000).map(|_| random_hex()).collect();
        assert_eq!(names.len(), 1000);
    }
}
