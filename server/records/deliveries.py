"""Webhooks as rows: queued with the end of their run, claimed, tried, delivered or given up.

Functions take a connection and never commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from ...checkpoints.database import Connection, jsonb
from ...checkpoints.queries import load_queries
from ...checkpoints.sealed import UNREADABLE, sealed_json, sealed_json_bytes, sealed_text, unreadable
from ...tools.policy.permissions import Principal

_QUERIES = load_queries(__file__)

DeliveryStatus = Literal["pending", "delivered", "dead"]
"""pending: waits, or is being sent. delivered: the receiver said 2xx. dead: nobody tries any more."""

ATTEMPTS_KEPT = 100
"""Attempts that are remembered of one delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The word that the end of a run is sent."""

    tenant_id: str
    thread_id: UUID
    run_id: UUID
    url: str
    local: bool
    """The URL is a path of this server's own app."""
    principal: Principal
    """In whose name the state is read."""
    body: bytes
    """JSON text of an object: all but `values` and the time of sending."""
    values: bytes | None
    """JSON text of the state; None until somebody has looked."""
    status: DeliveryStatus
    due_at: datetime
    claim: UUID | None
    failures: int
    give_up_at: datetime
    attempts: list[dict[str, Any]]
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Delivery:
        """Build from a row of `interlock.webhook_deliveries`."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        fields["principal"] = Principal.from_row(row["principal"])
        return cls(**fields)

    @property
    def unreadable(self) -> str | None:
        """Why what it is to say could not be decrypted; None when it could."""
        suspects = [text for text in (self.body, self.values) if text and UNREADABLE.encode() in text]
        return next((r for r in map(unreadable, map(orjson.loads, suspects)) if r), None)

    @property
    def key(self) -> dict[str, Any]:
        """What names its row."""
        return {"tenant_id": self.tenant_id, "thread_id": self.thread_id, "run_id": self.run_id}

    @property
    def webhook_id(self) -> str:
        """By which the receiver knows it, however often it comes."""
        return f"run_{self.run_id}"


async def add(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    run_id: UUID,
    url: str,
    principal: Principal,
    body: bytes,
    values: bytes | None,
    span_s: float,
) -> None:
    """Queue a delivery, to be tried for `span_s` seconds at most."""
    await connection.execute(
        _QUERIES.add,
        {
            "tenant_id": tenant_id,
            "thread_id": thread_id,
            "run_id": run_id,
            "url": sealed_text("run", "webhook", url),
            "local": url.startswith("/"),
            "principal": sealed_json("run", "principal", principal.to_row()),
            "body": sealed_json_bytes("run", "body", body),
            "values": None if values is None else sealed_json_bytes("run", "values", values),
            "span_s": span_s,
        },
    )


async def claim(
    connection: Connection, *, slots: int, lease_s: float, local: bool, remote: bool
) -> list[Delivery]:
    """Take up to `slots` due deliveries: those to this server's own app, those to elsewhere, or both."""
    cursor = await connection.execute(
        _QUERIES.claim, {"slots": slots, "lease_s": lease_s, "local": local, "remote": remote}
    )
    return [Delivery.from_row(row) for row in await cursor.fetchall()]


async def hold_values(connection: Connection, delivery: Delivery, values: bytes) -> None:
    """Keep the state that was looked up for a claimed delivery."""
    kept = sealed_json_bytes("run", "values", values)
    await connection.execute(_QUERIES.hold_values, {**delivery.key, "claim": delivery.claim, "values": kept})


async def record(
    connection: Connection,
    delivery: Delivery,
    *,
    status: DeliveryStatus,
    attempt: Mapping[str, Any],
    pause_s: float = 0.0,
) -> Delivery | None:
    """Note an attempt; `pending` tries again after a pause, unless its time is over.

    Returns the delivery as it is now; None when it is no longer ours.
    """
    cursor = await connection.execute(
        _QUERIES.record,
        {
            **delivery.key,
            "claim": delivery.claim,
            "status": status,
            "attempt": jsonb(dict(attempt)),
            "pause_s": pause_s,
            "kept": ATTEMPTS_KEPT,
        },
    )
    row = await cursor.fetchone()
    return Delivery.from_row(row) if row else None


async def of_run(connection: Connection, *, tenant_id: str, thread_id: UUID, run_id: UUID) -> Delivery | None:
    """The delivery of a run."""
    key = {"tenant_id": tenant_id, "thread_id": thread_id, "run_id": run_id}
    row = await (await connection.execute(_QUERIES.of_run, key)).fetchone()
    return Delivery.from_row(row) if row else None


async def send_again(
    connection: Connection, *, tenant_id: str, thread_id: UUID, run_id: UUID, span_s: float
) -> Delivery | None:
    """Make a delivery due; None when there is none, or it is being sent right now."""
    key = {"tenant_id": tenant_id, "thread_id": thread_id, "run_id": run_id}
    row = await (await connection.execute(_QUERIES.send_again, {**key, "span_s": span_s})).fetchone()
    return Delivery.from_row(row) if row else None


async def delete_of_thread(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """Forget the deliveries of a thread, sent or not."""
    await connection.execute(_QUERIES.delete_of_thread, {"tenant_id": tenant_id, "thread_id": thread_id})


async def sweep(connection: Connection, *, retention_s: float, limit: int = 1000) -> int:
    """Forget old deliveries; returns how many."""
    cursor = await connection.execute(_QUERIES.sweep, {"retention_s": retention_s, "limit": limit})
    return cursor.rowcount
