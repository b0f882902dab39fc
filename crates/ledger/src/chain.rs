//! The hash chain: what is hashed and signed, and the walk that holds every row to it. Pure.
//!
//! ```text
//! content = H("freehold.ledger.entry.1", kind, id, at, principal, SHA-256 of the body)
//! hash    = H("freehold.ledger.row.1", previous hash, seq, content)
//! signed  = H("freehold.ledger.head.1", seq, hash, at)
//! ```
//!
//! `H` is SHA-256 over all of these, each behind its length as 8 bytes, big end first; numbers are
//! 8 bytes, big end first. A body is hashed apart, so that it can be erased and the chain stays
//! whole. What a row says is hashed apart from its place, so that an export may leave out what rows
//! say and still be checked from end to end.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};

use crate::entry::{BODY_BYTES_MAX, Kind};
use crate::key::NodeKey;

const ENTRY: &str = "freehold.ledger.entry.1";
const ROW: &str = "freehold.ledger.row.1";
const HEAD: &str = "freehold.ledger.head.1";

/// What stands before the first row.
pub(crate) const ORIGIN: [u8; 32] = [0; 32];

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// A row as it was found, wherever it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) at: i64,
    pub(crate) principal: String,
    pub(crate) body_hash: Hash,
    pub(crate) previous: Hash,
    pub(crate) hash: Hash,
    pub(crate) body: Body,
}

/// What became of a row's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Here(Vec<u8>),
    /// Erased, says the row of this place.
    Erased(i64),
    Missing,
}

/// What a node has signed: its chain up to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The row.
    pub seq: i64,
    /// Its hash.
    pub hash: [u8; 32],
    /// When it was signed, in microseconds since 1970 (UTC).
    pub at: i64,
    /// The public key of the node.
    pub key: [u8; 32],
    /// Its signature.
    pub signature: [u8; 64],
}

/// A row that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Its place in the chain.
    pub seq: i64,
    /// What is wrong with it.
    pub reason: String,
}

/// What a walk over the chain found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Rows that were checked.
    pub n_rows: i64,
    /// Those of them whose body was erased, as a later row says.
    pub n_erased: i64,
    /// Place and hash of the last row that was checked; `None` if there was none.
    pub head: Option<(i64, [u8; 32])>,
    /// Signed heads that were checked.
    pub n_heads: usize,
    /// The last row that a trusted node has signed. What is behind it could be cut off unnoticed.
    pub signed: Option<i64>,
    /// Keys that signed and are not among those that were trusted.
    pub strangers: Vec<[u8; 32]>,
    /// The first row that is not as it was written; what comes behind it was not checked.
    pub first_bad: Option<Bad>,
}

impl Verified {
    /// Whether everything is as it was written.
    pub fn is_intact(&self) -> bool {
        self.first_bad.is_none()
    }
}

impl Row {
    /// The hash of what the row says.
    pub(crate) fn content(&self) -> Hash {
        let (kind, id, at) = (self.kind.as_bytes(), self.id.as_bytes(), self.at.to_be_bytes());
        hash_of(ENTRY, &[kind, id, &at, self.principal.as_bytes(), &self.body_hash])
    }

    /// How an erasure names this row.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.kind, self.id)
    }
}

impl SignedHead {
    /// The head of `key`'s node, signed.
    pub(crate) fn sign(key: &NodeKey, seq: i64, hash: Hash, at: i64) -> Self {
        let signature = key.sign(&signed_bytes(seq, &hash, at));
        Self { seq, hash, at, key: key.public(), signature }
    }

    /// Whether the signature is of this head, by its key.
    pub fn is_valid(&self) -> bool {
        let bytes = signed_bytes(self.seq, &self.hash, self.at);
        NodeKey::verify(&self.key, &bytes, &self.signature)
    }
}

fn signed_bytes(seq: i64, hash: &Hash, at: i64) -> Hash {
    hash_of(HEAD, &[&seq.to_be_bytes(), hash, &at.to_be_bytes()])
}

