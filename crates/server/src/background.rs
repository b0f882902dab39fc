//! Answers that are made while nobody waits for them: their clients ask by their names how far they
//! are. Each takes a place among the requests at work, as any other, so there are no more of them;
//! one that its client has not asked for in as long as answers are kept is given up, and so is one
//! that is cancelled. What they say only their dialect knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// All that are at work.
pub(crate) struct Background {
    /// How long one goes on that nobody asks for.
    lasts: Duration,
    by_id: Mutex<HashMap<String, AtWork>>,
}

struct AtWork {
    client: u64,
    /// What is told of it until it ends.
    body: String,
    used: Instant,
    /// Whether somebody gets it as it comes.
    is_read: bool,
    stop: watch::Sender<Option<Stop>>,
    /// Closed when it has ended.
    ended: watch::Receiver<()>,
}

/// Why an answer is not made to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its client cancels it, or has not asked for it.
    Unwanted,
    /// The server ends.
    Over,
}

impl Background {
    /// Nothing at work; `lasts` is how long answers are kept, where they are.
    pub(crate) fn new(lasts: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { lasts: lasts.unwrap_or_default(), by_id: Mutex::default() })
    }

    /// Notes an answer, until the ticket is gone.
    pub(crate) fn begin(
        self: &Arc<Self>,
        client: u64,
        id: &str,
        body: String,
        is_read: bool,
    ) -> Ticket {
        let (stop, stopped) = watch::channel(None);
        let (end, ended) = watch::channel(());
        let at_work = AtWork { client, body, used: Instant::now(), is_read, stop, ended };
        self.lock().insert(id.to_owned(), at_work);
        Ticket { all: Arc::clone(self), id: id.to_owned(), stopped, _end: end }
    }

    /// What is told of an answer of the client's that is at work; this is a use of it.
    pub(crate) fn body(&self, client: u64, id: &str, now: Instant) -> Option<String> {
        let mut by_id = self.lock();
        let at_work = by_id.get_mut(id).filter(|at_work| at_work.client == client)?;
        at_work.used = at_work.used.max(now);
        Some(at_work.body.clone())
    }

    /// Has an answer of the client's end, and waits for that; whether there was one.
    pub(crate) async fn cancel(&self, client: u64, id: &str) -> bool {
        let mut ended = {
            let by_id = self.lock();
            let at_work = by_id.get(id).filter(|at_work| at_work.client == client);
            let Some(at_work) = at_work else { return false };
            at_work.stop.send_replace(Some(Stop::Unwanted));
            at_work.ended.clone()
        };
        // Nothing is ever sent: this is an error, as soon as the ticket is gone.
        let _ = ended.changed().await;
        true
    }

    /// Has all of them end with the server, and waits for that.
    pub(crate) async fn end_all(&self) {
        let end = |at_work: &AtWork| {
            at_work.stop.send_replace(Some(Stop::Over));
            at_work.ended.clone()
        };
        let all: Vec<watch::Receiver<()>> = self.lock().values().map(end).collect();
        for mut ended in all {
            let _ = ended.changed().await;
        }
    }

    /// Has those end that nobody has asked for in time.
    pub(crate) fn sweep(&self, now: Instant) {
        for at_work in self.lock().values() {
            let is_over = now.saturating_duration_since(at_work.used) >= self.lasts;
            if is_over && !at_work.is_read {
                at_work.stop.send_replace(Some(Stop::Unwanted));
            }
        }
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, AtWork>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by whoever makes an answer.
pub(crate) struct Ticket {
    all: Arc<Background>,
    id: String,
    stopped: watch::Receiver<Option<Stop>>,
    /// Tells its end by being gone.
    _end: watch::Sender<()>,
}

impl Ticket {
    /// Returns when the answer is to end.
    pub(crate) async fn stopped(&mut self) -> Stop {
        match self.stopped.wait_for(Option::is_some).await {
            Ok(stop) => stop.unwrap_or(Stop::Unwanted),
            // Nobody knows of it any more.
            Err(_) => Stop::Unwanted,
        }
    }

    /// Nobody gets the answer as it comes any more: from now on it is asked for.
    pub(crate) fn unread(&self) {
        if let Some(at_work) = self.all.lock().get_mut(&self.id) {
            (at_work.is_read, at_work.used) = (false, Instant::now());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Whether the answer is to end.
    fn is_cancelled(ticket: &Ticket) -> bool {
        *ticket.stopped.borrow() == Some(Stop::Unwanted)
    }

    #[test]
    fn an_answer_is_its_clients_until_it_ends() {
        let all = Background::new(Some(HOUR));
        let now = Instant::now();
        let ticket = all.begin(1, "a", "at work".to_owned(), false);
        assert_eq!(all.body(1, "a", now).as_deref(), Some("at work"));
        assert_eq!((all.body(2, "a", now), all.body(1, "b", now)), (None, None));
        drop(ticket);
        assert_eq!(all.body(1, "a", now), None);
    }

    #[test]
    fn who_cancels_waits_for_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let all = Background::new(Some(HOUR));
            let mut ticket = all.begin(1, "a", String::new(), false);
            assert!(!all.cancel(2, "a").await && !all.cancel(1, "b").await);
            assert!(!is_cancelled(&ticket));
            let others = all.clone();
            let cancel = tokio::spawn(async move { others.cancel(1, "a").await });
            assert_eq!(ticket.stopped().await, Stop::Unwanted);
            assert!(!cancel.is_finished());
            drop(ticket);
            assert!(cancel.await.unwrap());
            // What ends with the server was not given up by its client.
            let mut ticket = all.begin(1, "a", String::new(), false);
            let others = all.clone();
            let end = tokio::spawn(async move { others.end_all().await });
            assert_eq!(ticket.stopped().await, Stop::Over);
            drop(ticket);
            end.await.unwrap();
        });
    }

    #[test]
    fn an_answer_that_nobody_asks_for_is_given_up() {
        let all = Background::new(Some(HOUR));
        let unread = all.begin(1, "a", String::new(), false);
        let read = all.begin(1, "b", String::new(), true);
        let begin = Instant::now();
        assert!(all.body(1, "a", begin + HOUR / 2).is_some());
        all.sweep(begin + HOUR);
        assert!(!is_cancelled(&unread) && !is_cancelled(&read));
        all.sweep(begin + HOUR * 2);
        assert!(is_cancelled(&unread) && !is_cancelled(&read));
        read.unread();
        all.sweep(Instant::now() + HOUR);
        assert!(is_cancelled(&read));
    }
}
