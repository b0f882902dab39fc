-- Requests, what they took: one row each, and each day's sums.
CREATE TABLE ledger_usage (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Who wrote it down, and its number there: no row is written twice.
    instance BIGINT NOT NULL,
    n BIGINT NOT NULL,
    id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    person TEXT NOT NULL,
    alias TEXT NOT NULL,
    model TEXT NOT NULL,
    route TEXT NOT NULL,
    label TEXT NOT NULL,
    upstream TEXT NOT NULL,
    n_prompt BIGINT NOT NULL,
    n_cached BIGINT NOT NULL,
    n_answer BIGINT NOT NULL,
    queue_us BIGINT NOT NULL,
    first_us BIGINT NOT NULL,
    total_us BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    money_micro BIGINT NOT NULL,
    energy_mj BIGINT NOT NULL,
    energy_source TEXT NOT NULL,
    receipt TEXT NOT NULL,
    UNIQUE (instance, n)
);
CREATE INDEX ledger_usage_by_time ON ledger_usage (at_us);
CREATE INDEX ledger_usage_by_key ON ledger_usage (key, at_us);
CREATE INDEX ledger_usage_by_project ON ledger_usage (project, at_us);
CREATE INDEX ledger_usage_by_model ON ledger_usage (model, at_us);

CREATE TABLE ledger_usage_days (
    day_us BIGINT NOT NULL,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    n_requests BIGINT NOT NULL,
    n_prompt BIGINT NOT NULL,
    n_cached BIGINT NOT NULL,
    n_answer BIGINT NOT NULL,
    money_micro BIGINT NOT NULL,
    energy_mj BIGINT NOT NULL,
    PRIMARY KEY (day_us, key, project, model, upstream)
);

-- An empty key, project or model is any.
CREATE TABLE ledger_limits (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    model TEXT NOT NULL,
    what TEXT NOT NULL,
    per TEXT NOT NULL,
    amount BIGINT NOT NULL,
    action TEXT NOT NULL
);

-- A counter is no more than the sums of the rows of its limit and window.
CREATE TABLE ledger_counters (
    limit_id TEXT NOT NULL,
    window_us BIGINT NOT NULL,
    used BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    PRIMARY KEY (limit_id, window_us)
);

-- What requests at work may take at most.
CREATE TABLE ledger_reservations (
    instance BIGINT NOT NULL,
    n BIGINT NOT NULL,
    id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    key TEXT NOT NULL,
    project TEXT NOT NULL,
    person TEXT NOT NULL,
    alias TEXT NOT NULL,
    model TEXT NOT NULL,
    route TEXT NOT NULL,
    label TEXT NOT NULL,
    upstream TEXT NOT NULL,
    n_prompt BIGINT NOT NULL,
    n_answer BIGINT NOT NULL,
    money_micro BIGINT NOT NULL,
    energy_mj BIGINT NOT NULL,
    PRIMARY KEY (instance, n)
);

-- Who has reserved something; the beat moves as long as it lives.
CREATE TABLE ledger_instances (
    id BIGINT PRIMARY KEY,
    beat BIGINT NOT NULL
);

-- One row: how often limits were changed, and something to write where only a sync is wanted.
CREATE TABLE ledger_books (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    n_changes BIGINT NOT NULL,
    n_syncs BIGINT NOT NULL
);
INSERT INTO ledger_books (one, n_changes, n_syncs) VALUES (1, 0, 0);
