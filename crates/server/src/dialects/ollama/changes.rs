//! `POST /api/pull`, `/api/create`, `/api/copy` and `DELETE /api/delete`: what changes which models
//! there are; and what is asked for by `POST /api/show`.

use super::{line, settings};
use crate::dialects::fields::{Field, Fields, missing};
use crate::dialects::{Delivery, Paths};
use crate::errors::BadRequest;
use crate::library::Work;
use serde::Serialize;

const NO_RECIPES: &str = "a model is made of another as it is; settings go with each request";
const NO_FILES: &str = "files are not taken over HTTP: `freehold add FILE` on this machine";

/// What becomes of the fields of each route; of any other the response tells.
pub(crate) const PULL_FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
    Field::honoured("stream").flag().note("it is streamed unless this is false"),
    // It allows what is never done.
    Field::ignored("insecure"),
    Field::refused("username", "credentials are the server's own"),
    Field::refused("password", "credentials are the server's own"),
];
pub(crate) const CREATE_FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
    Field::honoured("from").text(),
    Field::honoured("stream").flag().note("it is streamed unless this is false"),
    Field::refused("files", NO_FILES),
    Field::refused("adapters", NO_FILES),
    Field::refused("path", NO_FILES),
    Field::refused("modelfile", NO_RECIPES),
    Field::refused("template", NO_RECIPES),
    Field::refused("system", NO_RECIPES),
    Field::refused("parameters", NO_RECIPES),
    Field::refused("messages", NO_RECIPES),
    Field::refused("license", "a copy keeps its licence"),
    Field::refused("quantize", "this server does not quantise"),
    Field::refused("quantization", "this server does not quantise"),
    Field::refused("renderer", NO_RECIPES),
    Field::refused("parser", NO_RECIPES),
    Field::ignored("requires"),
    Field::ignored("info"),
    Field::refused("remote_host", "this server calls no other servers"),
];
pub(crate) const COPY_FIELDS: &[Field] =
    &[Field::honoured("source").text(), Field::honoured("destination").text()];
pub(crate) const DELETE_FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
];
pub(crate) const SHOW_FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
    // Vocabularies and lists of tensors are not shown.
    Field::ignored("verbose"),
    // Once what was to be shown as if it were the model's.
    Field::ignored("system"),
    Field::ignored("template"),
    Field::ignored("options"),
];

/// What is to become of the models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// This one comes.
    Pull { name: String },
    /// This one is also there under another name.
    Copy { from: String, to: String },
    /// This one goes.
    Delete { name: String },
}

/// A request for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChangeRequest {
    pub(crate) change: Change,
    /// Whole: how it ended. Of those that have no stream the end has no words.
    pub(crate) delivery: Delivery,
    pub(crate) has_words: bool,
    pub(crate) ignored: Paths,
}

/// How far a change has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
}

impl Told {
    /// A word and no more.
    fn word(status: &str) -> Self {
        Self { status: status.to_owned(), ..Self::default() }
    }

    /// So many bytes of `work` are done.
    pub(crate) fn of(work: &Work, n_done: u64) -> Self {
        let short = work.digest.as_ref().and_then(|digest| digest.get(..12));
        let what = short.unwrap_or(&work.what);
        let status = match work.digest {
            Some(_) => format!("pulling {what}"),
            None => work.what.clone(),
        };
        Self {
            status,
            digest: work.digest.as_ref().map(|digest| format!("sha256:{digest}")),
            total: work.total,
            // Packed files can be a little longer than was promised.
            completed: Some(work.total.map_or(n_done, |total| n_done.min(total))),
        }
    }

    /// The line that says it.
    pub(crate) fn line(&self) -> String {
        line(self)
    }
}

impl ChangeRequest {
    /// What a stream begins with.
    pub(crate) fn begin(&self) -> String {
        match &self.change {
            Change::Pull { .. } => Told::word("pulling manifest").line(),
            Change::Copy { .. } | Change::Delete { .. } => String::new(),
        }
    }

    /// What a stream ends with when all went well. By then each of it is done: clients show the
    /// words.
    pub(crate) fn end(&self) -> String {
        let words: &[&str] = match &self.change {
            Change::Pull { .. } => &["verifying sha256 digest", "writing manifest", "success"],
            Change::Copy { .. } | Change::Delete { .. } => &["writing manifest", "success"],
        };
        words.iter().map(|word| Told::word(word).line()).collect()
    }

    /// The whole answer when all went well.
    pub(crate) fn whole(&self) -> String {
        if self.has_words { Told::word("success").line() } else { String::new() }
    }
}

/// Reads the body of `POST /api/pull`.
pub(crate) fn read_pull(body: &[u8]) -> Result<ChangeRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let ignored = fields.treat(PULL_FIELDS)?;
    let name = settings::take_model(&mut fields)?;
    streamed(fields, ignored, Change::Pull { name })
}

/// Reads the body of `POST /api/create`.
pub(crate) fn read_create(body: &[u8]) -> Result<ChangeRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let ignored = fields.treat(CREATE_FIELDS)?;
    let to = settings::take_model(&mut fields)?;
    let from = fields.text("from")?.filter(|from| !from.is_empty());
    let from = from.ok_or_else(|| missing("from", "the name of a model"))?;
    streamed(fields, ignored, Change::Copy { from, to })
}

