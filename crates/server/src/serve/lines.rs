//! The lines of batches: each goes the path of any request, only that it can wait and that what it
//! becomes is written to a file.
//!
//! Several lines are at work at once, so that the engine's batch is full; whoever else asks goes
//! first there. One that the server has no room for is asked again, and one that broke off because
//! the server went down never was: it comes again at the next start.

use super::{
    ADAPTED, IGNORED, RECEIPT, UNUSED, blocking, error_response, route, serve, serve_vectors,
};
use crate::app::App;
use crate::batches::input::Line;
use crate::batches::record::{Batch, Endpoint, Status};
use crate::batches::run::{Answered, Run};
use crate::batches::{Batches, now};
use crate::dialects::Family;
use crate::dialects::openai;
use crate::dialects::openai::chat::Chat;
use crate::dialects::openai::completions::Completions;
use crate::dialects::openai::embeddings::Embeddings;
use crate::dialects::openai::responses::Responses;
use crate::errors::ServerError;
use crate::listen::told;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use engine::Task;
use policy::Label;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Lines at once that are answered by vectors: texts are embedded one after the other, and others
/// must find a place among them.
const N_VECTOR_LINES: usize = 2;
/// Inputs that are checked at once: the names of all lines of one are in memory meanwhile.
const N_CHECKS: usize = 2;
/// Pause of a batch that found no room on the disk, or no disk.
const DISK_PAUSE: Duration = Duration::from_secs(30);
/// Bounds of the pause before a line is asked again.
const RETRY_PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Longest time between two looks at the clock: it may be set.
const CLOCK_PAUSE: Duration = Duration::from_secs(60);

/// Works on all batches until the server drains, and then on the lines at work.
pub(crate) async fn run_batches(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    let Ok(batches) = app.batches() else { return };
    let n_lines = app.limits.get().n_batch_lines.clamp(1, (app.limits.get().n_requests / 2).max(1));
    let slots = Slots {
        texts: Arc::new(Semaphore::new(n_lines)),
        vectors: Arc::new(Semaphore::new(N_VECTOR_LINES.min(n_lines))),
        checks: Arc::new(Semaphore::new(N_CHECKS)),
    };
    let mut changes = batches.changes();
    let mut at_work = JoinSet::new();
    loop {
        let waiting = batches.clone();
        for id in blocking(move || Ok(waiting.take_waiting())).await.unwrap_or_default() {
            let worker = Worker {
                app: app.clone(),
                batches: batches.clone(),
                slots: slots.clone(),
                changes: batches.changes(),
                draining: draining.clone(),
                id,
            };
            at_work.spawn(worker.work());
        }
        tokio::select! {
            biased;
            () = told(&mut draining) => break,
            _ = changes.changed() => {}
            Some(ended) = at_work.join_next() => {
                if ended.is_err() {
                    tracing::error!("a batch panicked: it goes on at the next start");
                }
            }
        }
    }
    while at_work.join_next().await.is_some() {}
}

/// Turns at answering a line.
#[derive(Clone)]
struct Slots {
    texts: Arc<Semaphore>,
    vectors: Arc<Semaphore>,
    checks: Arc<Semaphore>,
}

