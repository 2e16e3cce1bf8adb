-- name: extension
-- The version of pgvector that is installed, the one that could be, and where its types are if not seen.
SELECT installed_version AS installed, default_version AS available,
       (SELECT extnamespace::regnamespace::text FROM pg_extension
        WHERE extname = 'vector' AND to_regtype('halfvec') IS NULL) AS hidden_in
FROM pg_available_extensions WHERE name = 'vector';

-- name: create_extension
CREATE EXTENSION IF NOT EXISTS vector;

-- name: indexes
-- The indexes of the vectors; one that is not valid is what a killed build has left.
SELECT c.relname AS name, i.indisvalid AS valid
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'interlock.store_vectors'::regclass AND starts_with(c.relname, 'store_vectors_hnsw_');

-- name: create_index
-- Writers go on while it is built, so it cannot be in a transaction. Half the precision, half the size;
-- what it finds is compared again in full.
CREATE INDEX CONCURRENTLY {name} ON interlock.store_vectors
USING hnsw ((embedding::halfvec({dims})) halfvec_cosine_ops) WHERE model = {model};

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS interlock.{name};

-- name: in_force
-- Whether the index of a recipe is there. Whoever starts with another one replaces it.
SELECT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = 'interlock.store_vectors'::regclass AND c.relname = %(name)s AND i.indisvalid
) AS in_force;
