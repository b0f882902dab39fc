//! What all requests share, the routes, and what wraps every response.

pub(crate) mod admin;
pub(crate) mod batches;
mod clients;
pub(crate) mod departures;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod ollama;
mod own;
pub(crate) mod persons;
pub(crate) mod policy;
pub(crate) mod receipts;
pub(crate) mod reload;
pub(crate) mod responses;
pub(crate) mod signin;
pub(crate) mod upkeep;
pub(crate) mod usage;

pub(crate) use clients::{Peer, is_loopback};

use crate::access::{Access, Sessions, Who};
use crate::accounts::{self, Accounts};
use crate::background::Background;
use crate::batches::Batches;
use crate::cases::Cases;
use crate::dialects::llama::TokenDialect;
use crate::dialects::{Dialect, Family, VectorDialect, anthropic, fields, openai};
use crate::errors::{BadRequest, ServerError};
use crate::gate::{Gate, Passed};
use crate::kept::KeptAnswers;
use crate::library::Library;
use crate::limits::Limits;
use crate::metrics::{self, Metrics, Now};
use crate::models::Models;
use crate::page;
use crate::receipts::{Receipt, Receipts};
use crate::reload::{Current, Reload};
use crate::routes::{self, openapi};
use crate::running::Running;
use crate::seats::{Seat, Seats};
use crate::serve::limited::Limited;
use crate::serve::{
    N_SHADOWS, blocking, error_response, json_response, resume, serve, serve_tokens, serve_vectors,
};
use crate::signin::Desk;
use crate::streams::Streams;
use crate::tls::Tls;
use crate::traces::{self, Traces};
use crate::upstream::Ways;
use crate::{Config, Contents, Egress, Energy, ModelChanges, Shares, VERSION};
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use broker::Broker;
use clients::Numbers;
use engine::{CacheScope, DateTime, NUMERICS_VERSION, PrefixStore, Priority, Sampling, local_time};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Longest request id that is taken over from a client.
const N_ID_CHARS: usize = 128;

/// The name of the route of requests that have none.
const NO_ROUTE: &str = "none";

/// What pages of other origins may read of a response's headers, beside what is left of limits.
const EXPOSED: &str = "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, \
                       x-freehold-unused, x-freehold-adapted, x-freehold-ignored, \
                       x-freehold-resumable, x-freehold-canary, x-freehold-receipt, \
                       x-freehold-route, x-freehold-upstream, x-freehold-rule, \
                       x-freehold-redacted, x-freehold-fallback";

/// All of it.
static ALL_EXPOSED: LazyLock<HeaderValue> = LazyLock::new(|| {
    let names = accounts::NAMES.as_flattened().iter().copied();
    let all = [EXPOSED].into_iter().chain(names).collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&all).expect("names of headers are visible ASCII")
});

/// Threads that wait for models to open, at most: openings come one after the other anyway.
const N_OPENING: usize = 16;

/// Changes of models at once: each may fill a disk.
const N_CHANGES: usize = 2;
/// Threads of changes, those included that nobody waits for and that have not noticed yet: a read
/// from a server that says nothing takes its time to fail.
const N_CHANGING: usize = 16;

/// Files that are sent at once: each is on disk before it is known whether there is room for it.
const N_UPLOADS: usize = 4;

