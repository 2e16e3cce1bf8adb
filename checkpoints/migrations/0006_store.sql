-- Long-term memory: JSON items by namespace and key, shared by graphs and the store API.

CREATE TABLE interlock.store_items (
    tenant_id text COLLATE "C" NOT NULL,
    -- In byte order, so that everything below a prefix is one range of the primary key.
    namespace text[] COLLATE "C" NOT NULL CHECK (cardinality(namespace) > 0),
    key text COLLATE "C" NOT NULL,
    value jsonb NOT NULL,
    -- JSON text of the value when it holds what jsonb cannot (NUL), else NULL.
    exact bytea,
    ttl_minutes double precision CHECK (ttl_minutes > 0),
    expires_at timestamptz,
    -- Which texts of the value are embedded; NULL: the configured fields, empty: none.
    paths text[],
    -- What made its vectors, as `IndexSpec.recipe` names it; empty: nothing has yet.
    embedded_by text COLLATE "C" NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, namespace, key)
);

CREATE INDEX store_items_updated_idx ON interlock.store_items (tenant_id, updated_at DESC);
CREATE INDEX store_items_expiry_idx ON interlock.store_items (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX store_items_embedded_idx ON interlock.store_items (embedded_by) WHERE paths IS DISTINCT FROM '{}';

-- What texts of items mean: one vector of length 1 for each text, all of an item by one model. An array, so that the table can be there
-- without pgvector. The index for the configured number of dimensions is made by `vector_index`.
CREATE TABLE interlock.store_vectors (
    tenant_id text COLLATE "C" NOT NULL,
    namespace text[] COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    place smallint NOT NULL,
    model text COLLATE "C" NOT NULL,
    embedding real[] NOT NULL,
    PRIMARY KEY (tenant_id, namespace, key, place),
    FOREIGN KEY (tenant_id, namespace, key) REFERENCES interlock.store_items ON DELETE CASCADE
);
-- Such numbers do not compress.
ALTER TABLE interlock.store_vectors ALTER COLUMN embedding SET STORAGE EXTERNAL;
