//! What is wrong with settings of which each alone is right.

use store::Catalogue;

use super::Serve;
use crate::context::Context;
use crate::locate::{self, Missing};

/// Most models that one command line names.
const MAX_MODELS: usize = 32;

impl Serve {
    /// What is wrong with the settings together.
    pub(super) fn problems(&self) -> Vec<String> {
        let place = |name: &str| self.settings.place(name);
        let mut problems = Vec::new();
        if self.models.len() > MAX_MODELS {
            let n_models = self.models.len();
            problems.push(format!(
                "{}: {n_models} given, expected at most {MAX_MODELS}",
                place("models")
            ));
        }
        if self.on_demand && self.models.is_empty() {
            let expected = "no models are named, expected some beside it";
            problems.push(format!("{}: {expected}", place("on-demand")));
        }
        if self.keep_alive.is_some() && !self.models.is_empty() && !self.on_demand {
            let expected = "the named models stay open, expected --on-demand beside it";
            problems.push(format!("{}: {expected}", place("keep-alive")));
        }
        let is_sized = self
            .settings
            .values()
            .iter()
            .any(|value| value.name() == "cache-size" && !value.is_default());
        if is_sized && self.cache_dir.is_none() {
            let expected = "nothing is kept, expected --cache-dir beside it";
            problems.push(format!("{}: {expected}", place("cache-size")));
        }
        problems.extend(self.egress_problem());
        problems.extend(self.access_problem());
        problems.extend(self.upstreams_problem());
        problems.extend(self.sign_in().err());
        problems.extend(self.keep_problem());
        for (one, other) in [("tls-cert", "tls-key"), ("tls-key", "tls-cert")] {
            let is_given = |name| if name == "tls-cert" { &self.tls_cert } else { &self.tls_key };
            if is_given(one).is_some() && is_given(other).is_none() {
                problems.push(format!("{}: expected --{other} beside it", place(one)));
            }
        }
        let of_cases = self.case_args.problem();
        problems.extend(of_cases.map(|(name, problem)| format!("{}: {problem}", place(name))));
        problems
    }

    /// What is wrong that only a look at models and certificates tells.
    pub(crate) fn deeper_problems(&self, context: &Context) -> Vec<String> {
        let is_here = |text: &&String| {
            // The server fetches these when it starts.
            let is_known = Catalogue::builtin().find(text).is_some();
            let found = locate::find(context, text, Missing::Fail);
            found.err().filter(|_| !is_known)
        };
        let models = self.models.iter().filter_map(|text| is_here(&text));
        let place = self.settings.place("models");
        let models = models.map(|error| format!("{place}: {error:#}"));
        models.chain(self.tls().err()).chain(self.elsewhere().err()).collect()
    }
}
