//! Where an answer goes as it comes: to a client that reads it, or to nobody while its client does
//! something else. One that is wanted all the same goes on when its reader is gone.

use super::Broken;
use crate::background::{Stop, Ticket};
use crate::errors::ServerError;
use crate::streams::Outlet;

pub(super) struct Sink {
    /// `None`: nobody reads.
    outlet: Option<Outlet>,
    /// Of an answer that its client asks for later; it can be cancelled.
    ticket: Option<Ticket>,
}

impl Sink {
    /// One of the two is there.
    pub(super) fn new(outlet: Option<Outlet>, ticket: Option<Ticket>) -> Self {
        Self { outlet, ticket }
    }

    /// Sends `text`, which is of whole events, waiting while the client is behind.
    pub(super) async fn send(&mut self, text: String) -> Result<(), Broken> {
        let Self { outlet, ticket } = self;
        let Some(outlet) = outlet else { return Ok(()) };
        let sent = tokio::select! {
            biased;
            sent = outlet.send(text) => sent.map_err(Broken::from),
            broken = stopped(ticket) => Err(broken),
        };
        sent.or_else(|broken| self.bear(broken))
    }

    /// Returns when nobody listens any more or the client has cancelled; [`Sink::bear`] says
    /// whether it goes on.
    pub(super) async fn over(&mut self) -> Broken {
        let Self { outlet, ticket } = self;
        let gone = async {
            match outlet {
                Some(outlet) => outlet.gone().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = gone => Broken::ClientGone,
            broken = stopped(ticket) => broken,
        }
    }

    /// Goes on without a reader where the answer is wanted all the same.
    pub(super) fn bear(&mut self, broken: Broken) -> Result<(), Broken> {
        match (broken, &self.ticket) {
            (Broken::ClientGone, Some(ticket)) => {
                ticket.unread();
                self.outlet = None;
                Ok(())
            }
            (broken, _) => Err(broken),
        }
    }

    /// Sends a comment to a client that has nothing to read.
    pub(super) fn comment(&self, comment: &'static str) {
        if let Some(outlet) = &self.outlet {
            outlet.comment(comment);
        }
    }

    /// Whether what becomes of the answer is asked for later.
    pub(super) fn is_in_background(&self) -> bool {
        self.ticket.is_some()
    }

    /// Sends the last of an answer that has come to its end, of which whoever asks is told by now.
    pub(super) async fn last(&mut self, text: String) -> Result<(), Broken> {
        let is_asked_for = self.ticket.take().is_some();
        let Some(outlet) = &mut self.outlet else { return Ok(()) };
        match outlet.send(text).await {
            Err(_) if is_asked_for => {
                self.outlet = None;
                Ok(())
            }
            sent => sent.map_err(Broken::from),
        }
    }

    /// Says that the stream ended as it should.
    pub(super) fn finish(self) {
        if let Some(outlet) = self.outlet {
            outlet.finish();
        }
    }

    /// Sends the last of a stream that broke off. Whoever waits for the answer's end waits for no
    /// slow reader.
    pub(super) async fn end(self, last: String) {
        let Self { outlet, ticket } = self;
        drop(ticket);
        let Some(mut outlet) = outlet else { return };
        if outlet.send(last).await.is_ok() {
            outlet.finish();
        }
    }
}

/// Returns when an answer that is asked for later is to end, with what ends it.
async fn stopped(ticket: &mut Option<Ticket>) -> Broken {
    let Some(ticket) = ticket else { return std::future::pending().await };
    match ticket.stopped().await {
        Stop::Unwanted => Broken::Cancelled,
        Stop::Over => Broken::Failed(ServerError::ShuttingDown),
    }
}
