//! `freehold key create`: a new key, whose secret is shown this once.

use std::time::Duration;

use ledger::Act;
use server::Label;
use server::access::{Caching, Defaults, KEEP_DAYS_MAX, Plan, Problem, Role, Scopes, key_to_json};

use super::{KeysArgs, behind, now_us, span};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Make a key, and print its secret, which is never shown again
///
/// From the first key on, every request to the server needs one. A running server takes a new key
/// within about a second.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold key create laptop
  freehold key create support --model support --model 'smollm2-*' --expires 90d
  freehold key create monitor --route /metrics
  freehold key create books --role auditor
  freehold key create boss --admin")]
pub(crate) struct Create {
    /// Its name: letters, digits and . _ - @ +; no other key has it that is not revoked
    #[arg(value_name = "NAME")]
    name: String,
    /// The project that it belongs to (`freehold project create`)
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Whose words its requests are
    #[arg(long, value_name = "PERSON")]
    person: Option<String>,
    /// A model or alias that it may ask for, with * at an end all that begin so; may be repeated
    /// (default: all)
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// A route that it may use, such as /v1/chat/completions or '/v1/*'; may be repeated (default:
    /// all that are not the owner's)
    #[arg(long = "route", value_name = "PATH")]
    routes: Vec<String>,
    /// It may do what only the owner may: administer keys, change models, have settings read anew
    #[arg(long)]
    admin: bool,
    /// What it is to the server, in the place of --route and --admin: owner, operator, auditor or
    /// user (docs/keys.md)
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Option<Role>,
    /// How sensitive its requests are: public, internal or private; a request can only raise it
    #[arg(long, value_name = "LABEL", default_value = "private", value_parser = label)]
    label: Label,
    /// After this time it is taken no more, such as 12h or 90d (default: it stays)
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires: Option<Duration>,
    /// Parameters that no route knows are told, not refused, as if each request had
    /// x-freehold-lenient
    #[arg(long)]
    lenient: bool,
    /// With whom its requests share the prefix cache: key (its own), shared (all keys that say so)
    /// or off
    #[arg(long, value_name = "key|shared|off", default_value = "key", value_parser = cache)]
    cache: Caching,
    /// Days for which contents of its requests are kept (default: they are not)
    #[arg(long, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(1..=KEEP_DAYS_MAX as i64))]
    keep: Option<u32>,
    /// Whoever has it consents to requests becoming cases for the gate (serve --record-cases)
    #[arg(long)]
    record: bool,
    #[command(flatten)]
    keys: KeysArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Create {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let now = now_us();
        let plan = self.plan(now);
        plan.check(now).map_err(|problem| refused(&problem))?;
        let (key, secret) = plan.draw(now)?;
        let mut told = key_to_json(&key);
        let note = format!("key {} ({}): its secret is not shown again", key.name, key.id);
        self.keys.act(context, Act::CreateKey(Box::new(key)))?;
        context.note(&note);
        match self.json {
            true => {
                told["secret"] = secret.shown().into();
                terminal::print_json(&told)
            }
            false => terminal::print_line(secret.shown()),
        }
    }
}

impl Create {
    fn plan(&self, now: i64) -> Plan {
        let some = |names: &Vec<String>| (!names.is_empty()).then(|| names.clone());
        Plan {
            name: self.name.clone(),
            project: self.project.clone(),
            person: self.person.clone(),
            scopes: Scopes {
                models: some(&self.models),
                routes: some(&self.routes),
                admin: self.admin,
                role: self.role,
                labels: self.label,
            },
            defaults: Defaults {
                lenient: self.lenient,
                cache: self.cache,
                keep: self.keep,
                label: self.label,
                record: self.record,
            },
            expires: self.expires.map(|span| behind(now, span)),
        }
    }
}

/// The flag that is at fault.
fn refused(problem: &Problem) -> Failure {
    let flag = match problem.field {
        "name" => "NAME",
        "models" => "--model",
        "routes" => "--route",
        other => &format!("--{other}"),
    };
    Failure::new(Exit::Usage, format!("{flag}: {}", problem.message))
}

fn label(text: &str) -> Result<Label, String> {
    one_of(text, Label::NAMES)
}

fn role(text: &str) -> Result<Role, String> {
    one_of(text, Role::NAMES)
}

fn cache(text: &str) -> Result<Caching, String> {
    one_of(text, Caching::NAMES)
}

fn one_of<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == text);
    let all = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| *value).ok_or_else(|| format!("expected one of {}", all()))
}
