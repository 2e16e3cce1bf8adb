-- name: create_thread
-- Makes the thread of a run. No row: somebody else made it a moment ago.
INSERT INTO interlock.threads (tenant_id, thread_id, metadata, config, ttl, ttl_strategy, expires_at)
SELECT %(tenant_id)s, %(thread_id)s, %(metadata)s, '{"configurable": {}}', ttl, %(ttl_strategy)s, now() + ttl
FROM CAST(%(ttl)s AS interval) AS ttl
ON CONFLICT (tenant_id, thread_id) DO NOTHING RETURNING *

-- name: lock_thread
-- Everything that moves a run locks its thread first, so that no two such steps mix.
SELECT * FROM interlock.threads
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
    AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb) FOR NO KEY UPDATE

-- name: try_lock_thread
-- The same for the sweep: whoever holds the lock is moving the run already.
SELECT * FROM interlock.threads
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: insert_run
-- Queues a run on a thread that is locked, behind whoever is served before it there, together with its
-- first event, and notes on the thread what runs on it. The clock is read under the lock, so the order
-- of `run_at` is the order of admission. The workers are told, on commit, of a run that nobody is
-- ahead of: that it is due, or after how many seconds it will be.
WITH clock AS (
    SELECT at, at + make_interval(secs => %(after_seconds)s) AS due
    FROM (SELECT clock_timestamp() AS at) AS read
),
thread AS (
    UPDATE interlock.threads SET
        metadata = metadata || %(stamp)s,
        config = CASE WHEN config = '{}' THEN '{"configurable": {}}' ELSE config END,
        last_seq = last_seq + 1,
        priority = COALESCE(priority, %(thread_priority)s),
        fairness_group = COALESCE(fairness_group, %(thread_group)s),
        updated_at = now(), expires_at = now() + ttl
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
    RETURNING last_seq, last_shown, priority, fairness_group
),
stored AS (
    INSERT INTO interlock.event_segments
        (tenant_id, thread_id, first_seq, last_seq, run_id, first_shown, closing, codec, body)
    SELECT %(tenant_id)s, %(thread_id)s, last_seq, last_seq, %(run_id)s, last_shown + 1, 2, %(codec)s, %(body)b
    FROM thread
)
INSERT INTO interlock.runs (
    tenant_id, thread_id, run_id, assistant_id, graph_id, multitask_strategy, metadata, kwargs, principal,
    priority, fairness_group, temporary, idempotency_key, request_hash, budget, first_seq, run_at, created_at, updated_at, behind
)
SELECT
    %(tenant_id)s, %(thread_id)s, %(run_id)s, %(assistant_id)s, %(graph_id)s, %(multitask_strategy)s,
    %(metadata)s, %(kwargs)s, %(principal)s,
    COALESCE(%(priority)s, thread.priority, 0), COALESCE(thread.fairness_group, 'default'),
    %(temporary)s, %(idempotency_key)s, %(request_hash)s, %(budget)s, thread.last_seq, clock.due, clock.at, clock.at,
    EXISTS (
        SELECT FROM interlock.runs ahead
        WHERE ahead.tenant_id = %(tenant_id)s AND ahead.thread_id = %(thread_id)s
            AND ahead.status IN ('pending', 'running')
            AND (ahead.status = 'running' OR ahead.run_at <= clock.due)
    )
FROM clock, thread
RETURNING
    *,
    pg_notify('interlock_events', format(E'\n%%s %%s %%s', first_seq, thread_id, tenant_id))::text AS told,
    CASE WHEN NOT behind THEN pg_notify(
        'interlock_runs',
        CASE WHEN run_at > created_at THEN extract(epoch FROM run_at - created_at)::text ELSE '' END
    )::text END AS announced

-- name: run_by_key
-- The run that an idempotency key stands for.
SELECT * FROM interlock.runs WHERE tenant_id = %(tenant_id)s AND idempotency_key = %(idempotency_key)s

-- name: get_run
-- One run, if its thread may be touched. An ended stateless run has no thread; its own metadata tell.
SELECT * FROM interlock.runs r
WHERE r.tenant_id = %(tenant_id)s AND r.run_id = %(run_id)s
    AND (%(thread_id)s::uuid IS NULL OR r.thread_id = %(thread_id)s)
    AND (%(held)s::jsonb IS NULL OR %(held)s::jsonb <@ coalesce((
        SELECT t.metadata FROM interlock.threads t WHERE t.tenant_id = r.tenant_id AND t.thread_id = r.thread_id
    ), r.metadata))

-- name: list_runs
-- Runs of a thread, newest first.
SELECT * FROM interlock.runs
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
    AND (%(status)s::text IS NULL OR status = %(status)s)
