-- name: begin
-- Holds the fence and claims the call. The row that comes back is ours when its `start_id` is the one
-- given; else it tells what became of the call before. A call that failed without effect is claimed
-- again, and with `again` also one that was cut off. No row: a person was asked about the call, in the
-- review `unless_asked`.
WITH held AS MATERIALIZED (
    SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s)
), unasked AS (
    SELECT FROM held
    WHERE NOT EXISTS (
        SELECT FROM interlock.reviews
        WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND review_id = %(unless_asked)s::uuid
          AND status <> 'superseded'
    )
), claimed AS (
    INSERT INTO interlock.tool_ledger AS l (
        tenant_id, thread_id, checkpoint_ns, tool, tool_call_id, arguments_hash, run_id, state, start_id
    )
    SELECT %(tenant_id)s, %(thread_id)s, %(checkpoint_ns)s, %(tool)s, %(tool_call_id)s, %(arguments_hash)s,
        %(run_id)s, 'started', %(start_id)s
    FROM unasked
    ON CONFLICT (tenant_id, thread_id, checkpoint_ns, tool, tool_call_id, arguments_hash) DO UPDATE
    SET state = 'started', starts = l.starts + 1, start_id = excluded.start_id, run_id = excluded.run_id,
        started_at = now(), ended_at = NULL
    WHERE l.state = 'failed' OR (%(again)s AND l.state IN ('started', 'unknown'))
    RETURNING state, starts, start_id, result_type, result
)
SELECT state, starts, start_id, result_type, result FROM claimed
UNION ALL
SELECT l.state, l.starts, l.start_id, l.result_type, l.result
FROM interlock.tool_ledger AS l, unasked
WHERE NOT EXISTS (SELECT FROM claimed)
  AND tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s
  AND tool = %(tool)s AND tool_call_id = %(tool_call_id)s AND arguments_hash = %(arguments_hash)s;

-- name: look
-- What became of a call before, without claiming it.
SELECT state, starts, start_id, result_type, result
FROM interlock.tool_ledger
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s
  AND tool = %(tool)s AND tool_call_id = %(tool_call_id)s AND arguments_hash = %(arguments_hash)s;

-- name: settle
-- Records how our own start ended.
UPDATE interlock.tool_ledger
SET state = %(state)s, result_type = %(result_type)s, result = %(result)s, ended_at = now()
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s
  AND tool = %(tool)s AND tool_call_id = %(tool_call_id)s AND arguments_hash = %(arguments_hash)s
  AND start_id = %(start_id)s AND state = 'started';

-- name: cut_off
-- Marks the start of another worker, or of an earlier attempt, as one whose end nobody knows.
UPDATE interlock.tool_ledger
SET state = 'unknown', ended_at = now()
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s
  AND tool = %(tool)s AND tool_call_id = %(tool_call_id)s AND arguments_hash = %(arguments_hash)s
  AND start_id = %(start_id)s AND state = 'started';

-- name: hold_fence
-- Refuses the transaction of a worker that is no longer the writer of the thread.
SELECT interlock.hold_fence(%(tenant_id)s, %(thread_id)s, %(fence)s);
