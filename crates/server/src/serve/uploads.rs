//! Files on their way in and out, and requests for batches of them: admit, ask whether there are
//! any here, read, check, write. A file is never in memory as a whole.

use super::admin::noted;
use super::deadline::{self, within};
use super::encoding::Encoding;
use super::{blocking, body, error_response, lenient, route};
use crate::app::{App, Arrival};
use crate::batches::Upload;
use crate::batches::record::{Ask, StoredFile};
use crate::dialects::Family;
use crate::dialects::Paths;
use crate::dialects::declared::Unknown;
use crate::dialects::multipart::{Multipart, boundary};
use crate::dialects::openai::{batches as batch, files};
use crate::errors::{BadRequest, ServerError};
use crate::streams;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, header};
use hyper::body::Body as _;
use serde_json::{Map, Value};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest field of a form that is no file.
const N_FIELD_BYTES: usize = 1 << 10;
/// Pieces of a file that may wait for the disk.
const N_PIECES: usize = 8;
/// Bytes of a file that are read at once.
const N_READ_BYTES: usize = 64 << 10;
/// How long a file may take to arrive: 200 MB in it are less than one of the oldest lines carries.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// When to come again while other files are sent.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Takes a file.
pub(crate) async fn upload(
    app: Arc<App>,
    arrival: Arrival,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let stored = store(&app, &arrival, &headers, body).await;
    noted(stored.map(|(file, ignored)| (files::body(&file), ignored)), &arrival)
}

/// Makes a batch.
pub(crate) async fn create_batch(
    app: Arc<App>,
    arrival: Arrival,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let made = async {
        let _seat = app.admit(&arrival)?;
        let batches = app.batches()?;
        let deadline = deadline::of(&headers, arrival.started)?;
        let unknown = lenient::of(&headers, &arrival.who)?;
        let label = route::claimed(&headers)?.map(|label| label.name().to_owned());
        let body = within(deadline, body::read(&app, &headers, body)).await?;
        let (ask, ignored) = batch::parse(&body, unknown)?;
        let ask = Ask { by: arrival.who.asker(), label, ..ask };
        let made = blocking(move || batches.create(arrival.principal, ask)).await?;
        Ok((batch::body(&made), ignored))
    };
    noted(made.await, &arrival)
}

async fn store(
    app: &Arc<App>,
    arrival: &Arrival,
    headers: &HeaderMap,
    body: Body,
) -> Result<(StoredFile, Paths), ServerError> {
    let _seat = app.admit(arrival)?;
    let batches = app.batches()?;
    let deadline = deadline::of(headers, arrival.started)?;
    let unknown = lenient::of(headers, &arrival.who)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = boundary(content_type.unwrap_or_default())?;
    let encoding = Encoding::of(headers)?;
    let _turn = app.uploading.clone().try_acquire_owned().map_err(|_| {
        let what = "other files are being sent".to_owned();
        ServerError::Overloaded { what, retry_after: RETRY_AFTER }
    })?;
    let (client, n_max) = (arrival.principal, app.limits.get().n_file_bytes);
    let (sender, pieces) = mpsc::channel(N_PIECES);
    let work = blocking(move || {
        let pieces = Pieces { pieces, piece: Bytes::new(), is_over: false };
        let upload = batches.upload(client, n_max)?;
        read_form(Multipart::new(encoding.reader(pieces), &boundary), upload, unknown)
    });
    let feed = feed(body, sender, app.limits.get().body_timeout, app.limits.get().n_body_bytes);
    let both = async { Ok(tokio::join!(feed, work).1) };
    match tokio::time::timeout(UPLOAD_TIMEOUT, within(deadline, both)).await {
        Ok(done) => done?,
        Err(_) => Err(ServerError::BodyTimeout { limit: UPLOAD_TIMEOUT }),
    }
}

