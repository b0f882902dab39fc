//! What an installed model is, in the words of the lock, from its manifest and its file's
//! metadata. No weight is read here; their hashes are those of the manifest until somebody hashes
//! the bytes ([`LockedModel::check_bytes`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gguf::write::put_entry;
use gguf::{Gguf, Metadata, TensorType};

use super::{
    Difference, Differences, LockedFile, LockedModel, LockedTemplate, Number, TEMPLATE_BYTES_MAX,
    said,
};
use crate::error::{ErrorKind, StoreError};
use crate::hash::{Hasher, Sha256};
use crate::home::hash_stamped;
use crate::installed::{Installed, InstalledFile, Licence};
use crate::progress::Progress;

const TEMPLATE_KEY: &str = "tokenizer.chat_template";
const TOKENIZER_KEYS: &str = "tokenizer.";

/// Most names of tensors that a lock lists; a model that repeats its layers has about 20.
const N_TENSOR_NAMES_MAX: usize = 256;

/// What a program brings to a model that runs in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// The version of its arithmetic.
    pub numerics: u32,
    /// What requests get that do not say.
    pub defaults: BTreeMap<String, Number>,
}

impl LockedModel {
    /// What `installed` is, whose files `file` has open, in a program that brings `running`.
    ///
    /// Lengths are those of the open files, hashes those of the manifest.
    ///
    /// # Errors
    /// [`StoreError::BadModel`] where a key of the metadata is not of its type.
    pub fn of(installed: &Installed, file: &Gguf, running: &Running) -> Result<Self, StoreError> {
        let text = |key: &str| {
            file.metadata().str(key).map_err(|source| StoreError::BadModel {
                place: installed.path().display().to_string(),
                source,
            })
        };
        let lengths = file.parts().map(|part| part.len() as u64);
        let lengths = lengths.map(Some).chain(std::iter::repeat(None));
        let locked_file = |(of, n_bytes): (&InstalledFile, Option<u64>)| LockedFile {
            name: readable_name(installed, &of.path),
            n_bytes: n_bytes.unwrap_or(of.n_bytes),
            sha256: of.sha256,
        };
        Ok(Self {
            publisher: plain(&installed.publisher),
            installed: None,
            source: source_of(installed),
            revision: installed.revision.as_deref().map(plain),
            licence: plain(&installed.licence.id),
            architecture: plain(text("general.architecture")?.unwrap_or_default()),
            numerics: running.numerics,
            tokenizer: tokenizer_hash(file.metadata()),
            template: text(TEMPLATE_KEY)?.map(|text| LockedTemplate {
                sha256: hash_of_text(text),
                text: (text.len() <= TEMPLATE_BYTES_MAX).then(|| text.to_owned()),
            }),
            defaults: running.defaults.clone(),
            tensors: formats(file),
            files: installed.files.iter().zip(lengths).map(locked_file).collect(),
        })
    }

    /// Hashes every byte of `files` and says in what they differ from the files of this entry;
    /// their names do not matter.
    ///
    /// # Errors
    /// [`StoreError::FileMissing`], [`StoreError::Io`].
    pub fn check_bytes(
        &self,
        files: &[PathBuf],
        progress: &dyn Progress,
    ) -> Result<Vec<Difference>, StoreError> {
        let mut out = Differences(Vec::new());
        out.line("number of files", &self.files.len().to_string(), &files.len().to_string());
        for (expected, path) in self.files.iter().zip(files) {
            let (_, n_bytes, sha256) = hash_stamped(path, progress).map_err(|error| {
                let is_gone = error.kind() == ErrorKind::NotFound;
                if is_gone { StoreError::FileMissing { path: path.clone() } } else { error }
            })?;
            let found = LockedFile { name: expected.name.clone(), n_bytes, sha256 };
            let (item, has_size) = (format!("file {}", expected.name), found.n_bytes);
            if has_size == expected.n_bytes {
                out.line(&item, &said(&expected.sha256), &said(&found.sha256));
            } else {
                // Another length shows in the hash too; both are told.
                let whole = |of: &LockedFile| format!("{} bytes, {}", of.n_bytes, said(&of.sha256));
                out.line(&item, &whole(expected), &whole(&found));
            }
        }
        Ok(out.0)
    }
}

