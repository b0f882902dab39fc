//! Runs the real `freehold` binary, in a home of its own, off the network unless a test says so.

// Each test file uses its part of this.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A `FREEHOLD_HOME` that vanishes with the test, and room for its files.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path for a file of the test, outside the store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes such a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the temporary folder is writable");
        path
    }

    /// The binary with `args`, ready to be changed and started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("FREEHOLD_HOME", self.path("home"))
            .env("FREEHOLD_OFFLINE", "1")
            .env_remove("FREEHOLD_ISA")
            .env_remove("FREEHOLD_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        finish(self.command(args))
    }

    /// Runs the binary to its end with `input` on stdin.
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Outcome {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_vec();
        // The program may end without reading everything; its exit code tells.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let outcome = Outcome::of(child.wait_with_output().expect("the binary ends"));
        writer.join().expect("the writer does not panic");
        outcome
    }
}

/// Runs `command` to its end.
pub(crate) fn finish(mut command: Command) -> Outcome {
    Outcome::of(command.output().expect("the binary starts"))
}

impl Outcome {
    fn of(output: std::process::Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "the program panicked: {stderr}");
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// The stdout of a run that must have ended well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        String::from_utf8(self.stdout).expect("stdout is text")
    }

    /// As [`Outcome::ok`], read as JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Asserts that the run ended with `code` and `words` somewhere on stderr.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        assert!(self.stderr.contains(words), "{words:?} is not in {:?}", self.stderr);
    }

    /// Asserts that the run ended with `code` and one line on stderr that holds every word.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        let errors: Vec<&str> =
            self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "expected one error line: {}", self.stderr);
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is not in {:?}", errors[0]);
        }
        assert!(!errors[0].contains('\x1b'), "colour without a terminal: {:?}", errors[0]);
    }
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
