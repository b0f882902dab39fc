CREATE TABLE ledger_migrations (
    version BIGINT PRIMARY KEY,
    at_us BIGINT NOT NULL
);

CREATE TABLE ledger_entries (
    seq BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    at_us BIGINT NOT NULL,
    principal TEXT NOT NULL,
    body_hash BYTEA NOT NULL,
    previous BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    UNIQUE (kind, id)
);

-- Apart, so that a body can be erased and the chain stays.
CREATE TABLE ledger_bodies (
    seq BIGINT PRIMARY KEY,
    body BYTEA NOT NULL
);

CREATE TABLE ledger_heads (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    at_us BIGINT NOT NULL,
    node BYTEA NOT NULL,
    signature BYTEA NOT NULL
);
CREATE INDEX ledger_heads_by_seq ON ledger_heads (seq, n);
