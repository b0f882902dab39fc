//! Ctrl-C while an answer is made: it stops the answer, not the program.
//!
//! Only `run` listens, and only once its model is loaded; before that (downloads included, which
//! lose nothing when killed) Ctrl-C ends the program as it always does.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use anyhow::Context as _;

use crate::exit::Exit;

/// What a second Ctrl-C does when the first has not been answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// Ends the program at once.
    Ends,
    /// Nothing more: a chat ends with Ctrl-D or `/exit`.
    Waits,
}

/// Whether Ctrl-C was pressed since the last [`Interrupt::clear`].
#[derive(Clone)]
pub(crate) struct Interrupt {
    pressed: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts to listen, for the rest of the program.
    ///
    /// # Errors
    /// If the system gives no thread or no signal handler.
    pub(crate) fn install(second: Second) -> anyhow::Result<Self> {
        let pressed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&pressed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("listen for Ctrl-C")?;
        // The first poll registers the handler. It happens here and not in the thread, because a
        // line editor that starts meanwhile would save the state before it and restore that.
        let mut press = Box::pin(tokio::signal::ctrl_c());
        let first = runtime.block_on(poll_fn(|cx| Poll::Ready(press.as_mut().poll(cx))));
        if let Poll::Ready(result) = first {
            result.context("listen for Ctrl-C")?;
            press.set(tokio::signal::ctrl_c());
        }
        let listen = async move {
            while press.as_mut().await.is_ok() {
                if seen.swap(true, Ordering::SeqCst) && second == Second::Ends {
                    std::process::exit(Exit::Interrupted as i32);
                }
                press.set(tokio::signal::ctrl_c());
            }
        };
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || runtime.block_on(listen))
            .context("listen for Ctrl-C")?;
        Ok(Self { pressed })
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::SeqCst)
    }

    /// Forgets what was pressed before the next answer.
    pub(crate) fn clear(&self) {
        self.pressed.store(false, Ordering::SeqCst);
    }
}
