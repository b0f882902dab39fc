//! One batch being worked off: its input is checked, its lines are handed out one after the other,
//! what comes of each is appended to a file, and at the end these files get their names.
//!
//! What is on disk is the truth: whoever begins reads there which lines are done, so it does not
//! matter where the one before was stopped. A line that was not written as a whole was never
//! written.

use super::disk::{Shelf, failed};
use super::input::{self, Line, Lines, N_FRAME_BYTES, Problem};
use super::record::{Batch, Counts, Purpose, Status, StoredFile};
use super::{Batches, now};
use crate::errors::ServerError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// What is said of a line that was not answered in time.
const EXPIRED: &str = "the batch's time was over before this request was answered";

/// A batch at work.
pub(crate) struct Run {
    batches: Batches,
    pub(crate) batch: Batch,
    lines: Lines<BufReader<File>>,
    n_line_max: usize,
    /// Numbers of the lines that something came of.
    done: HashSet<u64>,
    output: File,
    errors: File,
}

/// What came of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What the response says of itself in headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// JSON, on one line.
    pub(crate) body: String,
}

/// A line of what comes of a batch.
#[derive(Serialize)]
struct Entry<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<ResponseEntry<'a>>,
    error: Option<ErrorEntry>,
}

#[derive(Serialize)]
struct ResponseEntry<'a> {
    status_code: u16,
    request_id: String,
    body: &'a RawValue,
    /// No field of OpenAI's: what became of the request, which else stands in headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ErrorEntry {
    code: &'static str,
    message: &'static str,
}

impl Run {
    /// Begins where the one before was stopped, with lines of at most `n_body_max` bytes of body.
    /// `None` where nothing is left to do.
    pub(crate) fn begin(
        batches: &Batches,
        id: &str,
        n_body_max: usize,
        check_model: impl Fn(&Batch, Option<&str>) -> Result<(), ServerError>,
    ) -> Result<Option<Self>, ServerError> {
        let n_line_max = n_body_max + N_FRAME_BYTES;
        let mut batch = batches.at_work(id)?;
        if batch.status == Status::Validating {
            let endpoint = batch.endpoint;
            let checked = match open_input(batches, &batch, n_line_max)? {
                Some(lines) => input::check(lines, endpoint, |model| check_model(&batch, model))
                    .map_err(failed(&batches.shared.disk.lines_path(&batch.input), "not read"))?,
                None => Err(vec![gone(&batch)]),
            };
            batch = batches.change(id, |batch| match checked {
                Ok(n_total) => batch.begin(n_total, now()),
                Err(problems) => batch.fail(problems, now()),
            })?;
        }
        if batch.status == Status::InProgress {
            if let Some(lines) = open_input(batches, &batch, n_line_max)? {
                return Self::recover(batches, batch, lines, n_line_max).map(Some);
            }
            batch = batches.change(id, |batch| batch.fail(vec![gone(batch)], now()))?;
        }
        if batch.is_ending() {
            publish(batches, &batch)?;
        }
        Ok(None)
    }

    fn recover(
        batches: &Batches,
        batch: Batch,
        lines: Lines<BufReader<File>>,
        n_line_max: usize,
    ) -> Result<Self, ServerError> {
        let (output, n_output_bytes, completed) = read_back(batches, &batch, &batch.output)?;
        let (errors, n_errors_bytes, failed) = read_back(batches, &batch, &batch.errors)?;
        let (n_completed, n_failed) = (completed.len() as u64, failed.len() as u64);
        let done = completed.into_iter().chain(failed).collect();
        let mut state = batches.lock();
        if let Some(entry) = state.batches.get_mut(&batch.id) {
            entry.part_bytes = n_output_bytes + n_errors_bytes;
            entry.batch.counts.completed = n_completed;
            entry.batch.counts.failed = n_failed;
        }
        drop(state);
        let batches = batches.clone();
        Ok(Self { batches, batch, lines, n_line_max, done, output, errors })
    }

