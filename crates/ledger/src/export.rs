//! The ledger as lines of JSON, and the check of such lines where there is no ledger.
//!
//! The first line says what was exported, the last how many rows there were, so that a file that
//! was cut is noticed. Between them each row is a line, and each signed head one behind its row:
//!
//! ```text
//! {"export":{"format":1,"since":1,"kind":"audit"}}
//! {"left_out":{"seq":1,"content":"…","previous":"…","hash":"…"}}
//! {"row":{"seq":2,"kind":"audit","id":"…","at":…,"principal":"…","body_sha256":"…",
//!         "body":"{…}","previous":"…","hash":"…"}}
//! {"head":{"seq":2,"hash":"…","at":…,"key":"…","signature":"…"}}
//! {"end":{"rows":2}}
//! ```
//!
//! A body is the text that was hashed, as a JSON string; where it was erased, `erased_by` is the
//! row that says so. `at` is in microseconds since 1970. How the hashes are made says `chain.rs`.

use std::io::{BufRead, Read as _};

use serde::{Deserialize, Serialize};

use crate::chain::{Body, LeftOut, Row, SignedHead, Verified, Walk};
use crate::hex::{from_hex, hex};
use crate::reader::Item;
use crate::{Kind, LedgerError};

const FORMAT: u32 = 1;

/// Longest line: a body of the largest size, every byte of it escaped, and the rest of its row.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// Heads that are held in memory; a node signs fewer than 10 000 a day.
const NOTED_MAX: usize = 1 << 20;

