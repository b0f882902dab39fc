//! A broker that is a process of its own, as it is for a server.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use freehold_broker::{
    BrokerError, Ending, Means, Place, Setup, StartError, Started, Unlocked, Upstream, ended,
    prepare, serve,
};

use crate::letting_go::endless;
use crate::world::{BODY, Folder, Ledger, Server, World, all, ok, outgoing, run, until, upstream};

/// Tells the process that is a broker where the ledger is.
const LEDGER: &str = "FREEHOLD_TEST_BROKER_LEDGER";

/// Tells it that it is a spare.
const SPARE: &str = "FREEHOLD_TEST_BROKER_SPARE";

/// Not a test where nobody asks for a broker: the process that is one.
#[test]
fn a_broker() {
    let Some(folder) = std::env::var_os(LEDGER) else { return };
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let Ok(prepared) = prepare(&stream) else { return };
    let departures = Folder(PathBuf::from(folder));
    let watched = std::env::var_os(SPARE).map(|_| std::io::stdout().as_fd().try_clone_to_owned());
    let floor = departures.n_written();
    let floor = async move {
        let Some(watched) = watched else { return Ok(0) };
        ended(UnixStream::from(watched.unwrap())).await.unwrap();
        Ok(floor())
    };
    let means = Means {
        departures: Arc::new(departures),
        floor: Box::pin(floor),
        dial: Arc::new(Unlocked),
        lock: Err("it is one of a test".to_owned()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(prepared, means, stream)).unwrap();
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["process::a_broker", "--exact", "--nocapture"]).env(LEDGER, folder);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn start(folder: &Path, upstream: Upstream) -> Result<Started, StartError> {
    let setup = Setup { upstreams: vec![upstream], ledger: String::new() };
    Started::process(command(folder), &setup)
}

/// A broker with its process; must be made within a runtime.
fn world(folder: &Path, upstream: Upstream) -> (World, Ending) {
    let started = start(folder, upstream).unwrap();
    assert!(!started.ready().is_locked && started.ready().upstreams[0].n_addresses == 1);
    let (broker, ending) = started.attach().unwrap();
    (World::of(broker, Arc::new(Ledger::within(folder))), ending)
}

#[test]
fn a_process_answers_and_ends_with_its_server() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::saying(ok("hello"));
        let (world, ending) = world(folder.path(), upstream(&[&server]));
        let mut incoming = world.send().await.unwrap();
        assert_eq!(all(&mut incoming.body).await.unwrap(), b"hello");
        drop((world, incoming));
        let status = tokio::task::spawn_blocking(|| ending.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn the_end_of_the_process_is_told_to_all_who_wait_and_to_those_who_come() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (server, _) = endless();
        let (world, ending) = world(folder.path(), upstream(&[&server]));
        let mut incoming = world.send().await.unwrap();
        incoming.body.chunk().await.unwrap().unwrap();
        assert!(world.broker.ended().is_none());
        let pid = ending.pid().unwrap().to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        let error = loop {
            if let Err(error) = incoming.body.chunk().await.unwrap() {
                break error;
            }
        };
        assert!(matches!(error, BrokerError::Gone { .. }), "{error:?}");
        assert!(incoming.body.chunk().await.is_none());
        assert!(world.broker.ended().is_some());
        let error = world.send().await.unwrap_err();
        assert!(error.to_string().contains("until the server restarts"), "{error}");
        assert!(world.broker.health().await.is_err());
    });
}

#[test]
fn a_spare_takes_the_place_of_one_that_ended_and_lets_nothing_leave_twice() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::saying(ok("hello"));
        let setup = Setup { upstreams: vec![upstream(&[&server])], ledger: String::new() };
        let either = |place| {
            let mut command = command(folder.path());
            command.envs((place == Place::Spare).then_some((SPARE, "1")));
            command
        };
        let started = Started::with_spare(either, &setup).unwrap();
        let (broker, ending) = started.attach().unwrap();
        let world = World::of(broker, Arc::new(Ledger::within(folder.path())));
        let first = world.outgoing(BODY);
        let departure = first.departure.clone();
        let mut incoming = world.broker.send(first).await.unwrap();
        assert_eq!(all(&mut incoming.body).await.unwrap(), b"hello");
        let pid = ending.pid().unwrap().to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        until(|| world.broker.ended().is_some()).await;
        let away = world.send().await.unwrap_err();
        assert!(matches!(away, BrokerError::Away { has_spare: true, .. }), "{away:?}");
        assert!(away.to_string().contains("another takes its place"), "{away}");
        world.broker.health().await.unwrap();
        let again = world.broker.send(outgoing(&departure, BODY)).await.unwrap_err();
        assert!(matches!(again, BrokerError::NoDeparture { .. }), "{again:?}");
        let mut incoming = world.send().await.unwrap();
        assert_eq!(all(&mut incoming.body).await.unwrap(), b"hello");
        drop((world, incoming));
        tokio::task::spawn_blocking(|| ending.wait()).await.unwrap();
    });
}

#[test]
fn one_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::saying(ok("hello"));
    let mut upstream = upstream(&[&server]);
    upstream.ca_file = Some(folder.path().join("none.pem"));
    upstream.urls = vec!["https://127.0.0.1:1".to_owned()];
    let told = start(folder.path(), upstream).unwrap_err().to_string();
    assert!(told.starts_with("upstream \"one\": ca-file: ") && told.contains("none.pem"), "{told}");
    let setup = Setup { upstreams: Vec::new(), ledger: String::new() };
    let told = Started::process(Command::new("true"), &setup).unwrap_err().to_string();
    assert!(told.contains("it ended before it was ready"), "{told}");
    let told = Started::process(Command::new("/no/such/program"), &setup).unwrap_err().to_string();
    assert!(told.contains("cannot start the broker: a process"), "{told}");
}
