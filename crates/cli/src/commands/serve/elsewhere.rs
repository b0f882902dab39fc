//! Where requests may go beside here: the owner's rules, what upstreams are asked, and their
//! prices. All of it is read anew at a reload.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueHint;
use meter::{Date, Prices, Tokens};
use policy::Rules;
use server::usage::Renting;
use server::{Costs, Elsewhere, Priced, Upstream};

use super::Serve;

/// Largest file of rules or prices; those who read them refuse less.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The flags that say where requests may go.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ElsewhereArgs {
    /// File of rules about which requests may go to which upstream (default: those in the file of
    /// settings)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: Option<PathBuf>,
    /// Model that answers at an upstream where neither the request nor an alias names one of its
    /// (may be repeated; default: the name that the request has)
    #[arg(long, value_name = "UPSTREAM=MODEL", value_parser = upstream_model)]
    upstream_model: Vec<UpstreamModel>,
    /// File of dated prices, so that departures say what they cost, and the page whether owning
    /// pays (docs/prices.toml is an example)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    prices: Option<PathBuf>,
}

/// A model of an upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UpstreamModel {
    upstream: String,
    model: String,
}

fn upstream_model(text: &str) -> Result<UpstreamModel, String> {
    match text.split_once('=') {
        Some((upstream, model)) if !upstream.is_empty() && !model.is_empty() => {
            Ok(UpstreamModel { upstream: upstream.to_owned(), model: model.to_owned() })
        }
        _ => Err("expected UPSTREAM=MODEL, such as vendor=large-2".to_owned()),
    }
}

/// Prices, as the server asks for them.
struct Listed {
    prices: Prices,
    /// Where they say what owning costs.
    renting: Option<Arc<Renting>>,
}

impl Costs for Listed {
    fn cost(&self, of: &Priced<'_>, at_us: i64) -> Option<(i64, String)> {
        let price = self.prices.price(of.upstream, of.model, Date::of_us(at_us))?;
        let Priced { n_prompt, n_cached, n_answer, .. } = *of;
        let micro = price.cost_micro(Tokens { n_prompt, n_cached, n_answer });
        Some((micro, price.currency.to_string()))
    }

    fn renting(&self) -> Option<Arc<Renting>> {
        self.renting.clone()
    }
}

impl Serve {
    /// What the rules, the upstreams and the prices are now.
    ///
    /// # Errors
    /// Everything that is wrong with the rules; the first thing that is with the others.
    pub(super) fn elsewhere(&self) -> Result<Elsewhere, String> {
        let args = &self.elsewhere_args;
        let mut upstreams = self.upstreams();
        for UpstreamModel { upstream, model } in &args.upstream_model {
            let found = upstreams.iter_mut().find(|known| known.name == *upstream);
            let found = found.ok_or_else(|| {
                let place = self.settings.place("upstream-model");
                format!("{place}: {upstream:?}: expected the name of an upstream")
            })?;
            found.model = Some(model.clone());
        }
        let elsewhere = Elsewhere { rules: self.rules()?, upstreams, prices: self.prices()? };
        elsewhere.check()?;
        Ok(elsewhere)
    }

    /// The upstreams that the file of settings names.
    pub(super) fn upstreams(&self) -> Vec<Upstream> {
        let told = self.settings.upstreams().iter().map(|told| &told.upstream);
        told.map(|of| Upstream { name: of.name.clone(), kind: of.kind, model: None }).collect()
    }

    fn rules(&self) -> Result<Rules, String> {
        let (path, rules) = match (&self.elsewhere_args.policy, self.file()) {
            (Some(path), _) => {
                let name = path.display().to_string();
                (path.clone(), Rules::parse(&name, &read(path)?))
            }
            (None, Some(path)) => {
                let name = path.display().to_string();
                (path.clone(), Rules::parse_among(&name, &read(&path)?))
            }
            (None, None) => return Ok(Rules::default()),
        };
        rules.map_err(|error| match error {
            policy::PolicyError::Wrong(_) => error.to_string(),
            other => format!("{}: {other}", path.display()),
        })
    }

    fn prices(&self) -> Result<Option<Arc<dyn Costs>>, String> {
        let Some(path) = &self.elsewhere_args.prices else { return Ok(None) };
        let prices = Prices::parse(&path.display().to_string(), &read(path)?);
        let prices = prices.map_err(|error| error.to_string())?;
        let renting = Renting::new(prices.clone()).map(Arc::new);
        Ok(Some(Arc::new(Listed { prices, renting })))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map(|file| file.take(FILE_BYTES_MAX));
    let read = file.and_then(|mut file| file.read_to_string(&mut text));
    read.map(|_| text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_upstreams_are_read() {
        let (upstream, model) = ("vendor".to_owned(), "a=b".to_owned());
        assert_eq!(upstream_model("vendor=a=b"), Ok(UpstreamModel { upstream, model }));
        for text in ["", "a", "=a", "a="] {
            assert!(upstream_model(text).is_err(), "{text}");
        }
    }
}
