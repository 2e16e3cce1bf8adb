-- name: load_value
-- The value of a channel of the root graph at a version.
SELECT type, blob FROM checkpoint_blobs
WHERE thread_id = %(key)s AND checkpoint_ns = '' AND channel = %(channel)s AND version = %(version)s
