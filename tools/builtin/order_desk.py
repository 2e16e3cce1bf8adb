"""The order desk: looks up orders and refunds them. A refund always waits for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import uuid_utils.compat as uuid
from pydantic import Field
from typing_extensions import TypedDict

from ...checkpoints.queries import load_queries
from ..context import ToolContext
from ..errors import ToolFailed
from ..tool import tool

_QUERIES = load_queries(__file__)

OrderId = Annotated[
    str, Field(description="Number of the order, such as A-1001", pattern=r"^[A-Z]-[0-9]{1,10}$")
]
Amount = Annotated[
    int, Field(description="Amount in cents: 1250 is 12.50", ge=1, le=100_000_000, strict=True)
]
Reason = Annotated[str, Field(description="Why, in one sentence", min_length=3, max_length=500)]


class Order(TypedDict):
    """One order."""

    order_id: str
    customer: str
    item: str
    status: str
    paid: str
    refunded: str
    refundable_cents: int
    placed: str


class Receipt(TypedDict):
    """A refund that was booked."""

    refund_id: str
    order_id: str
    refunded: str
    refunded_in_total: str
    left: str


class Preview(TypedDict):
    """What a refund would do."""

    order: Order
    refund: str
    left_afterwards: str


@tool(effect="read", risk="low", permissions={"orders:read"})
async def order_lookup(
    context: ToolContext,
    order_id: OrderId | None = None,
    customer: Annotated[
        str | None, Field(description="Name of the customer, or a part of it", min_length=2, max_length=100)
    ] = None,
) -> list[Order]:
    """Look up orders by their number or by the customer's name."""
    tenant = context.principal.tenant
    if order_id is not None:
        return [_order(await _order_row(context, order_id))]
    if customer is None:
        raise ToolFailed("give the number of an order or the name of a customer")
    rows = await context.database.fetch_all(
        _QUERIES.orders_of_customer, {"tenant_id": tenant, "customer": customer}
    )
    return [_order(row) for row in rows]


async def _preview(context: ToolContext, order_id: str, amount_cents: int, reason: str) -> Preview:  # noqa: ARG001 - takes what the tool takes
    row = await _order_row(context, order_id)
    left = _left(row)
    if amount_cents > left:
        raise ToolFailed(_too_much(row, amount_cents))
    return Preview(
        order=_order(row),
        refund=_money(amount_cents, row["currency"]),
        left_afterwards=_money(left - amount_cents, row["currency"]),
    )


@tool(
    effect="external",
    risk="high",
    review=True,
    permissions={"orders:refund"},
    idempotent=True,
    dry_run=_preview,
)
async def order_refund(
    context: ToolContext, order_id: OrderId, amount_cents: Amount, reason: Reason
) -> Receipt:
    """Refund an order, in full or in part. A person has to agree first."""
    parameters = {
        "tenant_id": context.principal.tenant,
        "refund_id": uuid.uuid7(),
        "order_id": order_id,
        "amount_cents": amount_cents,
        "reason": reason,
        "requested_by": context.principal.subject,
        "key": context.idempotency_key,
    }
    async with context.database.transaction() as connection:
        row = await (await connection.execute(_QUERIES.refund, parameters)).fetchone()
        if row is None:
            row = await (await connection.execute(_QUERIES.refund_by_key, parameters)).fetchone()
    if row is None:
        raise ToolFailed(_too_much(await _order_row(context, order_id), amount_cents))
    return Receipt(
        refund_id=str(row["refund_id"]),
        order_id=row["order_id"],
        refunded=_money(row["amount_cents"], row["currency"]),
        refunded_in_total=_money(row["refunded_cents"], row["currency"]),
        left=_money(_left(row), row["currency"]),
    )


async def _order_row(context: ToolContext, order_id: str) -> Mapping[str, Any]:
    row = await context.database.fetch_one(
        _QUERIES.order_by_id, {"tenant_id": context.principal.tenant, "order_id": order_id}
    )
    if row is None:
        raise ToolFailed(f"there is no order {order_id!r}")
    return row


def _order(row: Mapping[str, Any]) -> Order:
    return Order(
        order_id=row["order_id"],
        customer=row["customer"],
        item=row["item"],
        status=row["status"],
        paid=_money(row["paid_cents"], row["currency"]),
        refunded=_money(row["refunded_cents"], row["currency"]),
        refundable_cents=_left(row),
        placed=row["placed_at"].date().isoformat(),
    )


def _left(row: Mapping[str, Any]) -> int:
    return row["paid_cents"] - row["refunded_cents"]


def _money(cents: int, currency: str) -> str:
    return f"{cents // 100}.{cents % 100:02d} {currency}"


def _too_much(row: Mapping[str, Any], amount_cents: int) -> str:
    currency = row["currency"]
    return (
        f"order {row['order_id']!r} has {_money(_left(row), currency)} left to refund, "
        f"less than {_money(amount_cents, currency)}"
    )
