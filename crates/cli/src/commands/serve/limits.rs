//! The bounds of the server as settings. What each is for, and why it is as it is, says
//! [`server::Limits`]; a test holds both to the same values.

use std::time::Duration;

use clap::Command;

use super::{Serve, some_time};
use crate::numbers;

/// Where the help lists them.
const HEADING: &str = "Limits";

/// Bounds on what clients may send, and on how long it may take.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct LimitArgs {
    /// Largest body of a request
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    max_body: usize,
    /// How long a client may take to send a request's head, and an idle connection is kept
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    header_timeout: Duration,
    /// How long a client may take to send a request's body
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    body_timeout: Duration,
    /// How long a client may take to agree on the keys of a TLS connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    handshake_timeout: Duration,
    /// TLS connections that agree on keys at once; more wait
    #[arg(long, value_name = "N", default_value = "64", value_parser = count)]
    max_handshakes: usize,
    /// Open connections; more wait
    #[arg(long, value_name = "N", default_value = "512", value_parser = count)]
    max_connections: usize,
    /// Requests at work at once, a quarter of them for others than any one client
    #[arg(long, value_name = "N", default_value = "128", value_parser = count)]
    max_requests: usize,
    /// Of them, requests for embeddings and rerank
    #[arg(long, value_name = "N", default_value = "32", value_parser = count)]
    max_vector_requests: usize,
    /// Requests read and tokenized at once; more wait
    #[arg(long, value_name = "N", default_value = "4", value_parser = count)]
    max_preparing: usize,
    /// Alternatives of one prompt
    #[arg(long, value_name = "N", default_value = "16", value_parser = count)]
    max_choices_per_prompt: usize,
    /// Prompts times alternatives of one request
    #[arg(long, value_name = "N", default_value = "128", value_parser = count)]
    max_choices: usize,
    /// Texts of one request for vectors
    #[arg(long, value_name = "N", default_value = "2048", value_parser = count)]
    max_texts: usize,
    /// Tokens of those texts together
    #[arg(long, value_name = "N", default_value = "300000", value_parser = count)]
    max_text_tokens: usize,
    /// Largest file that a client sends for --batches
    #[arg(long, value_name = "SIZE", default_value = "200MiB", value_parser = numbers::parse_bytes)]
    max_file: u64,
    /// Lines of batches that are answered at once; half of --max-requests at most
    #[arg(long, value_name = "N", default_value = "32", value_parser = count)]
    max_batch_lines: usize,
    /// Silence on a stream after which a comment is sent, so that proxies keep it open
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = some_time)]
    ping: Duration,
    /// How long a client may read nothing of an answer, whole or streamed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    write_timeout: Duration,
    /// How long answers in flight may go on once the server is told to stop
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = some_time)]
    shutdown_grace: Duration,
    /// Most bytes of all answers that --keep-responses keeps
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    max_kept: usize,
    /// Most bytes of one stream that --resume-streams keeps
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size)]
    max_stream: usize,
    /// Most bytes of all of them
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    max_streams: usize,
}

impl LimitArgs {
    /// The bounds, without those that are settings of their own.
    pub(super) fn limits(&self) -> server::Limits {
        server::Limits {
            n_body_bytes: self.max_body,
            header_timeout: self.header_timeout,
            body_timeout: self.body_timeout,
            handshake_timeout: self.handshake_timeout,
            n_handshakes: self.max_handshakes,
            n_connections: self.max_connections,
            n_requests: self.max_requests,
            n_vector_requests: self.max_vector_requests,
            n_preparing: self.max_preparing,
            n_choices_per_prompt: self.max_choices_per_prompt,
            n_choices: self.max_choices,
            n_texts: self.max_texts,
            n_text_tokens: self.max_text_tokens,
            n_file_bytes: self.max_file,
            n_batch_lines: self.max_batch_lines,
            keep_alive: self.ping,
            write_timeout: self.write_timeout,
            shutdown_grace: self.shutdown_grace,
            keep_responses: None,
            n_kept_bytes: self.max_kept,
            resume_streams: None,
            n_stream_bytes: self.max_stream,
            n_streams_bytes: self.max_streams,
        }
    }
}

impl Serve {
    /// The bounds, with those that have settings of their own elsewhere.
    pub(super) fn limits(&self) -> server::Limits {
        server::Limits {
            keep_responses: self.keep_responses,
            resume_streams: self.resume_streams,
            ..self.limits.limits()
        }
    }
}

/// Few want them: `-h` is without them.
pub(super) fn hide_in_short_help(command: Command) -> Command {
    command.mut_args(|arg| {
        let is_limit = arg.get_help_heading() == Some(HEADING);
        if is_limit { arg.hide_short_help(true) } else { arg }
    })
}

fn size(text: &str) -> Result<usize, String> {
    let n_bytes = numbers::parse_bytes(text)?;
    usize::try_from(n_bytes).map_err(|_| "expected a size that fits the address space".to_owned())
}

/// A count that lets something through. What waits at a bound is counted in 32 bits.
fn count(text: &str) -> Result<usize, String> {
    match text.parse::<u32>() {
        Ok(n) if (1..=1 << 24).contains(&n) => Ok(n as usize),
        _ => Err("expected a whole number from 1 to 16777216".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, Settings};

    #[test]
    fn where_nobody_says_anything_the_bounds_are_the_servers() {
        let nowhere = std::path::Path::new("/nonexistent");
        let resolved = Settings::of::<LimitArgs>().resolve(&Flags::default(), nowhere).unwrap();
        let limits = resolved.read::<LimitArgs>().unwrap().limits();
        assert_eq!(limits, server::Limits::default());
    }

    #[test]
    fn bounds_let_something_through() {
        assert_eq!((count("1"), count("16777216")), (Ok(1), Ok(1 << 24)));
        for text in ["", "0", "-1", "16777217", "1.5", "many"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