/// Reads the body of `POST /api/copy`.
pub(crate) fn read_copy(body: &[u8]) -> Result<ChangeRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let ignored = fields.treat(COPY_FIELDS)?;
    let mut take = |name: &str| {
        let text = fields.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| missing(name, "the name of a model"))
    };
    let change = Change::Copy { from: take("source")?, to: take("destination")? };
    Ok(silent(fields, ignored, change))
}

/// Reads the body of `DELETE /api/delete`.
pub(crate) fn read_delete(body: &[u8]) -> Result<ChangeRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let ignored = fields.treat(DELETE_FIELDS)?;
    let name = settings::take_model(&mut fields)?;
    Ok(silent(fields, ignored, Change::Delete { name }))
}

/// Reads the body of `POST /api/show`: the model's name, and the paths of what has no effect.
pub(crate) fn read_show(body: &[u8]) -> Result<(String, Paths), BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(SHOW_FIELDS)?.into_iter().collect();
    let name = settings::take_model(&mut fields)?;
    ignored.extend(fields.rest());
    Ok((name, ignored))
}

fn streamed(
    mut fields: Fields,
    ignored: Vec<String>,
    change: Change,
) -> Result<ChangeRequest, BadRequest> {
    let delivery = match fields.flag("stream")? {
        Some(false) => Delivery::Whole,
        Some(true) | None => Delivery::Stream,
    };
    let ignored = ignored.into_iter().chain(fields.rest()).collect();
    Ok(ChangeRequest { change, delivery, has_words: true, ignored })
}

fn silent(fields: Fields, ignored: Vec<String>, change: Change) -> ChangeRequest {
    let ignored = ignored.into_iter().chain(fields.rest()).collect();
    ChangeRequest { change, delivery: Delivery::Whole, has_words: false, ignored }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: Result<ChangeRequest, BadRequest>, expected: Result<(Change, Delivery), &str>) {
        let found = read.map(|request| (request.change, request.delivery));
        let found = found.map_err(|bad| bad.param.unwrap());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn requests_are_read_or_refused_by_field() {
        let own = |name: &str| name.to_owned();
        let pull = || Change::Pull { name: own("m") };
        check(read_pull(br#"{"model":"m"}"#), Ok((pull(), Delivery::Stream)));
        check(read_pull(br#"{"name":"m","stream":false}"#), Ok((pull(), Delivery::Whole)));
        let insecure = read_pull(br#"{"model":"m","insecure":true,"x":1}"#).unwrap();
        assert_eq!(insecure.ignored.kept(), ["insecure", "x"]);
        check(read_pull(b"{}"), Err("model"));
        check(read_pull(br#"{"model":"m","username":"u"}"#), Err("username"));
        let copy = || Change::Copy { from: own("a"), to: own("b") };
        let body = br#"{"source":"a","destination":"b"}"#;
        check(read_copy(body), Ok((copy(), Delivery::Whole)));
        check(read_copy(br#"{"source":"a"}"#), Err("destination"));
        check(read_create(br#"{"model":"b","from":"a"}"#), Ok((copy(), Delivery::Stream)));
        check(read_create(br#"{"model":"b"}"#), Err("from"));
        let body = br#"{"model":"b","from":"a","system":"Be brief."}"#;
        check(read_create(body), Err("system"));
        let body = br#"{"model":"b","files":{"m.gguf":"sha256:00"}}"#;
        check(read_create(body), Err("files"));
        let delete = Change::Delete { name: own("m") };
        check(read_delete(br#"{"name":"m"}"#), Ok((delete, Delivery::Whole)));
        assert_eq!(read_show(br#"{"model":"m","verbose":true}"#).unwrap().1.kept(), ["verbose"]);
        assert_eq!(read_show(b"{}").unwrap_err().param.as_deref(), Some("model"));
    }

    #[test]
    fn progress_is_told_in_the_words_clients_look_for() {
        let work = |digest: Option<&str>, total| Work {
            what: "unpacking m.gguf".to_owned(),
            digest: digest.map(str::to_owned),
            total,
        };
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(
            Told::of(&work(Some(&digest), Some(10)), 12).line(),
            format!(
                "{{\"status\":\"pulling 0123456789ab\",\"digest\":\"sha256:{digest}\",\
                 \"total\":10,\"completed\":10}}\n"
            )
        );
        assert_eq!(
            Told::of(&work(None, None), 7).line(),
            "{\"status\":\"unpacking m.gguf\",\"completed\":7}\n"
        );
        let pull = read_pull(br#"{"model":"m"}"#).unwrap();
        assert_eq!(pull.begin(), "{\"status\":\"pulling manifest\"}\n");
        assert!(pull.end().ends_with("{\"status\":\"success\"}\n"));
        assert_eq!(pull.whole(), "{\"status\":\"success\"}\n");
        assert_eq!(read_delete(br#"{"model":"m"}"#).unwrap().whole(), "");
    }
}
