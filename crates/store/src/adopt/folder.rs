//! A plain folder of GGUF files, such as a person or llama.cpp keeps.

use std::path::Path;

use super::{Found, OnLinks, gguf_files, model_at};
use crate::error::StoreError;

/// What the owner of such a folder is called.
const TITLE: &str = "your folder";

pub(super) fn find(folder: &Path) -> Result<Vec<Found>, StoreError> {
    let files = gguf_files(folder, OnLinks::Follow)?;
    Ok(files.iter().map(|path| model_at(TITLE, "local", path)).collect())
}
