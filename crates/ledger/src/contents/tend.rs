//! What goes on by itself: erasures are brought to their end, keys destroyed, and what is over its
//! time deleted. Each step is one transaction of the writer; who is stopped between two goes on at
//! the next opening.

use std::time::{Duration, Instant};

use super::{Keeper, Step, Task};
use crate::LedgerError;
use crate::ledger::{Ledger, WeakLedger};

/// How often keys are looked for that others have marked.
const LOOK_WAIT: Duration = Duration::from_secs(10);
/// How often what is over its time is deleted: that late it is at most, while a server runs.
const EXPIRE_WAIT: Duration = Duration::from_secs(3600);

/// What an erasure came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// The row of the chain that records it.
    pub record: i64,
    /// Contents and other rows that were forgotten.
    pub n_forgotten: i64,
    /// Keys of other nodes, which destroy them when they next look: within seconds where they run.
    pub n_keys_elsewhere: i64,
}

/// Erases a person, from the record to the last row.
pub(crate) async fn erase(
    ledger: &Ledger,
    keeper: &Keeper,
    person: &str,
    principal: &str,
) -> Result<Erased, LedgerError> {
    let begin = Task::new(Step::Begin(person.to_owned()), principal)?;
    let until = begin.at;
    let record = ledger.perform(begin).await?;
    let n_forgotten = finish(ledger, keeper, (person, until), principal).await?;
    let n_keys_elsewhere = ledger.reader().n_doomed_elsewhere(person, &keeper.node).await?;
    Ok(Erased { record, n_forgotten, n_keys_elsewhere })
}

/// Goes on with erasures that were begun.
pub(crate) async fn resume(ledger: &Ledger, keeper: &Keeper) -> Result<(), LedgerError> {
    for (person, until, principal) in ledger.reader().erasing().await? {
        finish(ledger, keeper, (&person, until), &principal).await?;
        tracing::info!(%person, "an erasure that was cut off is done");
    }
    Ok(())
}

/// Brings an erasure to its end, and returns how much was forgotten. Keys go first: what they
/// sealed is dark from then on, wherever there is a copy.
async fn finish(
    ledger: &Ledger,
    keeper: &Keeper,
    (person, until): (&str, i64),
    principal: &str,
) -> Result<i64, LedgerError> {
    destroy(ledger, keeper).await?;
    let person = person.to_owned();
    let mut n_forgotten = 0;
    loop {
        let forget = Step::Forget { person: person.clone(), until };
        match ledger.perform(Task::new(forget, principal)?).await? {
            0 => break,
            n => n_forgotten += n,
        }
    }
    ledger.perform(Task::new(Step::End { person, until }, principal)?).await?;
    Ok(n_forgotten)
}

/// Destroys the keys of this node that are marked.
async fn destroy(ledger: &Ledger, keeper: &Keeper) -> Result<(), LedgerError> {
    for name in ledger.reader().doomed_keys(&keeper.node).await? {
        let (keys, own) = (keeper.keys.clone(), name.clone());
        let destroyed = tokio::task::spawn_blocking(move || keys.destroy(&own)).await;
        destroyed.unwrap_or_else(|_| Err(crate::ledger::ended()))?;
        ledger.perform(Task::new(Step::Destroyed(name), "")?).await?;
    }
    Ok(())
}

/// Deletes what is over its time, and retires keys for which nothing is left.
async fn expire(ledger: &Ledger, keeper: &Keeper) -> Result<(), LedgerError> {
    while ledger.perform(Task::new(Step::Expire, "")?).await? > 0 {}
    ledger.perform(Task::new(Step::Retire(keeper.node), "")?).await.map(drop)
}

/// Looks after contents for as long as the ledger is open.
pub(crate) async fn tend(ledger: WeakLedger, keeper: Keeper) {
    let mut expired: Option<Instant> = None;
    loop {
        let Some(ledger) = ledger.upgrade() else { return };
        let looked = async {
            if expired.is_none_or(|at| at.elapsed() >= EXPIRE_WAIT) {
                expire(&ledger, &keeper).await?;
                expired = Some(Instant::now());
            }
            destroy(&ledger, &keeper).await
        };
        match looked.await {
            Err(_) if ledger.is_closed() => return,
            Err(error) => tracing::warn!("contents that are over could not be forgotten: {error}"),
            Ok(()) => {}
        }
        // Whoever else has a handle may close it meanwhile.
        drop(ledger);
        tokio::time::sleep(LOOK_WAIT).await;
    }
}