/// Hands the body on, piece by piece, and its end. What is wrong with it takes the place of a
/// piece.
async fn feed(
    mut body: Body,
    sender: mpsc::Sender<Result<Option<Bytes>, ServerError>>,
    limit: Duration,
    n_unread_max: usize,
) {
    let mut n_unread = 0;
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let piece = match tokio::time::timeout(limit, frame).await {
            Err(_) => Err(ServerError::BodyTimeout { limit }),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(ServerError::BodyBroken(error.to_string())),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(Some(data)),
                Err(_) => continue,
            },
        };
        let n_bytes = match &piece {
            Ok(Some(data)) => data.len(),
            _ => {
                // Nobody may be left to be told.
                let _ = sender.send(piece).await;
                return;
            }
        };
        if sender.send(piece).await.is_err() {
            // It is refused. Somewhat more is read and thrown away: a client that is still sending
            // when the connection closes often loses the answer that says why.
            n_unread += n_bytes;
            if n_unread > n_unread_max {
                return;
            }
        }
    }
}

/// A body as a thread reads it that waits for its pieces.
struct Pieces {
    pieces: mpsc::Receiver<Result<Option<Bytes>, ServerError>>,
    piece: Bytes,
    is_over: bool,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_over {
            match self.pieces.blocking_recv() {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.is_over = true,
                Some(Err(error)) => return Err(io::Error::other(error)),
                // Whoever was sending it is gone.
                None => return Err(io::Error::other(ServerError::BodyBroken("broke off".into()))),
            }
        }
        let n_bytes = self.piece.len().min(out.len());
        out[..n_bytes].copy_from_slice(&self.piece.split_to(n_bytes));
        Ok(n_bytes)
    }
}

/// Reads a form, its file onto the disk.
fn read_form<R: Read>(
    mut form: Multipart<R>,
    mut upload: Upload,
    unknown: Unknown,
) -> Result<(StoredFile, Paths), ServerError> {
    let mut fields = Map::new();
    while let Some(part) = form.next_part()? {
        // Such as `expires_after[seconds]`, whose field is the one in front.
        let field = part.name.split('[').next().unwrap_or_default().to_owned();
        let value = match (&*field, part.file_name) {
            ("file", Some(name)) => {
                if fields.contains_key("file") {
                    return Err(BadRequest::field("file", "sent twice, expected one").into());
                }
                form.read_part(|bytes| upload.write(bytes))?;
                name.into()
            }
            ("file", None) => {
                let problem = "a text, expected a file: a part with a file's name";
                return Err(BadRequest::field("file", problem).into());
            }
            (name, _) => match &*form.text(name, N_FIELD_BYTES)? {
                // As forms write them.
                "false" => Value::Bool(false),
                text => text.into(),
            },
        };
        fields.insert(field, value);
    }
    let (name, ignored) = files::read_form(fields, unknown)?;
    Ok((upload.complete(name)?, ignored))
}

/// Sends a file's bytes.
pub(crate) async fn send_content(app: Arc<App>, arrival: Arrival, id: String) -> Response<Body> {
    let opened = async {
        let seat = app.admit(&arrival)?;
        let batches = app.batches()?;
        let found = blocking(move || batches.content(arrival.principal, &id)).await?;
        Ok::<_, ServerError>((seat, found))
    };
    let (seat, (stored, content)) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return error_response(&error, Family::OpenAi, &arrival.id),
    };
    let (mut outlet, body) = streams::plain(Family::OpenAi);
    tokio::spawn(async move {
        let _seat = seat;
        let mut content = content;
        loop {
            let read = blocking(move || read_some(content)).await;
            // A body without its end tells the client that it is not whole.
            let Ok((rest, bytes)) = read else { return };
            content = rest;
            if bytes.is_empty() {
                outlet.finish();
                return;
            }
            if outlet.send_bytes(bytes).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(stored.n_bytes));
    response
}

/// The media type of a file: whatever it is, it is for no browser to show.
pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

fn read_some(mut content: File) -> Result<(File, Vec<u8>), ServerError> {
    let mut bytes = vec![0; N_READ_BYTES];
    let read = content.read(&mut bytes);
    let n_bytes = read.map_err(|e| ServerError::Failed(format!("a file: not read: {e}")))?;
    bytes.truncate(n_bytes);
    Ok((content, bytes))
}
