//! What all requests share, and the router; beside it, by group, what answers the routes.

pub(crate) mod admin;
mod arrival;
pub(crate) mod batches;
mod clients;
pub(crate) mod departures;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod models;
pub(crate) mod ollama;
pub(crate) mod operate;
mod own;
pub(crate) mod persons;
pub(crate) mod policy;
pub(crate) mod receipts;
pub(crate) mod reload;
pub(crate) mod responses;
pub(crate) mod signin;
pub(crate) mod upkeep;
pub(crate) mod usage;
mod wrap;

pub(crate) use arrival::{Arrival, Local, random_hex, request_id};
pub(crate) use clients::{Peer, is_loopback};
pub(crate) use wrap::plain_path;

use crate::access::{Access, Sessions};
use crate::accounts::Accounts;
use crate::background::Background;
use crate::batches::Batches;
use crate::cases::Cases;
use crate::dialects::llama::TokenDialect;
use crate::dialects::{Dialect, ReasoningFields, VectorDialect};
use crate::errors::ServerError;
use crate::gate::Gate;
use crate::kept::KeptAnswers;
use crate::library::Library;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::receipts::Receipts;
use crate::reload::{Current, Reload};
use crate::routes;
use crate::running::Running;
use crate::seats::{Seat, Seats};
use crate::serve::{N_SHADOWS, serve, serve_tokens, serve_vectors};
use crate::signin::Desk;
use crate::streams::Streams;
use crate::tls::Tls;
use crate::traces::Traces;
use crate::upstream::Ways;
use crate::{Config, Contents, Egress, Energy, ModelChanges, Shares};
use arrival::{unix_seconds, unix_time};
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Response};
use axum::middleware;
use broker::Broker;
use clients::Numbers;
use engine::{PrefixStore, Sampling};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, watch};
use wrap::{method_not_allowed, no_such_path, refuse};

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
    pub(crate) reasoning_fields: ReasoningFields,
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
            reasoning_fields: config.reasoning_fields,
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
        .layer(middleware::from_fn_with_state(app.clone(), wrap::wrap))
        .with_state(app)
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
