-- Crons: runs that start by the clock.

CREATE TABLE interlock.crons (
    tenant_id text COLLATE "C" NOT NULL,
    cron_id uuid NOT NULL,
    assistant_id uuid NOT NULL,
    -- NULL: each firing gets a thread of its own.
    thread_id uuid,
    schedule text NOT NULL,
    -- A name of the IANA database; NULL is UTC.
    timezone text,
    end_time timestamptz,
    enabled boolean NOT NULL DEFAULT true,
    -- What becomes of the thread of a firing; NULL where the thread is the cron's.
    on_run_completed text CHECK (on_run_completed IN ('delete', 'keep')),
    -- The run to create, JSON text: it may hold what jsonb cannot.
    payload bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    -- Whose cron it is: the fields of `Principal`, as they were when it was written.
    principal jsonb NOT NULL,
    -- NULL: never again, or not while it is disabled.
    next_run_at timestamptz,
    -- Refused firings in a row, and JSON text of the last one: {"error", "message", "slot", "at"}.
    failure_count int NOT NULL DEFAULT 0,
    last_failure bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, cron_id),
    CHECK ((thread_id IS NULL) = (on_run_completed IS NOT NULL)),
    -- A cron goes with its thread, however that is deleted, and with its assistant.
    FOREIGN KEY (tenant_id, thread_id) REFERENCES interlock.threads ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, assistant_id) REFERENCES interlock.assistants ON DELETE CASCADE
);
CREATE INDEX crons_due_idx ON interlock.crons (next_run_at) WHERE enabled AND next_run_at IS NOT NULL;
CREATE INDEX crons_thread_idx ON interlock.crons (tenant_id, thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX crons_assistant_idx ON interlock.crons (tenant_id, assistant_id);

-- The times for which a cron has fired: whoever inserts the row starts the run, in the same transaction.
CREATE TABLE interlock.cron_firings (
    tenant_id text COLLATE "C" NOT NULL,
    cron_id uuid NOT NULL,
    slot timestamptz NOT NULL,
    fired_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: the firing was refused.
    run_id uuid,
    PRIMARY KEY (tenant_id, cron_id, slot),
    FOREIGN KEY (tenant_id, cron_id) REFERENCES interlock.crons ON DELETE CASCADE
);
