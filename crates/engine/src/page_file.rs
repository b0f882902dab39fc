//! A KV page as a file: what names it, what stands in it, and whether to believe it.
//!
//! A file is a header of fixed length, the page as `KvPool::page_to_bytes` gives it, and the
//! SHA-256 of both; numbers are little-endian. The header holds all that the page's bits depend
//! on: the program, the arithmetic, the form of the cache, the model, the scope, the tokens and
//! what precedes them. So it is known beforehand, byte for byte, and a file is believed only
//! where it has the same. A page's key is a SHA-256 over the key before it and its tokens, and that
//! of a scope's beginning one over everything else; the key is the file's name.

use crate::private_folder;
use crate::request::CacheScope;
use kernels::{KvFormat, KvShape, NUMERICS_VERSION, PAGE_LEN};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;

/// What every file begins with.
const MAGIC: [u8; 8] = *b"FHKVPAGE";
/// Of this layout.
const VERSION: u32 = 1;
/// What the header holds, in order: the words for it, and its length in bytes.
const FIELDS: [(&str, usize); 10] = [
    ("magic", MAGIC.len()),
    ("version of the format", 4),
    ("version of the program", DIGEST_LEN),
    ("version of the arithmetic", 4),
    ("form of the cache", 16),
    ("model", DIGEST_LEN),
    ("scope", 12),
    ("page before", DIGEST_LEN),
    ("tokens", 4 * PAGE_LEN),
    ("length", 8),
];
const HEADER_LEN: usize =
    8 + 4 + DIGEST_LEN + 4 + 16 + DIGEST_LEN + 12 + DIGEST_LEN + 4 * PAGE_LEN + 8;
const DIGEST_LEN: usize = 32;
/// How much of a model's file one thread hashes at a time.
const CHUNK_BYTES: usize = 16 << 20;
/// Extension of the files.
const EXTENSION: &str = "kvpage";

/// Names a page by all tokens up to its end and everything else that its bits depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PageKey([u8; DIGEST_LEN]);

impl PageKey {
    /// The key of the page with these tokens behind the one that this key names.
    pub(crate) fn next(self, tokens: &[u32]) -> Self {
        let mut hash = Sha256::new_with_prefix(self.0);
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        Self(hash.finalize().into())
    }

    /// The name of its file.
    pub(crate) fn file_name(self) -> String {
        format!("{self}.{EXTENSION}")
    }

    /// The key of which this is the file's name.
    pub(crate) fn of_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.as_bytes();
        let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 2 * DIGEST_LEN || !digits.iter().all(is_digit) {
            return None;
        }
        let mut key = [0; DIGEST_LEN];
        for (byte, digits) in key.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(key))
    }
}

impl fmt::Display for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the bits of all pages of an engine depend on beside tokens.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// SHA-256 of what tells the model's weights from all others.
    pub(crate) model: [u8; DIGEST_LEN],
    pub(crate) shape: KvShape,
}

impl Origin {
    /// What the first page of a scope comes after; `None` where the scope does not outlast the
    /// process. With a `secret`, so that the names of files do not tell who knows a text.
    pub(crate) fn start(&self, scope: CacheScope, secret: &[u8]) -> Option<PageKey> {
        if !matches!(scope, CacheScope::Shared | CacheScope::Lasting(_)) {
            return None;
        }
        let mut hash = Sha256::new_with_prefix(secret);
        hash.update(self.begin(scope));
        Some(PageKey(hash.finalize().into()))
    }

    /// Bytes of a page's file.
    pub(crate) fn file_len(&self) -> u64 {
        (HEADER_LEN + self.shape.page_bytes() + DIGEST_LEN) as u64
    }

    /// The header of a page's file.
    pub(crate) fn header(&self, scope: CacheScope, before: PageKey, tokens: &[u32]) -> Vec<u8> {
        let mut header = self.begin(scope);
        header.extend(before.0);
        header.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        header.extend((self.shape.page_bytes() as u64).to_le_bytes());
        debug_assert_eq!(header.len(), HEADER_LEN);
        header
    }

    /// The part of the header that all pages of a scope have.
    fn begin(&self, scope: CacheScope) -> Vec<u8> {
        let KvShape { n_layers, n_kv_heads, head_dim, format } = self.shape;
        let format = match format {
            KvFormat::F16 => 0,
            KvFormat::Q8 => 1,
        };
        let (tag, id) = match scope {
            CacheScope::Lasting(id) => (1u32, id),
            CacheScope::Shared | CacheScope::Key(_) | CacheScope::Off => (0, 0),
        };
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        // Whatever a release changes in how a model is read need not be thought of here.
        header.extend(Sha256::digest(env!("CARGO_PKG_VERSION")));
        for number in [NUMERICS_VERSION, format] {
            header.extend(number.to_le_bytes());
        }
        for number in [n_layers, n_kv_heads, head_dim] {
            header.extend((number as u32).to_le_bytes());
        }
        header.extend(self.model);
        header.extend(tag.to_le_bytes());
        header.extend(id.to_le_bytes());
        header
    }
}

