-- name: delete_vectors
DELETE FROM interlock.store_vectors v
USING jsonb_to_recordset(%(items)s) AS p (tenant_id text, namespace text[], key text)
WHERE v.tenant_id = p.tenant_id AND v.namespace = p.namespace AND v.key = p.key;

-- name: insert_vectors
INSERT INTO interlock.store_vectors (tenant_id, namespace, key, place, model, embedding)
SELECT p.tenant_id, p.namespace, p.key, p.place, %(model)s, p.embedding::vector::real[]
FROM jsonb_to_recordset(%(vectors)s) AS p (
    tenant_id text, namespace text[], key text, place smallint, embedding text
);

-- name: stale_items
-- Items of all tenants that another recipe embedded, or none has, after a place.
SELECT tenant_id, namespace, key, value, paths, xmin::text AS version
FROM interlock.store_items
WHERE (embedded_by < %(recipe)s OR embedded_by > %(recipe)s)
  AND paths IS DISTINCT FROM '{}'
  AND (expires_at IS NULL OR expires_at > now())
  AND (tenant_id, namespace, key) > (%(tenant_id)s, %(namespace)s::text[], %(key)s)
ORDER BY tenant_id, namespace, key
LIMIT %(limit)s;

-- name: mark_embedded
-- Of items that were read, those which nobody has changed since, or is changing: to wait for one while
-- holding others could be to wait in a circle. They stay locked.
WITH locked AS MATERIALIZED (
    SELECT i.ctid AS id, p.place
    FROM jsonb_to_recordset(%(items)s) AS p (
        place int, tenant_id text, namespace text[], key text, version text
    )
    JOIN interlock.store_items i
        ON i.tenant_id = p.tenant_id AND i.namespace = p.namespace AND i.key = p.key
    WHERE i.xmin::text = p.version
    FOR UPDATE OF i SKIP LOCKED
)
UPDATE interlock.store_items i SET embedded_by = %(recipe)s
FROM locked WHERE i.ctid = locked.id
RETURNING locked.place;
