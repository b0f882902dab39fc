//! A body of several parts, as forms send them (`multipart/form-data`, RFC 7578), read from a
//! stream as it comes: no part is ever in memory as a whole, whatever its length.
//!
//! It knows no HTTP and no files. What is between the parts is bounded, so is what says what a part
//! is; how long a part may be is for whoever takes its bytes.

use crate::dialects::fields::short;
use crate::errors::{BadRequest, ServerError};
use std::io::{self, Read};

/// Longest boundary (RFC 2046, 5.1.1).
const N_BOUNDARY_BYTES: usize = 70;
/// Most bytes that are in front of the first part, behind the last one, or say what a part is.
const N_BETWEEN_BYTES: usize = 8 << 10;
/// Most parts: a form that this server reads has three.
const N_PARTS: usize = 16;
/// Bytes asked of the stream at once.
const N_READ_BYTES: usize = 64 << 10;

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The field's.
    pub(crate) name: String,
    /// Of a file.
    pub(crate) file_name: Option<String>,
}

/// The parts, one after the other.
pub(crate) struct Multipart<R> {
    source: R,
    /// What was read and not taken: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    /// A line break, two dashes and the boundary: what ends a part.
    delimiter: Vec<u8>,
    n_parts: usize,
    place: Place,
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In front of the first delimiter.
    Front,
    /// In a part's bytes.
    Part,
    /// Behind a delimiter.
    Delimiter,
    /// Behind the last one.
    End,
}

/// The boundary that a `Content-Type` names.
pub(crate) fn boundary(content_type: &str) -> Result<String, BadRequest> {
    let wrong = |expected: &str| {
        let problem = format!("{:?}: expected {expected}", short(content_type));
        BadRequest { param: None, ..BadRequest::field("content-type", &problem) }
    };
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(wrong("multipart/form-data"));
    }
    let boundary = parameter(parameters, "boundary").filter(|boundary| {
        let is_allowed = |byte: u8| (b' '..=b'~').contains(&byte);
        (1..=N_BOUNDARY_BYTES).contains(&boundary.len()) && boundary.bytes().all(is_allowed)
    });
    boundary.ok_or_else(|| wrong("a boundary of 1 to 70 characters in ASCII"))
}

/// The parameter `name` of a header's value, of those behind its first word; quoted or not.
fn parameter(mut rest: &str, name: &str) -> Option<String> {
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (found, value) = rest.split_once('=')?;
        let mut text = String::new();
        rest = match value.strip_prefix('"') {
            Some(quoted) => {
                let mut chars = quoted.char_indices();
                loop {
                    match chars.next()? {
                        (end, '"') => break &quoted[end + 1..],
                        (_, '\\') => text.push(chars.next()?.1),
                        (_, char) => text.push(char),
                    }
                }
            }
            None => {
                let end = value.find(';').unwrap_or(value.len());
                text.push_str(value[..end].trim());
                &value[end..]
            }
        };
        if found.trim().eq_ignore_ascii_case(name) {
            return Some(text);
        }
    }
}

fn wrong(problem: &str) -> ServerError {
    let message = format!("body: {problem}");
    BadRequest { param: None, message, code: Some("invalid_form") }.into()
}

impl<R: Read> Multipart<R> {
    /// The parts of `source`, which `boundary` is between.
    pub(crate) fn new(source: R, boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter may stand at the very beginning, without its line break.
        let buffer = b"\r\n".to_vec();
        Self { source, buffer, start: 0, delimiter, n_parts: 0, place: Place::Front }
    }

    /// The next part; what is left of the one before is passed over. `None` behind the last one,
    /// when the body is at its end.
    pub(crate) fn next_part(&mut self) -> Result<Option<Part>, ServerError> {
        match self.place {
            Place::Front => self.take(N_BETWEEN_BYTES, "before the first part", |_| Ok(()))?,
            Place::Part => self.take(usize::MAX, "", |_| Ok(()))?,
            Place::Delimiter => {}
            Place::End => return Ok(None),
        }
        self.need(2, "behind a boundary")?;
        if self.rest().starts_with(b"--") {
            self.place = Place::End;
            self.end()?;
            return Ok(None);
        }
        self.n_parts += 1;
        if self.n_parts > N_PARTS {
            return Err(wrong(&format!("more than {N_PARTS} parts, expected at most that")));
        }
        let head = self.head()?;
        self.place = Place::Part;
        part_of(&head).map(Some)
    }

    /// Hands the bytes of the part on to `sink`, as they come.
    pub(crate) fn read_part(
        &mut self,
        sink: impl FnMut(&[u8]) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        match self.place {
            Place::Part => self.take(usize::MAX, "", sink),
            _ => Ok(()),
        }
    }

