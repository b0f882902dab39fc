//! One pull from its first question to the manifest: name, licence, claim, fetch, check, place.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, Entry};
use crate::claim::{Claim, WhenHeld};
use crate::error::{CREATING, ErrorKind, StoreError};
use crate::home::{PullOptions, Store, licence_of, named, now, open_model};
use crate::installed::{Installed, InstalledFile, Licence};
use crate::manifest;
use crate::name::{ModelName, name_of_file};
use crate::platform;
use crate::progress::{Progress, Silent};
use crate::record;
use crate::signers::Signed;
use crate::source::{
    Source, file_name_of_url, imported_file_name, joined_file_name, oci_name, parse_url,
};
use crate::sources::{self, Expected, Fetched, Job, ModelSource};
use crate::staging::{StagedFile, Staging};

/// Where accepted licences are recorded, below the store's home.
const ACCEPTED: &str = "accepted.toml";

/// A pull with everything settled that needs no network.
struct Plan<'a> {
    name: ModelName,
    /// Never a name of the catalogue: that stands for the entry's source.
    source: &'a Source,
    entry: Option<&'a Entry>,
}

/// See [`Store::name_of`].
pub(crate) fn name_of(source: &Source, options: &PullOptions) -> Result<ModelName, StoreError> {
    plan(source, options).map(|plan| plan.name)
}

/// See [`Store::pull`].
pub(crate) fn pull(
    store: &Store,
    source: &Source,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Installed, StoreError> {
    // A path means the same file wherever the next pull is typed.
    let absolute = match source {
        Source::File(path) => {
            Some(Source::File(fs::canonicalize(path).map_err(StoreError::io(path, "opening"))?))
        }
        _ => None,
    };
    let plan = plan(absolute.as_ref().unwrap_or(source), options)?;
    let word = plan.name.name();
    if let Some(entry) = plan.entry {
        options.terms.check_licence(word, &entry.licence.id)?;
    }
    if let Some(model) = already_here(store, &plan, options, progress)? {
        options.terms.check_licence(word, &model.licence.id)?;
        tidy(store, &plan.name);
        return Ok(model);
    }
    let accepted = settle_licence(store.home(), &plan, options)?;
    let opened = sources::open(plan.source).ok_or_else(|| StoreError::InvalidSource {
        value: plan.source.to_string(),
        expected: "expected a source, not a name that stands for one".to_owned(),
    })?;
    if opened.needs_network() && store.settings().offline {
        return Err(StoreError::Offline { source_text: source.to_string() });
    }
    let when_held = if options.no_wait { WhenHeld::Fail } else { WhenHeld::Wait };
    let _claim = Claim::take(store.home(), &plan.name, when_held, progress)?;
    // Whoever held the claim may have pulled just this.
    if let Some(model) = already_here(store, &plan, options, progress)? {
        return Ok(model);
    }
    let staging = Staging::open(store.home(), &plan.name)?;
    let folder = store.folder_of(&plan.name);
    let is_installed = store.installed(&plan.name)?.is_some();
    let job = Job {
        staging: &staging,
        // With a manifest, what stands there is a model's own file and not a leftover.
        final_folder: (!is_installed).then(|| folder.clone()),
        settings: store.settings(),
        progress,
        expected: plan.entry.map(Expected::from),
    };
    let fetched = opened.fetch(&job)?;
    let signed_by = check_signature(&plan, options, &*opened, &job, &fetched)?;
    let known = Known { accepted, signed_by, options };
    let model = place(&plan, fetched, &folder, known, staging)?;
    progress.note(&format!("{} is verified and in {}", model.full_name(), folder.display()));
    Ok(model)
}

impl From<&Entry> for Expected {
    fn from(entry: &Entry) -> Self {
        let Entry { n_bytes, sha256, download_bytes, .. } = *entry;
        Self { n_bytes, sha256, download_bytes }
    }
}

/// Settles the name and what a name of the catalogue stands for.
fn plan<'a>(source: &'a Source, options: &PullOptions) -> Result<Plan<'a>, StoreError> {
    let wish = options.name.as_deref();
    let (name, source, entry) = match source {
        Source::Catalogue(name) => {
            let entry = Catalogue::builtin().get(name)?;
            let name = named(wish, &entry.publisher, || Ok(entry.name.clone()))?;
            (name, &entry.source, Some(entry))
        }
        Source::Hub { owner, path, .. } => {
            let file_name = path.rsplit('/').next().unwrap_or(path);
            (named(wish, owner, || name_of_file(file_name))?, source, None)
        }
        Source::Pip { parts, .. } => {
            let name = || name_of_file(&joined_file_name(parts)?);
            (named(wish, "pip", name)?, source, None)
        }
        Source::Import { part, format, .. } => {
            let name = || name_of_file(&imported_file_name(part, *format));
            (named(wish, "pip", name)?, source, None)
        }
        Source::Oci { host, repo, reference, .. } => {
            let (publisher, name) = oci_name(host, repo, reference)?;
            (named(wish, &publisher, || Ok(name))?, source, None)
        }
        Source::Https { url, .. } => {
            let url = parse_url(url)
                .map_err(|expected| StoreError::InvalidSource { value: url.clone(), expected })?;
            let host = url.host_str().unwrap_or("https").trim_matches(['[', ']']).replace(':', ".");
            let name = || name_of_file(&file_name_of_url(&url)?);
            // An IPv6 address can have empty groups, which make no name.
            let host =
                host.split('.').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            (named(wish, &host, name)?, source, None)
        }
        Source::File(path) => {
            let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            (named(wish, "local", || name_of_file(file_name))?, source, None)
        }
    };
    Ok(Plan { name, source, entry })
}

