-- Threads own the state. The row is also the lock of everything that is written for a thread:
-- whoever writes proves its fence on it, and the event log takes its numbers from it.

CREATE TABLE interlock.threads (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 255),
    thread_id uuid NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}',
    -- Where the thread rests when no run is in flight; `busy` is derived from the runs.
    settled_status text NOT NULL DEFAULT 'idle' CHECK (settled_status IN ('idle', 'interrupted', 'error')),
    values jsonb,
    interrupts jsonb NOT NULL DEFAULT '{}',
    error jsonb,
    -- The run that left it like this, as far as an answer to it needs that: the fields of `LeftBy`. Here,
    -- since the run may be deleted before anybody answers. NULL: nobody's, such as a state written by hand.
    left_by jsonb,
    -- JSON text of {"values", "interrupts", "error"} when they hold what jsonb cannot (NUL), else NULL.
    exact bytea,
    -- When its runs are served: what the project's hook decided at its first run. NULL: not decided.
    priority smallint,
    fairness_group text COLLATE "C",
    -- How long the thread is kept after its last change, what happens then, and when. `expires_at` is NULL
    -- without a time, and after the history was cut until the thread changes again.
    ttl interval CHECK (ttl > interval '0'),
    ttl_strategy text CHECK (ttl_strategy IN ('delete', 'keep_latest')),
    expires_at timestamptz,
    -- Grows with each new writer; a write that names an older one is refused.
    fence bigint NOT NULL DEFAULT 0,
    -- Number of the last event of the thread.
    last_seq bigint NOT NULL DEFAULT 0,
    -- Number of the last event that the thread event stream shows of it; see server/protocol.
    last_shown bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    state_updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, thread_id)
) WITH (fillfactor = 70, autovacuum_analyze_threshold = 50, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX threads_updated_idx ON interlock.threads (tenant_id, updated_at DESC);
CREATE INDEX threads_expiry_idx ON interlock.threads (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX threads_metadata_idx ON interlock.threads USING gin (metadata jsonb_path_ops);

CREATE FUNCTION interlock.hold_fence(tenant text, thread uuid, token bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- The share lock lasts to the end of the writing transaction, so a takeover waits for it, and
    -- a writer that comes after a takeover finds another token.
    PERFORM 1 FROM interlock.threads
    WHERE tenant_id = tenant AND thread_id = thread AND fence = token
    FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'thread % is held by another writer than %', thread, token USING ERRCODE = 'IL001';
    END IF;
END
$$;
