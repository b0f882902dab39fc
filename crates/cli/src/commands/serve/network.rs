//! Whether the server may open connections of its own: it gives that up once it listens, unless a
//! setting needs it, and says at the start which it is.

use clap::ValueEnum;

use super::{Serve, warn};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// What the owner says of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NetworkArgs {
    /// Whether the server may open connections once it listens: locked has the kernel refuse them
    /// all, and where that cannot be nothing is served (default: locked, but open where a setting
    /// needs connections or the system cannot lock; which one it is is said at the start)
    #[arg(long, value_name = "locked|open", value_enum)]
    egress: Option<Asked>,
    /// What it came to.
    #[arg(skip)]
    pub(super) mode: server::Egress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Asked {
    Locked,
    Open,
}

impl Serve {
    /// What needs connections to elsewhere: one line for each such setting. Models that are named
    /// need none, since they are fetched before.
    fn needs_network(&self) -> Vec<&'static str> {
        let mut needs = Vec::new();
        if self.allow_model_changes {
            needs.push("--allow-model-changes lets clients pull");
        }
        if self.otlp_endpoint.is_some() {
            needs.push("--otlp-endpoint has traces sent");
        }
        if self.ledger.needs_network() {
            needs.push("--ledger is a database elsewhere");
        }
        needs
    }

    /// What is wrong where both is asked for: to be locked, and what needs connections.
    pub(super) fn egress_problem(&self) -> Option<String> {
        let need = self.needs_network().into_iter().next()?;
        let place = self.settings.place("egress");
        self.wants_lock().then(|| format!("{place}: locked, but {need}, expected one of the two"))
    }

    /// Whether being locked was asked for.
    pub(super) fn wants_lock(&self) -> bool {
        self.network.egress == Some(Asked::Locked)
    }

    /// Gives up the means to open a connection, if nothing speaks against it, and says which it is.
    /// `inherited` are the sockets that were open when the program started.
    ///
    /// # Errors
    /// It was asked for, and cannot be.
    pub(super) fn lock_egress(
        &mut self,
        context: &Context,
        inherited: &[String],
    ) -> anyhow::Result<()> {
        if self.network.egress == Some(Asked::Open) {
            let place = self.settings.place("egress");
            context.note(&format!("network: open, because {place} says so"));
            return Ok(());
        }
        if let Some(need) = self.needs_network().first() {
            context.note(&format!("network: open, because {need}"));
            return Ok(());
        }
        let locked = match inherited {
            [] => egress::lock().map_err(|error| error.to_string()),
            some => Err(format!(
                "whoever started this left sockets open (descriptors {}), expected none but Unix \
                 sockets as standard input, output and error",
                some.join(", ")
            )),
        };
        match locked {
            Ok(locked) => {
                context.note(&format!("nothing leaves: locked {locked}"));
                self.network.mode = server::Egress::Locked;
                Ok(())
            }
            Err(why) if self.wants_lock() => {
                let message = format!("{}: locked, but {why}", self.settings.place("egress"));
                Err(Failure::new(Exit::Failed, message).into())
            }
            Err(why) => {
                warn(&format!("network: open, because {why}"));
                Ok(())
            }
        }
    }
}
