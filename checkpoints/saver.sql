-- name: hold_fence
-- Fails unless the caller is the writer of the thread; holds that to the end of the transaction.
SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)

-- name: delete_thread_checkpoints
DELETE FROM checkpoints WHERE thread_id = %(stored)s

-- name: delete_thread_blobs
DELETE FROM checkpoint_blobs WHERE thread_id = %(stored)s

-- name: delete_thread_writes
DELETE FROM checkpoint_writes WHERE thread_id = %(stored)s

-- name: delete_runs
-- Removes the checkpoints that runs made, with the writes on them. Blobs stay: checkpoints before them
-- may share a version.
WITH gone AS (
    DELETE FROM checkpoints WHERE thread_id = %(stored)s AND metadata ->> 'run_id' = ANY(%(run_ids)s)
    RETURNING checkpoint_ns, checkpoint_id
)
DELETE FROM checkpoint_writes w USING gone g
WHERE w.thread_id = %(stored)s AND w.checkpoint_ns = g.checkpoint_ns AND w.checkpoint_id = g.checkpoint_id

-- name: copy_checkpoints
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
SELECT %(new_stored)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
    CASE WHEN metadata ? 'thread_id'
        THEN jsonb_set(metadata, '{thread_id}', to_jsonb(%(new_thread_id)s::text)) ELSE metadata END
FROM checkpoints WHERE thread_id = %(stored)s

-- name: copy_blobs
INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
SELECT %(new_stored)s, checkpoint_ns, channel, version, type, blob
FROM checkpoint_blobs WHERE thread_id = %(stored)s

-- name: copy_writes
INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
SELECT %(new_stored)s, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
FROM checkpoint_writes WHERE thread_id = %(stored)s
