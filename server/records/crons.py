"""Crons as rows: made, found, changed, and the times for which they have fired. Functions never commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

from ...checkpoints.database import Connection, jsonb
from ...checkpoints.queries import load_queries
from ...checkpoints.sealed import sealed_json, sealed_json_bytes
from ...tools.policy.permissions import Principal
from ..domain import Cron, OnRunCompleted
from ..encoding import encode
from .held import Held, held_parameter
from .paging import Page, counted, fetch_one

_QUERIES = load_queries(__file__)

_OF_KEYS = frozenset({"EncryptionFailed", "SealingFailed"})

CronOrder = Literal[
    "cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_date", "end_time"
]


class CronKey(TypedDict):
    """Names one cron in arguments: `get(connection, **key)`."""

    tenant_id: str
    cron_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CronContent:
    """What a cron says, and when it is due next."""

    assistant_id: UUID
    schedule: str
    timezone: str | None
    end_time: datetime | None
    enabled: bool
    on_run_completed: OnRunCompleted | None
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any]
    principal: Principal
    next_run_at: datetime | None = None

    def columns(self) -> dict[str, Any]:
        """Parameters of the statements that store it."""
        fields = {name: getattr(self, name) for name in type(self).__dataclass_fields__}
        return fields | {
            "payload": sealed_json_bytes("cron", "payload", encode(self.payload)),
            "metadata": sealed_json("cron", "metadata", self.metadata),
            "principal": sealed_json("cron", "principal", self.principal.to_row()),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CronFilter:
    """Which crons of a tenant; a field that is None asks for nothing."""

    assistant_id: UUID | None = None
    thread_id: UUID | None = None
    enabled: bool | None = None
    metadata: Mapping[str, Any] | None = None
    """Contained in the cron's metadata."""
    held: Held = None

    def parameters(self, tenant_id: str) -> dict[str, Any]:
        """Parameters of the statements that filter."""
        return {
            "tenant_id": tenant_id,
            "assistant_id": self.assistant_id,
            "thread_id": self.thread_id,
            "enabled": self.enabled,
            "metadata": jsonb(self.metadata) if self.metadata else None,
            "held": held_parameter(self.held),
        }


class Crons(NamedTuple):
    """One page of crons, and how many match in all."""

    crons: list[Cron]
    total: int


class Due(NamedTuple):
    """A cron whose time has come, not locked."""

    tenant_id: str
    cron_id: UUID
    thread_id: UUID | None

    @property
    def key(self) -> CronKey:
        """Its name in arguments."""
        return CronKey(tenant_id=self.tenant_id, cron_id=self.cron_id)


class LockedDue(NamedTuple):
    """A cron whose time has come, locked, and the time by the database."""

    cron: Cron
    now: datetime


async def insert(
    connection: Connection, *, tenant_id: str, cron_id: UUID, thread_id: UUID | None, content: CronContent
) -> Cron | None:
    """Make a cron, on a thread that is locked if it has one; None when its assistant is gone."""
    parameters = {"tenant_id": tenant_id, "cron_id": cron_id, "thread_id": thread_id, **content.columns()}
    row = await fetch_one(connection, _QUERIES.insert_cron, parameters)
    return Cron.from_row(row) if row else None


async def get(
    connection: Connection, *, tenant_id: str, cron_id: UUID, held: Held = None, lock: bool = False
) -> Cron | None:
    """Read a cron; with `lock` it does not fire until the transaction ends."""
    statement = _QUERIES.lock_cron if lock else _QUERIES.get_cron
    parameters = {"tenant_id": tenant_id, "cron_id": cron_id, "held": held_parameter(held)}
    row = await fetch_one(connection, statement, parameters)
    return Cron.from_row(row) if row else None


async def change(
    connection: Connection, *, tenant_id: str, cron_id: UUID, content: CronContent
) -> Cron | None:
    """Give a locked cron new content; None when its new assistant is gone."""
    parameters = {"tenant_id": tenant_id, "cron_id": cron_id, **content.columns()}
    row = await fetch_one(connection, _QUERIES.change_cron, parameters)
    return Cron.from_row(row) if row else None


async def delete(connection: Connection, *, tenant_id: str, cron_id: UUID, held: Held = None) -> bool:
    """Delete a cron; what it has started stays. False when there was none."""
    parameters = {"tenant_id": tenant_id, "cron_id": cron_id, "held": held_parameter(held)}
    return await fetch_one(connection, _QUERIES.delete_cron, parameters) is not None


async def search(connection: Connection, *, tenant_id: str, where: CronFilter, page: Page) -> Crons:
    """One page of the crons that match."""
    rows, total = await page.read(
        connection,
        _QUERIES,
        search=_QUERIES.search_crons,
        count=_QUERIES.count_crons,
        where=where.parameters(tenant_id),
    )
    return Crons([Cron.from_row(row) for row in rows], total)


async def count(connection: Connection, *, tenant_id: str, where: CronFilter) -> int:
    """How many crons match."""
    return await counted(connection, _QUERIES.count_crons, where.parameters(tenant_id))


# --- firing ------------------------------------------------------------------------------------


async def clock(connection: Connection) -> datetime:
    """The time by the database, which is that of all processes."""
    row = await fetch_one(connection, _QUERIES.clock, {})
    assert row is not None
    return row["now"]


async def due(connection: Connection, *, limit: int) -> list[Due]:
    """Crons of all tenants whose time has come, the longest overdue first."""
    rows = await (await connection.execute(_QUERIES.due_crons, {"limit": limit})).fetchall()
    return [Due(**row) for row in rows]


async def lock_due(connection: Connection, *, tenant_id: str, cron_id: UUID) -> LockedDue | None:
    """Lock a cron whose time has come; None when another process is firing it, or has."""
    row = await fetch_one(connection, _QUERIES.lock_due, {"tenant_id": tenant_id, "cron_id": cron_id})
    return LockedDue(Cron.from_row(row), row["now"]) if row else None


async def next_due(connection: Connection) -> float | None:
    """Seconds until the next cron is due; None when none will be."""
    row = await fetch_one(connection, _QUERIES.next_due, {})
    return row["seconds"] if row else None


async def claim_slot(connection: Connection, *, tenant_id: str, cron_id: UUID, slot: datetime) -> bool:
    """Take a time of a cron, once for all; False when it was taken before."""
    parameters = {"tenant_id": tenant_id, "cron_id": cron_id, "slot": slot}
    return await fetch_one(connection, _QUERIES.claim_slot, parameters) is not None


async def note_run(
    connection: Connection, *, tenant_id: str, cron_id: UUID, slot: datetime, run_id: UUID
) -> None:
    """Note which run a firing has started."""
    await connection.execute(
        _QUERIES.note_run, {"tenant_id": tenant_id, "cron_id": cron_id, "slot": slot, "run_id": run_id}
    )


async def advance(connection: Connection, cron: Cron) -> None:
    """Store where a locked cron stands after its time has come."""
    await connection.execute(
        _QUERIES.advance,
        {
            "tenant_id": cron.tenant_id,
            "cron_id": cron.cron_id,
            "enabled": cron.enabled,
            "next_run_at": cron.next_run_at,
            "failure_count": cron.failure_count,
            "last_failure": _failure(cron.last_failure),
        },
    )


def _failure(failure: Mapping[str, Any] | None) -> bytes | None:
    if failure is None:
        return None
    text = encode(failure)
    # That the keys of a cron are gone holds nothing of it, and has to be told without them.
    return text if failure["error"] in _OF_KEYS else sealed_json_bytes("cron", "error", text)
