-- Runs. The run row is the queue entry: claimed with SKIP LOCKED, leased, fenced.

CREATE TABLE interlock.runs (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    run_id uuid NOT NULL,
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
    multitask_strategy text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    -- The request as the wire echoes it, JSON text: it may hold what jsonb cannot.
    kwargs bytea NOT NULL,
    -- Who asked: the fields of `Principal`.
    principal jsonb NOT NULL,
    priority smallint NOT NULL DEFAULT 0,
    -- Groups of a tenant take turns among runs of one priority.
    fairness_group text COLLATE "C" NOT NULL DEFAULT 'default',
    run_at timestamptz NOT NULL DEFAULT now(),
    -- A stateless run: its thread was made for it and goes when it ends.
    temporary boolean NOT NULL DEFAULT false,
    -- Queued while another run of its thread was ahead. Keeps a long line on one thread out of the
    -- claim; whatever leaves the line clears it on the next one, under the lock of the thread row.
    behind boolean NOT NULL DEFAULT false,
    idempotency_key text,
    request_hash bytea,
    attempt int NOT NULL DEFAULT 0,
    -- Attempts in a row that ended with their worker, not with an answer, and got no further than the one
    -- before; and how many checkpoints the run had saved when the last of them broke off.
    crashes int NOT NULL DEFAULT 0,
    saved_at_crash int NOT NULL DEFAULT 0,
    worker_id text,
    fence bigint,
    lease_until timestamptz,
    cancel_reason text,
    -- JSON text of {"error", "message"} when status is error or timeout.
    error bytea,
    -- Effective limits of this run and what it has spent so far: the fields of `Budget` and `Usage`.
    budget jsonb NOT NULL DEFAULT '{}',
    usage jsonb NOT NULL DEFAULT '{}',
    -- Number of the run's first event in the log of its thread.
    first_seq bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, thread_id, run_id),
    CHECK ((status = 'running') = (lease_until IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_analyze_threshold = 50, autovacuum_analyze_scale_factor = 0.02);

-- One running run per thread, whatever the code does.
CREATE UNIQUE INDEX runs_one_running_idx ON interlock.runs (tenant_id, thread_id) WHERE status = 'running';
-- Who is in flight on a thread, in the order they are served.
CREATE INDEX runs_line_idx ON interlock.runs (tenant_id, thread_id, run_at, first_seq)
    WHERE status IN ('pending', 'running');
CREATE INDEX runs_queue_idx ON interlock.runs (tenant_id, fairness_group, priority, run_at, first_seq)
    WHERE status = 'pending' AND NOT behind;
CREATE INDEX runs_temporary_idx ON interlock.runs (ended_at) WHERE temporary AND ended_at IS NOT NULL;
CREATE UNIQUE INDEX runs_id_idx ON interlock.runs (tenant_id, run_id);
CREATE UNIQUE INDEX runs_idempotency_idx ON interlock.runs (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
