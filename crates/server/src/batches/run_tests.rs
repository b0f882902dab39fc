//! The machine fails at every point of a batch's life; the next start goes on.

use super::super::record::{Ask, Endpoint};
use super::*;
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

const CLIENT: u64 = 1;
const N_LINES: usize = 5;

fn input() -> String {
    let line = |n: usize| {
        format!(
            r#"{{"custom_id":"c{n}","method":"POST","url":"/v1/completions","body":{{"prompt":"p{n}"}}}}"#
        )
    };
    (0..N_LINES).map(|n| line(n) + "\n\n").collect()
}

fn open(path: &Path) -> Batches {
    Batches::open(path, 1 << 20, |line| panic!("{line}")).unwrap()
}

/// The id of the batch, and what goes wrong on the way.
fn create(batches: &Batches) -> Result<String, ServerError> {
    let mut upload = batches.upload(CLIENT, 1 << 20)?;
    upload.write(input().as_bytes())?;
    let input = upload.complete("lines.jsonl".to_owned())?.id;
    Ok(batches.create(CLIENT, Ask::new(Endpoint::Completions, input))?.id)
}

/// Works the batch off, two lines at once, of which the second comes back first; the third fails.
/// One that is to end otherwise does after two lines.
fn work(batches: &Batches, id: &str, ends_as: Status) -> Result<(), ServerError> {
    let Some(mut run) = Run::begin(batches, id, 1000, |_, _| Ok(()))? else { return Ok(()) };
    while ends_as == Status::Completed || run.done.len() < 2 {
        let lines = [run.next_line()?, run.next_line()?];
        if lines[0].is_none() {
            break;
        }
        for line in lines.iter().rev().flatten() {
            assert_eq!(line.body, format!(r#"{{"prompt":"p{}"}}"#, &line.custom_id[1..]));
            let status = if line.custom_id == "c2" { 400 } else { 200 };
            let body = format!(r#"{{"of":"{}"}}"#, line.custom_id);
            run.record(line, &Answered { status, headers: BTreeMap::new(), body })?;
        }
    }
    match ends_as {
        Status::Cancelled => {
            if batches.at_work(id)?.status != Status::Cancelling {
                batches.cancel(CLIENT, id)?;
            }
            run.cancel()
        }
        Status::Expired => run.expire(),
        _ => run.complete(),
    }
}

/// The entries of a file, by `custom_id`; none has one twice.
fn entries(batches: &Batches, id: &str, is_there: bool) -> BTreeMap<String, Value> {
    let found = batches.content(CLIENT, id);
    assert_eq!(found.is_ok(), is_there);
    let mut text = String::new();
    if let Ok((file, mut content)) = found {
        content.read_to_string(&mut text).unwrap();
        assert!(text.ends_with('\n'));
        assert_eq!((file.n_bytes, file.purpose), (text.len() as u64, Purpose::BatchOutput));
    }
    let mut entries = BTreeMap::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let custom_id = entry["custom_id"].as_str().unwrap().to_owned();
        assert!(entries.insert(custom_id, entry).is_none(), "{text}");
    }
    entries
}

fn check(batches: &Batches, id: &str, ends_as: Status) {
    let batch = batches.batch(CLIENT, id).unwrap();
    assert_eq!((batch.status, batch.counts.total), (ends_as, N_LINES as u64));
    let output = entries(batches, &batch.output, batch.has_output);
    let errors = entries(batches, &batch.errors, batch.has_errors);
    let n = |entries: &BTreeMap<String, Value>| entries.len() as u64;
    assert_eq!((batch.counts.completed, batch.counts.failed), (n(&output), n(&errors)));
    assert!(output.keys().all(|id| !errors.contains_key(id)));
    for (custom_id, entry) in output.iter().chain(&errors) {
        let number = custom_id[1..].parse::<usize>().unwrap() * 2 + 1;
        let request_id = format!("{}_{number}", batch.id.replace("batch_", "batch_req_"));
        assert_eq!(entry["id"], request_id);
        if entry["error"].is_null() {
            assert_eq!(entry["response"]["body"]["of"], **custom_id);
            let status = if custom_id == "c2" { 400 } else { 200 };
            assert_eq!(entry["response"]["status_code"], status);
        } else {
            assert_eq!(entry["error"]["code"], "batch_expired");
            assert!(entry["response"].is_null() && ends_as == Status::Expired);
        }
    }
    match ends_as {
        Status::Completed => assert_eq!((output.len(), errors.len()), (N_LINES - 1, 1)),
        Status::Expired => assert_eq!(output.len() + errors.len(), N_LINES),
        _ => assert!(output.len() + errors.len() >= 2),
    }
    // The input and what came of it, and nothing else.
    let n_files = 1 + usize::from(batch.has_output) + usize::from(batch.has_errors);
    let n_names = std::fs::read_dir(batches.shared.disk.lines_path("x").parent().unwrap());
    assert_eq!(n_names.unwrap().count(), 2 * n_files);
    assert_eq!(batches.files(CLIENT).len(), n_files);
}

/// As often as there are changes of the disk, and once more, at which nothing fails.
#[test]
fn wherever_the_machine_fails_each_line_is_there_once() {
    for ends_as in [Status::Completed, Status::Expired, Status::Cancelled] {
        let mut n_changes = 0;
        loop {
            let mut has_failed = false;
            for n_changes_then in [0, 3] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("batches");
                let id = create(&open(&path)).unwrap();
                for n_changes in [n_changes, n_changes_then] {
                    let batches = open(&path);
                    batches.shared.disk.fuse.store(n_changes, Relaxed);
                    has_failed |= work(&batches, &id, ends_as).is_err();
                }
                let batches = open(&path);
                work(&batches, &id, ends_as).unwrap();
                check(&batches, &id, ends_as);
                // Once it is over nothing changes any more.
                work(&batches, &id, ends_as).unwrap();
                check(&open_again(batches, &path), &id, ends_as);
            }
            if !has_failed {
                break;
            }
            n_changes += 1;
        }
        assert!(n_changes >= 10, "{n_changes}");
    }
}

fn open_again(batches: Batches, path: &Path) -> Batches {
    drop(batches);
    open(path)
}

#[test]
fn wherever_the_machine_fails_a_file_is_whole_or_not_there() {
    let mut n_changes = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batches");
        let batches = open(&path);
        batches.shared.disk.fuse.store(n_changes, Relaxed);
        let created = create(&batches);
        let batches = open_again(batches, &path);
        let files = batches.files(CLIENT);
        for file in &files {
            let mut text = String::new();
            batches.content(CLIENT, &file.id).unwrap().1.read_to_string(&mut text).unwrap();
            assert_eq!(text, input());
        }
        let n_there = batches.shared.disk.lines().unwrap().len();
        assert_eq!(n_there, files.len(), "{n_changes}: something was left over");
        // What was told to be there is.
        if let Ok(id) = created {
            assert_eq!(batches.batch(CLIENT, &id).unwrap().status, Status::Validating);
            break;
        }
        n_changes += 1;
    }
    assert!(n_changes >= 5, "{n_changes}");
}

