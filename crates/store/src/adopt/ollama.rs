//! Ollama: `manifests/HOST/NAMESPACE/MODEL/TAG` are manifests of a registry, whose layers lie in
//! `blobs/sha256-HEX`. The layer that is the model is a GGUF file; the others are texts, which are
//! kept beside it. What they ask for has no effect here: the template in the model's file counts.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Found, FoundFile, N_FOUND_MAX, Program, folder_of_variable, read_text, user_home};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::home::folders_in;
use crate::name::{ModelName, name_of_file};

const TITLE: &str = "Ollama";

/// Whose models are Ollama's own.
const LIBRARY: &str = "library";

/// What a layer's type begins with.
const LAYER: &str = "application/vnd.ollama.image.";

/// The layers that are texts, and what they are called here.
const TEXTS: [(&str, &str); 4] = [
    ("template", "template.txt"),
    ("params", "params.json"),
    ("system", "system.txt"),
    ("license", "licence.txt"),
];

pub(super) const PROGRAM: Program = Program { word: "ollama", title: TITLE, homes, find };

fn homes() -> Vec<PathBuf> {
    if let Some(folder) = folder_of_variable("OLLAMA_MODELS") {
        return vec![folder];
    }
    let own = user_home().map(|home| home.join(".ollama/models"));
    // The service that Ollama's installer makes on Linux has a user of its own.
    own.into_iter().chain([PathBuf::from("/usr/share/ollama/.ollama/models")]).collect()
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

fn find(models: &Path) -> Result<Vec<Found>, StoreError> {
    let manifests = models.join("manifests");
    let mut found = Vec::new();
    for host in sorted(&manifests)? {
        for namespace in sorted(&manifests.join(&host))? {
            for model in sorted(&manifests.join(&host).join(&namespace))? {
                let folder = manifests.join(&host).join(&namespace).join(&model);
                let entries = fs::read_dir(&folder).map_err(StoreError::io(&folder, "reading"))?;
                let mut tags: Vec<String> = entries
                    .flatten()
                    .filter(|entry| entry.path().is_file())
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .collect();
                tags.sort();
                for tag in tags {
                    if found.len() < N_FOUND_MAX {
                        let reference = [&host, &namespace, &model, &tag].map(String::as_str);
                        found.push(read(models, &folder.join(&tag), Reference(reference)));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Host, namespace, model and tag that a manifest is of.
struct Reference<'a>([&'a str; 4]);

impl Reference<'_> {
    /// `publisher/name` here: `ollama/llama3.2-1b` of `llama3.2:1b`.
    fn name(&self) -> Result<ModelName, StoreError> {
        let [_, namespace, model, tag] = self.0;
        let publisher = if namespace == LIBRARY { "ollama" } else { namespace };
        let tag = Some(tag).filter(|tag| *tag != "latest");
        let word = tag.map_or(model.to_owned(), |tag| format!("{model}-{tag}"));
        ModelName::new(publisher, &name_of_file(&word)?)
    }
}

fn read(models: &Path, path: &Path, reference: Reference<'_>) -> Found {
    let refused = |name: String, why: String| Found::new(TITLE, name, Vec::new()).refused(why);
    let [host, namespace, model, tag] = reference.0;
    let called = format!("{model}:{tag}");
    let name = match reference.name() {
        Ok(name) => name,
        Err(error) => return refused(called, error.to_string()),
    };
    let manifest = read_text(path).and_then(|text| {
        serde_json::from_str::<Manifest>(&text).map_err(|error| StoreError::BadRecord {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    });
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) => return refused(name.to_string(), error.to_string()),
    };
    match files_of(models, &manifest, name.name()) {
        Ok((files, texts, notes)) => {
            let mut found = Found::new(TITLE, name.to_string(), files);
            found.source = Some(format!("oci://{host}/{namespace}/{model}:{tag}"));
            (found.texts, found.notes) = (texts, notes);
            found
        }
        Err(why) => refused(name.to_string(), why),
    }
}

type Parts = (Vec<FoundFile>, Vec<(String, PathBuf)>, Vec<String>);

/// The model's file, its texts and what is to be said of them; or why it cannot be adopted.
fn files_of(models: &Path, manifest: &Manifest, name: &str) -> Result<Parts, String> {
    let (mut files, mut texts, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for layer in &manifest.layers {
        let Some(kind) = layer.media_type.strip_prefix(LAYER) else { continue };
        let sha256: Sha256 = layer
            .digest
            .strip_prefix("sha256:")
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("digest {:?}, expected sha256:HEX", layer.digest))?;
        let path = models.join("blobs").join(format!("sha256-{sha256}"));
        let text = TEXTS.iter().find(|(word, _)| *word == kind);
        match (kind, text) {
            ("model", _) => {
                let metadata = fs::metadata(&path);
                let n_bytes =
                    metadata.map_err(|error| format!("{}: {error}", path.display()))?.len();
                if n_bytes != layer.size {
                    let path = path.display();
                    return Err(format!("{path}: {n_bytes} bytes, expected {}", layer.size));
                }
                let file_name = format!("{name}.gguf");
                files.push(FoundFile { path, file_name, n_bytes, sha256: Some(sha256) });
            }
            ("adapter", _) => {
                return Err("it has an adapter, without which it would answer otherwise".to_owned());
            }
            ("projector", _) => notes.push("its projector stays: images are not read".to_owned()),
            (_, Some((word, file_name))) if path.is_file() => {
                texts.push((numbered(file_name, &texts), path));
                if *word != "license" {
                    notes.push(format!("its {word} is kept beside it, and has no effect here"));
                }
            }
            _ => {}
        }
    }
    match files.len() {
        1 => Ok((files, texts, notes)),
        0 => Err("it has no layer that is a model in GGUF".to_owned()),
        n => Err(format!("it has {n} layers that are models, expected 1")),
    }
}

/// `file_name`, with a number where `texts` has one of its kind: a model may have several licences.
fn numbered(file_name: &str, texts: &[(String, PathBuf)]) -> String {
    let (stem, ending) = file_name.split_once('.').unwrap_or((file_name, "txt"));
    match texts.iter().filter(|(name, _)| name.starts_with(stem)).count() {
        0 => file_name.to_owned(),
        n => format!("{stem}-{}.{ending}", n + 1),
    }
}

fn sorted(folder: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = folders_in(folder)?;
    names.sort();
    Ok(names)
}
