-- The event log: one per thread, numbered without a gap, stored in segments of one run each.

CREATE TABLE interlock.event_segments (
    tenant_id text COLLATE "C" NOT NULL,
    thread_id uuid NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL CHECK (last_seq >= first_seq),
    -- NULL for events that belong to no run (a state update from outside).
    run_id uuid,
    -- Number that the thread event stream gives to the first event it shows of this segment; and how many
    -- it would show of an end of the run that came right after it. Both follow from the log, and are kept
    -- since parts of the log are deleted.
    first_shown bigint NOT NULL,
    closing int NOT NULL,
    -- 0: msgpack, 1: msgpack compressed with zstd.
    codec smallint NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, thread_id, first_seq)
);

-- Compressed by us: a second try by TOAST would only cost time.
ALTER TABLE interlock.event_segments ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX event_segments_age_idx ON interlock.event_segments USING brin (created_at);
