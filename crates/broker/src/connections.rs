//! Connections to one address: dialled, with TLS where the URL has it, kept for the next request.
//!
//! HTTP/1.1 only: one request a connection at a time, so that giving a request up is closing its
//! connection, and what a server may send before anything is known of it is bounded.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::departures::Later;

/// Longest head of an answer, and most headers in it.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
/// Most connections of one address that wait for a request, and how long one does.
const IDLE_MAX: usize = 32;
const IDLE_TIME: Duration = Duration::from_secs(30);

/// The one way to another server.
pub trait Dial: Send + Sync + 'static {
    /// A connection to `address`, which is one of those that were resolved at the start.
    fn dial(&self, address: SocketAddr) -> Later<'_, io::Result<TcpStream>>;
}

/// Dials as the system has it: for a process that nothing locks.
#[derive(Debug, Clone, Copy)]
pub struct Unlocked;

impl Dial for Unlocked {
    fn dial(&self, address: SocketAddr) -> Later<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

/// How TLS is spoken there, and the name that the certificate must have.
pub(crate) type Tls = (Arc<ClientConfig>, ServerName<'static>);
/// What takes the requests of one connection.
type Sender = SendRequest<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No connection: nothing was sent.
    NoConnection(String),
    /// There was one, and it took too long.
    ConnectTimeout,
    /// It broke before the head of the answer was here.
    Later(String),
}

/// The connections of one address.
pub(crate) struct Connections {
    socket: SocketAddr,
    tls: Option<Tls>,
    dial: Arc<dyn Dial>,
    idle: Mutex<Vec<(Sender, Instant)>>,
}

impl Connections {
    pub(crate) fn new(socket: SocketAddr, tls: Option<Tls>, dial: Arc<dyn Dial>) -> Self {
        Self { socket, tls, dial, idle: Mutex::new(Vec::new()) }
    }

    /// Sends a request, over a connection that waits or a new one, and gives the head of the
    /// answer, with what takes the next request once this answer is whole.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        connect_timeout: Duration,
    ) -> Result<(Response<Incoming>, Sender), Broken> {
        let mut request = request;
        // Whatever waits may have been closed by the other side meanwhile.
        while let Some(mut sender) = self.waiting() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Broken::Later(told(error.error()))),
                },
            }
        }
        let connected = tokio::time::timeout(connect_timeout, self.connect()).await;
        let connected = connected.map_err(|_| Broken::ConnectTimeout)?;
        let mut sender = connected.map_err(Broken::NoConnection)?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| Broken::Later(told(&error)))?;
        Ok((response, sender))
    }

    /// Keeps a connection whose answer is whole.
    pub(crate) fn keep(&self, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((sender, Instant::now()));
        }
    }

    /// The connection that came to wait last.
    fn waiting(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_TIME);
        idle.pop().map(|(sender, _)| sender)
    }

    async fn connect(&self) -> Result<Sender, String> {
        let stream = self.dial.dial(self.socket).await.map_err(|error| error.to_string())?;
        // A request is written whole: waiting for more of it would only delay it.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => handshake(TokioIo::new(stream)).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await;
                handshake(TokioIo::new(stream.map_err(|error| format!("TLS: {error}"))?)).await
            }
        }
    }
}

async fn handshake<S>(stream: TokioIo<S>) -> Result<Sender, String>
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let (sender, connection) = builder.handshake(stream).await.map_err(|error| told(&error))?;
    // It ends with the last of those who send over it and read from it.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection ended: {}", told(&error));
        }
    });
    Ok(sender)
}

/// An error of hyper's with what it comes from.
pub(crate) fn told(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
