//! `freehold key list`: the keys, without their secrets.

use ledger::{Key, Which};
use serde_json::{Value, json};
use server::access::{Scopes, key_to_json};

use super::{KeysArgs, now_us};
use crate::commands::Subcommand;
use crate::commands::list::table;
use crate::context::Context;
use crate::terminal;

/// List the keys, without their secrets
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold key list
  freehold key list --all --json")]
pub(crate) struct List {
    /// With those that were revoked
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    keys: KeysArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for List {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let which = if self.all { Which::All } else { Which::Live };
        let keys = self.keys.roster(context, which)?.keys;
        if self.json {
            let keys: Vec<Value> = keys.iter().map(key_to_json).collect();
            return terminal::print_json(&json!({ "keys": keys }));
        }
        if keys.is_empty() {
            context.note("no keys: freehold key create NAME makes one");
            return Ok(());
        }
        let head = ["NAME", "ID", "PROJECT", "PERSON", "STATE", "MAY"].map(str::to_owned);
        let now = now_us();
        let rows = keys.iter().map(|key| row(key, now));
        terminal::print(&table(&[head].into_iter().chain(rows).collect::<Vec<_>>()))
    }
}

fn row(key: &Key, now: i64) -> [String; 6] {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let (project, person) = (known(&key.project), known(&key.person));
    [key.name.clone(), key.id.clone(), project, person, state(key, now), may(&key.scopes)]
}

/// Whether it is taken, and for how long.
fn state(key: &Key, now: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("d", 86_400), ("h", 3600), ("m", 60)];
    if key.revoked.is_some() {
        return "revoked".to_owned();
    }
    let Some(expires) = key.expires else { return "valid".to_owned() };
    let left = expires.saturating_sub(now).div_euclid(1_000_000);
    if left < 0 {
        return "expired".to_owned();
    }
    let unit = UNITS.iter().find(|(_, n_seconds)| left >= 2 * n_seconds);
    let (unit, n_seconds) = unit.copied().unwrap_or(("s", 1));
    format!("valid for {}{unit}", left / n_seconds)
}

/// What it may do, in a few words.
fn may(scopes: &str) -> String {
    let Ok(scopes) = serde_json::from_str::<Scopes>(scopes) else {
        return "nothing: its scopes are of a later version".to_owned();
    };
    let list = |what: &str, names: &Option<Vec<String>>| match names {
        None => format!("all {what}"),
        Some(names) => format!("{what} {}", names.join(", ")),
    };
    if let Some(role) = scopes.role {
        return format!("{}; as {}", list("models", &scopes.models), role.name());
    }
    let admin = if scopes.admin { "; administer" } else { "" };
    format!("{}; {}{admin}", list("models", &scopes.models), list("routes", &scopes.routes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_key_may_and_for_how_long() {
        let key = |expires, revoked| Key {
            id: "abcdefghi0".to_owned(),
            name: "ci".to_owned(),
            hash: [0; 32],
            before: None,
            project: None,
            person: Some("zoe".to_owned()),
            scopes: r#"{"models":["a","b*"],"admin":true}"#.to_owned(),
            defaults: "{}".to_owned(),
            created: 0,
            expires,
            revoked,
        };
        let may = "models a, b*; all routes; administer";
        let expected = ["ci", "abcdefghi0", "-", "zoe", "valid", may];
        assert_eq!(row(&key(None, None), 0), expected);
        let check = |expires, revoked, expected: &str| {
            assert_eq!(state(&key(expires, revoked), 0), expected);
        };
        check(Some(90 * 86_400_000_000), None, "valid for 90d");
        check(Some(90_000_000), None, "valid for 90s");
        check(Some(-1), None, "expired");
        check(Some(-1), Some(5), "revoked");
        assert!(super::may(r#"{"later":1}"#).starts_with("nothing"));
    }
}
