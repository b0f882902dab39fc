//! Text from stdin: the whole prompt, or a text that a prompt is about.

use std::io::{self, BufRead, Read};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::numbers;

/// Longest prompt read from stdin: more text than any context holds.
const MAX_STDIN_BYTES: u64 = 16 << 20;

/// How long a pipe beside a PROMPT may stay silent. A program started by another one often
/// inherits a pipe that nobody writes to and nobody closes; waiting for its end would be for ever.
/// Whoever has a slow producer says `-`.
const FIRST_BYTE_PATIENCE: Duration = Duration::from_millis(300);

/// All of stdin, as text.
///
/// # Errors
/// A stdin that cannot be read, is longer than [`MAX_STDIN_BYTES`], or is not UTF-8.
pub(crate) fn read_all() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_STDIN_BYTES + 1)
        .read_to_end(&mut bytes)
        .context("read the prompt from stdin")?;
    if bytes.len() as u64 > MAX_STDIN_BYTES {
        let message = format!(
            "prompt on stdin: longer than {}, expected less",
            numbers::bytes(MAX_STDIN_BYTES)
        );
        return Err(Failure::new(Exit::Usage, message).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("prompt on stdin: byte {at} is not UTF-8, expected UTF-8 text");
        Failure::new(Exit::Usage, message).into()
    })
}

/// `prompt`, and after a blank line the text of stdin where that is a pipe or a file.
///
/// A pipe that stays silent too long is left alone, and the user is told.
///
/// # Errors
/// As [`read_all`].
pub(crate) fn append_to(prompt: &str, context: &Context) -> anyhow::Result<String> {
    if !is_pipe_or_file() {
        return Ok(prompt.to_owned());
    }
    let (tell_first, first) = mpsc::channel();
    let (tell_all, all) = mpsc::channel();
    // A read cannot be given up, so a thread waits: it ends with its pipe or with the program.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            // Filled or failed: there is something to read. Nobody listens after the patience.
            let _ = io::stdin().lock().fill_buf().map(<[u8]>::len);
            if tell_first.send(()).is_ok() {
                let _ = tell_all.send(read_all());
            }
        })
        .context("read stdin")?;
    if first.recv_timeout(FIRST_BYTE_PATIENCE).is_err() {
        context.note(&format!(
            "nothing came on stdin in {} ms: going on with PROMPT alone (`freehold run -` waits)",
            FIRST_BYTE_PATIENCE.as_millis()
        ));
        return Ok(prompt.to_owned());
    }
    let text = all.recv().context("read stdin")??;
    Ok(joined(prompt, &text))
}

fn joined(prompt: &str, text: &str) -> String {
    if text.trim().is_empty() { prompt.to_owned() } else { format!("{prompt}\n\n{text}") }
}

/// A terminal, `/dev/null`, a socket and a closed stdin are none: nobody put a text there.
#[cfg(unix)]
fn is_pipe_or_file() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;
    let stdin = io::stdin();
    let Ok(fd) = stdin.as_fd().try_clone_to_owned() else { return false };
    let metadata = std::fs::File::from(fd).metadata();
    metadata.is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_fifo())
}

/// Elsewhere the system does not tell a pipe from nothing, so only `-` reads stdin.
#[cfg(not(unix))]
fn is_pipe_or_file() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_stdin_adds_nothing() {
        assert_eq!(joined("sum up", "one\ntwo\n"), "sum up\n\none\ntwo\n");
        assert_eq!(joined("sum up", " \n"), "sum up");
    }
}
