//! The network is given up by what only computes, once its models are here.

use crate::context::Context;

/// Has the kernel refuse all connections from now on, where it can; says with `-v` whether.
/// `inherited` are the sockets that were open when the program started: what they are connected to
/// stays connected.
pub(crate) fn give_up_network(context: &Context, inherited: &[String]) {
    match egress::lock() {
        Ok(locked) if inherited.is_empty() => {
            context.detail(&format!("nothing leaves: locked {locked}"));
        }
        Ok(locked) => context.detail(&format!(
            "locked {locked}, but whoever started this left sockets open (descriptors {})",
            inherited.join(", ")
        )),
        Err(why) => context.detail(&format!("network: open, because {why}")),
    }
}
