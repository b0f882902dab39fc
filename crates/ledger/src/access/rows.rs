//! Keys and projects in the database. As of all rows, nothing that was read is trusted, and every
//! value is cut to a little more than it may have.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Key, Project, Roster, Which};
use crate::LedgerError;
use crate::rows::{Rows, bytes};
use crate::schema::WITH_PROJECT_DAYS;

macro_rules! select_keys {
    ($which:literal) => {
        concat!(
            "SELECT substr(id, 1, 11), substr(name, 1, 65), substr(hash, 1, 33), ",
            "substr(hash_before, 1, 33), before_until_us, substr(project, 1, 65), ",
            "substr(person, 1, 65), substr(scopes, 1, 65537), substr(defaults, 1, 65537), ",
            "created_us, expires_us, revoked_us FROM ledger_keys ",
            $which
        )
    };
}

/// In PostgreSQL a literal is 32 bits wide.
macro_rules! select_projects {
    ($days:literal) => {
        concat!(
            "SELECT substr(name, 1, 65), created_us, CAST(",
            $days,
            " AS BIGINT) FROM ledger_projects ORDER BY name LIMIT 1001"
        )
    };
}

impl Rows<'_> {
    /// How often keys and projects were changed.
    pub(crate) async fn version(&mut self) -> Result<i64, LedgerError> {
        self.number("SELECT n FROM ledger_versions WHERE what = 'access'", None).await
    }

    /// They were changed.
    pub(crate) async fn move_version(&mut self) -> Result<(), LedgerError> {
        let step = "UPDATE ledger_versions SET n = n + 1 WHERE what = 'access'";
        let done = sqlx::query(step).execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// Who may ask, as the tables of this version have it.
    pub(crate) async fn roster(
        &mut self,
        which: Which,
        schema: i64,
    ) -> Result<Roster, LedgerError> {
        // First the version: what is changed meanwhile is read too, and once more.
        let version = self.version().await?;
        let keys = match which {
            Which::Live => select_keys!("WHERE revoked_us = 0 ORDER BY name LIMIT 10001"),
            Which::All => select_keys!("ORDER BY name, created_us LIMIT 100000"),
        };
        let rows = sqlx::query(keys).fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        let keys = self.told(rows.iter().map(key).collect::<sqlx::Result<Vec<Key>>>())?;
        let n_keys = self.number("SELECT count(*) FROM ledger_keys", None).await?;
        let projects = match schema >= WITH_PROJECT_DAYS {
            true => select_projects!("keep_days"),
            false => select_projects!("0"),
        };
        let rows = sqlx::query(projects).fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        let project = |row: &AnyRow| -> sqlx::Result<Project> {
            let keep = u32::try_from(row.try_get::<i64, _>(2)?).ok().filter(|days| *days > 0);
            Ok(Project { name: row.try_get(0)?, created: row.try_get(1)?, keep })
        };
        let projects = self.told(rows.iter().map(project).collect::<sqlx::Result<_>>())?;
        Ok(Roster { version, has_had_keys: n_keys > 0, keys, projects })
    }

    /// The key of this id or name that is not revoked. An id goes first.
    pub(super) async fn live_key(&mut self, key: &str) -> Result<Option<Key>, LedgerError> {
        if key.contains('\0') {
            return Ok(None);
        }
        let one = select_keys!(
            "WHERE revoked_us = 0 AND (id = $1 OR name = $1) ORDER BY id = $1 DESC LIMIT 1"
        );
        let row = sqlx::query(one).bind(key).fetch_optional(&mut *self.connection).await;
        let row = self.told(row)?;
        self.told(row.map(|row| self::key(&row)).transpose())
    }

    /// Whether there is a key of this id, or one of this name that is not revoked. A name that is
    /// another key's id would stand for two.
    pub(super) async fn has_key(&mut self, id: &str, name: &str) -> Result<bool, LedgerError> {
        let count = "SELECT count(*) FROM ledger_keys WHERE id = $1 OR id = $2 \
             OR ((name = $1 OR name = $2) AND revoked_us = 0)";
        let row = sqlx::query(count).bind(id).bind(name).fetch_one(&mut *self.connection).await;
        let n = self.told(row.and_then(|row| row.try_get::<i64, _>(0)))?;
        Ok(n > 0)
    }

    pub(super) async fn n_live_keys(&mut self) -> Result<i64, LedgerError> {
        self.number("SELECT count(*) FROM ledger_keys WHERE revoked_us = 0", None).await
    }

    /// Keys of a project that are not revoked.
    pub(super) async fn n_keys_of(&mut self, project: &str) -> Result<i64, LedgerError> {
        let count = "SELECT count(*) FROM ledger_keys WHERE revoked_us = 0 AND project = $1";
        self.number(count, Some(project)).await
    }

    pub(super) async fn insert_key(&mut self, key: &Key) -> Result<(), LedgerError> {
        let insert = "INSERT INTO ledger_keys (id, name, hash, hash_before, before_until_us, \
             project, person, scopes, defaults, created_us, expires_us, revoked_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)";
        let before = key.before.as_ref();
        let insert = sqlx::query(insert)
            .bind(&key.id)
            .bind(&key.name)
            .bind(&key.hash[..])
            .bind(before.map(|(hash, _)| &hash[..]).unwrap_or_default())
            .bind(before.map(|(_, until)| *until).unwrap_or_default())
            .bind(key.project.as_deref().unwrap_or_default())
            .bind(key.person.as_deref().unwrap_or_default())
            .bind(&key.scopes)
            .bind(&key.defaults)
            .bind(key.created)
            .bind(key.expires.unwrap_or_default());
        let done = insert.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    pub(super) async fn revoke_key(&mut self, id: &str, at: i64) -> Result<(), LedgerError> {
        let revoke = "UPDATE ledger_keys SET revoked_us = $1 WHERE id = $2";
        // 0 is not revoked, whatever the clock says.
        let revoke = sqlx::query(revoke).bind(at.max(1)).bind(id);
        let done = revoke.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    pub(super) async fn rotate_key(
        &mut self,
        key: &Key,
        hash: &[u8; 32],
        until: i64,
    ) -> Result<(), LedgerError> {
        let rotate = "UPDATE ledger_keys SET hash = $1, hash_before = $2, before_until_us = $3 \
             WHERE id = $4";
        let rotate =
            sqlx::query(rotate).bind(&hash[..]).bind(&key.hash[..]).bind(until).bind(&key.id);
        let done = rotate.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// Whether there is a project of this name, and how many there are.
    pub(super) async fn project(&mut self, name: &str) -> Result<(bool, i64), LedgerError> {
        if name.contains('\0') {
            return Ok((false, 0));
        }
        let one = "SELECT count(*) FROM ledger_projects WHERE name = $1";
        let is_there = self.number(one, Some(name)).await? > 0;
        Ok((is_there, self.number("SELECT count(*) FROM ledger_projects", None).await?))
    }

    pub(super) async fn insert_project(
        &mut self,
        name: &str,
        at: i64,
        keep: Option<u32>,
    ) -> Result<(), LedgerError> {
        let insert =
            "INSERT INTO ledger_projects (name, created_us, keep_days) VALUES ($1, $2, $3)";
        let days = keep.map(i64::from).unwrap_or_default();
        let insert = sqlx::query(insert).bind(name).bind(at).bind(days);
        let done = insert.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    pub(super) async fn delete_project(&mut self, name: &str) -> Result<(), LedgerError> {
        let delete = sqlx::query("DELETE FROM ledger_projects WHERE name = $1").bind(name);
        let done = delete.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// The number that a question is about, of something if it is about that.
    async fn number(&mut self, ask: &'static str, of: Option<&str>) -> Result<i64, LedgerError> {
        let query = match of {
            Some(of) => sqlx::query(ask).bind(of),
            None => sqlx::query(ask),
        };
        let row = query.fetch_one(&mut *self.connection).await;
        self.told(row.and_then(|row| row.try_get(0)))
    }
}

fn key(row: &AnyRow) -> sqlx::Result<Key> {
    let text = |column: usize| -> sqlx::Result<Option<String>> {
        let text: String = row.try_get(column)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    };
    let time = |column: usize| -> sqlx::Result<Option<i64>> {
        Ok(Some(row.try_get(column)?).filter(|time| *time != 0))
    };
    // SQLite's part of no bytes is NULL.
    let before: Option<Vec<u8>> = row.try_get(3)?;
    let before = before.filter(|hash| !hash.is_empty());
    let before = before.map(|_| Ok::<_, sqlx::Error>((bytes(row, 3)?, row.try_get(4)?)));
    Ok(Key {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        hash: bytes(row, 2)?,
        before: before.transpose()?,
        project: text(5)?,
        person: text(6)?,
        scopes: row.try_get(7)?,
        defaults: row.try_get(8)?,
        created: row.try_get(9)?,
        expires: time(10)?,
        revoked: time(11)?,
    })
}
