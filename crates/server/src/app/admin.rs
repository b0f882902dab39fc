//! What an owner asks about the server itself, and tells it to do: for programs on its machine and
//! its own page. Never any contents.

use super::{App, Arrival, refuse};
use crate::access::Who;
use crate::errors::ServerError;
use crate::models::{Description, OpenModel};
use crate::serve::{blocking, json_response};
use crate::{Egress, ModelChanges, VERSION};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{Response, StatusCode};
use engine::{Keep, Machine, NUMERICS_VERSION, Task};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What the kernel says of a process that has given rights up (proc_pid_status(5)).
const KERNEL_SAYS: [&str; 3] = ["NoNewPrivs", "Seccomp", "Seccomp_filters"];

/// Walks through the ledger at once: each reads all of it.
static VERIFYING: Semaphore = Semaphore::const_new(1);

/// Answers with `body`; that it is for whoever asks was checked before the router.
fn told(arrival: &Arrival, body: impl FnOnce() -> Result<Value, ServerError>) -> Response<Body> {
    match body() {
        Ok(body) => json_response(StatusCode::OK, body.to_string()),
        Err(error) => refuse(&error, arrival),
    }
}

/// What the server is and may do.
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    told(&arrival, || {
        let sampling = &app.default_sampling;
        Ok(json!({
            "version": VERSION,
            "numerics": NUMERICS_VERSION,
            "started": app.started,
            "egress": {"mode": app.egress.name(), "evidence": evidence(app.egress)},
            "requests_at_work": app.seats.n_taken(),
            "ledger": match &app.receipts {
                None => "none",
                Some(receipts) if receipts.check().is_ok() => "well",
                Some(_) => "unavailable",
            },
            "resume_streams_s": app.streams.lasts().map(|lasts| lasts.as_secs()),
            "model_changes": app.allows(ModelChanges::FromLoopback),
            "lock_changes": app.allows(ModelChanges::OfLock),
            "reload": app.reload.is_some(),
            "machine": machine(),
            "defaults": {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "min_p": sampling.min_p,
                "repetition_penalty": sampling.repetition_penalty,
            },
        }))
    })
}

fn machine() -> Value {
    let machine = Machine::look();
    let free = machine.available_memory;
    json!({
        "cpu": machine.cpu_name,
        "cores": engine::n_cores(),
        "memory_bytes": machine.memory_bytes,
        "free_bytes": free.map(|free| free.n_bytes),
        "free_by": free.map(|free| free.limited_by),
        "process_bytes": engine::rss_bytes(),
    })
}

/// What shows just now that nothing gets out: a socket that is asked for, which connects to
/// nothing, and what the kernel says of this process.
fn evidence(egress: Egress) -> Vec<String> {
    let asked = match std::net::UdpSocket::bind("127.0.0.1:0") {
        Ok(_) => "a socket was asked for just now: the kernel gave one".to_owned(),
        Err(error) => format!("a socket was asked for just now: the kernel refused it ({error})"),
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_told =
        |line: &&str| line.split_once(':').is_some_and(|(name, _)| KERNEL_SAYS.contains(&name));
    let of_kernel = match egress {
        Egress::Locked => status.lines().filter(is_told).collect(),
        Egress::Open => Vec::new(),
    };
    let of_kernel = of_kernel.into_iter().map(|line: &str| line.replace('\t', " "));
    std::iter::once(asked).chain(of_kernel).collect()
}

/// What is at work, and what was lately.
pub(crate) async fn running(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    told(&arrival, || {
        let (at_work, ended) = app.running.shown();
        Ok(json!({"running": at_work, "ended": ended}))
    })
}

/// Ends requests by their id, whatever they wait for.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    match app.running.cancel(&id) {
        0 => {
            let id = crate::dialects::fields::short(&id);
            let why = format!("request {id:?} is not at work here");
            refuse(&ServerError::NotFound(why), &arrival)
        }
        n => json_response(StatusCode::OK, json!({"id": id, "cancelled": n}).to_string()),
    }
}

/// The settings in effect.
pub(crate) async fn config(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    told(&arrival, || {
        let settings = app.reload.as_ref().map(|reload| reload.settings()).unwrap_or_default();
        Ok(json!({"settings": settings}))
    })
}

/// The models, with what pins them.
pub(crate) async fn models(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let asked = Arc::clone(&app);
    let described = blocking(move || Ok(asked.models.descriptions(&Who::owner()))).await;
    told(&arrival, || {
        let described = described?;
        let of = |name: &str| described.iter().find(|of| of.name == name);
        let model =
            |model: &crate::Model| Some(model_json(of(&model.name)?, model.lock.as_deref()));
        let models: Vec<Value> = app.models.listed().iter().filter_map(model).collect();
        let alias = |alias: &crate::Alias| {
            let refused = of(&alias.name).and_then(|of| of.refused.clone());
            json!({"name": alias.name, "model": alias.model, "refused": refused})
        };
        let aliases: Vec<Value> = app.models.aliases().iter().map(alias).collect();
        Ok(json!({"models": models, "aliases": aliases, "machine": machine()}))
    })
}

fn model_json(of: &Description, lock: Option<&str>) -> Value {
    let facts = &of.facts;
    let open = |open: &OpenModel| {
        let keep_s = match open.keep {
            Keep::Pinned => None,
            Keep::Idle(keep) => Some(keep.as_secs()),
        };
        json!({
            "planned_bytes": open.planned_bytes,
            "n_ctx": open.n_ctx,
            "chat": open.template.is_some(),
            "idle_s": open.idle.as_secs(),
            "keep_s": keep_s,
        })
    };
    json!({
        "name": of.name,
        "task": match of.task {
            Task::Generate => "generate",
            Task::Embed => "embed",
        },
        "digest": of.digest,
        "lock": lock,
        "refused": of.refused,
        "n_bytes": facts.n_bytes,
        "installed": facts.installed,
        "architecture": facts.architecture,
        "n_parameters": facts.n_parameters,
        "quantization": facts.quantization,
        "n_ctx": facts.n_ctx,
        "chat": facts.template.is_some(),
        "licence": facts.licence,
        "source": facts.source,
        "open": of.open.as_ref().map(open),
    })
}

/// Reads the whole ledger again and holds it to its hashes and signatures, and its counters to
/// their rows.
pub(crate) async fn verify_ledger(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let verified = async {
        let Some(receipts) = &app.receipts else {
            let why = "this server keeps no ledger: it was started with --ledger none";
            return Err(ServerError::NotImplemented(why.to_owned()));
        };
        let _turn = VERIFYING.try_acquire().map_err(|_| ServerError::Overloaded {
            what: "the ledger is being verified".to_owned(),
            retry_after: std::time::Duration::from_secs(5),
        })?;
        receipts.verify_ledger(arrival.at_us).await
    };
    match verified.await {
        Ok(body) => json_response(StatusCode::OK, body.to_string()),
        Err(error) => refuse(&error, &arrival),
    }
}