/// The hash of the row at `seq` behind `previous`.
pub(crate) fn row_hash(previous: &Hash, seq: i64, content: &Hash) -> Hash {
    hash_of(ROW, &[previous, &seq.to_be_bytes(), content])
}

/// The SHA-256 of a body.
pub(crate) fn body_hash(body: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(body);
    finish(context)
}

fn hash_of(domain: &str, fields: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for field in [domain.as_bytes()].iter().chain(fields) {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    finish(context)
}

fn finish(context: Context) -> Hash {
    context.finish().as_ref().try_into().expect("FIPS 180-4: a SHA-256 has 32 bytes")
}

/// A walk over rows and heads in their order, from the first row or from a later one.
///
/// A head comes behind its row; those of rows that are not there come last.
pub(crate) struct Walk<'t> {
    /// Whose heads count; empty where nobody's key is known, and nobody's is asked for.
    trusted: &'t [Hash],
    /// The place that is next.
    next: i64,
    /// The hash of the row before; of a part of a chain it is unknown at first.
    previous: Option<Hash>,
    /// Erasures that are still to come: their place, and the name and place of what they erased.
    erasures: BTreeMap<i64, (String, i64)>,
    /// Heads that were kept elsewhere and are still to come, the last first.
    noted: Vec<&'t SignedHead>,
    found: Verified,
}

impl<'t> Walk<'t> {
    /// A walk that begins with row `since`, from 1 on.
    pub(crate) fn new(trusted: &'t [Hash], since: i64) -> Self {
        let previous = (since <= 1).then_some(ORIGIN);
        let (erasures, noted, found) = (BTreeMap::new(), Vec::new(), Verified::default());
        Self { trusted, next: since.max(1), previous, erasures, noted, found }
    }

    /// Holds the rows to heads that were kept elsewhere, too.
    pub(crate) fn with_noted(mut self, noted: &'t [SignedHead]) -> Self {
        self.noted = noted.iter().filter(|head| head.seq >= self.next).collect();
        self.noted.sort_by_key(|head| std::cmp::Reverse(head.seq));
        self
    }

    /// The next row.
    pub(crate) fn row(&mut self, row: &Row) -> Result<(), Bad> {
        let bad = |reason: String| Err(Bad { seq: row.seq, reason });
        self.link(row.seq, row.previous, row.content(), row.hash)?;
        match &row.body {
            Body::Here(body) if body.len() > BODY_BYTES_MAX => {
                return bad("its body is larger than any that is recorded".to_owned());
            }
            Body::Here(body) if body_hash(body) != row.body_hash => {
                return bad("its body is not the one that was recorded".to_owned());
            }
            Body::Here(_) => {}
            Body::Erased(by) if *by > row.seq => {
                self.found.n_erased += 1;
                if let Some((_, other)) = self.erasures.insert(*by, (row.name(), row.seq)) {
                    let reason = format!("row {by} is the erasure of row {other} already");
                    return bad(reason);
                }
            }
            Body::Erased(_) | Body::Missing => {
                return bad("its body is missing, and no erasure of it is recorded".to_owned());
            }
        }
        let Some((name, erased)) = self.erasures.remove(&row.seq) else { return Ok(()) };
        if row.kind == Kind::Erasure.name() && row.id == name {
            return Ok(());
        }
        let reason = format!("its body is missing, and row {} records no erasure of it", row.seq);
        Err(Bad { seq: erased, reason })
    }

    /// The next row, of which only the hash of what it says is known.
    pub(crate) fn left_out(&mut self, row: &LeftOut) -> Result<(), Bad> {
        self.link(row.seq, row.previous, row.content, row.hash)
    }

