-- name: record
-- Appends one attempt.
INSERT INTO interlock.tool_calls (
    tenant_id, thread_id, call_id, run_id, graph_id, assistant_id, subject, tool, tool_version, definition_hash,
    effect, risk, tool_call_id, checkpoint_ns, arguments, arguments_hash, stage, outcome, reason, policy_ids,
    policy_version, review_id, duration_ms
) VALUES (
    %(tenant_id)s, %(thread_id)s, %(call_id)s, %(run_id)s, %(graph_id)s, %(assistant_id)s, %(subject)s, %(tool)s,
    %(tool_version)s, %(definition_hash)s, %(effect)s, %(risk)s, %(tool_call_id)s, %(checkpoint_ns)s,
    %(arguments)s, %(arguments_hash)s, %(stage)s, %(outcome)s, %(reason)s, %(policy_ids)s, %(policy_version)s,
    %(review_id)s, %(duration_ms)s
);

-- name: of_thread
-- Every attempt on a thread, in order.
SELECT * FROM interlock.tool_calls
WHERE tenant_id = %(tenant_id)s AND thread_id = %(thread_id)s
ORDER BY at, call_id;
