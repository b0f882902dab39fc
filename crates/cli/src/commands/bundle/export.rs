//! `freehold bundle export`: write a bundle.

use std::fs;
use std::path::{Path, PathBuf};

use store::{BundleFile, ExportOptions, Installed, LockFile, Store, StoreError};

use super::config;
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked;
use crate::numbers;
use crate::progress::Shown;

/// Write models, lock, settings and cases to one signed file
///
/// The file is a plain tar whose first entry lists all others with their hashes. It is signed with
/// this machine's key. Settings that may be secrets are left out, and comments with them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold bundle export office.tar
  freehold bundle export office.tar smollm2-135m --cases tests --signer office")]
pub(crate) struct Export {
    /// Where to write it
    file: PathBuf,
    /// Installed names (default: those of the lock, without one all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The lock to take along (default: ./freehold.lock, where there is one)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// The settings to take along (default: ./freehold.toml, where there is one)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Cases of `freehold test` to take along: a folder, or one file
    #[arg(long, value_name = "FOLDER|FILE")]
    cases: Option<PathBuf>,
    /// What whoever imports it is to know you by (default: the name of this machine)
    #[arg(long, value_name = "NAME")]
    signer: Option<String>,
}

impl Subcommand for Export {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        let lock = locked::read(self.lock.as_deref())?;
        let models = self.models(&store, lock.as_ref().map(|(_, file)| file))?;
        if models.is_empty() {
            let message = "no models are here, expected at least one to take along";
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        if let Some((path, _)) = &lock {
            files.push(BundleFile { path: "freehold.lock".to_owned(), text: read(path)? });
        }
        if let Some(text) = self.settings()? {
            let (text, secret) = text;
            files.push(BundleFile { path: "freehold.toml".to_owned(), text });
            left_out.extend(secret.iter().map(|key| format!("freehold.toml: {key}")));
        }
        files.extend(self.cases()?);
        for left in &left_out {
            context.note(&format!("{left}: left out, it may be a secret"));
        }
        let signer = self.signer.unwrap_or_else(machine_name);
        let options = ExportOptions { models, files, signer, left_out };
        let index = store.export(&self.file, &options, &Shown::new(context))?;
        let n_bytes = index.entries.iter().map(|entry| entry.size).sum();
        context.note(&format!(
            "{}: {} models and {} other files, {}, signed by {} with {}",
            self.file.display(),
            index.models.len(),
            options.files.len(),
            numbers::bytes(n_bytes),
            index.signer.name,
            index.signer.public_key,
        ));
        Ok(())
    }
}

impl Export {
    fn models(&self, store: &Store, lock: Option<&LockFile>) -> anyhow::Result<Vec<Installed>> {
        if !self.names.is_empty() {
            let resolve = |name: &String| match lock {
                Some(lock) => Ok(lock.resolve(store, name)?),
                None => Ok(store.resolve(name)?),
            };
            return self.names.iter().map(resolve).collect();
        }
        match lock {
            Some(lock) => {
                let full = lock.models.iter().map(|(name, of)| of.full_name(name));
                full.map(|name| Ok(store.resolve(&name)?)).collect()
            }
            None => {
                let all: Result<Vec<_>, StoreError> = store.list()?.into_iter().collect();
                Ok(all?)
            }
        }
    }

    /// The settings that may leave, and the keys of those that may not.
    fn settings(&self) -> anyhow::Result<Option<(String, Vec<String>)>> {
        let path = self.config.as_deref().unwrap_or(Path::new("freehold.toml"));
        if self.config.is_none() && !path.is_file() {
            return Ok(None);
        }
        let settings = config::public(&read(path)?).map_err(|problem| {
            Failure::new(Exit::Usage, format!("{}: {}", path.display(), problem.trim_end()))
        })?;
        Ok(Some(settings))
    }

    fn cases(&self) -> anyhow::Result<Vec<BundleFile>> {
        let Some(place) = &self.cases else { return Ok(Vec::new()) };
        let mut paths = vec![place.clone()];
        if place.is_dir() {
            let entries = fs::read_dir(place).map_err(|error| not_read(place, &error))?;
            let is_case = |path: &PathBuf| {
                let ending = path.extension().and_then(|ending| ending.to_str());
                path.is_file() && matches!(ending, Some("toml" | "jsonl"))
            };
            paths = entries.flatten().map(|entry| entry.path()).filter(is_case).collect();
            paths.sort();
        }
        let case = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok(BundleFile { path: format!("cases/{name}"), text: read(path)? })
        };
        paths.iter().map(case).collect()
    }
}

/// What the system calls this machine; the program's name where it does not say.
fn machine_name() -> String {
    let stated = fs::read_to_string("/etc/hostname").ok();
    let stated = stated.or_else(|| std::env::var("HOSTNAME").ok());
    let name = stated.or_else(|| std::env::var("COMPUTERNAME").ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "freehold".to_owned() } else { name.to_owned() }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).map_err(|error| not_read(path, &error))
}

fn not_read(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let is_gone = error.kind() == std::io::ErrorKind::NotFound;
    let exit = if is_gone { Exit::NotFound } else { Exit::Failed };
    Failure::new(exit, format!("{}: {error}", path.display())).into()
}