    /// The next line of which nothing came yet; each is handed out once.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, ServerError> {
        next_of(&self.batches, &self.batch, &mut self.lines, &self.done)
    }

    /// The name by which a line's request is known in the log.
    pub(crate) fn request_id(&self, line: &Line) -> String {
        request_id(&self.batch, line.number)
    }

    /// Writes down what came of a line.
    pub(crate) fn record(&mut self, line: &Line, answered: &Answered) -> Result<(), ServerError> {
        let broken = |e: serde_json::Error| ServerError::Failed(format!("an answer: {e}"));
        let body: &RawValue = serde_json::from_str(&answered.body).map_err(broken)?;
        let id = self.request_id(line);
        let response = ResponseEntry {
            status_code: answered.status,
            request_id: id.clone(),
            body,
            headers: &answered.headers,
        };
        let (custom_id, response) = (&*line.custom_id, Some(response));
        let entry = Entry { id, custom_id, response, error: None };
        self.append(line.number, &entry, (200..300).contains(&answered.status))
    }

    /// Appends to what came of the batch, of its answers or its errors.
    fn append(
        &mut self,
        number: u64,
        entry: &Entry<'_>,
        is_answer: bool,
    ) -> Result<(), ServerError> {
        let broken = |e: serde_json::Error| ServerError::Failed(format!("an answer: {e}"));
        let mut text = serde_json::to_vec(entry).map_err(broken)?;
        text.push(b'\n');
        let (file, id) = match is_answer {
            true => (&self.output, &self.batch.output),
            false => (&self.errors, &self.batch.errors),
        };
        self.batches.shared.disk.append(id, file, &text)?;
        self.done.insert(number);
        let mut state = self.batches.lock();
        if let Some(entry) = state.batches.get_mut(&self.batch.id) {
            entry.part_bytes += text.len() as u64;
            let counts = &mut entry.batch.counts;
            let count = if is_answer { &mut counts.completed } else { &mut counts.failed };
            *count += 1;
        }
        Ok(())
    }

    /// Ends a batch all of whose lines were handed out and came back.
    pub(crate) fn complete(self) -> Result<(), ServerError> {
        self.end(Status::Completed)
    }

    /// Ends one whose time is over: what is not answered never will be.
    pub(crate) fn expire(mut self) -> Result<(), ServerError> {
        if let Some(mut lines) = open_input(&self.batches, &self.batch, self.n_line_max)? {
            while let Some(line) = next_of(&self.batches, &self.batch, &mut lines, &self.done)? {
                let error = Some(ErrorEntry { code: "batch_expired", message: EXPIRED });
                let id = self.request_id(&line);
                let entry = Entry { id, custom_id: &line.custom_id, response: None, error };
                self.append(line.number, &entry, false)?;
            }
        }
        self.end(Status::Expired)
    }

    /// Ends one that its client wants no more.
    pub(crate) fn cancel(self) -> Result<(), ServerError> {
        // Its state says so already.
        publish(&self.batches, &self.batches.at_work(&self.batch.id)?)
    }

    fn end(self, ends_as: Status) -> Result<(), ServerError> {
        let batch = self.batches.change(&self.batch.id, |batch| batch.finalize(ends_as, now()))?;
        publish(&self.batches, &batch)
    }
}

fn request_id(batch: &Batch, number: u64) -> String {
    format!("{}_{number}", batch.id.replacen("batch_", "batch_req_", 1))
}

/// The input of a batch; `None` where it is gone, which only its operator can bring about.
fn open_input(
    batches: &Batches,
    batch: &Batch,
    n_line_max: usize,
) -> Result<Option<Lines<BufReader<File>>>, ServerError> {
    let path = batches.shared.disk.lines_path(&batch.input);
    match File::open(&path) {
        Ok(file) => Ok(Some(Lines::new(BufReader::new(file), n_line_max))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&path, "not opened")(error)),
    }
}

fn gone(batch: &Batch) -> Problem {
    let message = format!("input_file_id: {:?} is not there any more", batch.input);
    Problem::whole("input_file_not_found", message)
}

