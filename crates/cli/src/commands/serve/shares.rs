//! The settings of canaries and shadows: parts of the requests to an alias that another model
//! answers, or answers too.

use server::{Alias, Share, Shares};

use super::Serve;

/// The flags that give parts of requests to other models.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ShareArgs {
    /// Have another served model answer so many percent of the conversations with an alias; the
    /// answers say so in x-freehold-canary (may be repeated)
    #[arg(long, value_name = "ALIAS=MODEL:PERCENT", value_parser = Share::parse)]
    canary: Vec<Share>,
    /// Have another open model answer copies of so many percent of the conversations with an alias
    /// behind the answers, to be compared in the log and in /metrics and seen by no client; they
    /// are dropped where there is other work (may be repeated)
    #[arg(long, value_name = "ALIAS=MODEL:PERCENT", value_parser = Share::parse)]
    shadow: Vec<Share>,
}

impl Serve {
    /// The parts that are asked for.
    pub(super) fn shares(&self) -> Shares {
        let ShareArgs { canary, shadow } = self.share_args.clone();
        Shares { canaries: canary, shadows: shadow }
    }

    /// Checks them and the aliases beside the models of these names.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub(super) fn check_shares(&self, models: &[&str]) -> Result<(), String> {
        let (aliases, ShareArgs { canary, shadow }) = (self.aliases.all(), &self.share_args);
        let place = |name: &'static str| {
            move |problem: String| format!("{}: {problem}", self.settings.place(name))
        };
        let upstreams: Vec<String> = self.upstreams().into_iter().map(|of| of.name).collect();
        Alias::check(aliases, models, &upstreams).map_err(place("alias"))?;
        Share::check(canary, aliases, models).map_err(place("canary"))?;
        Share::check(shadow, aliases, models).map_err(place("shadow"))
    }
}
