-- name: put
-- Stores a checkpoint and the channel values that are new in it, if the writer still holds the thread.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
),
stored AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(key)s, %(ns)s, b.channel, b.version, b.type, b.blob
    FROM unnest(%(channels)s::text[], %(versions)s::text[], %(types)s::text[], %(blobs)b::bytea[])
        AS b (channel, version, type, blob)
    CROSS JOIN held
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
)
INSERT INTO checkpoints (
    thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata
)
SELECT %(key)s, %(ns)s, %(checkpoint_id)s, %(parent_id)s, %(checkpoint)s, %(metadata)s
FROM held
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata

-- name: put_writes
-- Stores what a task wrote; the first one stays.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
)
INSERT INTO checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, run_id
)
SELECT
    %(key)s, %(ns)s, %(checkpoint_id)s, %(task_id)s, %(task_path)s, w.idx, w.channel, w.type, w.blob, %(run_id)s
FROM unnest(%(indexes)s::int[], %(channels)s::text[], %(types)s::text[], %(blobs)b::bytea[])
    AS w (idx, channel, type, blob)
CROSS JOIN held
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING

-- name: replace_writes
-- The same for what a later try may replace: errors, interrupts and answers.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
)
INSERT INTO checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, run_id
)
SELECT
    %(key)s, %(ns)s, %(checkpoint_id)s, %(task_id)s, %(task_path)s, w.idx, w.channel, w.type, w.blob, %(run_id)s
FROM unnest(%(indexes)s::int[], %(channels)s::text[], %(types)s::text[], %(blobs)b::bytea[])
    AS w (idx, channel, type, blob)
CROSS JOIN held
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
DO UPDATE SET
    channel = excluded.channel, type = excluded.type, blob = excluded.blob, run_id = excluded.run_id

-- name: run_has_checkpoint
-- One row if a run has already saved a step of its own.
SELECT FROM checkpoints
WHERE thread_id = %(key)s AND checkpoint_ns = '' AND metadata ->> 'run_id' = %(run_id)s
LIMIT 1

-- name: delete_own
-- Removes everything of the thread that a writer holds.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
),
writes AS (DELETE FROM checkpoint_writes USING held WHERE thread_id = %(key)s),
blobs AS (DELETE FROM checkpoint_blobs USING held WHERE thread_id = %(key)s)
DELETE FROM checkpoints USING held WHERE thread_id = %(key)s
