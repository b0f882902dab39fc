//! Frames on the pair of sockets between the server and the broker. Pure: bytes in, frames out.
//!
//! A frame is the length of its payload (4 bytes), its kind (1), the request that it is about (8)
//! and the payload; numbers are little-endian. Each side takes the other for hostile: a length or
//! a kind out of bounds is found before anything is kept, and ends the connection.
//!
//! | to the broker | payload | | to the server | payload |
//! | --- | --- | --- | --- | --- |
//! | `Setup` | JSON | | `Ready`, `Failed` | JSON, a text |
//! | `Request` | JSON | | `Answer` | JSON |
//! | `Data` | of the request's body | | `Data` | of the answer's body |
//! | `Credit` | bytes that may follow (4) | | `End` | none |
//! | `Cancel` | none | | `Error` | JSON |
//! | `AskHealth` | none | | `Health` | JSON |

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 13;
/// Longest payload: that of `Health`, with every address of every upstream.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Longest payload of `Data`: short, so that frames of many requests take turns.
pub const DATA_BYTES_MAX: usize = 16 << 10;
/// Bytes of an answer that may be on their way to the server before it gives credit for more.
pub const WINDOW_BYTES: usize = 256 << 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// What the broker is to know, once, first.
    Setup,
    /// The head of a request.
    Request,
    /// Part of a body.
    Data,
    /// So many bytes more of an answer may come.
    Credit,
    /// Nobody waits for the answer any more.
    Cancel,
    /// How are the upstreams?
    AskHealth,
    /// The broker is ready.
    Ready,
    /// It will not be: why.
    Failed,
    /// The head of an answer.
    Answer,
    /// The answer is whole.
    End,
    /// The request failed.
    Error,
    /// How the upstreams are.
    Health,
}

