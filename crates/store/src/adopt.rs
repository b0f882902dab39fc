//! Models that other programs keep on this machine, found where they lie and taken over in place.
//!
//! A model's files become hard links where their file system is that of the store, and are used
//! where they lie elsewhere; they are never copied, and nothing of the other program's is written,
//! renamed or removed. One more program is a file below and a line in [`Program::ALL`].

mod folder;
mod huggingface;
mod lmstudio;
mod ollama;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::checked::Verified;
use crate::claim::{Claim, WhenHeld};
use crate::error::{CREATING, StoreError};
use crate::hash::Sha256;
use crate::home::{Store, check_signed, hash_stamped, licence_of, now, open_model};
use crate::installed::{Installed, InstalledFile, Licence, Origin};
use crate::manifest;
use crate::name::{ModelName, check_file_name, part_names, split_numbers};
use crate::platform::{self, Stamp};
use crate::progress::Progress;
use crate::record;
use crate::signers::Terms;

/// The folder of a model in which the texts lie that came with it.
pub(crate) const CARRIED: &str = "carried";

/// Models that one place may have; what is behind them is not looked at.
const N_FOUND_MAX: usize = 10_000;

/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 8;

/// Longest manifest, template or licence of another program. Theirs have some KiB.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A program whose models can be adopted.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The word to ask for it by.
    pub word: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// Where it may keep its models on this machine; not all of these need to be there.
    homes: fn() -> Vec<PathBuf>,
    /// What it has in one of them.
    find: fn(&Path) -> Result<Vec<Found>, StoreError>,
}

/// A model that another program has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the program is called.
    pub owner: String,
    /// Who published it, and what it is called here.
    pub name: String,
    /// Its files as they lie there; of a split model all parts, in order.
    pub files: Vec<FoundFile>,
    /// Where it comes from, where the program knows, in the syntax of [`crate::Source`].
    pub source: Option<String>,
    /// The commit that it is of.
    pub revision: Option<String>,
    /// What came with it, by file name: templates, parameters, licences.
    pub texts: Vec<(String, PathBuf)>,
    /// What a person should know about it.
    pub notes: Vec<String>,
    /// Why it cannot be adopted.
    pub refused: Option<String>,
}

/// A file of a model that another program has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is to be called here.
    pub file_name: String,
    /// Its length in bytes.
    pub n_bytes: u64,
    /// The hash that the other program keeps it by.
    pub sha256: Option<Sha256>,
}

impl Program {
    /// All programs that are known.
    pub const ALL: &[Self] = &[ollama::PROGRAM, lmstudio::PROGRAM, huggingface::PROGRAM];

    /// The models that the program has on this machine.
    ///
    /// # Errors
    /// [`StoreError::Io`] where its folder is there and cannot be read.
    pub fn find(&self) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        for home in (self.homes)().iter().filter(|home| home.is_dir()) {
            found.extend((self.find)(home)?);
        }
        Ok(found)
    }
}

impl Found {
    /// The models in `path`: one of the programs' folders, else any with GGUF files in it.
    ///
    /// # Errors
    /// [`StoreError::Io`] where it cannot be read.
    pub fn in_folder(path: &Path) -> Result<Vec<Self>, StoreError> {
        let path = fs::canonicalize(path).map_err(StoreError::io(path, "opening"))?;
        let looks_like = |program: &&Program| match program.word {
            "ollama" => path.join("manifests").is_dir() && path.join("blobs").is_dir(),
            "huggingface" => huggingface::is_home(&path),
            _ => false,
        };
        match Program::ALL.iter().find(looks_like) {
            Some(program) => (program.find)(&path),
            None => folder::find(&path),
        }
    }

    /// All files together, in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.n_bytes).sum()
    }

    /// A model of `files`, of which nothing else is known.
    fn new(owner: &str, name: String, files: Vec<FoundFile>) -> Self {
        Self {
            owner: owner.to_owned(),
            name,
            files,
            source: None,
            revision: None,
            texts: Vec::new(),
            notes: Vec::new(),
            refused: None,
        }
    }

    fn refused(mut self, why: impl Into<String>) -> Self {
        self.refused = Some(why.into());
        self
    }
}

