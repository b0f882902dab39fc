//! A Hub in miniature: one listener answers as the Hub does, another on its own port is the storage
//! it redirects to. Both write down every request, so that a test can see what was really asked.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::sha256;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// `hub` or `storage`.
    pub at: &'static str,
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// How the servers misbehave.
#[derive(Default)]
pub struct Manners {
    /// File name to content.
    pub files: HashMap<String, Vec<u8>>,
    /// The hub names this hash instead of the true one.
    pub hash_told: Option<String>,
    /// The hub names no hash.
    pub hides_hash: bool,
    /// The hub names this length instead of the true one.
    pub size_told: Option<u64>,
    /// The storage ends each of its next answers after so many bytes of the body.
    pub cuts: VecDeque<usize>,
    /// The storage answers every request with the whole file.
    pub ignores_range: bool,
    /// The storage states no length.
    pub hides_length: bool,
    /// The validator that the storage states.
    pub etag: String,
    /// The next answers of the hub have these statuses.
    pub hub_statuses: VecDeque<u16>,
    /// The next answers of the storage have these statuses.
    pub storage_statuses: VecDeque<u16>,
    /// The hub redirects here instead.
    pub redirect_to: Option<String>,
    /// The hub wants this token.
    pub token: Option<String>,
    /// The storage pauses after each 64 KiB.
    pub pause: Duration,
    /// Bytes of bodies that the storage has sent.
    pub n_bytes_sent: usize,
}

pub struct Hub {
    pub endpoint: String,
    pub storage: String,
    pub manners: Arc<Mutex<Manners>>,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Hub {
    /// Starts both servers with one repository `owner/repo` that holds `files`.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec()));
        let manners = Manners {
            files: files.collect(),
            etag: "\"storage-1\"".to_owned(),
            ..Manners::default()
        };
        let manners = Arc::new(Mutex::new(manners));
        let log = Arc::new(Mutex::new(Vec::new()));
        let storage = listen("storage", &manners, &log, answer_storage);
        let to_storage = storage.clone();
        let endpoint = listen("hub", &manners, &log, move |request, manners, out| {
            answer_hub(request, manners, out, &to_storage)
        });
        Self { endpoint, storage, manners, log }
    }

    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// The requests that reached the storage.
    pub fn storage_log(&self) -> Vec<Request> {
        self.log().into_iter().filter(|request| request.at == "storage").collect()
    }

    pub fn set(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }
}

/// Listens on a port of its own and answers each connection in a thread, until the program ends.
fn listen(
    at: &'static str,
    manners: &Arc<Mutex<Manners>>,
    log: &Arc<Mutex<Vec<Request>>>,
    answer: impl Fn(&Request, &Mutex<Manners>, &mut TcpStream) -> std::io::Result<()>
    + Send
    + Sync
    + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (manners, log, answer) = (Arc::clone(manners), Arc::clone(log), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (manners, log, answer) =
                (Arc::clone(&manners), Arc::clone(&log), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut stream = stream;
                if let Some(request) = read_request(at, &stream) {
                    log.lock().unwrap().push(request.clone());
                    // A client that went away is what some tests are about.
                    let _ = answer(&request, &manners, &mut stream);
                }
            });
        }
    });
    address
}

pub fn read_request(at: &'static str, stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Request { at, method, path, headers })
}

fn answer_nothing(out: &mut TcpStream, status: u16) -> std::io::Result<()> {
    let head = "Content-Length: 0\r\nConnection: close\r\nRetry-After: 0\r\n";
    write!(out, "HTTP/1.1 {status} x\r\n{head}\r\n")
}

fn answer_hub(
    request: &Request,
    manners: &Mutex<Manners>,
    out: &mut TcpStream,
    storage: &str,
) -> std::io::Result<()> {
    let mut manners = manners.lock().unwrap();
    if let Some(status) = manners.hub_statuses.pop_front() {
        return answer_nothing(out, status);
    }
    let wanted = manners.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_some() && request.header("authorization") != wanted.as_deref() {
        return answer_nothing(out, 401);
    }
    let file_name = request.path.rsplit('/').next().unwrap();
    let in_repo = request.path.starts_with("/owner/repo/resolve/");
    let Some(content) = manners.files.get(file_name).filter(|_| in_repo) else {
        return answer_nothing(out, 404);
    };
    let location = manners
        .redirect_to
        .clone()
        .unwrap_or_else(|| format!("{storage}/bucket/{file_name}?signature=secret"));
    let mut head = format!(
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n\
         Location: {location}\r\n\
         X-Repo-Commit: {COMMIT}\r\n"
    );
    let hash = manners.hash_told.clone().unwrap_or_else(|| sha256(content).to_string());
    if !manners.hides_hash {
        head += &format!("X-Linked-Etag: \"{hash}\"\r\n");
    }
    head += &format!("X-Linked-Size: {}\r\n", manners.size_told.unwrap_or(content.len() as u64));
    write!(out, "{head}\r\n")
}

fn answer_storage(
    request: &Request,
    manners: &Mutex<Manners>,
    out: &mut TcpStream,
) -> std::io::Result<()> {
    let (content, head, start, cut, pause) = {
        let mut manners = manners.lock().unwrap();
        if let Some(status) = manners.storage_statuses.pop_front() {
            return write!(
                out,
                "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let path = request.path.split('?').next().unwrap();
        let file_name = path.rsplit('/').next().unwrap();
        let Some(content) = manners.files.get(file_name).cloned() else {
            return out
                .write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let is_same = request.header("if-range").is_none_or(|etag| etag == manners.etag);
        let start = request
            .header("range")
            .filter(|_| is_same && !manners.ignores_range)
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let (total, rest) = (content.len(), content.len() - start.unwrap_or(0));
        let mut head = match start {
            Some(start) => {
                format!("HTTP/1.1 206 x\r\nContent-Range: bytes {start}-{}/{total}\r\n", total - 1)
            }
            None => "HTTP/1.1 200 x\r\n".to_owned(),
        };
        if !manners.hides_length {
            head += &format!("Content-Length: {rest}\r\n");
        }
        head += &format!("ETag: {}\r\nConnection: close\r\n\r\n", manners.etag);
        (content, head, start.unwrap_or(0), manners.cuts.pop_front(), manners.pause)
    };
    out.write_all(head.as_bytes())?;
    let body = &content[start..];
    for chunk in body[..cut.unwrap_or(body.len()).min(body.len())].chunks(64 << 10) {
        out.write_all(chunk)?;
        manners.lock().unwrap().n_bytes_sent += chunk.len();
        std::thread::sleep(pause);
    }
    Ok(())
}
