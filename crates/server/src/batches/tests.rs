//! Whose is what, what there is room for, and what goes with what.

use super::record::{Endpoint, Status};
use super::*;

const CLIENT: u64 = 1;
const OTHER: u64 = 2;
const MAX_BYTES: u64 = 1000;

struct Home {
    _folder: tempfile::TempDir,
    batches: Batches,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let warn = |line: &str| panic!("{line}");
    let batches = Batches::open(&folder.path().join("batches"), MAX_BYTES, warn).unwrap();
    Home { _folder: folder, batches }
}

impl Home {
    fn send(&self, client: u64, n_bytes: usize) -> Result<StoredFile, ServerError> {
        let mut upload = self.batches.upload(client, 600)?;
        upload.write(&vec![b'x'; n_bytes])?;
        upload.complete("lines.jsonl".to_owned())
    }

    fn create(&self, client: u64, input: &str) -> Result<Batch, ServerError> {
        self.batches.create(client, Ask::new(Endpoint::Chat, input.to_owned()))
    }

    /// The batch of this id ends as it was cancelled, without any output.
    fn end(&self, id: &str) {
        self.batches.cancel(CLIENT, id).unwrap();
        let begun = run::Run::begin(&self.batches, id, 100, |_, _| Ok(())).unwrap();
        assert!(begun.is_none());
        assert_eq!(self.batches.batch(CLIENT, id).unwrap().status, Status::Cancelled);
    }
}

fn status<T>(result: Result<T, ServerError>) -> u16 {
    result.map_or_else(|error| error.status().as_u16(), |_| 200)
}

#[test]
fn what_is_another_clients_does_not_exist() {
    let home = home();
    let file = home.send(CLIENT, 10).unwrap();
    let batch = home.create(CLIENT, &file.id).unwrap();
    let seen = |client: u64| {
        [
            status(home.batches.file(client, &file.id)),
            status(home.batches.content(client, &file.id)),
            status(home.batches.batch(client, &batch.id)),
        ]
    };
    assert_eq!((seen(CLIENT), seen(OTHER)), ([200; 3], [404; 3]));
    assert_eq!(status(home.create(OTHER, &file.id)), 400);
    assert_eq!(status(home.batches.cancel(OTHER, &batch.id)), 404);
    assert_eq!(status(home.batches.remove_file(OTHER, &file.id)), 404);
    assert!(home.batches.files(OTHER).is_empty() && home.batches.batches(OTHER).is_empty());
    assert_eq!((home.batches.files(CLIENT).len(), home.batches.batches(CLIENT).len()), (1, 1));
    for id in ["", "..", "../secret", "file-", "batch_"] {
        assert_eq!(status(home.batches.content(CLIENT, id)), 404, "{id}");
    }
}

#[test]
fn a_file_stays_while_a_batch_reads_it_and_the_batch_as_long_as_its_files() {
    let home = home();
    let file = home.send(CLIENT, 10).unwrap();
    let batch = home.create(CLIENT, &file.id).unwrap();
    assert_eq!(status(home.batches.remove_file(CLIENT, &file.id)), 409);
    home.end(&batch.id);
    assert_eq!(status(home.batches.cancel(CLIENT, &batch.id)), 409);
    assert_eq!(status(home.batches.batch(CLIENT, &batch.id)), 200);
    assert_eq!(status(home.batches.remove_file(CLIENT, &file.id)), 200);
    assert_eq!(status(home.batches.file(CLIENT, &file.id)), 404);
    assert_eq!(status(home.batches.batch(CLIENT, &batch.id)), 404);
    assert_eq!(home.batches.gauges(), BatchGauges { n_bytes: 0, n_unfinished: 0 });
}

#[test]
fn files_are_bounded_each_together_and_for_each_client() {
    let home = home();
    assert_eq!(status(home.send(CLIENT, 601)), 413);
    assert_eq!(status(home.send(CLIENT, 600)), 200);
    // Three quarters are for one client.
    assert_eq!(status(home.send(CLIENT, 151)), 429);
    assert_eq!(status(home.send(CLIENT, 150)), 200);
    assert!(!home.batches.has_room(CLIENT) && home.batches.has_room(OTHER));
    assert_eq!(status(home.send(OTHER, 251)), 429);
    assert_eq!(status(home.send(OTHER, 250)), 200);
    assert_eq!(home.batches.gauges().n_bytes, MAX_BYTES);
    // What was refused left nothing.
    assert_eq!(home.batches.shared.disk.lines().unwrap().len(), 3);
}

#[test]
fn batches_that_are_not_over_are_bounded() {
    let home = home();
    let files = [CLIENT, OTHER].map(|client| home.send(client, 1).unwrap());
    for _ in 0..N_UNFINISHED - N_UNFINISHED / 4 {
        home.create(CLIENT, &files[0].id).unwrap();
    }
    assert_eq!(status(home.create(CLIENT, &files[0].id)), 429);
    for _ in 0..N_UNFINISHED / 4 {
        home.create(OTHER, &files[1].id).unwrap();
    }
    assert_eq!(status(home.create(OTHER, &files[1].id)), 429);
    assert_eq!(home.batches.take_waiting().len(), N_UNFINISHED);
    assert!(home.batches.take_waiting().is_empty());
}

#[test]
fn what_is_damaged_is_told_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batches");
    let file = {
        let batches = Batches::open(&path, MAX_BYTES, |_| {}).unwrap();
        let upload = batches.upload(CLIENT, 10).unwrap();
        upload.complete("a".to_owned()).unwrap()
    };
    let record = path.join("files").join(format!("{}.json", file.id));
    std::fs::write(&record, "{").unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    let batches = Batches::open(&path, MAX_BYTES, |line| told.borrow_mut().push(line.to_owned()));
    let batches = batches.unwrap();
    assert!(told.borrow()[0].contains(&format!("{}.json: not used: ", file.id)), "{told:?}");
    assert_eq!(status(batches.file(CLIENT, &file.id)), 404);
    assert!(batches.shared.disk.lines_path(&file.id).exists());
}

#[test]
fn what_came_of_a_batch_that_cannot_be_read_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batches");
    let open = || Batches::open(&path, MAX_BYTES, |_| {}).unwrap();
    let name = new_name();
    let parts: Vec<std::path::PathBuf> = {
        let disk = &open().shared.disk;
        ["output", "errors"].map(|of| disk.part_path(&format!("file-{name}-{of}"))).into()
    };
    let record = path.join("batches").join(format!("batch_{name}.json"));
    let write = || parts.iter().for_each(|part| std::fs::write(part, "{}\n").unwrap());
    write();
    std::fs::write(&record, "{").unwrap();
    drop(open());
    assert!(parts.iter().all(|part| part.exists()));
    // Nobody's are removed.
    std::fs::remove_file(&record).unwrap();
    drop(open());
    assert!(!parts.iter().any(|part| part.exists()));
}
