-- name: read_segments
-- Segments after a number, oldest first, as many as a page may weigh, and whether more may follow: one
-- snapshot tells both, so a run that is found ended has all its events here; a thread is open while it
-- exists. With a run only its own
-- and those of no run: what is left of a run that was rolled back is told there. Without any, one row.
SELECT state.open, page.first_seq, page.last_seq, page.run_id, page.first_shown, page.codec, page.body
FROM (
    SELECT CASE WHEN %(run_id)s::uuid IS NULL THEN EXISTS (
        SELECT FROM interlock.threads WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
    ) ELSE EXISTS (
        SELECT FROM interlock.runs
        WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s
            AND status IN ('pending', 'running')
    ) END AS open
) AS state
LEFT JOIN (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY first_seq) - octet_length(body) AS weight_before
    FROM (
        SELECT * FROM interlock.event_segments s
        WHERE s.tenant_id = %(tenant_id)s AND s.thread_id = %(thread_id)s
            AND s.first_seq >= coalesce((
                SELECT max(c.first_seq) FROM interlock.event_segments c
                WHERE c.tenant_id = %(tenant_id)s AND c.thread_id = %(thread_id)s AND c.first_seq <= %(after)s + 1
            ), 0)
            AND s.last_seq > %(after)s
            AND s.first_seq <= %(until)s
            AND (%(run_id)s::uuid IS NULL OR s.run_id = %(run_id)s OR s.run_id IS NULL)
        ORDER BY s.first_seq LIMIT %(segments)s
    ) AS found
) AS page ON page.weight_before < %(weight)s
ORDER BY page.first_seq

-- name: closing
-- How many events the thread event stream would show of an end of this run now.
SELECT closing FROM interlock.event_segments
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND run_id = %(run_id)s
ORDER BY first_seq DESC LIMIT 1

-- name: place_of
-- Where a reader of the thread event stream goes on: the log's number before the segment that holds what
-- follows a shown number; the last shown number beside it.
SELECT t.last_shown, coalesce((
    SELECT s.first_seq - 1 FROM interlock.event_segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.thread_id = %(thread_id)s AND s.first_shown <= %(after)s + 1
    ORDER BY s.first_seq DESC LIMIT 1
), 0) AS after_seq, t.last_seq
FROM interlock.threads t
WHERE t.tenant_id = %(tenant_id)s AND t.thread_id = %(thread_id)s
