//! What is tried again, where, and when an address is left alone.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use freehold_broker::{BrokerError, Circuit, Outgoing, Waiting};

use crate::world::{BODY, Server, World, all, answer, ok, run, until, upstream};

/// A server that says `first` to the first so many requests, then that all is well.
fn at_first(n_times: usize, first: String) -> Server {
    Server::new(move |number, stream| {
        let said = if number <= n_times { first.clone() } else { ok("well") };
        stream.write_all(said.as_bytes()).is_ok()
    })
}

#[test]
fn what_may_pass_is_tried_again_and_retry_after_is_kept() {
    run(async {
        for status in ["429 Too Many Requests", "500 No", "502 No", "503 No", "504 No", "529 No"] {
            let server = at_first(1, answer(status, "Retry-After: 0.3\r\n", ""));
            let world = World::new(upstream(&[&server]));
            let began = Instant::now();
            let mut incoming = world.send().await.unwrap();
            assert_eq!(incoming.attempts, 2, "{status}");
            assert!(began.elapsed() >= Duration::from_millis(300), "{status}");
            assert_eq!(all(&mut incoming.body).await.unwrap(), b"well");
        }
        for status in ["400 No", "401 No", "404 No", "501 No"] {
            let server = at_first(1, answer(status, "", ""));
            let error = World::new(upstream(&[&server])).send().await.unwrap_err();
            assert!(matches!(error, BrokerError::Refused { attempts: 1, .. }), "{error:?}");
        }
    });
}

#[test]
fn whoever_is_to_wait_long_is_told() {
    run(async {
        let server = at_first(1, answer("429 No", "Retry-After: 60\r\n", "later"));
        let world = World::new(upstream(&[&server]));
        let error = world.send().await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
        assert_eq!(server.n_asked(), 1);
    });
}

#[test]
fn another_address_is_tried_at_once() {
    run(async {
        let (bad, good) = (Server::saying(answer("503 No", "", "")), Server::saying(ok("well")));
        // Nobody listens there any more.
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut upstream = upstream(&[&bad, &good]);
        upstream.urls.insert(0, format!("http://{gone}"));
        let world = World::new(upstream);
        let incoming = world.send().await.unwrap();
        assert_eq!((incoming.address, incoming.attempts), (good.address.to_string(), 3));
    });
}

#[test]
fn one_that_ends_a_connection_without_a_word_is_tried_elsewhere() {
    run(async {
        let (bad, good) = (Server::new(|_, _| false), Server::saying(ok("well")));
        let world = World::new(upstream(&[&bad, &good]));
        assert_eq!(world.send().await.unwrap().attempts, 2);
    });
}

#[test]
fn further_attempts_have_a_budget() {
    run(async {
        let server = Server::saying(answer("503 No", "", ""));
        let mut upstream = upstream(&[&server]);
        (upstream.retry_percent, upstream.failures_to_open) = (0, 1000);
        let world = World::new(upstream);
        let error = world.send().await.unwrap_err();
        assert!(matches!(error, BrokerError::Refused { attempts: 1, .. }), "{error:?}");
    });
}

#[test]
fn an_address_that_fails_is_left_alone_until_one_request_finds_it_well() {
    run(async {
        let server = at_first(3, answer("500 No", "", ""));
        let mut upstream = upstream(&[&server]);
        (upstream.retries, upstream.failures_to_open, upstream.open_for_ms) = (0, 3, 300);
        let world = World::new(upstream);
        for _ in 0..3 {
            world.send().await.unwrap_err();
        }
        let error = world.send().await.unwrap_err();
        assert!(matches!(error, BrokerError::CircuitOpen { .. }), "{error:?}");
        assert!(error.nothing_left() && server.n_asked() == 3);
        let health = world.broker.health().await.unwrap();
        let address = &health[0].addresses[0];
        assert!(matches!(address.circuit, Circuit::Open { .. }), "{address:?}");
        assert_eq!(
            (address.n_failed, address.last_error.as_deref()),
            (3, Some("status 500 Internal Server Error"))
        );
        tokio::time::sleep(Duration::from_millis(350)).await;
        world.send().await.unwrap();
        let health = world.broker.health().await.unwrap();
        assert_eq!(health[0].addresses[0].circuit, Circuit::Closed);
    });
}

#[test]
fn a_server_that_says_it_is_not_well_gets_no_request() {
    run(async {
        let sick =
            Server::new(|_, stream| stream.write_all(answer("503 No", "", "").as_bytes()).is_ok());
        let well = Server::saying(ok("well"));
        let mut upstream = upstream(&[&sick, &well]);
        (upstream.health_path, upstream.health_every_ms) = (Some("/health".to_owned()), 10);
        upstream.failures_to_open = 2;
        let world = World::new(upstream);
        until(|| sick.n_asked() >= 4).await;
        for _ in 0..4 {
            let incoming = world.send().await.unwrap();
            assert_eq!((incoming.address, incoming.attempts), (well.address.to_string(), 1));
        }
        let asked = sick.asked.lock().unwrap();
        assert!(asked.iter().all(|request| request.starts_with("GET /health HTTP/1.1")));
    });
}

#[test]
fn a_prompt_goes_where_it_went() {
    run(async {
        let servers: Vec<Server> = (0..3).map(|_| Server::saying(ok("well"))).collect();
        let world = World::new(upstream(&servers.iter().collect::<Vec<_>>()));
        for prompt in 0..6 {
            let ask = async || {
                let outgoing = Outgoing { affinity: Some(prompt), ..world.outgoing(BODY) };
                world.broker.send(outgoing).await.unwrap().address
            };
            let first = ask().await;
            for _ in 0..3 {
                assert_eq!(ask().await, first);
            }
        }
    });
}

#[test]
fn no_address_has_more_than_it_may() {
    run(async {
        let server = Server::new(|_, _| {
            std::thread::sleep(Duration::from_secs(30));
            false
        });
        let mut upstream = upstream(&[&server]);
        upstream.max_in_flight = 1;
        let world = World::new(upstream);
        let (broker, outgoing) = (world.broker.clone(), world.outgoing(BODY));
        let first = tokio::spawn(async move { broker.send(outgoing).await.map(drop) });
        until(|| server.n_asked() == 1).await;
        let error = world.send().await.unwrap_err();
        assert!(matches!(error, BrokerError::Busy { .. }), "{error:?}");
        first.abort();
    });
}

#[test]
fn an_answer_that_does_not_begin_is_not_asked_for_again() {
    run(async {
        let server = Server::new(|_, _| {
            std::thread::sleep(Duration::from_secs(30));
            false
        });
        let mut upstream = upstream(&[&server]);
        upstream.first_byte_timeout_ms = 100;
        let world = World::new(upstream);
        let error = world.send().await.unwrap_err();
        let expected = Waiting::FirstByte;
        assert!(matches!(error, BrokerError::TimedOut { waiting, .. } if waiting == expected));
        let deadline = Instant::now() + Duration::from_millis(50);
        let outgoing = Outgoing { deadline, ..world.outgoing(BODY) };
        let error = world.broker.send(outgoing).await.unwrap_err();
        let expected = Waiting::Deadline;
        assert!(matches!(error, BrokerError::TimedOut { waiting, .. } if waiting == expected));
        assert_eq!(server.n_asked(), 2);
    });
}
