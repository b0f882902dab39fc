//! Contents and their keys in the database. As of all rows, nothing that was read is trusted, and
//! every value is cut to a little more than it may have.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row as _};

use super::{Content, Person};
use crate::LedgerError;
use crate::chain::Hash;
use crate::rows::Rows;

/// Contents that are read at a time: of the largest, 64 MiB.
const PAGE_CONTENTS: i64 = 8;
/// Most persons that are listed, and keys that are destroyed in one go.
const N_LISTED: i64 = 100_000;

/// A content as it was read, without its body.
pub(super) struct Sealed {
    pub(super) content: Content,
    /// The name of its key, and what that sealed.
    pub(super) key: String,
    pub(super) sealed: Vec<u8>,
}

macro_rules! select_contents {
    ($which:literal) => {
        concat!(
            "SELECT substr(id, 1, 600), substr(person, 1, 65), substr(key, 1, 65), at_us, ",
            "until_us, substr(sealed, 1, 8389000) FROM ledger_contents ",
            $which
        )
    };
}

impl Rows<'_> {
    /// Writes a content, which has another one's id only where it was written before.
    pub(super) async fn insert_content(
        &mut self,
        content: &Content,
        key: &str,
        sealed: &[u8],
    ) -> Result<(), LedgerError> {
        let insert = "INSERT INTO ledger_contents (id, person, key, at_us, until_us, sealed) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
        let insert = sqlx::query(insert)
            .bind(&content.id)
            .bind(&content.person)
            .bind(key)
            .bind(content.at)
            .bind(content.until)
            .bind(sealed);
        self.change(insert).await.map(drop)
    }

    /// The content of this id.
    pub(super) async fn content(&mut self, id: &str) -> Result<Option<Sealed>, LedgerError> {
        let one = sqlx::query(select_contents!("WHERE id = $1")).bind(id);
        let row = one.fetch_optional(&mut *self.connection).await;
        let row = self.told(row)?;
        self.told(row.map(|row| sealed(&row)).transpose())
    }

    /// The contents of a person behind `after`, by time and id, at most a page.
    pub(super) async fn contents_of(
        &mut self,
        person: &str,
        after: (i64, &str),
    ) -> Result<Vec<Sealed>, LedgerError> {
        let page = select_contents!(
            "WHERE person = $1 AND (at_us > $2 OR (at_us = $2 AND id > $3)) \
             ORDER BY at_us, id LIMIT $4"
        );
        let page = sqlx::query(page).bind(person).bind(after.0).bind(after.1).bind(PAGE_CONTENTS);
        let rows = page.fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        self.told(rows.iter().map(sealed).collect())
    }

    /// How many contents a person has.
    pub(super) async fn n_contents_of(&mut self, person: &str) -> Result<i64, LedgerError> {
        let count = sqlx::query("SELECT count(*) FROM ledger_contents WHERE person = $1");
        let row = count.bind(person).fetch_one(&mut *self.connection).await;
        self.told(row.and_then(|row| row.try_get(0)))
    }

    /// Whether the content of an answer is kept.
    pub(super) async fn has_content(&mut self, id: &str) -> Result<bool, LedgerError> {
        let count = sqlx::query("SELECT count(*) FROM ledger_contents WHERE id = $1").bind(id);
        let row = count.fetch_one(&mut *self.connection).await;
        self.told(row.and_then(|row| row.try_get::<i64, _>(0)).map(|n| n > 0))
    }

    /// How many rows of usage name a person.
    pub(super) async fn n_usage_of(&mut self, person: &str) -> Result<i64, LedgerError> {
        let count = "SELECT count(*) FROM ledger_usage WHERE person = $1 AND person <> ''";
        let row = sqlx::query(count).bind(person).fetch_one(&mut *self.connection).await;
        self.told(row.and_then(|row| row.try_get(0)))
    }

    /// Who has contents, by name.
    pub(super) async fn persons(&mut self) -> Result<Vec<Person>, LedgerError> {
        let persons = "SELECT substr(person, 1, 65), count(*), sum(length(sealed)), min(at_us), \
             max(at_us), max(until_us) FROM ledger_contents \
             GROUP BY person ORDER BY person LIMIT $1";
        let rows = sqlx::query(persons).bind(N_LISTED).fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        let person = |row: &AnyRow| -> sqlx::Result<Person> {
            Ok(Person {
                name: row.try_get(0)?,
                n_contents: row.try_get(1)?,
                n_bytes: row.try_get(2)?,
                first: row.try_get(3)?,
                last: row.try_get(4)?,
                until: row.try_get(5)?,
            })
        };
        self.told(rows.iter().map(person).collect())
    }

    /// Ids of contents of a person whose key is not in use any more.
    pub(super) async fn dark_contents_of(
        &mut self,
        person: &str,
        limit: i64,
    ) -> Result<Vec<String>, LedgerError> {
        let dark = "SELECT id FROM ledger_contents WHERE person = $1 AND key NOT IN \
             (SELECT id FROM ledger_content_keys WHERE person = $1 AND erased_us = 0) LIMIT $2";
        let dark = sqlx::query(dark).bind(person).bind(limit);
        self.texts(dark).await
    }

    pub(super) async fn delete_content(&mut self, id: &str) -> Result<(), LedgerError> {
        let delete = sqlx::query("DELETE FROM ledger_contents WHERE id = $1").bind(id);
        self.change(delete).await.map(drop)
    }

    /// Deletes contents that were to be kept until then at most, of which at most a page, and
    /// returns how many.
    pub(super) async fn delete_expired(&mut self, at: i64) -> Result<i64, LedgerError> {
        let delete = "DELETE FROM ledger_contents WHERE id IN \
             (SELECT id FROM ledger_contents WHERE until_us <= $1 ORDER BY until_us LIMIT $2)";
        let delete = sqlx::query(delete).bind(at).bind(super::PAGE_ROWS);
        self.change(delete).await
    }

    /// The name of the key that a node has in use for a person, if it was made after `since`.
    pub(super) async fn content_key(
        &mut self,
        person: &str,
        node: &Hash,
        since: i64,
    ) -> Result<Option<String>, LedgerError> {
        let one = "SELECT substr(id, 1, 65) FROM ledger_content_keys WHERE person = $1 \
             AND node = $2 AND erased_us = 0 AND made_us > $3 ORDER BY made_us DESC, id LIMIT 1";
        let one = sqlx::query(one).bind(person).bind(&node[..]).bind(since);
        Ok(self.texts(one).await?.pop())
    }

    pub(super) async fn insert_content_key(
        &mut self,
        name: &str,
        person: &str,
        node: &Hash,
        at: i64,
    ) -> Result<(), LedgerError> {
        let insert = "INSERT INTO ledger_content_keys (id, person, node, made_us, erased_us) \
             VALUES ($1, $2, $3, $4, 0)";
        let insert = sqlx::query(insert).bind(name).bind(person).bind(&node[..]).bind(at);
        self.change(insert).await.map(drop)
    }

    /// Forgets a key, and returns whether there was one.
    pub(super) async fn delete_content_key(&mut self, name: &str) -> Result<i64, LedgerError> {
        self.change(sqlx::query("DELETE FROM ledger_content_keys WHERE id = $1").bind(name)).await
    }

    /// Marks the keys of a person, of all nodes, and returns how many.
    pub(super) async fn mark_content_keys(
        &mut self,
        person: &str,
        at: i64,
    ) -> Result<i64, LedgerError> {
        let mark = "UPDATE ledger_content_keys SET erased_us = $1 \
             WHERE person = $2 AND erased_us = 0";
        // 0 is not marked, whatever the clock says.
        self.change(sqlx::query(mark).bind(at.max(1)).bind(person)).await
    }

    /// Marks keys of a node that were made by then and have nothing left.
    pub(super) async fn retire_content_keys(
        &mut self,
        node: &Hash,
        made: i64,
        at: i64,
    ) -> Result<(), LedgerError> {
        let mark = "UPDATE ledger_content_keys SET erased_us = $1 \
             WHERE node = $2 AND erased_us = 0 AND made_us <= $3 AND NOT EXISTS \
             (SELECT 1 FROM ledger_contents c WHERE c.key = ledger_content_keys.id)";
        let mark = sqlx::query(mark).bind(at.max(1)).bind(&node[..]).bind(made);
        self.change(mark).await.map(drop)
    }

    /// Names of the keys that a node has still to destroy.
    pub(super) async fn doomed_keys(&mut self, node: &Hash) -> Result<Vec<String>, LedgerError> {
        let doomed = "SELECT substr(id, 1, 65) FROM ledger_content_keys \
             WHERE node = $1 AND erased_us > 0 LIMIT $2";
        let doomed = sqlx::query(doomed).bind(&node[..]).bind(N_LISTED);
        self.texts(doomed).await
    }

    /// How many keys of a person other nodes have still to destroy.
    pub(super) async fn n_doomed_elsewhere(
        &mut self,
        person: &str,
        node: &Hash,
    ) -> Result<i64, LedgerError> {
        let count = "SELECT count(*) FROM ledger_content_keys \
             WHERE person = $1 AND node <> $2 AND erased_us > 0";
        let count = sqlx::query(count).bind(person).bind(&node[..]);
        let row = count.fetch_one(&mut *self.connection).await;
        self.told(row.and_then(|row| row.try_get(0)))
    }

    pub(super) async fn begin_erasing(
        &mut self,
        person: &str,
        at: i64,
        principal: &str,
    ) -> Result<(), LedgerError> {
        let insert = "INSERT INTO ledger_erasing (person, at_us, principal) VALUES ($1, $2, $3) \
             ON CONFLICT (person) DO UPDATE SET at_us = excluded.at_us, \
             principal = excluded.principal";
        let insert = sqlx::query(insert).bind(person).bind(at).bind(principal);
        self.change(insert).await.map(drop)
    }

    /// Persons whose erasure has begun, since when, and by whom.
    pub(super) async fn erasing(&mut self) -> Result<Vec<(String, i64, String)>, LedgerError> {
        let all = "SELECT substr(person, 1, 65), at_us, substr(principal, 1, 257) \
             FROM ledger_erasing LIMIT $1";
        let rows = sqlx::query(all).bind(N_LISTED).fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        let read = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        self.told(rows.iter().map(read).collect())
    }

    /// The erasure that began by then is done.
    pub(super) async fn end_erasing(
        &mut self,
        person: &str,
        until: i64,
    ) -> Result<(), LedgerError> {
        let delete = "DELETE FROM ledger_erasing WHERE person = $1 AND at_us <= $2";
        self.change(sqlx::query(delete).bind(person).bind(until)).await.map(drop)
    }

    /// Changes something, and returns how many rows it was.
    async fn change(&mut self, change: Query<'_, Any, AnyArguments>) -> Result<i64, LedgerError> {
        let done = change.execute(&mut *self.connection).await;
        let n_rows = self.told(done)?.rows_affected();
        Ok(i64::try_from(n_rows).unwrap_or(i64::MAX))
    }

    /// The texts that a question has for an answer.
    async fn texts(
        &mut self,
        question: Query<'_, Any, AnyArguments>,
    ) -> Result<Vec<String>, LedgerError> {
        let rows = question.fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        self.told(rows.iter().map(|row| row.try_get(0)).collect())
    }
}

fn sealed(row: &AnyRow) -> sqlx::Result<Sealed> {
    let content = Content {
        id: row.try_get(0)?,
        person: row.try_get(1)?,
        at: row.try_get(3)?,
        until: row.try_get(4)?,
        body: String::new(),
    };
    Ok(Sealed { content, key: row.try_get(2)?, sealed: row.try_get(5)? })
}
