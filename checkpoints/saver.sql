-- name: run_has_checkpoint
-- One row if a run has already saved a step of its own.
SELECT FROM checkpoints
WHERE thread_id = %(key)s AND checkpoint_ns = '' AND metadata ->> 'run_id' = %(run_id)s
LIMIT 1
