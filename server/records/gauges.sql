-- name: queue
-- How the queue stands, over all tenants.
SELECT
    count(*) FILTER (WHERE status = 'pending') AS n_pending,
    count(*) FILTER (WHERE status = 'running') AS n_running,
    coalesce(max(extract(epoch FROM now() - run_at)) FILTER (WHERE status = 'pending' AND run_at <= now()), 0)
        ::float8 AS pending_runs_wait_time_max_secs,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM now() - run_at))
        FILTER (WHERE status = 'pending' AND run_at <= now()) ::float8 AS pending_runs_wait_time_med_secs
FROM interlock.runs WHERE status IN ('pending', 'running');

-- name: ping
SELECT true AS alive;
