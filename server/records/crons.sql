-- name: insert_cron
-- A new cron, on a thread that is locked if it has one. No row: its assistant is gone.
INSERT INTO interlock.crons (
    tenant_id, cron_id, assistant_id, thread_id, schedule, timezone, end_time, enabled, on_run_completed,
    payload, metadata, principal, next_run_at
)
SELECT
    %(tenant_id)s, %(cron_id)s, assistant_id, %(thread_id)s, %(schedule)s, %(timezone)s, %(end_time)s,
    %(enabled)s, %(on_run_completed)s, %(payload)s, %(metadata)s, %(principal)s, %(next_run_at)s
FROM (
    SELECT assistant_id FROM interlock.assistants
    WHERE tenant_id = %(tenant_id)s AND assistant_id = %(assistant_id)s
    FOR KEY SHARE
) AS held
RETURNING *, pg_notify('interlock_crons', '')::text AS told

-- name: get_cron
SELECT * FROM interlock.crons
WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s
  AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb)

-- name: lock_cron
-- The same, and holds the row: it does not fire meanwhile.
SELECT * FROM interlock.crons
WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s
  AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb)
FOR NO KEY UPDATE

-- name: change_cron
-- New content of a cron that is locked. Refusals count anew. No row: its new assistant is gone.
UPDATE interlock.crons c SET
    assistant_id = held.assistant_id,
    schedule = %(schedule)s,
    timezone = %(timezone)s,
    end_time = %(end_time)s,
    enabled = %(enabled)s,
    on_run_completed = %(on_run_completed)s,
    payload = %(payload)s,
    metadata = %(metadata)s,
    principal = %(principal)s,
    next_run_at = %(next_run_at)s,
    failure_count = 0,
    last_failure = NULL,
    updated_at = now()
FROM (
    SELECT assistant_id FROM interlock.assistants
    WHERE tenant_id = %(tenant_id)s AND assistant_id = %(assistant_id)s
    FOR KEY SHARE
) AS held
WHERE c.tenant_id = %(tenant_id)s AND c.cron_id = %(cron_id)s
RETURNING c.*, pg_notify('interlock_crons', '')::text AS told

-- name: disable_cron
-- Takes a cron off the clock, whatever it says and whether that still makes sense.
UPDATE interlock.crons SET enabled = false, next_run_at = NULL, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s
  AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb)
RETURNING *

-- name: delete_cron
DELETE FROM interlock.crons
WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s
  AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb)
RETURNING cron_id

-- name: due_crons
-- Crons whose time has come, the tenants in turn, of each the longest overdue first. Nothing is locked yet.
SELECT tenant_id, cron_id, thread_id FROM (
    SELECT
        tenant_id, cron_id, thread_id, next_run_at,
        row_number() OVER (PARTITION BY tenant_id ORDER BY next_run_at) AS turn
    FROM interlock.crons
    WHERE enabled AND next_run_at <= now()
) AS waiting
ORDER BY turn, next_run_at
LIMIT %(limit)s

-- name: lock_due
-- One of them, with the time by the database. No row: another process is firing it, or has.
SELECT *, now() AS now FROM interlock.crons
WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s AND enabled AND next_run_at <= now()
FOR NO KEY UPDATE SKIP LOCKED

-- name: clock
SELECT now() AS now

-- name: next_due
-- Seconds until the next cron is due; negative when one is overdue.
SELECT extract(epoch FROM min(next_run_at) - now())::float8 AS seconds FROM interlock.crons
WHERE enabled AND next_run_at IS NOT NULL

-- name: claim_slot
-- Takes a time of a cron, once for all; forgets those that are long past. No row: it was taken before.
WITH forgotten AS (
    DELETE FROM interlock.cron_firings
    WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s AND slot < %(slot)s - interval '7 days'
)
INSERT INTO interlock.cron_firings (tenant_id, cron_id, slot)
VALUES (%(tenant_id)s, %(cron_id)s, %(slot)s)
ON CONFLICT DO NOTHING
RETURNING slot

-- name: note_run
-- The run that a firing has started.
UPDATE interlock.cron_firings SET run_id = %(run_id)s
WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s AND slot = %(slot)s

-- name: advance
-- Where a cron stands after its time has come.
UPDATE interlock.crons SET
    enabled = %(enabled)s,
    next_run_at = %(next_run_at)s,
    failure_count = %(failure_count)s,
    last_failure = %(last_failure)s
WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s

-- name: disable_due
-- Takes a cron off the clock that cannot be read or planned, in plain words. No row: somebody is changing it,
-- or it is not due any more.
UPDATE interlock.crons c SET
    enabled = false,
    next_run_at = NULL,
    failure_count = c.failure_count + 1,
    last_failure = %(last_failure)s
FROM (
    SELECT tenant_id, cron_id FROM interlock.crons
    WHERE tenant_id = %(tenant_id)s AND cron_id = %(cron_id)s AND enabled AND next_run_at <= now()
    FOR NO KEY UPDATE SKIP LOCKED
) AS held
WHERE c.tenant_id = held.tenant_id AND c.cron_id = held.cron_id
RETURNING c.cron_id

-- name: search_crons
-- A page of crons; an order and the page follow.
SELECT * FROM interlock.crons c
WHERE c.tenant_id = %(tenant_id)s
  AND (%(assistant_id)s::uuid IS NULL OR c.assistant_id = %(assistant_id)s::uuid)
  AND (%(thread_id)s::uuid IS NULL OR c.thread_id = %(thread_id)s::uuid)
  AND (%(enabled)s::boolean IS NULL OR c.enabled = %(enabled)s::boolean)
  AND (%(metadata)s::jsonb IS NULL OR c.metadata @> %(metadata)s::jsonb)
  AND (%(held)s::jsonb IS NULL OR c.metadata @> %(held)s::jsonb)

-- name: count_crons
-- How many crons match the same filters.
SELECT count(*) AS total FROM interlock.crons c
WHERE c.tenant_id = %(tenant_id)s
  AND (%(assistant_id)s::uuid IS NULL OR c.assistant_id = %(assistant_id)s::uuid)
  AND (%(thread_id)s::uuid IS NULL OR c.thread_id = %(thread_id)s::uuid)
  AND (%(enabled)s::boolean IS NULL OR c.enabled = %(enabled)s::boolean)
  AND (%(metadata)s::jsonb IS NULL OR c.metadata @> %(metadata)s::jsonb)
  AND (%(held)s::jsonb IS NULL OR c.metadata @> %(held)s::jsonb)

-- name: order_by_cron_id
ORDER BY c.cron_id

-- name: order_by_assistant_id
ORDER BY c.assistant_id

-- name: order_by_thread_id
ORDER BY c.thread_id

-- name: order_by_created_at
ORDER BY c.created_at

-- name: order_by_updated_at
ORDER BY c.updated_at

-- name: order_by_next_run_date
ORDER BY c.next_run_at

-- name: order_by_end_time
ORDER BY c.end_time

-- name: ascending
ASC, c.cron_id ASC LIMIT %(limit)s OFFSET %(offset)s

-- name: descending
DESC, c.cron_id DESC LIMIT %(limit)s OFFSET %(offset)s