ORDER BY created_at DESC, first_seq DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: inflight_runs
-- Runs that wait or run on a thread, in the order they are served.
SELECT * FROM interlock.runs
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND status IN ('pending', 'running')
ORDER BY run_at, first_seq

-- name: inflight_threads
-- Threads of a tenant on which a run waits or runs, for a cancel by status or with its assistant.
SELECT DISTINCT thread_id FROM interlock.runs WHERE tenant_id = %(tenant_id)s AND status IN ('pending', 'running')
    AND status = ANY(%(statuses)s) AND assistant_id = coalesce(%(assistant_id)s, assistant_id)

-- name: claim_runs
-- Takes up to `slots` runs for a worker. Order: priority, then the tenant that has the fewest running,
-- then the group of the tenant that has, then age. At most one run per thread is a candidate, the first of its line. Rows that anybody else
-- holds are skipped, so a claim never waits; a few candidates more than slots make up for those.
-- OFFSET 0 and the inner LIMITs hold the plan to index look-ups whatever the statistics say.
WITH RECURSIVE groups AS (
    (
        SELECT tenant_id, fairness_group FROM interlock.runs WHERE status = 'pending' AND NOT behind
        ORDER BY tenant_id, fairness_group LIMIT 1
    )
    UNION ALL
    SELECT n.tenant_id, n.fairness_group
    FROM groups g CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.fairness_group FROM interlock.runs r
        WHERE r.status = 'pending' AND NOT r.behind
            AND (r.tenant_id, r.fairness_group) > (g.tenant_id, g.fairness_group)
        ORDER BY r.tenant_id, r.fairness_group LIMIT 1
    ) n
),
tenants AS (
    SELECT t.tenant_id, (
        SELECT count(*) FROM interlock.runs r WHERE r.tenant_id = t.tenant_id AND r.status = 'running'
    ) AS running
    FROM (SELECT DISTINCT tenant_id FROM groups) t
),
candidates AS (
    SELECT
        c.*,
        row_number() OVER (
            PARTITION BY g.tenant_id, g.fairness_group ORDER BY c.priority, c.run_at, c.first_seq
        ) + (
            SELECT count(*) FROM interlock.runs r
            WHERE r.tenant_id = g.tenant_id AND r.status = 'running' AND r.fairness_group = g.fairness_group
        ) AS group_turn
    FROM groups g CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.thread_id, r.run_id, r.priority, r.run_at, r.first_seq
        FROM interlock.runs r
        WHERE r.tenant_id = g.tenant_id AND r.fairness_group = g.fairness_group
            AND r.status = 'pending' AND NOT r.behind AND r.run_at <= now()
            AND NOT EXISTS (
                SELECT FROM interlock.runs x
                WHERE x.tenant_id = r.tenant_id AND x.thread_id = r.thread_id AND x.status = 'running'
                OFFSET 0
            )
            AND r.run_id = (
                SELECT y.run_id FROM interlock.runs y
                WHERE y.tenant_id = r.tenant_id AND y.thread_id = r.thread_id
                    AND y.status IN ('pending', 'running') AND y.status = 'pending'
                ORDER BY y.run_at, y.first_seq LIMIT 1
            )
        ORDER BY r.priority, r.run_at, r.first_seq
        LIMIT %(slots)s + 32
    ) c
),
waiting AS (
    SELECT c.*, t.running + row_number() OVER (
        PARTITION BY c.tenant_id ORDER BY c.priority, c.group_turn, c.run_at, c.first_seq
    ) AS turn
    FROM candidates c JOIN tenants t ON t.tenant_id = c.tenant_id
),
next AS (
    SELECT * FROM waiting ORDER BY priority, turn, run_at LIMIT %(slots)s + 32
),
picked AS (
    SELECT r.tenant_id, r.thread_id, r.run_id
    FROM next w
    JOIN interlock.runs r
        ON r.tenant_id = w.tenant_id AND r.thread_id = w.thread_id AND r.run_id = w.run_id
    JOIN interlock.threads t ON t.tenant_id = w.tenant_id AND t.thread_id = w.thread_id
    WHERE r.status = 'pending'
    ORDER BY w.priority, w.turn, w.run_at
    LIMIT %(slots)s
    FOR NO KEY UPDATE OF t, r SKIP LOCKED
),
fenced AS (
    UPDATE interlock.threads t SET fence = t.fence + 1
    FROM picked p WHERE t.tenant_id = p.tenant_id AND t.thread_id = p.thread_id
    RETURNING t.tenant_id, t.thread_id, t.fence
)
UPDATE interlock.runs r SET
    status = 'running',
    worker_id = %(worker_id)s,
    attempt = r.attempt + 1,
    fence = f.fence,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    started_at = coalesce(r.started_at, now()),
    updated_at = now()
