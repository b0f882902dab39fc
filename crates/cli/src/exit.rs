//! Exit codes: what each means, and which error gets which. The only place that decides.

use std::io;
use std::process::ExitCode;

use engine::EngineError;
use ledger::LedgerError;
use model::ModelError;
use server::{NotAsLocked, ServerError};
use store::{ErrorKind, StoreError};
use text::{TemplateError, TokenizerError};

use crate::terminal::{self, Colour, StdoutClosed, paint};

/// What the program ends with. The numbers are an interface: they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Verification = 4,
    BadModel = 5,
    NoRoom = 6,
    Network = 7,
    AddressInUse = 8,
    Refused = 9,
    Interrupted = 130,
}

/// Every exit code with its meaning, as the help shows it.
const TABLE: &[(Exit, &str)] = &[
    (Exit::Ok, "done"),
    (Exit::Failed, "failed while working"),
    (Exit::Usage, "the command line or its input asks for something that cannot be done"),
    (Exit::NotFound, "model, file or name not found"),
    (Exit::Verification, "verification failed: bytes are not those that were promised"),
    (Exit::BadModel, "the model file is damaged, or of a kind that cannot be run"),
    (Exit::NoRoom, "not enough memory or disk space"),
    (Exit::Network, "the network or a source of models failed"),
    (Exit::AddressInUse, "the address to listen on is in use"),
    (Exit::Refused, "a model did not pass the gate, rules their cases, or an answer its receipt"),
    (Exit::Interrupted, "interrupted by Ctrl-C"),
];

/// The table as text, for the long help.
pub(crate) fn table() -> String {
    let mut text = String::from("Exit codes:");
    for (exit, meaning) in TABLE {
        text.push_str(&format!("\n  {:>3}  {meaning}", *exit as u8));
    }
    text
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure that this crate itself finds, with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: Option<String>,
}

impl Failure {
    /// Ends with `exit`, telling the user `message` (place, value, expectation).
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()) }
    }

    /// Ends with `exit` without a word: all has been said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, message: None }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or("failed"))
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error: that of the first error in its chain that decides one.
pub(crate) fn code_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(decide).unwrap_or(Exit::Failed)
}

fn decide(error: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if error.is::<StdoutClosed>() {
        return Some(Exit::Ok);
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(of_store(error));
    }
    if let Some(error) = error.downcast_ref::<LedgerError>() {
        return Some(of_ledger(error));
    }
    if let Some(error) = error.downcast_ref::<EngineError>() {
        return of_engine(error);
    }
    if let Some(error) = error.downcast_ref::<gguf::Error>() {
        return Some(of_gguf(error));
    }
    if let Some(ModelError::Gguf(error)) = error.downcast_ref::<ModelError>() {
        return Some(of_gguf(error));
    }
    if error.is::<ModelError>() || error.is::<TokenizerError>() {
        return Some(Exit::BadModel);
    }
    if let Some(error) = error.downcast_ref::<TemplateError>() {
        return Some(of_template(error));
    }
    if error.is::<NotAsLocked>() {
        return Some(Exit::Verification);
    }
    if error.is::<kernels::IsaError>() || error.is::<clap::Error>() {
        return Some(Exit::Usage);
    }
    if let Some(ServerError::Config(_)) = error.downcast_ref::<ServerError>() {
        return Some(Exit::Usage);
    }
    error.downcast_ref::<io::Error>().map(of_io)
}

fn of_store(error: &StoreError) -> Exit {
    match error.kind() {
        ErrorKind::Usage => Exit::Usage,
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::Verification => Exit::Verification,
        ErrorKind::BadModel => Exit::BadModel,
        ErrorKind::NoSpace => Exit::NoRoom,
        ErrorKind::Network => Exit::Network,
        _ => match error {
            // A folder that cannot be made is no name that was not found.
            StoreError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => {
                of_io(source)
            }
            _ => Exit::Failed,
        },
    }
}

fn of_ledger(error: &LedgerError) -> Exit {
    match error {
        LedgerError::InvalidPlace { .. }
        | LedgerError::NotALedger { .. }
        | LedgerError::InvalidEntry { .. }
        | LedgerError::Refused { .. } => Exit::Usage,
        LedgerError::Missing { .. } | LedgerError::NotFound { .. } => Exit::NotFound,
        LedgerError::Altered { .. } | LedgerError::Corrupt { .. } | LedgerError::Export { .. } => {
            Exit::Verification
        }
        LedgerError::Full { .. } => Exit::NoRoom,
        LedgerError::Unreachable { .. } => Exit::Network,
        _ => Exit::Failed,
    }
}

/// `None` where the cause further down the chain decides.
fn of_engine(error: &EngineError) -> Option<Exit> {
    match error {
        EngineError::Gguf(error) | EngineError::Model(ModelError::Gguf(error)) => {
            Some(of_gguf(error))
        }
        EngineError::Model(_) | EngineError::Tokenizer(_) => Some(Exit::BadModel),
        EngineError::Template(error) => Some(of_template(error)),
        EngineError::NotEnoughMemory(_) => Some(Exit::NoRoom),
        EngineError::ContextOverflow { .. }
        | EngineError::Invalid { .. }
        | EngineError::Isa(_)
        | EngineError::NoChatTemplate => Some(Exit::Usage),
        _ => None,
    }
}

/// A template that is none is the model's fault; one that refuses a conversation is not.
fn of_template(error: &TemplateError) -> Exit {
    match error {
        TemplateError::SourceTooLong { .. } | TemplateError::Syntax { .. } => Exit::BadModel,
        TemplateError::Refused { .. } | TemplateError::Reserved { .. } | TemplateError::Case(_) => {
            Exit::Usage
        }
        _ => Exit::Failed,
    }
}

