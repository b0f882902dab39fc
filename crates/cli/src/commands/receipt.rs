//! `freehold receipt`: the receipts of answers, and whether they hold.

mod export;
mod show;
mod verify;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context as _;

use super::Entry;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::{self, LedgerArgs};

/// What the group is for.
pub(crate) const ABOUT: &str = "Show, export and verify the receipts of answers";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<show::Show>("show"),
    Entry::of::<export::Export>("export"),
    Entry::of::<verify::Verify>("verify"),
];

/// Longest file of a receipt.
const N_RECEIPT_BYTES: u64 = 1 << 20;

/// The text of the receipt that `text` means: a file, else the id of an answer in the ledger.
fn text_of(context: &Context, args: &LedgerArgs, text: &str) -> anyhow::Result<String> {
    let path = Path::new(text);
    if !path.is_file() {
        return args.receipt(context, text);
    }
    String::from_utf8(read(path, N_RECEIPT_BYTES)?).map_err(|_| {
        Failure::new(Exit::Usage, format!("{text}: not UTF-8, expected a receipt")).into()
    })
}

/// The bytes of a file of at most `n_bytes_max`.
fn read(path: &Path, n_bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let place = || path.display().to_string();
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(place)?;
    file.take(n_bytes_max + 1).read_to_end(&mut bytes).with_context(place)?;
    if bytes.len() as u64 > n_bytes_max {
        let problem = format!("{}: expected at most {n_bytes_max} bytes", place());
        return Err(Failure::new(Exit::Usage, problem).into());
    }
    Ok(bytes)
}

/// Whose key `node` is, in a few words.
fn whose(context: &Context, node: &str) -> String {
    let own = ledger::own_node(context);
    let whose = match own.as_deref() == Some(node) {
        true => "this machine's",
        false => "another machine's",
    };
    format!("node {node} ({whose})")
}