FROM picked p JOIN fenced f ON f.tenant_id = p.tenant_id AND f.thread_id = p.thread_id
WHERE r.tenant_id = p.tenant_id AND r.thread_id = p.thread_id AND r.run_id = p.run_id AND r.status = 'pending'
RETURNING r.*

-- name: next_due
-- Seconds until the next delayed run is due.
SELECT extract(epoch FROM min(run_at) - now())::float8 AS seconds FROM interlock.runs
WHERE status = 'pending' AND NOT behind AND run_at > now()

-- name: renew_leases
-- Renews what is still ours and tells how each one stands. A row that somebody is just changing is
-- left alone: `held` then says that it was ours a moment ago.
WITH mine AS (
    SELECT * FROM unnest(
        %(tenant_ids)s::text[], %(thread_ids)s::uuid[], %(run_ids)s::uuid[], %(fences)s::bigint[], %(usages)s::jsonb[]
    ) AS m (tenant_id, thread_id, run_id, fence, usage)
),
free AS (
    SELECT r.tenant_id, r.thread_id, r.run_id, r.fence, m.usage
    FROM interlock.runs r
    JOIN mine m ON r.tenant_id = m.tenant_id AND r.thread_id = m.thread_id AND r.run_id = m.run_id
    WHERE r.status = 'running' AND r.fence = m.fence
    FOR NO KEY UPDATE OF r SKIP LOCKED
),
renewed AS (
    UPDATE interlock.runs r SET
        lease_until = now() + make_interval(secs => %(lease_s)s),
        usage = coalesce(f.usage, r.usage)
    FROM free f
    WHERE r.tenant_id = f.tenant_id AND r.thread_id = f.thread_id AND r.run_id = f.run_id
    RETURNING r.run_id, r.fence
)
SELECT
    m.run_id,
    m.fence,
    r.status,
    n.run_id IS NOT NULL AS renewed,
    coalesce(r.status = 'running' AND r.fence = m.fence, false) AS held
FROM mine m
LEFT JOIN interlock.runs r ON r.tenant_id = m.tenant_id AND r.thread_id = m.thread_id AND r.run_id = m.run_id
LEFT JOIN renewed n ON n.run_id = m.run_id AND n.fence = m.fence

-- name: finish_run
-- Ends a run with its last events and settles its thread, if the fence still holds; what was told of its user
-- may be secret, and goes. No row: it was taken away. `asks`: reviews of the thread wait, perhaps of this run.
WITH thread AS (
    UPDATE interlock.threads SET
        settled_status = %(settled_status)s,
        values = coalesce(%(values)s::jsonb, values),
        interrupts = %(interrupts)s,
        error = %(thread_error)s,
        exact = %(exact)s,
        left_by = %(left_by)s,
        last_seq = last_seq + %(count)s,
        last_shown = last_shown + %(shown)s,
        updated_at = now(), expires_at = now() + ttl,
        state_updated_at = now()
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND fence = %(fence)s
    RETURNING tenant_id, thread_id, last_seq, last_shown
),
stored AS (
    INSERT INTO interlock.event_segments
        (tenant_id, thread_id, first_seq, last_seq, run_id, first_shown, closing, codec, body)
    SELECT tenant_id, thread_id, last_seq - %(count)s + 1, last_seq, %(run_id)s, last_shown - %(shown)s + 1, 0,
        %(codec)s, %(body)b
    FROM thread
)
UPDATE interlock.runs r SET
    status = %(status)s,
    error = %(error)s,
    usage = %(usage)s,
    principal = r.principal || '{"attributes": {}}',
    lease_until = NULL,
    ended_at = now(),
    updated_at = now()
FROM thread t
WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.run_id = %(run_id)s
    AND r.status = 'running' AND r.fence = %(fence)s
RETURNING
    t.last_seq,
    t.last_shown,
    EXISTS (
        SELECT FROM interlock.reviews w
        WHERE w.tenant_id = t.tenant_id AND w.thread_id = t.thread_id AND w.status = 'pending'
    ) AS asks,
    pg_notify(
        'interlock_events', format(E'%%s\n%%s %%s %%s', %(origin)s::text, t.last_seq, t.thread_id, t.tenant_id)
    )::text AS told

-- name: hand_back_run
-- Puts a run of this worker back into the queue, first of its line, and shuts the worker out.
WITH thread AS (
    UPDATE interlock.threads SET fence = fence + 1
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND fence = %(fence)s
    RETURNING tenant_id, thread_id
)
UPDATE interlock.runs r SET
    status = 'pending',
    behind = false,
    worker_id = NULL,
    fence = NULL,
    lease_until = NULL,
    usage = coalesce(%(usage)s, r.usage),
    updated_at = now()
