//! The reports of the behaviour gate that are kept in the data directory, so that they can be
//! looked at later: the last ones, each a file of its own that its user alone may read, since the
//! user's prompts are in it. Its first line is a summary, its second the report.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::PrivateFolder;
use serde_json::{Value, json};

/// Reports that are kept: what is older was looked at, or never will be.
const N_REPORTS_MAX: usize = 50;
/// Longest file of one, in bytes: what the gate keeps of a run is bounded, and smaller.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Longest summary, in bytes.
const SUMMARY_BYTES_MAX: u64 = 64 << 10;
/// Digits of an id: microseconds since 1970, so that ids sort by time.
const N_ID_DIGITS: usize = 16;
const ENDING: &str = "jsonl";

/// What a run of the gate was for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occasion<'a> {
    /// `test` or `upgrade`.
    pub(crate) step: &'static str,
    /// The model or the alias that it was about.
    pub(crate) subject: &'a str,
}

/// The reports in a folder.
pub(crate) struct GateReports(PathBuf);

/// What there is of them.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Their summaries, the newest first.
    pub(crate) summaries: Vec<Value>,
    /// The ids of those that cannot be read.
    pub(crate) damaged: Vec<String>,
}

impl GateReports {
    /// Those in the data directory `home`.
    pub(crate) fn of(home: &Path) -> Self {
        Self(home.join("gate"))
    }

    /// Keeps `report`, and removes the oldest where there are more than enough. Returns its id.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn keep(&self, occasion: Occasion<'_>, report: &Value) -> io::Result<String> {
        let mut folder = DirBuilder::new();
        folder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(&self.0)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut number = since.as_micros();
        let mut id = format!("{number:016x}");
        while self.path(&id).exists() {
            number += 1;
            id = format!("{number:016x}");
        }
        let summary = summary(&id, occasion, report);
        // Whole or not at all.
        let new = self.0.join(format!("{id}.new"));
        let mut file = PrivateFolder::create(&new)?;
        file.write_all(format!("{summary}\n{report}\n").as_bytes())?;
        fs::rename(&new, self.path(&id))?;
        let ids = self.ids()?;
        for old in ids.iter().skip(N_REPORTS_MAX) {
            // Another run may have removed it.
            let _ = fs::remove_file(self.path(old));
        }
        Ok(id)
    }

    /// What there is.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub(crate) fn list(&self) -> io::Result<Listed> {
        let mut listed = Listed::default();
        for id in self.ids()?.into_iter().take(N_REPORTS_MAX) {
            let read = self.open(&id).and_then(|lines| line(&mut lines.take(SUMMARY_BYTES_MAX)));
            match read {
                Ok(summary) if is_summary(&summary, &id) => listed.summaries.push(summary),
                _ => listed.damaged.push(id),
            }
        }
        Ok(listed)
    }

    /// The report of this id, with its summary beside it; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(&self, id: &str) -> io::Result<Option<Value>> {
        if !is_id(id) {
            return Ok(None);
        }
        let read = self.open(id).and_then(|mut lines| Ok((line(&mut lines)?, line(&mut lines)?)));
        match read {
            Ok((summary, report)) => Ok(Some(json!({"summary": summary, "report": report}))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io::Error::other(format!("{}: {error}", self.path(id).display()))),
        }
    }

    /// The ids, the newest first.
    fn ids(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let id = |path: PathBuf| {
            let is_report = path.extension().is_some_and(|ending| ending == ENDING);
            let id = path.file_stem()?.to_str()?.to_owned();
            (is_report && is_id(&id)).then_some(id)
        };
        let mut ids: Vec<String> = entries.flatten().filter_map(|entry| id(entry.path())).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.{ENDING}"))
    }

    fn open(&self, id: &str) -> io::Result<impl BufRead + use<>> {
        let path = self.path(id);
        // A pipe would be waited for, and a link may lead anywhere.
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(io::Error::other("expected a file"));
        }
        Ok(BufReader::new(File::open(path)?.take(FILE_BYTES_MAX)))
    }
}

/// Whether a list can show it as that of report `id`.
fn is_summary(summary: &Value, id: &str) -> bool {
    let is_side = |of: &Value| {
        let interval = of["pass_rate_interval"].as_array();
        of["name"].is_string()
            && interval.is_some_and(|ends| ends.len() == 2 && ends.iter().all(Value::is_number))
    };
    let old = &summary["old"];
    summary["id"] == id && is_side(&summary["new"]) && (old.is_null() || is_side(old))
}

