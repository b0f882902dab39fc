//! Requests that are given up, and frames that end a broker.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_broker::frame::{Decoder, Frame, FrameKind};
use freehold_broker::{Departure, Departures, Later, Means, Prepared, Setup, Unlocked, serve};

use crate::world::{BODY, Server, World, run, until, upstream};

/// A server that begins an answer and goes on until it is closed, which it tells.
pub(crate) fn endless() -> (Server, Arc<AtomicBool>) {
    let is_closed = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_closed);
    let server = Server::new(move |_, stream| {
        let mut is_open = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").is_ok();
        while is_open {
            is_open = stream.write_all(b"data: x\n\n").is_ok();
            std::thread::sleep(Duration::from_millis(1));
        }
        told.store(true, Ordering::SeqCst);
        false
    });
    (server, is_closed)
}

#[test]
fn an_answer_that_is_dropped_is_given_up_there_too() {
    run(async {
        let (server, is_closed) = endless();
        let world = World::new(upstream(&[&server]));
        let mut incoming = world.send().await.unwrap();
        incoming.body.chunk().await.unwrap().unwrap();
        assert!(!is_closed.load(Ordering::SeqCst));
        drop(incoming);
        until(|| is_closed.load(Ordering::SeqCst)).await;
        let health = world.broker.health().await.unwrap();
        assert_eq!(health[0].addresses[0].n_in_flight, 0);
    });
}

#[test]
fn a_request_that_is_dropped_before_its_answer_is_given_up_too() {
    run(async {
        let closed = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&closed);
        let server = Server::new(move |_, stream| {
            // Until the other end closes.
            told.store(stream.read(&mut [0]).is_ok_and(|n| n == 0), Ordering::SeqCst);
            false
        });
        let world = World::new(upstream(&[&server]));
        let (broker, outgoing) = (world.broker.clone(), world.outgoing(BODY));
        let asking = tokio::spawn(async move { broker.send(outgoing).await.map(drop) });
        until(|| server.n_asked() == 1).await;
        asking.abort();
        until(|| closed.load(Ordering::SeqCst)).await;
    });
}

struct Nothing;

impl Departures for Nothing {
    fn find<'a>(&'a self, _id: &'a str) -> Later<'a, Result<Option<Departure>, String>> {
        Box::pin(async { Ok(None) })
    }
}

/// What a broker ends with that is sent these frames.
fn ends_with(frames: &[Frame]) -> Result<(), String> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes).unwrap());
    ours.write_all(&bytes).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let setup = Setup { upstreams: Vec::new(), ledger: String::new() };
    let means = Means {
        departures: Arc::new(Nothing),
        floor: Box::pin(async { Ok(0) }),
        dial: Arc::new(Unlocked),
        lock: Ok("in a test".to_owned()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let serving = serve(Prepared::new(setup).unwrap(), means, theirs);
        tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap()
    });
    drop(runtime);
    // All that it said is frames.
    let (mut said, mut decoder) = (Vec::new(), Decoder::default());
    ours.read_to_end(&mut said).unwrap();
    decoder.push(&said);
    while decoder.next_frame().unwrap().is_some() {}
    ended
}

#[test]
fn frames_that_no_server_sends_end_the_broker() {
    let request = |id, n_bytes: u64| {
        let head = format!(
            r#"{{"departure": "d", "upstream": "u", "path": "/p", "headers": [],
                "n_bytes": {n_bytes}, "timeout_ms": 1000, "affinity": null}}"#
        );
        Frame::new(FrameKind::Request, id, head.into_bytes())
    };
    let data = |id, text: &'static str| Frame::new(FrameKind::Data, id, text.as_bytes());
    assert_eq!(ends_with(&[]), Ok(()));
    // What may come late is no fault.
    let late = [data(9, "x"), Frame::credit(9, 5), Frame::new(FrameKind::Cancel, 9, "")];
    assert_eq!(ends_with(&late), Ok(()));
    assert_eq!(ends_with(&[request(1, 0)]), Ok(()));
    assert_eq!(ends_with(&[request(1, 1 << 40), data(1, "x")]), Ok(()));
    let check = |frames: &[Frame], expected: &str| {
        let told = ends_with(frames).unwrap_err();
        assert!(told.contains(expected), "{told}");
    };
    check(&[request(1, 5), request(1, 5)], "request 1 twice");
    check(&[request(1, 2), data(1, "xxx")], "a body of 3 bytes, expected 2");
    check(&[request(1, 5), Frame::credit(1, 1)], "credit for more than");
    check(&[Frame::new(FrameKind::Request, 1, "{}")], "missing field");
    check(&[Frame::new(FrameKind::Ready, 0, "{}")], "not one for a broker");
}

#[test]
fn more_bodies_than_there_is_room_for_are_refused() {
    let head = |id| {
        let head = format!(
            r#"{{"departure": "d", "upstream": "u", "path": "/p", "headers": [],
                "n_bytes": {}, "timeout_ms": 1000, "affinity": null}}"#,
            60 << 20
        );
        Frame::new(FrameKind::Request, id, head.into_bytes())
    };
    // None of it is kept before it comes: the fifth is refused, and nothing else happens.
    let heads: Vec<Frame> = (1..=5).map(head).collect();
    assert_eq!(ends_with(&heads), Ok(()));
}