#[test]
fn an_input_that_is_gone_or_wrong_fails_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let batches = open(&folder.path().join("batches"));
    let id = create(&batches).unwrap();
    let no_model =
        |_: &Batch, _: Option<&str>| Err(ServerError::NotFound("no such model".to_owned()));
    assert!(Run::begin(&batches, &id, 1000, no_model).unwrap().is_none());
    let batch = batches.batch(CLIENT, &id).unwrap();
    assert_eq!((batch.status, batch.problems[0].line), (Status::Failed, Some(1)));
    let id = create(&batches).unwrap();
    let mut run = Run::begin(&batches, &id, 1000, |_, _| Ok(())).unwrap().unwrap();
    let line = run.next_line().unwrap().unwrap();
    let body = "{}".to_owned();
    run.record(&line, &Answered { status: 200, headers: BTreeMap::new(), body }).unwrap();
    drop(run);
    // What was done before is kept.
    std::fs::remove_file(batches.shared.disk.lines_path(&batches.at_work(&id).unwrap().input))
        .unwrap();
    assert!(Run::begin(&batches, &id, 1000, |_, _| Ok(())).unwrap().is_none());
    let batch = batches.batch(CLIENT, &id).unwrap();
    assert_eq!((batch.status, batch.counts.completed), (Status::Failed, 1));
    assert!(batch.has_output && batch.problems[0].code == "input_file_not_found");
}
