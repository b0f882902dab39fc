//! How far a run is: a bar with the time left on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::{Context, Verbosity};
use crate::terminal;

/// How often a log without a terminal hears of a long run.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Columns of a name before the bar.
const NAME_CHARS_MAX: usize = 24;

/// The run of one model.
pub(super) struct Progress {
    name: String,
    n_jobs: usize,
    n_done: usize,
    n_tokens: u64,
    began: Instant,
    last_line: Instant,
    /// `None` where nothing is shown.
    shown: Option<Shown>,
}

enum Shown {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// Of `n_jobs` answers; shows nothing with `--quiet`.
    pub(super) fn start(context: &Context, name: &str, n_jobs: usize) -> Self {
        let shown = match context.verbosity() {
            Verbosity::Quiet => None,
            _ if io::stderr().is_terminal() => Some(Shown::Bar(bar(name, n_jobs))),
            _ => Some(Shown::Lines),
        };
        let (now, name) = (Instant::now(), name.to_owned());
        Self { name, n_jobs, n_done: 0, n_tokens: 0, began: now, last_line: now, shown }
    }

    /// One more answer has come, of so many tokens.
    pub(super) fn advance(&mut self, n_tokens: u64) {
        self.n_done += 1;
        self.n_tokens += n_tokens;
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = self.n_tokens as f64 / seconds.max(1e-9);
        // Answers differ in length, so this is of those before.
        let left = seconds / self.n_done as f64 * (self.n_jobs - self.n_done) as f64;
        let left = HumanDuration(Duration::from_secs_f64(left));
        match &self.shown {
            Some(Shown::Bar(bar)) => {
                bar.set_position(self.n_done as u64);
                bar.set_message(format!("{rate:.0} tokens/s, {left:#} left"));
            }
            Some(Shown::Lines) if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                let Self { name, n_done, n_jobs, .. } = self;
                let line = format!("{name}: {n_done} of {n_jobs} answers, {rate:.0} tokens/s");
                terminal::say(&format!("{line}, {left:#} left"));
            }
            _ => {}
        }
    }

    /// Leaves nothing of the bar.
    pub(super) fn end(&self) {
        if let Some(Shown::Bar(bar)) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, n_jobs: usize) -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(Some(n_jobs as u64), target);
    // The template is ours: a failure would be a typing mistake, and then the default serves.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.chars().take(NAME_CHARS_MAX).collect::<String>());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