    /// The part's bytes as a text of at most `n_max` bytes.
    pub(crate) fn text(&mut self, name: &str, n_max: usize) -> Result<String, ServerError> {
        let mut bytes = Vec::new();
        self.read_part(|more| {
            if bytes.len() + more.len() > n_max {
                let problem = format!("longer than {n_max} bytes, expected at most that");
                return Err(BadRequest::field(&short(name), &problem).into());
            }
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        let text = String::from_utf8(bytes);
        text.map_err(|_| BadRequest::field(&short(name), "expected a text in UTF-8").into())
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads more; `false` at the end of the stream.
    fn fill(&mut self) -> Result<bool, ServerError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let n_before = self.buffer.len();
        self.buffer.resize(n_before + N_READ_BYTES, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[n_before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(n_before + read.as_ref().map_or(0, |n_bytes| *n_bytes));
        Ok(read.map_err(failure)? > 0)
    }

    fn need(&mut self, n_bytes: usize, place: &str) -> Result<(), ServerError> {
        while self.rest().len() < n_bytes {
            if !self.fill()? {
                return Err(wrong(&format!("it ends {place}, expected a last boundary")));
            }
        }
        Ok(())
    }

    /// Hands on at most `n_max` bytes up to the next delimiter, and stands behind that.
    fn take(
        &mut self,
        n_max: usize,
        place: &str,
        mut sink: impl FnMut(&[u8]) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        let mut n_taken = 0_usize;
        loop {
            let n_delimiter = self.delimiter.len();
            let rest = &self.buffer[self.start..];
            let found = rest.windows(n_delimiter).position(|window| window == self.delimiter);
            // A delimiter may have come in part.
            let n_sure = found.unwrap_or(rest.len().saturating_sub(n_delimiter - 1));
            n_taken += n_sure;
            if n_taken > n_max {
                return Err(wrong(&format!("more than {n_max} bytes {place}")));
            }
            if n_sure > 0 {
                sink(&rest[..n_sure])?;
            }
            self.start += n_sure;
            if found.is_some() {
                self.start += n_delimiter;
                self.place = Place::Delimiter;
                return Ok(());
            }
            self.need(self.rest().len() + 1, "within a part")?;
        }
    }

    /// The lines that say what a part is.
    fn head(&mut self) -> Result<String, ServerError> {
        const BLANK: &[u8] = b"\r\n\r\n";
        loop {
            let found = self.rest().windows(BLANK.len()).position(|window| window == BLANK);
            if found.unwrap_or(self.rest().len()) > N_BETWEEN_BYTES {
                let problem = format!("more than {N_BETWEEN_BYTES} bytes of headers of a part");
                return Err(wrong(&problem));
            }
            if let Some(n_bytes) = found {
                let head = String::from_utf8(self.rest()[..n_bytes].to_vec());
                // The last of these bytes may be the first of a delimiter: the part is empty.
                self.start += n_bytes + BLANK.len() - 2;
                let head = head.map_err(|_| wrong("headers of a part: expected UTF-8"))?;
                if !self.starts_with_delimiter()? {
                    self.start += 2;
                }
                return Ok(head);
            }
            self.need(self.rest().len() + 1, "within the headers of a part")?;
        }
    }

    fn starts_with_delimiter(&mut self) -> Result<bool, ServerError> {
        while self.rest().len() < self.delimiter.len() && self.delimiter.starts_with(self.rest()) {
            self.need(self.rest().len() + 1, "within a part")?;
        }
        Ok(self.rest().starts_with(&self.delimiter))
    }

    /// Passes over what is behind the last part.
    fn end(&mut self) -> Result<(), ServerError> {
        let mut n_bytes = 0;
        loop {
            n_bytes += self.rest().len();
            self.start = self.buffer.len();
            if n_bytes > N_BETWEEN_BYTES + N_READ_BYTES {
                return Err(wrong("more behind the last part, expected its end"));
            }
            if !self.fill()? {
                return Ok(());
            }
        }
    }
}

/// What the headers of a part say.
fn part_of(head: &str) -> Result<Part, ServerError> {
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then(|| value.trim().to_owned())
    };
    let disposition = head.split("\r\n").find_map(header).unwrap_or_default();
    let (kind, parameters) = disposition.split_once(';').unwrap_or((&disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        let problem = "a part without \"content-disposition: form-data\", expected that";
        return Err(wrong(problem));
    }
    let name = parameter(parameters, "name");
    let name = name.ok_or_else(|| wrong("a part without a name, expected one"))?;
    Ok(Part { name, file_name: parameter(parameters, "filename") })
}

/// What went wrong with a stream, which may say so in our own words.
fn failure(error: io::Error) -> ServerError {
    match error.downcast::<ServerError>() {
        Ok(own) => own,
        Err(error) => wrong(&error.to_string()),
    }
}

/// The name of a part, its file's name, and its bytes.
pub type WholePart = (String, Option<String>, Vec<u8>);

/// All parts of a body by name, with their files' names and their bytes, read `n_bytes` at a time:
/// they are the same however the body arrives.
///
/// # Errors
/// The message of what is wrong with it.
pub fn read_all(body: &[u8], boundary: &str, n_bytes: usize) -> Result<Vec<WholePart>, String> {
    struct Slowly<'a>(&'a [u8], usize);
    impl Read for Slowly<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n_bytes = self.1.min(out.len());
            self.0.read(&mut out[..n_bytes])
        }
    }
    let mut form = Multipart::new(Slowly(body, n_bytes), boundary);
    let mut parts = Vec::new();
    while let Some(part) = form.next_part().map_err(|error| error.to_string())? {
        let mut bytes = Vec::new();
        let sink = |more: &[u8]| {
            bytes.extend_from_slice(more);
            Ok(())
        };
        form.read_part(sink).map_err(|error| error.to_string())?;
        parts.push((part.name, part.file_name, bytes));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of a part, its file's name, and its text.
    type Told<'a> = (&'a str, Option<&'a str>, &'a str);

    /// The parts, or the message; the same whatever comes at once.
    fn check(body: &str, expected: Result<&[Told<'_>], &str>) {
        let expected = expected.map(|parts| {
            let own = |(name, file, text): &Told<'_>| {
                ((*name).to_owned(), file.map(str::to_owned), text.as_bytes().to_vec())
            };
            parts.iter().map(own).collect::<Vec<_>>()
        });
        for n_bytes in [1, 2, 3, 7, 1 << 20] {
            let found = read_all(body.as_bytes(), "xyz", n_bytes);
            assert_eq!(found, expected.clone().map_err(str::to_owned), "{n_bytes}: {body:?}");
        }
    }

    fn part(disposition: &str, text: &str) -> String {
        format!("--xyz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{text}\r\n")
    }

    #[test]
    fn parts_are_the_same_however_they_arrive() {
        let file = "name=\"file\"; filename=\"a \\\"b\\\".jsonl\"\r\nContent-Type: text/plain";
        let both = part("name=purpose", "batch") + &part(file, "{}\r\n--xy\r\n\r\n--xyx\n");
        let whole: &[_] = &[
            ("purpose", None, "batch"),
            ("file", Some("a \"b\".jsonl"), "{}\r\n--xy\r\n\r\n--xyx\n"),
        ];
        check(&format!("{both}--xyz--"), Ok(whole));
        check(&format!("a front\r\n{both}--xyz--\r\nan end"), Ok(whole));
        check(&format!("{}--xyz--\r\n", part("name=\"a\"", "")), Ok(&[("a", None, "")]));
        // Without the empty line's line break a part is empty too.
        check(
            "--xyz\r\ncontent-disposition:form-data;name=a\r\n\r\n--xyz--",
            Ok(&[("a", None, "")]),
        );
        check("--xyz--\r\n", Ok(&[]));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let ends = "body: it ends within a part, expected a last boundary";
        check("", Err(ends));
        check("{}", Err(ends));
        check(&part("name=a", "b"), Err(ends));
        check(
            "--xyz\r\nContent-Disp",
            Err("body: it ends within the headers of a part, expected a last boundary"),
        );
        check(&part("filename=b", "b"), Err("body: a part without a name, expected one"));
        let other = "body: a part without \"content-disposition: form-data\", expected that";
        check("--xyz\r\nContent-Type: a/b\r\n\r\n--xyz--", Err(other));
        let front = "x".repeat(N_BETWEEN_BYTES + 1);
        let problem = format!("body: more than {N_BETWEEN_BYTES} bytes before the first part");
        check(&format!("{front}\r\n--xyz--"), Err(&problem));
        let many = part("name=a", "").repeat(N_PARTS + 1);
        check(&format!("{many}--xyz--"), Err("body: more than 16 parts, expected at most that"));
        let long = part(&format!("name=\"{front}\""), "");
        let problem = format!("body: more than {N_BETWEEN_BYTES} bytes of headers of a part");
        check(&format!("{long}--xyz--"), Err(&problem));
    }

    #[test]
    fn the_boundary_is_found_where_it_is_named() {
        let check = |content_type: &str, expected: Option<&str>| {
            assert_eq!(boundary(content_type).ok().as_deref(), expected, "{content_type}");
        };
        check("multipart/form-data; boundary=abc", Some("abc"));
        check("Multipart/Form-Data;charset=utf-8 ; Boundary=\"a;b\" ", Some("a;b"));
        check("multipart/form-data", None);
        check("multipart/form-data; boundary=", None);
        check("multipart/form-data; boundary=\"a", None);
        check("application/json", None);
        check(&format!("multipart/form-data; boundary={}", "a".repeat(71)), None);
    }
}
