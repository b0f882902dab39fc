//! Where a ledger is, and connections to it. Both databases are spoken to through one driver.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _};

use crate::LedgerError;
use crate::key::owner_only;

/// Connections that read at once. Reading is rare: a receipt that is asked for, a check.
const READERS_MAX: u32 = 4;

/// How long a reader waits for one of them, and for the database.
const READER_WAIT: Duration = Duration::from_secs(10);

/// Where a ledger is.
#[derive(Clone)]
pub(crate) struct Place {
    /// For the driver. May hold a password, so it is never told.
    url: String,
    shown: String,
    pub(crate) database: Database,
}

/// Which database keeps it.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// In this file.
    Sqlite(PathBuf),
    Postgres,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// When what a transaction wrote is on the disk. Others see it at once, and a kill of the process
/// loses nothing of it; a loss of power may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// At its end.
    Synced,
    /// With a later one.
    Later,
}

impl Place {
    /// Reads `postgres://…` and `postgresql://…`; everything else is a path, with or without
    /// `sqlite:` or `sqlite://` before it. A path is taken as it stands, `%` and `?` too.
    pub(crate) fn parse(text: &str) -> Result<Self, LedgerError> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if matches!(scheme, Some("postgres" | "postgresql")) {
            let place =
                Self { url: text.to_owned(), shown: shown(text), database: Database::Postgres };
            place.options(Access::Read)?;
            return Ok(place);
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
        let expected = "expected a path, sqlite:PATH or postgres://USER@HOST/NAME".to_owned();
        let refused = || LedgerError::InvalidPlace { value: shown(text), expected };
        match path {
            None if scheme.is_some() => Err(refused()),
            path => Self::of_path(Path::new(path.unwrap_or(text))).ok_or_else(refused),
        }
    }

    fn of_path(path: &Path) -> Option<Self> {
        // The folder may change while the program runs, and the file must not.
        let path = std::path::absolute(path).ok()?;
        path.file_name()?;
        // Escaped whole: nothing of it is a query, a scheme or a step upwards to the driver.
        let escaped = path.to_str()?.bytes().map(|byte| format!("%{byte:02X}"));
        let url = format!("sqlite:{}", escaped.collect::<String>());
        let shown = path.display().to_string();
        Some(Self { url, shown, database: Database::Sqlite(path) })
    }

