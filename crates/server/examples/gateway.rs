//! The server's own work: how much longer a request takes over HTTP than straight from the engine,
//! and how long the server's threads compute for it.
//!
//!     cargo run --release -p freehold-server --example gateway -- work MODEL.gguf [REQUESTS]
//!     cargo run --release -p freehold-server --example gateway -- serve MODEL.gguf ADDRESS
//!     cargo run --release -p freehold-server --example gateway -- load ADDRESS CLIENTS SECONDS
//!     cargo run --release -p freehold-server --example gateway -- path MODEL.gguf LEDGER [RATE]
//!
//! The model gives the first of its tokenizer's tokens and its chat template; its weights are
//! replaced by one layer of next to nothing, so that what is left is parsing, checking, rendering,
//! tokenizing, scheduling and sending. `work` asks with one client on one connection, in turns over
//! HTTP and in this process; medians count. Of the time over HTTP the client's own part, writing a
//! request and finding the end of its answer, and the waking of threads are counted to the server;
//! the time that its threads compute is without both. `load` asks a server of this kind, or a proxy
//! before one, with many clients (`bench/gateway.py`). `path` asks at a fixed rate, in turns a
//! server without a ledger and one with keys, limits and receipts in the ledger at LEDGER (a file
//! that it makes, or an address): what the second takes longer is the whole path of checking a key,
//! reserving, settling and writing a receipt. A request counts from when it was due.

#![allow(clippy::print_stdout)]

use engine::{Chat, ChatEnd, Engine, EngineOptions, Event, Fleet, FleetModel, Keep, Request, Task};
use freehold_server::access::Plan;
use freehold_server::receipts::Receipts;
use freehold_server::{Config, Model};
use gguf::write::Writer;
use gguf::{Array, Gguf, TensorType, Value as Meta};
use ledger::{Act, Ledger, Limit, NodeKey, Per, What};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const N_EMBD: usize = 32;
/// Tokens kept of the vocabulary: bytes and the shortest words. With all of them the products of
/// the output alone take longer than the server's work.
const N_VOCAB_MAX: usize = 1024;
const N_STREAMED: u32 = 128;
/// The name of the server's threads.
const SERVER_THREAD: &str = "gateway-server";

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", model] => work(Path::new(model), 300),
        ["work", model, n_requests] => work(Path::new(model), n_requests.parse()?),
        ["serve", model, address] => {
            serve(&engine(Path::new(model))?, address, None)?;
            loop {
                std::thread::park();
            }
        }
        ["load", address, n_clients, seconds] => {
            let length = Duration::from_secs_f64(seconds.parse()?);
            load(address.parse()?, n_clients.parse()?, length)
        }
        ["path", model, ledger] => path(Path::new(model), ledger, 200.0),
        ["path", model, ledger, rate] => path(Path::new(model), ledger, rate.parse()?),
        _ => Err("expected: work MODEL.gguf [REQUESTS], serve MODEL.gguf ADDRESS, \
                  load ADDRESS CLIENTS SECONDS, or path MODEL.gguf LEDGER [RATE]"
            .into()),
    }
}

fn work(model: &Path, n_requests: usize) -> Fallible {
    let engine = engine(model)?;
    let mut client = Client::new(serve(&engine, "127.0.0.1:0", None)?, "x")?;
    // Two tokens, so that the first is not the last.
    let before = server_time()?;
    let once = medians(n_requests, || client.ask(2, false), || ask(&engine, 2))?;
    let computed = per(server_time()? - before, n_requests as f64);
    let [whole, direct] = once.map(|time| per(time, 1.0));
    println!("a request:        {whole:7.1} µs over HTTP, {direct:7.1} in the engine");
    println!("                  {:7.1} µs more, of which {computed:.1} computed", whole - direct);
    let n_tokens = f64::from(N_STREAMED);
    let n_streams = n_requests / 10;
    let before = server_time()?;
    let many = medians(n_streams, || client.ask(N_STREAMED, true), || ask(&engine, N_STREAMED))?;
    let computed = per(server_time()? - before, n_tokens * n_streams.max(1) as f64);
    let [stream, direct] = many.map(|time| per(time, n_tokens));
    println!("a streamed token: {stream:7.1} µs over HTTP, {direct:7.1} in the engine");
    println!("                  {:7.1} µs more, of which {computed:.1} computed", stream - direct);
    if let Some(n_bytes) = engine::rss_bytes() {
        println!(
            "memory:           {:7.1} MB, this model and the client in it",
            n_bytes as f64 / 1e6
        );
    }
    Ok(())
}

