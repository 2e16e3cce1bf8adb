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
INSERT INTO interlock.store_items AS i (
    tenant_id, namespace, key, value, exact, ttl_minutes, expires_at, paths, embedded_by
)
SELECT %(tenant_id)s, p.namespace, p.key, p.value, decode(p.exact, 'base64'), p.ttl_minutes,
       now() + make_interval(secs => p.ttl_minutes * 60), p.paths, %(embedded_by)s
FROM jsonb_to_recordset(%(items)s) AS p (
    namespace text[], key text, value jsonb, exact text, ttl_minutes double precision, paths text[]
)
-- In one order, so that two callers with the same keys wait for each other instead of in a circle.
ORDER BY p.namespace COLLATE "C", p.key COLLATE "C"
ON CONFLICT (tenant_id, namespace, key) DO UPDATE
SET value = excluded.value, exact = excluded.exact, ttl_minutes = excluded.ttl_minutes,
    expires_at = excluded.expires_at, paths = excluded.paths, embedded_by = excluded.embedded_by,
    updated_at = now(),
    created_at = CASE WHEN i.expires_at <= now() THEN now() ELSE i.created_at END;

-- name: delete_items
DELETE FROM interlock.store_items i
USING jsonb_to_recordset(%(items)s) AS p (namespace text[], key text)
WHERE i.tenant_id = %(tenant_id)s AND i.namespace = p.namespace AND i.key = p.key;

-- name: delete_expired
-- Items of all tenants whose time is over.
DELETE FROM interlock.store_items WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM interlock.store_items
    WHERE expires_at <= now()
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
));

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
