//! A connection whose client must read: where nothing of what is to be written was taken for too
//! long, the write fails, and with it the connection.
//!
//! The system takes writes for as long as it has room, so a client is given more time by the size
//! of those buffers, and none is blamed for an answer that has nothing to write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

pub(super) struct Timed {
    stream: TcpStream,
    limit: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub(super) fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, limit, waiting: None }
    }

    /// A write as it went, unless it waits for too long already.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = write(Pin::new(&mut self.stream), cx) {
            self.waiting = None;
            return Poll::Ready(done);
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        ready!(waiting.as_mut().poll(cx));
        let message = format!("nothing was read for {} s", self.limit.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Read;

    /// What becomes of writes to a client, of which `read` says what it reads.
    async fn write_to(
        limit: Duration,
        n_bytes: usize,
        read: impl FnOnce(std::net::TcpStream) + Send + 'static,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let client = std::net::TcpStream::connect(listener.local_addr()?)?;
        let mut timed = Timed::new(listener.accept().await?.0, limit);
        let reading = tokio::task::spawn_blocking(move || read(client));
        let bytes = vec![b' '; 1 << 16];
        let mut n_written = 0;
        while n_written < n_bytes {
            n_written += poll_fn(|cx| Pin::new(&mut timed).poll_write(cx, &bytes)).await?;
        }
        drop(timed);
        reading.await?;
        Ok(())
    }

    /// More than the buffers of the system have room for.
    const N_BYTES: usize = 64 << 20;

    #[tokio::test]
    async fn who_reads_nothing_is_given_up() {
        let (done, told) = std::sync::mpsc::channel::<()>();
        let held = move |client| {
            // Until the write has failed.
            assert!(told.recv().is_err());
            drop(client);
        };
        let written = write_to(Duration::from_millis(50), N_BYTES, held).await;
        assert_eq!(written.map_err(|e| e.kind()), Err(io::ErrorKind::TimedOut));
        drop(done);
    }

    #[tokio::test]
    async fn who_reads_gets_everything() {
        let read = |mut client: std::net::TcpStream| {
            let mut all = Vec::new();
            assert!(client.read_to_end(&mut all).unwrap() >= N_BYTES);
        };
        assert!(write_to(Duration::from_secs(600), N_BYTES, read).await.is_ok());
    }
}
