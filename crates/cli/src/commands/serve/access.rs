//! Who is let in without a key, as settings, and what is said of it at the start.

use std::net::SocketAddr;

use ledger::Which;
use server::access::LocalAccess;

use super::{Serve, warn};

/// What the owner says of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AccessArgs {
    /// What programs on this machine may do without a key: auto (all, until `freehold key create`
    /// has made the first one), open (all, always) or key (nothing)
    #[arg(long, value_name = "auto|open|key", default_value = "auto", value_parser = local_access)]
    pub(super) local_access: LocalAccess,
    /// Let everybody in who reaches the server, from other machines too, for as long as there is no
    /// key
    #[arg(long)]
    pub(super) allow_anyone: bool,
}

fn local_access(text: &str) -> Result<LocalAccess, String> {
    let found = LocalAccess::NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, access)| *access).ok_or_else(|| "expected one of auto, open, key".to_owned())
}

impl Serve {
    /// What is wrong where a key is asked for that there cannot be.
    pub(super) fn access_problem(&self) -> Option<String> {
        let place = self.settings.place("local-access");
        let is_locked_out = self.ledger.is_none() && self.access.local_access == LocalAccess::Key;
        is_locked_out.then(|| format!("{place}: keys are kept in the ledger, expected one"))
    }

    /// Tells who can use a server at this address.
    ///
    /// # Errors
    /// A ledger that cannot be read.
    pub(super) async fn warn_of_access(&self, address: SocketAddr) -> anyhow::Result<()> {
        // Where people sign in, who does not is nobody, also before the first key.
        let signs_in = !self.issuer().is_empty() && !self.access.allow_anyone;
        if address.ip().is_loopback() || signs_in {
            return Ok(());
        }
        if let Some(receipts) = &self.receipts
            && receipts.ledger().reader().roster(Which::Live).await?.has_had_keys
        {
            return Ok(());
        }
        let make = "until `freehold key create NAME` has made a key";
        warn(&match (self.access.allow_anyone, self.ledger.is_none()) {
            (true, _) => format!(
                "{address} can be reached from other machines: everyone who reaches it can use it \
                 {make}"
            ),
            (false, true) => format!(
                "{address} can be reached from other machines, which are refused: there is no \
                 ledger for keys, expected one or --allow-anyone"
            ),
            (false, false) => format!(
                "{address} can be reached from other machines, which are refused {make} (or with \
                 --allow-anyone)"
            ),
        });
        Ok(())
    }
}