/// SHA-256 of what tells a model from all others: a digest that is known, else the bytes of its
/// files. These are hashed in chunks, by several threads, and the hash is over the chunks' hashes.
pub(crate) fn model_digest(known: Option<&str>, parts: &[&[u8]], n_threads: usize) -> [u8; 32] {
    if let Some(known) = known {
        return Sha256::new_with_prefix("digest:").chain_update(known).finalize().into();
    }
    let mut hash = Sha256::new_with_prefix("files:");
    parts.iter().for_each(|part| hash.update((part.len() as u64).to_le_bytes()));
    let chunks: Vec<&[u8]> = parts.iter().flat_map(|part| part.chunks(CHUNK_BYTES)).collect();
    let n_each = chunks.len().div_ceil(n_threads).max(1);
    let digests = |own: &[&[u8]]| own.iter().flat_map(Sha256::digest).collect::<Vec<u8>>();
    thread::scope(|scope| {
        let spawn = |own| (own, thread::Builder::new().spawn_scoped(scope, move || digests(own)));
        let shares: Vec<_> = chunks.chunks(n_each).map(spawn).collect();
        for (own, thread) in shares {
            // What got no thread is done here.
            let done = thread.ok().and_then(|thread| thread.join().ok());
            hash.update(done.unwrap_or_else(|| digests(own)));
        }
    });
    hash.finalize().into()
}

/// Writes a page's file beside its name and gives it the name when it is complete. It need not
/// outlast a crash of the system: then its checksum fails.
pub(crate) fn write(folder: &Path, key: PageKey, header: &[u8], page: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!("{key}.partial"));
    let written = private_folder::create(&partial).and_then(|mut file| {
        let checksum = Sha256::new_with_prefix(header).chain_update(page).finalize();
        file.write_all(header)?;
        file.write_all(page)?;
        file.write_all(&checksum)?;
        // The system's own stamps are too coarse to tell which of two pages was used last.
        file.set_modified(std::time::SystemTime::now())?;
        fs::rename(&partial, folder.join(key.file_name()))
    });
    if written.is_err() {
        // What cannot be removed is removed when the folder is opened next.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Whether `name` is one that [`write`] uses before a file is complete.
pub(crate) fn is_partial(name: &str) -> bool {
    let stem = name.strip_suffix(".partial");
    stem.is_some_and(|stem| PageKey::of_file_name(&format!("{stem}.{EXTENSION}")).is_some())
}

/// Why a page cannot be had from its file.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// There is no file, which may be at any time.
    Absent,
    /// It cannot be read, or is not what it must be; the reason.
    Bad(String),
}

/// Reads the page of this key, whose file must begin with `header` and be of `file_len` bytes.
pub(crate) fn read(
    folder: &Path,
    key: PageKey,
    header: &[u8],
    file_len: u64,
) -> Result<Vec<u8>, Unusable> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Absent,
        _ => Unusable::Bad(error.to_string()),
    };
    let path = folder.join(key.file_name());
    // A link may lead to what never ends or blocks.
    let metadata = fs::symlink_metadata(&path).map_err(io)?;
    if !metadata.is_file() {
        return Err(Unusable::Bad("not a plain file".to_owned()));
    }
    if metadata.len() != file_len {
        let n_bytes = metadata.len();
        return Err(Unusable::Bad(format!("{n_bytes} bytes, expected {file_len}")));
    }
    let mut bytes = Vec::with_capacity(file_len as usize);
    private_folder::options()
        .read(true)
        .open(&path)
        .map_err(io)?
        .take(file_len)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    verify(&mut bytes, header, file_len).map_err(Unusable::Bad)?;
    Ok(bytes)
}

