//! What requests take of energy: measured by the processor's counters where they may be read, else
//! estimated by the watts that the owner says the machine draws while it answers.
//!
//! It is shared among those at work by the tokens that are computed for them; see
//! [`meter::Shares`].

use meter::{Handle, Rapl, Shares};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How much is taken, and by whom. Cheap to clone.
#[derive(Clone)]
pub struct Energy(Arc<Mutex<State>>);

struct State {
    shares: Shares,
    /// `None`: not any more.
    rapl: Option<Rapl>,
    /// What the machine draws while it answers, in milliwatts, as the owner says.
    busy_mw: Option<u64>,
    looked: Instant,
}

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnergySource {
    /// The processor's own counters: packages and memory, not the rest of the machine.
    Measured,
    /// The time at work and the watts that the owner gave.
    Estimated,
}

impl EnergySource {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Estimated => "estimated",
        }
    }
}

impl Energy {
    /// By counters where there are some, else by the owner's watts; `None` where there is neither.
    /// `rapl` are the counters, or why there are none.
    pub fn new(rapl: Result<Rapl, String>, busy_watts: Option<f64>) -> Option<Self> {
        // At most a megawatt, which a double has exactly in milliwatts.
        let busy_mw = busy_watts.map(|watts| (watts * 1000.0).round() as u64);
        let rapl = rapl.ok();
        (rapl.is_some() || busy_mw.is_some()).then(|| {
            let (shares, looked) = (Shares::default(), Instant::now());
            Self(Arc::new(Mutex::new(State { shares, rapl, busy_mw, looked })))
        })
    }

    /// Where its numbers come from now.
    pub fn source(&self) -> EnergySource {
        self.lock().source()
    }

    /// A request begins to be computed.
    pub(crate) fn begin(&self) -> Taking {
        let mut state = self.lock();
        let spent = state.spent();
        let handle = state.shares.begin(spent);
        Taking { energy: self.clone(), handle: Some(handle) }
    }

    /// Looks at the counters, so that they do not begin again unseen and shares are fine.
    pub(crate) fn look(&self) {
        let mut state = self.lock();
        let spent = state.spent();
        state.shares.spend(spent);
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn source(&self) -> EnergySource {
        match self.rapl {
            Some(_) => EnergySource::Measured,
            None => EnergySource::Estimated,
        }
    }

    /// What was taken since the last look, in microjoules.
    fn spent(&mut self) -> u64 {
        let now = Instant::now();
        let waited = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        if let Some(rapl) = &mut self.rapl {
            match rapl.spent_uj() {
                Ok(spent) => return spent,
                Err(error) => {
                    let then = if self.busy_mw.is_some() { "estimated" } else { "not known" };
                    tracing::warn!(%error, "energy cannot be measured any more, and is {then}");
                    self.rapl = None;
                }
            }
        }
        // A milliwatt is a microjoule in a millisecond.
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.busy_mw.unwrap_or(0).saturating_mul(waited_us) / 1000
    }
}

/// A request that is computed. Whatever becomes of it, it takes nothing once this is dropped.
pub(crate) struct Taking {
    energy: Energy,
    /// `None`: it has ended.
    handle: Option<Handle>,
}

impl Taking {
    /// So many tokens were computed for it by now.
    pub(crate) fn tokens(&self, n_tokens: u64) {
        if let Some(handle) = self.handle {
            self.energy.lock().shares.tokens(handle, n_tokens);
        }
    }

    /// Ends it: what it took, in millijoules, and where that is from.
    pub(crate) fn end(mut self) -> (u64, EnergySource) {
        let taken_uj = self.take();
        ((taken_uj + 500) / 1000, self.energy.source())
    }

    fn take(&mut self) -> u64 {
        let Some(handle) = self.handle.take() else { return 0 };
        let mut state = self.energy.lock();
        let spent = state.spent();
        state.shares.end(handle, spent)
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    fn zone(folder: &Path, energy_uj: u64) {
        let zone = folder.join("intel-rapl:0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("name"), "package-0\n").unwrap();
        fs::write(zone.join("max_energy_range_uj"), "1000000000\n").unwrap();
        fs::write(zone.join("energy_uj"), format!("{energy_uj}\n")).unwrap();
    }

    #[test]
    fn what_is_measured_goes_to_those_at_work() {
        let folder = tempfile::tempdir().unwrap();
        zone(folder.path(), 1000);
        let energy = Energy::new(Rapl::open(folder.path()), Some(100.0)).unwrap();
        assert_eq!(energy.source(), EnergySource::Measured);
        zone(folder.path(), 500_000);
        let one = energy.begin();
        one.tokens(10);
        zone(folder.path(), 510_000);
        let other = energy.begin();
        other.tokens(30);
        one.tokens(20);
        zone(folder.path(), 550_000);
        // 10 mJ alone, and a quarter of 40.
        assert_eq!(one.end(), (20, EnergySource::Measured));
        zone(folder.path(), 551_000);
        drop(other);
        // The counter is gone: from here on it is estimated.
        fs::write(folder.path().join("intel-rapl:0/energy_uj"), "gone").unwrap();
        energy.look();
        assert_eq!(energy.source(), EnergySource::Estimated);
    }

    #[test]
    fn where_nothing_is_measured_time_counts() {
        assert!(Energy::new(Err("none".to_owned()), None).is_none());
        let energy = Energy::new(Err("none".to_owned()), Some(1000.0)).unwrap();
        let begun = Instant::now();
        let one = energy.begin();
        energy.0.lock().unwrap().looked = Instant::now() - Duration::from_secs(2);
        let (taken_mj, source) = one.end();
        assert_eq!(source, EnergySource::Estimated);
        let most_mj = 2_000_000 + u64::try_from(begun.elapsed().as_millis() + 1).unwrap() * 1000;
        assert!((2_000_000..=most_mj).contains(&taken_mj), "{taken_mj}");
        // Nobody was at work: nobody's.
        energy.0.lock().unwrap().looked = Instant::now() - Duration::from_secs(60);
        let (taken_mj, _) = energy.begin().end();
        assert!(taken_mj < 1_000_000, "{taken_mj}");
    }
}
