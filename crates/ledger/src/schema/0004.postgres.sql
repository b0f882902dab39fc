-- What was asked and answered, sealed with a key that is not here. Beside the chain, so that it can
-- go: when its time is over, or its person is erased.
CREATE TABLE ledger_contents (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    person TEXT COLLATE "C" NOT NULL,
    key TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    until_us BIGINT NOT NULL,
    sealed BYTEA NOT NULL
);
CREATE INDEX ledger_contents_by_person ON ledger_contents (person, at_us, id);
CREATE INDEX ledger_contents_by_until ON ledger_contents (until_us);
CREATE INDEX ledger_contents_by_key ON ledger_contents (key);

-- The keys, without what is secret: a file of the node that made it has that. A row goes when the
-- file is destroyed, which it has to be once `erased_us` is not 0.
CREATE TABLE ledger_content_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    person TEXT COLLATE "C" NOT NULL,
    node BYTEA NOT NULL,
    made_us BIGINT NOT NULL,
    erased_us BIGINT NOT NULL
);
CREATE INDEX ledger_content_keys_by_person ON ledger_content_keys (person, node);

-- Persons whose erasure was recorded and is not done yet.
CREATE TABLE ledger_erasing (
    person TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    at_us BIGINT NOT NULL,
    principal TEXT NOT NULL
);

-- Few requests have one where the owner names nobody.
CREATE INDEX ledger_usage_by_person ON ledger_usage (person, seq) WHERE person <> '';
