-- name: insert_assistant
-- A new assistant and its first version; no row comes back when the id is taken.
WITH made AS (
    INSERT INTO interlock.assistants
        (tenant_id, assistant_id, graph_id, name, description, config, context, metadata)
    VALUES (%(tenant_id)s, %(assistant_id)s, %(graph_id)s, %(name)s, %(description)s,
            %(config)s, %(context)s, %(metadata)s)
    ON CONFLICT (tenant_id, assistant_id) DO NOTHING
    RETURNING *
), version AS (
    -- An assistant deleted and made again starts anew.
    INSERT INTO interlock.assistant_versions
        (tenant_id, assistant_id, version, graph_id, name, description, config, context, metadata, created_at)
    SELECT tenant_id, assistant_id, version, graph_id, name, description, config, context, metadata, created_at
    FROM made
)
SELECT * FROM made;

-- name: get_assistant
SELECT * FROM interlock.assistants
WHERE tenant_id = %(tenant_id)s AND assistant_id = %(assistant_id)s
  AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb);

-- name: lock_assistant
-- The same, and holds the row, so that versions are numbered one after the other.
SELECT * FROM interlock.assistants
WHERE tenant_id = %(tenant_id)s AND assistant_id = %(assistant_id)s
  AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb)
FOR UPDATE;

-- name: add_version
-- The new content becomes the assistant's and its highest version.
WITH version AS (
    INSERT INTO interlock.assistant_versions
        (tenant_id, assistant_id, version, graph_id, name, description, config, context, metadata)
    SELECT %(tenant_id)s, %(assistant_id)s, max(version) + 1, %(graph_id)s, %(name)s, %(description)s,
           %(config)s, %(context)s, %(metadata)s
    FROM interlock.assistant_versions
    WHERE tenant_id = %(tenant_id)s AND assistant_id = %(assistant_id)s
    RETURNING *
)
UPDATE interlock.assistants a
SET version = v.version, graph_id = v.graph_id, name = v.name, description = v.description,
    config = v.config, context = v.context, metadata = v.metadata, updated_at = now()
FROM version v
WHERE a.tenant_id = v.tenant_id AND a.assistant_id = v.assistant_id
RETURNING a.*;

-- name: restore_version
-- The assistant takes the content and the number of one of its versions.
UPDATE interlock.assistants a
SET version = v.version, graph_id = v.graph_id, name = v.name, description = v.description,
    config = v.config, context = v.context, metadata = v.metadata, updated_at = now()
FROM interlock.assistant_versions v
WHERE a.tenant_id = %(tenant_id)s AND a.assistant_id = %(assistant_id)s
  AND v.tenant_id = a.tenant_id AND v.assistant_id = a.assistant_id AND v.version = %(version)s
  AND (%(held)s::jsonb IS NULL OR a.metadata @> %(held)s::jsonb)
  AND (%(held)s::jsonb IS NULL OR v.metadata @> %(held)s::jsonb)
RETURNING a.*;

-- name: delete_assistant
-- The assistant with all its versions.
WITH gone AS (
    DELETE FROM interlock.assistants WHERE tenant_id = %(tenant_id)s AND assistant_id = %(assistant_id)s
      AND (%(held)s::jsonb IS NULL OR metadata @> %(held)s::jsonb)
    RETURNING tenant_id, assistant_id
), versions AS (
    DELETE FROM interlock.assistant_versions v USING gone g
    WHERE v.tenant_id = g.tenant_id AND v.assistant_id = g.assistant_id
)
SELECT assistant_id FROM gone;

-- name: list_versions
-- Newest version first.
SELECT *, created_at AS updated_at FROM interlock.assistant_versions
WHERE tenant_id = %(tenant_id)s AND assistant_id = %(assistant_id)s
  AND (%(metadata)s::jsonb IS NULL OR metadata @> %(metadata)s::jsonb)
ORDER BY version DESC LIMIT %(limit)s OFFSET %(offset)s;

-- name: search_assistants
-- A page of assistants; an order and the page follow.
SELECT * FROM interlock.assistants a
WHERE a.tenant_id = %(tenant_id)s
  AND (%(graph_id)s::text IS NULL OR a.graph_id = %(graph_id)s::text)
  AND (%(metadata)s::jsonb IS NULL OR a.metadata @> %(metadata)s::jsonb)
  AND (%(held)s::jsonb IS NULL OR a.metadata @> %(held)s::jsonb)
  AND (%(name)s::text IS NULL OR strpos(lower(a.name), lower(%(name)s::text)) > 0)

-- name: count_assistants
-- How many assistants match the same filters.
SELECT count(*) AS total FROM interlock.assistants a
WHERE a.tenant_id = %(tenant_id)s
  AND (%(graph_id)s::text IS NULL OR a.graph_id = %(graph_id)s::text)
  AND (%(metadata)s::jsonb IS NULL OR a.metadata @> %(metadata)s::jsonb)
  AND (%(held)s::jsonb IS NULL OR a.metadata @> %(held)s::jsonb)
  AND (%(name)s::text IS NULL OR strpos(lower(a.name), lower(%(name)s::text)) > 0);

-- name: order_by_assistant_id
ORDER BY a.assistant_id

-- name: order_by_created_at
ORDER BY a.created_at

-- name: order_by_updated_at
ORDER BY a.updated_at

-- name: order_by_name
ORDER BY a.name

-- name: order_by_graph_id
ORDER BY a.graph_id

-- name: ascending
ASC, a.assistant_id ASC LIMIT %(limit)s OFFSET %(offset)s

-- name: descending
DESC, a.assistant_id DESC LIMIT %(limit)s OFFSET %(offset)s
