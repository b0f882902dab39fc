//! Receipts: what was asked and answered, by hash, signed with the node's key and kept in its
//! ledger. What one says is in `receipt`, how it is signed in `signed`, how it is held against the
//! same request asked again in `compare`; those three know neither ledger, HTTP nor engine.

mod compare;
mod receipt;
mod signed;

pub use compare::{Difference, compare};
pub use receipt::{
    AskedRequest, DryParameters, MirostatParameters, Parameters, PromptTokens, Receipt,
    ReceiptAnswer, ReceiptBuild, ReceiptChoice, ReceiptModel, ReceiptRoute, ReceiptThere,
    ReceiptTime,
};
pub(crate) use receipt::{VERSION, finish_word};
pub use signed::{ReceiptError, SignedReceipt};

use crate::dialects::fields::short;
use crate::errors::ServerError;
use ledger::{Entry, Kind, Ledger, LedgerError, NodeKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Most choices of one answer that its receipt has room for.
pub(crate) const N_CHOICES_MAX: usize = 2048;

/// What receipts are kept in, and what they are signed with.
#[derive(Debug, Clone)]
pub struct Receipts {
    ledger: Ledger,
    key: NodeKey,
    /// Of the key: makes the numbers by which clients are told apart.
    secret: [u8; 32],
}

impl Receipts {
    /// Signs with `key`, and keeps in `ledger`.
    pub fn new(ledger: Ledger, key: NodeKey) -> Self {
        // Signatures of Ed25519 are the same each time, and nobody else can make this one.
        let secret = Sha256::digest(key.sign(b"freehold: numbers of clients")).into();
        Self { ledger, key, secret }
    }

    /// What they are kept in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Has all that was written on the disk, and takes no more.
    ///
    /// # Errors
    /// [`ServerError::LedgerUnavailable`]: not all of it is there.
    pub async fn close(&self) -> Result<(), ServerError> {
        self.ledger.close().await.map_err(|error| unwritable(&error.to_string()))
    }

    /// Refuses what would be answered without a receipt.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        match self.ledger.is_healthy() {
            true => Ok(()),
            false => Err(unwritable("it takes no more entries")),
        }
    }

    /// Signs a receipt and hands it to the ledger, which nobody waits for here. Where that takes it
    /// no more, the answer is out already: it is told, and the next request is refused.
    pub(crate) fn write(&self, receipt: Receipt, client: u64) {
        let (id, at) = (receipt.id.clone(), receipt.time.unix_us);
        let body = SignedReceipt::sign(receipt, &self.key).to_json();
        let principal = principal(client);
        let entry = Entry { kind: Kind::Receipt, id: id.clone(), at, principal, body };
        if let Err(error) = self.ledger.append(entry) {
            tracing::error!(%id, %error, "an answer has no receipt in the ledger");
        }
    }

    /// The receipt of this id, for the client whose answer it is of.
    pub(crate) async fn find(&self, client: u64, id: &str) -> Result<String, ServerError> {
        // Paths and hosts of the owner's are not the client's to know.
        let failed = |error: LedgerError| {
            tracing::error!(%error, "the ledger cannot be read");
            unwritable("it cannot be read")
        };
        let mut found = self.ledger.find(Kind::Receipt, id).await.map_err(failed)?;
        if found.is_none() {
            // It may be on its way.
            self.ledger.flush().await.map_err(failed)?;
            found = self.ledger.find(Kind::Receipt, id).await.map_err(failed)?;
        }
        let own = found.filter(|found| found.entry.principal == principal(client));
        match own.map(|own| own.entry.body) {
            Some(body) if !body.is_empty() => Ok(body),
            Some(_) => Err(no_receipt(id, "it was erased")),
            None => Err(no_receipt(id, "never made, or another client's")),
        }
    }

    /// Holds the whole ledger to its hashes and signatures, and the counters of `at_us` to their
    /// rows, and says what came of it.
    pub(crate) async fn verify_ledger(&self, at_us: i64) -> Result<Value, ServerError> {
        let verified = async {
            self.ledger.flush().await?;
            let counters = self.ledger.reader().check_counters(at_us).await?;
            Ok::<_, LedgerError>((self.ledger.verify().await?, counters))
        };
        let (found, counters) = verified.await.map_err(|error| {
            tracing::error!(%error, "the ledger cannot be read");
            unwritable("it cannot be read")
        })?;
        let bad = found.first_bad.as_ref();
        Ok(json!({
            "intact": found.is_intact() && counters.is_none(),
            "rows": found.n_rows,
            "erased": found.n_erased,
            "head": found.head.map(|(seq, hash)| json!({"seq": seq, "hash": hex(&hash)})),
            "signed": found.signed,
            "node": hex(&self.key.public()),
            "first_bad": bad.map(|bad| json!({"seq": bad.seq, "reason": bad.reason})),
            "counters": counters,
        }))
    }

    /// A number that stands for `name`, the same over restarts.
    pub(crate) fn number(&self, name: &[u8]) -> u64 {
        let hash = Sha256::new_with_prefix(self.secret).chain_update(name).finalize();
        hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// As the ledger has the name of a client.
fn principal(client: u64) -> String {
    format!("{client:016x}")
}

/// That the ledger cannot be used.
pub(crate) fn unwritable(why: &str) -> ServerError {
    ServerError::LedgerUnavailable(format!(
        "the ledger of this server cannot be used, and nothing is answered without a receipt: {why}"
    ))
}

/// That there is no such receipt here.
pub(crate) fn no_receipt(id: &str, why: &str) -> ServerError {
    ServerError::NotFound(format!("receipt {:?} does not exist here: {why}", short(id)))
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One with something in each field.
    pub(crate) fn receipt() -> Receipt {
        Receipt {
            version: VERSION,
            id: "chatcmpl-1".to_owned(),
            time: ReceiptTime {
                unix_us: 1_700_000_000_000_000,
                local: "2026-03-04T05:06:07".to_owned(),
            },
            engine: ReceiptBuild {
                build: "freehold 0 x".to_owned(),
                numerics: 1,
                kv: "f16".to_owned(),
                n_ctx: 512,
            },
            model: ReceiptModel {
                name: "m".to_owned(),
                digest: Some(sha256(b"m")),
                lock: Some("10ck".to_owned()),
                template: Some(sha256(b"t")),
            },
            request: AskedRequest::new("/v1/chat/completions", b"{}"),
            parameters: Parameters {
                dry: Some(DryParameters {
                    multiplier: 0.8,
                    base: 1.75,
                    allowed_length: 2,
                    range: None,
                }),
                mirostat: Some(MirostatParameters { tau: 5.0, eta: 0.1 }),
                ..Parameters::of(&engine::Request {
                    sampling: crate::default_sampling(),
                    ..engine::Request::default()
                })
            },
            adapted: vec!["tools-prompt".to_owned()],
            ignored: String::new(),
            unused: "messages[0].name".to_owned(),
            prompts: vec![PromptTokens::new(&[1, 2])],
            choices: vec![
                ReceiptChoice::new(7, "stop", &[1, 2, 3], 2),
                ReceiptChoice::new(8, "length", &[4; 6], 2),
            ],
            route: None,
        }
    }
}
