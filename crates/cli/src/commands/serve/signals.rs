//! What signals tell a server: to stop, or to read its settings anew.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Notify;

use crate::exit::Exit;
use crate::interrupt;
use crate::terminal;

/// Ready at the first Ctrl-C or SIGTERM, or with `hung_up`; from then on a second Ctrl-C ends the
/// process.
pub(super) fn shutdown_signal(
    hung_up: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let terminated = terminated()?;
    interrupt::take_over();
    Ok(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
            () = hung_up => {}
        }
        terminal::say("stopping: running answers may finish, Ctrl-C again ends at once");
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(Exit::Interrupted as i32);
            }
        });
    })
}

#[cfg(unix)]
fn terminated() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signal = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    Ok(async move {
        signal.recv().await;
    })
}

/// Ready when the terminal is gone in which the server runs: that is what the signal means there. A
/// server without one, or whose terminal is still there, is told by it to read its settings anew:
/// `reload` is told. From this call on, not only when it is awaited.
#[cfg(unix)]
pub(super) fn hung_up(
    reload: Arc<Notify>,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let has_terminal =
        || io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    let had_terminal = has_terminal();
    let mut signal = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    Ok(async move {
        while signal.recv().await.is_some() {
            if had_terminal && !has_terminal() {
                return;
            }
            reload.notify_one();
        }
        std::future::pending().await
    })
}

#[cfg(not(unix))]
fn terminated() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(std::future::pending())
}

#[cfg(not(unix))]
pub(super) fn hung_up(
    _reload: Arc<Notify>,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(std::future::pending())
}
