-- name: examine
-- What the server is, how its clock stands, and whether pgvector can be had.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::int / 10000 AS major,
    pg_is_in_recovery() AS read_only,
    extract(epoch FROM clock_timestamp())::float8 AS clock,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS vector
