//! The network is given up by what only computes, once its models are here.

use crate::context::Context;

/// Has the kernel refuse all connections from now on, where it can; says with `-v` whether.
pub(crate) fn give_up_network(context: &Context) {
    match egress::lock() {
        Ok(locked) => context.detail(&format!("nothing leaves: locked {locked}")),
        Err(why) => context.detail(&format!("network: open, because {why}")),
    }
}
