//! A `freehold serve` on a free port of this machine, of the real binary.
// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::binary::Home;

/// It ends with its test.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// Host and port.
    pub(crate) address: String,
    said: Option<JoinHandle<String>>,
    /// A server whose words nobody reads ends.
    _stdout: Box<dyn Read>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    /// Starts `freehold serve` with `args`, and waits for its address.
    pub(crate) fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.trim().strip_prefix("listening on http://") else {
            child.wait().unwrap();
            panic!("it ended: {}", said.join().unwrap());
        };
        let address = address.to_owned();
        Self { child, address, said: Some(said), _stdout: Box::new(stdout) }
    }

    /// The answer to a request; `line` is its method and path, `head` further lines, each ended.
    pub(crate) fn ask(&self, line: &str, head: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (host, n_bytes) = (&self.address, body.len());
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{head}");
        // At once: a server that answers before all has come resets the connection.
        let request = format!("{head}Content-Length: {n_bytes}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// The same with a key, or without one.
    pub(crate) fn ask_as(&self, key: Option<&str>, line: &str, body: &str) -> Answer {
        let bearer = key.map(|key| format!("Authorization: Bearer {key}\r\n"));
        self.ask(line, &bearer.unwrap_or_default(), body)
    }

    /// The status of an answer that whoever may ask gets at once.
    pub(crate) fn status(&self, key: Option<&str>) -> u16 {
        self.ask_as(key, "GET /v1/models", "").status
    }

    /// Waits until that is `status`: what was changed beside the server holds in about a second.
    pub(crate) fn wait_for(&self, key: Option<&str>, status: u16) {
        let begun = Instant::now();
        while self.status(key) != status {
            assert!(begun.elapsed() < Duration::from_secs(10), "not {status} after 10 s");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it without a word, and gives what it said on stderr.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.said.take().unwrap().join().unwrap()
    }

    /// Asks it to end, waits for that, and gives what it said on stderr.
    #[cfg(unix)]
    pub(crate) fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        let said = self.said.take().unwrap().join().unwrap();
        assert_eq!(status.code(), Some(0), "{said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
