-- The order desk: the small back office that the built-in order tools act on.

CREATE TABLE interlock.orders (
    tenant_id text COLLATE "C" NOT NULL,
    order_id text NOT NULL,
    customer text NOT NULL,
    item text NOT NULL,
    status text NOT NULL CHECK (status IN ('placed', 'shipped', 'delivered', 'returned')),
    currency text NOT NULL,
    paid_cents bigint NOT NULL CHECK (paid_cents > 0),
    refunded_cents bigint NOT NULL DEFAULT 0,
    placed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, order_id),
    -- Whatever the code does, nobody gets back more than was paid.
    CHECK (refunded_cents BETWEEN 0 AND paid_cents)
);

CREATE TABLE interlock.order_refunds (
    tenant_id text COLLATE "C" NOT NULL,
    refund_id uuid NOT NULL,
    order_id text NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    reason text NOT NULL,
    requested_by text NOT NULL,
    -- One refund for one tool call, however often the call is made.
    idempotency_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, refund_id),
    UNIQUE (tenant_id, idempotency_key),
    FOREIGN KEY (tenant_id, order_id) REFERENCES interlock.orders
);

-- The orders of the tour in the README; tenant `default` is the one of a server without credentials.
INSERT INTO interlock.orders
    (tenant_id, order_id, customer, item, status, currency, paid_cents, placed_at)
VALUES
    ('default', 'A-1001', 'Ada Lovelace', 'Mechanical keyboard', 'delivered', 'EUR', 14900, '2026-10-02 09:12+00'),
    ('default', 'A-1002', 'Grace Hopper', 'Noise-cancelling headphones', 'delivered', 'EUR', 27900, '2026-10-11 16:40+00'),
    ('default', 'A-1003', 'Alan Turing', 'Chess computer', 'shipped', 'EUR', 8950, '2026-11-03 08:05+00'),
    ('default', 'A-1004', 'Katherine Johnson', 'Desk lamp', 'placed', 'EUR', 4200, '2026-11-20 19:33+00'),
    ('default', 'A-1005', 'Edsger Dijkstra', 'Fountain pen', 'returned', 'EUR', 6500, '2026-09-15 11:00+00');
