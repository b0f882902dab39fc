//! Ctrl-C while an answer is made: it stops the answer, not the program.
//!
//! While a model is fetched Ctrl-C ends the program with a word on how to go on; before and after
//! that, until somebody listens for it, it ends the program as it always does.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Poll;

use anyhow::Context as _;

use crate::exit::Exit;
use crate::terminal;

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
        take_over();
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

/// What Ctrl-C means once a pull has listened for it: the system's handler stays ours for good.
static MEANING: AtomicU8 = AtomicU8::new(ENDS);
/// It ends the program.
const ENDS: u8 = 0;
/// It ends the program, with a word on how to go on with the pull.
const ENDS_PULL: u8 = 1;
/// Somebody else listens.
const TAKEN_OVER: u8 = 2;

/// From now on Ctrl-C belongs to the caller, who listens for it.
pub(crate) fn take_over() {
    MEANING.store(TAKEN_OVER, Ordering::SeqCst);
}

/// While it lives, Ctrl-C ends the program and says that the next pull goes on.
pub(crate) struct StopPull;

impl StopPull {
    /// Starts to listen.
    ///
    /// # Errors
    /// If the system gives no thread or no signal handler.
    pub(crate) fn install() -> anyhow::Result<Self> {
        MEANING.store(ENDS_PULL, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("listen for Ctrl-C")?;
        std::thread::Builder::new()
            .name("stop pull".to_owned())
            .spawn(move || {
                if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                    match MEANING.load(Ordering::SeqCst) {
                        TAKEN_OVER => return,
                        // The line end leaves the bar where it stands.
                        ENDS_PULL => terminal::say("\nstopped; pull again to go on"),
                        _ => {}
                    }
                    std::process::exit(Exit::Interrupted as i32);
                }
            })
            .context("listen for Ctrl-C")?;
        Ok(Self)
    }
}

impl Drop for StopPull {
    fn drop(&mut self) {
        MEANING.store(ENDS, Ordering::SeqCst);
    }
}
