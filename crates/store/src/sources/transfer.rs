//! One file over HTTP into staging: resumed by `Range`, retried with patience, verified at the end.

use std::io::Read;

use reqwest::blocking::Response;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, IF_RANGE, RANGE,
};
use reqwest::{Method, StatusCode, Url};

use super::Job;
use super::http::{Client, Failure, Follow, Patience, Setback, patiently, read_body, show};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::signers::SIGNATURE_BYTES_MAX;
use crate::staging::{FILE_BYTES_MAX, Identity, Partial, StagedFile};

/// Bytes taken from the connection at a time.
const READ_BYTES: usize = 256 << 10;

/// One file to fetch.
pub(super) struct Download {
    /// Where it comes from, exactly, for errors and to know the partial file again.
    pub(super) what: String,
    /// Its name in the store.
    pub(super) file_name: String,
    /// Its address.
    pub(super) url: Url,
    /// Its length, where it is known before.
    pub(super) n_bytes: Option<u64>,
    /// Its hash.
    pub(super) sha256: Sha256,
}

/// Fetches one file: what is here already is kept, what is missing is asked for.
pub(super) fn download(
    client: &Client,
    job: &Job<'_>,
    wanted: &Download,
) -> Result<StagedFile, StoreError> {
    job.progress.start(&wanted.file_name, wanted.n_bytes);
    let staged = run(client, job, wanted);
    job.progress.finish();
    staged
}

/// The text of the signature at `url`; `None` where there is none.
pub(super) fn signature(
    client: &Client,
    job: &Job<'_>,
    url: &Url,
) -> Result<Option<String>, StoreError> {
    let body = patiently(&client.settings, url, job.progress, || {
        read_body(client.send(&Method::GET, url, &[], Follow::All)?, SIGNATURE_BYTES_MAX)
    });
    match body {
        Ok(body) => Ok(Some(String::from_utf8_lossy(&body).into_owned())),
        Err(StoreError::NotAtSource { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn run(client: &Client, job: &Job<'_>, wanted: &Download) -> Result<StagedFile, StoreError> {
    let identity = Identity {
        what: wanted.what.clone(),
        sha256: Some(wanted.sha256),
        n_bytes: wanted.n_bytes,
        etag: None,
    };
    let final_path = job.final_path(&wanted.file_name);
    let mut partial =
        job.staging.partial(&wanted.file_name, identity, final_path.as_deref(), job.progress)?;
    // A length that nobody promised is learnt from the answers.
    let mut n_bytes_total = wanted.n_bytes;
    let mut patience = Patience::new(&client.settings);
    while n_bytes_total != Some(partial.n_bytes()) {
        let n_bytes_before = partial.n_bytes();
        match attempt(client, job, wanted, &mut partial, &mut n_bytes_total) {
            Ok(()) => break,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(setback)) => {
                if partial.n_bytes() > n_bytes_before {
                    patience.gained();
                }
                let reason = format!("{} at byte {}", setback.reason, partial.n_bytes());
                let setback = Setback { reason, ..setback };
                patience.again(&wanted.what, &setback, job.progress)?;
            }
        }
    }
    partial.complete()
}

/// One request; `Ok` when the body came to its end.
fn attempt(
    client: &Client,
    job: &Job<'_>,
    wanted: &Download,
    partial: &mut Partial<'_>,
    n_bytes_total: &mut Option<u64>,
) -> Result<(), Failure> {
    let response = client.send(&Method::GET, &wanted.url, &range_headers(partial), Follow::All)?;
    let place = show(response.url());
    let answer = match response.status() {
        StatusCode::PARTIAL_CONTENT => content_range(&response),
        StatusCode::RANGE_NOT_SATISFIABLE => None,
        // 200: the whole file. The server knows no ranges, or the content is another by now.
        _ => Some((0, content_length(&response))),
    };
    let starts_well = answer.is_some_and(|(start, _)| start == partial.n_bytes());
    if !starts_well && partial.n_bytes() > 0 {
        job.progress.note("the server begins again at the first byte");
        job.progress.finish();
        job.progress.start(&wanted.file_name, wanted.n_bytes);
        partial.restart()?;
    }
    let Some((start, total)) = answer.filter(|(start, _)| *start == partial.n_bytes()) else {
        let reason = format!("the answer does not begin at byte {}", partial.n_bytes());
        return Err(Failure::passing(reason));
    };
    if let Some(found) = total {
        let expected = partial.n_bytes_promised().unwrap_or(found).min(FILE_BYTES_MAX);
        if found != expected {
            return Err(StoreError::SizeMismatch { path: place.into(), expected, found }.into());
        }
        *n_bytes_total = Some(found);
        let needed_bytes = found - start;
        let what = format!("{} ({found} bytes, {start} of them here)", wanted.file_name);
        job.staging.ask_space(needed_bytes, &what)?;
    }
    partial.set_etag(strong_etag(&response))?;
    receive(response, partial, *n_bytes_total)
}

/// Takes the body; the end before the promised length is a passing failure.
fn receive(
    mut response: Response,
    partial: &mut Partial<'_>,
    n_bytes_total: Option<u64>,
) -> Result<(), Failure> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let n_read = match response.read(&mut buffer) {
            Ok(n_read) => n_read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let reason = format!("the connection broke: {error}");
                return Err(Failure::passing(reason));
            }
        };
        if n_read == 0 {
            break;
        }
        partial.append(&buffer[..n_read])?;
    }
    match n_bytes_total {
        Some(total) if partial.n_bytes() < total => {
            let reason = format!("the connection ended before byte {total}");
            Err(Failure::passing(reason))
        }
        _ => Ok(()),
    }
}

/// Asks for the rest only, and only of the same content (RFC 9110, sections 13.1.5 and 14.2).
fn range_headers(partial: &Partial<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if partial.n_bytes() > 0 {
        let range = HeaderValue::try_from(format!("bytes={}-", partial.n_bytes()));
        headers.extend(range.ok().map(|range| (RANGE, range)));
        let etag = partial.etag().and_then(|etag| HeaderValue::try_from(etag).ok());
        headers.extend(etag.map(|etag| (IF_RANGE, etag)));
    }
    headers
}

/// Start and full length of `Content-Range: bytes START-END/LENGTH`.
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    Some((start, length.trim().parse().ok()))
}

fn content_length(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The validator that may stand in `If-Range`; a weak one may not.
fn strong_etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(ETAG)?.to_str().ok()?;
    (etag.starts_with('"') && etag.len() <= 256).then(|| etag.to_owned())
}