/// What all requests share.
pub(crate) struct App {
    pub(crate) models: Models,
    pub(crate) metrics: Metrics,
    /// Unix seconds.
    started: u64,
    pub(crate) limits: Current<Limits>,
    pub(crate) default_sampling: Sampling,
    /// Answers that requests may refer to.
    pub(crate) kept: KeptAnswers,
    /// Where contents are kept, if some are.
    pub(crate) contents: Option<Contents>,
    /// What requests take of energy, where that is known.
    pub(crate) energy: Option<Energy>,
    /// Where receipts go, if answers have some.
    pub(crate) receipts: Option<Receipts>,
    /// Where requests are held against limits and written down, if they are.
    pub(crate) accounts: Option<Accounts>,
    /// Where requests may go beside here.
    pub(crate) ways: Current<Ways>,
    /// Whoever reaches upstreams, where the owner has some.
    pub(crate) broker: Option<Broker>,
    /// The names of upstreams that cannot be asked now.
    pub(crate) down: Current<BTreeSet<String>>,
    /// Streams that their clients may resume.
    pub(crate) streams: Arc<Streams>,
    /// Answers that their clients ask for later.
    pub(crate) background: Arc<Background>,
    pub(crate) seats: Arc<Seats>,
    /// What is at work, and what was lately.
    pub(crate) running: Arc<Running>,
    /// Seats of requests for vectors.
    vector_seats: Arc<Semaphore>,
    /// Turns at waiting for a model to open.
    pub(crate) opening: Arc<Semaphore>,
    /// Turns at parsing, rendering and tokenizing.
    pub(crate) preparing: Arc<Semaphore>,
    /// Parts of the requests to aliases.
    pub(crate) shares: Current<Shares>,
    /// Turns at answering copies of requests.
    pub(crate) shadowing: Arc<Semaphore>,
    /// Turns at changing which models there are.
    pub(crate) changes: Arc<Semaphore>,
    /// Threads that do.
    pub(crate) changing: Arc<Semaphore>,
    /// Turns at sending files.
    pub(crate) uploading: Arc<Semaphore>,
    /// Files and batches of them, where clients may have some.
    batches: Option<Batches>,
    /// Where some requests are kept as cases for the gate.
    pub(crate) cases: Option<Cases>,
    /// What may be asked to, where anybody may.
    library: Option<Arc<dyn Library>>,
    model_changes: ModelChanges,
    egress: Egress,
    /// Becomes true when answers still in flight must end.
    pub(crate) over: watch::Receiver<bool>,
    /// Becomes true when no more requests are taken.
    draining: watch::Receiver<bool>,
    pub(crate) gate: Current<Gate>,
    /// Who may ask.
    pub(crate) access: Access,
    /// Where people sign in, if they do.
    pub(crate) sign_in: Option<Desk>,
    /// What connections that come now are served with.
    pub(crate) tls: Current<Option<Tls>>,
    /// Turns at handshakes.
    pub(crate) handshakes: Semaphore,
    /// Where requests leave their spans, if there is somebody for them.
    pub(crate) traces: Option<Traces>,
    /// Reads the configuration anew, where there is one to read.
    pub(crate) reload: Option<Arc<dyn Reload>>,
    /// Told where the process is asked to have it read.
    pub(crate) reload_told: Arc<Notify>,
    /// Held while it is read and put in place.
    pub(crate) reloading: Arc<Mutex<()>>,
    numbers: Numbers,
    /// Makes those that outlast the process, where prompts are kept that long.
    prefix_store: Option<PrefixStore>,
}

impl App {
    /// `over` and `draining` are the signals of the fields of these names.
    pub(crate) fn new(
        config: Config,
        over: watch::Receiver<bool>,
        draining: watch::Receiver<bool>,
    ) -> Result<Self, ServerError> {
        let started = unix_seconds();
        let handshakes = Semaphore::new(config.limits.n_handshakes);
        Ok(Self {
            models: Models::new(
                config.fleet,
                config.models,
                config.aliases,
                config.library.clone(),
                &config.elsewhere.names(),
                started,
            )?,
            started,
            metrics: Metrics::default(),
            seats: Seats::new(config.limits.n_requests),
            running: Arc::default(),
            vector_seats: Arc::new(Semaphore::new(config.limits.n_vector_requests)),
            opening: Arc::new(Semaphore::new(N_OPENING)),
            preparing: Arc::new(Semaphore::new(config.limits.n_preparing)),
            shares: Current::new(config.shares),
            shadowing: Arc::new(Semaphore::new(N_SHADOWS)),
            changes: Arc::new(Semaphore::new(N_CHANGES)),
            changing: Arc::new(Semaphore::new(N_CHANGING)),
            library: config.library,
            model_changes: config.model_changes,
            egress: config.egress,
            default_sampling: config.default_sampling,
            kept: KeptAnswers::new(config.limits.keep_responses, config.limits.n_kept_bytes),
            streams: Streams::new(&config.limits),
            background: Background::new(config.limits.keep_responses),
            limits: Current::new(config.limits),
            over,
            draining,
            gate: Current::new(Gate::new(&config.allowed_hosts, &config.allowed_origins)),
            access: Access::new(
                config.receipts.as_ref().map(|receipts| receipts.ledger().clone()),
                config.local_access,
                config.allow_anyone,
                Sessions::new(config.sign_in.as_ref().map(|of| of.cookies().0)),
            ),
            sign_in: config.sign_in.map(Desk::new).transpose()?,
            tls: Current::new(config.tls),
            handshakes,
            traces: config.traces,
            reload: config.reload,
            reload_told: config.reload_told,
            reloading: Arc::default(),
            accounts: config.receipts.as_ref().map(Accounts::of).transpose()?,
            numbers: Numbers::new(config.batches.as_ref(), config.receipts.as_ref()),
            receipts: config.receipts,
            contents: config.contents,
            energy: config.energy,
            ways: Current::new(Ways::new(config.elsewhere)),
            broker: config.broker,
            down: Current::new(BTreeSet::new()),
            uploading: Arc::new(Semaphore::new(N_UPLOADS)),
            batches: config.batches,
            cases: config.cases,
            prefix_store: config.prefix_store,
        })
    }

