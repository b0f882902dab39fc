//! Server-sent events, read from bytes that may be cut anywhere (HTML standard, section 9.2.6,
//! "Interpreting an event stream"): of each its name and its data.

use super::following::Wrong;

/// Longest line, and most data of one event: all arguments of a large call may stand in one.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// What may stand at the beginning of a stream, and means nothing.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; empty where it has none.
    pub(super) name: String,
    /// Its lines of data.
    pub(super) data: String,
}

/// Reads a stream of events.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The line at hand, as far as it came.
    line: Vec<u8>,
    name: String,
    /// `None`: no line of data has come.
    data: Option<String>,
    /// Whether the last line ended with a carriage return, behind which a line feed is no other
    /// end.
    is_behind_cr: bool,
    /// Whether a line has come.
    is_begun: bool,
}

impl Reader {
    /// Takes the next bytes, and appends the events that end with them. What the end of a stream
    /// leaves unfinished is no event.
    ///
    /// # Errors
    /// What is no text, or too long, behind the events that were appended. Nothing is read behind
    /// it.
    pub(super) fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Wrong> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.is_behind_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let of_line = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + of_line.len() > EVENT_BYTES_MAX {
                return Err(too_long());
            }
            self.line.extend_from_slice(of_line);
            let Some(end) = end else { break };
            self.is_behind_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            events.extend(self.line(&line)?);
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Event>, Wrong> {
        let line = str::from_utf8(line).map_err(|_| Wrong::new("its events are no UTF-8"))?;
        let line = match std::mem::replace(&mut self.is_begun, true) {
            true => line,
            false => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
        };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return Ok(self.data.take().map(|data| Event { name, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) if data.len() + value.len() >= EVENT_BYTES_MAX => {
                    return Err(too_long());
                }
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            // Comments, ids, and what is of later.
            _ => {}
        }
        Ok(None)
    }
}

fn too_long() -> Wrong {
    Wrong::new(format!("an event has more than {EVENT_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Event>, Wrong> {
        let (mut reader, mut events) = (Reader::default(), Vec::new());
        for piece in pieces {
            reader.push(piece, &mut events)?;
        }
        Ok(events)
    }

    #[track_caller]
    fn check(stream: &str, expected: &[(&str, &str)]) {
        let event = |&(name, data): &(&str, &str)| Event { name: name.into(), data: data.into() };
        let expected: Vec<Event> = expected.iter().map(event).collect();
        assert_eq!(read([stream.as_bytes()]).unwrap(), expected, "{stream:?}");
        // However it is cut.
        for first in 0..stream.len() {
            let (begin, rest) = stream.as_bytes().split_at(first);
            assert_eq!(read([begin, rest]).unwrap(), expected, "{stream:?} cut at {first}");
        }
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(read(bytes).unwrap(), expected, "{stream:?} byte by byte");
    }

    #[test]
    fn events_are_read_as_the_standard_has_them() {
        check("data: a\n\n", &[("", "a")]);
        check("data:a\r\n\r\ndata:  b\r\rdata\n\n", &[("", "a"), ("", " b"), ("", "")]);
        check("event: x\ndata: é\ndata: €\n\n: no\n\nevent: y\n\n", &[("x", "é\n€")]);
        check("\u{feff}data: a\nid: 7\nretry: 1\nother\n\n", &[("", "a")]);
        check("data: a\n\ndata: cut", &[("", "a")]);
        check("data: a\r\n\r\n\r\n", &[("", "a")]);
        check("", &[]);
    }

    #[test]
    fn what_is_no_text_or_too_long_is_told() {
        let told = |bytes: &[u8]| read([bytes]).unwrap_err().to_string();
        assert_eq!(told(b"data: \xff\n"), "its events are no UTF-8");
        let long = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert!(told(&long).contains("more than 4194304 bytes"));
        let half = [b"data: ".as_slice(), &long[..EVENT_BYTES_MAX / 2], b"\n"].concat();
        assert!(told(&[&half[..], &half, &half].concat()).contains("more than 4194304 bytes"));
    }

    #[test]
    fn events_before_what_is_wrong_are_read() {
        let (mut reader, mut events) = (Reader::default(), Vec::new());
        assert!(reader.push(b"data: a\n\n\xff\n", &mut events).is_err());
        assert_eq!(events, [Event { name: String::new(), data: "a".to_owned() }]);
    }

    proptest! {
        /// Any bytes are read alike, however they are cut.
        #[test]
        fn cuts_make_no_difference(
            parts in prop::collection::vec(
                prop::sample::select(
                    vec!["data:", " a", "\n", "\r", "event: b", ":", "é", "\u{feff}"],
                ),
                0..24,
            ),
            cuts in prop::collection::vec(0_usize..80, 0..6),
        ) {
            let stream = parts.concat();
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(pieces), read([bytes]));
        }
    }
}