FROM thread t
WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.run_id = %(run_id)s
    AND r.status = 'running' AND r.fence = %(fence)s
RETURNING r.*, pg_notify('interlock_runs', '')

-- name: expired_runs
-- Runs whose lease ran out.
SELECT * FROM interlock.runs WHERE status = 'running' AND lease_until < now() LIMIT 200

-- name: orphaned_runs
-- Runs whose worker is not connected, since nobody holds its lock, with what is left of their leases.
SELECT r.*, extract(epoch FROM r.lease_until - now())::float8 AS lease_left_s FROM interlock.runs r
WHERE r.status = 'running' AND NOT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid::bigint = %(presence)s
        AND l.objid::bigint = hashtext(r.worker_id)::bigint & 4294967295
)
LIMIT 200

-- name: take_back_run
-- Takes a run from a dead worker, under the lock of its thread: back to the queue, or quarantined as
-- an error after too many deaths at one place. No row: the worker came back in time.
WITH counted AS (
    SELECT CASE WHEN %(saved)s > saved_at_crash THEN 1 ELSE crashes + 1 END AS crashes
    FROM interlock.runs
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s
)
UPDATE interlock.runs r SET
    status = CASE WHEN c.crashes >= %(max_attempts)s THEN 'error' ELSE 'pending' END,
    error = CASE WHEN c.crashes >= %(max_attempts)s THEN %(error)s::bytea END,
    ended_at = CASE WHEN c.crashes >= %(max_attempts)s THEN now() END,
    principal = r.principal || CASE WHEN c.crashes >= %(max_attempts)s THEN '{"attributes": {}}' ELSE '{}' END::jsonb,
    crashes = c.crashes,
    saved_at_crash = %(saved)s,
    behind = false,
    worker_id = NULL,
    fence = NULL,
    lease_until = NULL,
    usage = coalesce(%(usage)s, r.usage),
    updated_at = now()
FROM counted c
WHERE r.tenant_id = %(tenant_id)s AND r.thread_id = %(thread_id)s AND r.run_id = %(run_id)s
    AND r.status = 'running' AND r.fence = %(fence)s
    AND (
        NOT %(if_expired)s OR r.lease_until < now()
        OR %(orphaned)s AND r.lease_until = %(lease_until)s::timestamptz
    )
RETURNING r.*

-- name: interrupt_runs
-- Ends runs of a thread that is locked.
UPDATE interlock.runs SET
    status = 'interrupted',
    cancel_reason = %(reason)s, principal = principal || '{"attributes": {}}',
    lease_until = NULL, ended_at = now(), updated_at = now()
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = ANY(%(run_ids)s)
    AND status IN ('pending', 'running')
RETURNING *

-- name: delete_runs
-- Removes runs of a thread that is locked; all of them when `run_ids` is null.
DELETE FROM interlock.runs
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
    AND (%(run_ids)s::uuid[] IS NULL OR run_id = ANY(%(run_ids)s))
RETURNING *

-- name: settle_thread
-- What a step other than a finish leaves on a thread that is locked.
UPDATE interlock.threads SET
    fence = fence + %(fences)s,
    settled_status = %(settled_status)s,
    values = coalesce(%(values)s::jsonb, values),
    interrupts = %(interrupts)s,
    error = %(thread_error)s,
    exact = %(exact)s,
    left_by = %(left_by)s,
    updated_at = now(), expires_at = now() + ttl,
    state_updated_at = CASE WHEN %(values)s::jsonb IS NULL THEN state_updated_at ELSE now() END
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s

-- name: serve_next
-- Lets the next run of a line forward and wakes the workers, after a run has left it. Runs in a
-- statement of its own: only one that began under the thread's lock sees who has joined the line.
WITH forward AS (
    UPDATE interlock.runs SET behind = false
    WHERE (tenant_id, thread_id, run_id) = (
        SELECT tenant_id, thread_id, run_id FROM interlock.runs
        WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
            AND status IN ('pending', 'running') AND status = 'pending'
        ORDER BY run_at, first_seq LIMIT 1
    )
    RETURNING 1
)
SELECT pg_notify('interlock_runs', '') FROM forward

-- name: announce_cancel
-- Wakes the workers that hold these runs.
SELECT pg_notify('interlock_cancel', run_id::text) FROM unnest(%(run_ids)s::uuid[]) AS run_id

-- name: delete_temporary_thread
-- Unless somebody has queued another run on it. Runs in a statement of its own, as `serve_next` does.
DELETE FROM interlock.threads t
WHERE t.tenant_id = %(tenant_id)s AND t.thread_id = %(thread_id)s AND NOT EXISTS (
    SELECT FROM interlock.runs r
    WHERE r.tenant_id = t.tenant_id AND r.thread_id = t.thread_id AND r.status IN ('pending', 'running')
)