impl FrameKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Setup,
        Self::Request,
        Self::Data,
        Self::Credit,
        Self::Cancel,
        Self::AskHealth,
        Self::Ready,
        Self::Failed,
        Self::Answer,
        Self::End,
        Self::Error,
        Self::Health,
    ];

    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Setup => 1,
            Self::Request => 2,
            Self::Data => 3,
            Self::Credit => 4,
            Self::Cancel => 5,
            Self::AskHealth => 6,
            Self::Ready => 16,
            Self::Failed => 17,
            Self::Answer => 18,
            Self::End => 19,
            Self::Error => 20,
            Self::Health => 21,
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// How long a payload may be: least and most.
    fn bounds(self) -> (usize, usize) {
        match self {
            Self::Data => (1, DATA_BYTES_MAX),
            Self::Credit => (4, 4),
            Self::Cancel | Self::AskHealth | Self::End => (0, 0),
            _ => (0, PAYLOAD_BYTES_MAX),
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// The request that it is about; 0 where it is about none.
    pub request: u64,
    /// What it carries.
    pub payload: Bytes,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No frame has this kind.
    #[error("frame of kind {0}, expected a known one")]
    Kind(u8),
    /// A payload that is too short or too long for its kind.
    #[error("frame {kind:?} with {n_bytes} bytes, expected {least} to {most}")]
    Length {
        /// What it is.
        kind: FrameKind,
        /// How long it says that it is.
        n_bytes: usize,
        /// How long it is at least.
        least: usize,
        /// How long it is at most.
        most: usize,
    },
}

impl Frame {
    /// A frame with a payload.
    pub fn new(kind: FrameKind, request: u64, payload: impl Into<Bytes>) -> Self {
        Self { kind, request, payload: payload.into() }
    }

    /// A frame that gives credit.
    pub fn credit(request: u64, n_bytes: u32) -> Self {
        Self::new(FrameKind::Credit, request, n_bytes.to_le_bytes().to_vec())
    }

    /// The credit that a frame gives; 0 for all others.
    pub fn n_credit(&self) -> usize {
        let bytes: Result<[u8; 4], _> = (&*self.payload).try_into();
        match (self.kind, bytes) {
            (FrameKind::Credit, Ok(bytes)) => u32::from_le_bytes(bytes) as usize,
            _ => 0,
        }
    }

    /// Its bytes, behind what `out` has.
    ///
    /// # Errors
    /// A payload out of bounds; then nothing is written.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        check(self.kind, self.payload.len())?;
        // Lossless: the longest payload is far below.
        out.extend((self.payload.len() as u32).to_le_bytes());
        out.push(self.kind.number());
        out.extend(self.request.to_le_bytes());
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

fn check(kind: FrameKind, n_bytes: usize) -> Result<(), FrameError> {
    let (least, most) = kind.bounds();
    match n_bytes {
        n_bytes if (least..=most).contains(&n_bytes) => Ok(()),
        n_bytes => Err(FrameError::Length { kind, n_bytes, least, most }),
    }
}

/// Takes bytes as they come, and gives the frames that they are.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Never more than the bytes of one read and of one frame.
    buffer: BytesMut,
}

impl Decoder {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is here.
    ///
    /// # Errors
    /// What stands here is none; nothing behind it can be read any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let mut head = &head[..];
        let n_bytes = head.get_u32_le() as usize;
        let number = head.get_u8();
        let request = head.get_u64_le();
        let kind = FrameKind::of_number(number).ok_or(FrameError::Kind(number))?;
        check(kind, n_bytes)?;
        if self.buffer.len() - HEAD_BYTES < n_bytes {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let payload = self.buffer.split_to(n_bytes).freeze();
        Ok(Some(Frame { kind, request, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (0..FrameKind::ALL.len(), any::<u64>(), 0_usize..70_000, any::<u8>());
        let frame = frame.prop_map(|(kind, request, n_bytes, byte)| {
            let kind = FrameKind::ALL[kind];
            let (least, most) = kind.bounds();
            Frame::new(kind, request, vec![byte; n_bytes.clamp(least, most)])
        });
        proptest::collection::vec(frame, 0..8)
    }

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn frames_come_as_they_were_whatever_the_pieces(
            frames in frames(), piece in 1_usize..9000,
        ) {
            let mut bytes = Vec::new();
            for frame in &frames {
                frame.encode(&mut bytes).unwrap();
            }
            prop_assert_eq!(decode(&bytes, piece), Ok(frames));
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1_usize..64,
        ) {
            // The same whatever the pieces, and what is a frame is written as it was read.
            let whole = decode(&bytes, bytes.len());
            let pieces = decode(&bytes, piece);
            prop_assert_eq!(&whole, &pieces);
            if let Ok(frames) = whole {
                let mut again = Vec::new();
                frames.iter().for_each(|frame| frame.encode(&mut again).unwrap());
                prop_assert!(bytes.starts_with(&again));
            }
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_found_before_it_is_kept() {
        let head = |n_bytes: u32, kind: u8| {
            let mut bytes = n_bytes.to_le_bytes().to_vec();
            bytes.push(kind);
            bytes.extend([0; 8]);
            decode(&bytes, bytes.len()).unwrap_err().to_string()
        };
        assert_eq!(head(0, 0), "frame of kind 0, expected a known one");
        assert_eq!(head(16_385, 3), "frame Data with 16385 bytes, expected 1 to 16384");
        assert_eq!(head(0, 3), "frame Data with 0 bytes, expected 1 to 16384");
        assert_eq!(head(u32::MAX, 2), "frame Request with 4294967295 bytes, expected 0 to 1048576");
        assert_eq!(head(5, 4), "frame Credit with 5 bytes, expected 4 to 4");
        let too_long = Frame::new(FrameKind::Data, 1, vec![0; DATA_BYTES_MAX + 1]);
        assert!(too_long.encode(&mut Vec::new()).is_err());
    }

    #[test]
    fn credit_is_a_number() {
        assert_eq!(Frame::credit(1, 70_000).n_credit(), 70_000);
        assert_eq!(Frame::new(FrameKind::End, 1, Vec::new()).n_credit(), 0);
    }
}
