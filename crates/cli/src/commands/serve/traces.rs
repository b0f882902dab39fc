//! Where traces of requests go: to the collector that the owner names, and nowhere else.

use server::{Traces, Undelivered};
use store::Collector;

use super::{Serve, warn};
use crate::context::Context;

impl Serve {
    /// What takes traces to the collector, if there is one; says where they go.
    ///
    /// # Errors
    /// Where the collector may not be used, or its headers cannot be read.
    pub(super) fn traces(&self, context: &Context) -> anyhow::Result<Option<Traces>> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(None) };
        let collector = Collector::new(endpoint)?;
        let deliver = move |body| {
            collector.post(body).map_err(|unposted| Undelivered {
                reason: unposted.reason,
                may_pass: unposted.may_pass,
                wait: unposted.wait,
            })
        };
        let traces = Traces::start(Box::new(deliver))?;
        let what = "traces of requests (times, counts, names of models, no contents)";
        if endpoint.is_local() {
            context.note(&format!("{what} go to {endpoint}"));
        } else {
            warn(&format!("{what} leave this machine for {endpoint}"));
        }
        Ok(Some(traces))
    }
}
