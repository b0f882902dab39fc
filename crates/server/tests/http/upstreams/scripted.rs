//! A server that answers whatever it is asked with the same bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it sends, piece by piece.
#[derive(Clone)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    Pause(Duration),
}

/// A running one, and the bodies that it was sent.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// One that sends these pieces and closes the connection.
    pub(super) fn start(pieces: Vec<Piece>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (pieces, seen) = (pieces.clone(), Arc::clone(&seen));
                std::thread::spawn(move || answer(stream, &pieces, &seen));
            }
        });
        Self { address, asked }
    }

    /// One that answers with this status, these headers and this body.
    pub(super) fn saying(status: u16, headers: &str, body: &str) -> Self {
        Self::start(vec![head(status, headers, Some(body.len())), Piece::Bytes(body.into())])
    }

    /// One that streams these events, each in a piece of its own, and then ends as it should.
    pub(super) fn streaming(events: &[&str]) -> Self {
        let mut pieces = vec![head(200, "Content-Type: text/event-stream\r\n", None)];
        pieces.extend(events.iter().map(|event| chunk(event)));
        pieces.push(Piece::Bytes(b"0\r\n\r\n".to_vec()));
        Self::start(pieces)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bodies that it was sent so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A head; without a length the body is chunked.
pub(super) fn head(status: u16, headers: &str, n_bytes: Option<usize>) -> Piece {
    let length = match n_bytes {
        Some(n_bytes) => format!("Content-Length: {n_bytes}\r\n"),
        None => "Transfer-Encoding: chunked\r\n".to_owned(),
    };
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}{length}\r\n");
    Piece::Bytes(head.into_bytes())
}

pub(super) fn chunk(text: &str) -> Piece {
    Piece::Bytes(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

fn answer(stream: TcpStream, pieces: &[Piece], seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut n_bytes = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            n_bytes = length.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; n_bytes];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    seen.lock().unwrap().push(String::from_utf8(body).unwrap());
    let mut stream = reader.into_inner();
    for piece in pieces {
        match piece {
            // Whoever asked may be gone.
            Piece::Bytes(bytes) if stream.write_all(bytes).is_err() => return,
            Piece::Bytes(_) => {}
            Piece::Pause(pause) => std::thread::sleep(*pause),
        }
    }
}
