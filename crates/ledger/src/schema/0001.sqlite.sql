CREATE TABLE ledger_migrations (
    version INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE ledger_entries (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    principal TEXT NOT NULL,
    body_hash BLOB NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (kind, id)
) STRICT;

-- Apart, so that a body can be erased and the chain stays.
CREATE TABLE ledger_bodies (
    seq INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE ledger_heads (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    at_us INTEGER NOT NULL,
    node BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE INDEX ledger_heads_by_seq ON ledger_heads (seq, n);
