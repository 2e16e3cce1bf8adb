-- name: write
-- Stores what has come together of one thread, if the writer still holds it: values of channels, writes
-- of tasks (the first one stays), checkpoints. Later rows of a batch never repeat the key of an earlier one.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
),
blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(key)s, b.ns, b.channel, b.version, b.type, b.blob
    FROM unnest(
        %(blob_nss)b::text[], %(blob_channels)b::text[], %(blob_versions)b::text[], %(blob_types)b::text[],
        %(blobs)b::bytea[]
    ) AS b (ns, channel, version, type, blob)
    CROSS JOIN held
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
),
writes AS (
    INSERT INTO checkpoint_writes (
        thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, run_id
    )
    SELECT %(key)s, w.ns, w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type, w.blob, %(run_id)s
    FROM unnest(
        %(write_nss)b::text[], %(write_checkpoint_ids)b::text[], %(write_task_ids)b::text[],
        %(write_task_paths)b::text[], %(write_indexes)b::int[], %(write_channels)b::text[],
        %(write_types)b::text[], %(writes)b::bytea[]
    ) AS w (ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    CROSS JOIN held
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING
)
INSERT INTO checkpoints (
    thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata
)
SELECT %(key)s, c.ns, c.checkpoint_id, c.parent_id, c.checkpoint, c.metadata
FROM unnest(
    %(nss)b::text[], %(checkpoint_ids)b::text[], %(parent_ids)b::text[], %(checkpoints)b::jsonb[],
    %(metadatas)b::jsonb[]
) WITH ORDINALITY AS c (ns, checkpoint_id, parent_id, checkpoint, metadata, place)
CROSS JOIN held
ORDER BY c.place
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata

-- name: write_only
-- The same for a batch without a checkpoint.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
)
INSERT INTO checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, run_id
)
SELECT %(key)s, w.ns, w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type, w.blob, %(run_id)s
FROM unnest(
    %(write_nss)b::text[], %(write_checkpoint_ids)b::text[], %(write_task_ids)b::text[],
    %(write_task_paths)b::text[], %(write_indexes)b::int[], %(write_channels)b::text[],
    %(write_types)b::text[], %(writes)b::bytea[]
) AS w (ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
CROSS JOIN held
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING

-- name: replace
-- Writes of one task that a later try may replace: an error, an interrupt, an answer.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
)
INSERT INTO checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, run_id
)
SELECT %(key)s, w.ns, w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type, w.blob, %(run_id)s
FROM unnest(
    %(write_nss)b::text[], %(write_checkpoint_ids)b::text[], %(write_task_ids)b::text[],
    %(write_task_paths)b::text[], %(write_indexes)b::int[], %(write_channels)b::text[],
    %(write_types)b::text[], %(writes)b::bytea[]
) AS w (ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
CROSS JOIN held
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
DO UPDATE SET
    channel = excluded.channel, type = excluded.type, blob = excluded.blob, run_id = excluded.run_id

-- name: delete_own
-- Removes everything of the thread that a writer holds.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
),
writes AS (DELETE FROM checkpoint_writes USING held WHERE thread_id = %(key)s),
blobs AS (DELETE FROM checkpoint_blobs USING held WHERE thread_id = %(key)s)
DELETE FROM checkpoints USING held WHERE thread_id = %(key)s

-- name: hold
-- Keeps the thread for the writer to the end of a transaction.
SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
