//! `freehold ledger verify`: every row again, held to its hash, its neighbours and what was signed.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ledger::{NodeKey, Reader, Verified, check_export, from_hex, hex, read_heads};
use serde_json::{Value, json};

use super::{LedgerArgs, wait};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::key_path;
use crate::terminal::{self, Colour, paint};

/// Check that nothing that was recorded was changed, removed, reordered or cut off
///
/// Of limits the counters of the time that is now are held to the rows that they are sums of. Heads
/// count that were signed with node.key of the data directory, or with a key that is given.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold ledger verify
  freehold ledger verify --heads /media/usb/heads.jsonl
  freehold ledger verify --export ledger.jsonl --key 1f0c…

Exit code 4 means that a row is not as it was written, or a counter not the sum of its rows; the
first one is named.")]
pub(crate) struct Verify {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Check what `freehold ledger export` printed instead of a ledger (- for stdin)
    #[arg(long, value_name = "FILE", conflicts_with = "ledger")]
    export: Option<PathBuf>,
    /// Heads that were kept elsewhere, as `freehold ledger heads` printed them (- for stdin)
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// A public key to trust too, 64 hexadecimal digits; may be given several times
    #[arg(long = "key", value_name = "HEX", value_parser = parse_key)]
    keys: Vec<[u8; 32]>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_key(text: &str) -> Result<[u8; 32], String> {
    from_hex(text).ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

impl Subcommand for Verify {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let own = NodeKey::load(&key_path(context))?;
        let mut trusted = self.keys;
        trusted.extend(own.map(|key| key.public()));
        let noted = match &self.heads {
            Some(path) => read_heads(open(path)?).with_context(|| path.display().to_string())?,
            None => Vec::new(),
        };
        let (found, counters) = match &self.export {
            Some(path) => {
                let found = check_export(open(path)?, &trusted, &noted);
                (found.with_context(|| path.display().to_string())?, None)
            }
            None => {
                let place = self.ledger.place(context)?;
                wait(async {
                    let reader = Reader::open(&place).await?;
                    let found = reader.verify(&trusted, &noted).await?;
                    Ok((found, reader.check_counters(now_us()).await?))
                })?
            }
        };
        if self.json {
            terminal::print_json(&to_json(&found, counters.as_deref()))?;
        } else if found.is_intact() && counters.is_none() {
            terminal::print(&to_text(&found))?;
        }
        for key in &found.strangers {
            context.note(&format!("signed by {}, which is not trusted (--key)", hex(key)));
        }
        let bad = found.first_bad.as_ref();
        let bad = bad.map(|bad| format!("row {} of the ledger: {}", bad.seq, bad.reason));
        match bad.or(counters) {
            None => Ok(()),
            Some(message) => Err(Failure::new(Exit::Verification, message).into()),
        }
    }
}

/// Counters are of the time that is now, such as this day.
fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(Box::new(BufReader::new(file)))
}

fn to_text(found: &Verified) -> String {
    let Some((seq, hash)) = found.head else { return "nothing is recorded\n".to_owned() };
    let intact = paint("intact", Colour::Green, &io::stdout());
    let mut text = format!("{intact}: {} rows up to row {seq}, {}\n", found.n_rows, hex(&hash));
    text.push_str(&match found.signed {
        Some(signed) => format!("signed up to row {signed}\n"),
        None => "signed by nobody who is trusted here\n".to_owned(),
    });
    if found.n_erased > 0 {
        text.push_str(&format!("bodies erased, as later rows say: {}\n", found.n_erased));
    }
    text
}

fn to_json(found: &Verified, counters: Option<&str>) -> Value {
    let bad = found.first_bad.as_ref();
    let strangers: Vec<String> = found.strangers.iter().map(|key| hex(key)).collect();
    json!({
        "intact": found.is_intact() && counters.is_none(),
        "rows": found.n_rows,
        "erased": found.n_erased,
        "head": found.head.map(|(seq, hash)| json!({ "seq": seq, "hash": hex(&hash) })),
        "heads": found.n_heads,
        "signed": found.signed,
        "other_keys": strangers,
        "first_bad": bad.map(|bad| json!({ "seq": bad.seq, "reason": bad.reason })),
        "counters": counters,
    })
}
