-- name: visible
-- Items below a prefix that have not expired and hold every condition: equal and unequal compare whole
-- values, the others compare numbers with numbers and texts with texts. What follows selects from it.
WITH visible AS NOT MATERIALIZED (
    SELECT i.* FROM interlock.store_items i
    WHERE i.tenant_id = %(tenant_id)s
      AND (%(lower)s::text[] IS NULL OR (i.namespace >= %(lower)s::text[] AND i.namespace < %(upper)s::text[]))
      AND (i.expires_at IS NULL OR i.expires_at > now())
      AND NOT EXISTS (
          SELECT FROM jsonb_to_recordset(%(conditions)s) AS c (path text[], operator text, operand jsonb)
          CROSS JOIN LATERAL (
              SELECT coalesce(i.value #> c.path, 'null') AS held, coalesce(c.operand, 'null') AS wanted
          ) AS h
          WHERE NOT CASE c.operator
              WHEN '$eq' THEN h.held = h.wanted
              WHEN '$ne' THEN h.held <> h.wanted
              ELSE jsonb_typeof(h.held) = jsonb_typeof(h.wanted) AND CASE c.operator
                  WHEN '$gt' THEN h.held > h.wanted
                  WHEN '$gte' THEN h.held >= h.wanted
                  WHEN '$lt' THEN h.held < h.wanted
                  WHEN '$lte' THEN h.held <= h.wanted
              END
          END
      )
)

-- name: last_changed
SELECT namespace, key, value, exact, created_at, updated_at, ttl_minutes, NULL AS score
FROM visible
ORDER BY updated_at DESC, namespace, key
LIMIT %(limit)s OFFSET %(offset)s;

-- name: compared
-- The nearest of so many visible items and of those that the index found, by the best of their vectors;
-- items without any come last, as if no query was given.
, candidates AS MATERIALIZED (
    (SELECT namespace, key, updated_at FROM visible LIMIT %(most)s)
    UNION
    SELECT namespace, key, updated_at FROM visible
    JOIN jsonb_to_recordset(%(near)s) AS n (namespace text[], key text) USING (namespace, key)
), measured AS MATERIALIZED (
    SELECT c.namespace, c.key, c.updated_at, min(v.embedding::vector <=> %(query)s::vector) AS distance
    FROM candidates c
    LEFT JOIN interlock.store_vectors v
        ON v.tenant_id = %(tenant_id)s AND v.namespace = c.namespace AND v.key = c.key
        AND v.model = %(model)s
    GROUP BY c.namespace, c.key, c.updated_at
    ORDER BY distance NULLS LAST, c.updated_at DESC, c.namespace, c.key
    LIMIT %(limit)s OFFSET %(offset)s
)
SELECT i.namespace, i.key, i.value, i.exact, i.created_at, i.updated_at, i.ttl_minutes,
       1 - m.distance AS score, (SELECT count(*) FROM candidates) AS candidates
FROM measured m
JOIN interlock.store_items i ON i.tenant_id = %(tenant_id)s AND i.namespace = m.namespace AND i.key = m.key
ORDER BY m.distance NULLS LAST, i.updated_at DESC, i.namespace, i.key;

-- name: near
-- The visible items of the nearest vectors that the index finds. It goes on past those that are not visible.
, nearest AS MATERIALIZED (
    SELECT v.namespace, v.key, v.embedding::halfvec({dims}) <=> %(query)s::halfvec({dims}) AS distance
    FROM interlock.store_vectors v
    JOIN visible i ON i.tenant_id = v.tenant_id AND i.namespace = v.namespace AND i.key = v.key
    WHERE v.tenant_id = %(tenant_id)s AND v.model = %(model)s
      AND (%(lower)s::text[] IS NULL OR (v.namespace >= %(lower)s::text[] AND v.namespace < %(upper)s::text[]))
    ORDER BY distance
    LIMIT %(candidates)s
)
SELECT DISTINCT namespace, key FROM nearest;

-- name: count_vectors
-- How many vectors lie below a prefix, as far as it matters.
SELECT count(*) AS number FROM (
    SELECT FROM interlock.store_vectors v
    WHERE v.tenant_id = %(tenant_id)s AND v.model = %(model)s
      AND (%(lower)s::text[] IS NULL OR (v.namespace >= %(lower)s::text[] AND v.namespace < %(upper)s::text[]))
    LIMIT %(most)s
) AS counted;

-- name: tune
-- For the transaction: search on when what was found is not visible; compiling takes longer than the search.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),
       set_config('hnsw.max_scan_tuples', %(scanned)s, true),
       set_config('hnsw.ef_search', %(ef_search)s, true),
       set_config('jit', 'off', true);

-- name: refresh_items
-- Start the time to live of items anew.
UPDATE interlock.store_items i
SET expires_at = now() + make_interval(secs => i.ttl_minutes * 60)
FROM jsonb_to_recordset(%(items)s) AS p (namespace text[], key text)
WHERE i.tenant_id = %(tenant_id)s AND i.namespace = p.namespace AND i.key = p.key
  AND i.ttl_minutes IS NOT NULL AND i.expires_at > now();
