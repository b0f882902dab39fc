//! Places for requests at work: so many in all, and some of them always for other clients.
//!
//! A request holds its place from before its body is read to its end, so that the memory of bodies,
//! prompts and events is bounded. A client that fills its places must not keep others out.

use crate::errors::ServerError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What part of the places one client leaves to others.
const OTHERS_PART: usize = 4;
/// When a request may come again that found no place.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The places of a server.
pub(crate) struct Seats {
    taken: Mutex<Taken>,
}

struct Taken {
    /// Places that there are.
    n_most: usize,
    n_all: usize,
    /// By client; none is 0.
    n_of: HashMap<u64, usize>,
}

/// A place, which is free again when this is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    client: u64,
}

impl Seats {
    pub(crate) fn new(n_most: usize) -> Arc<Self> {
        let taken = Taken { n_most, n_all: 0, n_of: HashMap::new() };
        Arc::new(Self { taken: Mutex::new(taken) })
    }

    /// From now on there are so many; whoever has one keeps it.
    pub(crate) fn resize(&self, n_most: usize) {
        self.lock().n_most = n_most;
    }

    /// Takes a place for `client`.
    pub(crate) fn take(self: &Arc<Self>, client: u64) -> Result<Seat, ServerError> {
        let overloaded = |what| Err(ServerError::Overloaded { what, retry_after: RETRY_AFTER });
        let mut taken = self.lock();
        let n_most = taken.n_most;
        if taken.n_all >= n_most {
            return overloaded(format!("{} requests are at work", taken.n_all));
        }
        let n_each = n_most - n_most / OTHERS_PART;
        let n_own = taken.n_of.get(&client).copied().unwrap_or(0);
        if n_own >= n_each {
            return overloaded(format!("{n_own} requests of this client are at work"));
        }
        taken.n_of.insert(client, n_own + 1);
        taken.n_all += 1;
        Ok(Seat { seats: Arc::clone(self), client })
    }

    /// Places that are taken.
    pub(crate) fn n_taken(&self) -> usize {
        self.lock().n_all
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.n_all -= 1;
        match taken.n_of.get_mut(&self.client) {
            Some(n_own) if *n_own > 1 => *n_own -= 1,
            _ => {
                taken.n_of.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_places_to_others() {
        let seats = Seats::new(8);
        let take = |client| seats.take(client).map_err(|error| error.to_string());
        let mut own: Vec<Seat> = (0..6).map(|_| take(1).unwrap()).collect();
        let refused = take(1).err().unwrap();
        assert_eq!(refused, "6 requests of this client are at work, try again later");
        let others = [take(2).unwrap(), take(3).unwrap()];
        let refused = take(4).err().unwrap();
        assert_eq!(refused, "8 requests are at work, try again later");
        own.pop();
        own.push(take(1).unwrap());
        drop((own, others));
        let taken = seats.lock();
        assert_eq!((taken.n_all, taken.n_of.len()), (0, 0));
    }

    #[test]
    fn fewer_places_are_for_who_comes_next() {
        let seats = Seats::new(4);
        let taken = [seats.take(1).unwrap(), seats.take(2).unwrap()];
        seats.resize(2);
        assert!(seats.take(3).is_err());
        drop(taken);
        let _one = seats.take(3).unwrap();
    }

    #[test]
    fn a_single_place_is_for_anybody() {
        let seats = Seats::new(1);
        drop(seats.take(1).unwrap());
        let _seat = seats.take(2).unwrap();
        assert!(seats.take(3).is_err());
    }
}
