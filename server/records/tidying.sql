-- name: sweep_temporary_runs
-- Forgets stateless runs that ended long enough ago for every reader to have seen the end. One whose
-- thread stayed, because another run was queued there, belongs to that thread.
DELETE FROM interlock.runs WHERE ctid = ANY(ARRAY(
    SELECT r.ctid FROM interlock.runs r
    WHERE r.temporary AND r.ended_at < now() - make_interval(secs => %(grace_s)s) AND NOT EXISTS (
        SELECT FROM interlock.threads t WHERE t.tenant_id = r.tenant_id AND t.thread_id = r.thread_id
    )
    LIMIT %(limit)s
))
RETURNING tenant_id, thread_id

-- name: unanalysed
-- Whether a hot table holds rows that the planner knows nothing about: one claim can be 90 times slower.
SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'interlock' AND c.relname IN ('runs', 'threads', 'event_segments')
        AND c.reltuples = -1 AND pg_relation_size(c.oid) > 0
) AS unanalysed

-- name: analyse
ANALYZE interlock.runs, interlock.threads, interlock.event_segments
