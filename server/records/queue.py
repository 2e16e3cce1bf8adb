"""Runs as rows: queued, claimed, leased, ended. The run row is the queue entry.

Functions take a connection and never commit. Whoever moves a run locks the row of its thread first;
only a claim and a renewal do not wait for that lock, and step over rows that are held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from ...checkpoints.database import Connection, jsonb
from ...checkpoints.notify import PRESENCE
from ...checkpoints.queries import load_queries
from ...checkpoints.sealed import sealed_json, sealed_json_bytes
from ..domain import Run, RunStatus, Thread, Ttl
from .held import Held, held_parameter
from .segments import Last, NewEvent, pack, sealed_body, shown
from .settlement import Settlement
from .threads import ttl_columns

_QUERIES = load_queries(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What admission decides about a run; the rest of its row has a fixed beginning."""

    tenant_id: str
    thread_id: UUID
    run_id: UUID
    assistant_id: UUID
    graph_id: str
    multitask_strategy: str
    metadata: dict[str, Any]
    kwargs: bytes
    principal: dict[str, Any]
    priority: int | None
    """Lower is served first; None: as the thread says."""
    thread_priority: int | None
    """What the thread keeps if nothing was decided for it yet."""
    thread_group: str | None
    temporary: bool
    idempotency_key: str | None
    request_hash: bytes | None
    budget: dict[str, Any]
    after_seconds: float
    created: NewEvent
    """The first event of the run."""


class Ended(NamedTuple):
    """What the end of a run has left."""

    last: Last
    """Number of its last event."""
    asks: bool
    """Reviews of its thread wait."""


class Lease(NamedTuple):
    """A run that a worker believes to hold, and what it has spent if that is known."""

    run: Run
    usage: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LeaseState:
    """How a run stands that a worker believes to hold."""

    run_id: UUID
    fence: int
    renewed: bool
    held: bool
    """False: it was taken away, ended by somebody else, or deleted."""
    status: RunStatus | None
    """None: the row is gone."""


# --- admission ---------------------------------------------------------------------------------


async def create_thread(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    metadata: Mapping[str, Any],
    ttl: Ttl | None = None,
) -> Thread | None:
    """Create and lock a thread; None when it exists."""
    columns = {"metadata": sealed_json("thread", "metadata", dict(metadata)), **ttl_columns(ttl)}
    row = await _one(connection, _QUERIES.create_thread, tenant_id=tenant_id, thread_id=thread_id, **columns)
    return Thread.from_row(row | {"status": row["settled_status"]}) if row else None


async def insert_run(connection: Connection, run: NewRun) -> Run:
    """Queue a run with its first event, on a thread that is locked.

    Raises:
        Conflict: the idempotency key is taken (`runs_idempotency_idx`).
    """
    parameters = {name: getattr(run, name) for name in NewRun.__dataclass_fields__}
    parameters["budget"] = jsonb(run.budget)
    for name in ("metadata", "principal"):
        parameters[name] = sealed_json("run", name, parameters[name])
    parameters["kwargs"] = sealed_json_bytes("run", "kwargs", run.kwargs)
    codec, packed = pack([parameters.pop("created")])
    body = sealed_body(packed)
    stamp = jsonb({"graph_id": run.graph_id, "assistant_id": str(run.assistant_id)})
    row = await _one(connection, _QUERIES.insert_run, **parameters, codec=codec, body=body, stamp=stamp)
    assert row is not None
    return Run.from_row(row)


async def run_by_key(
    connection: Connection, *, tenant_id: str, idempotency_key: str
) -> tuple[Run, bytes] | None:
    """The run that an idempotency key stands for, and the hash of the request that made it."""
    row = await _one(connection, _QUERIES.run_by_key, tenant_id=tenant_id, idempotency_key=idempotency_key)
    return (Run.from_row(row), bytes(row["request_hash"])) if row else None


# --- reading -----------------------------------------------------------------------------------


async def get_run(
    connection: Connection, *, tenant_id: str, run_id: UUID, thread_id: UUID | None = None, held: Held = None
) -> Run | None:
    """One run, on the given thread if there is one."""
    row = await _one(
        connection, _QUERIES.get_run, tenant_id=tenant_id, thread_id=thread_id, run_id=run_id, held=held
    )
    return Run.from_row(row) if row else None


