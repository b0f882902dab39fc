//! How a request's body is packed (`Content-Encoding`), and what comes out of it.
//!
//! zstd is RFC 8878, and its windows are at most what RFC 9659 lets a client of HTTP use.

use crate::errors::{BadRequest, ServerError};
use axum::http::{HeaderMap, HeaderValue, header};
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Read};

/// Largest window of a zstd frame: memory that a few bytes can ask for (RFC 9659, section 3).
const ZSTD_WINDOW_MAX: u64 = 8 << 20;

/// What a body is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Nothing.
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// As the headers say.
    ///
    /// # Errors
    /// For any other, and for several, one in the other.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ServerError> {
        let said = headers.get_all(header::CONTENT_ENCODING).into_iter();
        let said = said.map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
        match said.to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"zstd" => Ok(Self::Zstd),
            _ => Err(ServerError::BodyEncoded(String::from_utf8_lossy(&said).into())),
        }
    }

    /// What comes out of `packed`, as it is read.
    pub(super) fn reader<'a>(self, packed: impl Read + 'a) -> Box<dyn Read + 'a> {
        match self {
            Self::Identity => Box::new(packed),
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Zstd => Box::new(Zstd::new(packed)),
        }
    }

    /// What was packed. The bound holds for what comes out: a thousand times as much may.
    ///
    /// # Errors
    /// Where more than `limit` bytes come out, and where it is not packed as was said.
    pub(super) fn unpack(self, packed: &[u8], limit: usize) -> Result<Vec<u8>, ServerError> {
        let (name, code) = match self {
            Self::Identity => ("an unencoded body", "invalid_body"),
            Self::Gzip => ("gzip", "invalid_gzip"),
            Self::Zstd => ("zstd", "invalid_zstd"),
        };
        let mut bytes = Vec::new();
        let mut unpacked = self.reader(packed).take(limit as u64 + 1);
        unpacked.read_to_end(&mut bytes).map_err(|e| BadRequest {
            param: None,
            message: format!("body: expected {name}, as content-encoding says: {e}"),
            code: Some(code),
        })?;
        if bytes.len() > limit { Err(ServerError::BodyTooLarge { limit }) } else { Ok(bytes) }
    }
}

/// Frames of zstd, one after the other; what is in between to be skipped is.
struct Zstd<R> {
    packed: BufReader<R>,
    decoder: FrameDecoder,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first frame, which there must be.
    Start,
    Frame,
    Between,
}

impl<R: Read> Zstd<R> {
    fn new(packed: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_MAX);
        Self { packed: BufReader::new(packed), decoder, place: Place::Start }
    }

    /// Begins the next frame; false where there is none.
    fn begin(&mut self) -> io::Result<bool> {
        use FrameDecoderError::ReadFrameHeaderError as Header;
        loop {
            if self.place == Place::Between && self.packed.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => {
                    self.place = Place::Frame;
                    return Ok(true);
                }
                Err(Header(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = &mut (&mut self.packed).take(length.into());
                    if io::copy(skipped, &mut io::sink())? < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.place = Place::Between;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Checks what the frame that has ended says of its content.
    fn end(&mut self) -> io::Result<()> {
        self.place = Place::Between;
        match self.decoder.get_checksum_from_data() {
            Some(told) if self.decoder.get_calculated_checksum() != Some(told) => {
                Err(io::Error::other("the content's checksum is another than the frame says"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !buf.is_empty() {
            if self.place != Place::Frame && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.packed, one).map_err(io::Error::other)?;
            }
            match self.decoder.read(buf)? {
                0 => self.end()?,
                n_bytes => return Ok(n_bytes),
            }
        }
        Ok(0)
    }
}

/// For fuzzing: unpacks bytes as a body that says it is packed with zstd.
///
/// # Errors
/// As a request's body has them.
pub fn unpack_zstd(packed: &[u8], limit: usize) -> Result<Vec<u8>, ServerError> {
    Encoding::Zstd.unpack(packed, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    /// A frame with this text: magic number, a single segment of one byte's length with a checksum
    /// or without, and one raw block, the last (RFC 8878, section 3.1.1).
    fn frame(text: &[u8], checksum: Option<u32>) -> Vec<u8> {
        let n_bytes = u8::try_from(text.len()).unwrap();
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
        frame.push(0x20 | if checksum.is_some() { 4 } else { 0 });
        frame.push(n_bytes);
        frame.extend_from_slice(&((u32::from(n_bytes) << 3) | 1).to_le_bytes()[..3]);
        frame.extend_from_slice(text);
        frame.extend(checksum.into_iter().flat_map(u32::to_le_bytes));
        frame
    }

    fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
        unpack_zstd(packed, LIMIT).map_err(|error| error.to_string())
    }

    #[test]
    fn frames_come_one_after_the_other() {
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
        let all = [frame(b"one ", None), skipped.clone(), frame(b"two", None)].concat();
        assert_eq!(unpack(&all).unwrap(), b"one two");
        assert_eq!(unpack(&skipped).unwrap(), b"");
        assert_eq!(unpack(&frame(b"", None)).unwrap(), b"");
        for n_bytes in 0..all.len() {
            // A cut between two frames, or behind what is skipped, is the end of a body.
            let n_first = all.len() - frame(b"two", None).len();
            let is_whole = [n_first, n_first - skipped.len()].contains(&n_bytes);
            assert_eq!(unpack(&all[..n_bytes]).is_ok(), is_whole, "{n_bytes}");
        }
    }

    #[test]
    fn checksums_hold() {
        // The low half of XXH64 of "hello".
        let told = 0x889f_6da3;
        assert_eq!(unpack(&frame(b"hello", Some(told))).unwrap(), b"hello");
        let wrong = unpack(&frame(b"hello", Some(told ^ 1))).unwrap_err();
        assert!(wrong.contains("checksum"), "{wrong}");
    }

    #[test]
    fn windows_are_bounded() {
        // A window of 16 MiB, which is 2 to the power of 10 and 14.
        let mut large = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3];
        large.extend_from_slice(&[1, 0, 0]);
        let refused = unpack(&large).unwrap_err();
        assert!(refused.contains("window"), "{refused}");
        large[5] = 12 << 3;
        assert_eq!(unpack(&large).unwrap(), b"");
    }

    #[test]
    fn what_comes_out_is_bounded() {
        // Blocks of 128 KiB that are one byte each, repeated.
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
        for block_idx in 0..9 {
            let is_last = u32::from(block_idx == 8);
            let head: u32 = ((128 << 10) << 3) | (1 << 1) | is_last;
            bomb.extend_from_slice(&head.to_le_bytes()[..3]);
            bomb.push(b' ');
        }
        assert!(matches!(unpack_zstd(&bomb, LIMIT), Err(ServerError::BodyTooLarge { .. })));
        assert_eq!(unpack_zstd(&bomb, 2 * LIMIT).unwrap(), vec![b' '; 9 << 17]);
    }
}
