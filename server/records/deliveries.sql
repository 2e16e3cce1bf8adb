-- name: add
-- What the end of a run has to tell; the workers are woken on commit.
INSERT INTO interlock.webhook_deliveries (
    tenant_id, thread_id, run_id, url, local, principal, body, values, give_up_at
) VALUES (
    %(tenant_id)s, %(thread_id)s, %(run_id)s, %(url)s, %(local)s, %(principal)s, %(body)s, %(values)s,
    now() + make_interval(secs => %(span_s)s)
)
RETURNING pg_notify('interlock_webhooks', '')::text AS told

-- name: claim
-- Takes up to `slots` deliveries that are due, the tenant first that has the fewest under way. Whoever
-- takes them has until the new `due_at`; rows that anybody else holds are skipped.
WITH RECURSIVE tenants AS (
    (
        SELECT tenant_id FROM interlock.webhook_deliveries WHERE status = 'pending'
        ORDER BY tenant_id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT d.tenant_id FROM interlock.webhook_deliveries d
        WHERE d.status = 'pending' AND d.tenant_id > t.tenant_id
        ORDER BY d.tenant_id LIMIT 1
    )
    FROM tenants t WHERE t.tenant_id IS NOT NULL
),
waiting AS (
    SELECT
        c.*,
        row_number() OVER (PARTITION BY t.tenant_id ORDER BY c.due_at) + (
            SELECT count(*) FROM interlock.webhook_deliveries s
            WHERE s.tenant_id = t.tenant_id AND s.claim IS NOT NULL
        ) AS turn
    FROM tenants t CROSS JOIN LATERAL (
        SELECT d.tenant_id, d.thread_id, d.run_id, d.due_at
        FROM interlock.webhook_deliveries d
        WHERE d.tenant_id = t.tenant_id AND d.status = 'pending' AND d.due_at <= now()
            AND CASE WHEN d.local THEN %(local)s ELSE %(remote)s END
        ORDER BY d.due_at
        LIMIT %(slots)s + 32
    ) c
    WHERE t.tenant_id IS NOT NULL
),
picked AS (
    SELECT d.tenant_id, d.thread_id, d.run_id
    FROM (SELECT * FROM waiting ORDER BY turn, due_at LIMIT %(slots)s + 32) w
    JOIN interlock.webhook_deliveries d
        ON d.tenant_id = w.tenant_id AND d.thread_id = w.thread_id AND d.run_id = w.run_id
    WHERE d.status = 'pending' AND d.due_at <= now()
    ORDER BY w.turn, w.due_at
    LIMIT %(slots)s
    FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE interlock.webhook_deliveries d SET
    claim = gen_random_uuid(),
    due_at = now() + make_interval(secs => %(lease_s)s)
FROM picked p
WHERE d.tenant_id = p.tenant_id AND d.thread_id = p.thread_id AND d.run_id = p.run_id
RETURNING d.*

-- name: hold_values
-- Keeps the state that was looked up, so that every attempt tells the same.
UPDATE interlock.webhook_deliveries SET values = %(values)s
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s AND claim = %(claim)s

-- name: record
-- Notes an attempt, and what follows from it. At its end it keeps of the user only the name and the rights.
-- No row: somebody else has taken it over, or it was deleted.
UPDATE interlock.webhook_deliveries SET
    status = CASE WHEN %(status)s = 'pending' AND now() >= give_up_at THEN 'dead' ELSE %(status)s END,
    ended_at = CASE WHEN %(status)s = 'pending' AND now() < give_up_at THEN NULL ELSE now() END,
    principal = CASE WHEN %(status)s = 'pending' AND now() < give_up_at
        THEN principal ELSE principal || '{"attributes": {}}' END,
    due_at = least(now() + make_interval(secs => %(pause_s)s), give_up_at),
    claim = NULL,
    failures = CASE WHEN %(status)s = 'delivered' THEN failures ELSE failures + 1 END,
    attempts = CASE WHEN jsonb_array_length(attempts) < %(kept)s THEN attempts ELSE attempts - 0 END
        || jsonb_build_array(%(attempt)s::jsonb)
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s AND claim = %(claim)s
RETURNING *

-- name: of_run
SELECT * FROM interlock.webhook_deliveries
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s

-- name: send_again
-- Due at once, with the whole span to try in. No row: there is none, or it is just being sent.
UPDATE interlock.webhook_deliveries SET
    status = 'pending',
    ended_at = NULL,
    claim = NULL,
    failures = 0,
    due_at = now(),
    give_up_at = now() + make_interval(secs => %(span_s)s)
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s
    AND (claim IS NULL OR due_at < now())
RETURNING *, pg_notify('interlock_webhooks', '')::text AS told

-- name: delete_of_thread
DELETE FROM interlock.webhook_deliveries WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s

-- name: sweep
-- Forgets what came to its end long ago, or was never sent since nobody sends.
DELETE FROM interlock.webhook_deliveries WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM interlock.webhook_deliveries
    WHERE coalesce(ended_at, give_up_at) < now() - make_interval(secs => %(retention_s)s)
    LIMIT %(limit)s
))