impl Slots {
    async fn of(&self, endpoint: Endpoint) -> OwnedSemaphorePermit {
        let slots = match endpoint {
            Endpoint::Embeddings => &self.vectors,
            Endpoint::Chat | Endpoint::Completions | Endpoint::Responses => &self.texts,
        };
        slots.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Whoever works on one batch.
struct Worker {
    app: Arc<App>,
    batches: Batches,
    slots: Slots,
    changes: watch::Receiver<()>,
    draining: watch::Receiver<bool>,
    id: String,
}

/// How a batch's lines came to an end.
enum End {
    /// All were answered.
    Done,
    Expired,
    Cancelled,
    /// The server goes down; the batch goes on at the next start.
    Drained,
}

impl Worker {
    /// Works on the batch to its end, or until the server drains. Where the disk fails, begins
    /// again from what is there.
    async fn work(mut self) {
        loop {
            match self.work_once().await {
                Ok(End::Drained) => return,
                Ok(_) => return self.log(),
                Err(error) => {
                    let batch = &self.id;
                    tracing::warn!(%batch, %error, "a batch waits for the disk");
                }
            }
            tokio::select! {
                () = told(&mut self.draining) => return,
                () = tokio::time::sleep(DISK_PAUSE) => {}
            }
        }
    }

    /// One line in the log, when it is over.
    fn log(&self) {
        let Ok(batch) = self.batches.at_work(&self.id) else { return };
        let duration = now().saturating_sub(batch.times.created);
        tracing::info!(
            id = %self.id,
            endpoint = batch.endpoint.path(),
            status = openai::batches::word(batch.status),
            n_completed = batch.counts.completed,
            n_failed = batch.counts.failed,
            duration_s = duration,
            "batch"
        );
    }

    async fn work_once(&mut self) -> Result<End, ServerError> {
        let (app, batches, id) = (self.app.clone(), self.batches.clone(), self.id.clone());
        let begin = move || {
            let check = |batch: &Batch, model: Option<&str>| check_model(&app, batch, model);
            Run::begin(&batches, &id, app.limits.get().n_body_bytes, check)
        };
        let check = tokio::select! {
            biased;
            () = told(&mut self.draining) => return Ok(End::Drained),
            turn = self.slots.checks.clone().acquire_owned() => turn,
        };
        let begun = blocking(begin).await;
        drop(check);
        let Some(run) = begun? else { return Ok(End::Done) };
        let mut lines = JoinSet::new();
        let (run, end) = self.answer_all(run, &mut lines).await?;
        // Nobody waits for those that are still at work.
        lines.shutdown().await;
        let ended = match end {
            End::Done => blocking(move || run.complete()).await,
            End::Expired => blocking(move || run.expire()).await,
            End::Cancelled => blocking(move || run.cancel()).await,
            End::Drained => Ok(()),
        };
        ended.map(|()| end)
    }

    /// Answers line by line, several at once.
    async fn answer_all(
        &mut self,
        mut run: Run,
        lines: &mut JoinSet<Option<(Line, Answered)>>,
    ) -> Result<(Run, End), ServerError> {
        let client = run.batch.client;
        let (mut has_more, mut is_draining) = (true, *self.draining.borrow());
        loop {
            let (is_cancelled, has_room) = self.look(client).await?;
            if is_cancelled {
                return Ok((run, End::Cancelled));
            }
            let n_left = run.batch.times.expires.saturating_sub(now());
            if n_left == 0 {
                return Ok((run, End::Expired));
            }
            if lines.is_empty() && is_draining {
                return Ok((run, End::Drained));
            }
            if lines.is_empty() && !has_more {
                return Ok((run, End::Done));
            }
            let takes_more = has_more && !is_draining;
            let has_room = takes_more && has_room;
            let pause = match takes_more && !has_room {
                true => DISK_PAUSE,
                false => CLOCK_PAUSE,
            };
            tokio::select! {
                biased;
                () = told(&mut self.draining), if !is_draining => is_draining = true,
                _ = self.changes.changed() => {}
                Some(ended) = lines.join_next() => {
                    let broken = |e| ServerError::Failed(format!("a line broke off: {e}"));
                    if let Some((line, answered)) = ended.map_err(broken)? {
                        run = on_disk(run, move |run| run.record(&line, &answered)).await?.0;
                    }
                }
                slot = self.slots.of(run.batch.endpoint), if has_room => {
                    let line;
                    (run, line) = on_disk(run, Run::next_line).await?;
                    match line {
                        Some(line) => {
                            let id = run.request_id(&line);
                            let app = self.app.clone();
                            let batch = run.batch.clone();
                            let asking = Asking { app, batch, id, line };
                            lines.spawn(asking.answer(self.draining.clone(), slot));
                        }
                        None => has_more = false,
                    }
                }
                () = tokio::time::sleep(pause.min(Duration::from_secs(n_left))) => {}
            }
        }
    }

    /// Whether the batch is cancelled, and whether there is room. Others hold the lock while they
    /// write, so no thread that has other requests to serve waits for it.
    async fn look(&self, client: u64) -> Result<(bool, bool), ServerError> {
        let (batches, id) = (self.batches.clone(), self.id.clone());
        blocking(move || {
            let batch = batches.batch(client, &id);
            let is_cancelled = batch.is_ok_and(|batch| batch.status == Status::Cancelling);
            Ok((is_cancelled, batches.has_room(client)))
        })
        .await
    }
}

/// Refuses the model of a batch's lines that who asked for it would not be answered with.
fn check_model(app: &App, batch: &Batch, model: Option<&str>) -> Result<(), ServerError> {
    // That they are gone, or not known just now, each line says.
    let Ok(who) = app.access.who_of(&batch.by) else { return Ok(()) };
    let task = match batch.endpoint {
        Endpoint::Embeddings => Task::Embed,
        Endpoint::Chat | Endpoint::Completions | Endpoint::Responses => Task::Generate,
    };
    if let Some(name) = model.filter(|_| task == Task::Generate)
        && route::named(app, &app.ways.get().elsewhere, name).is_some()
    {
        return app.models.check_permitted(&who, name);
    }
    let permitted = app.models.permit(&who, model, task)?;
    app.models.check(permitted.as_deref(), task)
}

/// Has a batch do what waits for the disk, where that may wait.
async fn on_disk<T: Send + 'static>(
    mut run: Run,
    work: impl FnOnce(&mut Run) -> Result<T, ServerError> + Send + 'static,
) -> Result<(Run, T), ServerError> {
    blocking(move || {
        let done = work(&mut run)?;
        Ok((run, done))
    })
    .await
}

/// One line to be answered.
struct Asking {
    app: Arc<App>,
    batch: Batch,
    /// The request's.
    id: String,
    line: Line,
}

impl Asking {
    /// Asks until there is an answer; `None` where the server goes down before that.
    async fn answer(
        self,
        mut draining: watch::Receiver<bool>,
        _slot: OwnedSemaphorePermit,
    ) -> Option<(Line, Answered)> {
        loop {
            let response = self.ask().await;
            let Some(pause) = retry_after(response.headers()) else {
                return Some((self.line, answered(response).await));
            };
            let pause = pause.clamp(RETRY_PAUSE[0], RETRY_PAUSE[1]);
            tokio::select! {
                biased;
                () = told(&mut draining) => return None,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Goes the path of a request.
    async fn ask(&self) -> Response<Body> {
        let (app, batch) = (self.app.clone(), &self.batch);
        let label = batch.label.as_ref().map(|label| {
            let most = HeaderValue::from_static(Label::Private.name());
            let label = HeaderValue::from_str(label).unwrap_or(most);
            (HeaderName::from_static(route::LABEL), label)
        });
        let headers = HeaderMap::from_iter(label);
        let asker = (&batch.by, batch.client);
        let (arrival, admitted) = app.line(self.id.clone(), batch.endpoint.path(), asker);
        if let Err(error) = admitted {
            return error_response(&error, Family::OpenAi, &arrival.id);
        }
        let body = Body::from(self.line.body.clone());
        match batch.endpoint {
            Endpoint::Chat => serve::<Chat>(app, arrival, headers, body).await,
            Endpoint::Completions => serve::<Completions>(app, arrival, headers, body).await,
            Endpoint::Embeddings => serve_vectors::<Embeddings>(app, arrival, headers, body).await,
            Endpoint::Responses => serve::<Responses>(app, arrival, headers, body).await,
        }
    }
}

/// After how long the same request may be answered, where it was not for want of room.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What a response says.
async fn answered(response: Response<Body>) -> Answered {
    let (parts, body) = response.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name.to_owned(), value.to_owned()))
    };
    let headers = [UNUSED, ADAPTED, IGNORED, RECEIPT].into_iter().filter_map(header).collect();
    // Not streamed, so it is there as a whole.
    let mut bytes = Vec::new();
    let whole = super::body::collect(body, usize::MAX, |data| bytes.extend_from_slice(data)).await;
    let body = whole.ok().and_then(|_| String::from_utf8(bytes).ok()).unwrap_or_default();
    Answered { status: parts.status.as_u16(), headers, body }
}