impl Store {
    /// Adopts a model of another program; returns it at once when it is here already.
    ///
    /// # Errors
    /// [`StoreError::InvalidSource`] where it cannot be adopted, [`StoreError::HashMismatch`] where
    /// the program's own hash is not that of its bytes, else as [`Store::add`]. Signatures lie
    /// beside the other program's files and bear their names.
    pub fn adopt(
        &self,
        found: &Found,
        terms: &Terms,
        progress: &dyn Progress,
    ) -> Result<Installed, StoreError> {
        let first = found.files.first().map(|file| file.path.clone()).unwrap_or_default();
        if let Some(why) = &found.refused {
            let (value, expected) = (found.name.clone(), why.clone());
            return Err(StoreError::InvalidSource { value, expected });
        }
        let (publisher, word) = found.name.split_once('/').unwrap_or(("local", &found.name));
        let name = ModelName::new(publisher, word)?;
        let opened = open_model(&first)?;
        let source = found.source.clone().unwrap_or_else(|| first.display().to_string());
        let _claim = Claim::take(self.home(), &name, WhenHeld::Wait, progress)?;
        if let Some(model) = self.installed(&name)? {
            if model.source != source {
                let (name, source_installed) = (name.to_string(), model.source);
                return Err(StoreError::NameTaken { name, source_installed });
            }
            let wanted = terms.wanted(word)?;
            let is_signed = wanted.is_none_or(|of| of.is_met_by(model.signed_by.as_deref()));
            if is_signed && self.ensure_intact(&model, progress).is_ok() {
                return Ok(model);
            }
        }
        let mut licence = licence_of(&opened);
        if licence.id == Licence::UNKNOWN {
            licence = stated(&found.texts).unwrap_or(licence);
        }
        terms.check_licence(word, &licence.id)?;
        let hashed = hash(&found.files, progress)?;
        let looked = hashed.iter().map(|(of, stamp, _, sha256)| (&*of.path, *stamp, *sha256));
        let signed_by = check_signed(terms, &name, &looked.collect::<Vec<_>>(), progress)?;
        let folder = self.folder_of(&name);
        let (files, verified, is_linked) = take(&folder, hashed)?;
        let model = Installed {
            name: name.name().to_owned(),
            publisher: name.publisher().to_owned(),
            files,
            source,
            revision: found.revision.clone(),
            licence,
            adopted: !is_linked,
            signed_by,
            origin: Some(Origin { owner: found.owner.clone(), path: first }),
            date: now(),
        };
        carry(&folder, &found.texts)?;
        manifest::write(&folder, &model)?;
        verified.write(&folder);
        Ok(model)
    }
}

/// A file, what it looked like before it was hashed, its length and its hash.
type Hashed<'a> = (&'a FoundFile, Stamp, u64, Sha256);

/// Hashes the files where they lie.
fn hash<'a>(
    found: &'a [FoundFile],
    progress: &dyn Progress,
) -> Result<Vec<Hashed<'a>>, StoreError> {
    let mut hashed = Vec::new();
    for file in found {
        let (stamp, n_bytes, sha256) = hash_stamped(&file.path, progress)?;
        if let Some(expected) = file.sha256.filter(|expected| *expected != sha256) {
            let (path, found) = (file.path.clone(), sha256);
            return Err(StoreError::HashMismatch { path, expected, found });
        }
        hashed.push((file, stamp, n_bytes, sha256));
    }
    Ok(hashed)
}

/// Links all files into `folder`, or uses them as they are where a link cannot be: on another file
/// system, or where the system refuses one.
fn take(
    folder: &Path,
    hashed: Vec<Hashed<'_>>,
) -> Result<(Vec<InstalledFile>, Verified, bool), StoreError> {
    fs::create_dir_all(folder).map_err(StoreError::io(folder, CREATING))?;
    let is_linked = hashed
        .iter()
        .all(|(file, stamp, ..)| link(&file.path, &folder.join(&file.file_name), stamp).is_ok());
    if !is_linked {
        for (file, ..) in &hashed {
            let linked = folder.join(&file.file_name);
            // Where the store's own folder is adopted, this is the file itself.
            if fs::canonicalize(&linked).ok() != fs::canonicalize(&file.path).ok() {
                let _ = fs::remove_file(linked);
            }
        }
    }
    let mut verified = Verified::default();
    let mut files = Vec::new();
    for (file, stamp, n_bytes, sha256) in hashed {
        let linked = folder.join(&file.file_name);
        let path = if is_linked { linked } else { absolute(&file.path)? };
        let file = InstalledFile { path, n_bytes, sha256 };
        // A link changes what the file looks like, not its bytes.
        let stamp = fs::metadata(&file.path).map_or(stamp, |metadata| Stamp::of(&metadata));
        verified.remember(&file, stamp);
        files.push(file);
    }
    platform::sync_folder(folder).map_err(StoreError::io(folder, "syncing"))?;
    Ok((files, verified, is_linked))
}

