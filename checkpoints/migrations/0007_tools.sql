-- What governs tools: reviews that wait for a person, the ledger of effects, the audit of attempts.

CREATE TABLE interlock.reviews (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    -- Derived from what is asked, so that a node that runs again finds its own question. As hex it
    -- is also the id of the interrupt that shows it.
    review_id uuid NOT NULL,
    -- The run that asked.
    run_id uuid NOT NULL,
    -- tool: may this call be made. outcome: a call was cut off, what became of it. budget: a limit
    -- was reached, may the run go on.
    kind text NOT NULL CHECK (kind IN ('tool', 'outcome', 'budget')),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'approved', 'edited', 'rejected', 'responded', 'superseded')),
    tool text NOT NULL,
    tool_version text NOT NULL,
    -- Of the tool as it was declared when the question was asked; NULL for a budget.
    definition_hash text,
    tool_call_id text NOT NULL,
    checkpoint_ns text NOT NULL,
    -- JSON text, RFC 8785: it may hold what jsonb cannot. For a budget: the amounts asked for.
    arguments bytea NOT NULL,
    arguments_hash text NOT NULL,
    -- What an edit must fit: JSON schema.
    arguments_schema jsonb,
    description text NOT NULL,
    allowed text[] NOT NULL,
    -- JSON text of what the tool says it would do, or NULL.
    dry_run bytea,
    policy_version text NOT NULL,
    requested_by text NOT NULL,
    -- JSON text of {"arguments"} of an edit, {"message"} of a rejection or a response.
    answer bytea,
    decided_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    PRIMARY KEY (tenant_id, thread_id, review_id),
    FOREIGN KEY (tenant_id, thread_id) REFERENCES interlock.threads ON DELETE CASCADE,
    CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE INDEX reviews_pending_idx ON interlock.reviews (tenant_id, created_at) WHERE status = 'pending';

CREATE TABLE interlock.tool_ledger (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    checkpoint_ns text NOT NULL,
    tool text NOT NULL,
    tool_call_id text NOT NULL,
    arguments_hash text NOT NULL,
    run_id uuid NOT NULL,
    -- started: executing, or cut off. succeeded: `result` is the answer for ever. failed: the tool
    -- said that it did nothing. unknown: nobody can say; only a person lets it run again.
    state text NOT NULL CHECK (state IN ('started', 'succeeded', 'failed', 'unknown')),
    -- How often it was started.
    starts int NOT NULL DEFAULT 1,
    -- Unique to one start: tells its own row from that of a worker that is gone.
    start_id uuid NOT NULL,
    result_type text,
    result bytea,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, thread_id, checkpoint_ns, tool, tool_call_id, arguments_hash),
    FOREIGN KEY (tenant_id, thread_id) REFERENCES interlock.threads ON DELETE CASCADE
);

-- Append only: one row for each attempt at a tool call, refused ones too. It outlives its thread.
CREATE TABLE interlock.tool_calls (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    call_id uuid NOT NULL,
    run_id uuid NOT NULL,
    graph_id text NOT NULL,
    assistant_id uuid NOT NULL,
    subject text NOT NULL,
    tool text NOT NULL,
    tool_version text,
    -- Hash of the definition that was used.
    definition_hash text,
    effect text,
    risk text,
    tool_call_id text NOT NULL,
    checkpoint_ns text NOT NULL,
    -- JSON text as far as the arguments are JSON, else their repr.
    arguments bytea NOT NULL,
    arguments_hash text,
    -- Where the call ended: a stage of the gateway.
    stage text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('refused', 'waiting', 'rejected', 'responded', 'succeeded',
        'failed', 'unknown', 'replayed', 'bypassed')),
    reason text,
    policy_ids text[] NOT NULL DEFAULT '{}',
    policy_version text,
    review_id uuid,
    duration_ms double precision,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, thread_id, call_id)
);
CREATE INDEX tool_calls_at_idx ON interlock.tool_calls (tenant_id, at DESC);