    fn link(&mut self, seq: i64, previous: Hash, content: Hash, hash: Hash) -> Result<(), Bad> {
        let bad = |seq, reason: String| Err(Bad { seq, reason });
        if seq > self.next {
            return bad(self.next, format!("it is missing: row {seq} is the next"));
        }
        if seq < self.next {
            return bad(seq, format!("it stands where row {} was expected", self.next));
        }
        if row_hash(&previous, seq, &content) != hash {
            return bad(seq, "what it says is not what its hash is of".to_owned());
        }
        if self.previous.is_some_and(|expected| expected != previous) {
            return bad(seq, "it does not follow the row before it".to_owned());
        }
        self.next = seq.saturating_add(1);
        self.previous = Some(hash);
        self.found.n_rows += 1;
        self.found.head = Some((seq, hash));
        while let Some(head) = self.noted.pop_if(|head| head.seq <= seq) {
            self.hold(head)?;
        }
        Ok(())
    }

    /// A head of the row that came last, or of one that should have come.
    pub(crate) fn head(&mut self, head: &SignedHead) -> Result<(), Bad> {
        let last = self.next - 1;
        if head.seq > last {
            return Err(self.cut_before(head));
        }
        if head.seq < last || self.found.head.is_none() {
            let reason = "its head does not stand behind it".to_owned();
            return Err(Bad { seq: head.seq, reason });
        }
        self.found.n_heads += 1;
        self.hold(head)
    }

    /// Holds the row that came last to a head of it.
    fn hold(&mut self, head: &SignedHead) -> Result<(), Bad> {
        let bad = |reason: String| Err(Bad { seq: head.seq, reason });
        if !head.is_valid() {
            return bad("the signature of its head is not valid".to_owned());
        }
        if self.previous != Some(head.hash) {
            let signed = self.found.signed.unwrap_or(0);
            return bad(format!("it was signed with another hash: a row after {signed} differs"));
        }
        let strangers = &mut self.found.strangers;
        if self.trusted.contains(&head.key) {
            self.found.signed = Some(head.seq);
        } else if !strangers.contains(&head.key) && strangers.len() < STRANGERS_MAX {
            strangers.push(head.key);
        }
        Ok(())
    }

    /// What a head says of rows that did not come; one that nobody signed says nothing.
    fn cut_before(&self, head: &SignedHead) -> Bad {
        if !head.is_valid() {
            let reason = "the signature of its head is not valid".to_owned();
            return Bad { seq: head.seq, reason };
        }
        let reason = format!("it is missing: the chain was signed up to row {}", head.seq);
        Bad { seq: self.next, reason }
    }

    /// What was found, when nothing is left or something was bad.
    pub(crate) fn end(self, outcome: Result<(), Bad>) -> Verified {
        let cut = self.noted.last().map(|head| self.cut_before(head));
        let mut found = self.found;
        let unrecorded = self.erasures.into_iter().next().map(|(by, (_, seq))| {
            let reason = format!("its body is missing, and row {by}, its erasure, is not there");
            Bad { seq, reason }
        });
        let last = found.head.filter(|_| !self.trusted.is_empty() && found.signed.is_none());
        let unsigned = last.map(|(seq, _)| {
            let reason = "no trusted key has signed it or a row before it".to_owned();
            Bad { seq, reason }
        });
        found.first_bad = outcome.err().or(cut).or(unrecorded).or(unsigned);
        found
    }
}

/// Keys that are told; a ledger has one for each node.
const STRANGERS_MAX: usize = 64;

