-- name: order_by_id
-- One order of the tenant.
SELECT order_id, customer, item, status, currency, paid_cents, refunded_cents, placed_at
FROM interlock.orders
WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s;

-- name: orders_of_customer
-- Orders of everybody whose name holds the words, newest first.
SELECT order_id, customer, item, status, currency, paid_cents, refunded_cents, placed_at
FROM interlock.orders
WHERE tenant_id = %(tenant_id)s AND strpos(lower(customer), lower(%(customer)s)) > 0
ORDER BY placed_at DESC, order_id
LIMIT 20;

-- name: refund
-- Books a refund once for an idempotency key. No row: this key was booked before, or the order has
-- not that much left; `refund_by_key` tells which.
WITH booked AS (
    INSERT INTO interlock.order_refunds
        (tenant_id, refund_id, order_id, amount_cents, reason, requested_by, idempotency_key)
    SELECT %(tenant_id)s, %(refund_id)s, order_id, %(amount_cents)s, %(reason)s, %(requested_by)s, %(key)s
    FROM interlock.orders
    WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s
      AND paid_cents - refunded_cents >= %(amount_cents)s
    FOR UPDATE
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
    RETURNING refund_id, order_id, amount_cents
)
UPDATE interlock.orders AS o
SET refunded_cents = o.refunded_cents + booked.amount_cents
FROM booked
WHERE o.tenant_id = %(tenant_id)s AND o.order_id = booked.order_id
RETURNING booked.refund_id, o.order_id, booked.amount_cents, o.currency, o.paid_cents, o.refunded_cents;

-- name: refund_by_key
-- The refund that was booked under an idempotency key.
SELECT r.refund_id, r.order_id, r.amount_cents, o.currency, o.paid_cents, o.refunded_cents
FROM interlock.order_refunds AS r JOIN interlock.orders AS o USING (tenant_id, order_id)
WHERE r.tenant_id = %(tenant_id)s AND r.idempotency_key = %(key)s;
