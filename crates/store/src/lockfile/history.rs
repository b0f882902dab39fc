//! `freehold.lock.history`: what the lock said before, move by move, beside the lock.
//!
//! One JSON object a line, only ever appended to, so that it reads well in a diff and merges badly
//! in silence never: it belongs into the repository with the lock. A line is written before the
//! lock is, so a move whose line stands may not have come about; that shows in what the lock, or
//! the next line, says of the same name, and such a line counts for nothing.
//!
//! A version that the lock left is there as a whole; the one that it has now is in the lock.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::observed::plain;
use super::{LockFile, LockedModel, line};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::home::now;
use crate::record;

/// Most bytes and most moves of a history: a move takes about 5 KiB, with a long template 70.
const HISTORY_BYTES_MAX: u64 = 16 << 20;
const N_MOVES_MAX: usize = 10_000;

/// One move of what a name of the lock stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// When, as RFC 3339 in UTC.
    #[serde(deserialize_with = "line")]
    pub time: String,
    /// The entry's name in the lock.
    #[serde(deserialize_with = "line")]
    pub name: String,
    /// What kind of move it is.
    pub step: Step,
    /// What the lock said before.
    pub from: Left,
    /// [`LockedModel::digest`] of what it says from then on.
    pub to: Sha256,
    /// What the gate found; absent where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Tested>,
    /// Whether it was made although the gate did not pass it, or was not asked.
    pub forced: bool,
    /// In words.
    #[serde(deserialize_with = "line")]
    pub why: String,
}

/// The kinds of moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// To a version that was not there before.
    Upgrade,
    /// To one that was.
    Rollback,
}

/// What the lock said before a move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// [`LockedModel::digest`] of `entry`.
    pub digest: Sha256,
    /// The whole of it.
    pub entry: LockedModel,
}

/// What the gate found of the old version beside the new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tested {
    /// Whether it let the new one pass.
    pub passed: bool,
    /// Cases on which both were compared.
    pub n_cases: u64,
    /// Of them, those that the old version passed.
    pub n_passed_old: u64,
    /// Of them, those that the new one passed.
    pub n_passed_new: u64,
    /// Cases that the new one lost.
    pub n_lost: u64,
    /// Cases that it won.
    pub n_won: u64,
    /// How likely so many losses are by chance.
    pub p_worse: f64,
    /// Answers that were compared.
    pub n_answers: u64,
    /// Of them, those that say something else.
    pub n_answers_changed: u64,
}

/// All moves of a lock.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    moves: Vec<Move>,
}

/// Something that the lock said of a name, or says now.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// [`LockedModel::digest`] of its entry.
    pub digest: Sha256,
    /// Its entry; `None` of one that was replaced without a move, so that nobody has it.
    pub entry: Option<LockedModel>,
    /// When the lock first came to it by a move.
    pub since: Option<String>,
}

/// The versions of a name, in the order in which the lock first said them.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// At least one.
    pub versions: Vec<Version>,
    /// The index of what the lock says now.
    pub now: usize,
    /// The index of what it said before the last move; `None` where there was none, or all of them
    /// were taken back.
    pub back: Option<usize>,
}

impl History {
    /// Where the history of the lock at `lock` stands. Where that is a link, it is beside the file.
    pub fn path_of(lock: &Path) -> PathBuf {
        let lock = fs::canonicalize(lock).unwrap_or_else(|_| lock.to_owned());
        let mut path = lock.into_os_string();
        path.push(".history");
        path.into()
    }

    /// Reads the history of the lock at `lock`; an empty one where there is none.
    ///
    /// # Errors
    /// [`StoreError::BadLock`] with the line, [`StoreError::Io`].
    pub fn read(lock: &Path) -> Result<Self, StoreError> {
        let path = Self::path_of(lock);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(StoreError::io(&path, "opening")(error)),
        };
        let mut bytes = Vec::new();
        file.take(HISTORY_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(StoreError::io(&path, "reading"))?;
        Self::parse(&bytes).map_err(|(line, column, problem)| StoreError::BadLock {
            path,
            line,
            column,
            problem,
        })
    }

