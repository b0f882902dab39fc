//! Pulling from a server that behaves like the Hub, and from one that does not.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

use std::time::Duration;

use crate::support::hub::{COMMIT, Hub};
use crate::support::{Heard, Home, files_below, model, settings, sha256};
use freehold_store::{
    ErrorKind, Installed, Progress, PullOptions, Settings, Silent, Source, StoreError,
};

/// A Hub with one model of 1 MiB and a store that knows it.
struct World {
    hub: Hub,
    home: Home,
    content: Vec<u8>,
}

impl World {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(mut settings: Settings) -> Self {
        let content = model(1024, 1);
        let hub = Hub::start(&[("m.gguf", &content)]);
        settings.hub_endpoint.clone_from(&hub.endpoint);
        Self { hub, home: Home::new(settings), content }
    }

    fn try_pull(&self, source: &str, heard: &dyn Progress) -> Result<Installed, StoreError> {
        let source = Source::parse(source).unwrap();
        self.home.store.pull(&source, &PullOptions::default(), heard)
    }

    fn pull(&self) -> Installed {
        self.try_pull("hf:owner/repo/m.gguf", &Heard::default()).unwrap()
    }

    fn pull_err(&self) -> StoreError {
        self.try_pull("hf:owner/repo/m.gguf", &Heard::default()).unwrap_err()
    }

    fn check_whole(&self, model: &Installed) {
        assert_eq!(std::fs::read(model.path()).unwrap(), self.content);
        assert_eq!(model.files[0].sha256, sha256(&self.content));
        assert!(self.home.store.verify(&model.name, &Silent).unwrap().is_intact());
        let staging = files_below(&self.home.path().join("staging"));
        assert!(staging.is_empty(), "left in staging: {staging:?}");
    }

