//! A request's body, read within its bounds.

use super::encoding::Encoding;
use super::in_turn;
use crate::app::App;
use crate::errors::ServerError;
use axum::body::Body;
use axum::http::HeaderMap;
use flate2::Crc;
use hyper::body::Body as _;
use std::future::poll_fn;
use std::pin::Pin;

/// Checksum and length of a body as it came, by which its repetition is known.
pub(super) type Mark = (u32, u32);

/// Reads a request's body, and unpacks it where it is packed.
pub(super) async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, ServerError> {
    Ok(read_marked(app, headers, body).await?.0)
}

/// As [`read`], with the mark.
pub(super) async fn read_marked(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Vec<u8>, Mark), ServerError> {
    let encoding = Encoding::of(headers)?;
    let mut bytes = Vec::new();
    let mark = take(app, body, |data| bytes.extend_from_slice(data)).await?;
    let limit = app.limits.get().n_body_bytes;
    let bytes = match encoding {
        Encoding::Identity => bytes,
        packed => in_turn(app, limit, move || packed.unpack(&bytes, limit)).await?,
    };
    Ok((bytes, mark))
}

/// Reads a body within its bounds, of which nothing but the mark is held.
pub(super) async fn mark(app: &App, body: Body) -> Result<Mark, ServerError> {
    take(app, body, |_| {}).await
}

async fn take(app: &App, body: Body, data: impl FnMut(&[u8])) -> Result<Mark, ServerError> {
    let limits = app.limits.get();
    let limit = limits.body_timeout;
    let taken = tokio::time::timeout(limit, collect(body, limits.n_body_bytes, data)).await;
    taken.map_err(|_| ServerError::BodyTimeout { limit })?
}

/// Hands over the pieces of a body of at most `limit` bytes as they come.
pub(super) async fn collect(
    mut body: Body,
    limit: usize,
    mut take: impl FnMut(&[u8]),
) -> Result<Mark, ServerError> {
    let mut crc = Crc::new();
    let mut n_bytes = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|e| ServerError::BodyBroken(e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        n_bytes += data.len();
        if n_bytes <= limit {
            crc.update(&data);
            take(&data);
        } else if n_bytes > limit.saturating_mul(2) {
            break;
        }
        // Somewhat more is read and thrown away: a client that is still sending when the
        // connection closes often loses the answer that says why.
    }
    match n_bytes > limit {
        true => Err(ServerError::BodyTooLarge { limit }),
        false => Ok((crc.sum(), crc.amount())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_bounded() {
        let check = async |n_bytes: usize, fits: bool| {
            let mut bytes = Vec::new();
            let body = Body::from(vec![b' '; n_bytes]);
            let mark = collect(body, 10, |data| bytes.extend_from_slice(data)).await;
            assert_eq!(mark.map(|(_, n_bytes)| n_bytes as usize).ok(), fits.then_some(n_bytes));
            assert!(!fits || bytes.len() == n_bytes);
        };
        check(0, true).await;
        check(10, true).await;
        check(11, false).await;
        check(1000, false).await;
    }
}
