//! The path of a request about the models themselves: what is known of one, or to change which
//! there are. Admit, ask whether it may, read, parse, work on a blocking thread, tell how far it
//! has come. Whoever stops listening is noticed, and the work ends.

use super::deadline::{self, within};
use super::{
    Notes, blocking, body, error_response, json_response, lenient, stream_response, with_notes,
};
use crate::app::{App, Arrival, Peer};
use crate::dialects::fields::short;
use crate::dialects::ollama::{self, Change, ChangeRequest, Told};
use crate::dialects::{Delivery, Family, Paths};
use crate::errors::{BadRequest, ServerError};
use crate::library::{Library, Watcher, Work};
use crate::listen::told;
use crate::models::plain_name;
use crate::seats::Seat;
use crate::streams::{self, Outlet};
use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Words that may wait for a client; what finds no room is said by the next.
const N_WORDS: usize = 16;
/// Silence between two words of one piece of work.
const PAUSE: Duration = Duration::from_millis(100);
/// When to come again while other changes are at work.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Reads a change from a body.
pub(crate) type ReadChange = fn(&[u8]) -> Result<ChangeRequest, BadRequest>;

/// Says what is known of a model.
pub(crate) async fn show(
    app: Arc<App>,
    arrival: Arrival,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let shown = async {
        let _seat = app.admit(&arrival)?;
        let deadline = deadline::of(&headers, arrival.started)?;
        lenient::of(&headers, &arrival.who)?;
        let body = within(deadline, body::read(&app, &headers, body)).await?;
        let (name, ignored) = ollama::read_show(&body)?;
        let (app, who) = (app.clone(), Arc::clone(&arrival.who));
        blocking(move || {
            let model = app.models.description(&who, &name)?;
            Ok((ignored, ollama::show_body(&model, &app.default_sampling)))
        })
        .await
    };
    match shown.await {
        Ok((ignored, body)) => noted(json_response(StatusCode::OK, body), ignored),
        Err(error) => error_response(&error, Family::Ollama, &arrival.id),
    }
}

/// Changes which models there are, as far as that is the client's to ask for.
pub(crate) async fn change(
    app: Arc<App>,
    arrival: Arrival,
    peer: Option<Peer>,
    headers: HeaderMap,
    body: Body,
    read: ReadChange,
) -> Response<Body> {
    let begun = async {
        let seat = app.admit(&arrival)?;
        let library = app.library_for(&arrival.who)?;
        let body = body::read(&app, &headers, body).await?;
        let request = read(&body)?;
        let work = begin(&app, library, &request, Asker { id: arrival.id.clone(), peer })?;
        Ok::<_, ServerError>((request, work, seat))
    };
    let answered = match begun.await {
        Ok((request, work, seat)) => follow(app, request, work, seat).await,
        Err(error) => {
            let status = Family::Ollama.status(&error).as_u16();
            let told = logged(&error.to_string());
            tracing::info!(id = %arrival.id, status, error = %told, "models not changed");
            Err(error)
        }
    };
    answered.unwrap_or_else(|error| error_response(&error, Family::Ollama, &arrival.id))
}

/// Tells how far a change has come.
async fn follow(
    app: Arc<App>,
    mut request: ChangeRequest,
    mut work: AtWork,
    seat: Seat,
) -> Result<Response<Body>, ServerError> {
    let ignored = std::mem::take(&mut request.ignored);
    if request.delivery == Delivery::Whole {
        let mut over = app.over.clone();
        tokio::select! {
            biased;
            () = told(&mut over) => return Err(ServerError::ShuttingDown),
            ended = work.ended() => ended?,
        }
        let mut response = json_response(StatusCode::OK, request.whole());
        if !request.has_words {
            response.headers_mut().remove(axum::http::header::CONTENT_TYPE);
        }
        return Ok(noted(response, ignored));
    }
    // What is refused at once has a status of its own.
    let first = work.words.recv().await;
    if first.is_none() {
        work.ended().await?;
    }
    let (outlet, body) = streams::plain(Family::Ollama);
    let stream = Stream { app, request, work, first, _seat: seat };
    tokio::spawn(stream.run(outlet));
    Ok(noted(stream_response("application/x-ndjson", body), ignored))
}