/// A row of which an export tells only that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) seq: i64,
    pub(crate) content: Hash,
    pub(crate) previous: Hash,
    pub(crate) hash: Hash,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::hex;

    fn key() -> NodeKey {
        let home = tempfile::tempdir().unwrap();
        NodeKey::load_or_create(&home.path().join("node.key")).unwrap()
    }

    fn chain(n: i64) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for seq in 1..=n {
            let previous = rows.last().map_or(ORIGIN, |row| row.hash);
            let body = format!("{{\"n\":{seq}}}").into_bytes();
            rows.push(Row {
                seq,
                kind: "receipt".to_owned(),
                id: format!("r{seq}"),
                at: seq * 1_000_000,
                principal: "owner".to_owned(),
                body_hash: body_hash(&body),
                previous,
                hash: ORIGIN,
                body: Body::Here(body),
            });
            rehash(rows.last_mut().unwrap());
        }
        rows
    }

    fn rehash(row: &mut Row) {
        row.hash = row_hash(&row.previous, row.seq, &row.content());
    }

    fn walk(rows: &[Row], heads: &[SignedHead], trusted: &[Hash]) -> Verified {
        let mut walk = Walk::new(trusted, 1);
        let mut all = || {
            for row in rows {
                walk.row(row)?;
                for head in heads.iter().filter(|head| head.seq == row.seq) {
                    walk.head(head)?;
                }
            }
            let last = rows.last().map_or(0, |row| row.seq);
            heads.iter().filter(|head| head.seq > last).try_for_each(|head| walk.head(head))
        };
        let outcome = all();
        walk.end(outcome)
    }

    #[test]
    fn the_encoding_is_the_one_that_is_written_down() {
        // Computed by the formula at the top of this file with Python's hashlib and struct.
        let row = &chain(1)[0];
        assert_eq!(
            hex(&row.content()),
            "9cf09e6dc980a822fa5b8b50a724ff7fe6d9afaa934bee7259f02517bc85f655"
        );
        assert_eq!(
            hex(&row.hash),
            "cfa69235720ebec7bb0c5f3aded540aad92eff12af5590498208941c7352af0a"
        );
        assert_eq!(
            hex(&signed_bytes(1, &row.hash, 7)),
            "aecadbb1269bf014328df49279b069c0b15bc4c7c5171a32e35e882a9248aaa4"
        );
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<Row>), seq: i64, reason: &str) {
        let key = key();
        let mut rows = chain(6);
        let head = SignedHead::sign(&key, 6, rows[5].hash, 1);
        change(&mut rows);
        let bad = walk(&rows, &[head], &[key.public()]).first_bad.expect("a change was not found");
        assert_eq!(bad.seq, seq, "{bad:?}");
        assert!(bad.reason.contains(reason), "{bad:?}");
    }

    #[test]
    fn every_change_is_found_where_it_is() {
        let differs = "not what its hash is of";
        check(|rows| drop(rows.remove(2)), 3, "it is missing: row 4 is the next");
        check(|rows| drop(rows.remove(0)), 1, "it is missing: row 2 is the next");
        check(|rows| rows.truncate(4), 5, "it is missing: the chain was signed up to row 6");
        check(Vec::clear, 1, "it is missing: the chain was signed up to row 6");
        check(|rows| rows.swap(1, 2), 2, "it is missing: row 3 is the next");
        check(
            |rows| {
                rows.swap(1, 2);
                (rows[1].seq, rows[2].seq) = (2, 3);
            },
            2,
            differs,
        );
        check(|rows| rows[3].principal.push('x'), 4, differs);
        check(|rows| rows[3].id.push('x'), 4, differs);
        check(|rows| rows[3].kind = "audit".to_owned(), 4, differs);
        check(|rows| rows[3].at += 1, 4, differs);
        check(|rows| rows[3].hash[0] ^= 1, 4, differs);
        check(|rows| rows[3].previous[0] ^= 1, 4, differs);
        check(|rows| rows[3].body_hash[0] ^= 1, 4, differs);
        check(|rows| rows[3].body = Body::Here(b"{}".to_vec()), 4, "its body is not the one");
        check(|rows| rows[3].body = Body::Missing, 4, "its body is missing");
        check(|rows| rows[3].body = Body::Here(vec![b' '; (1 << 20) + 1]), 4, "larger than any");
        // Hashed anew: the next row tells, or, where all are, the head.
        let edited = |rows: &mut Vec<Row>| {
            rows[3].at += 1;
            rehash(&mut rows[3]);
        };
        check(edited, 5, "does not follow the row before it");
        let rewritten = |rows: &mut Vec<Row>| {
            rows[3].at += 1;
            for idx in 3..6 {
                rows[idx].previous = rows[idx - 1].hash;
                rehash(&mut rows[idx]);
            }
        };
        check(rewritten, 6, "it was signed with another hash: a row after 0 differs");
        check(|rows| rows.insert(0, rows[0].clone()), 1, "stands where row 2 was expected");
        check(|rows| rows[0].seq = i64::MIN, i64::MIN, "stands where row 1 was expected");
        check(|rows| rows[5].seq = i64::MAX, 6, "it is missing");
    }

    #[test]
    fn heads_that_were_kept_elsewhere_find_another_ledger() {
        let key = key();
        let (rows, trusted) = (chain(4), [key.public()]);
        let noted =
            [4, 2].map(|seq: usize| SignedHead::sign(&key, seq as i64, rows[seq - 1].hash, 1));
        let check = |rows: &[Row]| {
            let mut walk = Walk::new(&trusted, 1).with_noted(&noted);
            let outcome = rows.iter().try_for_each(|row| walk.row(row));
            walk.end(outcome)
        };
        let found = check(&rows);
        assert!(found.is_intact() && found.signed == Some(4) && found.n_heads == 0, "{found:?}");
        let bad = |rows: &[Row]| check(rows).first_bad.map(|bad| (bad.seq, bad.reason)).unwrap();
        assert_eq!(bad(&rows[..3]).0, 4);
        assert!(bad(&[]).1.contains("signed up to row 2"));
        let mut other = chain(4);
        other[0].at += 1;
        for idx in 0..4 {
            other[idx].previous = if idx == 0 { ORIGIN } else { other[idx - 1].hash };
            rehash(&mut other[idx]);
        }
        assert_eq!(
            bad(&other),
            (2, "it was signed with another hash: a row after 0 differs".to_owned())
        );
    }

    #[test]
    fn heads_are_held_to_their_keys() {
        let (own, other) = (key(), key());
        let rows = chain(4);
        let head = |key: &NodeKey, seq: i64| {
            SignedHead::sign(key, seq, rows[usize::try_from(seq - 1).unwrap()].hash, seq)
        };
        let trusted = [own.public()];
        let heads = [head(&own, 2), head(&other, 3)];
        let found = walk(&rows, &heads, &trusted);
        assert!(found.is_intact(), "{found:?}");
        assert_eq!((found.n_rows, found.n_heads, found.signed), (4, 2, Some(2)));
        assert_eq!((found.head, found.strangers), (Some((4, rows[3].hash)), vec![other.public()]));
        // Somebody who rewrote everything can sign it, with a key of their own.
        let found = walk(&rows, &heads[1..], &trusted);
        assert_eq!(
            found.first_bad.unwrap().reason,
            "no trusted key has signed it or a row before it"
        );
        assert!(walk(&rows, &heads[1..], &[]).is_intact());
        assert!(walk(&[], &[], &trusted).is_intact());
        let mut forged = heads[0].clone();
        forged.at += 1;
        let bad = walk(&rows, &[forged], &trusted).first_bad.unwrap();
        assert_eq!((bad.seq, bad.reason.contains("signature")), (2, true));
    }

    #[test]
    fn an_erasure_must_be_recorded_behind_what_it_erased() {
        let mut rows = chain(4);
        (rows[2].kind, rows[2].id) = ("erasure".to_owned(), "receipt:r2".to_owned());
        for idx in 2..4 {
            rows[idx].previous = rows[idx - 1].hash;
            rehash(&mut rows[idx]);
        }
        rows[1].body = Body::Erased(3);
        let found = walk(&rows, &[], &[]);
        assert!(found.is_intact() && found.n_erased == 1, "{found:?}");
        for (by, reason) in [(4, "row 4 records no"), (9, "row 9, its"), (1, "no erasure of it")] {
            rows[1].body = Body::Erased(by);
            let bad = walk(&rows, &[], &[]).first_bad.unwrap();
            assert!(bad.seq == 2 && bad.reason.contains(reason), "{bad:?}");
        }
    }
}
