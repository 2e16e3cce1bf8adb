-- Webhooks: what the ends of runs have to tell, written with each end and sent by a worker.

CREATE TABLE interlock.webhook_deliveries (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    -- A run ends once, so its id is also the `webhook-id` by which a receiver knows a repetition. No
    -- reference to the run: it may be gone, by a rollback or with a stateless run's time.
    run_id uuid NOT NULL,
    url text NOT NULL,
    -- The URL is a path of this server's own app: only a process that serves it can deliver.
    local boolean NOT NULL,
    -- In whose name the state is read: the fields of `Principal`.
    principal jsonb NOT NULL,
    -- JSON text of the run as it ended, without `values` and the time of sending.
    body bytea NOT NULL,
    -- JSON text of the state that the run left; NULL until the first attempt where its end did not know.
    values bytea,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
    -- When it may be tried; while it is being sent, when others may take it over.
    due_at timestamptz NOT NULL DEFAULT now(),
    -- Who is sending it; proves the right to record the attempt.
    claim uuid,
    -- Failed attempts since it was queued or sent again; what the next pause grows by.
    failures int NOT NULL DEFAULT 0,
    give_up_at timestamptz NOT NULL,
    -- The last attempts, oldest first: `at`, `seconds`, `status_code` and `error`.
    attempts jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, thread_id, run_id),
    CHECK ((status = 'pending') = (ended_at IS NULL)),
    CHECK (status = 'pending' OR claim IS NULL)
) WITH (fillfactor = 70, autovacuum_analyze_threshold = 50, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX webhook_deliveries_due_idx ON interlock.webhook_deliveries (tenant_id, due_at)
    WHERE status = 'pending';
CREATE INDEX webhook_deliveries_claimed_idx ON interlock.webhook_deliveries (tenant_id)
    WHERE claim IS NOT NULL;
CREATE INDEX webhook_deliveries_age_idx ON interlock.webhook_deliveries ((coalesce(ended_at, give_up_at)));