    /// Reads a history; an error is the line and the column where it goes wrong, and why.
    fn parse(bytes: &[u8]) -> Result<Self, (usize, usize, String)> {
        if bytes.len() as u64 > HISTORY_BYTES_MAX {
            let problem = format!("the file is longer, expected at most {HISTORY_BYTES_MAX} bytes");
            return Err((1, 1, problem));
        }
        let mut moves: Vec<Move> = Vec::new();
        for (line_idx, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let refuse = |column: usize, problem: String| Err((line_idx + 1, column, problem));
            let Some(line) = line.strip_suffix(b"\n") else {
                return refuse(line.len(), "the line was cut off, expected its end".to_owned());
            };
            if line_idx == N_MOVES_MAX {
                return refuse(1, format!("expected at most {N_MOVES_MAX} moves"));
            }
            match serde_json::from_slice::<Move>(line) {
                Ok(one) if one.from.digest == one.from.entry.digest() => moves.push(one),
                Ok(one) => {
                    let (expected, found) = (one.from.digest, one.from.entry.digest());
                    return refuse(
                        1,
                        format!("the entry that was left is {found}, not {expected}"),
                    );
                }
                Err(error) => return refuse(error.column(), error.to_string()),
            }
        }
        Ok(Self { moves })
    }

    /// The moves of `name` that came about, in order, where the lock says now what `now` digests.
    pub fn of(&self, name: &str, now: Sha256) -> Vec<&Move> {
        let moves: Vec<&Move> = self.moves.iter().filter(|of| of.name == name).collect();
        let came_about = |idx: &usize| {
            let next = moves.get(idx + 1).map_or(now, |next| next.from.digest);
            // Where the lock was written otherwise in between, nothing speaks against the move.
            next == moves[*idx].to || next != moves[*idx].from.digest
        };
        (0..moves.len()).filter(came_about).map(|idx| moves[idx]).collect()
    }

    /// The versions of `name`, whose entry is `now`.
    pub fn timeline(&self, name: &str, now: &LockedModel) -> Timeline {
        let digest = now.digest();
        let mut versions: Vec<Version> = Vec::new();
        let mut behind: Vec<Sha256> = Vec::new();
        for of in self.of(name, digest) {
            let left = note(&mut versions, of.from.digest);
            versions[left].entry.get_or_insert_with(|| of.from.entry.clone());
            let come_to = note(&mut versions, of.to);
            versions[come_to].since.get_or_insert_with(|| of.time.clone());
            let taken_back = behind.iter().rposition(|behind| *behind == of.to);
            match taken_back.filter(|_| of.step == Step::Rollback) {
                Some(idx) => behind.truncate(idx),
                None => behind.push(of.from.digest),
            }
        }
        let now_idx = note(&mut versions, digest);
        versions[now_idx].entry = Some(now.clone());
        let back = behind.iter().rev().find(|behind| **behind != digest);
        let back = back.and_then(|back| versions.iter().position(|of| of.digest == *back));
        Timeline { versions, now: now_idx, back }
    }

    /// Makes a move: its line first, then the lock, each whole or not at all. What the process is
    /// killed at leaves the lock as it was or as it is to be.
    ///
    /// # Errors
    /// [`StoreError::LockChanged`] where the lock no longer says what is to be left,
    /// [`StoreError::BadLock`] where the history is full or either cannot be read,
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn make(lock: &Path, planned: Planned<'_>) -> Result<(), StoreError> {
        let mut file = LockFile::read(lock)?.unwrap_or_default();
        let entry = file.models.get(planned.name);
        if entry != Some(planned.from) {
            let (name, lock) = (planned.name.to_owned(), lock.to_owned());
            return Err(StoreError::LockChanged { name, lock });
        }
        let mut history = Self::read(lock)?;
        history.moves.push(Move {
            time: now(),
            name: planned.name.to_owned(),
            step: planned.step,
            from: Left { digest: planned.from.digest(), entry: planned.from.clone() },
            to: planned.to.digest(),
            gate: planned.gate,
            forced: planned.forced,
            why: plain(&planned.why),
        });
        let path = Self::path_of(lock);
        let text = history.to_text();
        if text.len() as u64 > HISTORY_BYTES_MAX || history.moves.len() > N_MOVES_MAX {
            let problem = format!(
                "it is full with {N_MOVES_MAX} moves or {HISTORY_BYTES_MAX} bytes: move it away, \
                 and a new one begins"
            );
            let line = history.moves.len();
            return Err(StoreError::BadLock { path, line, column: 1, problem });
        }
        record::sweep_old(&path);
        record::write_text(&path, &text)?;
        file.models.insert(planned.name.to_owned(), planned.to.clone());
        file.write(lock)
    }

