//! Connections: accepting them, the bounds on them, and the way down.

mod loading;
mod timed;

pub use loading::Loading;

use crate::app::{self, App, Local, Peer};
use crate::page;
use crate::serve::run_batches;
use crate::upstream;
use crate::{Config, ServerError};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timed::Timed;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long connections may take to write their last words once every answer was told to end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Pause after a failed accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two looks for models that nobody uses.
const CLOSE_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two notes of which models are open; those who collect think in hours.
const MARK_PAUSE: Duration = Duration::from_secs(300);

/// Serves until `shutdown`; see [`crate::run`].
pub(crate) async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let (over, over_seen) = watch::channel(false);
    let (draining, draining_seen) = watch::channel(false);
    let n_connections = config.limits.n_connections;
    let app = Arc::new(App::new(config, over_seen, draining_seen.clone())?);
    // Before the first request: whether a key is needed is known by then.
    app.access.refresh().await.map_err(|error| {
        ServerError::LedgerUnavailable(format!("the keys cannot be read from the ledger: {error}"))
    })?;
    let router = app::router(app.clone());
    let mut connections = JoinSet::new();
    // Not waited for: whoever comes before gets what is asked for, packed then.
    drop(tokio::task::spawn_blocking(page::prepare));
    // Ends as a connection does: when it is told that the server drains, behind what is at work.
    connections.spawn(run_batches(app.clone(), draining_seen.clone()));
    {
        let closing = close_idle(&app);
        let looking = look_at_upstreams(&app);
        let counting = look_at_money(&app);
        let reloading = reload_when_told(&app);
        let following = app.access.follow();
        let server = Server { app: app.clone(), router, draining: draining_seen };
        let accepting = accept(&listener, &server, n_connections, &mut connections);
        let shutdown = pin!(shutdown);
        tokio::select! {
            () = shutdown => {}
            () = accepting => {}
            () = closing => {}
            () = looking => {}
            () = counting => {}
            () = reloading => {}
            () = following => {}
        }
    }
    // From here on new connections are refused by the system.
    drop(listener);
    draining.send_replace(true);
    let grace = app.limits.get().shutdown_grace;
    if tokio::time::timeout(grace, all_ended(&mut connections)).await.is_err() {
        over.send_replace(true);
        let told = tokio::time::timeout(LAST_WORDS, all_ended(&mut connections)).await;
        if told.is_err() {
            tracing::warn!(
                n_connections = connections.len(),
                "closing connections whose clients do not read"
            );
        }
    }
    connections.shutdown().await;
    // Nobody can ask for what is made in the background any more.
    let _ = tokio::time::timeout(LAST_WORDS, app.background.end_all()).await;
    Ok(())
}

/// Closes idle models and forgets what is kept no longer, for ever. Giving memory back takes a
/// while, and may have to wait for a model that is being opened.
async fn close_idle(app: &Arc<App>) {
    let mut marked = Instant::now();
    loop {
        tokio::time::sleep(CLOSE_PAUSE).await;
        let is_due = marked.elapsed() >= MARK_PAUSE;
        if is_due {
            marked = Instant::now();
        }
        app.kept.sweep(Instant::now());
        app.streams.sweep(Instant::now());
        app.background.sweep(Instant::now());
        if let Some(energy) = &app.energy {
            energy.look();
        }
        let app = app.clone();
        let look = move || {
            app.models.close_idle();
            if is_due {
                app.models.mark_open();
            }
        };
        if tokio::task::spawn_blocking(look).await.is_err() {
            tracing::error!("closing idle models panicked");
        }
    }
}

/// Looks each second what is left of limits of money, where a rule asks for that, for ever.
async fn look_at_money(app: &Arc<App>) {
    let Some(accounts) = &app.accounts else { return std::future::pending().await };
    loop {
        if app.ways.get().elsewhere.rules.ask_for("budget") {
            accounts.look_at_money().await;
        }
        tokio::time::sleep(CLOSE_PAUSE).await;
    }
}

/// Asks each second which upstreams cannot be asked, for ever.
async fn look_at_upstreams(app: &Arc<App>) {
    let Some(broker) = app.broker.clone() else { return std::future::pending().await };
    loop {
        app.down.set(upstream::down(&broker).await);
        tokio::time::sleep(CLOSE_PAUSE).await;
    }
}

/// Has the configuration read anew each time that the process is asked for it, for ever. What came
/// of it is logged there.
async fn reload_when_told(app: &Arc<App>) {
    loop {
        app.reload_told.notified().await;
        let _ = app.reload().await;
    }
}

async fn all_ended(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Returns once `signal` is true, or nobody is left who could make it so.
pub(crate) async fn told(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|signal| *signal).await;
}

/// What each connection needs of the server.
#[derive(Clone)]
struct Server {
    app: Arc<App>,
    router: Router,
    draining: watch::Receiver<bool>,
}

/// Accepts for ever.
async fn accept(
    listener: &TcpListener,
    server: &Server,
    n_connections: usize,
    connections: &mut JoinSet<()>,
) {
    let slots = Arc::new(Semaphore::new(n_connections));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let server = server.clone();
                connections.spawn(async move {
                    server.connection(stream).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Between which addresses a connection is.
#[derive(Clone, Copy)]
struct Ends {
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

impl Server {
    /// Serves one connection to its end; when the server drains, to the end of the answer at hand.
    async fn connection(self, stream: TcpStream) {
        // Tokens are small packets that should leave at once.
        let _ = stream.set_nodelay(true);
        let ends = Ends { local: stream.local_addr().ok(), peer: stream.peer_addr().ok() };
        let stream = Timed::new(stream, self.app.limits.get().write_timeout);
        // The certificate of the time at which it came.
        let tls = Option::clone(&self.app.tls.get());
        match tls {
            None => self.speak(stream, ends).await,
            Some(tls) => {
                let mut draining = self.draining.clone();
                let greeted = tokio::select! {
                    greeted = self.app.handshake(tls, stream) => greeted,
                    () = told(&mut draining) => None,
                };
                if let Some(stream) = greeted {
                    self.speak(stream, ends).await;
                }
            }
        }
    }

    /// Speaks HTTP on `stream`.
    async fn speak<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, ends: Ends) {
        let routes = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            if let Some(uri) = app::plain_path(request.uri()) {
                *request.uri_mut() = uri;
            }
            if let Some(local) = ends.local {
                request.extensions_mut().insert(Local(local));
            }
            if let Some(peer) = ends.peer {
                request.extensions_mut().insert(Peer(peer.ip()));
            }
            let request: Request = request.map(Body::new);
            routes.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.app.limits.get().header_timeout)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut draining = self.draining.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told(&mut draining) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients that go away in the middle; their requests have logged it.
            tracing::debug!(%error, "connection broke off");
        }
    }
}