async def list_runs(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    status: RunStatus | None = None,
    limit: int = 10,
    offset: int = 0,
) -> list[Run]:
    """Runs of a thread, newest first."""
    return await _runs(
        connection,
        _QUERIES.list_runs,
        tenant_id=tenant_id,
        thread_id=thread_id,
        status=status,
        limit=limit,
        offset=offset,
    )


async def inflight_runs(connection: Connection, *, tenant_id: str, thread_id: UUID) -> list[Run]:
    """Runs that wait or run on a thread, in the order they are served."""
    return await _runs(connection, _QUERIES.inflight_runs, tenant_id=tenant_id, thread_id=thread_id)


async def inflight_threads(
    connection: Connection,
    *,
    tenant_id: str,
    statuses: Sequence[RunStatus],
    assistant_id: UUID | None = None,
) -> list[UUID]:
    """Threads of a tenant that have a run in one of `statuses`, of one assistant or of any."""
    parameters = {"tenant_id": tenant_id, "statuses": [*statuses], "assistant_id": assistant_id}
    cursor = await connection.execute(_QUERIES.inflight_threads, parameters)
    return [row["thread_id"] for row in await cursor.fetchall()]


async def lock_thread(
    connection: Connection, *, tenant_id: str, thread_id: UUID, held: Held = None, wait: bool = True
) -> Thread | None:
    """Lock a thread; None when it does not exist or, without `wait`, when it is locked."""
    statement = _QUERIES.lock_thread if wait else _QUERIES.try_lock_thread
    row = await _one(connection, statement, tenant_id=tenant_id, thread_id=thread_id, held=held)
    return Thread.from_row(row | {"status": row["settled_status"]}) if row else None


# --- working -----------------------------------------------------------------------------------


async def claim(connection: Connection, *, worker_id: str, slots: int, lease_s: float) -> list[Run]:
    """Take up to `slots` runs, each with a fresh fence.

    Raises:
        Conflict: another worker was quicker on one of the threads; try again.
    """
    runs = await _runs(connection, _QUERIES.claim_runs, worker_id=worker_id, slots=slots, lease_s=lease_s)
    return sorted(runs, key=lambda run: (run.priority, run.run_at, run.first_seq))


async def next_due(connection: Connection) -> float | None:
    """Seconds until the next delayed run is due."""
    row = await _one(connection, _QUERIES.next_due)
    return row["seconds"] if row else None


async def renew(connection: Connection, leases: Sequence[Lease], *, lease_s: float) -> list[LeaseState]:
    """Renew leases, note what the runs have spent, and tell how each one stands."""
    runs = [lease.run for lease in leases]
    cursor = await connection.execute(
        _QUERIES.renew_leases,
        {
            "tenant_ids": [run.tenant_id for run in runs],
            "thread_ids": [run.thread_id for run in runs],
            "run_ids": [run.run_id for run in runs],
            "fences": [run.fence for run in runs],
            "usages": [None if lease.usage is None else jsonb(lease.usage) for lease in leases],
            "lease_s": lease_s,
        },
    )
    return [LeaseState(**row) for row in await cursor.fetchall()]


async def finish(
    connection: Connection,
    run: Run,
    *,
    status: RunStatus,
    error: bytes | None,
    usage: dict[str, Any],
    settlement: Settlement,
    events: Sequence[NewEvent],
    origin: str = "",
) -> Ended | None:
    """End a run with its last events and settle its thread; None when the fence is lost.

    `origin` is that of an event log which publishes the events after the commit.
    """
    codec, packed = pack(events)
    row = await _one(
        connection,
        _QUERIES.finish_run,
        **_identity(run),
        status=status,
        error=None if error is None else sealed_json_bytes("run", "error", error),
        usage=jsonb(usage),
        **settlement.parameters(),
        count=len(events),
        shown=shown(events),
        codec=codec,
        body=sealed_body(packed),
        origin=origin,
    )
    return Ended(Last.of(row), row["asks"]) if row else None


async def hand_back(connection: Connection, run: Run, *, usage: dict[str, Any] | None) -> Run | None:
    """Put a run of this worker back into the queue; None when the fence is lost."""
    row = await _one(
        connection,
        _QUERIES.hand_back_run,
        **_identity(run),
        usage=None if usage is None else jsonb(usage),
    )
    return Run.from_row(row) if row else None