fn noted(response: Response<Body>, ignored: Paths) -> Response<Body> {
    with_notes(response, &Notes { ignored, ..Notes::default() })
}

/// Who asks for a change, for the log.
struct Asker {
    /// The request's.
    id: String,
    peer: Option<Peer>,
}

impl Asker {
    fn log_begin(&self, change: &Change) {
        let (what, model, from) = words(change);
        let peer = self.peer.map(|Peer(address)| tracing::field::display(address));
        let from = from.map(tracing::field::display);
        tracing::info!(id = %self.id, what, %model, from, peer, "models are being changed");
    }

    fn log_end(&self, change: &Change, ended: &Result<(), ServerError>) {
        let (what, model, _) = words(change);
        match ended {
            Ok(()) => tracing::info!(id = %self.id, what, %model, "models changed"),
            Err(error) => {
                let error = logged(&error.to_string());
                tracing::info!(id = %self.id, what, %model, %error, "models not changed");
            }
        }
    }
}

/// What is done, to which model, and from which it is made.
fn words(change: &Change) -> (&'static str, String, Option<String>) {
    let name = |name: &str| short(&logged(name));
    match change {
        Change::Pull { name: model } => ("pull", name(model), None),
        Change::Copy { from, to } => ("copy", name(to), Some(name(from))),
        Change::Delete { name: model } => ("delete", name(model), None),
    }
}

/// A text as it may stand in the log: in one line, addresses without their queries, which may hold
/// signatures.
fn logged(text: &str) -> String {
    let bare = |word: &str| match word.split_once('?') {
        Some((bare, _)) if bare.contains("://") => bare.to_owned(),
        _ => word.to_owned(),
    };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.map(bare).collect::<Vec<String>>().join(" ")
}

/// A change at work on a thread of its own.
struct AtWork {
    /// Closed where the work is over; dropped, it ends the work.
    words: mpsc::Receiver<Told>,
    /// `None` once its end was told. The turn goes with whoever listens: a thread that has yet to
    /// notice that nobody does keeps no other change waiting.
    end: Option<(JoinHandle<Result<(), ServerError>>, OwnedSemaphorePermit)>,
}

fn begin(
    app: &Arc<App>,
    library: Arc<dyn Library>,
    request: &ChangeRequest,
    asker: Asker,
) -> Result<AtWork, ServerError> {
    let take = |turns: &Arc<Semaphore>| {
        turns.clone().try_acquire_owned().map_err(|_| {
            let what = "other changes of models are at work".to_owned();
            ServerError::Overloaded { what, retry_after: RETRY_AFTER }
        })
    };
    let turn = take(&app.changes)?;
    let thread = take(&app.changing)?;
    let (sender, words) = mpsc::channel(N_WORDS);
    let (app, change) = (app.clone(), request.change.clone());
    let end = tokio::task::spawn_blocking(move || {
        let _thread = thread;
        let teller = Teller { words: sender, at: Mutex::default() };
        // Logged here: whoever asked may be gone by the end.
        let asked = change.clone();
        let ended = settle(&app, &*library, change).and_then(|change| {
            asker.log_begin(&change);
            perform(&app, &*library, &change, &teller)
        });
        asker.log_end(&asked, &ended);
        ended
    });
    Ok(AtWork { words, end: Some((end, turn)) })
}