fn next_of(
    batches: &Batches,
    batch: &Batch,
    lines: &mut Lines<BufReader<File>>,
    done: &HashSet<u64>,
) -> Result<Option<Line>, ServerError> {
    let path = batches.shared.disk.lines_path(&batch.input);
    let line = lines.next_line(batch.endpoint, |number| done.contains(&number));
    match line.map_err(failed(&path, "not read"))? {
        None => Ok(None),
        Some(Ok(line)) => Ok(Some(line)),
        // It was checked: somebody has changed it since, or the bound. The batch ends as failed,
        // with what there is, when it is begun again.
        Some(Err(problem)) => {
            let message = problem.message.clone();
            batches.change(&batch.id, |batch| batch.fail(vec![problem], now()))?;
            Err(ServerError::Failed(message))
        }
    }
}

/// What came of a batch so far: the file to go on with, its length and the lines' numbers. What is
/// behind the last line that is whole is cut off.
fn read_back(
    batches: &Batches,
    batch: &Batch,
    id: &str,
) -> Result<(File, u64, Vec<u64>), ServerError> {
    #[derive(Deserialize)]
    struct Head {
        id: String,
    }
    let disk = &batches.shared.disk;
    let path = disk.part_path(id);
    let file = match File::options().read(true).append(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((disk.create_part(id)?, 0, Vec::new()));
        }
        Err(error) => return Err(failed(&path, "not opened")(error)),
    };
    let prefix = request_id(batch, 0);
    let prefix = prefix.trim_end_matches('0');
    let (mut n_bytes, mut numbers) = (0, Vec::new());
    let mut reader = BufReader::new(&file);
    loop {
        let mut text = Vec::new();
        let read = reader.by_ref().read_until(b'\n', &mut text);
        let n_read = read.map_err(failed(&path, "not read"))?;
        let head = serde_json::from_slice::<Head>(&text).ok().filter(|_| text.ends_with(b"\n"));
        let number = head.and_then(|head| head.id.strip_prefix(prefix)?.parse().ok());
        let Some(number) = number else { break };
        numbers.push(number);
        n_bytes += n_read as u64;
    }
    file.set_len(n_bytes).map_err(failed(&path, "not cut"))?;
    Ok((file, n_bytes, numbers))
}

/// Makes files of what came of a batch, and ends it. Can be done again wherever it was stopped.
fn publish(batches: &Batches, batch: &Batch) -> Result<(), ServerError> {
    let n_completed = publish_one(batches, batch, &batch.output, "output")?;
    let n_failed = publish_one(batches, batch, &batch.errors, "errors")?;
    let counts = Counts {
        total: batch.counts.total,
        completed: n_completed.unwrap_or(0),
        failed: n_failed.unwrap_or(0),
    };
    let (has_output, has_errors) = (n_completed.is_some(), n_failed.is_some());
    batches.change(&batch.id, |batch| batch.end(has_output, has_errors, counts, now()))?;
    Ok(())
}

/// Makes a file of one part, and counts its lines; `None` where there are none.
fn publish_one(
    batches: &Batches,
    batch: &Batch,
    id: &str,
    what: &str,
) -> Result<Option<u64>, ServerError> {
    let disk = &batches.shared.disk;
    let part = disk.part_path(id);
    if part.exists() {
        let (_, n_bytes, _) = read_back(batches, batch, id)?;
        match n_bytes {
            0 => disk.remove(&part)?,
            _ => disk.name_part(id)?,
        }
    }
    let path = disk.lines_path(id);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, "not opened")(error)),
    };
    let (mut n_bytes, mut n_lines) = (0, 0);
    let mut reader = BufReader::new(file);
    loop {
        let buffer = reader.fill_buf().map_err(failed(&path, "not read"))?;
        let n_read = buffer.len();
        if n_read == 0 {
            break;
        }
        n_lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        n_bytes += n_read as u64;
        reader.consume(n_read);
    }
    let file = StoredFile {
        id: id.to_owned(),
        client: batch.client,
        purpose: Purpose::BatchOutput,
        name: format!("{}_{what}.jsonl", batch.id),
        n_bytes,
        created_at: now(),
    };
    let mut state = batches.lock();
    if !state.files.contains_key(id) {
        disk.put(Shelf::Files, id, &file)?;
        state.files.insert(id.to_owned(), file);
    }
    Ok(Some(n_lines))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
