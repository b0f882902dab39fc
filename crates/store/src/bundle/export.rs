//! Writes a bundle: the index is known before, so that every byte is written once, in order.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::archive::{END, INDEX, SIGNATURE, headers, padding, signed_bytes};
use super::index::{BundleEntry, BundleIndex, BundledModel, FORMAT, Signer};
use super::{BundleFile, ExportOptions};
use crate::error::StoreError;
use crate::hash::{CHUNK_BYTES, Hasher, Sha256};
use crate::home::Store;
use crate::lockfile::source_of;
use crate::platform;
use crate::progress::Progress;
use crate::signature::SigningKey;

/// Where the bytes of an entry come from.
enum Content<'a> {
    Text(&'a str),
    File(PathBuf),
}

impl Store {
    /// Writes models and texts to one file at `path`, signed with this machine's key, which is made
    /// at first use. Every byte of the models is held against its pin on the way.
    ///
    /// # Errors
    /// [`StoreError::FileInTheWay`], [`StoreError::NoSpace`], [`StoreError::HashMismatch`] of a
    /// model that is not as pinned; nothing has the final name then.
    pub fn export(
        &self,
        path: &Path,
        options: &ExportOptions,
        progress: &dyn Progress,
    ) -> Result<BundleIndex, StoreError> {
        if path.exists() {
            return Err(StoreError::FileInTheWay { path: path.to_owned() });
        }
        let key = SigningKey::load_or_create(self.home())?;
        let (index, contents) = plan(options, &key);
        let text = serde_json::to_vec_pretty(&index).expect("names and numbers are JSON");
        // Read as whoever imports it will: what they would refuse is refused here.
        BundleIndex::parse(&text).map_err(|problem| StoreError::BadBundle {
            path: path.to_owned(),
            place: INDEX.to_owned(),
            problem,
        })?;
        let n_bytes = index.entries.iter().map(|entry| entry.size).sum();
        ask_space(path, n_bytes)?;
        let signature = format!("{}\n", key.sign(&signed_bytes(&text)));
        let part = part_of(path);
        let mut writer = Writer { file: create(&part)?, path: part.clone(), progress };
        let written = (|| {
            writer.whole(INDEX, &text)?;
            writer.whole(SIGNATURE, signature.as_bytes())?;
            for (entry, content) in index.entries.iter().zip(&contents) {
                writer.entry(entry, content)?;
            }
            writer.bytes(&END)?;
            writer.file.sync_all().map_err(StoreError::io(&part, "syncing"))?;
            fs::rename(&part, path).map_err(StoreError::io(path, "giving its name to"))
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            // A file that is not as pinned is told with the program whose file it is.
            let origin = options.models.iter().find(|model| {
                let is_its = |path: &Path| model.files.iter().any(|file| file.path == path);
                matches!(&error, StoreError::HashMismatch { path, .. } if is_its(path))
            });
            return Err(error.about_file_of(origin.and_then(|model| model.origin.as_ref())));
        }
        Ok(index)
    }
}

/// The index, and where the bytes of its entries are.
fn plan<'a>(options: &'a ExportOptions, key: &SigningKey) -> (BundleIndex, Vec<Content<'a>>) {
    let (mut entries, mut contents) = (Vec::new(), Vec::new());
    for BundleFile { path, text } in &options.files {
        let mut hasher = Hasher::default();
        hasher.update(text.as_bytes());
        let (path, size, sha256) = (path.clone(), text.len() as u64, hasher.finish());
        entries.push(BundleEntry { path, size, sha256 });
        contents.push(Content::Text(text));
    }
    let mut models = Vec::new();
    for model in &options.models {
        let bundled = BundledModel {
            publisher: model.publisher.clone(),
            name: model.name.clone(),
            source: source_of(model),
            revision: model.revision.clone(),
            licence: model.licence.clone(),
            signed_by: model.signed_by.clone(),
        };
        for file in &model.files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            // The cache of another program may have a file without an ending.
            let ending = if name.ends_with(".gguf") { "" } else { ".gguf" };
            let path = format!("{}{name}{ending}", bundled.folder());
            entries.push(BundleEntry { path, size: file.n_bytes, sha256: file.sha256 });
            contents.push(Content::File(file.path.clone()));
        }
        models.push(bundled);
    }
    let signer = Signer { name: options.signer.clone(), public_key: key.public() };
    let left_out = options.left_out.clone();
    (BundleIndex { format: FORMAT, signer, models, entries, left_out }, contents)
}

/// What a bundle is called until it is whole; the process's number keeps two writers apart.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn create(path: &Path) -> Result<File, StoreError> {
    File::create_new(path).map_err(StoreError::io(path, "creating"))
}

fn ask_space(path: &Path, n_bytes: u64) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    // Headers are small beside what is left free for others.
    let needed_bytes = n_bytes.saturating_add(1 << 20);
    match platform::free_bytes(folder) {
        Some(free_bytes) if free_bytes < needed_bytes => Err(StoreError::NoSpace {
            path: folder.to_owned(),
            what: format!("a bundle of {n_bytes} bytes"),
            needed_bytes,
            free_bytes,
        }),
        _ => Ok(()),
    }
}

/// A bundle in the making.
struct Writer<'p> {
    file: File,
    path: PathBuf,
    progress: &'p dyn Progress,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(|error| {
            if platform::is_disk_full(&error) {
                return StoreError::DiskFull { path: self.path.clone(), n_bytes_kept: 0 };
            }
            StoreError::io(&self.path, "writing")(error)
        })
    }

    fn whole(&mut self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes(&headers(path, bytes.len() as u64))?;
        self.bytes(bytes)?;
        self.bytes(&vec![0; padding(bytes.len() as u64)])
    }

    fn entry(&mut self, entry: &BundleEntry, content: &Content<'_>) -> Result<(), StoreError> {
        match content {
            Content::Text(text) => self.whole(&entry.path, text.as_bytes()),
            Content::File(path) => {
                self.progress.start(&format!("packing {}", entry.path), Some(entry.size));
                let copied = self.copy(entry, path);
                self.progress.finish();
                copied
            }
        }
    }

    /// Copies a model's file and holds it against its pin.
    fn copy(&mut self, entry: &BundleEntry, path: &Path) -> Result<(), StoreError> {
        self.bytes(&headers(&entry.path, entry.size))?;
        let mut file = File::open(path).map_err(StoreError::io(path, "opening"))?;
        let mut hasher = Hasher::default();
        let mut n_bytes = 0;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let n_read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n_read) => n_read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StoreError::io(path, "reading")(error)),
            };
            n_bytes += n_read as u64;
            hasher.update(&buffer[..n_read]);
            self.bytes(&buffer[..n_read])?;
            self.progress.advance(n_read as u64);
            if n_bytes > entry.size {
                break;
            }
        }
        let (found, expected): (Sha256, Sha256) = (hasher.finish(), entry.sha256);
        if n_bytes != entry.size || found != expected {
            return Err(StoreError::HashMismatch { path: path.to_owned(), expected, found });
        }
        self.bytes(&vec![0; padding(entry.size)])
    }
}
