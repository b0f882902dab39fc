//! LM Studio: `models/PUBLISHER/REPOSITORY/*.gguf` below its own folder, whose place is written in
//! `~/.lmstudio-home-pointer` where it was moved.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Found, OnLinks, Program, gguf_files, model_at, user_home};
use crate::error::StoreError;

const TITLE: &str = "LM Studio";

pub(super) const PROGRAM: Program = Program { word: "lmstudio", title: TITLE, homes, find };

fn homes() -> Vec<PathBuf> {
    let Some(home) = user_home() else { return Vec::new() };
    let pointer = fs::read_to_string(home.join(".lmstudio-home-pointer")).ok();
    let moved = pointer.map(|text| PathBuf::from(text.trim())).filter(|path| path.is_absolute());
    let own = moved.unwrap_or_else(|| home.join(".lmstudio")).join("models");
    // Versions up to 0.3.5 kept them with what may be thrown away.
    vec![own, home.join(".cache/lm-studio/models")]
}

fn find(models: &Path) -> Result<Vec<Found>, StoreError> {
    let files = gguf_files(models, OnLinks::Skip)?;
    let found = files.iter().map(|path| {
        let inner = path.strip_prefix(models).unwrap_or(path);
        let publisher = inner.components().next().filter(|_| inner.components().count() > 1);
        let publisher = publisher.and_then(|part| part.as_os_str().to_str()).unwrap_or("lmstudio");
        model_at(TITLE, publisher, path)
    });
    Ok(found.collect())
}
