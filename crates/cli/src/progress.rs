//! Progress of downloads and hashing on stderr: a bar on a terminal, plain lines elsewhere.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use store::Progress;

use crate::context::{Context, Verbosity};
use crate::numbers;
use crate::terminal;

/// How often a log without a terminal hears of a long download.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Work that took this long ends with a line that says how fast it went.
const SUMMARY_AFTER: Duration = Duration::from_secs(2);

/// Patience with work that mostly is over at once, before it is shown at all.
const SHOW_AFTER: Duration = Duration::from_millis(500);

/// Longest name in front of a bar, in characters: with all else it leaves a bar in 80 columns.
const WHAT_CHARS_MAX: usize = 24;

/// What stderr shows while the store works.
pub(crate) struct Shown {
    quiet: bool,
    is_terminal: bool,
    /// How old work must be before it is shown.
    show_after: Duration,
    work: Mutex<Option<Work>>,
}

/// The piece of work at hand.
struct Work {
    what: String,
    total: Option<u64>,
    n_done: u64,
    started: Instant,
    last_line: Instant,
    is_shown: bool,
    bar: Option<ProgressBar>,
}

impl Shown {
    /// Progress as this run wants it: nothing with `--quiet`.
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            quiet: context.verbosity() == Verbosity::Quiet,
            is_terminal: io::stderr().is_terminal(),
            show_after: Duration::ZERO,
            work: Mutex::new(None),
        }
    }

    /// As [`Shown::new`], silent about work that is over in half a second.
    pub(crate) fn if_slow(context: &Context) -> Self {
        Self { show_after: SHOW_AFTER, ..Self::new(context) }
    }

    /// Starts to show `work` once it is old enough.
    fn show(&self, work: &mut Work) {
        if work.is_shown || work.started.elapsed() < self.show_after {
            return;
        }
        work.is_shown = true;
        work.bar = self.bar(&work.what, work.total);
        if work.bar.is_none() {
            let size = work.total.map(|total| format!(" ({})", numbers::bytes(total)));
            terminal::say(&format!("{}{}", work.what, size.unwrap_or_default()));
        }
    }

    fn with_work<T>(&self, f: impl FnOnce(&mut Option<Work>) -> T) -> T {
        // A poisoned lock only means that a drawing thread panicked; the numbers are still whole.
        f(&mut self.work.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn bar(&self, what: &str, total: Option<u64>) -> Option<ProgressBar> {
        if !self.is_terminal {
            return None;
        }
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(total, target);
        // At most 63 columns without the bar, which takes what is left.
        let template = match total {
            Some(_) => {
                "{msg} {wide_bar} {percent}% of {binary_total_bytes} {binary_bytes_per_sec}{left}"
            }
            None => "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}",
        };
        // The template is ours: a failure would be a typing mistake, and then the default serves.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> ").with_key("left", write_left));
        }
        bar.set_message(shortened(what));
        bar.enable_steady_tick(Duration::from_millis(200));
        Some(bar)
    }
}

/// What is worked on, in at most [`WHAT_CHARS_MAX`] characters: a bar that wraps draws itself anew
/// on every line.
fn shortened(what: &str) -> String {
    if what.chars().count() <= WHAT_CHARS_MAX {
        return what.to_owned();
    }
    let start: String = what.chars().take(WHAT_CHARS_MAX - 1).collect();
    format!("{start}…")
}

/// The time left, once there is a speed to tell it from.
fn write_left(state: &ProgressState, out: &mut dyn fmt::Write) {
    if state.per_sec() >= 1.0 {
        // A bar that cannot be drawn is no reason to end the work.
        let _ = write!(out, " {:#}", HumanDuration(state.eta()));
    }
}

impl Progress for Shown {
    fn start(&self, what: &str, total: Option<u64>) {
        if self.quiet {
            return;
        }
        let now = Instant::now();
        let mut work = Work {
            what: what.to_owned(),
            total,
            n_done: 0,
            started: now,
            last_line: now,
            is_shown: false,
            bar: None,
        };
        self.show(&mut work);
        self.with_work(|slot| *slot = Some(work));
    }

    fn advance(&self, n_bytes: u64) {
        self.with_work(|slot| {
            let Some(work) = slot else { return };
            work.n_done = work.n_done.saturating_add(n_bytes);
            self.show(work);
            match &work.bar {
                Some(bar) => bar.set_position(work.n_done),
                None if work.is_shown && work.last_line.elapsed() >= LINE_INTERVAL => {
                    work.last_line = Instant::now();
                    terminal::say(&work.line());
                }
                None => {}
            }
        });
    }

    fn finish(&self) {
        self.with_work(|slot| {
            let Some(work) = slot.take() else { return };
            if let Some(bar) = &work.bar {
                bar.finish_and_clear();
            }
            // What was over at once is not worth a second line.
            if work.started.elapsed() >= SUMMARY_AFTER {
                terminal::say(&work.line());
            }
        });
    }

    fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        self.with_work(|slot| match slot.as_ref().and_then(|work| work.bar.as_ref()) {
            Some(bar) => bar.suspend(|| terminal::say(text)),
            None => terminal::say(text),
        });
    }
}

impl Work {
    /// Where the work stands: `fetch smollm2-135m: 93.8 MiB of 93.8 MiB, 41.2 MiB/s, 0 s left`.
    fn line(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let per_second = if seconds > 0.0 { self.n_done as f64 / seconds } else { 0.0 };
        let mut line = format!("{}: {}", self.what, numbers::bytes(self.n_done));
        if let Some(total) = self.total {
            line.push_str(&format!(" of {}", numbers::bytes(total)));
        }
        line.push_str(&format!(", {}/s", numbers::bytes(per_second as u64)));
        let left = self.total.map(|total| total.saturating_sub(self.n_done)).unwrap_or(0);
        if left > 0 && per_second > 0.0 {
            line.push_str(&format!(", {:.0} s left", left as f64 / per_second));
        }
        line
    }
}