/// Microseconds of each of `n`.
fn per(time: Duration, n: f64) -> f64 {
    1e6 * time.as_secs_f64() / n
}

/// How long the threads of the server have computed: the first figure of `schedstat` (proc(5)).
fn server_time() -> Fallible<Duration> {
    let mut n_ns = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim_end() == SERVER_THREAD {
            let stat = std::fs::read_to_string(task.join("schedstat"))?;
            n_ns += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(n_ns))
}

/// Asks with many clients for a while, each its next request when its last one has ended; prints
/// requests a second and how long they took. The first fifth of the time does not count.
fn load(address: SocketAddr, n_clients: usize, length: Duration) -> Fallible {
    let began = Instant::now();
    let clients: Vec<_> = (0..n_clients)
        .map(|_| {
            std::thread::spawn(move || -> Result<Vec<Duration>, String> {
                let mut client = Client::new(address, "x").map_err(|e| e.to_string())?;
                let mut times = Vec::new();
                while began.elapsed() < length {
                    let asked = Instant::now();
                    client.ask(2, false).map_err(|e| e.to_string())?;
                    if asked - began > length / 5 {
                        times.push(asked.elapsed());
                    }
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.join().map_err(|_| "a client panicked")??);
    }
    let counted = began.elapsed() - length / 5;
    times.sort_unstable();
    let at = |share: f64| {
        let idx = (share * times.len() as f64) as usize;
        times.get(idx).map_or(f64::NAN, |time| 1e3 * time.as_secs_f64())
    };
    let [p50, p99] = [at(0.5), at(0.99)];
    let rate = times.len() as f64 / counted.as_secs_f64();
    println!("{rate:.1} requests/s, p50 {p50:.2} ms, p99 {p99:.2} ms, {} counted", times.len());
    Ok(())
}

/// Connections of `path`.
const N_CONNECTIONS: usize = 16;
/// How often `path` asks either server, and for how long each time.
const N_ROUNDS: usize = 3;
const SECONDS: f64 = 20.0;

fn path(model: &Path, place: &str, rate: f64) -> Fallible {
    let engine = engine(model)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let (ledger, receipts, key) = runtime.block_on(books(place, folder.path()))?;
    let bare = serve(&engine, "127.0.0.1:0", None)?;
    let whole = serve(&engine, "127.0.0.1:0", Some(receipts))?;
    let mut differences = Vec::new();
    for round in 1..=N_ROUNDS {
        let mut found = Vec::new();
        for (name, address, key) in [("bare", bare, "x"), ("whole", whole, &*key)] {
            let times = at_rate(address, key, rate, SECONDS)?;
            let [p50, p99] = [50, 99].map(|percent| per(times[times.len() * percent / 100], 1e3));
            println!(
                "{round} {name:5}: p50 {p50:.2} ms, p99 {p99:.2} ms, {} requests",
                times.len()
            );
            found.push([p50, p99]);
        }
        differences.push([0, 1].map(|idx| found[1][idx] - found[0][idx]));
    }
    let [p50, p99] = [0, 1].map(|idx| {
        let mut column: Vec<f64> = differences.iter().map(|round| round[idx]).collect();
        column.sort_unstable_by(f64::total_cmp);
        column[column.len() / 2]
    });
    println!("the whole path at {rate} requests/s: p50 {p50:+.2} ms, p99 {p99:+.2} ms (medians)");
    let standings = runtime.block_on(ledger.standings())?;
    for standing in &standings {
        println!("{}: {} used", standing.limit.id(), standing.used);
    }
    runtime.block_on(ledger.close())?;
    Ok(())
}

/// A ledger with two limits that are never reached, and a key.
async fn books(place: &str, folder: &Path) -> Fallible<(Ledger, Receipts, String)> {
    let node = NodeKey::load_or_create(&folder.join("node.key"))?;
    let ledger = Ledger::open(place, node.clone()).await?;
    for (subject, what, per) in
        [("key:bench", What::Tokens, Per::Month), ("all", What::Requests, Per::Minute)]
    {
        ledger.set_limit(Limit::new(subject, what, 1 << 40, Some(per))?, "bench").await?;
    }
    let plan = Plan { name: "bench".to_owned(), ..Plan::default() };
    let (key, secret) = plan.draw(0)?;
    ledger.act(Act::CreateKey(Box::new(key)), "bench").await?;
    let receipts = Receipts::new(ledger.clone(), node);
    Ok((ledger, receipts, secret.shown().to_owned()))
}

/// Asks at a fixed rate for so long, whatever the answers take. How long each took from when it was
/// due, sorted; those of the first fifth do not count.
fn at_rate(address: SocketAddr, key: &str, rate: f64, seconds: f64) -> Fallible<Vec<Duration>> {
    let n_requests = (rate * seconds) as usize;
    let begun = Instant::now() + Duration::from_millis(50);
    let clients: Vec<_> = (0..N_CONNECTIONS)
        .map(|first| {
            let key = key.to_owned();
            std::thread::spawn(move || -> Result<Vec<Duration>, String> {
                let mut client = Client::new(address, &key).map_err(|e| e.to_string())?;
                let mut times = Vec::new();
                for n in (first..n_requests).step_by(N_CONNECTIONS) {
                    let due = begun + Duration::from_secs_f64(n as f64 / rate);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    client.ask(2, false).map_err(|e| e.to_string())?;
                    if n > n_requests / 5 {
                        times.push(due.elapsed());
                    }
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.join().map_err(|_| "a client panicked")??);
    }
    times.sort_unstable();
    Ok(times)
}

/// Of what a tokenizer has for each token, what it has for those kept; of its merges, those that
/// make one of them.
fn first(value: &Meta, kept: &HashSet<&str>) -> Meta {
    let n = kept.len();
    match value {
        Meta::Array(Array::Strings(strings)) if strings.iter().all(|text| text.contains(' ')) => {
            let makes = |merge: &&str| kept.contains(&*merge.replacen(' ', "", 1));
            Meta::Array(Array::Strings(strings.iter().filter(makes).collect()))
        }
        Meta::Array(Array::Strings(strings)) => {
            Meta::Array(Array::Strings(strings.iter().take(n).collect()))
        }
        Meta::Array(Array::I32(types)) => types[..n.min(types.len())].to_vec().into(),
        Meta::Array(Array::F32(scores)) => scores[..n.min(scores.len())].to_vec().into(),
        other => other.clone(),
    }
}

/// An engine whose passes take next to no time.
fn engine(path: &Path) -> Fallible<Engine> {
    let file = Gguf::open(path)?;
    let mut writer = Writer::new();
    let tokens = file.metadata().require_strings("tokenizer.ggml.tokens")?;
    let kept: HashSet<&str> = tokens.iter().take(N_VOCAB_MAX).collect();
    for (key, value) in file.metadata().iter() {
        if key.starts_with("tokenizer.") {
            writer.metadata(key, first(value, &kept));
        }
    }
    let n_vocab = kept.len();
    writer.metadata("general.architecture", Meta::String("llama".into()));
    let sizes = [
        ("block_count", 1),
        ("embedding_length", N_EMBD),
        ("feed_forward_length", N_EMBD),
        ("attention.head_count", 1),
        ("attention.head_count_kv", 1),
        ("context_length", 4096),
    ];
    for (key, value) in sizes {
        writer.metadata(&format!("llama.{key}"), Meta::U32(u32::try_from(value)?));
    }
    writer.metadata("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5));
    let mut tensor = |name: &str, shape: &[usize]| {
        let n = shape.iter().product::<usize>() as u32;
        // Anything that differs from place to place.
        let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5;
        let data: Vec<u8> = (0..n).flat_map(|i| value(i).to_le_bytes()).collect();
        writer.tensor(name, shape, TensorType::F32, data);
    };
    tensor("token_embd.weight", &[n_vocab, N_EMBD]);
    tensor("output_norm.weight", &[N_EMBD]);
    for name in ["attn_norm", "ffn_norm"] {
        tensor(&format!("blk.0.{name}.weight"), &[N_EMBD]);
    }
    for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        tensor(&format!("blk.0.{name}.weight"), &[N_EMBD, N_EMBD]);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("next-to-nothing.gguf");
    std::fs::write(&path, writer.finish()?)?;
    let speculation = engine::Speculation::Off;
    Ok(Engine::open(&path, &EngineOptions { speculation, ..EngineOptions::default() })?)
}

fn serve(engine: &Engine, address: &str, receipts: Option<Receipts>) -> Fallible<SocketAddr> {
    let fleet = Fleet::new(None);
    let own = engine.clone();
    let open = Arc::new(move |_: &EngineOptions| Ok(own.clone().into()));
    let (options, keep) = (EngineOptions::default(), Keep::Pinned);
    fleet.set("nothing", FleetModel { open, options, keep });
    fleet.get("nothing")?;
    let model =
        Model { name: "nothing".to_owned(), task: Task::Generate, digest: None, lock: None };
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name(SERVER_THREAD)
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let config = Config { receipts, ..Config::new(fleet, vec![model]) };
            freehold_server::run(listener, config, std::future::pending()).await
        })
    });
    Ok(address)
}

/// The medians of two things done in turns.
fn medians(
    n: usize,
    mut a: impl FnMut() -> Fallible,
    mut b: impl FnMut() -> Fallible,
) -> Fallible<[Duration; 2]> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..n.max(1) {
        let began = Instant::now();
        a()?;
        let between = Instant::now();
        b()?;
        first.push(between - began);
        second.push(between.elapsed());
    }
    Ok([first, second].map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    }))
}