/// The model if it is installed from this source and intact; a damaged one is fetched again.
fn already_here(
    store: &Store,
    plan: &Plan<'_>,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Option<Installed>, StoreError> {
    let Some(model) = store.installed(&plan.name)? else { return Ok(None) };
    // A later catalogue may name another place for the same bytes.
    let is_entry = plan.entry.is_some_and(
        |entry| matches!(model.files.as_slice(), [file] if file.sha256 == entry.sha256),
    );
    if !is_entry && model.source != plan.source.to_string() {
        let (name, source_installed) = (plan.name.to_string(), model.source);
        return Err(StoreError::NameTaken { name, source_installed });
    }
    if options.refresh {
        return Ok(None);
    }
    let wanted = options.terms.wanted(plan.name.name())?;
    if wanted.is_some_and(|wanted| !wanted.is_met_by(model.signed_by.as_deref())) {
        let name = &plan.name;
        progress.note(&format!("{name} is here, but not signed as it must be; fetching it again"));
        return Ok(None);
    }
    match store.ensure_intact(&model, progress) {
        Ok(()) => Ok(Some(model)),
        Err(error) if matches!(error.kind(), ErrorKind::Verification | ErrorKind::NotFound) => {
            progress.note(&format!("{error}; fetching the model again"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Throws away what a pull of an installed model left that was killed behind its manifest.
fn tidy(store: &Store, name: &ModelName) {
    if !Staging::folder_of(store.home(), name).is_dir() {
        return;
    }
    // Whoever holds the claim is at work there.
    if let Ok(_claim) = Claim::take(store.home(), name, WhenHeld::Fail, &Silent)
        && let Ok(staging) = Staging::open(store.home(), name)
    {
        let _ = staging.discard();
    }
}

/// Licences accepted on this machine, by id, with the day.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    #[serde(default)]
    licence: BTreeMap<String, String>,
}

/// Whether the licence may be taken as accepted; returns when it was, for licences that ask.
fn settle_licence(
    home: &Path,
    plan: &Plan<'_>,
    options: &PullOptions,
) -> Result<Option<String>, StoreError> {
    let Some(entry) = plan.entry.filter(|entry| entry.must_accept) else { return Ok(None) };
    let path = home.join(ACCEPTED);
    let mut accepted = record::read::<Accepted>(&path)?.unwrap_or_default();
    if let Some(date) = accepted.licence.get(&entry.licence.id) {
        return Ok(Some(date.clone()));
    }
    if !options.accept_licence {
        return Err(StoreError::LicenceNotAccepted {
            name: entry.name.clone(),
            licence: entry.licence.id.clone(),
            url: entry.licence.url.clone().unwrap_or_default(),
            notice: entry.licence.notice.clone(),
        });
    }
    let date = now();
    accepted.licence.insert(entry.licence.id.clone(), date.clone());
    record::write(&path, &accepted)?;
    Ok(Some(date))
}

/// What is known of a model beside what its file says.
struct Known<'a> {
    /// When its licence was accepted.
    accepted: Option<String>,
    /// Whose signature was verified.
    signed_by: Option<String>,
    /// What the caller says its licence is, and which are allowed.
    options: &'a PullOptions,
}

/// Refuses what is not signed as the owner wants; returns the key that signed it.
fn check_signature(
    plan: &Plan<'_>,
    options: &PullOptions,
    opened: &dyn ModelSource,
    job: &Job<'_>,
    fetched: &Fetched,
) -> Result<Option<String>, StoreError> {
    let Some(wanted) = options.terms.wanted(plan.name.name())? else { return Ok(None) };
    let signed = fetched.files.iter().map(|file| Signed {
        name: &file.file_name,
        path: &file.path,
        sha256: file.sha256,
    });
    let files: Vec<Signed<'_>> = signed.collect();
    let mut beside = |name: &str| opened.beside(job, fetched, name);
    let key = match opened.attached(job, fetched)? {
        Some(attached) => {
            let digest = fetched.revision.as_deref().unwrap_or_default();
            wanted.check_attached(&plan.source.to_string(), digest, &attached)?
        }
        None => wanted.check(&files, &mut beside, job.progress)?,
    };
    Ok(Some(key.to_string()))
}

/// Looks into the files, moves them to their final names and writes the manifest last.
fn place(
    plan: &Plan<'_>,
    fetched: Fetched,
    folder: &Path,
    known: Known<'_>,
    staging: Staging,
) -> Result<Installed, StoreError> {
    let first = fetched.files.first().map(|file| file.path.clone()).unwrap_or_default();
    let licence = match open_model(&first) {
        Ok(opened) => match plan.entry {
            Some(entry) => Licence { accepted: known.accepted, ..entry.licence.clone() },
            None => known.options.licence.clone().unwrap_or_else(|| licence_of(&opened)),
        },
        // Its bytes are as promised and still no model: keeping them would help nobody.
        Err(StoreError::BadModel { source, .. }) => {
            staging.discard()?;
            return Err(StoreError::BadModel { place: plan.source.to_string(), source });
        }
        Err(error) => return Err(error),
    };
    if let Err(error) = known.options.terms.check_licence(plan.name.name(), &licence.id) {
        staging.discard()?;
        return Err(error);
    }
    let model = Installed {
        name: plan.name.name().to_owned(),
        publisher: plan.name.publisher().to_owned(),
        files: Vec::new(),
        source: plan.source.to_string(),
        revision: fetched.revision,
        licence,
        adopted: false,
        signed_by: known.signed_by,
        origin: None,
        date: now(),
    };
    install(model, fetched.files, folder, staging)
}

/// Moves complete files to their final names and writes the manifest of `model` last.
pub(crate) fn install(
    mut model: Installed,
    staged: Vec<StagedFile>,
    folder: &Path,
    staging: Staging,
) -> Result<Installed, StoreError> {
    fs::create_dir_all(folder).map_err(StoreError::io(folder, CREATING))?;
    for staged in staged {
        let path = folder.join(&staged.file_name);
        fs::rename(&staged.path, &path).map_err(StoreError::io(&path, "giving its place to"))?;
        model.files.push(InstalledFile { path, n_bytes: staged.n_bytes, sha256: staged.sha256 });
    }
    for folder in folder.ancestors().take(3) {
        platform::sync_folder(folder).map_err(StoreError::io(folder, "syncing"))?;
    }
    manifest::write(folder, &model)?;
    staging.discard()?;
    Ok(model)
}