/// A file that cannot be opened is the system's matter, a file that cannot be read is the file's.
fn of_gguf(error: &gguf::Error) -> Exit {
    match error {
        gguf::Error::Io { source, .. } => of_io(source),
        _ => Exit::BadModel,
    }
}

fn of_io(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::NoRoom,
        io::ErrorKind::AddrInUse => Exit::AddressInUse,
        _ => Exit::Failed,
    }
}

/// Tells the user what went wrong, in one line where the error has one.
pub(crate) fn report(error: &anyhow::Error) {
    let silent = error.downcast_ref::<Failure>().is_some_and(|failure| failure.message.is_none());
    if silent || error.is::<StdoutClosed>() {
        return;
    }
    let label = paint("error:", Colour::Red, &io::stderr());
    let diagnosis = error.chain().find_map(|cause| diagnosis(gguf_of(cause)?)).unwrap_or_default();
    terminal::say(&format!("{label} {diagnosis}{}", one_line(error)));
}

/// The error about a GGUF file that `error` is or wraps.
fn gguf_of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e gguf::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
        (Some(EngineError::Gguf(error) | EngineError::Model(ModelError::Gguf(error))), ..)
        | (_, Some(ModelError::Gguf(error)), _)
        | (.., Some(StoreError::BadModel { source: error, .. })) => Some(error),
        _ => None,
    }
}

/// What most likely happened to a file whose contents end before their own directory says.
fn diagnosis(error: &gguf::Error) -> Option<&'static str> {
    let gguf::Error::Malformed { problem, .. } = error else { return None };
    if problem.contains("end behind the file") {
        Some("the file is cut short: ")
    } else if problem.contains("at byte 0, but the file ends after 0 more") {
        Some("the file is empty: ")
    } else if problem.contains("but the file ends after") {
        Some("the file is cut short or damaged: ")
    } else {
        None
    }
}

/// The chain of causes joined by colons. Causes that the error above already tells are left out:
/// some error types print their source, some do not.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<anyhow::Error>, expected: Exit) {
        let error = error.into().context("while doing something");
        assert_eq!(code_of(&error), expected, "{error:#}");
    }

    fn io_error(kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, "told by the system")
    }

    fn gguf_io(kind: io::ErrorKind) -> gguf::Error {
        gguf::Error::Io { path: "model.gguf".into(), action: "open", source: io_error(kind) }
    }

    fn malformed() -> gguf::Error {
        gguf::Error::Malformed { file: None, place: "header".into(), problem: "cut off".into() }
    }

    #[test]
    fn own_failures_say_their_code() {
        check(Failure::new(Exit::Network, "no route"), Exit::Network);
        check(Failure::silent(Exit::Interrupted), Exit::Interrupted);
        check(StdoutClosed, Exit::Ok);
        check(anyhow::anyhow!("something else"), Exit::Failed);
    }

    #[test]
    fn files_and_models_get_their_codes() {
        check(gguf_io(io::ErrorKind::NotFound), Exit::NotFound);
        check(gguf_io(io::ErrorKind::PermissionDenied), Exit::Failed);
        check(malformed(), Exit::BadModel);
        check(ModelError::Gguf(gguf_io(io::ErrorKind::NotFound)), Exit::NotFound);
        check(EngineError::Gguf(malformed()), Exit::BadModel);
        check(EngineError::Gguf(gguf_io(io::ErrorKind::NotFound)), Exit::NotFound);
        let unknown = ModelError::UnknownArchitecture { name: "x".into(), known: vec!["llama"] };
        check(EngineError::Model(unknown), Exit::BadModel);
        check(EngineError::ContextOverflow { n_prompt: 9000, n_ctx: 8192 }, Exit::Usage);
        let refused = TemplateError::Refused { message: "no".into() };
        check(EngineError::Template(refused), Exit::Usage);
        check(TemplateError::Syntax { line: 1, detail: "end".into() }, Exit::BadModel);
        check(EngineError::Stopped { reason: "end".into() }, Exit::Failed);
    }

    #[test]
    fn store_and_system_errors_get_their_codes() {
        let no_space = StoreError::NoSpace {
            path: "/data".into(),
            what: "model".into(),
            needed_bytes: 2,
            free_bytes: 1,
        };
        check(no_space, Exit::NoRoom);
        let unknown = StoreError::UnknownName { name: "x".into(), hint: "none".into() };
        check(unknown, Exit::NotFound);
        let full = StoreError::Io {
            path: "/data".into(),
            doing: "write",
            source: io_error(io::ErrorKind::StorageFull),
        };
        check(full, Exit::NoRoom);
        check(io_error(io::ErrorKind::AddrInUse), Exit::AddressInUse);
        check(io_error(io::ErrorKind::StorageFull), Exit::NoRoom);
        check(ServerError::Config("no model".into()), Exit::Usage);
    }

    #[test]
    fn causes_are_told_once() {
        let plain = anyhow::anyhow!("b").context("a: b");
        assert_eq!(one_line(&plain), "a: b");
        let chained = anyhow::anyhow!("cause").context("doing");
        assert_eq!(one_line(&chained), "doing: cause");
    }

    #[test]
    fn the_table_names_every_code_once() {
        let table = table();
        for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "8 ", "9 ", "130 "] {
            assert_eq!(table.matches(&format!(" {code} ")).count(), 1, "{code}");
        }
    }
}