/// Where a model came from; of a file its name alone, because on another machine, where the same
/// lock counts, it lies elsewhere.
pub(crate) fn source_of(installed: &Installed) -> String {
    let path = Path::new(&installed.source);
    if path.is_absolute() { format!("file {}", file_name(path)) } else { plain(&installed.source) }
}

/// SHA-256 of a text's bytes.
pub(super) fn hash_of_text(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

/// SHA-256 of a model's vocabulary; `None` where there is none.
///
/// It is taken over the entries of the metadata whose keys begin with `tokenizer.` and not with
/// `tokenizer.chat_template`: tokens, their types and scores, merges, special ids, the name of the
/// pre-tokenizer, whether a BOS is added. They come in the order of their keys, byte by byte, each
/// as the GGUF format (version 3) writes an entry: the key's length and bytes, the value's type,
/// the value, all little-endian. So the order in a file does not matter, and anything else does.
fn tokenizer_hash(metadata: &Metadata) -> Option<Sha256> {
    let is_meant = |key: &str| key.starts_with(TOKENIZER_KEYS) && !key.starts_with(TEMPLATE_KEY);
    let mut entries: Vec<_> = metadata.iter().filter(|(key, _)| is_meant(key)).collect();
    if entries.is_empty() {
        return None;
    }
    entries.sort_by_key(|(key, _)| *key);
    let (mut hasher, mut bytes) = (Hasher::default(), Vec::new());
    for (key, value) in entries {
        bytes.clear();
        put_entry(&mut bytes, key, value);
        hasher.update(&bytes);
    }
    Some(hasher.finish())
}

/// In which formats the tensors are, by their names with `*` for numbers.
fn formats(file: &Gguf) -> BTreeMap<String, String> {
    let mut counts = BTreeMap::<String, BTreeMap<&'static str, usize>>::new();
    for tensor in file.tensors() {
        count(&mut counts, pattern(&tensor.name), tensor.ty);
    }
    // Of a file whose tensors are all called differently only the sum is worth reading.
    if counts.len() > N_TENSOR_NAMES_MAX {
        counts.clear();
        file.tensors().iter().for_each(|tensor| count(&mut counts, "*".to_owned(), tensor.ty));
    }
    let said = |counts: BTreeMap<&str, usize>| {
        let each = counts.iter().map(|(name, n)| format!("{name} x{n}"));
        each.collect::<Vec<String>>().join(", ")
    };
    counts.into_iter().map(|(name, counts)| (name, said(counts))).collect()
}

fn count(
    counts: &mut BTreeMap<String, BTreeMap<&'static str, usize>>,
    name: String,
    ty: TensorType,
) {
    *counts.entry(name).or_default().entry(ty.name()).or_default() += 1;
}

/// A tensor's name with `*` for each part that is a number: `blk.*.attn_q.weight`.
fn pattern(name: &str) -> String {
    let part = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "*".to_owned(),
        false => plain(part),
    };
    name.split('.').map(part).collect::<Vec<String>>().join(".")
}

/// One line of what a file may say; a lock takes nothing else.
pub(super) fn plain(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
    if line.is_empty() { Licence::UNKNOWN.to_owned() } else { line }
}

/// A file's name; of one that another program keeps by its hash, what it is called as a copy.
fn readable_name(installed: &Installed, path: &Path) -> String {
    let name = file_name(path);
    let digits = name.strip_prefix("sha256-").or_else(|| name.strip_prefix("sha256:"));
    let digits = digits.unwrap_or(&name);
    match digits.parse::<Sha256>() {
        Ok(_) => format!("{}.gguf", plain(&installed.name)),
        Err(_) => name,
    }
}

fn file_name(path: &Path) -> String {
    plain(&path.file_name().unwrap_or_default().to_string_lossy())
}