    /// A place among the requests for vectors, beside that of [`App::admit`].
    pub(crate) fn admit_vectors(&self) -> Result<OwnedSemaphorePermit, ServerError> {
        self.vector_seats.clone().try_acquire_owned().map_err(|_| ServerError::Overloaded {
            what: format!(
                "{} requests for vectors are at work",
                self.limits.get().n_vector_requests
            ),
            retry_after: Duration::from_secs(1),
        })
    }

    /// Files and batches, where the owner lets clients have some.
    pub(crate) fn batches(&self) -> Result<Batches, ServerError> {
        self.batches.clone().ok_or_else(|| {
            ServerError::Forbidden(
                "no files and batches are kept here: expected the server to be started with \
                 `freehold serve --batches FOLDER`"
                    .to_owned(),
            )
        })
    }

    /// Whether the answer to a request is to have a receipt, should there be an answer.
    pub(crate) fn has_receipt(&self, arrival: &Arrival) -> bool {
        self.receipts.is_some() || arrival.seeds.is_some()
    }

    /// Refuses to answer where no receipt could be written.
    pub(crate) fn check_ledger(&self) -> Result<(), ServerError> {
        self.receipts.as_ref().map_or(Ok(()), Receipts::check)
    }

    /// A place among the requests at work.
    pub(crate) fn admit(&self, arrival: &Arrival) -> Result<Seat, ServerError> {
        self.seats.take(arrival.principal)
    }
}

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
    family: Family,
}

impl Arrival {
    fn new(request: &Request, who: Arc<Who>, principal: u64, cache: CacheScope) -> Self {
        let headers = request.headers();
        let sane = |id: &&str| {
            let is_sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
            (1..=N_ID_CHARS).contains(&id.len()) && id.bytes().all(is_sane)
        };
        // OpenAI's name for it, and Anthropic's.
        let header = |name| headers.get(name).and_then(|id: &HeaderValue| id.to_str().ok());
        let given = header("x-request-id").or_else(|| header("request-id")).filter(sane);
        let id = given.map_or_else(|| format!("req_{}", random_hex()), str::to_owned);
        let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str);
        Self {
            id,
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
    fn of_line(
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

fn unix_seconds() -> u64 {
    unix_time().0
}

fn unix_time() -> (u64, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs(), now.subsec_nanos())
}

/// 32 hexadecimal digits that do not come twice. Names, not secrets: the standard library's
/// hasher is keyed at random for each process and differs with each instance.
pub(crate) fn random_hex() -> String {
    let hash = || RandomState::new().hash_one(SystemTime::now());
    format!("{:016x}{:016x}", hash(), hash())
}

/// The address at which a connection arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local(pub(crate) SocketAddr);

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in routes::all() {
        for path in route.paths {
            router = router.route(path, (route.handler)());
        }
    }
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), wrap))
        .with_state(app)
}

