//! A place for a ledger of a test, in either database, and a door to it for whoever changes things.

use std::sync::atomic::{AtomicU32, Ordering};

use freehold_ledger::{Entry, Kind, Ledger, NodeKey, Reader, Verified};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

/// Address of a database of a PostgreSQL server in which others may be made.
const SERVER: &str = "FREEHOLD_TEST_POSTGRES";

pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) home: tempfile::TempDir,
    pub(crate) key: NodeKey,
    pub(crate) is_postgres: bool,
}

/// Makes a test of each function for each database.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(&$crate::site::Site::sqlite()).await;
                }
            )*
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(site) = $crate::site::Site::postgres().await else { return };
                    super::$test(&site).await;
                    site.tear_down().await;
                }
            )*
        }
    };
}

impl Site {
    pub(crate) fn sqlite() -> Self {
        let home = tempfile::tempdir().unwrap();
        let url = home.path().join("ledger.sqlite").to_str().unwrap().to_owned();
        Self::of(home, url, false)
    }

    /// A database of its own on the server of the environment.
    pub(crate) async fn postgres() -> Option<Self> {
        static N: AtomicU32 = AtomicU32::new(0);
        let Some(server) = std::env::var(SERVER).ok().filter(|server| !server.is_empty()) else {
            println!("skipped: {SERVER} names no PostgreSQL server (see tests/postgres.sh)");
            return None;
        };
        let n = N.fetch_add(1, Ordering::Relaxed);
        let name = format!("freehold_test_{}_{n}", std::process::id());
        execute(&server, &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))
            .await;
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        Some(Self::of(tempfile::tempdir().unwrap(), url, true))
    }

    fn of(home: tempfile::TempDir, url: String, is_postgres: bool) -> Self {
        let key = NodeKey::load_or_create(&home.path().join("node.key")).unwrap();
        Self { url, home, key, is_postgres }
    }

    pub(crate) async fn tear_down(self) {
        let (base, name) = self.url.rsplit_once('/').unwrap();
        execute(&format!("{base}/postgres"), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }

    pub(crate) async fn open(&self) -> Ledger {
        Ledger::open(&self.url, self.key.clone()).await.unwrap()
    }

    /// A ledger of `n` rows that was closed, whatever was there before.
    pub(crate) async fn with_rows(&self, n: i64) {
        // A key that has signed nothing misses nothing.
        Ledger::open(&self.url, other_key()).await.unwrap().close().await.unwrap();
        self.sql("DELETE FROM ledger_entries; DELETE FROM ledger_bodies; DELETE FROM ledger_heads")
            .await;
        let ledger = self.open().await;
        // The first alone, so that it is signed alone.
        ledger.append_durable(entry(1)).await.unwrap();
        for n in 2..=n {
            ledger.append(entry(n)).unwrap();
        }
        ledger.close().await.unwrap();
    }

    pub(crate) async fn verify(&self) -> Verified {
        let reader = Reader::open(&self.url).await.unwrap();
        reader.verify(&[self.key.public()], &[]).await.unwrap()
    }

    /// Does what the ledger never would.
    pub(crate) async fn sql(&self, sql: &str) {
        execute(&self.url, sql).await;
    }

    /// A connection beside the ledger's.
    pub(crate) async fn connect(&self) -> AnyConnection {
        connect(&self.url).await
    }

    /// The text that this site's database understands.
    pub(crate) fn pick<'t>(&self, sqlite: &'t str, postgres: &'t str) -> &'t str {
        if self.is_postgres { postgres } else { sqlite }
    }
}

async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = if url.contains("://") { url.to_owned() } else { format!("sqlite:{url}") };
    AnyConnection::connect(&url).await.unwrap()
}

async fn execute(url: &str, sql: &str) {
    let mut connection = connect(url).await;
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.unwrap();
}

/// Another node's key.
pub(crate) fn other_key() -> NodeKey {
    let home = tempfile::tempdir().unwrap();
    NodeKey::load_or_create(&home.path().join("node.key")).unwrap()
}

/// The `n`th entry of a test; the odd ones are audits.
pub(crate) fn entry(n: i64) -> Entry {
    Entry {
        kind: if n % 2 == 1 { Kind::Audit } else { Kind::Receipt },
        id: format!("e{n}"),
        at: 1_700_000_000_000_000 + n,
        principal: "Zoë".to_owned(),
        body: format!("{{\"n\":{n},\n \"text\":\"größer\"}}"),
    }
}
