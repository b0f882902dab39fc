-- Days for which contents of requests with a project's keys are kept; 0: the project does not say.
ALTER TABLE ledger_projects ADD COLUMN keep_days BIGINT NOT NULL DEFAULT 0;
