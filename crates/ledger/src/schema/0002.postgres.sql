-- Who may ask. A key that is revoked stays, so that its id elsewhere still means something. No row
-- has a NULL: what is not there is an empty text, no bytes or 0.
CREATE TABLE ledger_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    hash_before BYTEA NOT NULL,
    before_until_us BIGINT NOT NULL,
    project TEXT NOT NULL,
    person TEXT NOT NULL,
    scopes TEXT NOT NULL,
    defaults TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    revoked_us BIGINT NOT NULL
);
CREATE UNIQUE INDEX ledger_keys_live ON ledger_keys (name) WHERE revoked_us = 0;

CREATE TABLE ledger_projects (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_us BIGINT NOT NULL
);

-- Moves with each change, so that a server asks one number whether there is something new.
CREATE TABLE ledger_versions (
    what TEXT NOT NULL PRIMARY KEY,
    n BIGINT NOT NULL
);
INSERT INTO ledger_versions (what, n) VALUES ('access', 0);
