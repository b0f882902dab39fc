//! The settings of cases that are made of real requests, and the keys whose owners consented.

use std::path::PathBuf;

use broker::guarded;
use server::{Cases, Consent};

use super::Serve;
use super::tls::N_BYTES_MAX;

/// The flags of cases that are recorded.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CaseArgs {
    /// Folder where requests with their answers become cases for `freehold test`, readable by you
    /// alone, of clients who consented to that: see --record-keys and --record-loopback
    #[arg(long, value_name = "FOLDER")]
    record_cases: Option<PathBuf>,
    /// File of the keys, one a line, whose owners consented to their requests being recorded, which
    /// not everybody on this machine may read
    #[arg(long, value_name = "FILE")]
    record_keys: Option<PathBuf>,
    /// Record the requests of programs on this machine that bring no key
    #[arg(long)]
    record_loopback: bool,
}

impl CaseArgs {
    /// What is wrong with them together: the setting, and what is expected.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let (folder, keys) = (self.record_cases.is_some(), self.record_keys.is_some());
        match (folder, keys, self.record_loopback) {
            (true, false, false) => Some((
                "record-cases",
                "nobody consented, expected --record-keys or --record-loopback beside it",
            )),
            (false, true, _) => Some(("record-keys", "expected --record-cases beside it")),
            (false, _, true) => Some(("record-loopback", "expected --record-cases beside it")),
            _ => None,
        }
    }
}

impl Serve {
    /// Where cases are kept, if some are.
    ///
    /// # Errors
    /// A folder that cannot be made, keys that cannot be read or that everybody may.
    pub(super) fn cases(&self) -> Result<Option<Cases>, String> {
        let CaseArgs { record_cases, record_keys, record_loopback } = &self.case_args;
        let Some(folder) = record_cases else { return Ok(None) };
        let keys = match record_keys {
            None => Vec::new(),
            Some(path) => {
                let place =
                    || format!("{}: {}", self.settings.place("record-keys"), path.display());
                let text = guarded::key(path, N_BYTES_MAX);
                let text = text.map_err(|problem| format!("{}: {problem}", place()))?;
                let lines = text.split(|&byte| byte == b'\n').map(|line| line.trim_ascii());
                let keys: Vec<Vec<u8>> =
                    lines.filter(|key| !key.is_empty()).map(<[u8]>::to_vec).collect();
                if keys.is_empty() {
                    return Err(format!("{}: expected one key a line", place()));
                }
                keys
            }
        };
        let consent = Consent { keys, loopback: *record_loopback };
        let cases = Cases::open(folder, consent).map_err(|error| {
            format!("{}: {}: {error}", self.settings.place("record-cases"), folder.display())
        });
        cases.map(Some)
    }
}
