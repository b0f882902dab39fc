//! The tables, and how they came to be: migrations that go forward only, a file each.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Connection as _, Row as _};

use crate::LedgerError;
use crate::key::{owner_only, sync_folder_of};
use crate::now_us;
use crate::place::{Database, Place};

/// One step, from the version before it.
#[derive(Clone, Copy)]
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

macro_rules! migration {
    ($version:expr, $name:literal) => {
        Migration {
            version: $version,
            sqlite: include_str!(concat!("schema/", $name, ".sqlite.sql")),
            postgres: include_str!(concat!("schema/", $name, ".postgres.sql")),
        }
    };
}

/// All of them, in order.
pub(crate) const ALL: &[Migration] = &[
    migration!(1, "0001"),
    // Keys and projects.
    migration!(WITH_KEYS, "0002"),
    // Limits and usage.
    migration!(WITH_ACCOUNTS, "0003"),
    // Contents, and names of their keys.
    migration!(WITH_CONTENTS, "0004"),
    // How long projects have contents kept.
    migration!(WITH_PROJECT_DAYS, "0005"),
];

/// From this version on there are keys.
pub(crate) const WITH_KEYS: i64 = 2;
/// Limits and usage from this one on.
pub(crate) const WITH_ACCOUNTS: i64 = 3;
/// And contents from this one on.
pub(crate) const WITH_CONTENTS: i64 = 4;
/// And projects say from this one on how long contents are kept.
pub(crate) const WITH_PROJECT_DAYS: i64 = 5;

/// Brings the ledger to the newest of `all`, and the connection to the ways of a writer. A SQLite
/// file that has something in it is copied first, to `FILE.vN.backup`; N is the version it has.
pub(crate) async fn migrate(
    place: &Place,
    connection: &mut AnyConnection,
    all: &[Migration],
) -> Result<(), LedgerError> {
    let newest = all.last().map_or(0, |last| last.version);
    let version = version(place, connection, newest).await?;
    if version == 0 {
        check_foundation(place, connection).await?;
    }
    place.settle(connection).await?;
    if version == newest {
        return Ok(());
    }
    if version > 0
        && let Database::Sqlite(path) = &place.database
    {
        back_up(place, connection, path, version).await?;
    }
    for migration in all {
        let script = match place.database {
            Database::Sqlite(_) => migration.sqlite,
            Database::Postgres => migration.postgres,
        };
        let transaction = connection.begin_with(place.begin_writing()).await;
        let mut transaction = transaction.map_err(|error| place.error(&error))?;
        place.lock(&mut transaction).await?;
        // Another process may have done it meanwhile.
        if self::version(place, &mut transaction, newest).await? < migration.version {
            let done = sqlx::raw_sql(script).execute(&mut *transaction).await;
            done.map_err(|error| place.error(&error))?;
            let note = "INSERT INTO ledger_migrations (version, at_us) VALUES ($1, $2)";
            let note = sqlx::query(note).bind(migration.version).bind(now_us());
            note.execute(&mut *transaction).await.map_err(|error| place.error(&error))?;
        }
        transaction.commit().await.map_err(|error| place.error(&error))?;
    }
    Ok(())
}

/// The version of the tables; 0 where there are none.
///
/// # Errors
/// [`LedgerError::TooNew`] beyond `newest`.
pub(crate) async fn version(
    place: &Place,
    connection: &mut AnyConnection,
    newest: i64,
) -> Result<i64, LedgerError> {
    let exists = match place.database {
        Database::Sqlite(_) => {
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'ledger_migrations'"
        }
        Database::Postgres => {
            "SELECT count(*) FROM pg_class WHERE oid = to_regclass('ledger_migrations')"
        }
    };
    if number(place, connection, exists).await? == 0 {
        return Ok(0);
    }
    let version = "SELECT coalesce(max(version), 0) FROM ledger_migrations";
    let found = number(place, connection, version).await?;
    if found > newest {
        let place = place.shown().to_owned();
        return Err(LedgerError::TooNew { place, found, known: newest });
    }
    Ok(found)
}

/// A database without a ledger must be one in which a ledger may be made.
async fn check_foundation(
    place: &Place,
    connection: &mut AnyConnection,
) -> Result<(), LedgerError> {
    let (question, found) = match place.database {
        Database::Sqlite(_) => (
            "SELECT count(*) FROM sqlite_schema \
             WHERE substr(name, 1, 7) NOT IN ('ledger_', 'sqlite_')",
            "another program's SQLite file",
        ),
        // In another encoding, names with characters that it lacks could not be written.
        Database::Postgres => (
            "SELECT count(*) FROM pg_database WHERE datname = current_database() \
             AND pg_encoding_to_char(encoding) <> 'UTF8'",
            "a database whose encoding is not UTF8",
        ),
    };
    if number(place, connection, question).await? > 0 {
        let (place, found) = (place.shown().to_owned(), found.to_owned());
        return Err(LedgerError::NotALedger { place, found });
    }
    Ok(())
}

