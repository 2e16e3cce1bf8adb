"""Rows of `interlock.reviews`. Functions take a connection and never commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import orjson

from ...checkpoints.database import Connection, jsonb
from ...checkpoints.queries import load_queries
from ...checkpoints.sealed import sealed_json_bytes, sealed_text
from ...tools.policy.review import STATUS_AFTER, DecisionType, Review, ReviewRequest
from .held import Held, held_parameter

_QUERIES = load_queries(__file__)


async def ask(connection: Connection, request: ReviewRequest) -> tuple[Review, bool]:
    """Store the question unless it is already there; returns it and whether it is new."""
    schema, dry_run = request.arguments_schema, request.dry_run
    parameters = {
        "tenant_id": request.tenant_id,
        "thread_id": request.thread_id,
        "review_id": request.review_id,
        "run_id": request.run_id,
        "kind": request.kind,
        "tool": request.tool,
        "tool_version": request.tool_version,
        "definition_hash": request.definition_hash,
        "tool_call_id": request.tool_call_id,
        "checkpoint_ns": request.checkpoint_ns,
        "arguments": sealed_json_bytes("review", "arguments", request.arguments),
        "arguments_hash": request.arguments_hash,
        "arguments_schema": None if schema is None else jsonb(dict(schema)),
        "description": sealed_text("review", "description", request.description),
        "allowed": list(request.allowed),
        "dry_run": None if dry_run is None else sealed_json_bytes("review", "dry_run", dry_run),
        "policy_version": request.policy_version,
        "requested_by": request.requested_by,
    }
    row = await (await connection.execute(_QUERIES.ask, parameters)).fetchone()
    if row is not None:
        return Review.from_row(row), True
    existing = await find(connection, request)
    if existing is None:
        raise LookupError(f"review {request.review_id} was refused as known and is not there")
    return existing, False


async def find(connection: Connection, request: ReviewRequest) -> Review | None:
    """The stored question that equals this one, with its answer."""
    key = {
        "tenant_id": request.tenant_id,
        "thread_id": request.thread_id,
        "review_id": request.review_id,
    }
    row = await (await connection.execute(_QUERIES.find, key)).fetchone()
    return None if row is None else Review.from_row(row)


async def lock_of_thread(
    connection: Connection, *, tenant_id: str, thread_id: UUID, review_ids: Iterable[UUID]
) -> list[Review]:
    """The reviews of a thread among these ids, locked until the transaction ends."""
    cursor = await connection.execute(
        _QUERIES.lock_of_thread,
        {"tenant_id": tenant_id, "thread_id": thread_id, "review_ids": list(review_ids)},
    )
    return [Review.from_row(row) for row in await cursor.fetchall()]


async def decide(
    connection: Connection,
    review: Review,
    *,
    decision: DecisionType,
    answer: dict[str, Any] | None,
    decided_by: str,
) -> Review | None:
    """Answer a pending review; None when it is already answered."""
    cursor = await connection.execute(
        _QUERIES.decide,
        {
            "tenant_id": review.tenant_id,
            "thread_id": review.thread_id,
            "review_id": review.review_id,
            "status": STATUS_AFTER[decision],
            "answer": None if answer is None else sealed_json_bytes("review", "answer", orjson.dumps(answer)),
            "decided_by": decided_by,
        },
    )
    row = await cursor.fetchone()
    return None if row is None else Review.from_row(row)


async def supersede(
    connection: Connection, *, tenant_id: str, thread_id: UUID, kept: Iterable[UUID] = ()
) -> int:
    """Close the pending reviews of a thread that it no longer waits for."""
    cursor = await connection.execute(
        _QUERIES.supersede, {"tenant_id": tenant_id, "thread_id": thread_id, "kept": list(kept)}
    )
    return cursor.rowcount


async def newest(connection: Connection, *, tenant_id: str, thread_id: UUID) -> Review | None:
    """The last question that a thread asked."""
    cursor = await connection.execute(_QUERIES.newest, {"tenant_id": tenant_id, "thread_id": thread_id})
    row = await cursor.fetchone()
    return None if row is None else Review.from_row(row)


async def pending(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID | None = None,
    limit: int = 100,
    held: Held = None,
) -> list[Review]:
    """Reviews that wait for a person, oldest first; of one thread, or of all whose metadata hold this."""
    cursor = await connection.execute(
        _QUERIES.pending,
        {"tenant_id": tenant_id, "thread_id": thread_id, "limit": limit, "held": held_parameter(held)},
    )
    return [Review.from_row(row) for row in await cursor.fetchall()]