/// The change with the names that it is about, refused where these are the owner's.
fn settle(app: &App, library: &dyn Library, change: Change) -> Result<Change, ServerError> {
    Ok(match change {
        Change::Pull { name } => {
            app.models.check_new(&library.name_of(&name)?)?;
            Change::Pull { name }
        }
        Change::Copy { from, to } => {
            let to = plain_name(&to).to_owned();
            app.models.check_new(to.rsplit('/').next().unwrap_or(&to))?;
            Change::Copy { from: app.models.own(&from)?.name, to }
        }
        Change::Delete { name } => {
            let name = app.models.own(&name)?.name;
            app.models.check_removable(&name)?;
            Change::Delete { name }
        }
    })
}

fn perform(
    app: &App,
    library: &dyn Library,
    change: &Change,
    teller: &Teller,
) -> Result<(), ServerError> {
    match change {
        Change::Pull { name } => app.models.add(library.pull(name, teller)?),
        Change::Copy { from, to } => {
            app.models.add(library.copy(from, to, teller)?);
        }
        Change::Delete { name } => {
            library.remove(name)?;
            app.models.remove(name);
        }
    }
    Ok(())
}

impl AtWork {
    /// Waits for the end and drops what is told until then. Does nothing the second time.
    async fn ended(&mut self) -> Result<(), ServerError> {
        while self.words.recv().await.is_some() {}
        let Some((end, _turn)) = self.end.take() else { return Ok(()) };
        end.await.map_err(|e| ServerError::Failed(format!("the change broke off: {e}")))?
    }
}

/// A change whose progress is told as it comes.
struct Stream {
    app: Arc<App>,
    request: ChangeRequest,
    work: AtWork,
    first: Option<Told>,
    _seat: Seat,
}

impl Stream {
    async fn run(mut self, mut outlet: Outlet) {
        let mut over = self.app.over.clone();
        let begin = self.request.begin();
        let mut next = Some(begin + &self.first.take().map(|told| told.line()).unwrap_or_default());
        while let Some(line) = next {
            if outlet.send(line).await.is_err() {
                return;
            }
            next = tokio::select! {
                biased;
                // The work ends with its listener.
                () = outlet.gone() => return,
                () = told(&mut over) => {
                    self.say(outlet, Err(ServerError::ShuttingDown)).await;
                    return;
                }
                told = self.work.words.recv() => told.map(|told| told.line()),
            };
        }
        let ended = self.work.ended().await;
        self.say(outlet, ended).await;
    }

    /// Says how it ended.
    async fn say(&self, mut outlet: Outlet, ended: Result<(), ServerError>) {
        let last = match &ended {
            Ok(()) => self.request.end(),
            Err(error) => ollama::error_body(error),
        };
        if outlet.send(last).await.is_ok() {
            outlet.finish();
        }
    }
}

/// Passes on how far the work has come, a few times a second.
struct Teller {
    words: mpsc::Sender<Told>,
    at: Mutex<Option<At>>,
}

/// The piece of work at hand.
struct At {
    work: Work,
    n_done: u64,
    told_at: Instant,
}

impl Watcher for Teller {
    fn start(&self, work: &Work) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that is behind hears of the next.
        let _ = self.words.try_send(Told::of(work, 0));
        *at = Some(At { work: work.clone(), n_done: 0, told_at: Instant::now() });
    }

    fn advance(&self, n_bytes: u64) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = &mut *at else { return };
        let was_whole = at.work.total.is_some_and(|total| at.n_done >= total);
        at.n_done = at.n_done.saturating_add(n_bytes);
        let is_whole = at.work.total.is_some_and(|total| at.n_done >= total);
        if (is_whole && !was_whole) || at.told_at.elapsed() >= PAUSE {
            at.told_at = Instant::now();
            let _ = self.words.try_send(Told::of(&at.work, at.n_done));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.words.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_lines_and_no_signatures() {
        let check = |text: &str, expected: &str| assert_eq!(logged(text), expected);
        check("https://h/f.gguf?sig=1 is\nnot\u{1b}here", "https://h/f.gguf is not here");
        check("what? a/b:latest", "what? a/b:latest");
    }
}