/// `uri` with its path in the form that the routes have: clients join base addresses and paths
/// with one slash too many. `None` where it is so already.
pub(crate) fn plain_path(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && (path.len() == 1 || !path.ends_with('/')) {
        return None;
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", parts.join("/")).parse().ok()
}

/// Around every request: its name, the gate, who asks and whether they may, and the headers that
/// every response carries.
async fn wrap(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    let peer = request.extensions().get::<Peer>().copied();
    let local = request.extensions().get::<Local>().copied();
    let passed = app.gate.get().check(local.map(|Local(address)| address), &request);
    let (arrival, admitted) = app.arrival(&request, peer);
    let method = request.method().clone();
    let path = fields::short(request.uri().path());
    let mut response = match (&passed, admitted) {
        (Err(error), _) => refuse(error, &arrival),
        // A browser asks this without a key.
        (Ok(passed), _) if passed.is_preflight(&request) => passed.preflight_response(&request),
        (Ok(_), Err(error)) => refuse(&error, &arrival),
        (Ok(_), Ok(())) => {
            request.extensions_mut().insert(arrival.clone());
            next.run(request).await
        }
    };
    if response.extensions_mut().remove::<Refused>().is_some() {
        // A client with a wrong base address is found by this line.
        let status = response.status().as_u16();
        tracing::info!(id = %arrival.id, %method, %path, status, "refused");
    }
    app.metrics.response(&arrival.route, word(&method), response.status().as_u16());
    let headers = response.headers_mut();
    if let Ok(Passed { origin: Some(origin) }) = &passed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ALL_EXPOSED.clone());
    }
    let id = HeaderValue::from_str(&arrival.id).expect("sane ids are visible ASCII");
    headers.insert("x-request-id", id.clone());
    headers.insert("request-id", id);
    response
}

/// A method's name, if it is one of those that there are.
fn word(method: &Method) -> &'static str {
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

pub(crate) async fn generate<D: Dialect + 'static>(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    serve::<D>(app, arrival, headers, body).await
}

pub(crate) async fn vectors<D: VectorDialect + 'static>(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    serve_vectors::<D>(app, arrival, headers, body).await
}

pub(crate) async fn tokens<D: TokenDialect>(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    serve_tokens::<D>(app, arrival, headers, body).await
}

pub(crate) async fn models(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    let cards = app.models.cards(&arrival.who);
    match arrival.family {
        Family::OpenAi | Family::Ollama => json_response(StatusCode::OK, openai::list_body(&cards)),
        Family::Anthropic => match anthropic::list_body(&cards, uri.query().unwrap_or_default()) {
            Ok(body) => json_response(StatusCode::OK, body),
            Err(bad) => refuse(&bad.into(), &arrival),
        },
    }
}

pub(crate) async fn model(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    let body = match arrival.family {
        Family::OpenAi | Family::Ollama => openai::model_body,
        Family::Anthropic => anthropic::model_body,
    };
    match app.models.card(&arrival.who, &id) {
        Ok(card) => json_response(StatusCode::OK, body(&card)),
        Err(error) => refuse(&error, &arrival),
    }
}

/// What is published of the routes.
pub(crate) async fn openapi() -> Response<Body> {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi::document().to_string());
    json_response(StatusCode::OK, DOCUMENT.clone())
}

/// The rest of a stream.
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Response<Body> {
    let place = resume::of_address(&id, uri.query().unwrap_or_default(), &headers);
    let resumed = place.map_err(ServerError::from).and_then(|place| match method {
        Method::HEAD => resume::looked(&app, &arrival, &place),
        _ => resume::resumed(&app, &arrival, &place, None),
    });
    resumed.unwrap_or_else(|error| refuse(&error, &arrival))
}

/// The page, to whoever can show one. Clients of Ollama look for its words.
pub(crate) async fn root(headers: HeaderMap) -> Response<Body> {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut response = match accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        true => page::response(page::INDEX, &headers).expect("the page has its first file"),
        false => {
            let words = "is running; to clients of its API: Ollama is running";
            format!("freehold {VERSION} {words}\n").into_response()
        }
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// A file of the page.
pub(crate) async fn page_file(
    Extension(arrival): Extension<Arrival>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let missing = || ServerError::NoSuchPath { path: format!("/web/{}", fields::short(&name)) };
    page::response(&name, &headers).unwrap_or_else(|| refuse(&missing(), &arrival))
}

/// A model that is not open is well: it opens when it is asked for. What is not well is one whose
/// engine has stopped; the next request to it opens it anew.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    health_response(app.models.stopped().as_deref())
}

