-- name: delete_vectors
DELETE FROM interlock.store_vectors v
USING jsonb_to_recordset(%(items)s) AS p (tenant_id text, namespace text[], key text)
WHERE v.tenant_id = p.tenant_id AND v.namespace = p.namespace AND v.key = p.key;

-- name: insert_vectors
INSERT INTO interlock.store_vectors (tenant_id, namespace, key, model, path, embedding)
SELECT p.tenant_id, p.namespace, p.key, %(model)s, p.path, p.embedding::vector::real[]
FROM jsonb_to_recordset(%(vectors)s) AS p (
    tenant_id text, namespace text[], key text, path text, embedding text
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
-- Of items that were read, those which nobody has changed since; they stay locked.
UPDATE interlock.store_items i SET embedded_by = %(recipe)s
FROM jsonb_to_recordset(%(items)s) AS p (
    place int, tenant_id text, namespace text[], key text, version text
)
WHERE i.tenant_id = p.tenant_id AND i.namespace = p.namespace AND i.key = p.key AND i.xmin::text = p.version
RETURNING p.place;
