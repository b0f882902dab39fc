//! A plain https address with a hash the user pinned.

use super::http::Client;
use super::transfer::{Download, download};
use super::{Fetched, Job, ModelSource};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::source::{file_name_of_url, parse_url};

pub(super) struct HttpsSource<'a> {
    pub(super) url: &'a str,
    pub(super) sha256: Sha256,
}

impl ModelSource for HttpsSource<'_> {
    fn needs_network(&self) -> bool {
        true
    }

    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError> {
        let url = parse_url(self.url).map_err(|expected| StoreError::InvalidSource {
            value: self.url.to_owned(),
            expected,
        })?;
        let client = Client::new(job.settings, &url, None)?;
        let file = download(
            &client,
            job,
            &Download {
                what: self.url.to_owned(),
                file_name: file_name_of_url(&url)?,
                url,
                n_bytes: None,
                sha256: self.sha256,
            },
        )?;
        Ok(Fetched { files: vec![file], revision: None })
    }
}