/// What is exported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection {
    /// The first row.
    pub(crate) since: i64,
    /// Of other kinds only the hashes; erasures are always told, because they explain bodies that
    /// are missing.
    pub(crate) kind: Option<Kind>,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Export(Begin),
    Row(RowLine),
    LeftOut(LeftOutLine),
    Head(HeadLine),
    End(End),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    format: u32,
    since: i64,
    kind: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowLine {
    seq: i64,
    kind: String,
    id: String,
    at: i64,
    principal: String,
    body_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased_by: Option<i64>,
    previous: String,
    hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeftOutLine {
    seq: i64,
    content: String,
    previous: String,
    hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    seq: i64,
    hash: String,
    at: i64,
    key: String,
    signature: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    rows: i64,
}

/// Makes lines of what it is handed.
pub(crate) struct Exporter {
    selection: Selection,
    n_rows: i64,
}

impl Exporter {
    pub(crate) fn new(selection: Selection) -> Self {
        Self { selection, n_rows: 0 }
    }

    pub(crate) fn begin(&self) -> String {
        let Selection { since, kind } = self.selection;
        let kind = kind.map(|kind| kind.name().to_owned());
        text(&Line::Export(Begin { format: FORMAT, since, kind }))
    }

    pub(crate) fn line(&mut self, item: &Item) -> Result<String, LedgerError> {
        let row = match item {
            Item::Row(row) => row,
            Item::Head(head) => return Ok(Self::head(head)),
        };
        self.n_rows += 1;
        let is_told = self
            .selection
            .kind
            .is_none_or(|kind| row.kind == kind.name() || row.kind == Kind::Erasure.name());
        Ok(text(&if is_told { Line::Row(row_line(row)?) } else { Line::LeftOut(left_out(row)) }))
    }

    pub(crate) fn head(head: &SignedHead) -> String {
        text(&Line::Head(HeadLine {
            seq: head.seq,
            hash: hex(&head.hash),
            at: head.at,
            key: hex(&head.key),
            signature: hex(&head.signature),
        }))
    }

    pub(crate) fn end(&self) -> String {
        text(&Line::End(End { rows: self.n_rows }))
    }
}

fn text(line: &Line) -> String {
    serde_json::to_string(line).expect("texts and numbers are always JSON")
}

fn row_line(row: &Row) -> Result<RowLine, LedgerError> {
    let (body, erased_by) = match &row.body {
        Body::Here(body) => match std::str::from_utf8(body) {
            Ok(body) => (Some(body.to_owned()), None),
            Err(error) => {
                let reason = format!("its body is no text: {error}");
                return Err(LedgerError::Altered { seq: row.seq, reason });
            }
        },
        Body::Erased(by) => (None, Some(*by)),
        Body::Missing => (None, None),
    };
    Ok(RowLine {
        seq: row.seq,
        kind: row.kind.clone(),
        id: row.id.clone(),
        at: row.at,
        principal: row.principal.clone(),
        body_sha256: hex(&row.body_hash),
        body,
        erased_by,
        previous: hex(&row.previous),
        hash: hex(&row.hash),
    })
}

fn left_out(row: &Row) -> LeftOutLine {
    let (content, previous, hash) = (hex(&row.content()), hex(&row.previous), hex(&row.hash));
    LeftOutLine { seq: row.seq, content, previous, hash }
}

/// Checks an export as [`Reader::verify`](crate::Reader::verify) checks a ledger. An export that
/// begins with a later row is taken at its word for what stood before.
///
/// # Errors
/// [`LedgerError::Export`] for lines that are no export; what is wrong with the chain is in
/// [`Verified`].
pub fn check_export(
    lines: impl BufRead,
    trusted: &[[u8; 32]],
    noted: &[SignedHead],
) -> Result<Verified, LedgerError> {
    let mut lines = Lines { lines, n: 0, buffer: Vec::new() };
    let since = match lines.next()? {
        Some(Line::Export(Begin { format: FORMAT, since, .. })) => since,
        Some(Line::Export(Begin { format, .. })) => {
            return Err(lines.refuse(format!("format {format}, this program knows {FORMAT}")));
        }
        _ => return Err(lines.refuse("expected the first line of an export".to_owned())),
    };
    let mut walk = Walk::new(trusted, since).with_noted(noted);
    let mut n_rows = 0;
    loop {
        let outcome = match lines.next()? {
            Some(Line::Row(line)) => {
                n_rows += 1;
                let row = line.read().ok_or_else(|| lines.refuse(NOT_HEX.to_owned()))?;
                walk.row(&row)
            }
            Some(Line::LeftOut(line)) => {
                n_rows += 1;
                let row = line.read().ok_or_else(|| lines.refuse(NOT_HEX.to_owned()))?;
                walk.left_out(&row)
            }
            Some(Line::Head(line)) => {
                let head = line.read().ok_or_else(|| lines.refuse(NOT_HEX.to_owned()))?;
                walk.head(&head)
            }
            Some(Line::End(End { rows })) if rows == n_rows => break,
            Some(Line::End(End { rows })) => {
                return Err(lines.refuse(format!("{n_rows} rows came, expected {rows}")));
            }
            Some(Line::Export(_)) => {
                return Err(lines.refuse("a second export begins".to_owned()));
            }
            None => return Err(lines.refuse("the file ends before the export does".to_owned())),
        };
        if let Err(bad) = outcome {
            return Ok(walk.end(Err(bad)));
        }
    }
    match lines.next()? {
        None => Ok(walk.end(Ok(()))),
        Some(_) => Err(lines.refuse("something stands behind the end".to_owned())),
    }
}

/// Reads the heads from what [`Reader::heads`](crate::Reader::heads) or
/// [`Reader::export`](crate::Reader::export) wrote, in the order of their rows.
///
/// # Errors
/// [`LedgerError::Export`] for lines that are neither.
pub fn read_heads(lines: impl BufRead) -> Result<Vec<SignedHead>, LedgerError> {
    let mut lines = Lines { lines, n: 0, buffer: Vec::new() };
    let mut heads = Vec::new();
    while let Some(line) = lines.next()? {
        let Line::Head(line) = line else { continue };
        if heads.len() == NOTED_MAX {
            return Err(lines.refuse(format!("more than {NOTED_MAX} heads")));
        }
        heads.push(line.read().ok_or_else(|| lines.refuse(NOT_HEX.to_owned()))?);
    }
    heads.sort_by_key(|head| head.seq);
    Ok(heads)
}

const NOT_HEX: &str = "a hash, key or signature is not of as many hexadecimal digits as it has";

/// Lines of a file that may be anything.
struct Lines<R> {
    lines: R,
    n: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<Line>, LedgerError> {
        self.n += 1;
        self.buffer.clear();
        let mut line = self.lines.by_ref().take(LINE_BYTES_MAX);
        let n_read = line.read_until(b'\n', &mut self.buffer);
        match n_read.map_err(|error| self.refuse(error.to_string()))? {
            0 => Ok(None),
            n if n as u64 == LINE_BYTES_MAX => {
                Err(self.refuse(format!("longer than {LINE_BYTES_MAX} bytes")))
            }
            _ => {
                let line = serde_json::from_slice(&self.buffer);
                line.map(Some).map_err(|error| self.refuse(error.to_string()))
            }
        }
    }

    fn refuse(&self, reason: String) -> LedgerError {
        LedgerError::Export { line: self.n, reason }
    }
}

impl RowLine {
    fn read(self) -> Option<Row> {
        let body = match (self.body, self.erased_by) {
            (Some(body), _) => Body::Here(body.into_bytes()),
            (None, Some(by)) => Body::Erased(by),
            (None, None) => Body::Missing,
        };
        Some(Row {
            seq: self.seq,
            kind: self.kind,
            id: self.id,
            at: self.at,
            principal: self.principal,
            body_hash: from_hex(&self.body_sha256)?,
            previous: from_hex(&self.previous)?,
            hash: from_hex(&self.hash)?,
            body,
        })
    }
}

impl LeftOutLine {
    fn read(&self) -> Option<LeftOut> {
        let [content, previous, hash] =
            [&self.content, &self.previous, &self.hash].map(|text| from_hex(text));
        Some(LeftOut { seq: self.seq, content: content?, previous: previous?, hash: hash? })
    }
}

impl HeadLine {
    fn read(&self) -> Option<SignedHead> {
        Some(SignedHead {
            seq: self.seq,
            hash: from_hex(&self.hash)?,
            at: self.at,
            key: from_hex(&self.key)?,
            signature: from_hex(&self.signature)?,
        })
    }
}