/// Makes `to` a hard link to the file at `path`, which must still be the one that was hashed. Else
/// what was there before stays.
fn link(path: &Path, to: &Path, hashed: &Stamp) -> std::io::Result<()> {
    let changed = || std::io::Error::other("the file changed while it was adopted");
    // What a symbolic link leads to: a hard link to the link itself would end with its target.
    let path = fs::canonicalize(path)?;
    // Named as unfinished records are, so that a collection finds what a kill leaves.
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = to.with_file_name(name);
    let _ = fs::remove_file(&temporary);
    let linked = (|| {
        fs::hard_link(&path, &temporary)?;
        let linked = Stamp::of(&fs::metadata(&temporary)?);
        let is_same = (linked.n_bytes, linked.mtime_ns, linked.inode, linked.device)
            == (hashed.n_bytes, hashed.mtime_ns, hashed.inode, hashed.device);
        if is_same { fs::rename(&temporary, to) } else { Err(changed()) }
    })();
    // A rename onto a link to the same file does nothing and leaves this one.
    let _ = fs::remove_file(&temporary);
    linked
}

fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    // Not canonical: behind a link of the Hugging Face cache lies a file without a readable name.
    std::path::absolute(path).map_err(StoreError::io(path, "finding"))
}

/// Keeps the texts that came with a model beside it.
fn carry(folder: &Path, texts: &[(String, PathBuf)]) -> Result<(), StoreError> {
    for (file_name, path) in texts {
        record::write_text(&folder.join(CARRIED).join(file_name), &read_text(path)?)?;
    }
    Ok(())
}

/// The licence whose text came with a model, by the text's first line.
fn stated(texts: &[(String, PathBuf)]) -> Option<Licence> {
    /// Longest name of a licence, in characters.
    const N_CHARS_MAX: usize = 80;
    let (_, path) = texts.iter().find(|(name, _)| name.starts_with("licence"))?;
    let text = read_text(path).ok()?;
    let words = text.split_whitespace().take(40).collect::<Vec<_>>().join(" ").to_lowercase();
    let id = if words.starts_with("apache license version 2.0") {
        "apache-2.0".to_owned()
    } else if words.starts_with("mit license") {
        "mit".to_owned()
    } else {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        line.chars().filter(|c| !c.is_control()).take(N_CHARS_MAX).collect()
    };
    Some(Licence { id, ..Licence::unknown() })
}

/// Reads a small text of another program's.
fn read_text(path: &Path) -> Result<String, StoreError> {
    let file = File::open(path).map_err(StoreError::io(path, "opening"))?;
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(StoreError::io(path, "reading"))?;
    let bad = |reason: String| StoreError::BadRecord { path: path.to_owned(), reason };
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(bad(format!("expected at most {TEXT_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| bad(error.to_string()))
}

/// The GGUF files below `folder`, by their path in it; of a split model the first part only.
fn gguf_files(folder: &Path, on_links: OnLinks) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(StoreError::io(&folder, "reading"))?;
        for entry in entries.flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            let Ok(kind) = kind else { continue };
            if kind.is_dir() {
                if depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                }
                continue;
            }
            // A link to a folder could lead in a circle.
            let is_file = kind.is_file() || (on_links == OnLinks::Follow && path.is_file());
            let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if is_file && is_first(file_name) && found.len() < N_FOUND_MAX {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether links to files are files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnLinks {
    Follow,
    Skip,
}

/// Whether a name is that of a model's first or only file.
fn is_first(file_name: &str) -> bool {
    let before_count = file_name.rsplit_once("-of-").map_or("", |(before, _)| before);
    let is_first_part = split_numbers(file_name).is_none() || before_count.ends_with("-00001");
    check_file_name(file_name).is_ok() && is_first_part
}

/// The model whose first file is at `path`.
fn model_at(owner: &str, publisher: &str, path: &Path) -> Found {
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let word = crate::name::name_of_file(file_name);
    let name = match word.and_then(|word| ModelName::new(publisher, &word)) {
        Ok(name) => name.to_string(),
        Err(error) => {
            return Found::new(owner, file_name.to_owned(), Vec::new()).refused(error.to_string());
        }
    };
    let names = part_names(file_name).unwrap_or_default();
    let file = |file_name: &String| {
        let path = path.with_file_name(file_name);
        let n_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        FoundFile { path, file_name: file_name.clone(), n_bytes, sha256: None }
    };
    let found = Found::new(owner, name, names.iter().map(file).collect());
    match found.files.iter().find(|file| !file.path.is_file()) {
        Some(missing) => {
            let why = format!("{}: this part is not here", missing.path.display());
            found.refused(why)
        }
        None if file_name.to_ascii_lowercase().starts_with("mmproj") => {
            found.refused("it makes vectors of images for another model, and answers nothing")
        }
        None => found,
    }
}

/// The user's own folder, below which programs keep theirs.
fn user_home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// A folder that an environment variable names.
fn folder_of_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