    fn check_nothing_placed(&self) {
        assert_eq!(files_below(&self.home.path().join("models")), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_model_is_pulled_pinned_to_its_commit_and_described() {
    let mut settings = settings();
    settings.hub_token = Some("hf_secret".to_owned());
    let world = World::with(settings);
    world.hub.set(|manners| manners.token = Some("hf_secret".to_owned()));
    let heard = Heard::default();
    let model = world.try_pull("hf:owner/repo/m.gguf", &heard).unwrap();
    world.check_whole(&model);
    assert_eq!(model.path(), world.home.path().join("models/owner/m/m.gguf"));
    assert_eq!(model.revision.as_deref(), Some(COMMIT));
    assert_eq!((model.licence.id.as_str(), model.adopted), ("mit", false));
    assert_eq!(*heard.totals.lock().unwrap(), [Some(world.content.len() as u64)]);
    assert_eq!(*heard.n_bytes.lock().unwrap(), world.content.len() as u64);

    let log = world.hub.log();
    assert_eq!(log[0].method, "HEAD");
    assert_eq!(log[0].path, "/owner/repo/resolve/main/m.gguf");
    assert_eq!(log[1].path, format!("/owner/repo/resolve/{COMMIT}/m.gguf"));
    for request in &log {
        let told = request.header("authorization").is_some();
        assert_eq!(told, request.at == "hub", "the token belongs to the hub alone: {request:?}");
    }
    // Here already: no further request.
    world.check_whole(&world.pull());
    assert_eq!(world.hub.log().len(), log.len());
}

#[test]
fn a_revision_is_asked_for_and_a_missing_one_is_said() {
    let world = World::new();
    let heard = Heard::default();
    world.try_pull("hf:owner/repo/m.gguf@refs/pr/1", &heard).unwrap();
    assert_eq!(world.hub.log()[0].path, "/owner/repo/resolve/refs%2Fpr%2F1/m.gguf");
    let error = world.try_pull("hf:owner/repo/n.gguf", &heard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/owner/repo/resolve/main/n.gguf: status 404"), "{error}");
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let world = World::new();
    world.hub.set(|manners| manners.cuts = [300_000, 0, 200_000].into());
    world.check_whole(&world.pull());
    let log = world.hub.storage_log();
    let ranges: Vec<_> = log.iter().map(|request| request.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-"), Some("bytes=300000-"), Some("bytes=500000-")]);
    assert!(log[1..].iter().all(|request| request.header("if-range") == Some("\"storage-1\"")));
}

#[test]
fn a_second_run_goes_on_where_the_first_gave_up() {
    let mut settings = settings();
    settings.n_tries = 1;
    let world = World::with(settings);
    world.hub.set(|manners| manners.cuts = [400_000].into());
    let error = world.pull_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("at byte 400000"), "{error}");
    world.check_nothing_placed();
    world.check_whole(&world.pull());
    assert_eq!(world.hub.storage_log()[1].header("range"), Some("bytes=400000-"));
}

/// Wants no more after so many bytes.
struct Impatient(Heard, u64);

impl Progress for Impatient {
    fn start(&self, what: &str, total: Option<u64>) {
        self.0.start(what, total);
    }
    fn advance(&self, n_bytes: u64) {
        self.0.advance(n_bytes);
    }
    fn finish(&self) {}
    fn note(&self, text: &str) {
        self.0.note(text);
    }
    fn is_cancelled(&self) -> bool {
        *self.0.n_bytes.lock().unwrap() >= self.1
    }
}

#[test]
fn what_a_cancelled_pull_had_is_kept() {
    let world = World::new();
    let cancelled = world.try_pull("hf:owner/repo/m.gguf", &Impatient(Heard::default(), 400_000));
    assert!(matches!(cancelled, Err(StoreError::Cancelled)), "{cancelled:?}");
    world.check_nothing_placed();
    world.check_whole(&world.pull());
    let log = world.hub.storage_log();
    let range = log[1].header("range").unwrap();
    let start: u64 = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    assert!(start >= 400_000, "{range}");
}

#[test]
fn a_cancelled_pull_does_not_wait_for_its_next_try() {
    let mut settings = settings();
    settings.retry_wait = Duration::from_secs(3600);
    settings.retry_wait_max = settings.retry_wait;
    let world = World::with(settings);
    world.hub.set(|manners| manners.storage_statuses = [503].into());
    let cancelled = world.try_pull("hf:owner/repo/m.gguf", &Impatient(Heard::default(), 0));
    assert!(matches!(cancelled, Err(StoreError::Cancelled)), "{cancelled:?}");
    assert_eq!(world.hub.storage_log().len(), 1);
}

#[test]
fn a_file_that_a_killed_pull_had_moved_already_is_taken_back() {
    let mut settings = settings();
    settings.n_tries = 1;
    let world = World::with(settings);
    world.hub.set(|manners| manners.cuts = [400_000].into());
    world.pull_err();
    // What a kill between the last rename and the manifest leaves.
    let staging = files_below(&world.home.path().join("staging"));
    let part = staging.iter().find(|path| path.extension().is_some_and(|e| e == "part"));
    std::fs::remove_file(part.unwrap()).unwrap();
    let folder = world.home.path().join("models/owner/m");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("m.gguf"), &world.content).unwrap();
    assert!(world.home.store.list().unwrap().is_empty());
    world.check_whole(&world.pull());
    assert_eq!(world.hub.storage_log().len(), 1, "nothing is fetched again");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let world = World::new();
    world.hub.set(|manners| {
        manners.cuts = [300_000].into();
        manners.ignores_range = true;
    });
    world.check_whole(&world.pull());
    assert_eq!(world.hub.storage_log().len(), 2);
}

#[test]
fn content_that_changed_meanwhile_is_not_mixed() {
    let mut settings = settings();
    settings.n_tries = 1;
    let world = World::with(settings);
    world.hub.set(|manners| manners.cuts = [300_000].into());
    world.pull_err();
    // The storage has another validator now, so `If-Range` makes it send everything.
    world.hub.set(|manners| manners.etag = "\"storage-2\"".to_owned());
    world.check_whole(&world.pull());
    // And if the hub promises another file by now, nothing of the old part is used.
    let mut settings = self::settings();
    settings.n_tries = 1;
    let world = World::with(settings);
    world.hub.set(|manners| manners.cuts = [300_000].into());
    world.pull_err();
    let other = model(1024, 2);
    world.hub.set(|manners| drop(manners.files.insert("m.gguf".to_owned(), other.clone())));
    let world = World { content: other, ..world };
    world.check_whole(&world.pull());
    assert_eq!(world.hub.storage_log()[1].header("range"), None);
}

#[test]
fn a_wrong_hash_leaves_nothing_behind() {
    let world = World::new();
    world.hub.set(|manners| manners.hash_told = Some("0".repeat(64)));
    let error = world.pull_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    let message = error.to_string();
    let (expected, found) = ("0".repeat(64), sha256(&world.content).to_string());
    assert!(message.contains(&expected) && message.contains(&found), "{message}");
    world.check_nothing_placed();
    // And the bad bytes are not taken for a beginning.
    world.hub.set(|manners| manners.hash_told = None);
    world.check_whole(&world.pull());
    assert_eq!(world.hub.storage_log()[1].header("range"), None);
}

#[test]
fn a_wrong_length_is_refused() {
    for told in [10, 10_000_000] {
        let world = World::new();
        world.hub.set(|manners| manners.size_told = Some(told));
        let error = world.pull_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
        assert!(error.to_string().contains(&told.to_string()), "{error}");
        world.check_nothing_placed();
    }
}

#[test]
fn a_file_without_a_promised_hash_needs_a_pinned_one() {
    let world = World::new();
    world.hub.set(|manners| manners.hides_hash = true);
    assert!(matches!(world.pull_err(), StoreError::HashUnknown { .. }));
    let pinned = format!("hf:owner/repo/m.gguf#sha256={}", sha256(&world.content));
    world.check_whole(&world.try_pull(&pinned, &Heard::default()).unwrap());
}

#[test]
fn refusals_are_final_and_overload_is_waited_out() {
    for (status, kind, hint) in [
        (401, ErrorKind::Network, "HF_TOKEN"),
        (403, ErrorKind::Network, "HF_TOKEN"),
        (404, ErrorKind::NotFound, "no such file"),
        (410, ErrorKind::NotFound, "no such file"),
        (418, ErrorKind::Network, "418"),
    ] {
        let world = World::new();
        world.hub.set(|manners| manners.hub_statuses = [status].into());
        let error = world.pull_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(hint), "{status}: {error}");
        assert_eq!(world.hub.log().len(), 1, "{status} is final");
    }
    let world = World::new();
    world.hub.set(|manners| {
        manners.hub_statuses = [429, 503].into();
        manners.storage_statuses = [500, 429, 408].into();
    });
    world.check_whole(&world.pull());
}

#[test]
fn a_length_that_no_file_has_is_refused() {
    for size_told in [u64::MAX, (1 << 42) + 1] {
        let world = World::new();
        world.hub.set(|manners| manners.size_told = Some(size_told));
        let error = world.pull_err();
        let expected = format!("a file of {size_told} bytes, expected at most {}", 1u64 << 42);
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(world.hub.storage_log().is_empty(), "asked for it all the same");
    }
}

#[test]
fn patience_ends_and_the_error_counts_the_tries() {
    let world = World::new();
    world.hub.set(|manners| manners.hub_statuses = vec![503; 50].into());
    let error = world.pull_err();
    let message = error.to_string();
    assert!(message.ends_with("503 Service Unavailable (given up after 6 tries)"), "{message}");
    assert_eq!((error.kind(), world.hub.log().len()), (ErrorKind::Network, 6));
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let mut settings = settings();
    (settings.n_tries, settings.stall_timeout) = (1, Duration::from_millis(300));
    let world = World::with(settings);
    world.hub.set(|manners| manners.pause = Duration::from_secs(60));
    let started = std::time::Instant::now();
    let error = world.pull_err();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(error.to_string().contains("at byte 65536"), "{error}");
    world.hub.set(|manners| manners.pause = Duration::ZERO);
    world.check_whole(&world.pull());
    assert_eq!(world.hub.storage_log()[1].header("range"), Some("bytes=65536-"));
}

#[test]
fn nobody_listening_is_a_network_error() {
    let mut settings = settings();
    assert_eq!(settings.n_tries, 6);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.hub_endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let home = Home::new(settings);
    let source = Source::parse("hf:o/r/m.gguf").unwrap();
    let error = home.store.pull(&source, &PullOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    // Fewer tries than for a server that breaks down: nobody was ever there.
    let message = error.to_string();
    assert!(message.contains("refused"), "{message}");
    assert!(message.ends_with("(given up after 3 tries)"), "{message}");
}

#[test]
fn redirects_lead_neither_in_circles_nor_off_https() {
    for (to, reason) in [
        ("/owner/repo/resolve/main/m.gguf", "more than 8 redirects"),
        ("http://192.0.2.1/m.gguf", "expected https"),
        ("file:///etc/passwd", "expected https"),
        ("http://", "redirect to nowhere"),
    ] {
        let world = World::new();
        world.hub.set(|manners| manners.redirect_to = Some(to.to_owned()));
        let error = world.pull_err();
        assert!(error.to_string().contains(reason), "{to}: {error}");
        assert_eq!(error.kind(), ErrorKind::Network);
    }
}

#[test]
fn all_parts_of_a_split_model_come_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = gguf::write::Writer::new();
    writer.metadata("general.architecture", "llama");
    for name in ["a", "b", "c"] {
        writer.tensor(name, &[64, 32], gguf::TensorType::F32, vec![7; 64 * 32 * 4]);
    }
    let parts = writer.write_split(folder.path(), "big", 1).unwrap();
    let parts: Vec<_> = parts
        .iter()
        .map(|path| (path.file_name().unwrap().to_str().unwrap(), std::fs::read(path).unwrap()))
        .collect();
    let served: Vec<_> = parts.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let hub = Hub::start(&served);
    let mut settings = settings();
    settings.hub_endpoint.clone_from(&hub.endpoint);
    let home = Home::new(settings);
    let source = Source::parse("hf:owner/repo/q4/big-00002-of-00003.gguf").unwrap();
    let model = home.store.pull(&source, &PullOptions::default(), &Silent).unwrap();
    assert_eq!((model.name.as_str(), model.files.len()), ("big", 3));
    for (file, (_, bytes)) in model.files.iter().zip(&parts) {
        assert_eq!(&std::fs::read(&file.path).unwrap(), bytes);
    }
    assert_eq!(model.path().file_name().unwrap(), "big-00001-of-00003.gguf");
}

#[test]
fn what_is_no_model_is_refused_before_it_has_a_name() {
    let mut settings = settings();
    let hub = Hub::start(&[("m.gguf", b"<html>not found</html>")]);
    settings.hub_endpoint.clone_from(&hub.endpoint);
    let home = Home::new(settings);
    let source = Source::parse("hf:owner/repo/m.gguf").unwrap();
    let error = home.store.pull(&source, &PullOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadModel);
    assert!(error.to_string().starts_with("hf:owner/repo/m.gguf: not a usable GGUF"), "{error}");
    assert!(files_below(&home.path().join("models")).is_empty());
}

#[test]
fn offline_refuses_the_source_by_name() {
    let mut settings = settings();
    settings.offline = true;
    let world = World::with(settings);
    let error = world.pull_err();
    assert!(error.to_string().starts_with("hf:owner/repo/m.gguf: FREEHOLD_OFFLINE"), "{error}");
    assert!(world.hub.log().is_empty());
    let error = world.try_pull("smollm2-135m", &Heard::default()).unwrap_err();
    assert!(error.to_string().starts_with("smollm2-135m: FREEHOLD_OFFLINE"), "{error}");
}

#[test]
fn an_address_with_its_hash_is_pulled_and_a_wrong_one_is_not() {
    let world = World::new();
    let url = format!("{}/models/m.gguf", world.hub.storage);
    world.hub.set(|manners| manners.cuts = [1000].into());
    let good = format!("{url}#sha256={}", sha256(&world.content));
    let model = world.try_pull(&good, &Heard::default()).unwrap();
    world.check_whole(&model);
    assert_eq!((model.publisher.as_str(), model.source.as_str()), ("127.0.0.1", good.as_str()));
    let other = format!("{url}#sha256={}", "1".repeat(64));
    let error = world.try_pull(&other, &Heard::default()).unwrap_err();
    assert!(matches!(error, StoreError::NameTaken { .. }), "{error}");
    world.home.store.remove("m").unwrap();
    let error = world.try_pull(&other, &Heard::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    world.check_nothing_placed();
}

#[test]
fn two_pulls_of_one_model_fetch_it_once() {
    let world = World::new();
    world.hub.set(|manners| manners.pause = Duration::from_millis(10));
    let waiter = Heard::default();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.pull());
        while world.hub.storage_log().is_empty() {
            std::thread::yield_now();
        }
        let busy = PullOptions { no_wait: true, ..PullOptions::default() };
        let source = Source::parse("hf:owner/repo/m.gguf").unwrap();
        let error = world.home.store.pull(&source, &busy, &Silent).unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }), "{error}");
        let second = world.try_pull("hf:owner/repo/m.gguf", &waiter).unwrap();
        assert_eq!(first.join().unwrap(), second);
    });
    assert_eq!(world.hub.storage_log().len(), 1);
    assert!(waiter.notes().contains("waiting for it"), "{}", waiter.notes());
}

#[test]
fn a_damaged_model_is_fetched_again_by_the_next_pull() {
    let world = World::new();
    let model = world.pull();
    let mut bytes = world.content.clone();
    bytes[500_000] ^= 1;
    std::fs::write(model.path(), bytes).unwrap();
    let heard = Heard::default();
    world.check_whole(&world.try_pull("hf:owner/repo/m.gguf", &heard).unwrap());
    assert!(heard.notes().contains("fetching the model again"), "{}", heard.notes());
}
