//! What is kept of requests, and what they take of energy: the settings of both.

use meter::Rapl;
use server::access::KEEP_DAYS_MAX;
use server::receipts::Receipts;
use server::{Contents, Energy};

use super::Serve;
use crate::context::Context;

/// Most watts that are taken: a row of racks.
const WATTS_MAX: f64 = 1e6;

/// The flags of both.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct KeepArgs {
    /// Days for which what is asked and answered is kept, sealed in the ledger, where a key does
    /// not say (default: it is not)
    #[arg(long, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(1..=KEEP_DAYS_MAX as i64))]
    keep_contents: Option<u32>,
    /// Watts that this machine draws at the wall while it answers, by which the energy of requests
    /// is estimated where the processor's own counters cannot be read (default: not estimated)
    #[arg(long, value_name = "WATTS", value_parser = watts)]
    watts_busy: Option<f64>,
}

impl Serve {
    /// What is wrong where contents are to be kept and there is no place for them.
    pub(super) fn keep_problem(&self) -> Option<String> {
        let is_lost = self.keep_args.keep_contents.is_some() && self.ledger.is_none();
        let place = self.settings.place("keep-contents");
        is_lost.then(|| format!("{place}: contents are kept in the ledger, expected one beside it"))
    }

    /// Where contents are kept: in the ledger of the receipts.
    pub(super) fn contents(&self) -> Option<Contents> {
        let ledger = self.receipts.as_ref().map(Receipts::ledger)?;
        Some(Contents::new(ledger.clone(), self.keep_args.keep_contents.unwrap_or(0)))
    }

    /// What tells how much energy requests take, and says which it is.
    pub(super) fn energy(&self, context: &Context) -> Option<Energy> {
        let rapl = Rapl::find();
        let why_not = rapl.as_ref().err().cloned().unwrap_or_default();
        let energy = Energy::new(rapl, self.keep_args.watts_busy);
        let told = energy.as_ref().map_or("not known", |energy| energy.source().name());
        let why_not = if why_not.is_empty() { String::new() } else { format!(" ({why_not})") };
        context.detail(&format!("energy of requests: {told}{why_not}"));
        energy
    }
}

/// Reads watts.
fn watts(text: &str) -> Result<f64, String> {
    let watts = text.parse().ok().filter(|watts| *watts > 0.0 && *watts <= WATTS_MAX);
    watts.ok_or_else(|| format!("expected watts such as 120, at most {WATTS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watts_are_read() {
        assert_eq!(watts("120"), Ok(120.0));
        assert_eq!(watts("0.5"), Ok(0.5));
        for bad in ["", "0", "-1", "nan", "inf", "2e6", "120W"] {
            assert!(watts(bad).is_err(), "{bad}");
        }
    }
}
