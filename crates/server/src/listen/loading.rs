//! What is answered while the models are being opened, which may take minutes: that they are. A
//! probe that asks whether the server is well is told so instead of being left to wait.
//!
//! Nothing of a request is looked at but its path, so neither a key nor the gate is asked.

use super::{ACCEPT_PAUSE, told};
use crate::app::{plain_path, request_id};
use crate::dialects::Family;
use crate::errors::ServerError;
use crate::serve::{error_response, json_response};
use crate::tls::Tls;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Connections at once: probes, and clients that try again.
const N_CONNECTIONS: usize = 64;
/// How long one may take from its first byte to its answer's last; each has one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a body that are read.
const DRAINED_BYTES_MAX: usize = 8 << 20;

/// As llama-server says it, which probes and its clients know.
const HEALTH: &str =
    r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
const READY: &str = r#"{"status":"loading"}"#;

/// Answers every request with 503 until it is told to end.
pub struct Loading {
    over: watch::Sender<bool>,
    listener: JoinHandle<TcpListener>,
}

impl Loading {
    /// Begins, within a tokio runtime with IO and time enabled; with `tls` as the server will.
    pub fn start(listener: TcpListener, tls: Option<Tls>) -> Self {
        let (over, seen) = watch::channel(false);
        Self { over, listener: tokio::spawn(answer_all(listener, tls, seen)) }
    }

    /// Ends, and returns the listener, where whoever comes next is waiting.
    ///
    /// # Errors
    /// What answered has panicked.
    pub async fn end(self) -> io::Result<TcpListener> {
        self.over.send_replace(true);
        self.listener.await.map_err(io::Error::other)
    }
}

async fn answer_all(
    listener: TcpListener,
    tls: Option<Tls>,
    mut over: watch::Receiver<bool>,
) -> TcpListener {
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < N_CONNECTIONS;
        let accepted = tokio::select! {
            () = told(&mut over) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if has_room => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(timeout(CONNECTION_TIMEOUT, connection(stream, tls.clone())));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those at hand have their answers, within their time.
    connections.detach_all();
    listener
}

async fn connection(stream: TcpStream, tls: Option<Tls>) {
    match tls {
        None => speak(stream).await,
        Some(tls) => {
            if let Some(stream) = tls.accept(stream).await {
                speak(stream).await;
            }
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let service = service_fn(|request: hyper::Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        drain(body).await;
        Ok::<_, Infallible>(answer(&head.uri, &head.headers))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The next request is for the server itself.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection broke off");
    }
}

/// Reads a body and throws it away: a client that is still sending when the connection closes often
/// loses the answer. What is larger loses it.
async fn drain(mut body: Incoming) {
    let mut n_bytes = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        n_bytes += frame.data_ref().map_or(0, Bytes::len);
        if n_bytes > DRAINED_BYTES_MAX {
            break;
        }
    }
}

fn answer(uri: &Uri, headers: &HeaderMap) -> Response<Body> {
    let plain = plain_path(uri);
    let path = plain.as_ref().unwrap_or(uri).path();
    let id = request_id(headers);
    let mut response = match path {
        "/health" => json_response(StatusCode::SERVICE_UNAVAILABLE, HEALTH.to_owned()),
        "/ready" => json_response(StatusCode::SERVICE_UNAVAILABLE, READY.to_owned()),
        _ => error_response(&ServerError::Loading, Family::of(path, headers), &id),
    };
    let headers = response.headers_mut();
    if let Some(after) = ServerError::Loading.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let id = HeaderValue::from_str(&id).expect("sane ids are visible ASCII");
    headers.insert("x-request-id", id.clone());
    headers.insert("request-id", id);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    /// Status, head and body of what is answered to a `GET`.
    fn get(address: SocketAddr, path: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nx-request-id: mine\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        // It ends, since the connection is closed.
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
    }

    // What answers has a thread of its own, so that the client here may block.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn whoever_asks_while_models_are_opened_is_told_so_and_the_listener_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let loading = Loading::start(listener, None);
        let words = "the models are being loaded: the server has just been started, \
                     try again later";
        let openai = json!({"message": words, "type": "server_error", "param": null,
            "code": "loading"});
        for (path, expected) in [
            ("/health", serde_json::from_str(HEALTH).unwrap()),
            ("//health/", serde_json::from_str(HEALTH).unwrap()),
            ("/ready", json!({"status": "loading"})),
            ("/v1/models", json!({"error": openai})),
            ("/api/tags", json!({"error": words})),
            ("/nothing", json!({"error": openai})),
        ] {
            let (status, head, body) = get(address, path);
            assert_eq!((status, &body), (503, &expected), "{path}");
            for header in ["retry-after: 1", "x-request-id: mine", "connection: close"] {
                assert!(head.contains(header), "{path}: {header}: {head}");
            }
        }
        let (_, _, body) = get(address, "/v1/messages");
        assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!("mine")));
        let listener = loading.end().await.unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(client.local_addr().unwrap(), peer);
    }
}
