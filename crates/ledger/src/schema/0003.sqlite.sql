-- Requests, what they took: one row each, and each day's sums.
CREATE TABLE ledger_usage (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Who wrote it down, and its number there: no row is written twice.
    instance INTEGER NOT NULL,
    n INTEGER NOT NULL,
    id TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    person TEXT NOT NULL,
    alias TEXT NOT NULL,
    model TEXT NOT NULL,
    route TEXT NOT NULL,
    label TEXT NOT NULL,
    upstream TEXT NOT NULL,
    n_prompt INTEGER NOT NULL,
    n_cached INTEGER NOT NULL,
    n_answer INTEGER NOT NULL,
    queue_us INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    total_us INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    money_micro INTEGER NOT NULL,
    energy_mj INTEGER NOT NULL,
    energy_source TEXT NOT NULL,
    receipt TEXT NOT NULL,
    UNIQUE (instance, n)
) STRICT;
CREATE INDEX ledger_usage_by_time ON ledger_usage (at_us);
CREATE INDEX ledger_usage_by_key ON ledger_usage (key, at_us);
CREATE INDEX ledger_usage_by_project ON ledger_usage (project, at_us);
CREATE INDEX ledger_usage_by_model ON ledger_usage (model, at_us);

CREATE TABLE ledger_usage_days (
    day_us INTEGER NOT NULL,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    n_requests INTEGER NOT NULL,
    n_prompt INTEGER NOT NULL,
    n_cached INTEGER NOT NULL,
    n_answer INTEGER NOT NULL,
    money_micro INTEGER NOT NULL,
    energy_mj INTEGER NOT NULL,
    PRIMARY KEY (day_us, key, project, model, upstream)
) STRICT, WITHOUT ROWID;

-- An empty key, project or model is any.
CREATE TABLE ledger_limits (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    model TEXT NOT NULL,
    what TEXT NOT NULL,
    per TEXT NOT NULL,
    amount INTEGER NOT NULL,
    action TEXT NOT NULL
) STRICT;

-- A counter is no more than the sums of the rows of its limit and window.
CREATE TABLE ledger_counters (
    limit_id TEXT NOT NULL,
    window_us INTEGER NOT NULL,
    used INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    PRIMARY KEY (limit_id, window_us)
) STRICT, WITHOUT ROWID;

-- What requests at work may take at most.
CREATE TABLE ledger_reservations (
    instance INTEGER NOT NULL,
    n INTEGER NOT NULL,
    id TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    person TEXT NOT NULL,
    alias TEXT NOT NULL,
    model TEXT NOT NULL,
    route TEXT NOT NULL,
    label TEXT NOT NULL,
    upstream TEXT NOT NULL,
    n_prompt INTEGER NOT NULL,
    n_answer INTEGER NOT NULL,
    money_micro INTEGER NOT NULL,
    energy_mj INTEGER NOT NULL,
    PRIMARY KEY (instance, n)
) STRICT, WITHOUT ROWID;

-- Who has reserved something; the beat moves as long as it lives.
CREATE TABLE ledger_instances (
    id INTEGER PRIMARY KEY,
    beat INTEGER NOT NULL
) STRICT;

-- One row: how often limits were changed, and something to write where only a sync is wanted.
CREATE TABLE ledger_books (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    n_changes INTEGER NOT NULL,
    n_syncs INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_books (one, n_changes, n_syncs) VALUES (1, 0, 0);
