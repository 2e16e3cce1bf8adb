-- name: ask
-- Stores a question once: no row comes back when a node that runs again asks it again. A question that
-- was closed since the thread went another way is open again when the thread comes back to it, and asks
-- about the tool, the policies and the run of now.
INSERT INTO interlock.reviews AS r (
    tenant_id, thread_id, review_id, run_id, kind, tool, tool_version, definition_hash, tool_call_id,
    checkpoint_ns, arguments, arguments_hash, arguments_schema, description, allowed, dry_run, policy_version, requested_by
) VALUES (
    %(tenant_id)s, %(thread_id)s, %(review_id)s, %(run_id)s, %(kind)s, %(tool)s, %(tool_version)s,
    %(definition_hash)s, %(tool_call_id)s, %(checkpoint_ns)s, %(arguments)s, %(arguments_hash)s, %(arguments_schema)s,
    %(description)s, %(allowed)s, %(dry_run)s, %(policy_version)s, %(requested_by)s
)
ON CONFLICT (tenant_id, thread_id, review_id) DO UPDATE
SET status = 'pending', decided_at = NULL, run_id = excluded.run_id, dry_run = excluded.dry_run,
    tool_version = excluded.tool_version, definition_hash = excluded.definition_hash,
    arguments_schema = excluded.arguments_schema, description = excluded.description,
    allowed = excluded.allowed, policy_version = excluded.policy_version, requested_by = excluded.requested_by
WHERE r.status = 'superseded'
RETURNING *;

-- name: find
-- One review.
SELECT * FROM interlock.reviews
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND review_id = %(review_id)s;

-- name: lock_of_thread
-- All reviews of a thread among the given ids, locked: answers to one thread take turns.
SELECT * FROM interlock.reviews
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND review_id = ANY(%(review_ids)s)
ORDER BY created_at, review_id
FOR UPDATE;

-- name: decide
-- Answers a pending review; no row when somebody was faster.
UPDATE interlock.reviews
SET status = %(status)s, answer = %(answer)s, decided_by = %(decided_by)s, decided_at = now()
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND review_id = %(review_id)s
  AND status = 'pending'
RETURNING *;

-- name: supersede
-- Closes the pending reviews of a thread that it no longer waits for.
UPDATE interlock.reviews
SET status = 'superseded', decided_at = now()
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s AND status = 'pending'
  AND NOT review_id = ANY(%(kept)s);

-- name: newest
-- The last question that a thread asked.
SELECT * FROM interlock.reviews
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
ORDER BY created_at DESC, review_id DESC
LIMIT 1;

-- name: pending
-- Reviews that wait for a person, oldest first; of one thread or of all.
SELECT * FROM interlock.reviews
WHERE tenant_id = %(tenant_id)s AND status = 'pending'
  AND (%(thread_id)s::uuid IS NULL OR thread_id = %(thread_id)s)
  AND (%(held)s::jsonb IS NULL OR (tenant_id, thread_id) IN (
      SELECT t.tenant_id, t.thread_id FROM interlock.threads t
      WHERE t.tenant_id = %(tenant_id)s AND t.metadata @> %(held)s::jsonb
  ))
ORDER BY created_at, review_id
LIMIT %(limit)s;
