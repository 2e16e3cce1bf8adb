-- name: run_has_checkpoint
-- One row if a run has already saved a step of its own.
SELECT FROM checkpoints
WHERE thread_id = %(key)s AND checkpoint_ns = '' AND metadata ->> 'run_id' = %(run_id)s
LIMIT 1

-- name: at_head
-- Ends LangGraph's SELECT: the newest checkpoint is the last one that was committed.
WHERE thread_id = %(key)s AND checkpoint_ns = %(ns)s
ORDER BY seq DESC LIMIT 1

-- name: listed
-- Ends LangGraph's SELECT: checkpoints, newest first. `before` may name one of another namespace, or one
-- that is gone: then those count whose ids are smaller, and what was committed before them.
WHERE thread_id = %(key)s AND checkpoint_ns = %(ns)s
    AND (%(checkpoint_id)s::text IS NULL OR checkpoint_id = %(checkpoint_id)s)
    AND (%(filter)s::jsonb IS NULL OR metadata @> %(filter)s)
    AND (%(before)s::text IS NULL OR seq < coalesce(
        (
            SELECT max(b.seq) FROM checkpoints b
            WHERE b.thread_id = %(key)s AND b.checkpoint_id = %(before)s
        ),
        (
            SELECT max(b.seq) + 1 FROM checkpoints b
            WHERE b.thread_id = %(key)s AND b.checkpoint_ns = %(ns)s AND b.checkpoint_id < %(before)s
        )
    ))
ORDER BY seq DESC LIMIT %(limit)s::bigint

-- name: on_another_clock
-- One row if a checkpoint was made on a slower clock than the one before it.
SELECT FROM checkpoints
WHERE thread_id = %(key)s AND checkpoint_ns = %(ns)s
HAVING bool_or(parent_checkpoint_id > checkpoint_id)