fn messages() -> Value {
    json!([
        {"role": "system", "content": "You answer in few words."},
        {"role": "user", "content": "What do I need to own my tools?"},
    ])
}

/// The same request in this process: the prompt is made as the server makes it.
fn ask(engine: &Engine, max_tokens: u32) -> Fallible {
    static PROMPT: OnceLock<Vec<u32>> = OnceLock::new();
    let prompt = PROMPT.get_or_init(|| {
        let (messages, kwargs) = (messages(), Map::new());
        let chat = Chat { messages: &messages, tools: None, kwargs: &kwargs, end: ChatEnd::Answer };
        engine.render_chat(&chat).expect("the template renders what it rendered for the server")
    });
    let request = Request {
        prompt: prompt.clone(),
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        ..Request::default()
    };
    for event in engine.generate(request)? {
        if let Event::Done(done) = event {
            assert_eq!(done.n_generated, max_tokens);
        }
    }
    Ok(())
}

struct Client {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Client {
    fn new(address: SocketAddr, key: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), key: key.to_owned() })
    }

    /// Asks, and reads the answer to its end.
    fn ask(&mut self, n: u32, is_stream: bool) -> Fallible {
        let body = json!({
            "model": "nothing", "messages": messages(), "max_tokens": n, "temperature": 0,
            "ignore_eos": true, "stream": is_stream,
        })
        .to_string();
        let key = &self.key;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {key}\r\nContent-Type: application/json"
        );
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut n_bytes = None;
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if let Some(length) = header.strip_prefix("content-length: ") {
                n_bytes = Some(length.parse()?);
            }
            if header.starts_with("http/1.1") && !header.contains(" 200 ") {
                return Err(header.into());
            }
            if header.is_empty() {
                break;
            }
        }
        let mut buffer = Vec::new();
        if let Some(n_bytes) = n_bytes {
            buffer.resize(n_bytes, 0);
            self.stream.read_exact(&mut buffer)?;
            return Ok(());
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let n_bytes = usize::from_str_radix(line.trim_end(), 16)?;
            buffer.resize(n_bytes + 2, 0);
            self.stream.read_exact(&mut buffer)?;
            if n_bytes == 0 {
                return Ok(());
            }
        }
    }
}
