//! Standard output and standard error: what goes where, and colour. The log is beside it.
//!
//! Results go to stdout and nothing else does; progress, notes and errors go to stderr. A reader
//! that closes the pipe (`freehold list | head -1`) is no failure and no panic.

mod log;

use std::io::{self, IsTerminal, Write};

pub(crate) use log::{log_filter, set_log, start_log};

/// The reader of stdout went away; the program ends quietly.
#[derive(Debug)]
pub(crate) struct StdoutClosed;

impl std::fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// Writes `text` to stdout and flushes, so that a stream appears as it is made.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("write to standard output")),
    }
}

/// Writes a piece of a model's answer to stdout. What a model says is not ours to trust: a
/// terminal gets no control characters, so that no answer can move its cursor or set its title.
/// A pipe gets every byte.
pub(crate) fn print_answer(text: &str) -> anyhow::Result<()> {
    if io::stdout().is_terminal() { print(&harmless(text)) } else { print(text) }
}

fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Writes `text` and a line end to stdout.
pub(crate) fn print_line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Writes `value` as indented JSON and a line end to stdout.
pub(crate) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print_line(&format!("{value:#}"))
}

/// Writes `text` and a line end to stderr. If stderr is gone there is nobody left to tell.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The colours in use, each on a terminal only and never with `NO_COLOR`.
#[derive(Clone, Copy)]
pub(crate) enum Colour {
    /// Errors and failed checks.
    Red,
    /// Warnings.
    Yellow,
    /// Passed checks and prompts.
    Green,
    /// What is beside the point.
    Dim,
}

/// `text` in `colour` where `stream` takes colour, else as it is.
pub(crate) fn paint(text: &str, colour: Colour, stream: &impl IsTerminal) -> String {
    if !takes_colour(stream.is_terminal(), |name| std::env::var(name).ok()) {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => "1;31",
        Colour::Yellow => "33",
        Colour::Green => "32",
        Colour::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// no-color.org: set and not empty means no colour.
fn takes_colour(is_terminal: bool, env: impl Fn(&str) -> Option<String>) -> bool {
    let no_color = env("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env("TERM").is_some_and(|value| value == "dumb");
    is_terminal && !no_color && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(is_terminal: bool, env: &[(&str, &str)], expected: bool) {
        let look_up = |name: &str| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(takes_colour(is_terminal, look_up), expected, "{is_terminal} {env:?}");
    }

    #[test]
    fn an_answer_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\tb\nc\x1b[2Jd\u{9b}1me\r"), "a\tb\nc[2Jd1me");
        assert_eq!(harmless("größer → ✓"), "größer → ✓");
    }

    #[test]
    fn colour_only_on_a_terminal_without_no_color() {
        check(true, &[], true);
        check(false, &[], false);
        check(true, &[("NO_COLOR", "1")], false);
        check(true, &[("NO_COLOR", "")], true);
        check(true, &[("TERM", "dumb")], false);
    }
}
