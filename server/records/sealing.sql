-- name: sealed_values
-- A row if anything in flight, or any of some rows that are quickly found, was encrypted by a project.
SELECT 1 AS found
WHERE EXISTS (
    SELECT FROM interlock.runs
    WHERE status IN ('pending', 'running') AND substring(kwargs FROM 1 FOR 8) = '\x0001495345414c31'
) OR EXISTS (
    SELECT FROM interlock.crons WHERE substring(payload FROM 1 FOR 8) = '\x0001495345414c31'
) OR EXISTS (
    SELECT FROM (SELECT metadata, values FROM interlock.threads LIMIT 1000) AS some_threads
    WHERE metadata ? '__sealed__' OR values ? '__sealed__'
)
