-- Who may ask. A key that is revoked stays, so that its id elsewhere still means something. No row
-- has a NULL: what is not there is an empty text, no bytes or 0.
CREATE TABLE ledger_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    hash BLOB NOT NULL,
    hash_before BLOB NOT NULL,
    before_until_us INTEGER NOT NULL,
    project TEXT NOT NULL,
    person TEXT NOT NULL,
    scopes TEXT NOT NULL,
    defaults TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    revoked_us INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX ledger_keys_live ON ledger_keys (name) WHERE revoked_us = 0;

CREATE TABLE ledger_projects (
    name TEXT NOT NULL PRIMARY KEY,
    created_us INTEGER NOT NULL
) STRICT;

-- Moves with each change, so that a server asks one number whether there is something new.
CREATE TABLE ledger_versions (
    what TEXT NOT NULL PRIMARY KEY,
    n INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_versions (what, n) VALUES ('access', 0);
