//! A client of a few lines that shows the bytes as they are: real TCP, no library in between.

use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for anything: a hang must become a failure.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A response in full.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The data of each event, the end marker included.
    pub(crate) fn events(&self) -> Vec<&str> {
        let blocks = self.body.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
        blocks.map(|block| block.strip_prefix("data: ").unwrap()).collect()
    }
}

/// A connection whose request was sent and whose answer is being read.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Sends `head` (request line and headers, `Host` unless given) and `body`.
    pub(crate) fn send(address: SocketAddr, head: &str, body: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        let host = match head.to_ascii_lowercase().contains("\nhost:") {
            true => String::new(),
            false => format!("Host: {address}\r\n"),
        };
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let headers: String = headers.lines().map(|header| format!("{header}\r\n")).collect();
        let head = format!(
            "{line} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line as it is, line end included.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// The rest of the response.
    pub(crate) fn finish(mut self) -> Response {
        let status = self.line().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            self.chunks(&mut body);
        } else {
            self.0.read_to_end(&mut body).unwrap();
        }
        Response { status, headers, body: String::from_utf8(body).unwrap() }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let n_bytes = usize::from_str_radix(self.line().trim_end(), 16).unwrap();
            let mut chunk = vec![0; n_bytes + 2];
            self.0.read_exact(&mut chunk).unwrap();
            // Every piece is text by itself: no character is split.
            body.extend(std::str::from_utf8(&chunk[..n_bytes]).unwrap().as_bytes());
            if n_bytes == 0 {
                return;
            }
        }
    }
}

/// One request and its response.
pub(crate) fn request(address: SocketAddr, head: &str, body: &[u8]) -> Response {
    Connection::send(address, head, body).finish()
}

/// A POST of JSON.
pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Response {
    request(address, &post_head(path), body.to_string().as_bytes())
}

/// The head of such a POST; any key is taken.
pub(crate) fn post_head(path: &str) -> String {
    format!("POST {path}\nContent-Type: application/json\nAuthorization: Bearer any-key")
}
