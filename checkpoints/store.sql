-- name: get_items
-- The wanted items that exist and have not expired; their time to live starts anew where asked for.
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(%(wanted)s) AS w (place int, namespace text[], key text, refresh boolean)
), refreshed AS (
    UPDATE interlock.store_items i
    SET expires_at = now() + make_interval(secs => i.ttl_minutes * 60)
    FROM wanted w
    WHERE i.tenant_id = %(tenant_id)s AND i.namespace = w.namespace AND i.key = w.key
      AND w.refresh AND i.ttl_minutes IS NOT NULL AND i.expires_at > now()
)
SELECT w.place, i.namespace, i.key, i.value, i.exact, i.created_at, i.updated_at
FROM wanted w
JOIN interlock.store_items i
    ON i.tenant_id = %(tenant_id)s AND i.namespace = w.namespace AND i.key = w.key
WHERE i.expires_at IS NULL OR i.expires_at > now();

-- name: put_items
-- Store items, new or over older ones. The caller gives each key once.
INSERT INTO interlock.store_items AS i (tenant_id, namespace, key, value, exact, ttl_minutes, expires_at)
SELECT %(tenant_id)s, p.namespace, p.key, p.value, decode(p.exact, 'base64'), p.ttl_minutes,
       now() + make_interval(secs => p.ttl_minutes * 60)
FROM jsonb_to_recordset(%(items)s) AS p (
    namespace text[], key text, value jsonb, exact text, ttl_minutes double precision
)
-- In one order, so that two callers with the same keys wait for each other instead of in a circle.
ORDER BY p.namespace COLLATE "C", p.key COLLATE "C"
ON CONFLICT (tenant_id, namespace, key) DO UPDATE
SET value = excluded.value, exact = excluded.exact, ttl_minutes = excluded.ttl_minutes,
    expires_at = excluded.expires_at, updated_at = now(),
    created_at = CASE WHEN i.expires_at <= now() THEN now() ELSE i.created_at END;

-- name: delete_items
DELETE FROM interlock.store_items i
USING jsonb_to_recordset(%(items)s) AS p (namespace text[], key text)
WHERE i.tenant_id = %(tenant_id)s AND i.namespace = p.namespace AND i.key = p.key;

-- name: delete_expired
-- A few items whose time is over; each put of a tenant takes some along.
DELETE FROM interlock.store_items WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM interlock.store_items
    WHERE tenant_id = %(tenant_id)s AND expires_at <= now()
    LIMIT 100 FOR UPDATE SKIP LOCKED
));

-- name: search_items
-- Items below a prefix, last changed first. Every condition must hold: equal and unequal compare
-- whole values, the others compare numbers with numbers and texts with texts.
WITH found AS (
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
    ORDER BY i.updated_at DESC, i.namespace, i.key
    LIMIT %(limit)s OFFSET %(offset)s
), refreshed AS (
    UPDATE interlock.store_items i
    SET expires_at = now() + make_interval(secs => i.ttl_minutes * 60)
    FROM found f
    WHERE %(refresh)s AND i.tenant_id = f.tenant_id AND i.namespace = f.namespace AND i.key = f.key
      AND i.ttl_minutes IS NOT NULL
)
SELECT namespace, key, value, exact, created_at, updated_at FROM found
ORDER BY updated_at DESC, namespace, key;

-- name: list_namespaces
-- Namespaces in use, cut to a depth. A pattern matches at the start or at the end; `*` is any label.
SELECT DISTINCT i.namespace[1:coalesce(%(max_depth)s::int, cardinality(i.namespace))] AS namespace
FROM interlock.store_items i
WHERE i.tenant_id = %(tenant_id)s
  AND (i.expires_at IS NULL OR i.expires_at > now())
  AND NOT EXISTS (
      SELECT FROM jsonb_to_recordset(%(patterns)s) AS m (kind text, path text[])
      WHERE cardinality(m.path) > cardinality(i.namespace) OR EXISTS (
          SELECT FROM unnest(m.path) WITH ORDINALITY AS p (label, place)
          WHERE p.label <> '*' AND p.label <> i.namespace[
              p.place + CASE m.kind WHEN 'suffix' THEN cardinality(i.namespace) - cardinality(m.path) ELSE 0 END
          ]
      )
  )
ORDER BY namespace LIMIT %(limit)s OFFSET %(offset)s;
