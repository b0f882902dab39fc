//! Whose energy it was: what the machine takes is shared among the requests at work, by the tokens
//! that it computed for each of them meanwhile.
//!
//! A prompt is known to have been read when its answer begins, and how much of it had been read
//! before only at the end, so the shares are as fine as the times between two looks at the counter.
//! Their sum is exact: all that was taken while any request was at work.

use std::collections::BTreeMap;

/// A request at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(u64);

/// The shares of the requests at work.
#[derive(Debug, Default)]
pub struct Shares {
    at_work: BTreeMap<Handle, Share>,
    next: u64,
}

#[derive(Debug, Default)]
struct Share {
    /// Tokens so far, and those for which energy was counted.
    n_tokens: u64,
    n_counted: u64,
    energy_uj: u64,
}

impl Shares {
    /// Whether no request is at work: what is taken then is nobody's.
    pub fn is_idle(&self) -> bool {
        self.at_work.is_empty()
    }

    /// A request begins; `spent_uj` was taken since the last call, in microjoules.
    pub fn begin(&mut self, spent_uj: u64) -> Handle {
        self.spend(spent_uj);
        let handle = Handle(self.next);
        self.next += 1;
        self.at_work.insert(handle, Share::default());
        handle
    }

    /// So many tokens were computed for a request so far; fewer than before count as none.
    pub fn tokens(&mut self, handle: Handle, n_tokens: u64) {
        if let Some(share) = self.at_work.get_mut(&handle) {
            share.n_tokens = share.n_tokens.max(n_tokens);
        }
    }

    /// `spent_uj` was taken since the last call. Where nothing was computed meanwhile, all have
    /// equal parts of it.
    pub fn spend(&mut self, spent_uj: u64) {
        let is_any = self.at_work.values().any(|share| share.n_tokens > share.n_counted);
        let weight = |share: &Share| match is_any {
            true => u128::from(share.n_tokens - share.n_counted),
            false => 1,
        };
        let total: u128 = self.at_work.values().map(weight).sum();
        let (mut so_far, mut given) = (0, 0);
        for share in self.at_work.values_mut() {
            so_far += weight(share);
            // Below 2^64: a part of `spent_uj`. The total is at least 1 where there is a share.
            let until = (u128::from(spent_uj) * so_far / total) as u64;
            share.energy_uj = share.energy_uj.saturating_add(until - given);
            given = until;
            share.n_counted = share.n_tokens;
        }
    }

    /// A request ends: what it took, in microjoules. `spent_uj` was taken since the last call.
    pub fn end(&mut self, handle: Handle, spent_uj: u64) -> u64 {
        self.spend(spent_uj);
        self.at_work.remove(&handle).map_or(0, |share| share.energy_uj)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_taken_is_shared_by_tokens() {
        let mut shares = Shares::default();
        assert!(shares.is_idle());
        // What was taken before anybody came is nobody's.
        let one = shares.begin(1_000_000);
        shares.tokens(one, 10);
        let other = shares.begin(500);
        shares.tokens(one, 40);
        shares.tokens(other, 10);
        // 400 are shared 30 : 10.
        shares.spend(400);
        // Nothing was computed: halves.
        shares.spend(100);
        shares.tokens(other, 5);
        assert_eq!(shares.end(one, 100), 500 + 300 + 50 + 50);
        assert_eq!(shares.end(other, 1), 100 + 50 + 50 + 1);
        assert!(shares.is_idle());
        assert_eq!(shares.end(one, 7), 0);
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Begin,
        Tokens(usize, u64),
        Spend,
        End(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Begin),
            (any::<usize>(), 0..1000_u64).prop_map(|(at, n)| Event::Tokens(at, n)),
            Just(Event::Spend),
            any::<usize>().prop_map(Event::End),
        ]
    }

    proptest! {
        /// All that was taken while somebody was at work was somebody's, and nothing else.
        #[test]
        fn nothing_is_lost(events in prop::collection::vec((event(), 0..1_u64 << 40), 0..80)) {
            let mut shares = Shares::default();
            let (mut at_work, mut taken, mut given) = (Vec::new(), 0, 0);
            let mut spent = |shares: &Shares, uj: u64| {
                if !shares.is_idle() {
                    taken += uj;
                }
                uj
            };
            for (event, uj) in events {
                match event {
                    Event::Begin => {
                        let uj = spent(&shares, uj);
                        at_work.push(shares.begin(uj));
                    }
                    Event::Tokens(at, n) if !at_work.is_empty() => {
                        shares.tokens(at_work[at % at_work.len()], n);
                    }
                    Event::Spend => {
                        let uj = spent(&shares, uj);
                        shares.spend(uj);
                    }
                    Event::End(at) if !at_work.is_empty() => {
                        let uj = spent(&shares, uj);
                        let handle = at_work.swap_remove(at % at_work.len());
                        given += shares.end(handle, uj);
                    }
                    Event::Tokens(..) | Event::End(_) => {}
                }
            }
            for handle in at_work {
                given += shares.end(handle, 0);
            }
            prop_assert_eq!(given, taken);
        }
    }
}
