//! What the writer is handed, and how it stands to the queue, the chain and the disk.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::LedgerError;
use crate::access::Order;
use crate::accounts::Account;
use crate::contents::{Content, Keeper, Task};
use crate::entry::{Entry, Kind};
use crate::turn::Urgency;

/// What the writer is handed.
pub(crate) enum Work {
    Append(Entry, Option<Reply<i64>>),
    Erase(Erase, Reply<i64>),
    Act(Box<Order>, Reply<i64>),
    Account(Account),
    Keep(Box<Content>, Arc<Keeper>),
    Tidy(Box<Task>, Reply<i64>),
    Flush(Reply<()>),
    Close(Reply<()>),
}

impl Work {
    /// How it stands to others in the queue.
    pub(crate) fn urgency(&self) -> Urgency {
        match self {
            Self::Append(_, None) | Self::Keep(..) => Urgency::Later,
            // What leaves waits for it, and it is about nothing that stands before it.
            Self::Append(entry, Some(_)) if entry.kind == Kind::Departure => Urgency::First,
            Self::Account(account) => account.urgency(),
            Self::Append(..) | Self::Erase(..) | Self::Act(..) | Self::Tidy(..) => Urgency::InOrder,
            Self::Flush(_) | Self::Close(_) => Urgency::InOrder,
        }
    }

    /// Whether nobody waits for it.
    pub(crate) fn may_wait(&self) -> bool {
        matches!(self.urgency(), Urgency::WithFirst | Urgency::Later)
    }

    /// Whether somebody waits for it to be on disk.
    pub(crate) fn is_durable(&self) -> bool {
        match self {
            Self::Append(_, reply) => reply.is_some(),
            Self::Account(account) => matches!(account, Account::Limits(..)),
            Self::Keep(..) => false,
            Self::Erase(..) | Self::Act(..) | Self::Tidy(..) => true,
            Self::Flush(_) | Self::Close(_) => true,
        }
    }

    /// Whether it may write behind the head of the chain.
    pub(crate) fn is_chained(&self) -> bool {
        match self {
            Self::Account(account) => matches!(account, Account::Limits(..)),
            Self::Keep(..) => false,
            _ => true,
        }
    }

    /// Whether something goes of which the database's log may still have a part.
    pub(crate) fn erases(&self) -> bool {
        match self {
            Self::Erase(..) => true,
            Self::Tidy(task, _) => task.deletes(),
            _ => false,
        }
    }
}

/// Whose body is erased, and by whom.
pub(crate) struct Erase {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) principal: String,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;
