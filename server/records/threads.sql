-- name: insert_thread
-- A new thread; no row comes back when the id is taken.
INSERT INTO interlock.threads (tenant_id, thread_id, metadata, ttl, ttl_strategy, expires_at)
VALUES (%(tenant_id)s, %(thread_id)s, %(metadata)s, %(ttl)s, %(ttl_strategy)s, now() + %(ttl)s::interval)
ON CONFLICT (tenant_id, thread_id) DO NOTHING
RETURNING *, settled_status AS status;

-- name: get_thread
-- One thread with its derived status.
SELECT t.*, CASE WHEN EXISTS (
    SELECT FROM interlock.runs r
    WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
) THEN 'busy' ELSE t.settled_status END AS status
FROM interlock.threads t
WHERE t.tenant_id = %(tenant_id)s AND t.thread_id = %(thread_id)s
  AND (%(held)s::jsonb IS NULL OR t.metadata @> %(held)s::jsonb);

-- name: change_thread
-- Shallow merge of metadata: nested objects are replaced, a null is stored as null. The time to live
-- begins anew.
WITH patched AS (
    UPDATE interlock.threads
    SET metadata = metadata || %(metadata)s,
        ttl = coalesce(%(ttl)s::interval, ttl),
        ttl_strategy = coalesce(%(ttl_strategy)s, ttl_strategy),
        expires_at = now() + coalesce(%(ttl)s::interval, ttl),
        updated_at = now()
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
      AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb)
    RETURNING *
)
SELECT t.*, CASE WHEN EXISTS (
    SELECT FROM interlock.runs r
    WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
) THEN 'busy' ELSE t.settled_status END AS status
FROM patched t;

-- name: lock_metadata
-- The metadata of a thread, which nobody else changes meanwhile.
SELECT metadata FROM interlock.threads
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
FOR NO KEY UPDATE;

-- name: take_fence
-- Make the caller the thread's only writer; whoever wrote before is refused from now on.
UPDATE interlock.threads SET fence = fence + 1
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
RETURNING fence;

-- name: copy_thread_row
-- A second thread with the same metadata, config and shown state. Nobody's run left the copy: an answer
-- there is an act of whoever gives it.
INSERT INTO interlock.threads (
    tenant_id, thread_id, metadata, config, settled_status, values, interrupts, error, exact, ttl,
    ttl_strategy, expires_at
)
SELECT
    tenant_id, %(new_thread_id)s, metadata || %(metadata)s, config, settled_status, values, interrupts, error,
    exact, ttl, ttl_strategy, now() + ttl
FROM interlock.threads
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
RETURNING *, settled_status AS status;

-- name: delete_thread
-- The thread with its runs and events; its checkpoints are deleted by their own module.
WITH gone AS (
    DELETE FROM interlock.threads WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
    RETURNING tenant_id, thread_id
), runs AS (
    DELETE FROM interlock.runs r USING gone g
    WHERE r.tenant_id = g.tenant_id AND r.thread_id = g.thread_id
), events AS (
    DELETE FROM interlock.event_segments e USING gone g
    WHERE e.tenant_id = g.tenant_id AND e.thread_id = g.thread_id
)
SELECT thread_id FROM gone;

-- name: threads_of_assistant
-- Threads stamped with an assistant, for the deletion that takes them along.
SELECT thread_id FROM interlock.threads
WHERE tenant_id = %(tenant_id)s AND metadata @> %(stamp)s;

-- name: expired_threads
-- Threads of all tenants that have outlived their time and rest, the longest expired first: one that is busy,
-- or has a webhook to send, takes nobody else's place.
SELECT t.tenant_id, t.thread_id FROM interlock.threads t
WHERE t.expires_at < now()
  AND NOT EXISTS (
    SELECT FROM interlock.runs r
    WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
  )
  AND NOT EXISTS (
    SELECT FROM interlock.webhook_deliveries d
    WHERE d.tenant_id = t.tenant_id AND d.thread_id = t.thread_id AND d.status = 'pending'
  )
ORDER BY t.expires_at
LIMIT %(limit)s;

-- name: lock_expired
-- One of them, unless somebody holds it or has changed it meanwhile.
SELECT t.*, t.settled_status AS status FROM interlock.threads t
WHERE t.tenant_id = %(tenant_id)s AND t.thread_id = %(thread_id)s AND t.expires_at < now()
FOR NO KEY UPDATE SKIP LOCKED;

-- name: keep_from_expiring
-- Until its next change.
UPDATE interlock.threads SET expires_at = NULL
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s;

-- name: search_threads
-- A page of threads; an order and the page follow. Large columns are read only when asked for.
SELECT
    t.tenant_id, t.thread_id, t.metadata, t.config, t.interrupts, t.error, t.left_by, t.fence, t.last_seq,
    t.ttl, t.ttl_strategy, t.expires_at, t.created_at, t.updated_at, t.state_updated_at,
    CASE WHEN %(with_values)s THEN t.values END AS values,
    CASE WHEN %(with_values)s THEN t.exact END AS exact,
    CASE WHEN EXISTS (
        SELECT FROM interlock.runs r
        WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
    ) THEN 'busy' ELSE t.settled_status END AS status
FROM interlock.threads t
WHERE t.tenant_id = %(tenant_id)s
  AND (%(ids)s::uuid[] IS NULL OR t.thread_id = ANY (%(ids)s::uuid[]))
  AND (%(metadata)s::jsonb IS NULL OR t.metadata @> %(metadata)s::jsonb)
  AND (%(held)s::jsonb IS NULL OR t.metadata @> %(held)s::jsonb)
  AND (%(values)s::jsonb IS NULL OR t.values @> %(values)s::jsonb)
  AND (%(status)s::text IS NULL OR %(status)s::text = CASE WHEN EXISTS (
        SELECT FROM interlock.runs r
        WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
    ) THEN 'busy' ELSE t.settled_status END)

-- name: count_threads
-- How many threads match the same filters.
SELECT count(*) AS total
FROM interlock.threads t
WHERE t.tenant_id = %(tenant_id)s
  AND (%(ids)s::uuid[] IS NULL OR t.thread_id = ANY (%(ids)s::uuid[]))
  AND (%(metadata)s::jsonb IS NULL OR t.metadata @> %(metadata)s::jsonb)
  AND (%(held)s::jsonb IS NULL OR t.metadata @> %(held)s::jsonb)
  AND (%(values)s::jsonb IS NULL OR t.values @> %(values)s::jsonb)
  AND (%(status)s::text IS NULL OR %(status)s::text = CASE WHEN EXISTS (
        SELECT FROM interlock.runs r
        WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
    ) THEN 'busy' ELSE t.settled_status END);

-- name: order_by_thread_id
ORDER BY t.thread_id

-- name: order_by_status
ORDER BY status

-- name: order_by_created_at
ORDER BY t.created_at

-- name: order_by_updated_at
ORDER BY t.updated_at

-- name: order_by_state_updated_at
ORDER BY t.state_updated_at

-- name: ascending
ASC, t.thread_id ASC LIMIT %(limit)s OFFSET %(offset)s

-- name: descending
DESC, t.thread_id DESC LIMIT %(limit)s OFFSET %(offset)s

-- name: has_priority
-- A row if the project's hook has decided when the runs of the thread are served.
SELECT 1 AS decided FROM interlock.threads
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND priority IS NOT NULL