/// Whether a text is the id of a report, and so the name of a file in the folder and no other.
fn is_id(text: &str) -> bool {
    text.len() == N_ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The object that the next line is.
fn line(lines: &mut impl BufRead) -> io::Result<Value> {
    let mut text = String::new();
    lines.read_line(&mut text)?;
    let value: Value = serde_json::from_str(&text).map_err(io::Error::from)?;
    if value.is_object() { Ok(value) } else { Err(io::Error::other("expected an object a line")) }
}

/// What a list says of a report.
fn summary(id: &str, occasion: Occasion<'_>, report: &Value) -> Value {
    let side = |of: &Value| match of {
        Value::Null => Value::Null,
        of => json!({
            "name": of["name"],
            "n_cases": of["n_cases"],
            "n_passed": of["n_passed"],
            "pass_rate": of["pass_rate"],
            "pass_rate_interval": of["pass_rate_interval"],
        }),
    };
    json!({
        "id": id,
        "made": store::now(),
        "step": occasion.step,
        "subject": occasion.subject,
        "passed": report["passed"],
        "new": side(&report["new"]),
        "old": side(&report["old"]),
        "comparison": report["comparison"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Occasion<'static> = Occasion { step: "test", subject: "m" };

    #[test]
    fn reports_are_kept_the_newest_first_and_bounded() {
        let home = tempfile::tempdir().unwrap();
        let reports = GateReports::of(home.path());
        assert!(reports.list().unwrap().summaries.is_empty());
        let report = |n: usize| {
            json!({"passed": true,
            "new": {"name": "new", "n_cases": n, "pass_rate_interval": [0.5, 1.0]}})
        };
        let ids: Vec<String> =
            (0..N_REPORTS_MAX + 3).map(|n| reports.keep(TEST, &report(n)).unwrap()).collect();
        let listed = reports.list().unwrap();
        let found: Vec<&str> =
            listed.summaries.iter().map(|of| of["id"].as_str().unwrap()).collect();
        let expected: Vec<&str> =
            ids.iter().rev().take(N_REPORTS_MAX).map(String::as_str).collect();
        assert_eq!(found, expected);
        let newest = &listed.summaries[0];
        assert_eq!((&newest["step"], &newest["subject"]), (&json!("test"), &json!("m")));
        assert_eq!((&newest["new"]["n_cases"], &newest["old"]), (&json!(52), &Value::Null));
        let last = ids.last().unwrap();
        let whole = reports.read(last).unwrap().unwrap();
        assert_eq!((&whole["summary"], &whole["report"]), (newest, &report(52)));
        assert!(reports.read(&ids[0]).unwrap().is_none(), "the oldest went");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&reports.0), mode(&reports.path(last))), (0o700, 0o600));
        }
    }

    #[test]
    fn what_is_no_report_is_told_and_no_other_file_is_read() {
        let home = tempfile::tempdir().unwrap();
        let reports = GateReports::of(home.path());
        let new = json!({"name": "new", "pass_rate_interval": [0, 1]});
        let id = reports.keep(TEST, &json!({"passed": false, "new": new})).unwrap();
        // One that no list can show, one of another's name, and what is no file.
        let bare = reports.keep(TEST, &json!({"passed": false})).unwrap();
        fs::copy(reports.path(&id), reports.path("0000000000000003")).unwrap();
        fs::create_dir(reports.path("0000000000000004")).unwrap();
        fs::write(home.path().join("secret.jsonl"), "{}\n{}\n").unwrap();
        for other in ["../secret", "", "0", "ABCDEF0123456789", "/etc/passwd/////"] {
            assert!(reports.read(other).unwrap().is_none(), "{other}");
        }
        for (name, text) in [("0000000000000001", ""), ("0000000000000002", "[]\n{}\n")] {
            fs::write(reports.path(name), text).unwrap();
            let error = reports.read(name).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        fs::write(reports.0.join("notes.txt"), "mine").unwrap();
        let listed = reports.list().unwrap();
        assert_eq!(listed.summaries.len(), 1);
        assert_eq!(listed.summaries[0]["id"], id);
        let others = [4, 3, 2, 1].map(|n| format!("{n:016}"));
        assert_eq!(listed.damaged, [&[bare][..], &others].concat());
    }
}