fn health_response(stopped: Option<&str>) -> Response<Body> {
    let Some(model) = stopped else {
        return json_response(StatusCode::OK, r#"{"status":"ok"}"#.to_owned());
    };
    let body = serde_json::json!({"status": "stopped", "model": model});
    json_response(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
}

pub(crate) async fn metrics_page(State(app): State<Arc<App>>) -> Response<Body> {
    // Its lock may be held by one that writes.
    let batches = app.batches.clone();
    let gauges = blocking(move || Ok(batches.as_ref().map(Batches::gauges))).await;
    let limits = match &app.accounts {
        Some(accounts) => accounts.gauges().await,
        None => Vec::new(),
    };
    let text = app.metrics.text(&Now {
        version: VERSION,
        numerics: NUMERICS_VERSION,
        started: app.started,
        egress: app.egress,
        has_broker: app.broker.as_ref().map(|broker| broker.away().is_none()),
        n_at_work: app.seats.n_taken(),
        n_stream_bytes: app.streams.n_bytes(),
        rss_bytes: engine::rss_bytes(),
        models: app.models.gauges(),
        batches: gauges.unwrap_or_default(),
        spans: app.traces.as_ref().map(Traces::counts),
        limits,
    });
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Whether requests are answered. A model that is not open is opened for one, and one whose engine
/// has stopped is opened anew: whoever is told to stay away could not have it mended.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    ready_response(!*app.draining.borrow())
}

fn ready_response(is_ready: bool) -> Response<Body> {
    if is_ready {
        return json_response(StatusCode::OK, r#"{"status":"ready"}"#.to_owned());
    }
    let body = r#"{"status":"draining"}"#.to_owned();
    let mut response = json_response(StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

pub(crate) async fn version(State(app): State<Arc<App>>) -> Response<Body> {
    let egress = app.egress.name();
    json_response(StatusCode::OK, format!(r#"{{"version":"{VERSION}","egress":"{egress}"}}"#))
}

async fn no_such_path(Extension(arrival): Extension<Arrival>, uri: Uri) -> Response<Body> {
    let path = fields::short(uri.path());
    refuse(&ServerError::NoSuchPath { path }, &arrival)
}

/// The router adds `Allow`.
async fn method_not_allowed(
    Extension(arrival): Extension<Arrival>,
    method: Method,
    uri: Uri,
) -> Response<Body> {
    let path = fields::short(uri.path());
    refuse(&ServerError::MethodNotAllowed { method: method.to_string(), path }, &arrival)
}

/// Marks a response that no [`serve`] has logged.
#[derive(Clone)]
struct Refused;

/// A refusal outside any dialect's own routes.
fn refuse(error: &ServerError, arrival: &Arrival) -> Response<Body> {
    let mut response = error_response(error, arrival.family, &arrival.id);
    response.extensions_mut().insert(Refused);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn superfluous_slashes_are_taken_out() {
        let check = |uri: &str, expected: Option<&str>| {
            let found = plain_path(&uri.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
        };
        check("/", None);
        check("/v1/models", None);
        check("/v1/models/", Some("/v1/models"));
        check("//v1//models?x=/", Some("/v1/models?x=/"));
        check("//", Some("/"));
    }

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
    fn health_names_the_model_whose_engine_has_stopped() {
        assert_eq!(health_response(None).status(), 200);
        assert_eq!(health_response(Some("a/b")).status(), 503);
    }

    #[test]
    fn who_is_not_ready_says_when_to_come_again() {
        let check = |ready: bool, status: u16| {
            let response = ready_response(ready);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        };
        check(true, 200);
        check(false, 503);
    }

    #[test]
    fn random_names_differ() {
        let names: HashSet<String> = (0..1000).map(|_| random_hex()).collect();
        assert_eq!(names.len(), 1000);
    }
}
