//! One request to a server and its response, over plain HTTP/1.1: only what asking our own server
//! takes. Bounded in time and size, since what answers may be something else.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// How long a connection may take, and a whole answer: a model may have to be opened.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(300);
/// Most bytes of a head, and of a body.
const HEAD_BYTES: u64 = 64 << 10;
const BODY_BYTES: u64 = 16 << 20;

/// A response in full.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: String,
}

/// Asks `host` (`HOST:PORT`) and reads the answer to its end.
///
/// # Errors
/// Nobody answers, or not in HTTP.
pub(super) fn ask(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<Response> {
    let until = Instant::now() + TIMEOUT;
    let mut stream = connect(host)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str("Content-Type: application/json\r\n");
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes())?;
    read(BufReader::new(Timed { stream, until }), method == "HEAD")
}

/// A connection to the first address of `host` that takes one.
fn connect(host: &str) -> anyhow::Result<TcpStream> {
    let addresses =
        host.to_socket_addrs().with_context(|| format!("{host}: expected HOST:PORT"))?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::other("the name has no address"));
    Err(error).with_context(|| format!("{host}: no answer"))
}

/// A connection that is read until a time, however little comes at once.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

fn read(mut from: impl BufRead, is_head: bool) -> anyhow::Result<Response> {
    let mut head = from.by_ref().take(HEAD_BYTES);
    let status = line(&mut head)?;
    let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let Some(status) = code else { bail!("{status:?}: expected the status line of HTTP/1.1") };
    let (mut content_type, mut is_chunked, mut length) = (String::new(), false, None);
    loop {
        let line = line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-type" => content_type = value.trim().to_ascii_lowercase(),
            "content-length" => length = value.trim().parse::<u64>().ok(),
            "transfer-encoding" => is_chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if is_head {
        return Ok(Response { status, content_type, body: String::new() });
    }
    let mut rest = from.take(BODY_BYTES);
    match length {
        _ if is_chunked => read_chunks(&mut rest, &mut body)?,
        Some(n_bytes) => {
            let n_read = rest.take(n_bytes).read_to_end(&mut body)?;
            ensure!(n_read as u64 == n_bytes, "the response broke off");
        }
        // The connection closes behind the body.
        None => {
            let n_read = rest.read_to_end(&mut body)?;
            ensure!((n_read as u64) < BODY_BYTES, "the response is too long");
        }
    }
    let body = String::from_utf8(body).context("body: expected UTF-8")?;
    Ok(Response { status, content_type, body })
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let length = line(from)?;
        let digits = length.split(';').next().unwrap_or_default();
        let n_bytes = u64::from_str_radix(digits, 16)
            .with_context(|| format!("{length:?}: expected the length of a chunk"))?;
        if n_bytes == 0 {
            return Ok(());
        }
        let n_read = from.by_ref().take(n_bytes).read_to_end(body)?;
        if n_read as u64 != n_bytes || !line(from)?.is_empty() {
            bail!("the response broke off");
        }
    }
}

/// A line without its end; the response is over where it has none.
fn line(from: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line).context("the response broke off")?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => bail!("the response broke off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: Result<(u16, &str, &str), &str>) {
        let found = read(bytes.as_bytes(), false);
        let found = found.as_ref().map(|r| (r.status, r.content_type.as_str(), r.body.as_str()));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{bytes:?}"),
            (Err(error), Err(part)) => {
                assert!(format!("{error:#}").contains(part), "{bytes:?}: {error:#}");
            }
            (found, _) => panic!("{bytes:?}: {found:?}"),
        }
    }

    #[test]
    fn responses_are_read_to_their_end_or_refused() {
        let json = Ok((200, "application/json", "{}"));
        check("HTTP/1.1 200 OK\r\nContent-Type: Application/JSON\r\n\r\n{}", json);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{chunked}2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n"), Ok((200, "", "abc")));
        check(&format!("{chunked}3\r\nab"), Err("broke off"));
        check(&format!("{chunked}x\r\n"), Err("length of a chunk"));
        check("HTTP/1.1 404 Not Found\r\n\r\nno", Ok((404, "", "no")));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", Ok((200, "", "ab")));
        check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", Err("broke off"));
        check("SSH-2.0-OpenSSH\r\n", Err("status line"));
        check("HTTP/1.1 200 OK\r\nContent-Type: x", Err("broke off"));
        check("", Err("broke off"));
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
        check(&long, Err("broke off"));
    }
}
