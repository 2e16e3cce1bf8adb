-- name: append
-- Stores one segment per part and numbers its events, if the writer still holds the thread. Threads
-- that anybody else has locked are skipped, so that one slow transaction delays nobody else's events;
-- a part that comes back in no row was skipped or refused, `append_waiting` tells which.
WITH part AS (
    SELECT * FROM unnest(
        %(tenant_ids)b::text[], %(thread_ids)b::uuid[], %(run_ids)b::uuid[], %(fences)b::bigint[],
        %(counts)b::int[], %(showns)b::int[], %(closings)b::int[], %(codecs)b::smallint[], %(bodies)b::bytea[]
    ) WITH ORDINALITY AS p (tenant_id, thread_id, run_id, fence, count, shown, closing, codec, body, number)
),
free AS (
    SELECT t.tenant_id, t.thread_id, p.number
    FROM interlock.threads t
    JOIN part p ON t.tenant_id = p.tenant_id AND t.thread_id = p.thread_id AND t.fence = p.fence
    FOR NO KEY UPDATE OF t SKIP LOCKED
),
numbered AS (
    UPDATE interlock.threads t SET last_seq = t.last_seq + p.count, last_shown = t.last_shown + p.shown
    FROM free f JOIN part p ON p.number = f.number
    WHERE t.tenant_id = f.tenant_id AND t.thread_id = f.thread_id AND t.fence = p.fence
    RETURNING p.number, t.last_seq, t.last_shown
),
stored AS (
    INSERT INTO interlock.event_segments (
        tenant_id, thread_id, first_seq, last_seq, run_id, first_shown, closing, codec, body
    )
    SELECT
        p.tenant_id, p.thread_id, n.last_seq - p.count + 1, n.last_seq, p.run_id,
        n.last_shown - p.shown + 1, p.closing, p.codec, p.body
    FROM numbered n JOIN part p ON p.number = n.number
),
told AS (
    SELECT pg_notify('interlock_events', CASE WHEN length(payload) < 7900 THEN payload ELSE '' END)
    FROM (
        SELECT %(origin)s || string_agg(format(E'\n%%s %%s %%s', n.last_seq, p.thread_id, p.tenant_id), '')
            AS payload
        FROM numbered n JOIN part p ON p.number = n.number
        HAVING count(*) > 0
    ) AS line
)
SELECT n.number - 1 AS part, n.last_seq, n.last_shown FROM numbered n CROSS JOIN told

-- name: append_waiting
-- The same for one part, waiting for whoever holds the thread. No row: another writer has taken it.
WITH numbered AS (
    UPDATE interlock.threads SET last_seq = last_seq + %(count)s, last_shown = last_shown + %(shown)s
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND fence = %(fence)s
    RETURNING last_seq, last_shown
),
stored AS (
    INSERT INTO interlock.event_segments (
        tenant_id, thread_id, first_seq, last_seq, run_id, first_shown, closing, codec, body
    )
    SELECT
        %(tenant_id)s, %(thread_id)s, last_seq - %(count)s + 1, last_seq, %(run_id)s,
        last_shown - %(shown)s + 1, %(closing)s, %(codec)s, %(body)b
    FROM numbered
)
SELECT last_seq, last_shown, pg_notify(
    'interlock_events', format(E'%%s\n%%s %%s %%s', %(origin)s::text, last_seq, %(thread_id)s::uuid, %(tenant_id)s::text)
)
FROM numbered

-- name: append_in
-- Stores events inside a transaction that holds the thread. No row: there is no such thread.
WITH numbered AS (
    UPDATE interlock.threads SET last_seq = last_seq + %(count)s, last_shown = last_shown + %(shown)s
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
    RETURNING last_seq, last_shown
),
stored AS (
    INSERT INTO interlock.event_segments (
        tenant_id, thread_id, first_seq, last_seq, run_id, first_shown, closing, codec, body
    )
    SELECT
        %(tenant_id)s, %(thread_id)s, last_seq - %(count)s + 1, last_seq, %(run_id)s,
        last_shown - %(shown)s + 1, %(closing)s, %(codec)s, %(body)b
    FROM numbered
)
SELECT last_seq, last_shown, pg_notify(
    'interlock_events',
    format(E'%%s\n%%s %%s %%s', %(origin)s::text, last_seq, %(thread_id)s::uuid, %(tenant_id)s::text)
)
FROM numbered

-- name: last_segment
-- The last segment of a run, if it is this very one: the answer to a write whose commit nobody saw.
SELECT last_seq, first_shown + %(shown)s - 1 AS last_shown FROM (
    SELECT last_seq, first_shown, body FROM interlock.event_segments
    WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s
    ORDER BY first_seq DESC LIMIT 1
) AS last
WHERE body = %(body)b

-- name: last_seq
-- Number of the last event of a thread; of a stateless run's thread, which is gone, from its segments.
SELECT coalesce(
    (SELECT last_seq FROM interlock.threads WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s),
    (
        SELECT last_seq FROM interlock.event_segments
        WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
        ORDER BY first_seq DESC LIMIT 1
    ),
    0
) AS last_seq

-- name: delete_runs
-- Removes the events of runs.
DELETE FROM interlock.event_segments
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = ANY(%(run_ids)s)

-- name: delete_thread
-- Removes all events of a thread.
DELETE FROM interlock.event_segments WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s

-- name: sweep
-- Removes segments past their retention, save those of runs that are still in flight.
DELETE FROM interlock.event_segments WHERE ctid = ANY(ARRAY(
    SELECT s.ctid FROM interlock.event_segments s
    WHERE s.created_at < now() - make_interval(secs => %(retention_s)s)
        AND NOT EXISTS (
            SELECT FROM interlock.runs r
            WHERE r.tenant_id = s.tenant_id AND r.thread_id = s.thread_id AND r.run_id = s.run_id
                AND r.status IN ('pending', 'running')
        )
    LIMIT %(limit)s
))