async def expired(connection: Connection) -> list[Run]:
    """Running runs whose lease ran out."""
    return await _runs(connection, _QUERIES.expired_runs)


async def orphaned(connection: Connection) -> list[tuple[Run, float]]:
    """Running runs whose worker is gone, or cannot listen just now; and the seconds left of their leases."""
    cursor = await connection.execute(_QUERIES.orphaned_runs, {"presence": PRESENCE})
    return [(Run.from_row(row), row["lease_left_s"]) for row in await cursor.fetchall()]


async def take_back(
    connection: Connection,
    run: Run,
    *,
    max_attempts: int,
    error: bytes,
    usage: dict[str, Any] | None = None,
    saved: int = 0,
    if_expired: bool = True,
    orphaned: bool = False,
) -> Run | None:
    """Take a run from its dead worker, its thread being locked; None when the worker came back.

    The run returned is pending again or, after `max_attempts` deaths, ended with `error`. Deaths count
    anew when the run has `saved` more checkpoints than at the one before. With `if_expired` its lease must
    have run out or, if it is `orphaned`, not have been renewed since it was read.
    """
    row = await _one(
        connection,
        _QUERIES.take_back_run,
        **_identity(run),
        max_attempts=max_attempts,
        error=sealed_json_bytes("run", "error", error),
        usage=None if usage is None else jsonb(usage),
        saved=saved,
        if_expired=if_expired,
        orphaned=orphaned,
        lease_until=run.lease_until,
    )
    return Run.from_row(row) if row else None


# --- ending from outside -----------------------------------------------------------------------


async def interrupt_runs(
    connection: Connection, *, tenant_id: str, thread_id: UUID, run_ids: Sequence[UUID], reason: str | None
) -> list[Run]:
    """End runs of a locked thread as interrupted; returns those that were in flight."""
    return await _runs(
        connection,
        _QUERIES.interrupt_runs,
        tenant_id=tenant_id,
        thread_id=thread_id,
        run_ids=list(run_ids),
        reason=reason,
    )


async def delete_runs(
    connection: Connection, *, tenant_id: str, thread_id: UUID, run_ids: Sequence[UUID] | None
) -> list[Run]:
    """Remove runs of a locked thread, all when `run_ids` is None, and return them as they were."""
    return await _runs(
        connection,
        _QUERIES.delete_runs,
        tenant_id=tenant_id,
        thread_id=thread_id,
        run_ids=None if run_ids is None else list(run_ids),
    )


async def settle_thread(
    connection: Connection, *, tenant_id: str, thread_id: UUID, settlement: Settlement, new_writer: bool
) -> None:
    """Write where a locked thread rests; `new_writer` shuts out whoever writes to it now."""
    await connection.execute(
        _QUERIES.settle_thread,
        {
            "tenant_id": tenant_id,
            "thread_id": thread_id,
            "fences": int(new_writer),
            **settlement.parameters(),
        },
    )


async def serve_next(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """After a run left the line of a locked thread: let the next one forward and wake the workers."""
    await connection.execute(_QUERIES.serve_next, {"tenant_id": tenant_id, "thread_id": thread_id})


async def announce_cancel(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Wake, on commit, the workers that hold these runs."""
    await connection.execute(_QUERIES.announce_cancel, {"run_ids": list(run_ids)})


# --- sweeping ----------------------------------------------------------------------------------


async def delete_temporary_thread(connection: Connection, *, tenant_id: str, thread_id: UUID) -> bool:
    """Remove the locked thread of a stateless run; its run and events stay until the sweep.

    False when another run waits there: the thread stays.
    """
    cursor = await connection.execute(
        _QUERIES.delete_temporary_thread, {"tenant_id": tenant_id, "thread_id": thread_id}
    )
    return cursor.rowcount > 0


def _identity(run: Run) -> dict[str, Any]:
    return {
        "tenant_id": run.tenant_id,
        "thread_id": run.thread_id,
        "run_id": run.run_id,
        "fence": run.fence,
    }


async def _one(connection: Connection, statement: bytes, **parameters: Any) -> dict[str, Any] | None:
    parameters["held"] = held_parameter(parameters.get("held"))
    return await (await connection.execute(statement, parameters)).fetchone()


async def _runs(connection: Connection, statement: bytes, **parameters: Any) -> list[Run]:
    return [Run.from_row(row) for row in await (await connection.execute(statement, parameters)).fetchall()]
