//! Bodies: a request's, read within its bounds, and a stream's, which knows whether it ended.

use super::in_turn;
use crate::app::App;
use crate::errors::{BadRequest, ServerError};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use flate2::read::MultiGzDecoder;
use hyper::body::{Body as _, Frame};
use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of a stream that may wait for a slow client. Behind them the engine's events wait, of
/// which one request has no more than its context has positions.
const N_PIECES: usize = 8;

/// Reads a request's body, and unpacks it where it is packed.
pub(super) async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, ServerError> {
    let is_packed = is_packed(headers)?;
    let limits = app.limits.get();
    let (limit, n_bytes_max) = (limits.body_timeout, limits.n_body_bytes);
    let bytes = tokio::time::timeout(limit, collect(body, n_bytes_max))
        .await
        .map_err(|_| ServerError::BodyTimeout { limit })??;
    let limit = n_bytes_max;
    if is_packed { in_turn(app, move || unpack(&bytes, limit)).await } else { Ok(bytes) }
}

/// Whether a body is packed with gzip.
pub(super) fn is_packed(headers: &HeaderMap) -> Result<bool, ServerError> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Ok(false),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"gzip") => Ok(true),
        Some(encoding) => Err(ServerError::BodyEncoded(String::from_utf8_lossy(encoding).into())),
    }
}

/// What gzip packed. The bound holds for what comes out: a thousand times as much may.
fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, ServerError> {
    let mut bytes = Vec::new();
    let mut unpacked = MultiGzDecoder::new(packed).take(limit as u64 + 1);
    unpacked.read_to_end(&mut bytes).map_err(|e| BadRequest {
        param: None,
        message: format!("body: expected gzip, as content-encoding says: {e}"),
        code: Some("invalid_gzip"),
    })?;
    if bytes.len() > limit { Err(ServerError::BodyTooLarge { limit }) } else { Ok(bytes) }
}

/// The bytes of a body.
pub(super) async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, ServerError> {
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
pub(super) struct Outlet {
    sender: mpsc::Sender<Piece>,
    stall_timeout: Duration,
}

enum Piece {
    Data(Bytes),
    End,
}

/// A stream's body and the end that feeds it, which waits so long for a client that is behind.
pub(super) fn channel(stall_timeout: Duration) -> (Outlet, Body) {
    let (sender, receiver) = mpsc::channel(N_PIECES);
    (Outlet { sender, stall_timeout }, Body::new(Inlet { receiver, ended: false }))
}

impl Outlet {
    /// Sends `bytes`, waiting while the client is behind.
    pub(super) async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Ok(());
        }
        self.piece(Piece::Data(bytes)).await
    }

    /// Says that the stream ended as it should.
    pub(super) async fn finish(&mut self) {
        // Nobody may be left to be told; that changes nothing.
        let _ = self.piece(Piece::End).await;
    }

    async fn piece(&mut self, piece: Piece) -> Result<(), Gone> {
        let sent = tokio::time::timeout(self.stall_timeout, self.sender.send(piece)).await;
        sent.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Returns when the client does not listen any more.
    pub(super) async fn gone(&self) {
        self.sender.closed().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_counts_as_gone() {
        let (mut outlet, body) = channel(Duration::from_millis(1));
        for _ in 0..N_PIECES {
            assert!(outlet.send("x".to_owned()).await.is_ok());
        }
        assert!(outlet.send("x".to_owned()).await.is_err());
        drop(body);
    }

    #[tokio::test]
    async fn a_stream_without_its_end_is_an_error() {
        let frame = async |body: &mut Body| poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let (mut outlet, mut body) = channel(Duration::from_secs(10));
        assert!(outlet.send("x".to_owned()).await.is_ok());
        drop(outlet);
        assert!(frame(&mut body).await.unwrap().is_ok());
        assert!(frame(&mut body).await.unwrap().is_err());
        let (mut outlet, mut body) = channel(Duration::from_secs(10));
        outlet.finish().await;
        assert!(frame(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let check = async |n_bytes: usize, fits: bool| {
            let body = collect(Body::from(vec![b' '; n_bytes]), 10).await;
            assert_eq!(body.map(|body| body.len()).ok(), fits.then_some(n_bytes));
        };
        check(0, true).await;
        check(10, true).await;
        check(11, false).await;
        check(1000, false).await;
    }
}