    /// The place as it may be told.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The error of this place.
    pub(crate) fn error(&self, error: &sqlx::Error) -> LedgerError {
        LedgerError::database(&self.shown, error)
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.database, Database::Sqlite(_))
    }

    /// How a transaction begins that writes. SQLite's takes the right to write at once, so that
    /// the head that it reads is still the head when it writes.
    pub(crate) fn begin_writing(&self) -> &'static str {
        match self.database {
            Database::Sqlite(_) => "BEGIN IMMEDIATE",
            Database::Postgres => "BEGIN",
        }
    }

    /// How a transaction begins that sees the ledger at one moment.
    pub(crate) fn begin_reading(&self) -> &'static str {
        match self.database {
            Database::Sqlite(_) => "BEGIN",
            Database::Postgres => "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        }
    }

    /// What all rows have as `column`, in one text of JSON; NULL or empty where there are none.
    pub(crate) fn json_of_all(&self, column: &str) -> String {
        match self.database {
            Database::Sqlite(_) => format!("CAST(json_group_array({column}) AS TEXT)"),
            Database::Postgres => format!("CAST(json_agg({column}) AS TEXT)"),
        }
    }

    /// An array of JSON of these, which have commas between them.
    pub(crate) fn json_array(&self, columns: &str) -> String {
        match self.database {
            Database::Sqlite(_) => format!("json_array({columns})"),
            Database::Postgres => format!("json_build_array({columns})"),
        }
    }

    /// Keeps other writers out until the transaction ends. SQLite's `BEGIN IMMEDIATE` has done so.
    pub(crate) async fn lock(&self, connection: &mut AnyConnection) -> Result<(), LedgerError> {
        if let Database::Postgres = self.database {
            // The number is arbitrary, and the same for all writers: "freehold" in letters.
            let lock = sqlx::query("SELECT pg_advisory_xact_lock(7382914652093245540)");
            lock.execute(connection).await.map_err(|error| self.error(&error))?;
        }
        Ok(())
    }

    /// A connection for the writer. Makes the file where there is none, for its owner only.
    pub(crate) async fn connect(&self) -> Result<AnyConnection, LedgerError> {
        if let Database::Sqlite(path) = &self.database {
            prepare_file(path)?;
        }
        let options = self.options(Access::Write)?;
        options.connect().await.map_err(|error| self.error(&error))
    }

    /// The ways of a SQLite file: readers never wait for the writer, what was committed is on disk,
    /// and what was erased is overwritten. Its log is copied by whom [`Disk`](crate::disk) says.
    pub(crate) async fn settle(&self, connection: &mut AnyConnection) -> Result<(), LedgerError> {
        if let Database::Postgres = self.database {
            return Ok(());
        }
        let ways = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 0";
        // The change to WAL asks for the whole file and does not wait for it, as all else does.
        for _ in 0..SETTLE_TRIES {
            match sqlx::raw_sql(ways).execute(&mut *connection).await {
                Ok(_) => return Ok(()),
                Err(error) => match self.error(&error) {
                    LedgerError::Locked { .. } => tokio::time::sleep(SETTLE_WAIT).await,
                    error => return Err(error),
                },
            }
        }
        Err(LedgerError::Locked { place: self.shown.clone() })
    }

    /// Has the transactions of a connection end in another way.
    pub(crate) async fn set_durability(
        &self,
        connection: &mut AnyConnection,
        before: Durability,
        now: Durability,
    ) -> Result<(), LedgerError> {
        if before == now {
            return Ok(());
        }
        let set = match (&self.database, now) {
            (Database::Sqlite(_), Durability::Synced) => "PRAGMA synchronous = FULL",
            (Database::Sqlite(_), Durability::Later) => "PRAGMA synchronous = NORMAL",
            (Database::Postgres, Durability::Synced) => "SET synchronous_commit TO DEFAULT",
            (Database::Postgres, Durability::Later) => "SET synchronous_commit TO off",
        };
        let done = sqlx::raw_sql(set).execute(connection).await;
        done.map(drop).map_err(|error| self.error(&error))
    }

    /// Connections that read.
    pub(crate) fn readers(&self) -> Result<AnyPool, LedgerError> {
        if let Database::Sqlite(path) = &self.database
            && !path.exists()
        {
            return Err(LedgerError::Missing { place: self.shown.clone() });
        }
        let pool = AnyPoolOptions::new().max_connections(READERS_MAX).acquire_timeout(READER_WAIT);
        Ok(pool.connect_lazy_with(self.options(Access::Read)?))
    }

    fn options(&self, access: Access) -> Result<AnyConnectOptions, LedgerError> {
        sqlx::any::install_default_drivers();
        let mode = match (&self.database, access) {
            (Database::Sqlite(_), Access::Read) => "?mode=ro",
            (Database::Sqlite(_), Access::Write) => "?mode=rw",
            (Database::Postgres, _) => "",
        };
        let options = AnyConnectOptions::from_str(&format!("{}{mode}", self.url));
        let options = options.map_err(|error| self.error(&error))?;
        Ok(options.disable_statement_logging())
    }
}

/// Without what may be secret.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.shown)
    }
}

/// Five seconds in all, as long as SQLite itself waits for other locks.
const SETTLE_TRIES: u32 = 50;
const SETTLE_WAIT: Duration = Duration::from_millis(100);

/// A place without user, password and options.
fn shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, options) = rest.split_once(['?', '#']).unwrap_or((rest, ""));
    // A password may have such a character, and then stands before it.
    if options.contains('@') {
        return format!("{scheme}://");
    }
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{rest}")
}

fn prepare_file(path: &Path) -> Result<(), LedgerError> {
    if path.is_dir() {
        let place = path.display().to_string();
        return Err(LedgerError::NotALedger { place, found: "a folder".to_owned() });
    }
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)
        .map_err(|error| LedgerError::io(folder, "creating the folder", &error))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    owner_only(&mut options);
    match options.open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(LedgerError::io(path, "creating the ledger", &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str, file: Option<&str>) {
        let place = Place::parse(text).unwrap();
        assert_eq!(place.shown(), shown);
        match place.database {
            Database::Sqlite(path) => assert_eq!(path.to_str(), file),
            Database::Postgres => assert_eq!(file, None),
        }
    }

    #[test]
    fn places_are_paths_and_addresses() {
        for text in ["/data/a b?.sqlite", "sqlite:/data/a b?.sqlite", "sqlite:///data/a b?.sqlite"]
        {
            check(text, "/data/a b?.sqlite", Some("/data/a b?.sqlite"));
        }
        let here = std::env::current_dir().unwrap().join(":memory:");
        check(":memory:", here.to_str().unwrap(), here.to_str());
        check("postgres://u:p@h:5432/n?sslmode=disable", "postgres://h:5432/n", None);
        check("postgresql://h/n?password=p%40q", "postgresql://h/n", None);
    }

    #[test]
    fn other_places_are_refused_without_their_secrets() {
        for text in ["", "/data/..", "mysql://u:secret@h/n", "sqlite:", "http://secret@h"] {
            let told = Place::parse(text).unwrap_err().to_string();
            assert!(told.contains("expected a path") && !told.contains("secret"), "{told}");
        }
        let told = Place::parse("postgres://u:secret@h:port/n").unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }
}
