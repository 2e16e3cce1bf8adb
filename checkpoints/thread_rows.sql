-- name: delete_thread
-- Removes everything of a thread.
WITH writes AS (DELETE FROM checkpoint_writes WHERE thread_id = %(key)s),
    blobs AS (DELETE FROM checkpoint_blobs WHERE thread_id = %(key)s)
DELETE FROM checkpoints WHERE thread_id = %(key)s

-- name: delete_runs
-- Removes what runs have left: their checkpoints, what they wrote to those of others, and values that
-- nobody else refers to.
WITH gone AS (
    DELETE FROM checkpoints
    WHERE thread_id = %(key)s AND metadata ->> 'run_id' = ANY(%(run_ids)s::text[])
    RETURNING checkpoint_ns, checkpoint_id, checkpoint -> 'channel_versions' AS versions
),
writes AS (
    DELETE FROM checkpoint_writes w
    WHERE w.thread_id = %(key)s
        AND (
            w.run_id = ANY(%(run_ids)s::uuid[])
            OR EXISTS (
                SELECT FROM gone g WHERE g.checkpoint_ns = w.checkpoint_ns AND g.checkpoint_id = w.checkpoint_id
            )
        )
),
freed AS (
    SELECT g.checkpoint_ns, v.key AS channel, v.value AS version
    FROM gone g CROSS JOIN LATERAL jsonb_each_text(g.versions) AS v
    EXCEPT
    SELECT c.checkpoint_ns, v.key, v.value
    FROM checkpoints c CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
    WHERE c.thread_id = %(key)s AND NOT coalesce(c.metadata ->> 'run_id' = ANY(%(run_ids)s::text[]), false)
)
DELETE FROM checkpoint_blobs b USING freed f
WHERE b.thread_id = %(key)s AND b.checkpoint_ns = f.checkpoint_ns
    AND b.channel = f.channel AND b.version = f.version

-- name: checkpoints_of_run
-- How many checkpoints a run has saved.
SELECT count(*)::int AS saved FROM checkpoints
WHERE thread_id = %(key)s AND metadata ->> 'run_id' = %(run_id)s

-- name: copy_thread
-- Copies everything of a thread to another one.
WITH writes AS (
    INSERT INTO checkpoint_writes (
        thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, run_id
    )
    SELECT %(new_key)s, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, run_id
    FROM checkpoint_writes WHERE thread_id = %(key)s
),
blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(new_key)s, checkpoint_ns, channel, version, type, blob
    FROM checkpoint_blobs WHERE thread_id = %(key)s
)
INSERT INTO checkpoints (
    thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
)
SELECT
    %(new_key)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
    CASE WHEN metadata ? 'thread_id'
        THEN metadata || jsonb_build_object('thread_id', %(new_thread_id)s::text) ELSE metadata END
FROM checkpoints WHERE thread_id = %(key)s
ORDER BY seq

-- name: heads
-- For LangGraph's pruning, in place of its own statement, which goes by ids: the newest checkpoint of each
-- namespace, and of a sub-graph's call the root checkpoint that it started from.
SELECT
    h.checkpoint_ns,
    h.checkpoint_id AS head,
    CASE WHEN (h.checkpoint ->> 'v')::int < 4 AND EXISTS (
        SELECT FROM checkpoint_writes w
        WHERE w.thread_id = %(key)s AND w.checkpoint_ns = h.checkpoint_ns
            AND w.checkpoint_id = h.parent_checkpoint_id AND w.channel = '__pregel_tasks'
    ) THEN h.parent_checkpoint_id END AS sends_parent,
    h.metadata -> 'parents' ->> '' AS root,
    EXISTS (
        SELECT FROM checkpoints r
        WHERE r.thread_id = %(key)s AND r.checkpoint_ns = '' AND r.checkpoint_id = h.metadata -> 'parents' ->> ''
    ) AS root_saved
FROM (
    SELECT DISTINCT ON (checkpoint_ns) checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata
    FROM checkpoints
    WHERE thread_id = %(key)s
    ORDER BY checkpoint_ns DESC, seq DESC
) AS h

-- name: storage
-- Bytes that the checkpoints of a thread take as they are stored, compressed where Postgres does so.
WITH kept AS (
    SELECT count(*) AS count, coalesce(sum(pg_column_size(checkpoint) + pg_column_size(metadata)), 0) AS bytes
    FROM checkpoints WHERE thread_id = %(key)s
),
channels AS (
    SELECT channel, count(*) AS count, coalesce(sum(pg_column_size(blob)), 0) AS bytes
    FROM checkpoint_blobs WHERE thread_id = %(key)s GROUP BY channel
),
writes AS (
    SELECT count(*) AS count, coalesce(sum(pg_column_size(blob)), 0) AS bytes
    FROM checkpoint_writes WHERE thread_id = %(key)s
)
SELECT
    (kept.bytes + writes.bytes + coalesce((SELECT sum(bytes) FROM channels), 0))::bigint AS total_bytes,
    jsonb_build_object('count', kept.count, 'bytes', kept.bytes) AS checkpoints,
    jsonb_build_object(
        'count', coalesce((SELECT sum(count) FROM channels), 0),
        'bytes', coalesce((SELECT sum(bytes) FROM channels), 0),
        'by_channel', coalesce((SELECT jsonb_object_agg(channel, bytes) FROM channels), '{}')
    ) AS channel_values,
    jsonb_build_object('count', writes.count, 'bytes', writes.bytes) AS pending_writes
FROM kept, writes
