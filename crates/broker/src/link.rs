//! One end of the pair of sockets: frames are read one after the other, and written by one task.
//!
//! What is written has two queues. One is for what must not wait behind bodies, and comes from
//! places that cannot wait: where it is full, the other side reads nothing, and is given up.
//! `Link::data` is for the rest, in order, and whoever fills it waits.

use std::io;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::frame::{Decoder, Frame};
use crate::serve::REQUESTS_MAX;

/// Frames that wait to be written: a megabyte of data.
const QUEUE_FRAMES: usize = 64;
/// The same of those that cannot wait: as many as all requests at once can cause, four each, while
/// the other side reads on.
const CONTROL_FRAMES: usize = 4 * REQUESTS_MAX;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes written at once, at most, but for a longer frame.
const WRITE_BYTES: usize = 64 << 10;

/// Where frames are put to be written.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    control: mpsc::Sender<Frame>,
    pub(crate) data: mpsc::Sender<Frame>,
}

/// That the other side reads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it reads nothing, with {CONTROL_FRAMES} frames for it")]
pub(crate) struct Deaf;

/// What is put there.
pub(crate) struct Outbox {
    control: mpsc::Receiver<Frame>,
    data: mpsc::Receiver<Frame>,
}

impl Link {
    pub(crate) fn new() -> (Self, Outbox) {
        let (control, control_box) = mpsc::channel(CONTROL_FRAMES);
        let (data, data_box) = mpsc::channel(QUEUE_FRAMES);
        (Self { control, data }, Outbox { control: control_box, data: data_box })
    }

    /// Puts a frame before all that may wait. One to a side that has ended goes nowhere.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn say(&self, frame: Frame) -> Result<(), Deaf> {
        match self.control.try_send(frame) {
            Err(TrySendError::Full(_)) => Err(Deaf),
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// Where frames come from.
pub(crate) struct Inbox {
    half: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
}

/// Both halves of an end.
pub(crate) fn split(stream: UnixStream) -> (Inbox, OwnedWriteHalf) {
    let (half, writer) = stream.into_split();
    let buffer = vec![0; READ_BYTES];
    (Inbox { half, decoder: Decoder::default(), buffer }, writer)
}

impl Inbox {
    /// The next frame; `None` where the other side has ended.
    ///
    /// # Errors
    /// What came is no frame, or the socket fails.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, String> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(|error| error.to_string())? {
                return Ok(Some(frame));
            }
            self.half.readable().await.map_err(|error| error.to_string())?;
            match self.half.try_read(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(n_bytes) => self.decoder.push(&self.buffer[..n_bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Writes what comes, until nobody has a [`Link`] any more or the other side has ended.
pub(crate) async fn write(mut outbox: Outbox, half: OwnedWriteHalf) {
    let mut bytes = Vec::new();
    let (mut is_control_open, mut is_data_open) = (true, true);
    while is_control_open || is_data_open {
        let frame = tokio::select! {
            biased;
            frame = outbox.control.recv(), if is_control_open => {
                is_control_open = frame.is_some();
                frame
            }
            frame = outbox.data.recv(), if is_data_open => {
                is_data_open = frame.is_some();
                frame
            }
        };
        let Some(frame) = frame else { continue };
        put(&frame, &mut bytes);
        while bytes.len() < WRITE_BYTES {
            let next = outbox.control.try_recv().ok().or_else(|| outbox.data.try_recv().ok());
            let Some(next) = next else { break };
            put(&next, &mut bytes);
        }
        if write_all(&half, &bytes).await.is_err() {
            return;
        }
        bytes.clear();
    }
}

/// A frame that is out of bounds was made by us, and checked before.
fn put(frame: &Frame, bytes: &mut Vec<u8>) {
    if let Err(error) = frame.encode(bytes) {
        tracing::warn!("{error}: it is not sent");
    }
}

async fn write_all(half: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        half.writable().await?;
        match half.try_write(bytes) {
            Ok(n_bytes) => bytes = &bytes[n_bytes..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