/// Checks a file's bytes and leaves the page.
fn verify(bytes: &mut Vec<u8>, header: &[u8], file_len: u64) -> Result<(), String> {
    if bytes.len() as u64 != file_len {
        return Err(format!("cut short at {} bytes, expected {file_len}", bytes.len()));
    }
    let mut start = 0;
    for (name, len) in FIELDS {
        if bytes[start..start + len] != header[start..start + len] {
            return Err(format!("{name}: not what was looked for (a file of another kind)"));
        }
        start += len;
    }
    let content_len = bytes.len() - DIGEST_LEN;
    let checksum = Sha256::digest(&bytes[..content_len]);
    if bytes[content_len..] != checksum[..] {
        return Err("the checksum does not fit: damaged".to_owned());
    }
    bytes.truncate(content_len);
    bytes.drain(..header.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        let shape = KvShape { n_layers: 1, n_kv_heads: 1, head_dim: 16, format: KvFormat::Q8 };
        Origin { model: [7; 32], shape }
    }

    const TOKENS: [u32; PAGE_LEN] = [9; PAGE_LEN];

    /// Writes a page and returns its key, its header and its file's bytes.
    fn written(folder: &Path) -> (PageKey, Vec<u8>, Vec<u8>) {
        let start = origin().start(CacheScope::Lasting(5), b"secret").unwrap();
        let key = start.next(&TOKENS);
        let header = origin().header(CacheScope::Lasting(5), start, &TOKENS);
        let page: Vec<u8> = (0..origin().shape.page_bytes()).map(|i| (i * 31) as u8).collect();
        write(folder, key, &header, &page).unwrap();
        let found = read(folder, key, &header, origin().file_len()).unwrap();
        assert_eq!(found, page);
        let bytes = fs::read(folder.join(key.file_name())).unwrap();
        assert_eq!(bytes.len() as u64, origin().file_len());
        (key, header, bytes)
    }

    #[test]
    fn keys_differ_in_all_that_the_bits_depend_on() {
        let origin = origin();
        let start = |origin: &Origin, scope, secret: &[u8]| origin.start(scope, secret);
        let own = start(&origin, CacheScope::Lasting(5), b"a").unwrap();
        let other_model = Origin { model: [8; 32], ..origin.clone() };
        let shape = KvShape { format: KvFormat::F16, ..origin.shape };
        let others = [
            start(&origin, CacheScope::Lasting(6), b"a"),
            start(&origin, CacheScope::Shared, b"a"),
            start(&origin, CacheScope::Lasting(5), b"b"),
            start(&other_model, CacheScope::Lasting(5), b"a"),
            start(&Origin { shape, ..origin.clone() }, CacheScope::Lasting(5), b"a"),
        ];
        for other in others {
            assert_ne!(other, Some(own));
            assert_ne!(other.unwrap().next(&TOKENS), own.next(&TOKENS));
        }
        assert_ne!(own.next(&TOKENS), own.next(&TOKENS).next(&TOKENS));
        for scope in [CacheScope::Key(5), CacheScope::Off] {
            assert_eq!(start(&origin, scope, b"a"), None);
        }
        assert_eq!(PageKey::of_file_name(&own.file_name()), Some(own));
        let name = own.file_name();
        for name in ["", "secret", &name[1..], &name.to_uppercase(), &format!("{name}x")] {
            assert_eq!(PageKey::of_file_name(name), None, "{name}");
        }
        assert!(is_partial(&format!("{own}.partial")) && !is_partial(&name));
    }

    #[test]
    fn files_that_differ_in_one_bit_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (key, header, bytes) = written(folder.path());
        let path = folder.path().join(key.file_name());
        let check = |bytes: &[u8], expected: &str| {
            fs::write(&path, bytes).unwrap();
            match read(folder.path(), key, &header, origin().file_len()) {
                Err(Unusable::Bad(reason)) => assert!(reason.starts_with(expected), "{reason}"),
                other => panic!("{expected}: {other:?}"),
            }
        };
        let ends = FIELDS.iter().scan(0, |end, (_, len)| Some((*end += len, *end).1));
        let ends: Vec<usize> = ends.collect();
        assert_eq!(ends.last(), Some(&HEADER_LEN));
        for place in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1 << (place % 8);
            let field = ends.iter().position(|&end| place < end);
            check(&bytes, field.map_or("the checksum", |field| FIELDS[field].0));
        }
        for n_bytes in [0, 1, HEADER_LEN, bytes.len() - 1] {
            check(&bytes[..n_bytes], &format!("{n_bytes} bytes, expected"));
        }
        check(&[bytes.clone(), vec![0]].concat(), &format!("{} bytes", bytes.len() + 1));
        fs::remove_file(&path).unwrap();
        let absent = read(folder.path(), key, &header, origin().file_len());
        assert!(matches!(absent, Err(Unusable::Absent)));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_their_owners_and_links_are_not_followed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (key, header, bytes) = written(folder.path());
        let path = folder.path().join(key.file_name());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the file itself is left");
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, bytes).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let linked = read(folder.path(), key, &header, origin().file_len());
        assert!(matches!(linked, Err(Unusable::Bad(reason)) if reason == "not a plain file"));
    }

    #[test]
    fn models_are_told_apart_by_digest_or_by_every_byte() {
        let large = vec![3; 2 * CHUNK_BYTES + 5];
        let mut other = large.clone();
        other[CHUNK_BYTES] ^= 1;
        let digest = |known, parts: &[&[u8]]| {
            let found = model_digest(known, parts, 1);
            assert_eq!(model_digest(known, parts, 2), found);
            found
        };
        let all = [
            digest(None, &[b"one model"]),
            digest(None, &[b"one mode1"]),
            digest(None, &[b"one ", b"model"]),
            digest(None, &[&large]),
            digest(None, &[&other]),
            digest(Some("x"), &[b"one model"]),
            digest(Some("y"), &[b"one model"]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one));
        }
        assert_eq!(digest(Some("x"), &[b"one mode1"]), all[5]);
    }
}