    fn to_text(&self) -> String {
        let line = |of: &Move| {
            let line = serde_json::to_string(of);
            line.expect("names, numbers and texts can be written as JSON") + "\n"
        };
        self.moves.iter().map(line).collect()
    }
}

/// A move that is to be made.
#[derive(Debug)]
pub struct Planned<'a> {
    /// The entry's name in the lock.
    pub name: &'a str,
    /// What kind of move it is.
    pub step: Step,
    /// What the lock says.
    pub from: &'a LockedModel,
    /// What it is to say.
    pub to: &'a LockedModel,
    /// See [`Move::gate`].
    pub gate: Option<Tested>,
    /// See [`Move::forced`].
    pub forced: bool,
    /// See [`Move::why`]; becomes one line.
    pub why: String,
}

/// The index of a version; a new one comes to the end.
fn note(versions: &mut Vec<Version>, digest: Sha256) -> usize {
    versions.iter().position(|of| of.digest == digest).unwrap_or_else(|| {
        versions.push(Version { digest, entry: None, since: None });
        versions.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::OnceLock;

    use super::*;
    use crate::lockfile::Number;
    use proptest::prelude::*;

    /// A version of a model, told from others by its revision.
    fn version(revision: &str) -> LockedModel {
        LockedModel {
            publisher: "p".to_owned(),
            installed: Some(format!("p/m-{revision}")),
            source: "hf:o/r/m.gguf".to_owned(),
            revision: Some(revision.to_owned()),
            licence: "mit".to_owned(),
            architecture: "llama".to_owned(),
            numerics: 3,
            tokenizer: None,
            template: None,
            defaults: BTreeMap::from([
                ("temperature".to_owned(), Number::from(0.8_f32)),
                ("top_k".to_owned(), Number::Integer(40)),
            ]),
            tensors: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// A lock of one model, which is at `a`.
    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let world = Self { folder: tempfile::tempdir().unwrap() };
            world.set(&version("a"));
            world
        }

        fn lock(&self) -> PathBuf {
            self.folder.path().join("freehold.lock")
        }

        fn set(&self, entry: &LockedModel) {
            let models = BTreeMap::from([("m".to_owned(), entry.clone())]);
            LockFile { models, ..LockFile::default() }.write(&self.lock()).unwrap();
        }

        fn entry(&self) -> LockedModel {
            LockFile::read(&self.lock()).unwrap().unwrap().models["m"].clone()
        }

        fn go(&self, step: Step, to: &str) {
            let (from, to) = (self.entry(), version(to));
            let (gate, forced, why) = (None, true, "why".to_owned());
            let planned = Planned { name: "m", step, from: &from, to: &to, gate, forced, why };
            History::make(&self.lock(), planned).unwrap();
        }

        /// The revisions of all versions, of now, and of what is behind it.
        fn told(&self) -> (String, String, Option<String>) {
            let found = History::read(&self.lock()).unwrap().timeline("m", &self.entry());
            let name = |idx: usize| {
                let entry = found.versions[idx].entry.as_ref();
                entry.map_or_else(|| "?".to_owned(), |of| of.revision.clone().unwrap())
            };
            let all = (0..found.versions.len()).map(name).collect::<String>();
            (all, name(found.now), found.back.map(name))
        }

        fn check(&self, all: &str, now: &str, back: Option<&str>) {
            let expected = (all.to_owned(), now.to_owned(), back.map(str::to_owned));
            assert_eq!(self.told(), expected);
        }
    }

    #[test]
    fn the_way_back_and_forward_is_found() {
        let world = World::new();
        world.check("a", "a", None);
        let before = fs::read(world.lock()).unwrap();
        world.go(Step::Upgrade, "b");
        world.check("ab", "b", Some("a"));
        world.go(Step::Upgrade, "c");
        world.check("abc", "c", Some("b"));
        world.go(Step::Rollback, "b");
        world.check("abc", "b", Some("a"));
        world.go(Step::Rollback, "a");
        world.check("abc", "a", None);
        assert_eq!(fs::read(world.lock()).unwrap(), before);
        // Forward, from where the way back leads to where it was left.
        world.go(Step::Rollback, "c");
        world.check("abc", "c", Some("a"));
        world.go(Step::Upgrade, "d");
        world.check("abcd", "d", Some("c"));
    }

    #[test]
    fn a_move_that_did_not_come_about_counts_for_nothing() {
        let world = World::new();
        world.go(Step::Upgrade, "b");
        // Killed between the line and the lock.
        world.set(&version("a"));
        world.check("a", "a", None);
        world.go(Step::Upgrade, "c");
        world.check("ac", "c", Some("a"));
        world.go(Step::Rollback, "a");
        world.set(&version("c"));
        world.check("ac", "c", Some("a"));
        world.go(Step::Rollback, "a");
        world.check("ac", "a", None);
    }

    #[test]
    fn a_lock_that_was_written_otherwise_in_between_goes_back_to_before_the_last_move() {
        let world = World::new();
        world.go(Step::Upgrade, "b");
        world.set(&version("c"));
        world.check("a?c", "c", Some("a"));
        world.go(Step::Rollback, "a");
        world.check("a?c", "a", None);
    }

    #[test]
    fn what_changed_meanwhile_is_not_overwritten() {
        let world = World::new();
        let (from, to) = (version("x"), version("y"));
        let (step, gate, forced, why) = (Step::Upgrade, None, false, String::new());
        let planned = Planned { name: "m", step, from: &from, to: &to, gate, forced, why };
        let error = History::make(&world.lock(), planned).unwrap_err();
        assert!(matches!(error, StoreError::LockChanged { .. }), "{error}");
        assert!(!History::path_of(&world.lock()).exists());
    }

    #[test]
    fn a_damaged_history_is_refused_with_its_line() {
        let world = World::new();
        world.go(Step::Upgrade, "b");
        world.go(Step::Upgrade, "c");
        let path = History::path_of(&world.lock());
        let good = fs::read_to_string(&path).unwrap();
        assert_eq!(good.lines().count(), 2);
        for (bad, words) in [
            (good.replacen("\"licence\":\"mit\"", "\"licence\":\"mut\"", 1), "line 1, column 1: "),
            (good[..good.len() - 1].to_owned(), "line 2, column "),
            (good[..good.len() - 9].to_owned(), "cut off"),
            (good.replacen("\"forced\"", "\"farced\"", 1), "farced"),
            (format!("{good}\n"), "line 3, column "),
            (format!("{good}{{}}\n"), "line 3, column "),
        ] {
            fs::write(&path, bad).unwrap();
            let error = History::read(&world.lock()).unwrap_err().to_string();
            assert!(error.contains("freehold.lock.history: ") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_reason_of_any_length_and_kind_is_one_line() {
        let world = World::new();
        let (from, to) = (version("a"), version("b"));
        let (step, gate, forced) = (Step::Upgrade, None, true);
        for why in [String::new(), "two\nlines".to_owned(), "ü".repeat(5000)] {
            world.set(&from);
            let planned =
                Planned { name: "m", step, from: &from, to: &to, gate: gate.clone(), forced, why };
            History::make(&world.lock(), planned).unwrap();
            History::read(&world.lock()).unwrap();
        }
    }

    /// A history of one move, and what the lock says behind it.
    fn one_move() -> &'static (Vec<u8>, LockedModel) {
        static MADE: OnceLock<(Vec<u8>, LockedModel)> = OnceLock::new();
        MADE.get_or_init(|| {
            let world = World::new();
            world.go(Step::Upgrade, "b");
            (fs::read(History::path_of(&world.lock())).unwrap(), world.entry())
        })
    }

    proptest! {
        #[test]
        fn any_change_of_a_byte_is_read_or_refused(at in 0usize..2000, byte: u8) {
            let (good, entry) = one_move();
            let mut bytes = good.clone();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(history) = History::parse(&bytes) {
                prop_assert!(history.moves.len() <= 1);
                history.timeline("m", entry);
            }
        }
    }
}
