//! Servers that say what they should not.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use freehold_broker::{BrokerError, Waiting};

use crate::world::{Server, World, all, ok, run, upstream};

fn write(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}

#[test]
fn an_answer_that_breaks_off_is_told_with_what_had_come() {
    run(async {
        for head in
            ["Content-Length: 100\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
        {
            let server = Server::new(move |_, stream| {
                write(stream, &format!("HTTP/1.1 200 OK\r\n{head}"));
                false
            });
            let world = World::new(upstream(&[&server]));
            let mut incoming = world.send().await.unwrap();
            assert_eq!(incoming.body.chunk().await.unwrap().unwrap(), "hello");
            let error = incoming.body.chunk().await.unwrap().unwrap_err();
            assert!(matches!(error, BrokerError::Cut { n_bytes: 5, .. }), "{error:?}");
            assert!(incoming.body.chunk().await.is_none());
            // It was not tried again: its client has seen some of it.
            assert_eq!(server.n_asked(), 1);
            let health = world.broker.health().await.unwrap();
            assert_eq!(health[0].addresses[0].n_failed, 1);
        }
    });
}

#[test]
fn an_answer_that_falls_silent_is_given_up() {
    run(async {
        let server = Server::new(|_, stream| {
            write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
            std::thread::sleep(Duration::from_secs(30));
            false
        });
        let mut upstream = upstream(&[&server]);
        upstream.idle_timeout_ms = 100;
        let mut incoming = World::new(upstream).send().await.unwrap();
        incoming.body.chunk().await.unwrap().unwrap();
        let error = incoming.body.chunk().await.unwrap().unwrap_err();
        let expected = Waiting::NextByte;
        assert!(matches!(error, BrokerError::TimedOut { waiting, .. } if waiting == expected));
    });
}

/// One attempt at a server that begins so; what came of it.
async fn told(answer: impl Fn(usize, &mut TcpStream) -> bool + Send + Sync + 'static) -> String {
    let server = Server::new(answer);
    let mut upstream = upstream(&[&server]);
    upstream.retries = 0;
    World::new(upstream).send().await.unwrap_err().to_string()
}

#[test]
fn heads_that_never_end_do() {
    run(async {
        let endless = told(|_, stream| {
            write(stream, "HTTP/1.1 200 OK\r\n");
            while write(stream, "x-more: 0123456789\r\n") {}
            false
        });
        let endless = endless.await;
        assert!(endless.contains("message head is too large"), "{endless}");
        let long = told(|_, stream| {
            write(stream, "HTTP/1.1 200 OK\r\nx-long: ");
            while write(stream, "0123456789") {}
            false
        });
        let long = long.await;
        assert!(long.contains("message head is too large"), "{long}");
        let informed = told(|_, stream| {
            while write(stream, "HTTP/1.1 103 Early Hints\r\n\r\n") {}
            false
        });
        // It may go on; the time for the first byte ends it.
        let informed = tokio::time::timeout(Duration::from_millis(300), informed).await;
        assert!(informed.is_err(), "{informed:?}");
    });
}

#[test]
fn what_is_no_answer_is_told() {
    run(async {
        for said in [
            "hello\r\n\r\n",
            "HTTP/1.1 999999 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "\0\0\0\0",
        ] {
            let told = told(move |_, stream| {
                write(stream, said);
                false
            });
            let told = told.await;
            assert!(told.contains("invalid HTTP") || told.contains("closed before"), "{told}");
        }
        let mut refusal = String::from("HTTP/1.1 400 No\r\nContent-Length: 4000000\r\n\r\n");
        refusal.push_str(&"x".repeat(4_000_000));
        let server = Server::saying(refusal);
        let error = World::new(upstream(&[&server])).send().await.unwrap_err();
        assert!(matches!(error, BrokerError::Refused { body, .. } if body.len() == 16 << 10));
    });
}

#[test]
fn an_answer_longer_than_any_is_cut() {
    run(async {
        let server = Server::new(|_, stream| {
            write(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            let piece = "x".repeat(1 << 20);
            while write(stream, &piece) {}
            false
        });
        let world = World::new(upstream(&[&server]));
        let mut incoming = world.send().await.unwrap();
        let error = loop {
            if let Err(error) = incoming.body.chunk().await.unwrap() {
                break error;
            }
        };
        assert!(error.to_string().contains("longer than 268435456 bytes"), "{error}");
        // The others go on.
        let other = Server::saying(ok("well"));
        let mut incoming = World::new(upstream(&[&other])).send().await.unwrap();
        assert_eq!(all(&mut incoming.body).await.unwrap(), b"well");
    });
}
