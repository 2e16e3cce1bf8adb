-- Assistants: a graph with saved configuration, and every version they had.

CREATE TABLE interlock.assistants (
    tenant_id text COLLATE "C" NOT NULL,
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    version int NOT NULL DEFAULT 1,
    name text NOT NULL DEFAULT 'Untitled',
    description text,
    config jsonb NOT NULL DEFAULT '{}',
    context jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, assistant_id)
);
CREATE INDEX assistants_graph_idx ON interlock.assistants (tenant_id, graph_id);

CREATE TABLE interlock.assistant_versions (
    tenant_id text COLLATE "C" NOT NULL,
    assistant_id uuid NOT NULL,
    version int NOT NULL,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb NOT NULL,
    context jsonb NOT NULL,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, assistant_id, version)
);
