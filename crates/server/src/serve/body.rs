//! Bodies: a request's, read within its bounds, and a stream's, which knows whether it ended.

use crate::errors::ServerError;
use crate::limits::Limits;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use hyper::body::{Body as _, Frame};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Pieces of a stream that may wait for a slow client. Behind them the engine's events wait, of
/// which one request has no more than its context has positions.
const N_PIECES: usize = 8;

/// Reads a request's body.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Vec<u8>, ServerError> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(ServerError::BodyEncoded(String::from_utf8_lossy(encoding.as_bytes()).into()));
    }
    let limit = limits.body_timeout;
    tokio::time::timeout(limit, collect(body, limits.n_body_bytes))
        .await
        .map_err(|_| ServerError::BodyTimeout { limit })?
}

async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, ServerError> {
    let mut bytes = Vec::new();
    let mut n_bytes = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|e| ServerError::BodyBroken(e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        n_bytes += data.len();
        if n_bytes <= limit {
            bytes.extend_from_slice(&data);
        } else if n_bytes > limit.saturating_mul(2) {
            break;
        } else {
            // Somewhat more is read and thrown away: a client that is still sending when the
            // connection closes often loses the answer that says why.
            bytes = Vec::new();
        }
    }
    if n_bytes > limit { Err(ServerError::BodyTooLarge { limit }) } else { Ok(bytes) }
}

/// The client does not listen any more.
pub(super) struct Gone;

/// The sending end of a stream's body.
pub(super) struct Outlet(mpsc::Sender<Piece>);

enum Piece {
    Data(Bytes),
    End,
}

/// A stream's body and the end that feeds it.
pub(super) fn channel() -> (Outlet, Body) {
    let (sender, receiver) = mpsc::channel(N_PIECES);
    (Outlet(sender), Body::new(Inlet { receiver, ended: false }))
}

impl Outlet {
    /// Sends `text`, waiting while the client is behind.
    pub(super) async fn send(&mut self, text: String) -> Result<(), Gone> {
        if text.is_empty() {
            return Ok(());
        }
        self.0.send(Piece::Data(text.into())).await.map_err(|_| Gone)
    }

    /// Says that the stream ended as it should.
    pub(super) async fn finish(&mut self) {
        let _ = self.0.send(Piece::End).await;
    }

    /// Returns when the client does not listen any more.
    pub(super) async fn gone(&self) {
        self.0.closed().await;
    }
}

/// The body. Without [`Outlet::finish`] it ends in an error, which closes the connection: a stream
/// whose task died must not look complete.
struct Inlet {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl hyper::body::Body for Inlet {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(cx).map(|piece| match piece {
            Some(Piece::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => Some(Err(std::io::Error::other("the stream broke off"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
