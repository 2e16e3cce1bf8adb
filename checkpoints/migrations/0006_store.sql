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
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, namespace, key)
);

CREATE INDEX store_items_updated_idx ON interlock.store_items (tenant_id, updated_at DESC);
CREATE INDEX store_items_expiry_idx ON interlock.store_items (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
