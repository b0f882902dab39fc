//! What is sent, what comes back, and what is never sent.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use freehold_broker::{BrokerError, Circuit, KeySource, Outgoing, UpstreamKind};

use crate::world::{BODY, Server, World, all, answer, ok, outgoing, run, upstream};

#[test]
fn a_request_with_a_departure_is_answered() {
    run(async {
        let server = Server::saying(ok("hello"));
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "hush-1\n").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut upstream = upstream(&[&server]);
        upstream.key = Some(KeySource::File(key));
        let world = World::new(upstream);
        let headers = vec![("accept", "text/event-stream".to_owned())];
        for _ in 0..3 {
            let outgoing = Outgoing { headers: headers.clone(), ..world.outgoing(BODY) };
            let mut incoming = world.broker.send(outgoing).await.unwrap();
            assert_eq!((incoming.status, incoming.attempts), (200, 1));
            assert_eq!(incoming.address, server.address.to_string());
            let of = |name: &str| incoming.headers.iter().find(|(of, _)| of == name).cloned();
            assert_eq!(of("content-type").unwrap().1, "application/json");
            assert_eq!(all(&mut incoming.body).await.unwrap(), b"hello");
        }
        let asked = server.asked.lock().unwrap()[0].to_ascii_lowercase();
        let host = format!("host: {}\r\n", server.address);
        for part in [
            "post /v1/chat/completions http/1.1\r\n",
            &host,
            "authorization: bearer hush-1\r\n",
            "accept: text/event-stream\r\n",
            "content-type: application/json\r\n",
            "accept-encoding: identity\r\n",
            "\r\n\r\n{\"model\": \"m\"}",
        ] {
            assert!(asked.contains(part), "{part}: {asked}");
        }
        let health = world.broker.health().await.unwrap();
        let address = &health[0].addresses[0];
        assert_eq!((address.n_answered, address.n_failed, address.n_in_flight), (3, 0, 0));
        assert_eq!(address.circuit, Circuit::Closed);
        let known = &world.broker.upstreams()[0];
        assert_eq!((&*known.name, known.n_addresses), ("one", 1));
    });
}

#[test]
fn anthropic_is_asked_in_its_own_way() {
    run(async {
        let server = Server::saying(ok("{}"));
        let mut upstream = upstream(&[&server]);
        upstream.kind = UpstreamKind::Anthropic;
        let world = World::new(upstream);
        let outgoing = Outgoing { path: "/v1/messages", ..world.outgoing(BODY) };
        world.broker.send(outgoing).await.unwrap();
        let asked = server.asked.lock().unwrap()[0].to_ascii_lowercase();
        assert!(asked.starts_with("post /v1/messages http/1.1\r\n"), "{asked}");
        assert!(asked.contains("anthropic-version: 2023-06-01\r\n"), "{asked}");
    });
}

/// Nothing is sent for `outgoing`, and why.
async fn refused(world: &World, server: &Server, outgoing: Outgoing, expected: &str) {
    let error = world.broker.send(outgoing).await.unwrap_err();
    assert!(error.to_string().contains(expected), "{error}, expected {expected}");
    assert!(error.nothing_left(), "{error}");
    assert_eq!(server.n_asked(), 0, "{expected}");
}

#[test]
fn without_a_departure_for_this_request_nothing_is_sent() {
    run(async {
        let server = Server::saying(ok("hello"));
        let world = World::new(upstream(&[&server]));
        refused(&world, &server, outgoing("none", BODY), "the ledger has none of this id").await;
        refused(&world, &server, outgoing("lost", BODY), "cannot be asked: it is gone").await;
        world.ledger.depart("two", "two", BODY);
        refused(&world, &server, outgoing("two", BODY), "to another upstream").await;
        world.ledger.depart("other", "one", b"{}");
        refused(&world, &server, outgoing("other", BODY), "SHA-256 differs").await;
        let to = |upstream: &str, outgoing| Outgoing { upstream: upstream.to_owned(), ..outgoing };
        let none = to("none", world.outgoing(BODY));
        refused(&world, &server, none, "none has this name, expected one of one").await;
        let path = Outgoing { path: "/files", ..world.outgoing(BODY) };
        refused(&world, &server, path, "path \"/files\", expected one of /chat/completions").await;
        let with = |name, value: &str| {
            let headers = vec![(name, value.to_owned())];
            Outgoing { headers, ..world.outgoing(BODY) }
        };
        refused(&world, &server, with("x-data", "a"), "header \"x-data\", expected one of").await;
        let long = "x".repeat(300);
        refused(&world, &server, with("accept", &long), "expected 256 bytes at most").await;
        refused(&world, &server, with("accept", "a\r\nb: c"), "header accept").await;
        let long = vec![b' '; (64 << 20) + 1];
        refused(&world, &server, outgoing("long", &long), "expected 67108864 at most").await;
        // None of them was used by that; each is used once.
        world.ledger.depart("once", "one", BODY);
        world.broker.send(outgoing("once", BODY)).await.unwrap();
        let again = world.broker.send(outgoing("once", BODY)).await.unwrap_err();
        assert!(again.to_string().contains("used before"), "{again}");
        assert_eq!(server.n_asked(), 1);
    });
}

#[test]
fn many_requests_share_the_pair_and_a_slow_reader_holds_up_nobody() {
    run(async {
        // Far more than a window, in an answer that nobody reads for now.
        let long = "x".repeat(4 << 20);
        let server = Server::new(move |_, stream| stream.write_all(ok(&long).as_bytes()).is_ok());
        let world = World::new(upstream(&[&server]));
        let mut slow = world.send().await.unwrap();
        let asked: Vec<_> = (0..16_usize)
            .map(|number| {
                let outgoing = world.outgoing(format!("{{\"n\": {number}}}").as_bytes());
                let broker = world.broker.clone();
                tokio::spawn(async move {
                    let mut incoming = broker.send(outgoing).await.unwrap();
                    all(&mut incoming.body).await.unwrap().len()
                })
            })
            .collect();
        for one in asked {
            assert_eq!(one.await.unwrap(), 4 << 20);
        }
        assert_eq!(all(&mut slow.body).await.unwrap().len(), 4 << 20);
    });
}

#[test]
fn large_bodies_arrive_whole() {
    run(async {
        let server = Server::new(|_, stream| stream.write_all(ok("{}").as_bytes()).is_ok());
        let world = World::new(upstream(&[&server]));
        let body = format!("\"{}\"", "x".repeat(3 << 20)).into_bytes();
        world.broker.send(world.outgoing(&body)).await.unwrap();
        let asked = server.asked.lock().unwrap();
        assert_eq!(asked[0].split_once("\r\n\r\n").unwrap().1.as_bytes(), body);
    });
}

#[test]
fn a_refusal_is_told_with_what_it_says() {
    run(async {
        let said = answer("400 Bad Request", "", "{\"error\": \"no\"}");
        let server = Server::saying(said);
        let world = World::new(upstream(&[&server]));
        let error = world.send().await.unwrap_err();
        let BrokerError::Refused { status, body, attempts, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!((*status, &**body, *attempts), (400, "{\"error\": \"no\"}", 1));
        assert!(!error.nothing_left());
        // A redirection leads nowhere.
        let elsewhere = Server::saying(ok("hello"));
        let to = format!("Location: http://{}/\r\n", elsewhere.address);
        let server = Server::saying(answer("302 Found", &to, ""));
        let error = World::new(upstream(&[&server])).send().await.unwrap_err();
        assert!(matches!(error, BrokerError::Refused { status: 302, .. }), "{error:?}");
        assert_eq!(elsewhere.n_asked(), 0);
    });
}
