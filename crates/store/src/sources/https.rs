//! A plain https address with a hash the user pinned.

use reqwest::Url;
use reqwest::header::CONTENT_LENGTH;

use super::http::{Client, Follow, head, named_sha256};
use super::transfer::{Download, download, signature};
use super::{Fetched, Held, Job, ModelSource};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::latest::Latest;
use crate::source::{Source, file_name_of_url, parse_url};

pub(super) struct HttpsSource<'a> {
    pub(super) url: &'a str,
    pub(super) sha256: Sha256,
}

impl ModelSource for HttpsSource<'_> {
    fn needs_network(&self) -> bool {
        true
    }

    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError> {
        let url = self.url()?;
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

    /// By the hash that the server names, else by the length.
    fn latest(&self, held: &Held<'_>) -> Result<Latest, StoreError> {
        let url = self.url()?;
        let client = Client::new(held.settings, &url, None)?;
        let response = head(&client, &url, Follow::All, held.progress)?;
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok());
        let unclear = |why: &str| Latest::Unclear { why: why.to_owned() };
        Ok(match (named_sha256(&response), length) {
            (Some(sha256), _) if sha256 == self.sha256 => Latest::Same,
            (Some(sha256), _) => Latest::Newer {
                what: format!("sha256 {sha256}"),
                source: Some(Source::Https { url: self.url.to_owned(), sha256 }),
            },
            (None, Some(n_bytes)) if held.files.iter().any(|file| file.n_bytes != n_bytes) => {
                Latest::Newer { what: format!("{n_bytes} bytes"), source: None }
            }
            (None, Some(_)) => unclear("its length is the same, and the server names no sha256"),
            (None, None) => unclear("the server names neither a length nor a sha256"),
        })
    }

    fn beside(
        &self,
        job: &Job<'_>,
        _fetched: &Fetched,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        let mut url = self.url()?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop().push(name);
        }
        signature(&Client::new(job.settings, &url, None)?, job, &url)
    }
}

impl HttpsSource<'_> {
    fn url(&self) -> Result<Url, StoreError> {
        parse_url(self.url)
            .map_err(|expected| StoreError::InvalidSource { value: self.url.to_owned(), expected })
    }
}