async fn number(
    place: &Place,
    connection: &mut AnyConnection,
    question: &'static str,
) -> Result<i64, LedgerError> {
    let row = sqlx::query(question).fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| place.error(&error))
}

/// Copies the ledger as it is at one moment. The copy gets its name when it is whole.
async fn back_up(
    place: &Place,
    connection: &mut AnyConnection,
    path: &Path,
    version: i64,
) -> Result<(), LedgerError> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".v{version}.{suffix}"));
        PathBuf::from(name)
    };
    let (part, copy) = (beside("part"), beside("backup"));
    let told = |error: std::io::Error| LedgerError::io(&copy, "copying the ledger", &error);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    owner_only(&mut options);
    // What was cut off before may be readable by others.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(told(error)),
        _ => {}
    }
    options.open(&part).map_err(told)?;
    let copying = sqlx::query("VACUUM INTO $1").bind(part.to_string_lossy().into_owned());
    copying.execute(connection).await.map_err(|error| place.error(&error))?;
    let synced = fs::File::open(&part).and_then(|file| file.sync_all());
    synced.and_then(|()| fs::rename(&part, &copy)).map_err(told)?;
    sync_folder_of(&copy).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: i64 = ALL[ALL.len() - 1].version;
    const NEXT: Migration = Migration {
        version: NEWEST + 1,
        sqlite: "ALTER TABLE ledger_heads ADD COLUMN note TEXT; CREATE TABLE ledger_more (n INTEGER)",
        postgres: "",
    };

    async fn open(path: &Path, all: &[Migration]) -> Result<AnyConnection, LedgerError> {
        let place = Place::parse(path.to_str().unwrap()).unwrap();
        let mut connection = place.connect().await?;
        migrate(&place, &mut connection, all).await?;
        Ok(connection)
    }

    fn newer() -> Vec<Migration> {
        ALL.iter().chain([&NEXT]).copied().collect()
    }

    #[tokio::test]
    async fn a_file_is_copied_before_it_is_changed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("it's 100%.sqlite");
        let mut connection = open(&path, ALL).await.unwrap();
        let insert = "INSERT INTO ledger_bodies (seq, body) VALUES (7, x'00')";
        sqlx::raw_sql(insert).execute(&mut connection).await.unwrap();
        let copy = home.path().join(format!("it's 100%.sqlite.v{NEWEST}.backup"));
        assert!(!copy.exists(), "nothing was there to be copied");
        // What a copy that was cut off left behind.
        let part = format!("it's 100%.sqlite.v{NEWEST}.part");
        fs::write(home.path().join(part), "half").unwrap();

        let (first, second) = (open(&path, &newer()).await, open(&path, &newer()).await);
        let mut second = second.unwrap();
        first.unwrap();
        sqlx::raw_sql("SELECT note FROM ledger_heads").execute(&mut second).await.unwrap();
        let mut old = open(&copy, ALL).await.unwrap();
        let kept = sqlx::query("SELECT seq FROM ledger_bodies").fetch_one(&mut old).await.unwrap();
        assert_eq!(kept.try_get::<i64, _>(0).unwrap(), 7);
        #[cfg(unix)]
        for file in [&path, &copy] {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }

        let told = open(&path, ALL).await.unwrap_err().to_string();
        let expected = format!("a ledger of format {}, this program knows up to", NEXT.version);
        assert!(told.contains(&expected), "{told}");
    }

    #[tokio::test]
    async fn what_is_no_ledger_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("other.sqlite");
        let place = Place::parse(path.to_str().unwrap()).unwrap();
        let mut other = place.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE songs (n INTEGER)").execute(&mut other).await.unwrap();
        let before = fs::read(&path).unwrap();
        let told = open(&path, ALL).await.unwrap_err().to_string();
        assert!(told.contains("another program's SQLite file, expected a ledger"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::write(home.path().join("text"), "not a database at all, but long enough").unwrap();
        let told = open(&home.path().join("text"), ALL).await.unwrap_err().to_string();
        assert!(told.contains("not a SQLite file, expected a ledger"), "{told}");
        let told = open(home.path(), ALL).await.unwrap_err().to_string();
        assert!(told.contains("a folder, expected a ledger"), "{told}");
    }

    #[tokio::test]
    async fn a_ledger_of_before_there_were_keys_has_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.sqlite");
        drop(open(&path, &ALL[..1]).await.unwrap());
        let roster = async || {
            let reader = crate::Reader::open(path.to_str().unwrap()).await.unwrap();
            reader.roster(crate::Which::All).await.unwrap()
        };
        assert_eq!(roster().await, crate::Roster::default());
        drop(open(&path, ALL).await.unwrap());
        assert_eq!(roster().await, crate::Roster::default());
    }
}
